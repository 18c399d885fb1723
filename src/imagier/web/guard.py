"""What stands before every request: who may ask, from where, how much; and what a browser is told to allow."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Collection as Names
from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import cookie_parser

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 256 * 2**20
"""Of a request's body."""
PATIENCE = 14.0
"""Seconds in which a request's head must come, and as many in which its body must begin: cut within half a minute."""
PACE = 100_000
"""Bytes of a body that must come in each second beyond."""
FEW_BYTES = 4096
"""Of a body that whoever has shown no token may send."""
MOST_HEADERS = 200
"""Of a request; a browser sends some twenty."""
SAFE = ("GET", "HEAD", "OPTIONS")
ANY_ADDRESS = "*"
"""Of hosts: whatever address this machine has. It is names that another site could bring along."""
COOKIE = "imagier"
"""Of browsers that have shown the token."""
OPEN = ("/sign-in", "/static/sign-in.css")
"""What is there for those who have not."""
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


class CutOff(Exception):
    """A body that is too large, or does not come."""


class Guard:
    """Middleware. hosts: names that this server may be called by, without a port; token: what must be shown, if any."""

    def __init__(self, app: ASGIApp, *, hosts: Names[str], token: str | None, most: int = MOST_BYTES) -> None:
        self.app, self.hosts, self.token, self.most = app, {each.lower() for each in hosts}, token, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        # NiceGUI writes this into its pages: nobody is to say where they lie but the server itself.
        scope["headers"] = [each for each in scope["headers"] if each[0] != b"x-forwarded-prefix"]
        if scope["type"] == "websocket":
            if self._refusal("POST", scope["path"], headers) is None:
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        begun, cut = False, None

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                if cut is not None:
                    return  # what the app makes of half a body: ours is said below
                begun = True
                own = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            elif not begun:
                return
            await send(message)

        if (refusal := self._refusal(scope["method"], scope["path"], headers)) is not None:
            if refusal[0] == 401 and b"text/html" in b"".join(headers.get(b"accept", [])):
                await _lead(sent, "/sign-in")
            else:
                await _say(sent, *refusal)
            return
        taken, whole, start = 0, False, time.monotonic()

        async def received() -> MutableMapping[str, Any]:
            nonlocal taken, whole, cut
            if whole:
                return await receive()  # until the client goes
            try:
                left = start + PATIENCE + taken / PACE - time.monotonic()
                message = await asyncio.wait_for(receive(), max(0.0, left))
            except TimeoutError as error:
                cut = 408, "the request did not come to its end"
                raise CutOff from error
            taken += len(message.get("body", b""))
            if taken > self.most:
                cut = 413, self._too_large()
                raise CutOff
            whole = not message.get("more_body", False)
            return message

        try:
            await self.app(scope, received, sent)
        except CutOff:
            if begun:
                raise
        if cut is not None and not begun:
            status, why = cut
            cut = None
            await _say(sent, status, why)

    def _refusal(self, method: str, path: str, headers: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
        """Status and reason, where a request is not for the app."""
        if sum(map(len, headers.values())) > MOST_HEADERS:
            return 431, f"the request has more than {MOST_HEADERS} headers"
        named = headers.get(b"host", [])
        host = _host("//" + named[0].decode("latin-1")) if len(named) == 1 else None
        if host is None or not (host in self.hosts or (ANY_ADDRESS in self.hosts and _is_address(host))):
            return 421, "this server does not go by that name: open it by the address that it printed"
        if self.token is not None and path not in OPEN and not _shown(self.token, headers):
            return 401, "a token is needed: send it as the header 'Authorization: Bearer TOKEN'"
        if method not in SAFE:
            site = headers.get(b"sec-fetch-site", [b"same-origin"])[0]
            origin = headers.get(b"origin", [])
            same = all(_netloc(each.decode("latin-1")) == named[0].decode("latin-1") for each in origin)
            if site not in (b"same-origin", b"none") or not same:
                return 403, "another site's page asked for a change here: that is refused"
        length = headers.get(b"content-length", [b"0"])[0]
        if path in OPEN and (b"transfer-encoding" in headers or (length.isdigit() and int(length) > FEW_BYTES)):
            return 413, "that is more than a token"
        if not length.isdigit() or len(length) > 20:
            return 400, "the content-length is no number"
        return (413, self._too_large()) if int(length) > self.most else None

    def _too_large(self) -> str:
        return f"that is more than {self.most // 2**20} MB, the most that is taken at once"


def cookie_of(token: str) -> str:
    """What a browser that has shown the token keeps in its place."""
    return hmac.new(token.encode(), b"a browser of imagier", hashlib.sha256).hexdigest()


def _shown(token: str, headers: dict[bytes, list[bytes]]) -> bool:
    """Whether a request comes with the token, or with a browser's cookie of it."""
    told = headers.get(b"authorization", [b""])[0]
    if hmac.compare_digest(told, b"Bearer " + token.encode()):
        return True
    # Other servers of this machine have their cookies here too, of whatever form: each is looked at by itself.
    kept = cookie_parser(b"; ".join(headers.get(b"cookie", [])).decode("latin-1")).get(COOKIE, "")
    return hmac.compare_digest(kept.encode("latin-1", "replace"), cookie_of(token).encode())


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _netloc(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


async def _lead(send: Send, where: str) -> None:
    await send({"type": "http.response.start", "status": 303, "headers": [(b"location", where.encode())]})
    await send({"type": "http.response.body", "body": b""})


async def _say(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
