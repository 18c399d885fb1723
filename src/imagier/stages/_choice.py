"""The choice of a method inside a stage: its settings read off its signature, and what it does not take refused.

A stage names its methods in a literal (`METHODS = {"kmeans": kmeans, ...}`). The settings of a method are the
keyword-only parameters of its function, and their defaults stand there and nowhere else. The stage's `make` gives
those that belong to certain methods as `X | None = None`, and None means: not given.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from imagier.types import SettingError


def chosen(methods: Mapping[str, Callable[..., Any]], method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one method: what was given, and the method's own default where nothing was.

    `settings` holds every setting that belongs to certain methods, None where it was not given. What comes back has a
    value for each of them that the method takes, to be handed on as keywords; parameters of the method that are not
    in `settings` (its data, a seed) are left to the caller.

    Raises SettingError for an unknown method, for a setting given that the method does not take, and for one that it
    cannot do without.
    """
    if method not in methods:
        near = difflib.get_close_matches(method, methods, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise SettingError(f"there is no method {method!r}. {hint}The methods are {', '.join(methods)}.")
    taken = _keywords(methods[method])
    for name, value in settings.items():
        if value is not None and name not in taken:
            takers = [other for other, function in methods.items() if name in _keywords(function)]
            who = f"it belongs to {', '.join(takers)}" if takers else "no method takes it"
            raise SettingError(
                f"method {method!r} takes no setting {name!r}: {who}. Leave it out, or choose another method."
            )
    result = {}
    for name, value in settings.items():
        if name not in taken:
            continue
        result[name] = taken[name] if value is None else value
        if result[name] is inspect.Parameter.empty:
            raise SettingError(f"method {method!r} needs the setting {name!r}: give it a value.")
    return result


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default of each keyword-only parameter; `Parameter.empty` where there is none."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
