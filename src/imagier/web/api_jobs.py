"""REST, /api/v1/jobs: what takes a while, started, followed, stopped and gone on with: runs, trainings, exports."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from imagier.types import ImagierError
from imagier.web.api import REFUSALS, ROOT
from imagier.workflows import orders
from imagier.workflows.browse import Browser
from imagier.workflows.jobs import Job, Jobs, NoSuchJob

LINES = 100
"""Of a job's output."""

Id = Annotated[str, InPath(description="A job's id.", max_length=40, examples=["20260102-030405-678901-9f3a"])]
Report = Annotated[bool, Field(description="Whether plots and report.html are made anew.")]


class Asked(BaseModel):
    """What all orders have."""

    model_config = ConfigDict(extra="forbid")

    author: str = Field("", max_length=100, description="Who asks.", examples=["Ada"])


class Run(Asked):
    """Bring the collection up to date with its own sources."""

    kind: Literal["run"]
    settings: dict[str, Any] = Field({}, description="STEP.SETTING -> value.", examples=[{"cluster.k": 5}])
    preset: str | None = Field(None, max_length=100, description="A ready pipeline.", examples=["photos"])
    report: Report = True


class Train(Asked):
    """Train a model on the collection's items, into its folder models/NAME."""

    kind: Literal["train"]
    what: orders.Way = Field(description="A head on the embedding, a network, or a segmenter.", examples=["head"])
    name: str = Field(max_length=100, description="Of the model: letters, digits, - and _.", examples=["flowers-1"])
    labels: str | None = Field(None, max_length=200, description="A classifier's column.", examples=["label_folder"])
    epochs: int | None = Field(None, description="Of a network; its config's unless given.", examples=[20])


class Classify(Asked):
    """Tell what the items are by a classifier."""

    kind: Literal["classify"]
    model: str = Field(max_length=200, description="Trained on this collection, or listed.", examples=["flowers-1"])
    report: Report = True


class Organise(Asked):
    """Lay the collection out in folders, in its own folder `organised`."""

    kind: Literal["organise"]
    by: str = Field(max_length=500, description="A column, or several with commas between.", examples=["group"])
    how: orders.How = "copy"
    confirm: bool = Field(False, description="Needed for move, which takes the originals from where they are.")


class Undo(Asked):
    """Take back all that was organised."""

    kind: Literal["undo"]


class Export(Asked):
    """Write the collection in another format, into its folder exports/ID."""

    kind: Literal["export"]
    to: orders.Format


Order = Annotated[Run | Train | Classify | Organise | Undo | Export, Field(discriminator="kind")]


class Event(BaseModel):
    """Something that befell a job."""

    time: str = Field(examples=["2026-01-02T03:04:05.678+00:00"])
    text: str = Field(examples=["started"])


class Progress(BaseModel):
    """How far it is."""

    what: str = Field(examples=["images"])
    done: float | None = Field(examples=[120])
    total: float | None = Field(examples=[1200])
    unit: str | None = Field(examples=["img"])
    rate: float | None = Field(description="A second.", examples=[41.5])
    left_s: float | None = Field(description="Seconds left, at that rate.", examples=[26.0])
    facts: dict[str, Any] = Field(description="What else there is.", examples=[{"epoch": 3, "epochs": 20, "loss": 0.2}])
    made: str


class JobShown(BaseModel):
    """A job."""

    id: str = Field(examples=["20260102-030405-678901-9f3a"])
    kind: str = Field(examples=["run"])
    title: str = Field(examples=["run: cluster.k"])
    author: str
    state: Literal["waiting", "running", "done", "failed", "stopped", "broken"]
    stopping: bool = Field(description="Whether it has been told to stop.")
    place: int | None = Field(description="In the line, of one that waits: 1 is next.")
    reason: str = Field(description="Why it is in this state; of one that is done, a remark.")
    made: str
    started: str | None
    ended: str | None
    exit: int | None = Field(description="The exit code; negative: the signal that killed it.")
    progress: Progress | None


class JobWhole(JobShown):
    """A job, with what befell it and what it said."""

    command: str = Field(description="What runs; folders by their names.", examples=["imagier run --into out"])
    events: list[Event]
    output: list[str] = Field(description=f"The last lines, {LINES} at most.")


class JobList(BaseModel):
    """All jobs."""

    watching: bool = Field(description="Whether this server looks after them; else another does, and this one reads.")
    jobs: list[JobShown] = Field(description="The newest first.")


def router(browser: Browser, jobs: Jobs) -> APIRouter:
    """The routes of a collection's jobs."""
    routes = APIRouter(prefix=f"{ROOT}/jobs", responses=REFUSALS)
    collection = browser.collection

    @contextmanager
    def told() -> Iterator[None]:
        """A job that is not there is 404, and no refusal says where anything lies."""
        try:
            yield
        except NoSuchJob as error:
            raise HTTPException(404, str(error)) from error
        except ImagierError as error:
            raise type(error)(jobs.pathless(str(error))) from error

    def shown(job: Job, line: list[str]) -> dict[str, Any]:
        names = [name for name in JobShown.model_fields if name not in ("stopping", "place", "progress")]
        return {name: getattr(job, name) for name in names} | {
            "reason": jobs.pathless(job.reason),
            "stopping": job.stopping is not None,
            "place": line.index(job.id) + 1 if job.id in line else None,
            "progress": jobs.progress(job.id),
        }

    def whole(job: Job) -> JobWhole:
        return JobWhole(
            **shown(job, [each.id for each in jobs.line()]),
            command=jobs.pathless(shlex.join(["imagier", *job.argv])),
            events=[Event(time=each.time, text=jobs.pathless(each.text)) for each in job.events],
            output=jobs.tail(job.id, LINES),
        )

    @routes.get("", response_model=JobList)
    def listed() -> JobList:
        """All jobs, the newest first."""
        with told():
            there = jobs.all()
            line = [each.id for each in jobs.line(there)]
            made = []
            for each in there:
                with suppress(NoSuchJob):  # removed just now
                    made.append(JobShown(**shown(each, line)))
            return JobList(watching=jobs.is_watching, jobs=made)

    @routes.get("/{job}", response_model=JobWhole)
    def one(job: Id) -> JobWhole:
        """A job, how far it is, what befell it and its last words."""
        with told():
            return whole(jobs.one(job))

    @routes.post("", response_model=JobWhole, status_code=201)
    def start(order: Order) -> JobWhole:
        """Put a job in line. What does not fit is refused now, and not when its turn comes."""
        with told():
            return whole(_order(order).start(jobs, order.author))

    @routes.post("/{job}/stop", response_model=JobWhole)
    def stop(job: Id) -> JobWhole:
        """Tell it to stop: what was done is kept. One that does not is ended after 20 seconds."""
        with told():
            return whole(jobs.stop(job))

    @routes.post("/{job}/resume", response_model=JobWhole)
    def resume(job: Id) -> JobWhole:
        """Put one that is over in line again: it goes on from where it was."""
        with told():
            return whole(jobs.resume(job))

    @routes.delete("/{job}", status_code=204)
    def remove(job: Id) -> None:
        """Forget one that is over; what it made stays."""
        with told():
            jobs.remove(job)

    def _order(asked: Order) -> orders.Order:
        given = asked.model_dump(exclude={"kind", "author"})
        match asked:
            case Run():
                return orders.run(collection, **given)
            case Train():
                return orders.train(collection, **given)
            case Classify():
                return orders.classify(collection, **given)
            case Organise():
                return orders.organise(collection, **given)
            case Undo():
                return orders.undo(collection)
            case Export():
                return orders.export(collection, jobs, **given)

    return routes
