"""Where a browser shows the token, once."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form
from starlette.responses import HTMLResponse, RedirectResponse, Response

from imagier.web.guard import COOKIE, cookie_of

if TYPE_CHECKING:
    from imagier.web.served import Served

PAUSE = 1.0
"""Seconds before a wrong token is answered."""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · imagier</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/sign-in.css"></head>
<body><main><h1>imagier</h1><form method="post" action="/sign-in">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<p class="problem" role="alert">{problem}</p><button>Open</button>
<p>Whoever started this server chose it: <code>imagier serve --token TOKEN</code></p></form></main></body></html>
"""
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


def routes(served: Served) -> APIRouter:
    """The page, and what its form is sent to."""
    made = APIRouter(include_in_schema=False)

    def page(problem: str = "", status: int = 200) -> Response:
        return HTMLResponse(PAGE.format(problem=problem), status, {"content-security-policy": POLICY})

    @made.get("/sign-in")
    def ask() -> Response:
        return page() if served.token is not None else RedirectResponse("/", 303)

    @made.post("/sign-in")
    async def show(token: Annotated[str, Form(max_length=1000)]) -> Response:
        if served.token is None or not hmac.compare_digest(token.encode(), served.token.encode()):
            await asyncio.sleep(PAUSE)
            return page("That is not the token.", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, cookie_of(served.token), httponly=True, samesite="strict", max_age=30 * 86400)
        return answer

    return made
