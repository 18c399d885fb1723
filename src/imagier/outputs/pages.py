"""What the HTML pages share: the templates and how they write numbers, JSON inside a page, the security policy."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def json_in_html(value: Any) -> str:
    """Strict JSON that nothing in it can end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy(*scripts: str) -> str:
    """A content security policy for a page that fetches nothing and runs these scripts alone."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts if script]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def environment() -> jinja2.Environment:
    """The templates of this package; every value is escaped unless it is Markup."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "score": score, "percent": percent}
    return made


def number(value: float | None) -> str:
    """With a comma between thousands."""
    return "–" if value is None else f"{value:,}"


def score(value: float | None) -> str:
    """To two decimals, large ones to none; a dash for what could not be measured."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share in whole percent."""
    if value is None:
        return "–"
    return "under 1 %" if 0 < value < 0.005 else f"{value:.0%}".replace("%", " %")
