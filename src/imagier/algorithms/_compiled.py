"""Loops as machine code, by numba: compiled once a machine and kept on disk."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

_compiling = threading.Lock()


def machine_code(loop: Callable[..., Any], types: str, *, fastmath: bool = False) -> Callable[..., Any]:
    """`loop` for arguments of these numba `types`; it leaves Python's lock. Safe to call from any thread."""
    with _compiling:
        return _machine_code(loop, types, fastmath)


@functools.cache
def _machine_code(loop: Callable[..., Any], types: str, fastmath: bool) -> Callable[..., Any]:
    import numba

    try:
        return numba.njit(types, cache=True, fastmath=fastmath, nogil=True)(loop)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # Neither the package's folder nor the user's can be written: compiled for this process alone.
        return numba.njit(types, fastmath=fastmath, nogil=True)(loop)
