"""Each page: the frame, and the view in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from nicegui import ui

from imagier.web.served import Served

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


@contextmanager
def frame(request: Request, title: str) -> Iterator[Served]:
    """What stands around every view: the name, the ways to the others, light or dark."""
    served: Served = request.scope["imagier"]
    ui.page_title(f"{title} · {served.name} · imagier")
    ui.add_head_html('<link rel="stylesheet" href="/static/imagier.css">')
    ui.add_head_html('<script src="/static/dark.js"></script>')
    ui.context.client.layout.props('view="hHh lpr fff"')
    with ui.header(bordered=True).classes("top"):
        View("top", name=served.name, here=request.url.path, ways=[list(each) for each in NAVIGATION])
    ui.context.client.content.classes("whole")
    yield served


@ui.page("/")
def gallery(request: Request) -> None:
    """All items."""
    with frame(request, "Gallery"):
        View("gallery")


@ui.page("/map")
def mapped(request: Request) -> None:
    """All items as points."""
    with frame(request, "Map"):
        View("map")


@ui.page("/items/{item}")
def item(request: Request, item: str) -> None:
    """One item."""
    with frame(request, "Item"):
        View("item", id=item)


@ui.page("/search")
def search(request: Request) -> None:
    """By words, by an image."""
    with frame(request, "Search"):
        View("search")


@ui.page("/try")
def tried(request: Request) -> None:
    """One's own images through a preset or models."""
    with frame(request, "Try") as served:
        View("try", preset=served.preset or "", models=list(served.models))


@ui.page("/label")
def label(request: Request) -> None:
    """Labels, and what is trained from them."""
    with frame(request, "Label"):
        View("label")


@ui.page("/jobs")
def jobs(request: Request) -> None:
    """What takes a while."""
    with frame(request, "Jobs"):
        View("jobs")


@ui.page("/organise")
def organise(request: Request) -> None:
    """Folders, planned and made."""
    with frame(request, "Organise"):
        View("organise")


@ui.page("/items/{item}/mask")
def mask(request: Request, item: str) -> None:
    """An item's mask, drawn on."""
    with frame(request, "Mask"):
        ui.add_head_html('<link rel="stylesheet" href="/static/editor.css">')
        View("editor", item=item)
