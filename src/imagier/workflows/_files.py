"""The first half of a run: the files and items tables brought in line with what the sources hold now.

A file is known again by path, size and time, then by its content's hash. One pass goes over what needs pixels. A pass
of another key fills a table of its own beside the one in force; row steps that are the same in both are carried over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import imagier
from imagier import sources as finding
from imagier._progress import bar
from imagier.collection import FILES, ITEMS, Collection, State
from imagier.execute import Contents, Done, Hand, Pass, Work, Worker, map_files
from imagier.pipeline import Bound, key_of_pass
from imagier.quarantine import one_by_one
from imagier.types import SourceError
from imagier.workflows._carried import derived, fill, joined, needed
from imagier.workflows.summary import Summary

COMMIT_FILES, COMMIT_SECONDS = 64, 1.0
"""What is done is written after so many files or seconds, whichever comes first."""


class Files:
    """The row half of one run on one collection, which the caller holds as its writer."""

    def __init__(self, collection: Collection, bound: Sequence[Bound], summary: Summary, *, threads: int) -> None:
        self.collection, self.summary, self.threads = collection, summary, threads
        self.hand = Hand(collection.folder)
        self.rows = rows = [step for step in bound if step.stage.over == "rows"]
        self.tables = [step for step in bound if step.stage.over == "table"]
        self.pass_key = key_of_pass(rows)
        self.table = f"items-{self.pass_key[:16]}.lance"
        self.key = f"{self.pass_key}:{imagier.__version__}"
        """A file that failed under this key is not tried again until it changes."""
        self.fresh: dict[str, list[str]] = {}
        """Step with facts of its own -> the ids of the items that it worked on in this run."""

    def roots(self, named: Sequence[str], gone: set[str]) -> list[str]:
        """The sources to look at: those named, or all that are known where none is or where all items are made anew."""
        state = self.collection.state
        known = [self.collection.absolute(source) for source in state.sources]
        if unknown := sorted(gone - set(known)):
            raise SourceError(f"{unknown[0]} is no source of this collection; its sources: {', '.join(known)}")
        anew = state.items not in (None, self.table)
        # What a source that is forgotten held may be another's too.
        wanted = [*named, *known] if anew or gone or not named else named
        return [finding.check(source) for source in dict.fromkeys(wanted) if source not in gone]

    def update(
        self, roots: Sequence[str], gone: set[str], state: State, *, progress: bool, begin: Callable[[], None]
    ) -> None:
        """Look, do what is to be done, and put the result in force.

        `state`: what the collection is to be, but for its sources and tables; saved once nothing can be refused any
        more. `begin` is called when there is work.
        """
        begun = time.perf_counter()
        collection = self.collection
        scan = finding.scan(roots, beside=collection.folder)
        stored = {row["path"]: row for row in collection.stored_files().to_pylist()}
        looked = {collection.relative(source) for source in [*roots, *gone]}
        found = {collection.relative(each.path): each for each in scan.files}
        found |= self._moved_out(roots, stored, found)
        self._refuse_empty(roots, found, stored)
        self._announce(roots, gone, state)
        unread = tuple(os.path.join(folder, "") for folder in scan.unread)
        vanished = [
            path
            for path, row in stored.items()
            if row["source"] in looked and path not in found and not collection.absolute(path).startswith(unread)
        ]
        self.summary.skipped, self.summary.seconds["scan"] = scan.skipped, time.perf_counter() - begun

        begun = time.perf_counter()
        bad = [row for row in stored.values() if row["outcome"] == "failed" and row["key"] == self.key and row["hash"]]
        contents = Contents(self._held(self.table), {row["hash"]: row["reason"] for row in bad})
        works = self._to_do(found, stored, contents.held)
        if works:
            begin()
        done = self._carried(works, stored, contents, progress)
        rest = {each.work.path for each in done}
        todo = [work for work in works if work.path not in rest]
        done += self._through(todo, Worker(Pass(self.rows), contents), progress)
        self.hand.acquit()
        self._count(stored, vanished, done)
        self._write_rows([], vanished)
        self._drop_orphans()
        self.summary.seconds["pass"] = time.perf_counter() - begun
        self._put_in_force()

    def _moved_out(
        self, roots: Sequence[str], stored: Mapping[str, Any], found: Mapping[str, finding.Found]
    ) -> dict[str, finding.Found]:
        """Files that `organise --how move` has put where their source's walk does not come: they are still its own."""
        there = {}
        for source in roots:
            for path, row in stored.items():
                absolute = self.collection.absolute(path)
                if row["source"] == self.collection.relative(source) and path not in found:
                    if finding.reaches(source, absolute, beside=self.collection.folder):
                        continue
                    if os.path.lexists(absolute):
                        there[path] = finding.look(absolute, source, row["name"])
        return there

    def _refuse_empty(
        self, roots: Sequence[str], found: Mapping[str, finding.Found], stored: Mapping[str, Any]
    ) -> None:
        """A source that held files and now holds none is more likely not mounted than emptied."""
        filled = {file.source for file in found.values()}
        for each in roots:
            had = sum(row["source"] == self.collection.relative(each) for row in stored.values())
            if had and each not in filled:
                raise SourceError(
                    f"{each} holds no image now, but the collection has {had} of it. Is it mounted? Nothing was "
                    "changed. If it was emptied on purpose: "
                    f"imagier run --into {self.collection.folder} --forget {each}"
                )

    def _announce(self, roots: Sequence[str], gone: set[str], state: State) -> None:
        """Note the sources, and which table is being filled."""
        collection = self.collection
        keep = [source for source in state.sources if collection.absolute(source) not in gone]
        sources = dict.fromkeys([*keep, *(collection.relative(each) for each in roots)])
        first = state.items is None
        collection.save_state(
            replace(
                state,
                sources=tuple(sources),
                items=self.table if first else state.items,
                building=None if first or state.items == self.table else self.table,
            )
        )

    # ------------------------------------------------------------ what is to be done

    def _to_do(self, found: Mapping[str, finding.Found], stored: Mapping[str, Any], held: dict[str, int]) -> list[Work]:
        """The files that need reading; the rows of the others are brought up to date."""
        rows: list[dict[str, Any]] = []
        works: list[Work] = []
        sources = self.collection.state.sources
        for path, each in found.items():
            old = stored.get(path)
            if old is not None and old["source"] in sources and old["source"] != self.collection.relative(each.source):
                # Of overlapping sources the first to come keeps the file, under the name that it has there.
                each = replace(each, source=self.collection.absolute(old["source"]), name=old["name"])
            work = Work(each.path, each.source, each.name, each.size, each.mtime_ns)
            if each.problem is not None:
                rows.append(self._row(Done(work, None, "failed", each.problem)))
            elif old is not None and self._covered(old, work, held):
                rows.append({**old, "source": self.collection.relative(each.source), "name": each.name})
            else:
                works.append(work)
        self._write_rows([row for row in rows if stored.get(row["path"]) != row], [])
        return works

    def _covered(self, old: Mapping[str, Any], work: Work, held: Mapping[str, int]) -> bool:
        """Whether a file's row still holds: it is as it was, and its items are there or it failed under this key."""
        if not old["hash"] or (old["size"], old["mtime_ns"]) != (work.size, work.mtime_ns):
            return False
        return old["hash"] in held if old["outcome"] == "ok" else bool(old["key"] == self.key)

    def _held(self, name: str | None) -> dict[str, int]:
        """Content hash -> pages of what an items table holds."""
        table = self.collection.table(name)
        if table is None:
            return {}
        whole = table.to_table(columns=["file", "page"]).group_by("file").aggregate([("page", "max")])
        return {file: page + 1 for file, page in zip(*(c.to_pylist() for c in whole.columns), strict=True)}

    # ------------------------------------------------------------ the pass

    def _carried(
        self, works: Sequence[Work], stored: Mapping[str, Any], contents: Contents, progress: bool
    ) -> list[Done]:
        """Put files whose items the table in force holds through the new row steps alone; the rest is copied."""
        collection, state = self.collection, self.collection.state
        old = None if state.items == self.table else collection.table(state.items)
        if old is None:
            return []
        same = [step for step in self.rows if self._stands(step, old.schema.names)]
        filled = derived(self.rows, same)
        if needed(self.rows, [*same, *filled]):
            filled = []  # pixels are read anyhow
        wanting = needed(self.rows, [*same, *filled])
        kept = [step for step in self.rows if step not in wanting and step not in filled]
        if not kept or not self._regions_stand(old, same, filled):
            return []
        there = self._held(state.items)
        mine = []
        for work in works:
            row = stored.get(collection.relative(work.path))
            if row and row["hash"] in there and (row["size"], row["mtime_ns"]) == (work.size, work.mtime_ns):
                mine.append(work)
        columns = [column for step in kept for column in step.writes.names]
        if wanting:
            worker = Worker(Pass(wanting), contents, only=there)
            return self._through(mine, worker, progress, carry=(old, columns))
        wanted = {stored[collection.relative(work.path)]["hash"] for work in mine}
        if missing := sorted(wanted - set(contents.held)):
            table = old.to_table(columns=[*ITEMS.names, *columns])
            table = table.filter(pc.is_in(table["file"], pa.array(missing, pa.string())))
            try:
                table = fill(filled, table.select([*ITEMS.names, *columns]))
            except Exception:  # noqa: BLE001 - made from pixels instead, where the item at fault fails alone, with the reason
                return []
            self._append(table.select([*ITEMS.names, *(c for step in self.rows for c in step.writes.names)]))
            for step in filled:
                self.summary.steps[step.name] += table.num_rows
            contents.held |= {content: there[content] for content in missing}
        done = []
        for work in mine:
            row = stored[collection.relative(work.path)]
            done.append(Done(work, row["hash"], "known", pages=row["pages"]))
        self._write_rows([self._row(each) for each in done], [])
        return done

    def _regions_stand(self, old: Any, same: Sequence[Bound], filled: Sequence[Bound]) -> bool:
        """Whether the old table's items are the items: where steps cut regions, only if all of them stand."""
        cuts = [at for at, step in enumerate(self.rows) if "parent" in step.step.passes]
        if not cuts:
            return not pc.any(pc.is_valid(old.to_table(columns=["parent"])["parent"])).as_py()
        of_regions = {column for step in self.rows[cuts[-1] + 1 :] for column in step.writes.names}
        return all(step in same or (step in filled and set(step.step.reads) & of_regions) for step in self.rows)

    def _stands(self, step: Bound, columns: Sequence[str]) -> bool:
        receipt = self.collection.receipt(step.name)
        return receipt is not None and receipt.key == step.key and set(step.writes.names) <= set(columns)

    def _through(
        self,
        works: Sequence[Work],
        worker: Worker,
        progress: bool,
        carry: tuple[Any, Sequence[str]] | None = None,
    ) -> list[Done]:
        """The pass itself. Gives an outcome, written, of each work that the worker's pass is for."""
        if not works:
            return []
        waiting: list[Done] = []
        done: list[Done] = []
        twins: list[Done] = []
        shown = bar(len(works), progress, what="images", unit="img")
        last, failed = time.perf_counter(), 0

        def commit() -> None:
            some = waiting.copy()
            waiting.clear()  # first: what raises here must not be written a second time on the way out
            done.extend(self._commit(some, worker, carry))

        try:
            with closing(self._results(works, worker)) as results:
                for some in results:
                    twins += [each for each in some if each.outcome == "twin"]
                    waiting += [each for each in some if each.outcome not in ("twin", "other")]
                    if len(waiting) >= COMMIT_FILES or time.perf_counter() - last > COMMIT_SECONDS:
                        commit()
                        last = time.perf_counter()
                    failed += sum(each.outcome == "failed" for each in some)
                    shown.note(f"failed={failed}", failed=failed)
                    shown.update(len(some))
        except SourceError as error:
            commit()
            raise SourceError(
                f"{error}. {len(done)} of {len(works)} files were done and are kept; make it reachable again and run "
                "the same command to go on."
            ) from error
        finally:
            commit()
            shown.close()
        outcome = {each.hash: each for each in done}
        waiting += [replace(outcome[twin.hash], work=twin.work) for twin in twins]
        commit()
        return done

    def _results(self, works: Sequence[Work], worker: Worker) -> Generator[list[Done], None, None]:
        """Outcomes as they come, of those first that an earlier run died over."""
        suspects = self.hand.suspects()
        yield from one_by_one([work for work in works if work.path in suspects], worker)
        rest = [work for work in works if work.path not in suspects]
        yield from map_files(rest, worker, self.hand, threads=self.threads)

    def _commit(self, some: Sequence[Done], worker: Worker, carry: tuple[Any, Sequence[str]] | None) -> list[Done]:
        """Write items, then their files' rows: after a death between the two, the content is found to be there."""
        if tables := [each.items for each in some if each.items is not None]:
            items = pa.concat_tables(tables)
            if carry is not None:
                items = joined(items, *carry)
            self._append(items)
            self.summary.decoded += len(tables)
            for step in worker.joined.steps:
                if step.step.facts is not None:
                    self.fresh.setdefault(step.name, []).extend(items["id"].to_pylist())
                # What a step before a crop measured is null for the regions.
                filled = [items.num_rows - items[column].null_count for column in step.writes.names]
                self.summary.steps[step.name] += max(filled, default=items.num_rows)
        for each in some:
            if each.hash is not None and each.outcome == "ok":
                worker.contents.held[each.hash] = each.pages
            elif each.hash is not None and each.outcome == "failed":
                worker.contents.failed[each.hash] = each.reason or ""
        self._write_rows([self._row(each) for each in some], [])
        return [replace(each, items=None) for each in some]

    def _append(self, items: pa.Table) -> None:
        self._items_change()
        self.collection.append_items(self.table, items)

    def _items_change(self) -> None:
        """Before items come or go, the table steps' receipts go: their columns no longer cover all items.

        Keys alone would not tell: an item that went and came back has the same id, and no value.
        """
        for step in self.tables:
            self.collection.drop_receipt(step.name, keep_arrays=True)

    # ------------------------------------------------------------ rows and receipts

    def _row(self, done: Done) -> dict[str, Any]:
        work = done.work
        return {
            "path": self.collection.relative(work.path),
            "source": self.collection.relative(work.source),
            "name": work.name,
            "size": work.size,
            "mtime_ns": work.mtime_ns,
            "hash": done.hash,
            "outcome": "failed" if done.outcome == "failed" else "ok",
            "reason": done.reason,
            "pages": done.pages,
            "key": self.key,
        }

    def _write_rows(self, rows: Sequence[dict[str, Any]], gone: Sequence[str]) -> None:
        if rows or gone:
            self.collection.put_files(pa.Table.from_pylist(list(rows), FILES), replacing=gone)

    def _count(self, stored: Mapping[str, Any], vanished: Sequence[str], done: Sequence[Done]) -> None:
        summary = self.summary
        left = {stored[path]["hash"] for path in vanished if stored[path]["outcome"] == "ok"}
        for each in done:
            old = stored.get(self.collection.relative(each.work.path))
            if old is None:
                summary.moved += each.hash in left
                summary.new += each.hash not in left
            elif old["hash"] != each.hash:
                summary.changed += 1
        summary.removed = max(0, len(vanished) - summary.moved)

    def _drop_orphans(self) -> None:
        """Items whose content is at no path any more go."""
        files = self.collection.stored_files()
        ok = files.filter(pc.equal(files["outcome"], "ok"))
        alive = set(ok["hash"].to_pylist())
        if lost := [content for content in self._held(self.table) if content not in alive]:
            self._items_change()
            self.collection.drop_items(self.table, lost)
        self.summary.files, self.summary.ok = files.num_rows, ok.num_rows
        self.summary.failed = files.num_rows - ok.num_rows

    def _put_in_force(self) -> None:
        """The table is whole now: it is what readers read."""
        collection, state = self.collection, self.collection.state
        if collection.table(self.table) is None:  # nothing but failures, ever
            schema = pa.schema([*ITEMS, *(column for step in self.rows for column in step.writes)])
            collection.append_items(self.table, schema.empty_table())
        for step in self.rows:  # first: a receipt must never stand beside columns that it is not of
            if (old := collection.receipt(step.name)) is not None and old.key != step.key:
                collection.drop_receipt(step.name)
        if state.items != self.table:
            # Readers go on seeing the last map and groups until the table steps have made new ones.
            old = collection.table(state.items)
            written = [column for step in self.tables for column in step.writes.names]
            if old is not None and (kept := [column for column in written if column in old.schema.names]):
                collection.put_columns(self.table, old.to_table(columns=["id", *kept]))
            collection.put_in_force(state, self.table)
        self.summary.items = len(collection)
