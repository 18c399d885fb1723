"""Progress: a bar on the terminal with rate and time left, and plain lines. Quiet unless asked for.

Where the environment names a file by IMAGIER_PROGRESS, what is under way is written there too, as JSON, at most every
half second and whole at any instant, shown or not: so others can follow a command that has no terminal.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

WHERE = "IMAGIER_PROGRESS"
"""The environment's variable: a file."""
EVERY = 0.5
"""Seconds between two of its states."""
RECENT = 60
"""States that the rate is taken over: half a minute."""


class Bar:
    """What is under way: how much of how much."""

    def __init__(self, shown: Any, total: int | None, done: float, what: str, unit: str) -> None:
        self._shown, self._what, self._unit = shown, what, unit
        self.total, self.done = total, done
        self._facts: dict[str, Any] = {}
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._written = -EVERY
        self._write()

    def update(self, more: float = 1) -> None:
        """So much more is done."""
        self.done += more
        self._shown.update(more)
        self._write()

    def note(self, text: str, **facts: Any) -> None:
        """What else there is to tell: in words beside the bar, as JSON values in the file; with the next update."""
        self._facts = facts
        self._shown.set_postfix_str(text, refresh=False)

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """Each of the things, done when the next is asked for."""
        with self:
            for each in things:
                yield each
                self.update()

    def close(self) -> None:
        """It is over."""
        self._shown.close()
        self._written = -EVERY
        self._write()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        now = time.monotonic()
        if now - self._written < EVERY or WHERE not in os.environ:
            return
        self._written = now
        self._recent.append((now, self.done))
        begun, before = self._recent[0]
        rate = (self.done - before) / (now - begun) if now > begun else 0.0
        left = (self.total - self.done) / rate if self.total is not None and rate > 0 else None
        told = {"what": self._what, "done": self.done, "total": self.total, "unit": self._unit}
        _write(told | {"rate": rate or None, "left_s": left, "facts": self._facts})


def bar(total: int | None, shown: bool, *, what: str = "", unit: str = "image", initial: int = 0) -> Bar:
    """A progress bar on standard error. Where that is no terminal, a line every half minute."""
    from tqdm import tqdm

    every = 0.1 if sys.stderr.isatty() else 30.0
    off = not shown or total == 0
    made = tqdm(
        total=total, initial=initial, desc=what or None, unit=unit, disable=off, mininterval=every, file=sys.stderr
    )
    return Bar(made, total, initial, what, unit)


def say(text: str, shown: bool) -> None:
    """A line on standard error."""
    if shown:
        print(text, file=sys.stderr, flush=True)
    if WHERE in os.environ:
        _write({"what": text, "done": None, "total": None, "unit": None, "rate": None, "left_s": None, "facts": {}})


def _write(told: dict[str, Any]) -> None:
    """Put it into the file. Where it cannot be written, that is said once, and the work goes on."""
    path = Path(os.environ[WHERE])
    part = path.with_name(f"{path.name}.{threading.get_native_id()}.part")
    try:
        part.write_text(json.dumps(told | {"made": datetime.now(UTC).isoformat()}), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        del os.environ[WHERE]
        print(f"progress cannot be written: {error.strerror or error}", file=sys.stderr, flush=True)
