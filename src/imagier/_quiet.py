"""quiet: a library's warnings and log lines kept from the user, in the thread that asks for it alone."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Keep a library's warnings, and what it logs by this very name, to itself: what matters of it is said by an error.

    logger: "root" for packages that log by `logging.warning`; then all that would come to the root's handlers.

    `warnings.catch_warnings` and `logging.disable` change what all threads share. Here filters are added that match
    only in a thread that is inside this block, so other threads, and the library's other users, are told what they
    were.
    """
    filters = cast("list[Any]", warnings.filters)
    if filters[:1] != [_FILTER]:
        filters[:] = [_FILTER, *(each for each in filters if each != _FILTER)]
    before = getattr(_inside, "depth", 0)
    try:
        _inside.depth = before + 1  # within: what is stopped by a signal just here is loud again afterwards
        if logger == "root":
            with _handled():
                yield
        else:
            logging.getLogger(logger).addFilter(_drop_record)  # adds it once
            yield
    finally:
        _inside.depth = before


_lock, _held = threading.Lock(), 0
_STAND_IN = logging.lastResort or logging.NullHandler()
"""What serves where the root has no handler."""


@contextmanager
def _handled() -> Iterator[None]:
    """Has the root's handlers drop what comes from threads that are to be quiet.

    Where it has none it is given one for the time: else `logging.warning` would give it one for good, and a program
    that sets up its own later would find it taken."""
    global _held
    root = logging.getLogger()
    with _lock:
        _held += 1
        if not root.handlers:
            root.addHandler(_STAND_IN)
        for handler in root.handlers:
            handler.addFilter(_drop_record)
    try:
        yield
    finally:
        with _lock:
            _held -= 1
            if not _held:
                root.removeHandler(_STAND_IN)
                for handler in root.handlers:
                    handler.removeFilter(_drop_record)
