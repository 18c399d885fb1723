"""run: what a second run finds, what a broken-off run leaves, and that both come to the same collection."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter

import drawn
import numpy as np
import pytest
from drawn import BLUE, GREEN, RED, plain, save

from imagier.collection import Collection
from imagier.types import CollectionError, SettingError, SourceError
from imagier.workflows.run import run
from imagier.workflows.summary import last_run

ROWS = ["tint"]
TABLE = ["tint", "rank"]
MAY_BE_NULL = {"duplicate", "quality"}

pytestmark = pytest.mark.usefixtures("plugs")


def go(sources, out, pipeline=None, **settings) -> Collection:
    """run without a report, in two threads, and see that the collection is sound."""
    collection = run(sources, into=out, pipeline=pipeline, report=False, **{"threads": 2, **settings})
    sound(collection)
    return collection


def sound(collection: Collection) -> None:
    """What must hold after any run: each id once, items and files that match, no hole in a column of a step."""
    items = collection.read()
    ids = items["id"].to_pylist()
    assert len(ids) == len(set(ids)), f"ids twice: {[i for i, n in Counter(ids).items() if n > 1]}"
    files = collection.files().to_pylist()
    assert len({row["path"] for row in files}) == len(files)
    assert {row["hash"] for row in files if row["outcome"] == "ok"} == set(items["file"].to_pylist())
    assert all(row["reason"] for row in files if row["outcome"] == "failed")
    receipts = collection.receipts()
    assert list(receipts) == [step["name"] for step in collection.state.steps]
    if not any(items["parent"].is_valid().to_pylist()):
        for receipt in receipts.values():
            for column in set(receipt.writes) - MAY_BE_NULL:
                nulls = items[column].null_count
                assert nulls == 0, f"{column} is null for {nulls} of {len(ids)} items, but its receipt covers all"
    assert not list(collection.folder.rglob("*.part"))


def outcomes(collection: Collection) -> dict[str, str]:
    return {row["name"]: row["outcome"] for row in collection.files().to_pylist()}


def reasons(collection: Collection) -> dict[str, str]:
    return {row["name"]: row["reason"] for row in collection.files().to_pylist() if row["reason"]}


def values(collection: Collection, column: str) -> dict[str, object]:
    return dict(zip(*(c.to_pylist() for c in collection.read(["id", column]).columns), strict=True))


# ---------------------------------------------------------------- the real steps


def test_the_real_steps_find_the_drawn_kinds(images, tmp_path):
    steps = [{"embed": {}}, {"reduce": {"method": "pca"}, "as": "pca"}, {"cluster": {"on": "pca_components", "k": 3}}]
    made = go(images, tmp_path / "out", steps)
    groups = made.read(["label_folder", "group"]).to_pylist()
    pairs = Counter((row["label_folder"], row["group"]) for row in groups)
    assert sorted(pairs.values()) == [4, 4, 4]
    assert list(made.receipts()) == ["embed", "pca", "cluster"]
    again = go(images, tmp_path / "out", steps)
    assert set(last_run(again).steps.values()) == {0}


def test_one_thread_and_four_make_equal_collections(tmp_path):
    images = drawn.fill(tmp_path / "images", each=12)
    shutil.copytree(images, tmp_path / "images" / "again")
    one, four = (go(images, tmp_path / f"out{n}", ["embed", "tint", "rank"], threads=n) for n in (1, 4))
    for column in one.columns:
        if column not in ("path", "paths"):
            left, right = (each.read([column])[column].to_pylist() for each in (one, four))
            if column == "embedding":
                np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)
            else:
                assert left == right, column


# ---------------------------------------------------------------- nothing to do, and little to do


def test_a_second_run_does_nothing(images, tmp_path):
    first = go(images, tmp_path / "out", TABLE)
    version, receipts = first.version, first.receipts()
    second = go(images, tmp_path / "out", TABLE)
    told = last_run(second)
    assert (told.decoded, told.new, told.changed, told.moved, told.removed) == (0, 0, 0, 0, 0)
    assert told.steps == {"tint": 0, "rank": 0}
    assert second.version == version
    assert second.receipts() == receipts


def test_without_sources_those_of_the_last_time(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    save(images / "new.png", plain(RED))
    again = go((), tmp_path / "out")
    assert last_run(again).new == 1
    assert list(again.receipts()) == TABLE


def test_one_new_file_is_the_only_one_decoded(images, tmp_path):
    before = values(go(images, tmp_path / "out", TABLE), "tint")
    save(images / "new.png", plain(RED))
    after = go(images, tmp_path / "out", TABLE)
    assert last_run(after).decoded == 1
    assert last_run(after).steps == {"tint": 1, "rank": 13}
    assert before.items() <= values(after, "tint").items()


def test_a_touched_file_is_read_but_not_decoded(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    os.utime(images / "disc_0.png", ns=(1, 1))
    told = last_run(go(images, tmp_path / "out", TABLE))
    assert (told.decoded, told.changed, told.steps["rank"]) == (0, 0, 0)


def test_a_changed_file_of_the_same_size_is_seen(tmp_path):
    from PIL import Image

    def bmp(level):
        Image.fromarray(np.full((20, 20), level, np.uint8)).save(tmp_path / "images" / "a.bmp")

    (tmp_path / "images").mkdir()
    bmp(10)
    first = go(tmp_path / "images", tmp_path / "out", ROWS)
    (old,) = first.read(["id"])["id"].to_pylist()
    size = (tmp_path / "images" / "a.bmp").stat().st_size
    bmp(90)
    assert (tmp_path / "images" / "a.bmp").stat().st_size == size
    second = go(tmp_path / "images", tmp_path / "out", ROWS)
    ((new, tint),) = values(second, "tint").items()
    assert new != old
    assert tint == [90, 90, 90]
    assert last_run(second).changed == 1


def test_a_file_that_moved_is_not_decoded_again(images, tmp_path):
    first = values(go(images, tmp_path / "out", TABLE), "rank")
    (images / "deep").mkdir()
    (images / "disc_0.png").rename(images / "deep" / "renamed.png")
    second = go(images, tmp_path / "out", TABLE)
    told = last_run(second)
    assert (told.decoded, told.moved, told.removed, told.new) == (0, 1, 0, 0)
    assert values(second, "rank") == first
    assert "deep" in second.read(["label_folder"])["label_folder"].to_pylist()


def test_a_file_that_became_two_elsewhere_is_counted_soundly(images, tmp_path):
    go(images, tmp_path / "out", ROWS)
    shutil.copy(images / "disc_0.png", images / "one.png")
    (images / "disc_0.png").rename(images / "two.png")
    told = last_run(go(images, tmp_path / "out", ROWS))
    assert (told.removed, told.decoded) == (0, 0)
    assert told.moved + told.new == 2


def test_a_removed_file_takes_its_item_along(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    (images / "disc_0.png").unlink()
    after = go(images, tmp_path / "out", TABLE)
    assert len(after) == 11
    assert last_run(after).removed == 1
    assert sorted(values(after, "rank").values()) == list(range(11))


def test_equal_files_are_one_item_until_the_last_is_gone(images, tmp_path):
    shutil.copy(images / "disc_0.png", images / "zcopy.png")
    both = go(images, tmp_path / "out", ROWS)
    assert len(both) == 12
    (row,) = [row for row in both.read(["paths"]).to_pylist() if len(row["paths"]) == 2]
    assert row["paths"] == [str(images / "disc_0.png"), str(images / "zcopy.png")]
    (images / "disc_0.png").unlink()
    one = go(images, tmp_path / "out", ROWS)
    assert len(one) == 12
    assert last_run(one).decoded == 0
    (images / "zcopy.png").unlink()
    assert len(go(images, tmp_path / "out", ROWS)) == 11


def test_many_equal_files_in_many_threads_are_one_item(tmp_path):
    for at in range(80):
        save(tmp_path / "images" / f"{at:03}.png", plain(RED if at % 2 else GREEN))
    made = go(tmp_path / "images", tmp_path / "out", ROWS, threads=4)
    assert len(made) == 2
    assert last_run(made).decoded == 2
    assert set(outcomes(made).values()) == {"ok"}


def test_equal_files_that_cannot_be_read_all_fail(tmp_path):
    (tmp_path / "images").mkdir()
    for at in range(40):
        (tmp_path / "images" / f"{at:03}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    made = go(tmp_path / "images", tmp_path / "out", ROWS, threads=4)
    assert set(outcomes(made).values()) == {"failed"}
    assert len(reasons(made)) == 40


# ---------------------------------------------------------------- a pipeline that changes


def test_a_changed_row_step_reads_all_again_and_readers_see_the_old_till_then(images, tmp_path, monkeypatch):
    first = go(images, tmp_path / "out", ["tint"])
    old = values(first, "tint")
    seen = []
    put_in_force = Collection.put_in_force

    def spy(self, state, table):
        seen.append(values(Collection.open(self.folder), "tint"))
        put_in_force(self, state, table)

    monkeypatch.setattr(Collection, "put_in_force", spy)
    second = go(images, tmp_path / "out", [{"tint": {"gain": 2.0}}])
    assert seen == [old]
    assert last_run(second).decoded == 12
    assert values(second, "tint") == {item: [2 * x for x in tint] for item, tint in old.items()}


def test_a_row_step_more_keeps_what_stands(images, tmp_path):
    old = values(go(images, tmp_path / "out", ["tint"]), "tint")
    second = go(images, tmp_path / "out", ["tint", "picky"])
    assert values(second, "tint") == old
    assert last_run(second).steps == {"tint": 0, "picky": 12}
    third = go(images, tmp_path / "out", ["picky", "tint"])
    assert values(third, "tint") == old
    assert last_run(third).decoded == 0


def test_a_row_step_that_reads_the_column_of_one_that_stands(images, tmp_path):
    old = values(go(images, tmp_path / "out", ["tint", "double"]), "tint")
    made = go(images, tmp_path / "out", ["tint", {"double": {"times": 3}}])
    assert reasons(made) == {}
    assert values(made, "double") == {item: pytest.approx([3 * x for x in tint]) for item, tint in old.items()}
    assert last_run(made).decoded == 0
    assert last_run(made).steps == {"tint": 0, "double": 12}
    (images / "more.png").write_bytes((images / "disc_0.png").read_bytes() + b"another file")
    assert last_run(go(images, tmp_path / "out")).decoded == 1


def test_a_row_step_over_the_columns_of_regions_needs_no_pixels(images, tmp_path):
    old = go(images, tmp_path / "out", ["halves", "tint"])
    tint = values(old, "tint")
    made = go(images, tmp_path / "out", ["halves", "tint", "double"])
    assert last_run(made).decoded == 0
    assert last_run(made).steps["halves"] == 0
    doubled = values(made, "double")
    assert {item for item, value in doubled.items() if value is None} == {i for i, t in tint.items() if t is None}
    assert doubled == {item: t and pytest.approx([2 * x for x in t]) for item, t in tint.items()}
    anew = values(go(images, tmp_path / "anew", ["halves", "tint", "double"]), "double")
    assert doubled == {item: v and pytest.approx(v) for item, v in anew.items()}


def test_what_is_measured_before_the_cut_is_no_regions_own(images, tmp_path):
    go(images, tmp_path / "out", ["tint", "halves"])
    made = go(images, tmp_path / "out", ["tint", "halves", "double"])
    anew = go(images, tmp_path / "anew", ["tint", "halves", "double"])
    assert values(made, "double") == values(anew, "double")


def test_a_step_over_columns_that_raises_fails_each_file_with_its_reason(images, tmp_path):
    go(images, tmp_path / "out", ["tint"])
    made = go(images, tmp_path / "out", ["tint", "choosy"])
    assert set(reasons(made).values()) == {"ValueError: no dark ones, please"}
    assert set(outcomes(made).values()) == {"ok", "failed"}


def test_a_copy_that_came_with_a_new_step_is_no_second_item(images, tmp_path):
    go(images, tmp_path / "out", ["tint"])
    shutil.copy(images / "disc_0.png", images / "zcopy.png")
    made = go(images, tmp_path / "out", ["tint", "picky"])
    assert len(made) == 12


def test_a_copy_that_came_with_a_step_less_is_no_second_item(images, tmp_path):
    go(images, tmp_path / "out", ["tint", "picky"])
    shutil.copy(images / "disc_0.png", images / "zcopy.png")
    made = go(images, tmp_path / "out", ["tint"])
    assert len(made) == 12


def test_a_file_whose_change_does_not_show_has_all_columns_after_a_step_more(tmp_path):
    """Same path, size and time, but other content: the next time it is read it is another item, without a past."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.bmp"
    Image.fromarray(np.full((20, 20), 10, np.uint8)).save(path)
    stat = path.stat()
    go(tmp_path / "images", tmp_path / "out", ["tint"])
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    made = go(tmp_path / "images", tmp_path / "out", ["tint", "picky"])
    assert list(values(made, "tint").values()) == [[90, 90, 90]]


def test_what_a_step_made_before_a_death_is_not_taken_for_other_settings(images, tmp_path, monkeypatch):
    old = values(go(images, tmp_path / "out", ["tint"]), "tint")

    class Death(BaseException):
        pass

    def die(self, *_, **__):
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "save_receipt", die)
        with pytest.raises(Death):
            run(images, into=tmp_path / "out", pipeline=[{"tint": {"gain": 2.0}}], report=False)
    assert values(go(images, tmp_path / "out", ["tint"]), "tint") == old


def test_a_step_removed_takes_its_columns_and_its_receipt_along(images, tmp_path):
    go(images, tmp_path / "out", ["tint", "rank", {"rank": {"direction": "down"}, "as": "other"}])
    less = go(images, tmp_path / "out", ["tint", "rank"])
    assert "other_rank" not in less.columns
    assert less.receipt("other") is None
    assert not list((tmp_path / "out" / "receipts").glob("other*"))
    assert last_run(less).steps == {"tint": 0, "rank": 0}


def test_a_step_renamed_bears_the_new_prefix_alone(images, tmp_path):
    go(images, tmp_path / "out", ["tint", {"rank": {}, "as": "one"}])
    made = go(images, tmp_path / "out", ["tint", {"rank": {}, "as": "two"}])
    assert {c for c in made.columns if "rank" in c} == {"two_rank"}
    assert list(made.receipts()) == ["tint", "two"]


def test_a_receipt_lists_the_columns_as_they_are_called(images, tmp_path):
    made = go(images, tmp_path / "out", [{"tint": {}, "as": "warm"}, {"rank": {"on": "warm_tint"}, "as": "by"}])
    assert made.receipt("warm").writes == ["warm_tint"]
    assert made.receipt("by").writes == ["by_rank"]
    assert made.receipt("by").reads == ["id", "warm_tint"]


def test_a_table_step_remembers_its_last_result(images, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("RANK_LOG", str(log))
    ranks = values(go(images, tmp_path / "out", TABLE), "rank")
    save(images / "new.png", plain(RED))
    made = go(images, tmp_path / "out", TABLE)
    _, second = [json.loads(line) for line in log.read_text().splitlines()]
    told = dict(zip(second["ids"], second["previous"], strict=True))
    assert {item: told[item] for item in ranks} == ranks
    assert [item for item, rank in told.items() if np.isnan(rank)] == list(set(values(made, "rank")) - set(ranks))


def test_the_pipeline_of_a_collection_is_not_replaced_by_naming_a_source(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    save(tmp_path / "more" / "new.png", plain(RED))
    made = go(tmp_path / "more", tmp_path / "out")
    assert list(made.receipts()) == TABLE


# ---------------------------------------------------------------- an item that went and came back


def test_an_item_that_came_back_after_a_broken_run_has_all_its_columns(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    (images / "disc_0.png").rename(tmp_path / "aside.png")
    with pytest.raises(SettingError, match="rank needs"):
        run(images, into=tmp_path / "out", pipeline=["tint", {"rank": {"least": 12}}], report=False)
    (tmp_path / "aside.png").rename(images / "disc_0.png")
    made = go(images, tmp_path / "out", TABLE)
    assert sorted(values(made, "rank").values()) == list(range(12))


# ---------------------------------------------------------------- what breaks off


class Stop(BaseException):
    """Stands for Ctrl-C at one exact instant."""


def test_stopped_between_the_items_and_their_files_nothing_is_twice(images, tmp_path, monkeypatch):
    put_files, calls = Collection.put_files, []

    def stop_once(self, rows, **more):
        if rows.num_rows and not calls:
            calls.append(1)
            raise KeyboardInterrupt
        put_files(self, rows, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "put_files", stop_once)
        with pytest.raises(KeyboardInterrupt):
            run(images, into=tmp_path / "out", pipeline=TABLE, report=False)
    assert len(go(images, tmp_path / "out", TABLE)) == 12


WRITES = ("put_files", "append_items", "put_columns", "save_receipt", "put_in_force", "drop_items", "drop_columns",
          "drop_receipt", "save_state", "tidy")  # fmt: skip


def _stopping(patch, at: int) -> list[str]:
    """Let the process stop before write number `at` of any kind; the writes there were."""
    calls: list[str] = []

    def wrap(name):
        original = getattr(Collection, name)

        def write(self, *words, **more):
            calls.append(name)
            if len(calls) > at:
                raise Stop
            return original(self, *words, **more)

        return write

    for name in WRITES:
        patch.setattr(Collection, name, wrap(name))
    return calls


def test_stopped_before_any_write_the_next_run_comes_to_the_same(tmp_path, monkeypatch):
    """Files and pipeline change in every way at once; the run is stopped at each of its writes, and started again."""
    base = tmp_path / "base"
    drawn.fill(base / "images", each=2, side=16)
    run(base / "images", into=base / "out", pipeline=["tint", "rank"], report=False, threads=1)
    (base / "images" / "disc_0.png").unlink()
    save(base / "images" / "new.png", plain(RED))
    save(base / "images" / "stripes_0.png", plain(GREEN))
    shutil.copy(base / "images" / "checks_0.png", base / "images" / "zcopy.png")
    after = ["tint", "picky", {"rank": {"direction": "down"}}]
    columns = ["id", "tint", "fine", "rank", "name"]
    shutil.copytree(base, tmp_path / "whole")
    wanted = go(tmp_path / "whole" / "images", tmp_path / "whole" / "out", after)
    for at in range(100):
        here = tmp_path / f"stop_{at}"
        shutil.copytree(base, here)
        with monkeypatch.context() as patch:
            writes = _stopping(patch, at)
            try:
                run(here / "images", into=here / "out", pipeline=after, report=False, threads=1)
            except Stop:
                Collection.open(here / "out").read()
            else:
                break
        made = go(here / "images", here / "out", after)
        assert outcomes(made) == outcomes(wanted), writes
        assert made.read(columns).equals(wanted.read(columns)), writes
    assert at > 8


def test_ctrl_c_in_the_middle_keeps_what_was_done(tmp_path, monkeypatch):
    images = drawn.fill(tmp_path / "images", each=40, side=16)
    append, calls = Collection.append_items, []

    def stop(self, name, rows):
        append(self, name, rows)
        calls.append(rows.num_rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "append_items", stop)
        with pytest.raises(KeyboardInterrupt):
            run(images, into=tmp_path / "out", pipeline=ROWS, report=False, threads=2)
    made = go(images, tmp_path / "out", ROWS)
    assert len(made) == 120
    assert last_run(made).decoded == 120 - sum(calls)
    assert threading.active_count() == 1 or not any(t.name.startswith("pass") for t in threading.enumerate())


def test_a_collection_broken_off_at_its_very_first_write_can_be_gone_on_with(images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "collection.json.part").write_bytes(b'{"for')
    assert len(go(images, tmp_path / "out", ROWS)) == 12


def test_a_table_broken_off_at_its_very_first_write_can_be_gone_on_with(images, tmp_path):
    made = go(images, tmp_path / "out", ROWS)
    for name in (made.state.items, "files.lance"):
        shutil.rmtree(made.folder / name)
        (made.folder / name / "_versions").mkdir(parents=True)
    assert len(go(images, tmp_path / "out", ROWS)) == 12


# ---------------------------------------------------------------- sources


def test_an_empty_folder_is_a_collection_of_nothing(tmp_path):
    (tmp_path / "images").mkdir()
    made = go(tmp_path / "images", tmp_path / "out", TABLE)
    assert len(made) == 0
    assert last_run(made).files == 0
    save(tmp_path / "images" / "a.png", plain(RED))
    assert len(go((), tmp_path / "out")) == 1


@pytest.mark.parametrize("steps", [None, TABLE], ids=["default", "plug-in"])
def test_all_files_failing_is_no_crash(tmp_path, steps):
    (tmp_path / "images").mkdir()
    for at in range(3):
        (tmp_path / "images" / f"{at}.png").write_bytes(b"no image %d" % at)
    made = go(tmp_path / "images", tmp_path / "out", steps)
    assert set(outcomes(made).values()) == {"failed"}
    assert len(made) == 0
    assert "not an image" in reasons(made)["0.png"]


def test_a_failed_file_is_tried_again_when_it_changes_and_not_before(tmp_path):
    images = tmp_path / "images"
    save(images / "a.png", plain(RED))
    (images / "b.png").write_bytes(b"no image")
    go(images, tmp_path / "out", ROWS)
    made = go(images, tmp_path / "out", ROWS)
    assert outcomes(made) == {"a.png": "ok", "b.png": "failed"}
    save(images / "b.png", plain(GREEN))
    made = go(images, tmp_path / "out", ROWS)
    assert outcomes(made) == {"a.png": "ok", "b.png": "ok"}


def test_an_unmounted_source_is_refused_and_nothing_is_lost(images, tmp_path):
    first = go(images, tmp_path / "out", TABLE)
    state = first.state
    images.rename(tmp_path / "away")
    images.mkdir()
    for named in (images, ()):
        with pytest.raises(SourceError, match="Is it mounted"):
            run(named, into=tmp_path / "out", pipeline=["tint"], report=False)
    assert len(Collection.open(tmp_path / "out")) == 12
    assert Collection.open(tmp_path / "out").state == state


def test_a_source_that_cannot_be_read_loses_nothing(images, tmp_path, monkeypatch):
    go(images, tmp_path / "out", ROWS)
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) == str(images):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"[Pp]ermission"):
        run(images, into=tmp_path / "out", pipeline=ROWS, report=False)
    assert len(Collection.open(tmp_path / "out")) == 12


def test_a_folder_in_a_source_that_cannot_be_read_keeps_its_items(images, tmp_path, monkeypatch):
    save(images / "deep" / "a.png", plain(RED))
    go(images, tmp_path / "out", ROWS)
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) == str(images / "deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        made = run(images, into=tmp_path / "out", pipeline=ROWS, report=False)
        assert len(made) == 13
        assert any("cannot be read" in reason for reason in reasons(made).values())
    assert outcomes(go(images, tmp_path / "out", ROWS)).get("deep/a.png") == "ok"


def test_a_source_that_vanishes_while_it_is_read_stops_the_run_and_keeps_the_rest(tmp_path, monkeypatch):
    images = drawn.fill(tmp_path / "images", each=30, side=16)
    append = Collection.append_items

    def vanish(self, name, rows):
        append(self, name, rows)
        if images.exists():
            images.rename(tmp_path / "away")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "append_items", vanish)
        with pytest.raises(SourceError, match="vanished"):
            run(images, into=tmp_path / "out", pipeline=[{"tint": {"sleep": 0.005}}], report=False, threads=1)
    half = Collection.open(tmp_path / "out")
    assert 0 < len(half) < 90
    assert set(outcomes(half).values()) == {"ok"}
    (tmp_path / "away").rename(images)
    made = go(images, tmp_path / "out", [{"tint": {"sleep": 0.005}}])
    assert len(made) == 90


def test_a_folder_with_brackets_that_vanishes_is_no_glob(tmp_path, monkeypatch):
    images = drawn.fill(tmp_path / "batch [1]", each=2)
    read_bytes = type(images).read_bytes

    def gone(self):
        if self.suffix == ".png" and images.exists():
            images.rename(tmp_path / "away")
        return read_bytes(self)

    monkeypatch.setattr(type(images), "read_bytes", gone)
    with pytest.raises(SourceError, match="vanished"):
        run(images, into=tmp_path / "out", pipeline=ROWS, report=False, threads=1)


def test_a_file_that_vanishes_while_the_rest_is_read_fails_alone(images, tmp_path, monkeypatch):
    from imagier import sources

    scan = sources.scan

    def scan_then_lose(*words, **more):
        found = scan(*words, **more)
        (images / "disc_0.png").unlink(missing_ok=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sources, "scan", scan_then_lose)
        made = go(images, tmp_path / "out", ROWS)
    assert reasons(made) == {"disc_0.png": "vanished before it was read"}
    assert outcomes(go(images, tmp_path / "out", ROWS)).get("disc_0.png") is None


def test_a_file_named_as_a_source_that_vanishes_does_not_stop_the_others(tmp_path, monkeypatch):
    from imagier import sources

    paths = [save(tmp_path / f"{name}.png", plain(colour)) for name, colour in (("a", RED), ("b", GREEN), ("c", BLUE))]
    scan = sources.scan

    def scan_then_lose(*words, **more):
        found = scan(*words, **more)
        paths[0].unlink(missing_ok=True)
        return found

    monkeypatch.setattr(sources, "scan", scan_then_lose)
    made = go(paths, tmp_path / "out", ROWS)
    assert outcomes(made) == {"a.png": "failed", "b.png": "ok", "c.png": "ok"}


def test_the_collection_may_lie_inside_its_source(images, tmp_path):
    go(images, images / "out", ROWS)
    save(images / "out" / "plots" / "map.png", plain(RED))
    assert len(go(images, images / "out", ROWS)) == 12


def test_a_glob_does_not_reach_into_the_collection(images, tmp_path):
    pattern = f"{images}/**/*.png"
    go(pattern, images / "out", ROWS)
    save(images / "out" / "plots" / "map.png", plain(RED))
    assert len(go(pattern, images / "out", ROWS)) == 12


def test_overlapping_sources_hold_each_file_once(images, tmp_path):
    save(images / "deep" / "a.png", plain(RED))
    made = go([images, images / "deep", images / "deep" / "a.png"], tmp_path / "out", ROWS)
    assert len(made.files()) == 13
    assert outcomes(made)["deep/a.png"] == "ok"


def test_naming_a_folder_inside_a_source_changes_no_name(images, tmp_path):
    save(images / "deep" / "a.png", plain(RED))
    before = values(go(images, tmp_path / "out", ROWS), "label_folder")
    after = values(go(images / "deep", tmp_path / "out", ROWS), "label_folder")
    assert after == before


def test_forgetting_one_of_two_overlapping_sources_keeps_what_the_other_holds(images, tmp_path):
    save(images / "deep" / "a.png", plain(RED))
    save(tmp_path / "more" / "b.png", plain(GREEN))
    go([images / "deep", images], tmp_path / "out", ROWS)
    made = go(tmp_path / "more", tmp_path / "out", ROWS, forget=[images / "deep"])
    assert outcomes(made).get("deep/a.png") == "ok"


def test_forget_takes_a_source_and_its_items_out(images, tmp_path):
    save(tmp_path / "more" / "new.png", plain(RED))
    go([images, tmp_path / "more"], tmp_path / "out", TABLE)
    made = go((), tmp_path / "out", forget=[images])
    assert list(outcomes(made)) == ["new.png"]
    assert [made.absolute(each) for each in made.state.sources] == [str(tmp_path / "more")]
    with pytest.raises(SourceError, match="no source of this collection"):
        run((), into=tmp_path / "out", forget=[images], report=False)


def test_forget_works_when_the_source_is_gone(images, tmp_path):
    save(tmp_path / "more" / "new.png", plain(RED))
    go([images, tmp_path / "more"], tmp_path / "out", TABLE)
    shutil.rmtree(images)
    with pytest.raises(SourceError, match="not there"):
        run((), into=tmp_path / "out", report=False)
    assert len(go((), tmp_path / "out", forget=[images])) == 1


def test_forgetting_all_leaves_an_empty_collection(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    made = go((), tmp_path / "out", forget=[images])
    assert len(made) == 0
    assert len(made.files()) == 0
    assert len(go(images, tmp_path / "out", TABLE)) == 12


def test_an_empty_name_is_no_source(tmp_path):
    with pytest.raises(SourceError):
        run("", into=tmp_path / "out", report=False)


def test_a_collection_is_no_source_of_images(images, tmp_path):
    go(images, tmp_path / "out", ROWS)
    with pytest.raises(SourceError, match="collection"):
        run(tmp_path / "out", into=tmp_path / "other", pipeline=ROWS, report=False)


@pytest.mark.parametrize(
    "name", ['it\'s a "b"', "naïve ☃", "100%20 a#b", "what?", "c:d;e", "[x] *", "~", "-x", "back\\slash", " around "]
)
def test_any_name_will_do(tmp_path, name):
    images = drawn.fill(tmp_path / name / "images", each=1, side=16)
    odd = save(images / name / f"{name}.png", plain(RED))
    out = tmp_path / name / f"out {name}"
    go(images, out, TABLE)
    made = go(images, out, TABLE)
    assert last_run(made).decoded == 0
    assert str(odd) in made.read(["path"])["path"].to_pylist()
    odd.unlink()
    assert len(go(images, out, TABLE)) == 3


def test_a_line_break_in_a_name_is_a_name(tmp_path):
    images = drawn.fill(tmp_path / "new\nline", each=1, side=16)
    go(images, tmp_path / "out", TABLE)
    assert last_run(go(images, tmp_path / "out", TABLE)).decoded == 0


def test_a_folder_in_a_source_that_is_no_unicode(tmp_path):
    images = tmp_path / "images"
    odd = os.fsdecode(os.fsencode(images) + b"/bad\xff")
    os.makedirs(odd)
    shutil.copy(save(tmp_path / "a.png", plain(RED)), odd)
    made = go(images, tmp_path / "out", ROWS)
    assert "Unicode" in next(iter(reasons(made).values()))


# ---------------------------------------------------------------- where the collection stands


def test_a_collection_and_its_images_can_move_together(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    (tmp_path / "elsewhere").mkdir()
    images.rename(tmp_path / "elsewhere" / "images")
    (tmp_path / "out").rename(tmp_path / "elsewhere" / "out")
    made = go((), tmp_path / "elsewhere" / "out")
    assert last_run(made).decoded == 0
    assert all(os.path.isfile(path) for path in made.read(["path"])["path"].to_pylist())


def test_a_collection_reached_by_a_link_knows_its_images(images, tmp_path):
    go(images, tmp_path / "out", ROWS)
    (tmp_path / "far" / "away").mkdir(parents=True)
    link = tmp_path / "far" / "away" / "link"
    link.symlink_to(tmp_path / "out")
    linked = Collection.open(link)
    assert all(os.path.isfile(path) for path in linked.read(["path"])["path"].to_pylist())
    made = go((), link)
    assert last_run(made).decoded == 0


# ---------------------------------------------------------------- refused before any work


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pipeline": [{"tnt": {}}]}, "Did you mean tint"),
        ({"pipeline": [{"tint": {"gian": 2}}]}, "Did you mean gain"),
        ({"pipeline": [{"tint": {"gain": "much"}}]}, "gain"),
        ({"pipeline": ["tint", {"rank": {"on": "tnit"}}]}, "Did you mean tint"),
        ({"pipeline": ["tint"], "settings": {"tin.gain": 1}}, "Did you mean tint"),
        ({"pipeline": ["rank", "tint"]}, "tint"),
        ({"pipeline": ["tint", {"rank": {}}, {"rank": {}}]}, "as"),
        ({"sources": "nowhere"}, "not there"),
        ({"like": "nowhere"}, "no collection"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(images, tmp_path, words, message):
    named = {"sources": images, **words}
    with pytest.raises((SettingError, SourceError, CollectionError), match=message):
        run(into=tmp_path / "out", report=False, **named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_is_refused(images, tmp_path, threads):
    with pytest.raises(SettingError, match="threads"):
        run(images, into=tmp_path / "out", pipeline=ROWS, report=False, threads=threads)


def test_a_folder_of_other_things_is_no_place_for_a_collection(images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(CollectionError, match=r"thesis\.tex"):
        run(images, into=tmp_path / "out", pipeline=ROWS, report=False)
    with pytest.raises(CollectionError, match="is a file"):
        run(images, into=tmp_path / "out" / "thesis.tex", pipeline=ROWS, report=False)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["thesis.tex"]


# ---------------------------------------------------------------- like


def test_new_items_are_placed_in_what_was_fitted(images, tmp_path):
    fitted = go(images, tmp_path / "fitted", TABLE)
    save(tmp_path / "new" / "bright.png", plain((255, 255, 255)))
    shutil.copy(images / "disc_0.png", tmp_path / "new")
    placed = go(tmp_path / "new", tmp_path / "placed", like=tmp_path / "fitted")
    ranks = values(placed, "rank")
    assert sorted(ranks.values())[-1] == 12
    (same,) = set(ranks) & set(values(fitted, "rank"))
    assert ranks[same] == values(fitted, "rank")[same]
    again = go(tmp_path / "new", tmp_path / "placed", like=tmp_path / "fitted")
    assert set(last_run(again).steps.values()) == {0}


def test_a_placed_collection_stays_placed_when_it_is_brought_up_to_date(images, tmp_path):
    go(images, tmp_path / "fitted", TABLE)
    save(tmp_path / "new" / "bright.png", plain((255, 255, 255)))
    go(tmp_path / "new", tmp_path / "placed", like=tmp_path / "fitted")
    save(tmp_path / "new" / "white.png", plain((254, 254, 254)))
    made = go((), tmp_path / "placed")
    assert list(values(made, "rank").values()) == [12, 12]


def test_like_itself_is_refused(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for into in ("out", "link"):
        with pytest.raises(SettingError, match="same collection"):
            run(images, into=tmp_path / into, like=tmp_path / "out", report=False)


def test_like_takes_no_pipeline(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    with pytest.raises(SettingError, match="--like"):
        run(images, into=tmp_path / "new", like=tmp_path / "out", pipeline=TABLE, report=False)


def test_the_default_pipeline_can_be_placed_in(tmp_path):
    images = drawn.fill(tmp_path / "images", each=8, side=32)
    run(images, into=tmp_path / "fitted", report=False)
    save(tmp_path / "new" / "other.png", drawn.picture("disc", 99, 32))
    shutil.copy(images / "disc_0.png", tmp_path / "new")
    placed = go(tmp_path / "new", tmp_path / "placed", like=tmp_path / "fitted")
    fitted = values(Collection.open(tmp_path / "fitted"), "group")
    (same,) = set(values(placed, "group")) & set(fitted)
    assert values(placed, "group")[same] == fitted[same]


# ---------------------------------------------------------------- reading while writing


def test_readers_are_never_blocked_and_never_see_half(images, tmp_path):
    go(images, tmp_path / "out", ["tint", "rank"])
    stop, troubles, reads = threading.Event(), [], []

    def read():
        while not stop.is_set():
            try:
                opened = Collection.open(tmp_path / "out")
                table = opened.read(["id", "path", "tint", "rank"])
                opened.files()
                reads.append(table.num_rows)
                if table["tint"].null_count:
                    troubles.append("a hole in tint")
            except Exception as error:  # noqa: BLE001 - whatever it is, a reader must not meet it
                troubles.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for at in range(6):
            direction = "down" if at % 2 else "up"
            steps = [{"tint": {"gain": 1.0 + at // 3}}, {"rank": {"direction": direction}}]
            run(images, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    finally:
        stop.set()
        thread.join()
    assert len(reads) > 5
    assert Counter(troubles) == {}


def test_the_report_of_a_run_is_written_once_and_again_after_a_change(images, tmp_path, monkeypatch):
    import imagier.workflows.run as module

    published = []

    def publish(collection):
        published.append(collection.version)
        (collection.folder / "report.html").write_text("x")
        return []

    monkeypatch.setattr(module, "publish", publish)
    for _ in range(2):
        run(images, into=tmp_path / "out", pipeline=TABLE)
    assert len(published) == 1
    (images / "disc_0.png").unlink()
    run(images, into=tmp_path / "out", pipeline=TABLE)
    assert len(published) == 2
    (tmp_path / "out" / "report.html").unlink()
    run(images, into=tmp_path / "out", pipeline=TABLE)
    assert len(published) == 3


def test_a_receipt_counts_the_items_of_the_collection(images, tmp_path):
    go(images, tmp_path / "out", TABLE)
    save(images / "new.png", plain(RED))
    made = go(images, tmp_path / "out", TABLE)
    assert made.receipt("rank").items == 13
    assert made.receipt("tint").items == 13


def test_time_is_written(images, tmp_path):
    started = time.time()
    made = go(images, tmp_path / "out", TABLE)
    from datetime import datetime

    assert abs(datetime.fromisoformat(made.receipt("rank").made).timestamp() - started) < 120
    assert last_run(made).seconds["whole"] > 0
