"""Each page: the frame, and the view in it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import Request
from nicegui import ui

from imagier.web.served import Served

STATIC = Path(__file__).parents[1] / "static"
NAVIGATION = (
    ("/", "Gallery"),
    ("/map", "Map"),
    ("/search", "Search"),
    ("/try", "Try"),
    ("/label", "Label"),
    ("/jobs", "Jobs"),
    ("/organise", "Organise"),
)


class View(ui.element, component="view.js"):
    """A view by its name, static/NAME.js; `given` are its props."""

    def __init__(self, view: str, /, **given: object) -> None:
        super().__init__()
        self._props["name"] = view
        self._props["given"] = given


@functools.cache
def modules(view: str) -> tuple[str, ...]:
    """A view, and all that it imports."""
    found = [view]
    for name in found:
        text = (STATIC / f"{name}.js").read_text(encoding="utf-8")
        found += [each for each in re.findall(r'from "/static/([a-z-]+)\.js"', text) if each not in found]
    return tuple(found)


@contextmanager
def frame(request: Request, title: str, view: str) -> Iterator[Served]:
    """What stands around a view: the name, the ways to the others, light or dark."""
    served: Served = request.scope["imagier"]
    ui.page_title(f"{title} · {served.name} · imagier")
    ui.add_head_html('<link rel="stylesheet" href="/static/imagier.css">')
    ui.add_head_html('<script src="/static/dark.js"></script>')
    for module in ("top", *modules(view)):  # asked for at once, not each when the one before has come
        ui.add_head_html(f'<link rel="modulepreload" href="/static/{module}.js">')
    ui.context.client.layout.props('view="hHh lpr fff"')
    with ui.header(bordered=True).classes("top"):
        View("top", name=served.name, here=request.url.path, ways=[list(each) for each in NAVIGATION])
    ui.context.client.content.classes("whole")
    yield served


@ui.page("/")
def gallery(request: Request) -> None:
    """All items."""
    with frame(request, "Gallery", "gallery"):
        View("gallery")


@ui.page("/map")
def mapped(request: Request) -> None:
    """All items as points."""
    with frame(request, "Map", "map"):
        View("map")


@ui.page("/items/{item}")
def item(request: Request, item: str) -> None:
    """One item."""
    with frame(request, "Item", "item"):
        View("item", id=item)


@ui.page("/search")
def search(request: Request) -> None:
    """By words, by an image."""
    with frame(request, "Search", "search"):
        View("search")


@ui.page("/try")
def tried(request: Request) -> None:
    """One's own images through a preset or models."""
    with frame(request, "Try", "try") as served:
        View("try", preset=served.preset or "", models=list(served.models))


@ui.page("/label")
def label(request: Request) -> None:
    """Labels, and what is trained from them."""
    with frame(request, "Label", "label"):
        View("label")


@ui.page("/jobs")
def jobs(request: Request) -> None:
    """What takes a while."""
    with frame(request, "Jobs", "jobs"):
        View("jobs")


@ui.page("/organise")
def organise(request: Request) -> None:
    """Folders, planned and made."""
    with frame(request, "Organise", "organise"):
        View("organise")


@ui.page("/items/{item}/mask")
def mask(request: Request, item: str) -> None:
    """An item's mask, drawn on."""
    with frame(request, "Mask", "editor"):
        ui.add_head_html('<link rel="stylesheet" href="/static/editor.css">')
        View("editor", item=item)
