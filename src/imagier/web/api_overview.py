"""REST, /api/v1: all items at once, by column; the files; the maps; the names of groups."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from imagier.outputs import shown
from imagier.types import SettingError
from imagier.web.api import REFUSALS, ROOT, Item
from imagier.workflows import naming, overview
from imagier.workflows.browse import LONGEST, MOST, Browser

Column = Annotated[str, InPath(max_length=LONGEST, description="A column of items.", examples=["group"])]
Where = Annotated[
    list[str] | None, Query(max_length=20, description="COLUMN OP VALUE, as of items.", examples=[["group=1|2"]])
]
Group = Annotated[int, InPath(description="Its number.", examples=[2])]
MOST_COLUMNS = 12
"""Of values asked for at once."""


class Counted(BaseModel):
    """A value, and how many items have it."""

    value: Any = Field(examples=["bad"])
    count: int = Field(examples=[31])


class Spread(BaseModel):
    """How the values of a column lie among the items that fit."""

    kind: str = Field(description="text, number or boolean", examples=["text"])
    items: int = Field(description="How many have a value.", examples=[1200])
    without: int = Field(description="How many have none.", examples=[0])
    distinct: int = Field(examples=[2])
    values: list[Counted] = Field(description="The most frequent, where there are not too many.")
    low: float | None = Field(examples=[None])
    high: float | None = Field(examples=[None])
    bins: list[int] = Field(description="Of numbers: how many lie in each of equal parts from low to high.")


class Values(BaseModel):
    """Columns of items, sorted by id."""

    items: int = Field(examples=[2])
    fit: int = Field(description="Items that fit; more than are here where axes thinned them out.", examples=[2])
    values: dict[str, list[Any]] = Field(examples=[{"id": ["3f2a", "77c0"], "group": [2, 0]}])


class Some(BaseModel):
    """Items by their ids."""

    ids: list[str] = Field(max_length=overview.MOST_SOME, examples=[["3f2a", "77c0"]])
    columns: list[str] | None = Field(None, max_length=200, description="All unless given.", examples=[["id", "name"]])


class Listed(BaseModel):
    """Items in the order in which they were asked for."""

    items: list[Item]


class File(BaseModel):
    """A file that was read, or could not be."""

    name: str = Field(description="Relative to its source.", examples=["nuts/01.png"])
    outcome: str = Field(examples=["failed"])
    reason: str | None = Field(examples=["it is cut short: the file ends in the middle of the image"])
    size: int | None = Field(description="Bytes.", examples=[1200])
    pages: int | None = Field(examples=[1])


class Files(BaseModel):
    """A page of files, sorted by name."""

    files: list[File]
    total: int = Field(examples=[1])


class Map(BaseModel):
    """A reduction to three dimensions: the columns of its axes, and what to write at them."""

    name: str = Field(examples=["UMAP"])
    axes: list[str] = Field(examples=[["x", "y", "z"]])
    titles: list[str] = Field(examples=[["UMAP 1", "UMAP 2", "UMAP 3"]])


class Name(BaseModel):
    """A group's name; empty: none."""

    name: str = Field(max_length=naming.LONGEST, examples=["scratched"])


def _names(given: str) -> list[str]:
    names = [each.strip() for each in given.split(",") if each.strip()]
    if len(names) > MOST_COLUMNS:
        raise SettingError(f"{len(names)} columns are too many at once: ask for {MOST_COLUMNS} at most")
    return names


def router(browser: Browser) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)
    collection = browser.collection

    @routes.get("/columns/{column}", response_model=Spread)
    def column(column: Column, where: Where = None) -> Spread:
        """How a column's values lie."""
        made = overview.spread(browser, column, where or ())
        counted = [Counted(value=value, count=count) for value, count in made.values]
        told = {name: getattr(made, name) for name in ("kind", "items", "without", "distinct", "low", "high")}
        return Spread(**told, values=counted, bins=list(made.bins))

    @routes.get("/values", response_model=Values)
    def values(
        columns: Annotated[str, Query(max_length=4 * LONGEST, description="With commas between.", examples=["id,x,y"])],
        where: Where = None,
        axes: Annotated[
            str,
            Query(
                max_length=LONGEST,
                description="Columns of a map: items without a place are left out, and where they lie thick so many "
                f"that {overview.MOST_POINTS} stay.",
                examples=["x,y,z"],
            ),
        ] = "",
    ) -> Response:
        """Some columns of all items that fit, for maps."""
        if not (named := _names(columns)):
            raise SettingError("columns cannot be empty: name one or more, such as id,x,y")
        made = overview.values(browser, named, where or (), axes=_names(axes))
        items = len(next(iter(made.values.values())))
        # Millions of values: what checks each by its type would take seconds.
        return JSONResponse({"items": items, "fit": made.fit, "values": made.values})

    @routes.post("/items", response_model=Listed)
    def some(asked: Some) -> Listed:
        """These items, in this order."""
        return Listed(items=overview.some(browser, asked.ids, asked.columns))

    @routes.get("/files", response_model=Files)
    def files(
        outcome: Annotated[Literal["ok", "failed"] | None, Query(description="Of these alone.")] = None,
        limit: Annotated[int, Query(ge=0, le=MOST)] = 60,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    ) -> Files:
        """The files, and why some could not be read."""
        made, total = overview.files(collection, outcome, limit, offset)
        return Files(files=[File(**each) for each in made], total=total)

    @routes.get("/maps", response_model=list[Map])
    def maps() -> list[Map]:
        """The maps, the main one first."""
        found = shown.maps(collection)
        return [
            Map(
                name=each.method + (f" ({each.prefix.rstrip('_')})" if each.prefix else ""),
                axes=list(each.axes),
                titles=list(each.axis_titles()),
            )
            for each in found
        ]

    @routes.put("/clusters/{column}/{group}", status_code=204)
    def rename(column: Column, group: Group, given: Name) -> None:
        """Give a group a name. It stays with the group's central items when groups are found anew."""
        naming.rename(browser, column, group, given.name)

    return routes
