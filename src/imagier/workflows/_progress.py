"""Progress on the terminal: a bar with rate and time left, and plain lines. Quiet unless asked for."""

from __future__ import annotations

import sys
from typing import Any


def bar(total: int, shown: bool, *, what: str = "images", unit: str = "img") -> Any:
    """A progress bar on standard error. Where that is no terminal, a line every half minute."""
    from tqdm import tqdm

    every = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=what, unit=unit, disable=not shown or not total, mininterval=every)


def say(text: str, shown: bool) -> None:
    """A line on standard error."""
    if shown:
        print(text, file=sys.stderr, flush=True)
