"""What a trial puts images through: a preset with models put in their places, models alone, or what a collection does.

Steps over the table (maps, groups) are left out: a few images have none of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from imagier import presets
from imagier.collection import Collection
from imagier.models.model import CARD, Model, read_model
from imagier.pipeline import Named, Pipeline
from imagier.stages import find_stage
from imagier.stages.embed import CLASSICAL
from imagier.stages.upscale import LANCZOS
from imagier.types import BUILTIN, ModelError, SettingError

PLACES = {
    "denoise": ("denoise", "model"),
    "upscale": ("upscale", "model"),
    "detect": ("crop", "detector"),
    "inspect": ("inspect", "model"),
    "segment": ("segment", "model"),
    "embed": ("embed", "encoder"),
    "classify": ("classify", "model"),
}
"""Task -> the stage and setting that take such a model."""
ORDER = ("denoise", "upscale", "inspect", "segment", "crop", "measure", "embed", "classify")
"""Of stages. An inspector sees the whole image, which is what it has learnt from: so before the crop."""
ALONE = ("denoise", "upscale", "detect")
"""Tasks that change what later steps are handed: one model each, and in a preset none unless it has the step."""
NO_MODELS = (CLASSICAL, LANCZOS)
"""Names that stand for no model where one might."""
SEES = ("inspect", "segment")
"""Stages that find regions. The last one before a crop is the one whose regions are cut out."""


def pipeline_for(
    preset: str | None,
    models: Sequence[Model],
    collection: Collection | None = None,
    *,
    among: Iterable[Model] = (),
) -> list[dict[str, Any]]:
    """Steps as YAML would give them, those over the table left out.

    preset: by its name; None: steps made from the models alone; without those, the collection's own, or the default.
    models: each is put where its task says; a second of a task gets a step of its own, which bears the model's name.
    among: where the encoder that a head goes by is looked for, beside `models`.

    Raises SettingError for what cannot be, ModelError where a model that is needed is not there.
    """
    if preset is None and not models:
        own = collection.state.steps if collection is not None else ()
        steps = [Named(**each) for each in own] or list(Pipeline.of(None).steps)
        return _written(_of_rows(steps))
    models = _cutting_first(models)
    steps = _of_rows(presets.load(preset).steps) if preset else _skeleton(models)
    given: dict[str, Model] = {}
    for task in PLACES:
        for model in (each for each in models if each.card.task == task != "classify"):
            steps = _placed(steps, model, given, preset)
    claimed = set(given)
    for model in (each for each in models if each.card.task == "classify"):
        if model.card.head is not None:
            steps, column = _embedded(steps, model, [*models, *among], claimed)
            steps = _placed(steps, model, given, preset, embedding=column)
        else:
            steps = _placed(steps, model, given, preset)
    steps = _attributed(steps, given)
    for step in steps:
        if not step.left_out and (missing := lacks(step)):
            raise SettingError(f"the preset {preset} needs a model that can {missing}: name one beside it")
    return _written(steps)


def fitted(collection: Collection) -> Collection | None:
    """The collection that fitted the map and groups which new images can be placed in, if every step of it can."""
    if collection.state.like is not None:
        collection = Collection.open(collection.absolute(collection.state.like))
    if not collection.state.steps:
        return None
    steps = Pipeline(tuple(Named(**step) for step in collection.state.steps))
    tables = [each for each in steps.bind() if each.stage.over == "table"]
    for each in tables:
        receipt = collection.receipt(each.name)
        if each.step.place is None or receipt is None or not receipt.items:
            return None
    return collection if tables else None


def word(model: Model) -> str:
    """What a step calls a model by: one that ships by its name, another by its folder."""
    from imagier.models.store import built_in

    return model.folder.name if built_in().get(model.folder.name) == model.folder else str(model.folder)


def lacks(step: Named) -> str | None:
    """The task of the model that a step must be given before it can be made, if any."""
    for task, (stage, setting) in PLACES.items():
        if step.stage == stage:
            default = signature(find_stage(stage).make).parameters[setting].default
            if not step.settings.get(setting, default):
                return task
    return None


def needs(preset: str) -> dict[str, list[str]]:
    """Of a preset: `needs`, tasks for which a model must be named; `takes`, for which one may; `lacks`, models that it
    names and that are not on this machine."""
    told: dict[str, list[str]] = {"needs": [], "takes": [], "lacks": []}
    for step in _of_rows(presets.load(preset).steps):
        for task, (stage, setting) in PLACES.items():
            if step.stage != stage or step.settings.get("source") == "mask":
                continue
            if lacks(step) == task and step.unless_without is None:
                told["needs"].append(task)
            if task not in told["takes"]:
                told["takes"].append(task)
            named = step.settings.get(setting)
            if named and named not in NO_MODELS and not _here(named):
                told["lacks"].append(named)
    return told


def _here(named: str) -> bool:
    """Whether a model is on this machine."""
    from imagier.models import store

    places = (store.folder_of(named), Path(named))
    return named == BUILTIN or named in store.built_in() or any((each / CARD).is_file() for each in places)


def _of_rows(steps: Iterable[Named]) -> list[Named]:
    return [step for step in steps if find_stage(step.stage).over == "rows"]


def _written(steps: Iterable[Named]) -> list[dict[str, Any]]:
    there = Pipeline(tuple(steps)).present()
    return [
        {step.stage: dict(step.settings)} | ({} if step.name == step.stage else {"as": step.name}) for step in there
    ]


def _cuts(model: Model) -> bool:
    """Whether a segmenter finds one kind of thing, which can be cut out; another tells what is seen on an image."""
    from imagier.models.segmenting import classes

    return len(classes(model)) == 1


def _cutting_first(models: Sequence[Model]) -> list[Model]:
    return sorted(models, key=lambda each: each.card.task == "segment" and not _cuts(each))


def _skeleton(models: Sequence[Model]) -> list[Named]:
    """The steps for which there is a model, and those that come with them."""
    from imagier.models.segmenting import has_cores

    tasks = {each.card.task for each in models}
    stages: dict[str, dict[str, Any]] = {stage: {} for task, (stage, _) in PLACES.items() if task in tasks}
    cutter = next((each for each in models if each.card.task == "segment" and _cuts(each)), None)
    if cutter is not None:
        if "detect" in tasks:
            raise SettingError("a segmenter and a detector both say what is to be cut out: name one of them")
        several = has_cores(cutter)
        stages["segment"] = {"split": True} if several else {}
        stages["crop"] = {"source": "mask", "keep": "each" if several else "main"}
        stages["measure"] = {}
    elif "detect" in tasks:
        stages["crop"] = {"keep": "each"}
    if any(each.card.head is not None for each in models):
        stages.setdefault("embed", {})
    return [Named(stage, stages[stage], stage) for stage in ORDER if stage in stages]


def _placed(
    steps: list[Named], model: Model, given: dict[str, Model], preset: str | None, embedding: str | None = None
) -> list[Named]:
    """The steps with a model in the first place of its task that is free, or in a step of its own."""
    task = model.card.task
    stage, setting = PLACES[task]
    settings = {setting: word(model)} | ({"embedding": embedding} if embedding not in (None, "embedding") else {})
    fits = [step for step in steps if step.stage == stage and step.settings.get("source") != "mask"]
    tells = task == "segment" and not _cuts(model)  # it goes where what it finds is not cut out, if it can
    free = sorted((step for step in fits if step.name not in given), key=lambda step: (step.name != stage) != tells)
    if free:
        given[free[0].name] = model
        return [replace(s, settings={**s.settings, **settings}) if s is free[0] else s for s in steps]
    if task in ALONE:
        if fits:
            raise SettingError(f"two models are there to {task}: name one of them")
        raise SettingError(f"the preset {preset} has no step that takes {model.card.name!r}, which is there to {task}")
    made = Named(stage, settings, _name(model, steps))
    given[made.name] = model
    return _inserted(steps, made)


def _inserted(steps: list[Named], made: Named) -> list[Named]:
    """Where it hinders no other: what finds regions before all others that do, so that a crop still follows its own."""
    if made.stage in SEES and (others := [at for at, step in enumerate(steps) if step.stage in SEES]):
        return [*steps[: others[0]], made, *steps[others[0] :]]
    rank = ORDER.index(made.stage)
    at = max((at for at, step in enumerate(steps, 1) if _rank(step) <= rank), default=0)
    return [*steps[:at], made, *steps[at:]]


def _rank(step: Named) -> int:
    return ORDER.index(step.stage) if step.stage in ORDER else -1


def _name(model: Model, steps: Iterable[Named]) -> str:
    """A step's name that no other bears, made of the model's."""
    plain = re.sub(r"[^a-z0-9]+", "_", model.card.name.lower()).strip("_")
    plain = plain if re.match("[a-z]", plain) else f"model_{plain}".rstrip("_")
    taken = {step.name for step in steps} | set(ORDER)
    names = [plain, *(f"{plain}_{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _embedded(steps: list[Named], model: Model, among: Iterable[Model], claimed: set[str]) -> tuple[list[Named], str]:
    """The steps with one that makes the embedding which a head goes by, and the column of it.

    claimed: steps whose encoder somebody counts on already.
    """
    from imagier.models.store import built_in, folders

    head = model.card.head
    assert head is not None
    for step in steps:
        if step.stage == "embed" and head.sha256 in _keys(step):
            claimed.add(step.name)
            return steps, _column(step)
    here = [*among, *(read_model(folder) for folder in (*built_in().values(), *folders()))]
    found = next((each for each in here if each.card.task == "embed" and head.sha256 in each.keys), None)
    if found is None:
        raise ModelError(f"{model.card.name} goes by the embedding of {head.encoder}, which is not on this machine")
    for step in steps:
        if step.stage == "embed" and step.name not in claimed:
            claimed.add(step.name)
            settings = {**step.settings, "encoder": word(found)}
            return [replace(s, settings=settings) if s is step else s for s in steps], _column(step)
    made = Named("embed", {"encoder": word(found)}, "embed")
    if any(step.stage == "embed" for step in steps):
        made = replace(made, name=_name(found, steps))
    claimed.add(made.name)
    return _inserted(steps, made), _column(made)


def _keys(step: Named) -> tuple[str, ...]:
    """What an `embed` step's encoder is known by; of one that is no model, or is not here, nothing."""
    from imagier.models import store

    named = step.settings.get("encoder", BUILTIN)
    return () if named in NO_MODELS or not _here(named) else store.find(named, "embed").keys


def _column(step: Named) -> str:
    return "embedding" if step.name == "embed" else f"{step.name}_embedding"


def _attributed(steps: list[Named], given: Mapping[str, Model]) -> list[Named]:
    """What is measured of each region: the share of it that each mask of the whole image covers, by its columns' names.

    Those of steps that were given another model are its own.
    """
    from imagier.models.segmenting import classes
    from imagier.stages.segment import suffixes

    cut = next((at for at, step in enumerate(steps) if step.stage == "crop"), len(steps))
    seen = [step for step in steps[:cut] if step.stage == "segment" and step.name in given]
    beside = [step for step in seen if step is not next(s for s in reversed(steps[:cut]) if s.stage in SEES)]
    if not beside:
        return steps
    columns = [
        f"{'' if step.name == 'segment' else step.name + '_'}masks{suffix}"
        for step in beside
        for suffix in suffixes(classes(given[step.name]))
    ]

    def measured(step: Named) -> Named:
        if step.stage != "measure":
            return step
        old = step.settings.get("attributes") or []
        kept = [each for each in old if not any(each.startswith(f"{s.name}_masks") for s in beside)]
        return replace(step, settings={**step.settings, "attributes": [*kept, *columns]})

    return [measured(step) for step in steps]
