"""run: sources in, a collection out that is embedded, mapped, clustered and judged. Does what no key covers yet.

First the files: what was added, changed, moved or removed since the last run is found by size, time and content hash,
and one pass goes over those that need pixels. Then the table steps, each only if its receipt's key does not cover it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagier import sources as finding
from imagier._progress import say
from imagier.collection import DERIVED, ITEMS, Collection
from imagier.pipeline import Bound, Named, Pipeline
from imagier.types import CollectionError, SettingError, SourceError
from imagier.workflows._files import Files
from imagier.workflows._tables import receipt_of, table_step, whole
from imagier.workflows.summary import Summary, last_run


def run(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    into: str | os.PathLike[str],
    pipeline: Pipeline | str | os.PathLike[str] | Sequence[Any] | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    like: str | os.PathLike[str] | None = None,
    forget: Sequence[str | os.PathLike[str]] = (),
    json: str | os.PathLike[str] | None = None,
    report: bool = True,
    threads: int | None = None,
    progress: bool = False,
) -> Collection:
    """Turn folders, files and globs of images into the collection in `into`, or bring that up to date.

    sources: none means those that the collection knows. A source named once stays until it is in `forget`.
    pipeline: a YAML file, a list of steps as YAML would give it, or "default"; None means the collection's own, and
        the default one where it has none yet.
    preset: a ready pipeline by its name, in place of `pipeline`: hybrid, parts, photos.
    settings: `{"cluster.method": "dbscan"}`, put over the pipeline's, and kept with it.
    like: a collection whose fitted map and groups the new items are placed in; its pipeline is used. A collection that
        was placed so stays placed until a pipeline is named.
    json: where to write the result for 3-D viewers, beside what `report` writes.
    report: write plots and report.html into the collection's folder, unless they are there and nothing changed.
    threads: workers of the pass; the number of cores unless given.

    Raises SettingError, SourceError or CollectionError, each before any work that it concerns. A file that fails does
    not raise: it is in `collection.files()` with its reason.
    """
    begun = time.perf_counter()
    named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if threads is not None and threads < 1:
        raise SettingError(f"threads cannot be {threads}: it takes 1 or more")
    here = Collection.open(into) if Collection(Path(into).resolve()).exists() else None
    if not named and here is None:
        raise SourceError(f"no images named, and {into} is no collection yet: imagier run IMAGES --into {into}")
    if like is None and pipeline is None and preset is None and here is not None and here.state.like is not None:
        like = here.absolute(here.state.like)
    fitted = Collection.open(like) if like is not None else None
    plan = _plan(here, _named(pipeline, preset), settings, fitted)
    bound = plan.bind()
    roots = [finding.check(source) for source in named]
    gone = {os.path.abspath(source) for source in forget}
    collection = here or Collection.create(into)
    if fitted is not None and fitted.folder == collection.folder:
        raise SettingError("--like and --into name the same collection: new items go into one of their own")
    summary = Summary(steps=dict.fromkeys((step.name for step in bound), 0))
    with collection.writing():
        files = Files(collection, bound, summary, threads=threads or os.cpu_count() or 1)
        before = last_run(collection)
        place = None if fitted is None else collection.relative(fitted.folder)
        state = replace(collection.state, steps=plan.written(bound), like=place)
        warmed = files.tables if fitted is None else []
        warming = threading.Thread(target=_warm, args=(warmed,), name="warm", daemon=True)
        files.update(files.roots(roots, gone), gone, state, progress=progress, begin=warming.start)
        if warming.ident is not None:
            warming.join()  # two threads that import the same package may each find the other's half of it
        _receipts(collection, files, summary)
        _drop_stale(collection, bound)
        for step in files.tables:
            table_step(collection, step, fitted, summary, progress)
        if any(summary.steps.values()) or summary.removed:
            collection.tidy()
        summary.published = before.published
        if report:
            _publish_anew(collection, summary, progress)
        summary.seconds["whole"] = time.perf_counter() - begun
        summary.save(collection)
    if json is not None:
        from imagier.outputs.tables import write_result

        write_result(collection, Path(json))
    return collection


def publish(collection: Collection) -> list[Path]:
    """Write plots, report.html and map.html into the collection's folder; the paths written.

    Where there are several clusterings they are compared first (compare.json).
    """
    from imagier.outputs.map3d import write_map
    from imagier.outputs.plots import write_plots
    from imagier.outputs.report import write_report
    from imagier.workflows.compare import refresh

    refresh(collection)
    return [*write_plots(collection, collection.folder / "plots"), write_report(collection), write_map(collection)]


def _publish_anew(collection: Collection, summary: Summary, progress: bool) -> None:
    """Publish, unless what was published last is there and shows the collection as it is."""
    if summary.published == collection.version and (collection.folder / "report.html").is_file():
        return
    say("plots and report", progress)
    start = time.perf_counter()
    publish(collection)
    summary.published, summary.seconds["report"] = collection.version, time.perf_counter() - start


def _named(pipeline: Any, preset: str | None) -> Any:
    """The pipeline that was named, if any."""
    if preset is None:
        return pipeline
    if pipeline is not None:
        raise SettingError("name a pipeline or a preset, not both")
    from imagier import presets

    return presets.load(preset)


def _plan(
    here: Collection | None, pipeline: Any, settings: Mapping[str, Any] | None, fitted: Collection | None
) -> Pipeline:
    if fitted is not None:
        if pipeline is not None or settings:
            raise SettingError(
                "--like takes the pipeline of the collection it names: leave out --pipeline, --preset and --set"
            )
        return _stored(fitted)
    if pipeline is None and here is not None and here.state.steps:
        return _stored(here).with_settings(settings or {})
    return Pipeline.of(pipeline).with_settings(settings or {})


def _stored(collection: Collection) -> Pipeline:
    if not collection.state.steps:
        raise CollectionError(f"{collection.folder} has no finished run yet: imagier run IMAGES --into it first")
    return Pipeline(tuple(Named(**step) for step in collection.state.steps))


def _warm(tables: Sequence[Bound]) -> None:
    """Let the table steps get ready, while the pass runs."""
    for step in tables:
        if step.step.warm is not None:
            step.step.warm()


def _receipts(collection: Collection, files: Files, summary: Summary) -> None:
    for step in files.rows:
        old = collection.receipt(step.name)
        fresh = files.fresh.get(step.name, [])
        grown = old is not None and summary.items > old.items
        old = old if old is not None and old.key == step.key else None
        if old is not None and not fresh and (old.items, old.failed) == (summary.items, summary.failed):
            continue
        if old is None or (grown and not fresh):
            facts = _facts(collection, step, None)
        else:
            facts = _facts(collection, step, fresh) if fresh else old.facts
        made = receipt_of(step, step.key, summary.items, summary.seconds["pass"], facts, failed=summary.failed)
        collection.save_receipt(made)


def _facts(collection: Collection, step: Bound, fresh: Sequence[str] | None) -> dict[str, Any]:
    """What a row step's receipt says of a run's items; None: of all, since an earlier run died before it could."""
    if step.step.facts is None:
        return {}
    own = {step.prefix + field.name: field.name for field in step.step.writes if not pa.types.is_binary(field.type)}
    table = collection.read(["id", *own])
    if fresh is not None:
        table = table.filter(pc.is_in(table["id"], pa.array(fresh, pa.string())))
    columns, ids, _ = whole(table)
    return step.step.facts({own[name]: columns[name] for name in own}) if ids else {}


def _drop_stale(collection: Collection, bound: Sequence[Bound]) -> None:
    """Columns and receipts of steps that the pipeline no longer has go: they would not grow with the items."""
    steps = {step.name for step in bound}
    kept = {*ITEMS.names, *DERIVED.names, *(column for step in bound for column in step.writes.names)}
    items = collection.state.items
    assert items is not None
    collection.drop_columns(items, [column for column in collection.columns if column not in kept])
    for path in (collection.folder / "receipts").glob("*.json"):
        if path.stem not in steps:
            collection.drop_receipt(path.stem)
