"""REST, /api/v1: items, their pictures, search, clusters and receipts. OpenAPI: /api/v1/openapi.json."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Header, HTTPException, Query, Response, UploadFile
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from imagier.outputs import shown
from imagier.types import ImagierError
from imagier.workflows import naming, overview
from imagier.workflows.browse import HIDDEN, LONGEST, MOST, SIDE, Browser
from imagier.workflows.search import SearchResult, search

ROOT = "/api/v1"
ARROW = "application/vnd.apache.arrow.stream"
MOST_HITS = 200
SENT = "the image that was sent"
QUEUE = 32
"""Searches, and as many pictures, that are under way or wait at once."""
THREADS = 6 * QUEUE
"""Of the server: five things may have so many waiting each (searches, pictures, judgements, archives, trials); as many
are left for what is quick."""
_search = threading.Semaphore(1), threading.BoundedSemaphore(QUEUE)
decoding = threading.Semaphore(os.cpu_count() or 1), threading.BoundedSemaphore(QUEUE)
"""How many at once, and how many with those that wait for them."""

Item = dict[str, Any]
Id = Annotated[str, InPath(description="An item's id.", max_length=100, examples=["3f2a"])]
Known = Annotated[str, Header(include_in_schema=False)]
"""The tag of what the client has."""
Count = Annotated[int, Query(ge=1, le=MOST_HITS, description="How many, at most.")]


class Problem(BaseModel):
    """What is wrong, and what to do."""

    detail: str = Field(examples=["unknown column 'grup'. Did you mean group?"])


class Items(BaseModel):
    """A page."""

    items: list[Item] = Field(examples=[[{"id": "3f2a", "name": "nuts/01.png", "group": 2, "verdict": "bad"}]])
    total: int = Field(description="How many items fit the conditions.", examples=[1200])


class About(BaseModel):
    """The collection."""

    name: str = Field(description="Of its folder.", examples=["out"])
    items: int = Field(examples=[1200])
    files: int = Field(examples=[1201])
    failed: int = Field(examples=[1])
    version: str = Field(description="Changes whenever the collection does.", examples=["items-1f.lance:3:4"])
    columns: dict[str, str] = Field(
        description="What items can be shown, filtered and sorted by: text, number, boolean or list.",
        examples=[{"id": "text", "group": "number", "far": "boolean"}],
    )


class Hits(BaseModel):
    """What is like something, best first."""

    query: str = Field(description="What was searched with.", examples=["the item 3f2a"])
    items: int = Field(description="Items that have a vector.", examples=[1200])
    exact: bool = Field(description="Whether all were compared.")
    recall: float = Field(description="1 where exact; else the share of the nearest that the index finds.")
    hits: list[Item] = Field(
        examples=[[{"rank": 1, "score": 0.93, "id": "77c0", "parent": None, "box": None, "name": "nuts/01.png"}]]
    )


class Clustering(BaseModel):
    """A grouping of the items."""

    step: str = Field(examples=["cluster"])
    column: str = Field(description="The column of groups; -1 is noise.", examples=["group"])
    facts: dict[str, Any] = Field(description="Its groups with size, cohesion, quality; scores, stability, verdict.")
    names: dict[int, str] = Field(description="Those that people gave to groups.", examples=[{"2": "scratched"}])


class Receipt(BaseModel):
    """What a step did."""

    step: str = Field(examples=["embed"])
    stage: str = Field(examples=["embed"])
    version: int
    settings: dict[str, Any]
    key: str
    precision: str = Field(examples=["bfloat16"])
    weights: list[str]
    items: int
    failed: int
    seconds: float
    made: str = Field(examples=["2026-01-02T03:04:05+00:00"])
    facts: dict[str, Any]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        400: "What was asked for does not fit.",
        401: "No token, or another.",
        403: "Asked for by another site's page.",
        404: "There is no such item, or no such picture of it.",
        409: "The collection cannot give it, such as a file that is gone.",
        413: "Too large.",
        503: "Too many wait: come again.",
        422: "A value that is none, or out of range.",
        421: "Called by a name that is not this server's.",
    }.items()
}


@contextmanager
def in_turn(turns: tuple[threading.Semaphore, threading.BoundedSemaphore]) -> Iterator[None]:
    """What takes a while, so many at once: a search loads the collection's networks, a picture may be a large file."""
    at_once, queue = turns
    if not queue.acquire(blocking=False):
        raise HTTPException(503, "many wait for this already: try again in some seconds", {"retry-after": "5"})
    try:
        with at_once:
            yield
    finally:
        queue.release()


def picture_answer(data: bytes, kind: str, known: str) -> Response:
    """A picture, or no more than that it is what the client has."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"cache-control": "private, no-cache", "etag": tag}
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)


def router(browser: Browser) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)
    collection = browser.collection

    @routes.get("", response_model=About)
    def about() -> About:
        """What this collection holds."""
        outcomes = collection.stored_files()["outcome"]
        return About(
            name=collection.folder.name,
            items=len(collection),
            files=len(outcomes),
            failed=pc.sum(pc.equal(outcomes, "failed")).as_py() or 0,
            version=collection.version,
            columns=browser.columns(),
        )

    @routes.get("/items", response_model=Items, responses={200: {"content": {ARROW: {}}}})
    def items(
        limit: Annotated[int, Query(ge=0, le=MOST)] = 60,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
        sort: Annotated[
            str, Query(max_length=LONGEST, description="Columns with commas between, - for the largest first.")
        ] = "",
        columns: Annotated[
            str | None,
            Query(
                max_length=4 * LONGEST,
                description="Which, with commas between; all unless given.",
                examples=["id,name,group"],
            ),
        ] = None,
        where: Annotated[
            list[str] | None,
            Query(
                max_length=20,
                description="COLUMN OP VALUE, as verdict=bad, group=1|2, area>30, name~nut, group=",
                examples=[["verdict=bad", "group=1|2"]],
            ),
        ] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Any:
        """A page of items that fit all conditions; as an Arrow stream where that is what is accepted."""
        names = None if columns is None else [each.strip() for each in columns.split(",")]
        page = browser.page(where=where or (), sort=sort, limit=limit, offset=offset, columns=names)
        if ARROW in accept:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, page.items.schema) as stream:
                stream.write_table(page.items)
            return Response(sink.getvalue().to_pybytes(), media_type=ARROW, headers={"x-total": str(page.total)})
        return Items(items=page.rows(), total=page.total)

    @routes.get("/items/{item}", response_model=Item)
    def item(item: Id) -> Item:
        """All that is known of an item, but vectors and pictures."""
        return browser.item(item)

    @routes.get("/items/{item}/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def thumbnail(item: Id, if_none_match: Known = "") -> Response:
        """A small picture of it."""
        return picture_answer(browser.thumbnail(item), "image/jpeg", if_none_match)

    @routes.get("/items/{item}/image", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def image(item: Id, side: Annotated[int, Query(ge=1, le=SIDE)] = 1024, if_none_match: Known = "") -> Response:
        """The item from its own file, in 8 bits, at most so many pixels a side."""
        with in_turn(decoding):
            return picture_answer(browser.picture(item, side), "image/jpeg", if_none_match)

    @routes.get(
        "/items/{item}/masks/{column}", response_class=Response, responses={200: {"content": {"image/png": {}}}}
    )
    def mask(
        item: Id,
        column: Annotated[str, InPath(max_length=LONGEST, examples=["defect_masks"])],
        if_none_match: Known = "",
    ) -> Response:
        """A mask or label image of it, of the image's own size."""
        return picture_answer(browser.mask(item, column), "image/png", if_none_match)

    @routes.get("/items/{item}/similar", response_model=Hits)
    def similar(item: Id, n: Count = 20) -> Hits:
        """More like this."""
        browser.item(item)
        with in_turn(_search):
            return _hits(browser, search(collection, like=item, n=n), said=f"item {item}")

    @routes.get("/search", response_model=Hits)
    def by_text(
        text: Annotated[str, Query(min_length=1, max_length=LONGEST, examples=["a bent nut"])], n: Count = 20
    ) -> Hits:
        """By words, where the collection's encoder knows them (CLIP)."""
        with in_turn(_search):
            return _hits(browser, search(collection, text=text, n=n))

    @routes.post("/search", response_model=Hits)
    def by_image(image: UploadFile, n: Count = 20) -> Hits:
        """By an image of any format. It is kept apart, and removed at once."""
        with in_turn(_search), tempfile.TemporaryDirectory(prefix="imagier-") as folder:
            path = Path(folder) / "image"
            with path.open("wb") as file:
                shutil.copyfileobj(image.file, file)
            try:
                return _hits(browser, search(collection, image=path, n=n), said=SENT)
            except ImagierError as error:
                raise type(error)(str(error).replace(str(path), SENT)) from error

    @routes.get("/clusters", response_model=list[Clustering])
    def clusters() -> list[Clustering]:
        """The clusterings, the main one first."""
        found = shown.clusterings(collection)
        return [
            Clustering(
                step=each.receipt.step,
                column=each.column,
                facts=each.facts,
                names=naming.names(browser, each.column),
            )
            for each in found
        ]

    @routes.get("/receipts", response_model=list[Receipt])
    def receipts() -> list[Receipt]:
        """What was done, in order, with which settings and weights."""
        names = Receipt.model_fields
        return [Receipt(**{name: getattr(each, name) for name in names}) for each in overview.receipts(collection)]

    return routes


def _hits(browser: Browser, found: SearchResult, said: str | None = None) -> Hits:
    told = found.as_dict()
    hits = [{name: value for name, value in hit.items() if name not in HIDDEN} for hit in told["hits"]]
    names = overview.names(browser, [hit["id"] for hit in hits])
    hits = [hit | {"name": names.get(hit["id"])} for hit in hits]
    return Hits(query=said or told["query"], items=told["items"], exact=told["exact"], recall=told["recall"], hits=hits)
