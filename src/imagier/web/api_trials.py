"""REST on trials: one's own images through a preset or models, and nothing of them left afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, HTTPException, Query, Response, UploadFile
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from imagier.models import about
from imagier.types import CollectionError, ImagierError
from imagier.web.api import QUEUE, REFUSALS, ROOT, Id, Known, decoding, in_turn, picture_answer
from imagier.web.api_pictures import Layer
from imagier.workflows import pictures
from imagier.workflows.browse import LONGEST, SIDE, Browser
from imagier.workflows.trial import Busy, NoSuchTrial, Trial, Trials, archive, keep, result

PIECE = 2**20
MOST_MODELS = 20
_pack = threading.Semaphore(1), threading.BoundedSemaphore(QUEUE)
"""Archives: so many are made at once, and so many with those that wait."""

TrialId = Annotated[str, InPath(description="A trial's id.", max_length=100, examples=["9c1f"])]
Mask = Annotated[str, InPath(max_length=LONGEST, description="A column of masks.", examples=["masks"])]
Images = Annotated[list[UploadFile], File(description="Images of any format, or ZIP archives of them.")]
Preset = Annotated[
    str | None,
    Form(max_length=LONGEST, description="One of /models; without it, what the models make up.", examples=["cells"]),
]
Chosen = Annotated[
    list[str] | None,
    Form(
        max_length=MOST_MODELS,
        description="Of /models, by name. Without preset and model: as the collection's.",
        examples=[["nuclei"]],
    ),
]


class Progress(BaseModel):
    """How far a trial is."""

    done: int = Field(description="Files that have an outcome.", examples=[3])
    total: int = Field(examples=[5])
    rate: float | None = Field(description="Files a second.", examples=[1.5])
    left: float | None = Field(description="Seconds, by that.", examples=[1.3])


class Image(BaseModel):
    """What came of one file."""

    name: str = Field(description="As it was sent, without folders.", examples=["lesion.jpg"])
    outcome: Literal["ok", "failed"]
    reason: str | None = Field(description="Why it failed.", examples=["not an image (no known signature)"])
    items: list[dict[str, Any]] = Field(
        description="The image, and the regions found in it: all columns but vectors; `masks`: those it has.",
        examples=[[{"id": "3f2a", "label": "nv", "confidence": 0.93, "area_px2": 310.0, "masks": ["mask"]}]],
    )


class Result(BaseModel):
    """What came of a trial."""

    images: list[Image]
    notice: str = Field(description="What must stand beside every result.", examples=["Not a diagnosis."])


class Told(BaseModel):
    """A trial."""

    id: str = Field(examples=["9c1f"])
    state: Literal["waiting", "running", "done", "failed", "removed"]
    reason: str | None = Field(default=None, description="Why it failed.")
    progress: Progress
    result: Result | None = Field(default=None, description="Once it is done.")


class Kept(BaseModel):
    """Images that are the collection's now."""

    job: str = Field(description="Of the run that takes them in.", examples=["12"])
    folder: str = Field(description="Where they lie, in the collection's folder.", examples=["added/2026-01-02-9c1f"])


class PresetTold(BaseModel):
    """A preset."""

    name: str = Field(examples=["lesions"])
    what: str = Field(examples=["photographs of the skin, one lesion each."])
    needs: list[str] = Field(description="Tasks for which a model must be named.", examples=[["segment"]])
    takes: list[str] = Field(description="Tasks for which one may be.", examples=[["segment", "classify"]])
    lacks: list[str] = Field(description="Models that it names and that are not on this machine.", examples=[[]])


class ModelTold(BaseModel):
    """A model."""

    name: str = Field(examples=["nuclei"])
    task: str = Field(examples=["segment"])
    labels: list[str] = Field(examples=[["nucleus"]])
    titles: dict[str, str] = Field(description="Of labels, for a person.", examples=[{"nv": "Melanocytic nevus"}])
    licence: str = Field(examples=["Apache-2.0"])
    notice: str = Field(description="What must stand beside what it says.", examples=[""])


class Choices(BaseModel):
    """What a trial can be made of."""

    presets: list[PresetTold]
    models: list[ModelTold]


def router(browser: Browser, trials: Trials, *, start: Callable[[Sequence[str]], str]) -> APIRouter:
    """The routes of trials. start: starts the command of these words as a job, and gives its id."""
    routes = APIRouter(prefix=ROOT, responses=REFUSALS)
    collection = browser.collection

    @routes.get("/models", response_model=Choices)
    def models() -> Choices:
        """The presets and models that can be named."""
        told = []
        for name, model in trials.models().items():
            card, texts = model.card, about.of_model(model)
            said = texts.labels if texts is not None else {}
            told.append(
                ModelTold(
                    name=name,
                    task=card.task,
                    labels=list(card.labels),
                    titles={label: said[label].title for label in card.labels if label in said and said[label].title},
                    licence=card.licence,
                    notice=texts.notice if texts is not None else "",
                )
            )
        return Choices(presets=[PresetTold(**each) for each in trials.presets()], models=told)

    @routes.post("/trials", response_model=Told, status_code=202)
    def put(image: Images, preset: Preset = None, model: Chosen = None) -> Told:
        """Put images through a preset or models; what comes of it is asked for by its id."""
        return _told(_put(trials, image, preset, model))

    @routes.get("/trials/{trial}", response_model=Told)
    def get(trial: TrialId) -> Told:
        """How far it is, and what came of it."""
        with _there(trials, trial) as made:
            return _told(made)

    @routes.delete("/trials/{trial}", status_code=204)
    def remove(trial: TrialId) -> None:
        """Let go of it and of all that was made of it. Otherwise it goes an hour after it ended."""
        trials.remove(trial)

    @routes.get(
        "/trials/{trial}/archive", response_class=Response, responses={200: {"content": {"application/zip": {}}}}
    )
    def packed(trial: TrialId) -> StreamingResponse:
        """A ZIP: result.json, items.csv, masks/KIND/NAME.png, overlays/NAME.png."""
        with in_turn(_pack), _there(trials, trial) as made:
            path = archive(made)
            file = path.open("rb")  # it can be read to its end though the trial is removed

        def pieces() -> Iterator[bytes]:
            with file:
                while piece := file.read(PIECE):
                    yield piece

        headers = {
            "content-length": str(os.fstat(file.fileno()).st_size),
            "content-disposition": 'attachment; filename="trial.zip"',
            "cache-control": "no-store",
        }
        return StreamingResponse(pieces(), media_type="application/zip", headers=headers)

    @routes.post("/trials/{trial}/keep", response_model=Kept, status_code=202)
    def kept(trial: TrialId) -> Kept:
        """Copy the images into the collection's own folder, and start a run that takes them in."""
        with _there(trials, trial) as made:
            job, folder = keep(made, collection, start)
        return Kept(job=job, folder=folder)

    @routes.get("/trials/{trial}/items/{item}", response_model=dict[str, Any])
    def item(trial: TrialId, item: Id) -> dict[str, Any]:
        """All that is known of an item, but vectors and pictures."""
        with _there(trials, trial) as made:
            return made.browser.item(item)

    @routes.get(
        "/trials/{trial}/items/{item}/thumbnail",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    def thumbnail(trial: TrialId, item: Id, if_none_match: Known = "") -> Response:
        """A small picture of it."""
        with _there(trials, trial) as made:
            return picture_answer(made.browser.thumbnail(item), "image/jpeg", if_none_match)

    @routes.get(
        "/trials/{trial}/items/{item}/image", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}}
    )
    def image(
        trial: TrialId, item: Id, side: Annotated[int, Query(ge=1, le=SIDE)] = 1024, if_none_match: Known = ""
    ) -> Response:
        """The item from its own file, in 8 bits, at most so many pixels a side."""
        with in_turn(decoding), _there(trials, trial) as made:
            return picture_answer(made.browser.picture(item, side), "image/jpeg", if_none_match)

    @routes.get(
        "/trials/{trial}/items/{item}/masks/{column}",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def mask(trial: TrialId, item: Id, column: Mask, if_none_match: Known = "") -> Response:
        """A mask or label image of it."""
        with _there(trials, trial) as made:
            return picture_answer(made.browser.mask(item, column), "image/png", if_none_match)

    @routes.get("/trials/{trial}/items/{item}/layers", response_model=list[Layer])
    def layers(trial: TrialId, item: Id) -> list[Layer]:
        """What can be laid over an item's picture."""
        with _there(trials, trial) as made:
            return [Layer(**asdict(each)) for each in pictures.layers(made.browser, item)]

    @routes.get(
        "/trials/{trial}/items/{item}/layers/{column}",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def layer(
        trial: TrialId,
        item: Id,
        column: Mask,
        side: Annotated[int, Query(ge=1, le=SIDE)] = 1024,
        if_none_match: Known = "",
    ) -> Response:
        """A mask to be laid over the item's picture of that side: nothing where there is nothing."""
        with in_turn(decoding), _there(trials, trial) as made:
            return picture_answer(pictures.layer(made.browser, item, column, side), "image/png", if_none_match)

    @routes.post("/predict", response_model=Result)
    def predict(image: Images, preset: Preset = None, model: Chosen = None) -> Result:
        """Put images through a preset or models, and wait for what comes of it. Nothing is kept."""
        trial = _put(trials, image, preset, model)
        try:
            trial.wait()
            if trial.state == "failed":
                raise ImagierError(trial.reason)
            return Result(**result(trial))
        finally:
            trials.discard(trial)

    return routes


def _put(trials: Trials, sent: list[UploadFile], preset: str | None, models: list[str] | None) -> Trial:
    """In the line; a form's field that was left empty names nothing."""
    try:
        chosen = [each for each in models or () if each]
        return trials.put([(each.filename or "", each.file) for each in sent], preset=preset or None, models=chosen)
    except Busy as error:
        raise HTTPException(503, str(error), {"retry-after": "5"}) from error


def _told(trial: Trial) -> Told:
    state, told = trial.state, None
    if state == "done":
        told = Result(**result(trial))
    return Told(id=trial.id, state=state, reason=trial.reason, progress=Progress(**trial.progress()), result=told)


@contextmanager
def _there(trials: Trials, ident: str) -> Iterator[Trial]:
    """A trial to read. What is removed meanwhile was not there."""
    trial = trials.get(ident)
    try:
        yield trial
    except (OSError, CollectionError) as error:
        if trial.state == "removed":
            raise NoSuchTrial("the trial has been removed") from error
        raise
