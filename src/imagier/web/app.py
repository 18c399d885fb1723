"""The app: the API behind its guard, and every error one sentence."""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import AsyncIterator, Sequence
from collections.abc import Collection as Names
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse

import imagier
from imagier import presets
from imagier.types import CollectionError, ImagierError, ModelError, SettingError, nearest
from imagier.web import (
    api,
    api_exports,
    api_jobs,
    api_labels,
    api_learning,
    api_overview,
    api_pictures,
    api_trials,
    pages,
)
from imagier.web.guard import LOOPBACK, MOST_BYTES, Guard
from imagier.web.served import Served
from imagier.workflows.browse import Browser, NoSuchItem
from imagier.workflows.jobs import Jobs
from imagier.workflows.trial import Trials

if TYPE_CHECKING:
    from starlette.requests import Request

    from imagier.collection import Collection
    from imagier.models.model import Model

_say = logging.getLogger("imagier.web")


def make_app(
    collection: Collection,
    *,
    models: Sequence[Model] = (),
    preset: str | None = None,
    token: str | None = None,
    hosts: Names[str] = LOOPBACK,
    most_bytes: int = MOST_BYTES,
) -> FastAPI:
    """An ASGI app that serves a collection: pages to look at, and /api/v1 for them and for other programs.

    models: that one's own images can be put through, beside those of the collection and those that ship.
    preset: which ready pipeline the page for that begins with.
    token: what every request must show, as `Authorization: Bearer TOKEN`; None: nobody is asked.
    hosts: the names that it may be called by (the Host header, without a port); others are refused, so that no page of
        another site can reach it by a name of its own.
    most_bytes: of a request.

    Raises SettingError for a preset that there is none of.
    """
    if preset is not None and preset not in presets.names():
        raise SettingError(nearest("preset", preset, presets.names()))
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
    jobs = Jobs(collection.folder / "jobs")
    trials = Trials(Path(tempfile.mkdtemp(prefix="imagier-")), collection=collection, models=models)
    named = tuple(name for name, each in trials.models().items() if any(each is model for model in models))
    app.state.served = Served(browser, jobs, token, preset, named)
    app.state.close = weakref.finalize(app, trials.close)  # also where nobody ran its lifespan

    def take_in(words: Sequence[str]) -> str:
        return jobs.start(words, title="Take in images that were tried", kind="run", author="").id

    for part in (api, api_overview, api_labels, api_pictures, api_exports):
        app.include_router(part.router(browser))
    app.include_router(api_jobs.router(browser, jobs))
    app.include_router(api_learning.router(browser, trials))
    app.include_router(api_trials.router(browser, trials, start=take_in))
    pages.mount(app, app.state.served)
    app.add_exception_handler(ImagierError, _told)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(Guard, hosts=hosts, token=token, most=most_bytes)
    return app


@asynccontextmanager
async def _alive(app: FastAPI) -> AsyncIterator[None]:
    """Threads enough that those which wait in turn leave some; jobs looked after; trials gone in the end."""
    if not app.state.close.alive:
        raise RuntimeError("this app has been started and has ended: make another by make_app")
    to_thread.current_default_thread_limiter().total_tokens = api.THREADS
    jobs: Jobs = app.state.served.jobs
    jobs.begin()
    try:
        async with pages.alive():
            yield
    finally:
        await to_thread.run_sync(jobs.end)
        await to_thread.run_sync(app.state.close)


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
    folder = request.app.state.served.browser.collection.folder
    return JSONResponse({"detail": str(error).replace(str(folder), folder.name)}, status)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw: the log says it, and the answer no more than that."""
    _say.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": "the server failed at this; its log says how"}, 500)
