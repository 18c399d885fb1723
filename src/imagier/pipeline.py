"""Pipeline: an ordered list of named steps, written as YAML or Python, checked and bound before any work starts.

    - embed: {encoder: builtin}
    - reduce: {method: pca}
      as: pca
    - cluster: {on: pca_components}

A step is `{stage: settings}`, or the stage's name alone; `as` gives it a name of its own, which its columns bear as a
prefix. `unless_without: model` leaves it out until that setting is given, and with it what others ask of its columns.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa

from imagier.collection import DERIVED, ITEMS
from imagier.stages import find_stage
from imagier.types import AFile, ModelError, SettingError, Stage, Step, nearest

INGEST = 3
"""Raised when what the decoder, the thumbnail or the perceptual hash give changes: all images are then read again."""

IMAGE_COLUMNS = ("id", "file", "page", "width", "height", "depth", "black", "white", "pixel_size_um", "image")
"""What a row step can read before any step has run."""

PASSED = ("image", "black", "white", "regions", "parent", "box")
"""What a row step can hand on to later ones without its being kept."""

DEFAULT = """
- embed: {encoder: builtin}
- reduce: {method: pca}
  as: pca
- reduce: {method: umap, on: pca_components}
- cluster: {method: kmeans, on: pca_components}
- duplicates
"""


@dataclass(frozen=True)
class Named:
    """A step as it is written: which stage, with which settings, under which name."""

    stage: str
    settings: Mapping[str, Any]
    name: str
    unless_without: str | None = None
    """A setting without which the step is left out."""

    @property
    def left_out(self) -> bool:
        """Whether it waits for a setting."""
        return self.unless_without is not None and not self.settings.get(self.unless_without)

    @property
    def written(self) -> dict[str, Any]:
        """The step in the words of a pipeline file, its name always given."""
        made: dict[str, Any] = {"stage": self.stage, "settings": dict(self.settings), "name": self.name}
        return made if self.unless_without is None else made | {"unless_without": self.unless_without}


@dataclass(frozen=True)
class Bound:
    """A step whose settings were found good, with its key."""

    name: str
    stage: Stage
    settings: dict[str, Any]
    """All settings, defaults filled in."""
    step: Step
    key: str

    @property
    def prefix(self) -> str:
        """What stands before the step's own column names in the collection."""
        return "" if self.name == self.stage.name else f"{self.name}_"

    @property
    def writes(self) -> pa.Schema:
        """The columns it keeps, under the names they have in the collection."""
        return pa.schema([each.with_name(self.prefix + each.name) for each in self.step.writes])


@dataclass(frozen=True)
class Pipeline:
    """Steps in order."""

    steps: tuple[Named, ...]

    @classmethod
    def of(cls, source: Pipeline | str | os.PathLike[str] | Sequence[Any] | None) -> Pipeline:
        """A pipeline from a YAML file's path, from a list as YAML would give it; None or "default": the default one.

        Raises SettingError for what is no pipeline.
        """
        if isinstance(source, Pipeline):
            return source
        if source is None or source == "default":
            return cls._parse(_yaml(DEFAULT, "the default pipeline"), "the default pipeline")
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(f"the pipeline {path} cannot be read: {error}") from error
            return cls._parse(_yaml(text, str(path)), str(path))
        return cls._parse(list(source) if isinstance(source, list | tuple) else source, "the pipeline")

    @classmethod
    def _parse(cls, raw: Any, where: str) -> Pipeline:
        if not isinstance(raw, list) or not raw:
            raise SettingError(f"{where} must be a list of steps, such as '- embed: {{encoder: builtin}}'")
        return cls(tuple(_parse_step(entry, f"{where}, step {at}") for at, entry in enumerate(raw, 1)))

    def with_settings(self, settings: Mapping[str, Any]) -> Pipeline:
        """The pipeline with `{"cluster.method": "dbscan"}` put in place. Raises SettingError for a step not in it."""
        steps = {step.name: step for step in self.steps}
        for path, value in settings.items():
            name, _, setting = path.partition(".")
            if not setting:
                raise SettingError(f"{path!r} is no setting: write STEP.SETTING=VALUE, such as cluster.method=dbscan")
            if name not in steps:
                raise SettingError(nearest("step", name, steps))
            steps[name] = replace(steps[name], settings={**steps[name].settings, setting: value})
        for name in {path.partition(".")[0] for path in settings}:
            if steps[name].left_out:
                waits = f"{name}.{steps[name].unless_without}"
                raise SettingError(f"{name} is left out until {waits} is given: give it as well, --set {waits}=…")
        return Pipeline(tuple(steps[step.name] for step in self.steps))

    def present(self) -> tuple[Named, ...]:
        """The steps that are not left out; lists of columns in their settings name none of those that are."""
        if not any(step.left_out for step in self.steps):
            return self.steps
        by_length = sorted(self.steps, key=lambda step: -len(step.name))

        def there(value: Any) -> bool:
            maker = next((s for s in by_length if isinstance(value, str) and value.startswith(f"{s.name}_")), None)
            return maker is None or not maker.left_out

        def kept(value: Any) -> Any:
            return [each for each in value if there(each)] if isinstance(value, list) else value

        return tuple(
            replace(step, settings={name: kept(value) for name, value in step.settings.items()})
            for step in self.steps
            if not step.left_out
        )

    def bind(self) -> list[Bound]:
        """Make every step, and check that each finds the columns it reads and none writes another's.

        Raises SettingError before any work starts.
        """
        bound: list[Bound] = []
        makers: dict[str, list[str]] = {name: ["ingest", str(INGEST)] for name in (*IMAGE_COLUMNS, *ITEMS.names)}
        makers |= {name: [] for name in DERIVED.names}
        kept: dict[str, str] = dict.fromkeys((*ITEMS.names, *DERIVED.names), "every collection")
        weights: dict[str, tuple[str, ...]] = {}
        seen_table = False
        for named, stage, settings, step in self._made():
            if named.name in {each.name for each in bound}:
                raise SettingError(f"two steps are named {named.name!r}: give one of them a name by 'as:'")
            if stage.over == "rows" and seen_table:
                raise SettingError(f"{named.name} works image by image: put it before the first step over the table")
            seen_table = seen_table or stage.over == "table"
            readable = {n for n in makers if stage.over == "rows" or n != "image"}
            for column in step.reads:
                if column not in readable:
                    raise SettingError(f"{named.name} reads a column that no step before it makes: "
                                       + nearest("column", column, readable))  # fmt: skip
            for column, sha256 in step.needs.items():
                if sha256 not in weights.get(column, ()):
                    raise SettingError(
                        f"{named.name} reads {column!r} and needs it made by its own model, but "
                        f"{kept.get(column, 'no step')} makes it with another: name the same model in both"
                    )
            key = key_of_step(stage, settings, step, [makers[column] for column in step.reads])
            made = Bound(named.name, stage, settings, step, key)
            for column in made.writes.names:
                if column in kept:
                    raise SettingError(
                        f"{named.name} and {kept[column]} both write {column!r}: give {named.name} a name by 'as:'"
                    )
                kept[column] = named.name
                makers[column] = [key]
                weights[column] = step.weights
            for column in step.passes:
                makers[column] = [key]
            bound.append(made)
        return bound

    def written(self, bound: Iterable[Bound]) -> tuple[dict[str, Any], ...]:
        """All steps, also those that are left out, in the words of a pipeline file: paths as `bound` has them."""
        made = {each.name: each.settings for each in bound}

        def settings(step: Named) -> dict[str, Any]:
            known = made.get(step.name, {})
            return {name: known[name] if isinstance(value, str) and name in known else value
                    for name, value in step.settings.items()}  # fmt: skip

        return tuple(replace(step, settings=settings(step)).written for step in self.steps)

    def _made(self) -> list[tuple[Named, Stage, dict[str, Any], Step]]:
        """Each step with its settings checked and bound. Raises ModelError for all models that are missing, at once."""
        made, missing = [], []
        for named in self.present():
            stage = find_stage(named.stage)
            settings = check_settings(stage, named.settings, named.name)
            try:
                made.append((named, stage, settings, stage.make(**settings)))
            except ModelError as error:
                missing.append(error)
        if len(missing) > 1:
            told = dict.fromkeys(str(error) for error in missing)
            raise ModelError("\n  ".join([f"{len(missing)} models cannot be used:", *told]))
        if missing:
            raise missing[0]
        return made


def check_settings(stage: Stage, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All settings of a stage: those given, checked against the signature of its `make`, and the defaults.

    Raises SettingError, naming the nearest setting, for one that does not exist or does not fit its type.
    """
    import msgspec

    hints = get_type_hints(stage.make, include_extras=True)
    parameters = inspect.signature(stage.make).parameters
    if unknown := [key for key in given if key not in parameters]:
        raise SettingError(f"{name}: " + nearest("setting", unknown[0], parameters))
    settings: dict[str, Any] = {}
    for key, parameter in parameters.items():
        value = given.get(key, parameter.default)
        if value is inspect.Parameter.empty:
            raise SettingError(f"{name}.{key} must be given")
        try:
            settings[key] = msgspec.convert(value, hints[key]) if key in given else value
        except msgspec.ValidationError as error:
            raise SettingError(f"{name}.{key} cannot be {value!r}: it takes {_said(hints[key])}") from error
        if AFile in get_args(hints[key]) and _is_file(settings[key]):
            settings[key] = os.path.abspath(settings[key])
        if not all(map(math.isfinite, _floats(value))):
            raise SettingError(f"{name}.{key} cannot be {value!r}: it takes finite numbers")
    return settings


def _said(hint: Any) -> str:
    """A type, as a person would say it: the choices, or a kind of value."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list of {_said(get_args(hint)[0])}s"
    if get_args(hint):
        return " or ".join(_said(each) for each in get_args(hint) if each is not type(None))
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))


def _floats(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [number for each in value for number in _floats(each)]
    return [value] if isinstance(value, float) else []


def _is_file(value: str) -> bool:
    """Whether a setting is the path of a file, or of a Model folder."""
    from imagier.models.store import is_path

    return bool(value) and is_path(value)


def parse_setting(text: str) -> tuple[str, Any]:
    """`"cluster.k=5"` -> ("cluster.k", 5); the value is read as YAML. Raises SettingError without a `=`."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise SettingError(f"{text!r} is no setting: write STEP.SETTING=VALUE, such as cluster.method=dbscan")
    return path.strip(), _yaml(value, text)


def key_of_step(stage: Stage, settings: Mapping[str, Any], step: Step, made_by: Sequence[Sequence[str]]) -> str:
    """The key of a step: all that its result depends on but the items. `made_by`: the maker of each column."""
    hints = get_type_hints(stage.make, include_extras=True)
    files = {name for name, value in settings.items() if AFile in get_args(hints[name]) and _is_file(value)}
    told = {name: "a file" if name in files else value for name, value in settings.items()}
    return _digest([stage.name, stage.version, told, step.weights, step.precision, made_by])


def key_of_pass(rows: Iterable[Bound]) -> str:
    """The key of a pass: its row steps, by name and key."""
    return _digest(["pass", INGEST, [[each.name, each.key] for each in rows]])


def key_of_table(bound: Bound, ids: Iterable[str], like: str | None) -> str:
    """The key of a table step's result: the step, the items it was handed, and the fitted one it places them in."""
    digest = hashlib.sha256()
    for item in ids:
        digest.update(item.encode() + b"\n")
    return _digest([bound.key, digest.hexdigest(), like])


def _parse_step(entry: Any, where: str) -> Named:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise SettingError(f"{where}: a step is a stage's name with its settings, such as 'cluster: {{k: 5}}'")
    rest = dict(entry)
    name, without = rest.pop("as", None), rest.pop("unless_without", None)
    if len(rest) != 1:
        raise SettingError(
            f"{where}: one stage a step (and 'as', 'unless_without'), but this one has {', '.join(rest) or 'none'}"
        )
    ((stage, settings),) = rest.items()
    find_stage(stage)
    if not isinstance(settings, dict | None):
        raise SettingError(f"{where}: the settings of {stage} must be a mapping, such as {{seed: 1}}")
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]*", name)):
        raise SettingError(f"{where}: 'as' takes a name of small letters, digits and '_', not {name!r}")
    if without is not None and str(without) not in (known := inspect.signature(find_stage(stage).make).parameters):
        raise SettingError(f"{where}: unless_without: {nearest('setting', str(without), known)}")
    return Named(stage, dict(settings or {}), name or stage, without)


def _yaml(text: str, where: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """As YAML 1.2 has it: `on`, `off`, `yes` and `no` are words, 1e-3 is a number."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in each if not (tag.endswith(":bool") and first not in "tTfF")]
        for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise SettingError(f"{where} is not valid YAML: {error}") from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
