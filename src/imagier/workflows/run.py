"""run: sources in, a collection out that is embedded, mapped, clustered and judged. Does what no key covers yet.

First the files: what was added, changed, moved or removed since the last run is found by size, time and content hash.
Then one pass over those that need pixels. Then the table steps, each only if its key is not covered by its receipt.
"""

from __future__ import annotations

import json as jsonlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import imagier
from imagier import sources as finding
from imagier.collection import DERIVED, FILES, ITEMS, Collection, Receipt, write_whole
from imagier.execute import Done, Pass, Work, Worker, arrow, map_files
from imagier.pipeline import Bound, Named, Pipeline, key_of_pass, key_of_table
from imagier.types import CollectionError, Columns, Fitted, SettingError, SourceError
from imagier.workflows._progress import bar, say

COMMIT_FILES, COMMIT_SECONDS = 64, 1.0
"""What is done is written after so many files or seconds, whichever comes first."""


@dataclass
class Summary:
    """What a run did. Written to `last_run.json`, printed by the command line."""

    files: int = 0
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    """Files in the sources that are no images by their suffix."""
    new: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    decoded: int = 0
    """Files whose pixels were read in this run."""
    items: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    """Items that each step worked on in this run: 0 where its receipt covered all."""
    seconds: dict[str, float] = field(default_factory=dict)
    published: str | None = None
    """The version of the collection that plots and report show."""


def run(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    into: str | os.PathLike[str],
    pipeline: Pipeline | str | os.PathLike[str] | Sequence[Any] | None = None,
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
    pipeline: a YAML file, a list of steps as YAML would give it, or None for the default; without sources, the
        collection's own.
    settings: `{"cluster.method": "dbscan"}`, put over the pipeline's.
    like: a collection whose fitted map and groups the new items are placed in; its pipeline is used.
    json: where to write the result for 3-D viewers, beside what `report` writes.
    report: write plots and report.html into the collection's folder, unless they are there and nothing changed.
    threads: workers of the pass; the number of cores unless given.

    Raises SettingError, SourceError or CollectionError, each before any work that it concerns. A file that fails does
    not raise: it is in `collection.files()` with its reason.
    """
    begun = time.perf_counter()
    named = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    fitted = Collection.open(like) if like is not None else None
    plan = _plan(named, into, pipeline, settings, fitted)
    bound = plan.bind()
    roots = [finding.check(source) for source in named]
    gone = {os.path.abspath(source) for source in forget}
    if not named and not Collection(Path(into).absolute()).exists():
        raise SourceError(f"no images named, and {into} is no collection yet: imagier run IMAGES --into {into}")
    collection = Collection.create(into)
    if fitted is not None and fitted.folder == collection.folder:
        raise SettingError("--like and --into name the same collection: new items go into one of their own")
    with collection.writing():
        job = _Job(collection, plan, bound, fitted, threads or os.cpu_count() or 1, progress)
        if not roots:
            stored = [collection.absolute(each) for each in collection.state.sources]
            roots = [finding.check(each) for each in stored if each not in gone]
        job.files(roots, gone)
        job.table_steps()
        job.finish(begun, report)
    if json is not None:
        from imagier.outputs.tables import write_result

        write_result(collection, Path(json))
    return collection


def publish(collection: Collection) -> list[Path]:
    """Write plots and report.html into the collection's folder; the paths written."""
    from imagier.outputs.plots import write_plots
    from imagier.outputs.report import write_report

    return [*write_plots(collection, collection.folder / "plots"), write_report(collection)]


def last_run(collection: Collection) -> Summary:
    """What the last run on this collection did."""
    return Summary(**jsonlib.loads((collection.folder / "last_run.json").read_bytes()))


def _plan(
    named: Sequence[Any], into: Any, pipeline: Any, settings: Mapping[str, Any] | None, fitted: Collection | None
) -> Pipeline:
    if fitted is not None:
        if pipeline is not None or settings:
            raise SettingError("--like takes the pipeline of the collection it names: leave out --pipeline and --set")
        return _stored(fitted)
    here = Collection(Path(into).absolute())
    if pipeline is None and not named and here.exists():
        return _stored(here).with_settings(settings or {})
    return Pipeline.of(pipeline).with_settings(settings or {})


def _stored(collection: Collection) -> Pipeline:
    if not collection.state.steps:
        raise CollectionError(f"{collection.folder} has no finished run yet: imagier run IMAGES --into it first")
    return Pipeline(tuple(Named(**step) for step in collection.state.steps))


class _Job:
    """One run on one collection, held by its writer."""

    def __init__(
        self,
        collection: Collection,
        plan: Pipeline,
        bound: Sequence[Bound],
        fitted: Collection | None,
        threads: int,
        progress: bool,
    ) -> None:
        self.collection = collection
        self.rows = [each for each in bound if each.stage.over == "rows"]
        self.tables = [each for each in bound if each.stage.over == "table"]
        self.plan, self.fitted, self.threads, self.progress = plan, fitted, threads, progress
        self.summary = Summary(steps={each.name: 0 for each in bound})
        told = collection.folder / "last_run.json"
        self.published = last_run(collection).published if told.is_file() else None
        self.pass_key = key_of_pass(self.rows)
        self.table = f"items-{self.pass_key[:16]}.lance"

    # ------------------------------------------------------------ files

    def files(self, roots: Sequence[str], gone: set[str]) -> None:
        """Bring the files and items tables in line with what the sources hold now."""
        begun = time.perf_counter()
        collection, state = self.collection, self.collection.state
        if unknown := [s for s in gone if collection.relative(s) not in state.sources]:
            raise SourceError(f"{unknown[0]} is no source of this collection; its sources: {', '.join(state.sources)}")
        scan = finding.scan(roots, beside=collection.folder)
        stored = {row["path"]: row for row in collection.stored_files().to_pylist()}
        self._refuse_empty(roots, scan, stored)
        keep = [s for s in state.sources if collection.absolute(s) not in gone]
        known = dict.fromkeys([*keep, *(collection.relative(s) for s in roots)])
        state = replace(state, sources=tuple(known), steps=tuple(each.written for each in self.plan.steps),
                        like=None if self.fitted is None else collection.relative(self.fitted.folder))  # fmt: skip
        if state.items is None:
            state = replace(state, items=self.table)
        elif state.items != self.table:
            state = replace(state, building=self.table)
        collection.save_state(state)

        looked = {collection.relative(s) for s in roots} | {collection.relative(s) for s in gone}
        found = {collection.relative(each.path): each for each in scan.files}
        vanished = [path for path, row in stored.items() if row["source"] in looked and path not in found]
        self.summary.skipped, self.summary.seconds["scan"] = scan.skipped, time.perf_counter() - begun
        self._pass(found, stored, vanished)
        self._switch()

    def _refuse_empty(self, roots: Sequence[str], scan: finding.Scan, stored: Mapping[str, Any]) -> None:
        """A source that held files and now holds none is more likely not mounted than emptied."""
        for each in roots:
            had = sum(row["source"] == self.collection.relative(each) for row in stored.values())
            if had and not any(file.source == each for file in scan.files):
                raise SourceError(
                    f"{each} holds no image now, but the collection has {had} of it. Is it mounted? Nothing was "
                    "changed. If it was emptied on purpose: "
                    f"imagier run --into {self.collection.folder} --forget {each}"
                )

    def _pass(self, found: Mapping[str, finding.Found], stored: Mapping[str, Any], vanished: Sequence[str]) -> None:
        begun = time.perf_counter()
        collection = self.collection
        held = self._held()
        key = f"{self.pass_key}:{imagier.__version__}"
        rows: list[dict[str, Any]] = []
        works: list[Work] = []
        for path, each in found.items():
            row = {"path": path, "source": collection.relative(each.source), "name": each.name, "size": each.size,
                   "mtime_ns": each.mtime_ns, "hash": None, "outcome": "failed", "reason": each.problem, "pages": 0,
                   "key": key}  # fmt: skip
            old = stored.get(path)
            same = old is not None and (old["size"], old["mtime_ns"]) == (each.size, each.mtime_ns)
            if each.problem is not None:
                rows.append(row)
            elif same and old["hash"] and (old["hash"] in held if old["outcome"] == "ok" else old["key"] == key):
                rows.append({**old, "source": row["source"], "name": each.name})
            else:
                works.append(Work(each.path, each.source, each.name, each.size, each.mtime_ns))
        # A file that failed is put again to the program only when it or the program changed; its row stands till then.
        self._write_rows([row for row in rows if stored.get(row["path"]) != row], [])
        before = {row["hash"] for row in stored.values() if row["outcome"] == "ok"}
        done = self._put_through(works, held, key)
        self._count(found, stored, vanished, done, before)
        self._write_rows([], vanished)
        self._drop_orphans()
        self.summary.seconds["pass"] = time.perf_counter() - begun

    def _held(self) -> dict[str, int]:
        """Content hash -> pages of what the pass's table holds."""
        table = self.collection.table(self.table)
        if table is None:
            return {}
        whole = table.to_table(columns=["file", "page"]).group_by("file").aggregate([("page", "max")])
        return {file: page + 1 for file, page in zip(*(c.to_pylist() for c in whole.columns), strict=True)}

    def _put_through(self, works: list[Work], held: dict[str, int], key: str) -> list[Done]:
        """The pass itself. Gives an outcome per work, all written."""
        collection, waiting, all_done = self.collection, [], []
        twins: list[Done] = []
        worker = Worker(Pass(self.rows), held)
        shown = bar(len(works), self.progress)
        last, failed = time.perf_counter(), 0
        warmed = threading.Thread(target=self._warm, daemon=True)
        if works:
            warmed.start()
        try:
            for some in map_files(works, worker, collection.folder, threads=self.threads):
                twins += [done for done in some if done.outcome == "twin"]
                waiting += [done for done in some if done.outcome != "twin"]
                if len(waiting) >= COMMIT_FILES or time.perf_counter() - last > COMMIT_SECONDS:
                    all_done += self._commit(waiting, key)
                    waiting, last = [], time.perf_counter()
                failed += sum(done.outcome == "failed" for done in some)
                shown.update(len(some))
                shown.set_postfix(failed=failed)
        except SourceError as error:
            raise SourceError(
                f"{error}. {len(all_done) + len(waiting)} of {len(works)} files were done and are kept; make it "
                "reachable again and run the same command to go on."
            ) from error
        finally:
            all_done += self._commit(waiting, key)
            shown.close()
        outcome = {done.hash: done for done in all_done}
        same = [replace(outcome[twin.hash], work=twin.work, items=None) for twin in twins]
        return all_done + self._commit(same, key)

    def _commit(self, some: list[Done], key: str) -> list[Done]:
        """Write items, then their files' rows: after a death between the two, the content is found to be there."""
        if not some:
            return []
        if tables := [done.items for done in some if done.items is not None]:
            items = pa.concat_tables(tables)
            self.collection.append_items(self.table, items)
            self.summary.decoded += len(tables)
            for step in self.rows:
                self.summary.steps[step.name] += items.num_rows
        rows = [
            {"path": self.collection.relative(done.work.path), "source": self.collection.relative(done.work.source),
             "name": done.work.name, "size": done.work.size, "mtime_ns": done.work.mtime_ns, "hash": done.hash,
             "outcome": "failed" if done.outcome == "failed" else "ok", "reason": done.reason, "pages": done.pages,
             "key": key}
            for done in some
        ]  # fmt: skip
        self._write_rows(rows, [])
        return [replace(done, items=None) for done in some]

    def _write_rows(self, rows: list[dict[str, Any]], gone: Sequence[str]) -> None:
        if rows or gone:
            self.collection.put_files(pa.Table.from_pylist(rows, FILES), replacing=gone)

    def _count(self, found: Any, stored: Any, vanished: Sequence[str], done: Sequence[Done], before: set[Any]) -> None:
        summary = self.summary
        left = {stored[path]["hash"] for path in vanished}
        for each in done:
            path = self.collection.relative(each.work.path)
            if path in stored and stored[path]["hash"] != each.hash:
                summary.changed += 1
            elif path not in stored:
                moved = each.hash in left and each.hash in before
                summary.moved += moved
                summary.new += not moved
        summary.removed = len(vanished) - summary.moved

    def _drop_orphans(self) -> None:
        """Items whose content is at no path any more go."""
        files = self.collection.stored_files()
        alive = set(files.filter(pc.equal(files["outcome"], "ok"))["hash"].to_pylist())
        if lost := [content for content in self._held() if content not in alive]:
            self.collection.drop_items(self.table, lost)
        self.summary.files = files.num_rows
        self.summary.failed = files.num_rows - pc.sum(pc.equal(files["outcome"], "ok")).as_py() if files.num_rows else 0
        self.summary.ok = self.summary.files - self.summary.failed

    def _switch(self) -> None:
        """Put the pass's table in force, with the row steps' receipts, once it is whole."""
        collection, state = self.collection, self.collection.state
        if collection.table(self.table) is None:  # nothing but failures, ever
            schema = pa.schema([*ITEMS, *(column for step in self.rows for column in step.writes)])
            collection.append_items(self.table, schema.empty_table())
        if state.items != self.table:
            collection.put_in_force(state, self.table)
        self.summary.items = len(collection)
        for step in self.rows:
            old, worked = collection.receipt(step.name), self.summary.steps[step.name]
            if worked or old is None or old.key != step.key:
                collection.save_receipt(
                    self._receipt(step, step.key, worked, self.summary.seconds["pass"], {}, self.summary.failed)
                )
        self._drop_stale()

    def _drop_stale(self) -> None:
        """Columns and receipts of steps that the pipeline no longer has go: they would not grow with the items."""
        collection = self.collection
        steps = {step.name: step for step in [*self.rows, *self.tables]}
        kept = {*ITEMS.names, *(column for step in steps.values() for column in step.writes.names)}
        collection.drop_columns(self.table, [c for c in collection.columns if c not in kept | set(DERIVED.names)])
        for path in (collection.folder / "receipts").glob("*.json"):
            if path.stem not in steps:
                collection.drop_receipt(path.stem)

    # ------------------------------------------------------------ tables

    def _warm(self) -> None:
        for step in self.tables:
            if step.step.warm is not None and self.fitted is None:
                step.step.warm()

    def table_steps(self) -> None:
        """Fit, or place, each table step that no receipt covers."""
        for step in self.tables:
            begun = time.perf_counter()
            self._table_step(step)
            self.summary.seconds[step.name] = time.perf_counter() - begun

    def _table_step(self, step: Bound) -> None:
        collection = self.collection
        columns, ids, absent = self._handed(step)
        like = None if self.fitted is None else self.fitted.receipt(step.name)
        if self.fitted is not None and like is None:
            raise CollectionError(f"{self.fitted.folder} has no finished {step.name}: run it to its end first")
        key = key_of_table(step, ids, None if like is None else like.key)
        old = collection.receipt(step.name)
        there = set(step.writes.names) <= set(collection.columns)
        if old is not None and old.key == key and there:
            return
        begun = time.perf_counter()
        say(f"{step.name}: {'placing ' if like else ''}{len(ids)} items", self.progress)
        if like is None:
            previous = self._previous(step, ids) if step.step.remembers else {}
            fitted: Fitted = step.step.load()(columns | previous)
        else:
            if step.step.place is None:
                raise SettingError(f"{step.name} cannot place new items in a fitted one: it is for whole collections")
            assert self.fitted is not None
            made = Fitted({}, like.facts, self.fitted.fitted(step.name))
            fitted = step.step.place(columns, made)
        names = {field.name: step.prefix + field.name for field in step.step.writes}
        table = pa.table(
            [pa.array(ids, pa.string()), *(arrow(fitted.columns[f.name], f) for f in step.step.writes)],
            pa.schema([pa.field("id", pa.string()), *step.writes]),
        )
        # Without its receipt a step counts as not run: a death while its columns are replaced makes it run again.
        collection.drop_receipt(step.name, keep_arrays=True)
        collection.put_columns(self.table, table)
        remembered = {f"remembered_{c}": np.asarray(fitted.columns[c]) for c in step.step.remembers}
        if remembered:
            remembered |= {"remembered_id": np.array(ids, str), "remembered_key": np.array(step.key)}
        facts = fitted.facts | ({"null": absent} if absent else {})
        receipt = self._receipt(step, key, len(ids), time.perf_counter() - begun, facts, 0)
        collection.save_receipt(replace(receipt, writes=list(names.values())), dict(fitted.arrays) | remembered)
        self.summary.steps[step.name] = len(ids)

    def _handed(self, step: Bound) -> tuple[Columns, list[str], int]:
        """The columns that a table step reads, of the items that have them all; their ids; how many have not."""
        table = self.collection.read(list(dict.fromkeys(["id", *step.step.reads])))
        whole = table.drop_null()
        columns: Columns = {}
        for name in whole.schema.names:
            column = whole[name].combine_chunks()
            if pa.types.is_fixed_size_list(column.type):
                width = column.type.list_size
                columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
            elif pa.types.is_primitive(column.type):
                columns[name] = column.to_numpy(zero_copy_only=False)
            else:
                columns[name] = column.to_pylist()
        return columns, whole["id"].to_pylist(), table.num_rows - whole.num_rows

    def _previous(self, step: Bound, ids: Sequence[str]) -> Columns:
        """What the step remembers of its last result, if its settings were the same: NaN for items it did not see."""
        saved = self.collection.fitted(step.name)
        if "remembered_id" not in saved or str(saved["remembered_key"]) != step.key:
            return {}
        at = {item: row for row, item in enumerate(saved["remembered_id"].tolist())}
        columns: Columns = {}
        for name in step.step.remembers:
            values = saved[f"remembered_{name}"]
            columns[f"previous_{name}"] = np.array([values[at[i]] if i in at else np.nan for i in ids], np.float64)
        return columns

    def _receipt(
        self, step: Bound, key: str, items: int, seconds: float, facts: dict[str, Any], failed: int
    ) -> Receipt:
        return Receipt(
            step=step.name, stage=step.stage.name, version=step.stage.version, settings=step.settings, key=key,
            reads=list(step.step.reads), writes=step.writes.names, precision=step.step.precision,
            weights=list(step.step.weights), items=items, failed=failed, seconds=round(seconds, 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"), facts=facts,
        )  # fmt: skip

    def finish(self, begun: float, report: bool) -> None:
        """Tidy up, publish what changed, and leave word of what was done."""
        collection = self.collection
        if any(self.summary.steps.values()) or self.summary.removed:
            collection.tidy()
        if report:
            start, told = time.perf_counter(), collection.folder / "report.html"
            version = collection.version
            if not told.is_file() or self.published != version:
                say("plots and report", self.progress)
                publish(collection)
                self.summary.seconds["report"] = time.perf_counter() - start
            self.published = version
        self.summary.published = self.published
        self.summary.seconds["whole"] = time.perf_counter() - begun
        self.summary.seconds = {name: round(seconds, 3) for name, seconds in self.summary.seconds.items()}
        write_whole(self.collection.folder / "last_run.json", jsonlib.dumps(asdict(self.summary), indent=1).encode())
