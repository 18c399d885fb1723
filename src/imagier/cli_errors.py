"""What every command does with an error that a person can put right: one message, and an exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

SOME_FAILED, NONE_SUCCEEDED, STOPPED = 3, 4, 130
"""Exit codes: of files, and of a command that its user stopped."""


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its errors one message and an exit code; what it returns is the exit code too, None is 0."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        from imagier.types import ImagierError

        try:
            sys.exit(function(*args, **kwargs) or 0)
        except ImagierError as error:
            click.echo(f"imagier: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("imagier: stopped. What was done is kept; the same command goes on from here.", err=True)
            sys.exit(STOPPED)

    return run
