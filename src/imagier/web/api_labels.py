"""REST, /api/v1/labels and /api/v1/items/ID/mask: what people say of items, who said it when, and taking it back."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
from fastapi import APIRouter, Body, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, model_validator

from imagier import labels
from imagier.outputs.labelled import labels_csv, labels_table
from imagier.types import SettingError
from imagier.web.api import REFUSALS, ROOT, Id
from imagier.workflows.browse import LONGEST, MOST, Browser, fitting

MOST_AT_ONCE = 100_000
"""Items of a request."""
SHORT = 1000
"""Letters, well above those of any label: what is too long for one is told in a sentence."""
Author = Annotated[str, Field(max_length=SHORT, description="Who says so.", examples=["ada"])]
Asked = Annotated[str, Query(max_length=SHORT, description="Who says so.", examples=["ada"])]


class Labelling(BaseModel):
    """A label, and what it is given to."""

    items: list[Annotated[str, Field(max_length=100)]] | None = Field(
        None, max_length=MOST_AT_ONCE, description="Ids of items.", examples=[["3f2a", "77c0"]]
    )
    where: list[Annotated[str, Field(max_length=LONGEST)]] | None = Field(
        None,
        max_length=20,
        description="In place of them: all items that fit, by conditions as of /items.",
        examples=[None],
    )
    label: Annotated[str, Field(max_length=SHORT)] | None = Field(
        description="Null takes back what was given.", examples=["nut"]
    )
    author: Author

    @model_validator(mode="after")
    def _one_of_both(self) -> Labelling:
        if (self.items is None) == (self.where is None):
            raise ValueError("give items, or where, and not both")
        return self


class Undoing(BaseModel):
    """Whose last act is undone."""

    author: Author


class Act(BaseModel):
    """What was done at once."""

    act: str = Field(examples=["9b1c"])
    author: str = Field(examples=["ada"])
    made: str = Field(examples=["2026-01-02T03:04:05.678901+00:00"])
    items: int = Field(description="How many were changed.", examples=[300])
    undoes: str | None = Field(description="The act that was undone.", examples=[None])
    left: list[str] = Field(description="Of an undo: items of which something else was said since: as they were.")


class Said(BaseModel):
    """What was said of an item."""

    item: str | None = Field(examples=["3f2a"])
    column: Literal["label_user", "mask_user"] | None
    value: str | None = Field(description="A label, or a mask's sha256; null: taken back.", examples=["nut"])
    author: str = Field(examples=["ada"])
    made: str = Field(examples=["2026-01-02T03:04:05.678901+00:00"])
    act: str = Field(examples=["9b1c"])
    undoes: str | None = Field(description="The act that was undone.", examples=[None])
    of: str | None = Field(description="A mask's class, where it has one.", examples=[None])


class History(BaseModel):
    """Some of what was said, the newest first."""

    rows: list[Said]
    total: int = Field(examples=[1200])


def router(browser: Browser) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)
    collection = browser.collection

    @routes.post("/labels", response_model=Act)
    def label(asked: Labelling) -> Act:
        """Give items a label, or take theirs back: one act."""
        items = asked.items
        if items is None:
            table = browser.light()
            items = table["id"].filter(pa.array(fitting(table, asked.where or ()))).to_pylist()
            if not 0 < len(items) <= MOST_AT_ONCE:
                raise SettingError(f"{len(items)} items fit: from 1 to {MOST_AT_ONCE} are labelled at once")
        return _told(labels.assign(collection, items, asked.label, asked.author))

    @routes.post("/labels/undo", response_model=Act | None)
    def undo(asked: Undoing) -> Act | None:
        """Undo an author's last act that is not undone yet, a label or a mask; null where there is none."""
        done = labels.undo(collection, asked.author)
        return None if done is None else _told(done)

    @routes.get("/labels", response_model=History)
    def history(
        item: Annotated[str | None, Query(max_length=100, description="Of this item alone.", examples=["3f2a"])] = None,
        limit: Annotated[int, Query(ge=0, le=MOST)] = 60,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    ) -> History:
        """What was said of items, the newest first."""
        rows = labels.history(collection, item)
        some = [Said(**msgspec.structs.asdict(row)) for row in rows[offset : offset + limit]]
        return History(rows=some, total=len(rows))

    @routes.get("/labels/counts", response_model=dict[str, int])
    def counts() -> dict[str, int]:
        """How many items have each label that people gave, the commonest first."""
        return dict(Counter(browser.light()[labels.LABEL].drop_null().to_pylist()).most_common())

    @routes.get("/labels/export", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
    def export(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Any:
        """Every item that people gave a label: item, name, label, author, made. CSV, or JSON where that is accepted."""
        if "application/json" in accept:
            return JSONResponse(labels_table(collection).to_pylist())
        name = {"content-disposition": 'attachment; filename="labels.csv"'}
        return Response(labels_csv(collection), media_type="text/csv", headers=name)

    @routes.put("/items/{item}/mask", response_model=Act)
    def correct(
        item: Id,
        png: Annotated[bytes, Body(media_type="image/png", description="Grey, 0 outside, of the item's own size.")],
        author: Asked,
        of: Annotated[str, Query(max_length=SHORT, description="The class that it is a mask of.")] = labels.OBJECT,
    ) -> Act:
        """Give an item the mask that a person corrected; it is got by /items/ID/masks/mask_user."""
        browser.item(item)
        return _told(labels.correct(collection, item, png, author, of))

    @routes.delete("/items/{item}/mask", response_model=Act)
    def take_back(item: Id, author: Asked) -> Act:
        """Take an item's corrected mask back."""
        browser.mask(item, labels.MASK)
        return _told(labels.correct(collection, item, None, author))

    return routes


def _told(act: labels.Act) -> Act:
    return Act(
        act=act.act, author=act.author, made=act.made, items=len(act.items), undoes=act.undoes, left=list(act.left)
    )
