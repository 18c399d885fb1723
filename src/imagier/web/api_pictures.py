"""REST, /api/v1: what can be laid over an item's picture, and the picture enhanced."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from imagier.web.api import REFUSALS, ROOT, Id, Known, decoding, in_turn, picture_answer
from imagier.workflows import pictures
from imagier.workflows.browse import LONGEST, SIDE, Browser

Side = Annotated[int, Query(ge=1, le=SIDE, description="Pixels of the longer side, at most.")]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}


class Layer(BaseModel):
    """What can be laid over a picture."""

    column: str = Field(examples=["masks"])
    title: str = Field(description="For a person.", examples=["Objects"])
    kind: pictures.Kind = Field(
        description="A mask is one object; labels number theirs; heat is how strange each place is."
    )
    objects: int = Field(examples=[31])
    of: str = Field(description="The class that it is of.", examples=["object"])


def router(browser: Browser) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)

    @routes.get("/items/{item}/layers", response_model=list[Layer])
    def layers(item: Id) -> list[Layer]:
        """What can be laid over an item's picture, what a person corrected last."""
        with in_turn(decoding):
            return [Layer(**asdict(each)) for each in pictures.layers(browser, item)]

    @routes.get("/items/{item}/layers/{column}", response_class=Response, responses=PNG)
    def layer(
        item: Id,
        column: Annotated[str, InPath(max_length=LONGEST, examples=["masks"])],
        side: Side = 1024,
        coded: Annotated[
            bool, Query(description="Numbers in place of colours, of full size: R + 256 G; up to 4096 pixels a side.")
        ] = False,
        if_none_match: Known = "",
    ) -> Response:
        """Objects in colours, transparent elsewhere, of the size of /items/ID/image with the same side."""
        with in_turn(decoding):
            made = pictures.coded(browser, item, column) if coded else pictures.layer(browser, item, column, side)
            return picture_answer(made, "image/png", if_none_match)

    @routes.get("/items/{item}/enhanced", response_class=Response, responses=JPEG)
    def enhanced(item: Id, how: pictures.How, side: Side = 1024, if_none_match: Known = "") -> Response:
        """The item's picture made easier to see. Its file stays as it is."""
        with in_turn(decoding):
            return picture_answer(pictures.enhanced(browser, item, how, side), "image/jpeg", if_none_match)

    return routes
