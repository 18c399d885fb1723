"""Orders: what a person who has no command line can have done to a collection, as the words of the command line.

Everything is checked here, before it stands in line, and every word is made here: of what is given, none becomes an
option, and none names a place on this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from imagier.types import AFile, ModelError, SettingError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from imagier.collection import Collection
    from imagier.models.model import Model
    from imagier.pipeline import Bound, Named, Pipeline
    from imagier.workflows.jobs import Job, Jobs

Way = Literal["head", "finetune", "scratch", "segmenter"]
How = Literal["copy", "hardlink", "symlink", "move"]
Format = Literal["json", "parquet", "csv", "coco", "masks", "overlays"]

MODELS = "models"
"""Folder of a collection: the models that were trained on it."""
EXPORTS = "exports"
ENDINGS = {"json": ".json", "parquet": ".parquet", "csv": ".csv", "coco": ".json", "masks": "", "overlays": ""}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SETTING = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
MODEL = re.compile(r"[A-Za-z0-9][\w:@+-]*([./][\w:@+-]+)*")
"""A model's name: no path, up or absolute."""
LONGEST = 10_000
"""Letters of a word of the command line."""
NOT_BY = ("path", "paths")
"""Columns that say where files lie: nothing is made by them."""


@dataclass(frozen=True)
class Order:
    """What is to be done."""

    kind: str
    title: str
    argv: tuple[str, ...]
    """The words after `imagier`; relative paths are of the job's folder."""
    id: str | None = None
    """Of the job, where a word names it."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """To be put into the job's folder."""

    def start(self, jobs: Jobs, author: str = "") -> Job:
        """Put it in line. Raises CollectionError where another process looks after the jobs."""
        return jobs.start(self.argv, title=self.title, kind=self.kind, author=author, id=self.id, files=self.files)


def run(
    collection: Collection, *, settings: Mapping[str, Any] | None = None, preset: str | None = None, report: bool = True
) -> Order:
    """Bring the collection up to date with its own sources, under other settings or another pipeline if one is named.

    settings: `{"cluster.k": 5}`. A model is named as it is listed, or is one that was trained on this collection.
    Raises SettingError, ModelError for what does not fit.
    """
    from imagier import presets

    given = dict(settings or {})
    if wrong := [name for name in given if not SETTING.fullmatch(name)]:
        raise SettingError(f"{wrong[0][:60]!r} is no setting: it is STEP.SETTING, such as cluster.method")
    if preset is None and given and collection.state.like is not None:
        raise SettingError("this collection is placed in the map of another: its settings are that one's")
    pipeline = _own(collection) if preset is None else presets.load(preset)
    stages = {step.name: step.stage for step in pipeline.steps}
    for path, value in given.items():
        step, _, setting = path.partition(".")
        if step in stages and _is_file(stages[step], setting):
            given[path] = _model(collection, path, value)
    pipeline.with_settings(given).bind()
    argv = ["run", "--into", str(collection.folder)]
    argv += [] if preset is None else ["--preset", preset]
    for path, value in given.items():
        argv += ["--set", _word(f"{path}={json.dumps(value, ensure_ascii=False, allow_nan=False)}")]
    argv += [] if report else ["--no-report"]
    told = ", ".join([*([f"preset {preset}"] if preset else []), *given])
    return Order("run", f"run: {told}" if told else "run", tuple(argv))


def train(
    collection: Collection, *, what: Way, name: str, labels: str | None = None, epochs: int | None = None
) -> Order:
    """Train a model on the collection's items, into its folder `models/NAME`.

    what: a classifier, as a head on the collection's embedding or as a network (finetune, scratch), by the column
    `labels`; or a segmenter. epochs: of a network; its config's unless given.
    Raises SettingError for what does not fit.
    """
    from imagier.workflows.train import enough

    if what not in get_args(Way):
        raise SettingError(nearest("kind of training", what, get_args(Way)))
    if not NAME.fullmatch(name):
        raise SettingError(f"name cannot be {name[:80]!r}: it takes letters, digits, - and _, 64 at most")
    into = collection.folder / MODELS / name
    if into.exists():
        raise SettingError(f"name cannot be {name!r}: there is a model of that name: take another")
    if (what == "segmenter") != (labels is None):
        raise SettingError(
            "labels must be given: the column that says what each item is" if labels is None
            else "labels do not go with a segmenter: leave them out"
        )  # fmt: skip
    if what == "head" and epochs is not None:
        raise SettingError("epochs do not go with a head, which is made in one go: leave them out")
    if epochs is not None and not 1 <= epochs <= 10_000:
        raise SettingError(f"epochs cannot be {epochs}: it takes 1 to 10000")
    if labels is not None:
        given = collection.read([_column(collection, labels)])[labels].drop_null().to_pylist()
        enough([str(each) for each in given if each != ""])  # now, and not when its turn has come
    argv = ["train", "segmenter" if labels is None else "classifier", "--collection", str(collection.folder)]
    if labels is not None:
        argv += [f"--labels={_column(collection, labels)}"]
    argv += ["--config", what] if what in ("finetune", "scratch") else []
    argv += ["--set", f"model={_encoder(collection)}"] if what == "head" else []
    argv += [] if epochs is None else ["--set", f"epochs={epochs}"]
    by = "" if labels is None else f" by {labels}"
    return Order("train", f"train {what} {name}{by}", (*argv, "--into", str(into)))


def classify(collection: Collection, *, model: str, report: bool = True) -> Order:
    """Tell what the items are by a classifier, one trained on this collection or one that is listed.

    The collection's pipeline gets a step `classify`, or its first one that model. Raises SettingError, ModelError.
    """
    import yaml

    from imagier.models import store
    from imagier.pipeline import Named, Pipeline

    if collection.state.like is not None:
        raise SettingError("this collection is placed in the map of another: its steps are that one's")
    named = _model(collection, "model", model)
    found = store.find(named, "classify")
    pipeline = _own(collection)
    bound = pipeline.bind()
    settings: dict[str, Any] = {"model": named}
    if found.card.head is not None:
        settings |= _embedding(found, bound)
    there = next((step for step in pipeline.steps if step.stage == "classify"), None)
    steps = list(pipeline.steps)
    if there is not None:
        steps[steps.index(there)] = replace(there, settings=settings)
    else:
        rows = [step.name for step in bound if step.stage.over == "rows"]
        last = max((at for at, step in enumerate(steps) if step.name in rows), default=-1)
        steps.insert(last + 1, Named("classify", settings, "classify"))
    changed = Pipeline(tuple(steps))
    changed.bind()
    text = yaml.safe_dump([_written(step) for step in changed.steps], sort_keys=False, allow_unicode=True)
    argv = ["run", "--into", str(collection.folder), "--pipeline", "pipeline.yaml"]
    argv += [] if report else ["--no-report"]
    return Order("classify", f"classify by {model}", tuple(argv), files={"pipeline.yaml": text.encode()})


def organise(collection: Collection, *, by: str, how: How = "copy", confirm: bool = False) -> Order:
    """Lay the collection out in folders, in its own folder `organised`.

    by: a column, or several with commas between. how: move touches the originals, and so needs `confirm`.
    Raises SettingError for what does not fit.
    """
    from imagier.workflows._layout import columns_of

    if how not in get_args(How):
        raise SettingError(nearest("way to organise", how, get_args(How)))
    if how == "move" and not confirm:
        raise SettingError("move takes the originals from where they are: say so with confirm, or copy")
    names = columns_of(by, [name for name in collection.columns if name not in NOT_BY])
    argv = ("organise", str(collection.folder), f"--by={','.join(names)}", "--how", how, "--apply")
    return Order("organise", f"organise by {', '.join(names)} ({how})", argv)


def undo(collection: Collection) -> Order:
    """Take back all that was organised. Raises SettingError where nothing was."""
    if not (collection.folder / "organise" / "manifest.jsonl").is_file():
        raise SettingError("nothing was organised: there is nothing to take back")
    return Order("undo", "take back what was organised", ("organise", str(collection.folder), "--undo"))


def export(collection: Collection, jobs: Jobs, *, to: Format) -> Order:
    """Write the collection in another format, into its folder `exports/ID` with the job's id. Raises SettingError."""
    if to not in ENDINGS:
        raise SettingError(nearest("format", to, ENDINGS))
    id = jobs.fresh()
    place: Path = collection.folder / EXPORTS / id / f"{to if to in ('coco', 'masks', 'overlays') else 'items'}"
    file = place.with_name(place.name + ENDINGS[to])
    return Order("export", f"export to {to}", ("export", str(collection.folder), str(file), "--to", to), id=id)


# ---------------------------------------------------------------- checks


def _own(collection: Collection) -> Pipeline:
    """The collection's pipeline; the default one where it has none yet."""
    from imagier.pipeline import Named, Pipeline

    steps = tuple(Named(**step) for step in collection.state.steps)
    return Pipeline(steps) if steps else Pipeline.of(None)


def _is_file(stage: str, setting: str) -> bool:
    """Whether a setting of a stage takes a model's name or a path."""
    from imagier.stages import find_stage

    hints = get_type_hints(find_stage(stage).make, include_extras=True)
    return setting in hints and AFile in get_args(hints[setting])


def _model(collection: Collection, setting: str, name: Any) -> str:
    """A model by name: the folder of one that was trained on the collection, else the name. Raises SettingError."""
    from imagier.models.model import CARD
    from imagier.models.store import is_path

    if not isinstance(name, str) or (name and not MODEL.fullmatch(name)) or len(name) > 200:
        raise SettingError(f"{setting} cannot be {str(name)[:80]!r}: it takes the name of a model")
    own = collection.folder / MODELS / name
    if NAME.fullmatch(name) and (own / CARD).is_file():
        return str(own)
    if name and is_path(name):
        raise SettingError(f"{setting} cannot be {name!r}: it takes the name of a model, and no path")
    return name


def _encoder(collection: Collection) -> str:
    """The network whose vectors the collection has. Raises SettingError where no network made them."""
    for step in _own(collection).bind():
        if step.stage.name == "embed" and step.step.weights:
            return str(step.settings["encoder"])
    raise SettingError(
        "a head goes by the vectors of a network, and this collection has none: run with embed.encoder=builtin first"
    )


def _embedding(head: Model, bound: list[Bound]) -> dict[str, Any]:
    """Which column of vectors a head reads, where it is not the one that it reads by itself. Raises ModelError."""
    assert head.card.head is not None
    for step in bound:
        if step.stage.name == "embed" and head.card.head.sha256 in step.step.weights:
            return {} if not step.prefix else {"embedding": f"{step.prefix}embedding"}
    raise ModelError(
        f"{head.card.name} goes by another encoder than this collection's steps have: train it on this collection"
    )


def _column(collection: Collection, name: str) -> str:
    known = [each for each in collection.columns if each not in NOT_BY]
    if name not in known:
        raise SettingError(nearest("column", name, known))
    return name


def _word(text: str) -> str:
    if len(text) > LONGEST or "\0" in text:
        raise SettingError(f"{text[:60]!r}… is too long: {LONGEST} letters at most")
    return text


def _written(step: Named) -> dict[str, Any]:
    """A step as a pipeline file has it."""
    made: dict[str, Any] = {step.stage: dict(step.settings)}
    if step.name != step.stage:
        made["as"] = step.name
    return made if step.unless_without is None else made | {"unless_without": step.unless_without}
