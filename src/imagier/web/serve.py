"""serve: the app on an address of this machine, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import platformdirs
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from imagier.collection import Collection
from imagier.models.store import get
from imagier.types import SettingError
from imagier.web.app import make_app
from imagier.web.guard import ANY_ADDRESS, LOOPBACK, PATIENCE

if TYPE_CHECKING:
    from imagier.models.model import Model

MOST_HEAD = 64 * 2**10
"""Bytes of a request's line and headers."""
MOST_MESSAGE = 2**20
"""Bytes of a message that a page sends."""
MOST_CALLS = 200
"""Requests at once; more are told to come again."""
MOST_IDLE = 150
"""Connections that wait for a request, which count among those: of more, the oldest goes."""


class Patient(H11Protocol):
    """HTTP that closes a connection whose request does not come: uvicorn waits for a head as long as it takes."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()
        idle = [(each._late.when(), each) for each in self.connections if isinstance(each, Patient) and each._late]
        if len(idle) > MOST_IDLE:
            min(idle, key=lambda pair: pair[0])[1]._give_up()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        if self._late is not None:  # from here on another protocol has the connection
            self._late.cancel()
        super().handle_websocket_upgrade(event)

    def _watch(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._late is None:
            self._late = self.loop.call_later(PATIENCE, self._give_up)
        elif not waiting and self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def serve(
    collection: Collection | None,
    *,
    host: str,
    port: int,
    token: str | None,
    models: Sequence[str] = (),
    preset: str | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until it is stopped; `tell` is given the address once it answers.

    collection: None makes an empty one in the user's own folder for data, which goes again unless something was kept.
    models: by name or folder. Raises SettingError for an address beyond this machine without a token, and for one that
    cannot be had; ModelError for models.
    """
    if not _is_own(host) and not token:
        raise SettingError(
            f"--host {host} lets other machines in: give a --token TOKEN, which they must show, or leave --host out"
        )
    found = [get(each) for each in models]
    if collection is None:
        with _empty(tell) as made:
            _serve(made, host, port, token, found, preset, tell)
    else:
        _serve(collection, host, port, token, found, preset, tell)


@contextlib.contextmanager
def _empty(tell: Callable[[str], None]) -> Iterator[Collection]:
    """A new collection; where nothing came into it, it goes again."""
    made = Collection.create(
        platformdirs.user_data_path("imagier") / "collections" / f"{datetime.now():%Y-%m-%d-%H%M%S-%f}"
    )
    try:
        yield made
    finally:
        if (made.folder / "added").is_dir() or len(made):
            tell(f"what was kept is in {made.folder}: imagier serve {made.folder} opens it again")
        else:
            shutil.rmtree(made.folder)


def _serve(
    collection: Collection,
    host: str,
    port: int,
    token: str | None,
    models: Sequence[Model],
    preset: str | None,
    tell: Callable[[str], None],
) -> None:
    every = host in ("0.0.0.0", "::")
    names = [*LOOPBACK, *((socket.gethostname(), ANY_ADDRESS) if every else (host,))]
    app = make_app(collection, models=models, preset=preset, token=token, hosts=names)
    bound = _bound(host, port)
    config = uvicorn.Config(
        app,
        http=Patient,
        ws="websockets-sansio",
        ws_max_size=MOST_MESSAGE,
        log_level="warning",
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEAD,
        limit_concurrency=MOST_CALLS,
        timeout_graceful_shutdown=5,
    )
    called = socket.gethostname() if every else host
    shown = f"[{called}]" if ":" in called else called
    tell(f"http://{shown}:{bound.getsockname()[1]}/   (Ctrl-C stops it)")
    with contextlib.closing(bound), _tidy():
        uvicorn.Server(config).run(sockets=[bound])


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Ended by a signal, also by that of a terminal that is closed, the program ends as it does by Ctrl-C: tidily."""
    signals = {getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)}

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = {each: signal.signal(each, end) for each in signals}
    if hasattr(signal, "SIGHUP"):  # uvicorn ends well by the other two alone
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _is_own(host: str) -> bool:
    """Whether nobody but this machine can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int) -> socket.socket:
    opened = contextlib.ExitStack()
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # By its protocol asyncio knows that it may turn off waiting for more to send, 40 ms an answer.
        made = opened.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2048)  # from here on a client waits, and is not refused
    except (OSError, OverflowError) as error:
        opened.close()
        why = getattr(error, "strerror", None) or error
        raise SettingError(f"{host}, port {port} cannot be had: {why}. Another: --port 0 takes a free one") from error
    return made
