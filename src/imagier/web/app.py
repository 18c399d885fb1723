"""The app: the API behind its guard, and every error one sentence."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from collections.abc import Collection as Names
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

import imagier
from imagier.types import CollectionError, ImagierError, ModelError
from imagier.web import api, api_overview, pages
from imagier.web.guard import LOOPBACK, MOST_BYTES, Guard
from imagier.web.served import Served
from imagier.workflows.browse import Browser, NoSuchItem

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from imagier.collection import Collection

_say = logging.getLogger("imagier.web")


def make_app(
    collection: Collection, *, token: str | None = None, hosts: Names[str] = LOOPBACK, most_bytes: int = MOST_BYTES
) -> FastAPI:
    """An ASGI app that serves a collection: pages to look at, and /api/v1 for them and for other programs.

    token: what every request must show, as `Authorization: Bearer TOKEN`; None: nobody is asked.
    hosts: the names that it may be called by (the Host header, without a port); others are refused, so that no page of
        another site can reach it by a name of its own.
    most_bytes: of a request.
    """
    app = FastAPI(
        lifespan=_alive,
        title="imagier",
        version=imagier.__version__,
        summary="The items of a collection, their pictures, and what is like what.",
        openapi_url=f"{api.ROOT}/openapi.json",
        docs_url=None,  # FastAPI's pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    browser = Browser(collection)
    browser.warm()
    app.state.folder = collection.folder
    for part in (api, api_overview):
        app.include_router(part.router(browser))
    pages.mount(app, Served(browser=browser, token=token))
    app.add_exception_handler(ImagierError, _told)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Guard, hosts=hosts, token=token, most=most_bytes)
    return app


@asynccontextmanager
async def _alive(_: FastAPI) -> AsyncIterator[None]:
    """Threads enough that those which wait in turn leave some."""
    to_thread.current_default_thread_limiter().total_tokens = api.THREADS
    async with pages.alive():
        yield


async def _misfit(_: Request, error: Exception) -> JSONResponse:
    """Values that are none, in a sentence."""
    assert isinstance(error, RequestValidationError)
    whys = [f"{each['loc'][-1]}: {each['msg'][:1].lower()}{each['msg'][1:]}" for each in error.errors()]
    return JSONResponse({"detail": "; ".join(whys[:5])}, 422)


async def _told(request: Request, error: Exception) -> JSONResponse:
    """What a person can put right, without where on this machine the collection lies."""
    status = 400
    if isinstance(error, NoSuchItem):
        status = 404
    elif isinstance(error, CollectionError | ModelError):
        status = 409
    folder: Path = request.app.state.folder
    return JSONResponse({"detail": str(error).replace(str(folder), folder.name)}, status)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw: the log says it, and the answer no more than that."""
    _say.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": "the server failed at this; its log says how"}, 500)
