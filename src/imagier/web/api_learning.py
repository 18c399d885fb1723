"""REST, /api/v1: how well a trained head does, and which items to label next; how a layout in folders would look."""

from __future__ import annotations

import threading
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from imagier.types import SettingError, nearest
from imagier.web.api import QUEUE, REFUSALS, ROOT, Count, in_turn
from imagier.workflows import judge, organise, overview
from imagier.workflows.browse import LONGEST, Browser
from imagier.workflows.organise import How
from imagier.workflows.suggest import suggest
from imagier.workflows.train import Labels
from imagier.workflows.trial import Trials

_turns = threading.Semaphore(1), threading.BoundedSemaphore(QUEUE)
Name = Annotated[str, InPath(max_length=LONGEST, description="A model of /models.", examples=["flowers-1"])]
Labelled = Annotated[str, Query(max_length=LONGEST, description="The column of labels.", examples=["label_user"])]


class Judged(BaseModel):
    """How well a classifier does on items with their true labels."""

    images: int = Field(examples=[120])
    left: int = Field(description="Items of labels that it does not know, left out.", examples=[0])
    part: str | None = Field(examples=["test"])
    measures: dict[str, Any] = Field(
        description="Each with mean, 95 % interval and n.",
        examples=[{"accuracy": {"mean": 0.93, "ci95": [0.88, 0.97], "n": 120}}],
    )
    classes: dict[str, Any]
    labels: list[str] = Field(examples=[["bent", "good"]])
    confusion: list[list[int]] = Field(description="True label by row, told by column.", examples=[[[40, 3], [2, 75]]])


class Suggestion(BaseModel):
    """An item that is worth a label."""

    id: str
    told: dict[str, Any] = Field(examples=[{"label": "bent", "confidence": 0.51}])


class Planning(BaseModel):
    """How to lay out."""

    by: str = Field(max_length=LONGEST, description="A column, or several with commas between.", examples=["group"])
    how: How = "copy"


class Folder(BaseModel):
    """A folder of a plan."""

    name: str = Field(examples=["group_2"])
    files: int = Field(examples=[48])
    bytes: int = Field(examples=[4_800_000])
    items: list[str] = Field(description="The first few.", examples=[["3f2a", "77c0"]])


class Left(BaseModel):
    """A file that the plan leaves as it is."""

    item: str | None = Field(examples=["3f2a"])
    why: str = Field(examples=["is there already"])


class Plan(BaseModel):
    """What organising would do. Nothing is done yet."""

    folders: list[Folder]
    files: int = Field(examples=[144])
    left: int = Field(description="Files that stay as they are.", examples=[0])
    whys: list[Left] = Field(description="The first of those.")


class Laid(BaseModel):
    """What is laid out now."""

    files: int = Field(description="Laid out and not taken back.", examples=[144])


def router(browser: Browser, trials: Trials) -> APIRouter:
    """The routes of one collection."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)
    collection = browser.collection

    def head(name: str) -> Any:
        known = trials.models()
        if name not in known:
            raise SettingError(nearest("model", name, known))
        if known[name].card.task != "classify" or known[name].card.head is None:
            raise SettingError(f"{name} is no head: imagier evaluate judges it, which takes longer than a page waits")
        return known[name]

    @routes.get("/models/{name}/judged", response_model=Judged)
    def judged(
        name: Name,
        labels: Labelled,
        part: Annotated[Literal["train", "val", "test"] | None, Query(description="Of its split; all if none.")] = None,
    ) -> Judged:
        """How well a head does on the collection's items that have a label."""
        overview.known(browser, [labels])  # a column, where the command line may name a table
        with in_turn(_turns):
            model = head(name)
            made = judge.classifier(
                model,
                labels=Labels(collection=collection.folder, labels=labels),
                part=part,
                others=True,
                progress=False,
            )
        told = made.told
        measures = {each: told[each] for each in judge.NAMES if each in told}
        return Judged(
            images=told["images"],
            left=made.left,
            part=told["part"],
            measures=measures,
            classes=told["classes"],
            labels=told["confusion"]["labels"],
            confusion=told["confusion"]["counts"],
        )

    @routes.get("/suggestions", response_model=list[Suggestion])
    def suggestions(
        model: Annotated[str, Query(max_length=LONGEST, description="A head of /models.", examples=["flowers-1"])],
        labels: Labelled = "label_user",
        n: Count = 24,
    ) -> list[Suggestion]:
        """Which items to label next, the worthiest first."""
        with in_turn(_turns):
            found = suggest(collection, model=head(model).folder, n=n, labelled=labels)
        return [Suggestion(id=each.id, told=dict(each.told)) for each in found]

    @routes.get("/organise", response_model=Laid)
    def laid() -> Laid:
        """What is laid out now."""
        return Laid(files=organise.standing(collection))

    @routes.post("/organise/plan", response_model=Plan)
    def plan(asked: Planning) -> Plan:
        """What organising would do, folder by folder. A job of kind organise does it."""
        overview.known(browser, [each.strip() for each in asked.by.split(",")])
        table = organise.plan(collection, by=asked.by, how=asked.how)
        made = organise.folders(table)
        rest = [row for row in table.to_pylist() if row["destination"] is None or row["action"] == "skip"]
        folders = [Folder(name=each.name, files=each.files, bytes=each.bytes, items=list(each.items)) for each in made]
        return Plan(
            folders=folders,
            files=table.num_rows - len(rest),
            left=len(rest),
            whys=[Left(item=row["id"], why=row["why"]) for row in rest[:20]],
        )

    return routes
