"""quiet: a library's warnings and log lines kept from the user, in the thread that asks for it alone."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

_inside = threading.local()


class _HereAlone:
    """Matches every module, but in no other thread than one that is inside `quiet`."""

    pattern = "(?!)"
    """What stands for it where filters are copied as text (scikit-learn does, for its workers): matches nothing."""

    def match(self, _module: str) -> bool:
        return getattr(_inside, "depth", 0) > 0


_FILTER = ("ignore", None, Warning, _HereAlone(), 0)


def _drop_record(_record: logging.LogRecord) -> bool:
    return getattr(_inside, "depth", 0) == 0


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep a library's warnings, and what it logs by this name, to itself: what matters of it is said by an error.

    logger: "root" for packages that log by `logging.warning`.

    `warnings.catch_warnings` and `logging.disable` change what all threads share. Here one filter is added that
    matches only in a thread that is inside this block, so other threads, and the library's other users, are told what
    they were.
    """
    filters = cast("list[Any]", warnings.filters)
    if _FILTER not in filters:
        filters.insert(0, _FILTER)
    logging.getLogger(logger).addFilter(_drop_record)  # adds it once
    _inside.depth = getattr(_inside, "depth", 0) + 1
    try:
        with _handled() if logger == "root" else nullcontext():
            yield
    finally:
        _inside.depth -= 1


_lock, _held = threading.Lock(), 0


@contextmanager
def _handled() -> Iterator[None]:
    """Lets the root have a handler, the one that serves where there is none: where it has none, `logging.warning` gives
    it one for good, and a program that sets up its own later would find it taken."""
    global _held
    root, last = logging.getLogger(), logging.lastResort
    assert last is not None
    with _lock:
        _held += 1
        if not root.handlers:
            root.addHandler(last)
    try:
        yield
    finally:
        with _lock:
            _held -= 1
            if not _held:
                root.removeHandler(last)
