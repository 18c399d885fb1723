"""The pages: NiceGUI frames around views (static/*.js) that speak to the API, and to nothing else.

NiceGUI has one app a process. Each served collection mounts that app under its own guard, and a page finds out by its
request whose it is.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from nicegui import core, ui
from nicegui.nicegui import _shutdown, _startup
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles

from imagier.web.pages import views
from imagier.web.pages.sign_in import routes as sign_in

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from imagier.web.served import Served

__all__ = ["alive", "mount", "views"]

_say = logging.getLogger("imagier.web")
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Beyond self and nonces NiceGUI needs 'unsafe-eval' (Vue compiles templates, and handlers come as text from this
server), and 'unsafe-inline' for styles (Quasar places menus and dialogs by them)."""
LOST = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not here \xc2\xb7 imagier</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/sign-in.css"></head>
<body><main><h1>There is no such page</h1><p><a href="/">To the gallery</a></p></main></body></html>
"""
PERMISSIONS = "camera=(self), microphone=(), geolocation=(), usb=(), payment=()"

ui.run_with(FastAPI(), title="imagier", dark=None, tailwind=False, gzip_middleware_factory=None, language="en-US")


async def _failed(request: Request, error: Exception) -> Response:
    """In place of NiceGUI's own page, which tells what the error says."""
    _say.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return PlainTextResponse("The server failed at this page; its log says how.", 500)


core.app.add_exception_handler(Exception, _failed)


class _Living:
    """How many served apps are alive: NiceGUI's own starts with the first and stops with the last, all in one loop."""

    count = 0


@asynccontextmanager
async def alive() -> AsyncIterator[None]:
    """While this lasts, pages work."""
    if _Living.count == 0:
        await _startup()
    elif core.loop is not asyncio.get_running_loop():
        raise RuntimeError("another app of this process serves pages in another event loop: serve both in one")
    _Living.count += 1
    try:
        yield
    finally:
        _Living.count -= 1
        if _Living.count == 0:
            await _shutdown()


def mount(app: FastAPI, served: Served) -> None:
    """Put the pages under `app`, those of this collection."""
    app.mount("/static", _Static(directory=views.STATIC))
    app.include_router(sign_in(served))
    app.router.routes.append(_Pages("/", app=_Own(core.app, served)))


class _Static(StaticFiles):
    """Files that a browser asks for again each time, and gets again where they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().file_response(*args, **kwargs)
        answer.headers["cache-control"] = "no-cache"
        return answer


class _Pages(Mount):
    """All that is not the API's, which says itself what it does not have."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope.get("path", "").startswith("/api/"):
            return Match.NONE, {}
        return super().matches(scope)


class _Own:
    """NiceGUI's app for one served collection: pages know whose they are, and their scripts bear a nonce."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self.app, self.served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["imagier"] = self.served
        accepted = b"".join(value for name, value in scope["headers"] if name == b"accept")
        wants_page, lost = b"text/html" in accepted, False
        head: MutableMapping[str, Any] | None = None
        body = b""

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal head, body, lost
            if message["type"] == "http.response.start":
                lost = message["status"] == 404 and wants_page
                if lost or _is_page(message):
                    head = message
                    return
            if head is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                if lost:
                    body, head = LOST, {**head, "headers": [(b"content-type", b"text/html; charset=utf-8")]}
                nonce = secrets.token_urlsafe(18)
                body = re.sub(rb"<script(?=[\s>])", b'<script nonce="' + nonce.encode() + b'"', body)
                await send({**head, "headers": _headers(head, nonce, len(body))})
                await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, sent if scope["type"] == "http" else send)


def _is_page(message: MutableMapping[str, Any]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])


def _headers(head: MutableMapping[str, Any], nonce: str, length: int) -> list[tuple[bytes, bytes]]:
    own = {
        b"content-length": str(length),
        b"content-security-policy": POLICY.format(nonce=nonce),
        b"permissions-policy": PERMISSIONS,
        b"cache-control": "no-store",
    }
    kept = [each for each in head["headers"] if each[0] not in own]
    return kept + [(name, value.encode()) for name, value in own.items()]
