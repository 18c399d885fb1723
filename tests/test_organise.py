"""organise: what is placed where, that nothing is lost, and that undo gives back what was there, whatever happened."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagier import images
from imagier._names import distinct, fold, safe_name, split
from imagier.collection import FILES, ITEMS, Collection, State
from imagier.types import CollectionError, ImagierError, SettingError
from imagier.workflows import _acts, _manifest
from imagier.workflows.organise import How, apply, plan, undo

HOWS = get_args(How)


def collection(
    out: Path, root: Path, values: Mapping[str, pa.DataType], of: Callable[[str], Mapping[str, Any]], pages: int = 1
) -> Collection:
    """A stored collection of every file under `root`; `of` gives a content's columns by its first name."""
    made = Collection.create(out)
    rows, items, seen = [], [], set()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name, content = path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
        now = path.stat()
        rows.append({"path": made.relative(path), "source": made.relative(root), "name": name, "size": now.st_size,
                     "mtime_ns": now.st_mtime_ns, "hash": content, "outcome": "ok", "reason": None, "pages": pages,
                     "key": "k"})  # fmt: skip
        if content not in seen:
            seen.add(content)
            items += [{"id": f"{content}:{page}" if pages > 1 else content, "file": content, "page": page,
                       "depth": "uint8", **of(name)} for page in range(pages)]  # fmt: skip
    store(made, items, rows, values)
    return made


def store(made: Collection, items: list[dict[str, Any]], rows: list[dict[str, Any]], values: Mapping[str, Any]) -> None:
    schema = pa.schema([*ITEMS, *(pa.field(name, kind) for name, kind in values.items())])
    shutil.rmtree(made.folder / "items-1.lance", ignore_errors=True)
    made.append_items("items-1.lance", pa.Table.from_pylist(items, schema))
    made.put_files(pa.Table.from_pylist(rows, FILES))
    made.save_state(State(items="items-1.lance"))


def grow(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files, each with a time and mode of its own."""
    for at, (name, data) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o640 if at % 2 else 0o444)
        os.utime(path, ns=(1_600_000_000_123_456_789 + at, 1_600_000_000_123_456_789 + at))
    return root


def shot(root: Path) -> dict[str, Any]:
    """All there is under a folder, byte for byte, with modes and times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        now, name = path.lstat(), path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = "link", os.readlink(path), now.st_mtime_ns
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = path.read_bytes(), stat.S_IMODE(now.st_mode), now.st_mtime_ns
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


GROUP = {"group": pa.int32()}
FOUR = {"cats/a.png": b"one", "cats/b.png": b"two", "dogs/a.png": b"three", "c.png": b"four"}
GROUPS = {"cats/a.png": 0, "cats/b.png": 1, "dogs/a.png": 0, "c.png": -1}


@pytest.fixture
def four(tmp_path: Path) -> Collection:
    root = grow(tmp_path / "in", FOUR)
    return collection(tmp_path / "out", root, GROUP, lambda name: {"group": GROUPS[name]})


# ---------------------------------------------------------------- the plan


def test_a_plan_says_where_and_why_and_does_nothing(four: Collection, tmp_path: Path) -> None:
    before = shot(tmp_path / "in")
    table = plan(four)
    assert table.column_names == ["id", "source", "destination", "action", "why", "size", "mtime_ns"]
    by_source = {Path(row["source"]).relative_to(tmp_path / "in").as_posix(): row for row in table.to_pylist()}
    assert {name: row["destination"] for name, row in by_source.items()} == {
        "c.png": "noise/c.png",
        "cats/a.png": "group_00/a.png",
        "cats/b.png": "group_01/b.png",
        "dogs/a.png": "group_00/a-2.png",
    }
    assert by_source["c.png"]["why"] == "group is -1 (noise)"
    assert by_source["dogs/a.png"]["why"] == "group is 0; numbered: another 'a.png' stands there"
    assert by_source["c.png"]["size"] == 4
    assert shot(tmp_path / "in") == before
    assert not (four.folder / "organised").exists()
    with (four.folder / "organise" / "plan.csv").open(newline="") as file:
        written = [row["destination"] for row in csv.DictReader(file)]
    assert written == table["destination"].to_pylist()


def test_folders_of_several_columns_nest(tmp_path: Path) -> None:
    root = grow(tmp_path / "in", FOUR)
    kinds = {"group": pa.int32(), "sharp": pa.bool_(), "label": pa.string(), "count": pa.int64()}
    values = {"cats/a.png": (11, True, "CON", -3), "cats/b.png": (None, False, "none", 7),
              "dogs/a.png": (-1, None, None, 7), "c.png": (100, True, "a/b", None)}  # fmt: skip
    made = collection(tmp_path / "out", root, kinds, lambda name: dict(zip(kinds, values[name], strict=True)))
    folders = {
        str(Path(row["source"]).relative_to(root)): str(Path(row["destination"]).parent)
        for row in plan(made, by="group, sharp,label,count").to_pylist()
    }
    assert folders == {
        "cats/a.png": "group_011/yes/_CON/count_-3",
        "cats/b.png": "none/no/none-2/count_07",
        "dogs/a.png": "noise/none/none/count_07",
        "c.png": "group_100/yes/a_b/none",
    }


def test_what_makes_no_folders_is_refused(tmp_path: Path) -> None:
    root = grow(tmp_path / "in", FOUR)
    made = collection(tmp_path / "out", root, {"group": pa.int32(), "distance": pa.float32()}, lambda _: {})
    with pytest.raises(SettingError, match="Did you mean group"):
        plan(made, by="groupe")
    with pytest.raises(SettingError, match="'distance', which holds float"):
        plan(made, by="group,distance")
    with pytest.raises(SettingError, match="'paths'"):
        plan(made, by="paths")
    with pytest.raises(SettingError, match="twice"):
        plan(made, by="group,group")
    with pytest.raises(SettingError, match="copy"):
        plan(made, how="cpoy")  # type: ignore[arg-type]
    for own in (made.folder, made.folder / "receipts", made.folder / "files.lance" / "x"):
        with pytest.raises(SettingError, match="collection's own"):
            plan(made, to=own)
    with pytest.raises(SettingError, match="is a file"):
        plan(made, to=root / "c.png")
    with pytest.raises(SettingError, match="is a file"):
        plan(made, by="label_folder", to=grow(tmp_path / "to", {"cats": b"not a folder"}))


def test_a_layout_that_would_fall_among_the_collections_files_is_refused(tmp_path: Path) -> None:
    root = grow(tmp_path / "in", {"out/x.png": b"1"})
    made = collection(tmp_path / "out", root, GROUP, lambda _: {"group": 0})
    with pytest.raises(SettingError, match="collection's own"):
        plan(made, by="label_folder", to=tmp_path)


def test_a_plan_that_no_longer_holds_is_refused(four: Collection, tmp_path: Path) -> None:
    plan(four)
    (tmp_path / "in" / "c.png").unlink()
    with pytest.raises(CollectionError, match="Plan again"):
        apply(four)
    assert not (four.folder / "organised").exists()
    plan(four)
    outcome = apply(four)
    assert (outcome.placed, outcome.skipped) == (3, 1)
    assert "c.png cannot be reached" in outcome.problems[0]


def test_an_edited_plan_is_refused(four: Collection) -> None:
    plan(four)
    saved = four.folder / "organise" / "plan.csv"
    saved.write_text(saved.read_text().replace("noise/c.png", "../../c.png"))
    with pytest.raises(CollectionError, match="edited"):
        apply(four)


# ---------------------------------------------------------------- applying


@pytest.mark.parametrize("how", HOWS)
def test_files_are_placed_and_put_back(four: Collection, tmp_path: Path, how: How) -> None:
    root, to = tmp_path / "in", four.folder / "organised"
    before = shot(root)
    plan(four, how=how)
    outcome = apply(four, how=how)
    assert (outcome.placed, outcome.skipped, outcome.problems, outcome.folder) == (4, 0, [], to)
    assert names(to) == ["group_00/a-2.png", "group_00/a.png", "group_01/b.png", "noise/c.png"]
    placed, source = to / "group_00" / "a-2.png", root / "dogs" / "a.png"
    assert placed.read_bytes() == b"three"
    if how == "move":
        assert names(root) == []
        assert (root / "dogs").is_dir()  # emptied, not removed
        assert placed.stat().st_mtime_ns == before["dogs/a.png"][2]
        assert set(four.files()["path"].to_pylist()) == {str(to / name) for name in names(to)}
    else:
        assert shot(root) == before
        assert placed.is_symlink() == (how == "symlink")
        assert placed.samefile(source) == (how != "copy")
        now = placed.stat()
        assert (now.st_mtime_ns, stat.S_IMODE(now.st_mode)) == (before["dogs/a.png"][2], before["dogs/a.png"][1])
    assert apply(four, how=how).placed == 0  # again: nothing is left to do
    back = undo(four)
    assert (back.placed, back.problems) == (4, [])
    assert shot(root) == before
    assert not to.exists()
    assert set(four.files()["path"].to_pylist()) == {str(root / name) for name in FOUR}
    assert undo(four).placed == 0


def test_nothing_that_stands_there_is_overwritten(four: Collection, tmp_path: Path) -> None:
    to = grow(tmp_path / "to", {"group_00/A.PNG": b"mine", "group_00/a-2.png": b"mine too", "keep/x": b"x"})
    before = shot(to)
    apply(four, to=to)
    assert {name: value for name, value in shot(to).items() if name in before} == before
    assert names(to / "group_00") == ["A.PNG", "a-2.png", "a-3.png", "a-4.png"]
    undo(four)
    assert shot(to) == before


def test_what_appears_at_a_destination_meanwhile_is_left(four: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = four.folder / "organised" / "noise" / "c.png"
    link = os.link

    def late(here: str, there: str) -> None:
        if there == str(taken):
            taken.write_bytes(b"somebody else's")
        link(here, there)

    monkeypatch.setattr(os, "link", late)
    outcome = apply(four)
    assert outcome.placed == 3
    assert "came to stand" in outcome.problems[0]
    assert taken.read_bytes() == b"somebody else's"
    assert [name for name in names(four.folder / "organised") if ".part" in name] == []
    undo(four)
    assert taken.read_bytes() == b"somebody else's"
    assert names(four.folder / "organised") == ["noise/c.png"]


def test_awkward_names_become_names_for_every_system(tmp_path: Path) -> None:
    files = ["a:b.png", "con.png", "A.png", "a.png", unicodedata.normalize("NFD", "é.png"), "é.png", "x .. ", "t\n.png"]
    root = grow(tmp_path / "in", {name: name.encode() for name in files})
    made = collection(tmp_path / "out", root, GROUP, lambda _: {"group": 3})
    before = shot(root)
    why = {Path(row["source"]).name: row["why"] for row in plan(made, how="move").to_pylist()}
    assert "renamed" in why["con.png"]
    apply(made, how="move")
    expected = ["A.png", "_con.png", "a-2.png", "a_b.png", "t_.png", "x", "é-2.png", "é.png"]
    assert names(made.folder / "organised" / "group_03") == sorted(expected)
    undo(made)
    assert shot(root) == before


def test_the_same_content_at_several_paths_is_placed_at_each(tmp_path: Path) -> None:
    root = grow(tmp_path / "in", {"x/1.png": b"same", "y/2.png": b"same"})
    made = collection(tmp_path / "out", root, GROUP, lambda _: {"group": 0})
    assert apply(made).placed == 2
    assert names(made.folder / "organised") == ["group_00/1.png", "group_00/2.png"]


def test_new_files_join_those_that_were_placed_before(tmp_path: Path) -> None:
    root = grow(tmp_path / "in", {"b/x.png": b"b"})
    for how in ("copy", "move"):
        out = tmp_path / how
        made = collection(out, root, GROUP, lambda _: {"group": 0})
        to = tmp_path / f"to-{how}"
        assert apply(made, to=to, how=how).placed == 1
        grow(root, {"a/x.png": b"a"})
        later = collection(tmp_path / f"{how}2", to if how == "move" else root, GROUP, lambda _: {"group": 0})
        rows = [*made.stored_files().to_pylist(), *collection_rows(later, made, root / "a" / "x.png")]
        items = [{**row, "group": 0} for row in made.read(ITEMS.names).to_pylist()]
        new = hashlib.sha256(b"a").hexdigest()
        store(made, [*items, {"id": new, "file": new, "page": 0, "depth": "uint8", "group": 0}], rows, GROUP)
        outcome = apply(made, to=to, how=how)
        assert (outcome.placed, outcome.skipped) == (1, 1)
        assert (to / "group_00" / "x.png").read_bytes() == b"b"
        assert (to / "group_00" / "x-2.png").read_bytes() == b"a"
        undo(made)
        assert names(root) == ["a/x.png", "b/x.png"]
        (root / "a" / "x.png").unlink()


def collection_rows(_: Collection, made: Collection, path: Path) -> list[dict[str, Any]]:
    now, content = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
    return [{"path": made.relative(path), "source": made.relative(path.parent), "name": path.name, "size": now.st_size,
             "mtime_ns": now.st_mtime_ns, "hash": content, "outcome": "ok", "reason": None, "pages": 1,
             "key": "k"}]  # fmt: skip


def test_two_layouts_are_never_mixed_in_one_folder(four: Collection, tmp_path: Path) -> None:
    apply(four)
    with pytest.raises(CollectionError, match="--undo"):
        apply(four, by="label_folder")
    with pytest.raises(CollectionError, match="--undo"):
        apply(four, how="hardlink")
    assert apply(four, by="label_folder", to=tmp_path / "other").placed == 4
    assert undo(four).placed == 8
    assert apply(four, by="label_folder").placed == 4


def test_moves_follow_one_another_and_all_go_back(four: Collection, tmp_path: Path) -> None:
    before = shot(tmp_path / "in")
    apply(four, how="move")
    apply(four, how="move", by="label_folder", to=tmp_path / "to")
    assert names(four.folder / "organised") == []
    assert names(tmp_path / "to") == ["cats/a.png", "cats/b.png", "dogs/a-2.png", "none/c.png"]
    assert apply(four, how="copy", by="label_folder", to=tmp_path / "to").placed == 0  # they stand there already
    undo(four)
    assert shot(tmp_path / "in") == before
    assert not (tmp_path / "to").exists()


def test_failed_files_are_counted_and_changed_ones_named(four: Collection, tmp_path: Path) -> None:
    row = {**four.stored_files().to_pylist()[0], "path": "../in/bad.png", "hash": None, "outcome": "failed", "pages": 0}
    four.put_files(pa.Table.from_pylist([row], FILES))
    (tmp_path / "in" / "c.png").write_bytes(b"other")
    outcome = apply(four)
    assert (outcome.placed, outcome.skipped, outcome.failed) == (3, 1, 1)
    assert "c.png has changed since it was read" in outcome.problems[0]


def test_a_copy_is_checked_against_what_was_read(four: Collection, tmp_path: Path) -> None:
    path = tmp_path / "in" / "c.png"
    at = path.stat().st_mtime_ns
    path.chmod(0o644)
    path.write_bytes(b"FOUR")
    os.utime(path, ns=(at, at))  # same size, same time
    outcome = apply(four)
    assert outcome.placed == 3
    assert "content has changed" in outcome.problems[0]
    assert names(four.folder / "organised" / "noise") == []


def test_one_writer_at_a_time(four: Collection) -> None:
    with Collection.open(four.folder).writing(), pytest.raises(CollectionError, match="another imagier"):
        apply(four)


def test_progress_is_shown_on_request(four: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    apply(four, progress=True)
    undo(four, progress=True)
    said = capsys.readouterr().err
    assert "organise" in said
    assert "4/4" in said


# ---------------------------------------------------------------- pages and regions


@pytest.mark.parametrize("how", ["copy", "move"])
def test_pages_are_written_apart_and_their_file_stays(tmp_path: Path, how: How) -> None:
    import tifffile

    stack = np.random.default_rng(0).integers(0, 60_000, (3, 9, 7)).astype(np.uint16)
    root = tmp_path / "in"
    root.mkdir()
    tifffile.imwrite(root / "stack.tif", stack, photometric="minisblack")
    made = collection(tmp_path / "out", root, GROUP, lambda _: {"group": 1, "depth": "uint16"}, pages=3)
    left = [row["why"] for row in plan(made, how=how).to_pylist() if row["action"] == "skip"]
    assert left == ["a file of 3 pages stays; its pages are laid out"]
    before = shot(root)
    assert apply(made, how=how).placed == 3
    assert shot(root) == before
    for page in range(3):
        data = (tmp_path / "out" / "organised" / "group_01" / f"stack_page_{page + 1}.png").read_bytes()
        np.testing.assert_array_equal(images.decode(data).image, stack[page])
    outcome = apply(made, how=how)
    assert (outcome.placed, outcome.skipped) == (0, 4)
    undo(made)
    assert not (tmp_path / "out" / "organised").exists()


def test_regions_are_cut_out_beside_files_that_have_a_group_themselves(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    picture = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
    (root / "a.tif").write_bytes(images.encode(picture, "tiff"))
    made = collection(tmp_path / "out", root, GROUP, lambda _: {"group": None, "depth": "float32"})
    parent = made.read(ITEMS.names).to_pylist()[0] | {"group": None}
    region = parent | {"id": parent["id"] + ":r", "parent": parent["id"], "box": [2.0, 3.0, 12.0, 9.0], "group": 4}
    store(made, [parent, region], made.stored_files().to_pylist(), GROUP)
    outcome = apply(made, how="move")
    assert (outcome.placed, outcome.skipped) == (1, 1)
    assert (root / "a.tif").exists()
    crop = tmp_path / "out" / "organised" / "group_04" / "a_x2_y3_w10_h6.tif"
    np.testing.assert_array_equal(images.decode(crop.read_bytes()).image, picture[3:9, 2:12])
    undo(made)
    store(made, [parent | {"group": 4}, region], made.stored_files().to_pylist(), GROUP)
    assert apply(made, how="move").placed == 2
    assert names(tmp_path / "out" / "organised") == ["group_04/a.tif", "group_04/a_x2_y3_w10_h6.tif"]
    assert made.pixels(region["id"]).shape == (6, 10, 3)


# ---------------------------------------------------------------- undoing


def test_undo_leaves_what_was_changed_and_what_is_the_only_one(four: Collection, tmp_path: Path) -> None:
    apply(four)
    to = four.folder / "organised"
    (to / "noise" / "c.png").chmod(0o644)
    (to / "noise" / "c.png").write_bytes(b"edited")
    (tmp_path / "in" / "cats" / "b.png").unlink()
    outcome = undo(four)
    assert outcome.placed == 2
    assert any("has been changed" in problem for problem in outcome.problems)
    assert any("the only one" in problem for problem in outcome.problems)
    assert names(to) == ["group_01/b.png", "noise/c.png"]
    assert undo(four).problems == []  # what was left is nobody's business any more


def test_undo_waits_for_an_old_path_that_is_taken(four: Collection, tmp_path: Path) -> None:
    before = shot(tmp_path / "in")
    apply(four, how="move")
    old = tmp_path / "in" / "c.png"
    old.write_bytes(b"new tenant")
    outcome = undo(four)
    assert outcome.placed == 3
    assert "something else now stands" in outcome.problems[0]
    assert old.read_bytes() == b"new tenant"
    old.unlink()
    shutil.rmtree(tmp_path / "in" / "dogs")
    undo(four)
    assert shot(tmp_path / "in")["c.png"] == before["c.png"]


def test_undo_puts_back_into_folders_that_were_removed(four: Collection, tmp_path: Path) -> None:
    before = shot(tmp_path / "in")
    apply(four, how="move")
    shutil.rmtree(tmp_path / "in")
    undo(four)
    assert shot(tmp_path / "in") == before


def test_there_is_nothing_to_undo_before_the_first_apply(four: Collection) -> None:
    with pytest.raises(CollectionError, match="nothing to undo"):
        undo(four)


def test_a_damaged_manifest_is_said_to_be(four: Collection) -> None:
    apply(four)
    path = four.folder / "organise" / "manifest.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:3], b"{broken", *lines[3:]]))
    with pytest.raises(CollectionError, match="line 4, is damaged"):
        undo(four)
    path.write_bytes(b"\n".join(lines) + b'{"act": 99, "acti')  # broken off by a death: as if never written
    assert undo(four).placed == 4


@pytest.mark.parametrize("how", HOWS)
def test_links_go_on_leading_to_their_images(tmp_path: Path, how: How) -> None:
    root = grow(tmp_path / "in", {"a.png": b"a", "z/b.png": b"b"})
    (root / "link.png").symlink_to("z/b.png")
    (root / "again.png").symlink_to("link.png")
    (root / "far.png").symlink_to(grow(tmp_path / "else", {"far.png": b"far"}) / "far.png")
    made = collection(tmp_path / "out", root, GROUP, lambda name: {"group": len(name)})
    before = shot(root)
    assert apply(made, how=how).placed == 5
    to = made.folder / "organised"
    contents = {path.name: path.read_bytes() for path in to.rglob("*.png")}
    assert contents == {"a.png": b"a", "b.png": b"b", "link.png": b"b", "again.png": b"b", "far.png": b"far"}
    assert all((to / folder).is_symlink() == (how in ("move", "symlink")) for folder in ("group_07/far.png",))
    assert apply(made, how=how).placed == 0
    undo(made)
    assert shot(root) == before


# ---------------------------------------------------------------- what the disk may do


def test_moving_to_another_file_system_copies_checks_and_removes(
    four: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shot(tmp_path / "in")
    apart(monkeypatch, tmp_path / "in")
    apply(four, how="move")
    assert names(tmp_path / "in") == []
    assert shot(four.folder / "organised")["noise/c.png"] == before["c.png"]
    undo(four)
    assert shot(tmp_path / "in") == before


def test_a_hard_link_to_another_file_system_is_refused(
    four: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch, tmp_path / "in")
    with pytest.raises(ImagierError, match=r"different file systems\. Use --how copy"):
        apply(four, how="hardlink")
    undo(four)
    assert not (four.folder / "organised").exists()


def apart(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """As if `root` lay on a disk of its own."""
    link = os.link

    def far(here: str, there: str) -> None:
        if str(here).startswith(str(root)) != str(there).startswith(str(root)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), here)
        link(here, there)

    monkeypatch.setattr(os, "link", far)


def linkless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that knows no hard links."""

    def never(here: str, there: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), here)

    monkeypatch.setattr(os, "link", never)


@pytest.mark.parametrize("how", ["copy", "move"])
def test_file_systems_without_hard_links_do(
    four: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    before = shot(tmp_path / "in")
    linkless(monkeypatch)
    assert apply(four, how=how).placed == 4
    assert (four.folder / "organised" / "noise" / "c.png").read_bytes() == b"four"
    undo(four)
    assert shot(tmp_path / "in") == before
    assert not (four.folder / "organised").exists()


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "Ask for the right to"), (errno.EIO, "move")]
)
def test_a_full_or_forbidden_disk_stops_and_can_be_gone_on_with(
    four: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    before, link, calls = shot(tmp_path / "in"), os.link, []

    def full(here: str, there: str) -> None:
        calls.append(there)
        if len(calls) == 3:
            raise OSError(number, os.strerror(number), there)
        link(here, there)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(ImagierError, match=said):
        apply(four, how="move")
    files = four.files()
    assert all(Path(path).is_file() for path in files["path"].to_pylist())  # what was moved is known at once
    assert apply(four, how="move").placed == 2
    undo(four)
    assert shot(tmp_path / "in") == before


def test_too_little_room_is_said_before_the_first_copy(four: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5))
    with pytest.raises(ImagierError, match="Nothing was done"):
        apply(four)
    assert not (four.folder / "organised").exists()


# ---------------------------------------------------------------- death


class Killed(BaseException):
    """The process dies here: nothing that touches the disk happens after it."""


@contextmanager
def killed_at(call: int) -> Iterator[list[int]]:
    """Die at the n-th call that changes the disk; a line of the manifest is then half written."""
    count = [0]
    add = _manifest.Manifest._add

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] >= call:
                raise Killed
            return function(*args, **options)

        return one

    def half(self: _manifest.Manifest, line: dict[str, Any]) -> None:
        count[0] += 1
        if count[0] == call and self._out is not None:
            self._out.write(b'{"act": 1, "sta')
            self._out.flush()
        if count[0] >= call:
            raise Killed
        add(self, line)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("link", "symlink", "unlink", "replace", "mkdir", "rmdir", "utime"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(shutil, "copystat", dying(shutil.copystat))
        patch.setattr(Collection, "relocate", dying(Collection.relocate))
        patch.setattr(_manifest.Manifest, "_add", half)
        yield count


TREE = st.dictionaries(
    st.sampled_from(["a.png", "A.png", "d/a.png", "d/e/a.png", "d/con.png", "x/é.png", "x/e\u0301.png", "x/y z..png"]),
    st.tuples(st.binary(min_size=1, max_size=3), st.one_of(st.none(), st.integers(-1, 3))),
    min_size=1,
)


def rooted(where: Path, tree: Mapping[str, tuple[bytes, int | None]], links: int) -> Collection:
    root = grow(where / "in", {name: content for name, (content, _) in tree.items()})
    (root / "empty").mkdir()
    for number, name in zip(range(links), tree, strict=False):
        (root / f"link{number}.png").symlink_to(name)
    groups = dict(tree.values())
    return collection(where / "out", root, GROUP, lambda name: {"group": groups[(root / name).read_bytes()]})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREE, st.sampled_from(HOWS), st.integers(0, 2), st.integers(1, 60), st.booleans(), st.booleans(), st.booleans())
def test_whatever_dies_when_undo_gives_back_the_tree(
    tree: dict[str, tuple[bytes, int | None]], how: How, links: int, call: int, again: bool, inside: bool, twice: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        made = rooted(where, tree, links)
        root, to = where / "in", where / "in" if inside else where / "to"
        before = shot(where / "in")
        total = len([name for name, each in before.items() if each != "folder"])
        with killed_at(call):
            died = dies(lambda: apply(made, how=how, to=to))
        if again or not died:
            outcome = apply(made, how=how, to=to)
            assert (outcome.placed + outcome.skipped, outcome.problems) == (total, [])
            assert all(Path(path).is_file() for path in made.files()["path"].to_pylist())
        if (made.folder / "organise" / "manifest.jsonl").exists():
            if twice:
                with killed_at(call // 2 + 1):
                    dies(lambda: undo(made))
            assert undo(made).problems == []
        assert shot(root) == before
        assert inside or not to.exists()
        assert set(made.files()["path"].to_pylist()) == {
            str(root / name) for name, each in before.items() if each != "folder"
        }


def dies(work: Callable[[], object]) -> bool:
    try:
        work()
    except Killed:
        return True
    return False


@pytest.mark.parametrize(
    ("how", "disk"), [*((how, "one") for how in HOWS), ("copy", "linkless"), ("move", "linkless"), ("move", "another")]
)
def test_every_single_moment_of_death_is_survived(
    tmp_path: Path, how: How, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rooted(tmp_path, {"b.png": (b"x", 0), "d/b.png": (b"y", 0)}, links=disk == "one")
    if disk == "linkless":
        linkless(monkeypatch)
    elif disk == "another":
        apart(monkeypatch, tmp_path / "in")
    before, call, alive = shot(tmp_path / "in"), 0, 0
    while alive < 2:
        call += 1 if disk == "one" else 3
        with killed_at(call):
            alive = not dies(lambda: apply(made, how=how))
        if call % 2:
            assert apply(made, how=how).problems == []
            assert len(names(made.folder / "organised")) == 2 + (disk == "one")
        with killed_at(call):
            alive += not dies(lambda: undo(made))
        undo(made)
        assert shot(tmp_path / "in") == before
        assert not (made.folder / "organised").exists()
    assert call > 15


DYING = """
import os, sys
from imagier.collection import Collection
from imagier.workflows.organise import apply
left, link = [3], os.link
def last(here, there):
    link(here, there)
    left[0] -= 1
    if not left[0]:
        os._exit(9)
os.link = last
apply(Collection.open(sys.argv[1]), how="move")
"""


def test_a_process_that_is_killed_leaves_what_can_be_gone_on_with(four: Collection, tmp_path: Path) -> None:
    before = shot(tmp_path / "in")
    ended = subprocess.run([sys.executable, "-c", DYING, str(four.folder)], check=False, env=environment())
    assert ended.returncode == 9
    assert apply(four, how="move").problems == []
    assert names(four.folder / "organised") == ["group_00/a-2.png", "group_00/a.png", "group_01/b.png", "noise/c.png"]
    undo(four)
    assert shot(tmp_path / "in") == before


def environment() -> dict[str, str]:
    source = str(Path(_acts.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


# ---------------------------------------------------------------- names

ODD = 'aAéE\u0301.. /\\:*?"<>|\0\n\udcff\ud800\u202e\u200d'
NAMES = st.text(st.one_of(st.characters(), st.sampled_from(ODD)))


@settings(max_examples=300, deadline=None)
@given(NAMES)
@example("")
@example("..")
@example("nul.tar.gz")
@example("COM¹")
@example("x" * 300 + ".png")
@example("\u00e9" * 200)
@example("a" * 250 + ". .png")
def test_a_safe_name_is_one_on_every_system_and_stays_one(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 255
    assert not set(name) & set('<>:"/\\|?*')
    assert all(unicodedata.category(character) not in ("Cc", "Cs") for character in name)
    assert name == unicodedata.normalize("NFC", name) == name.strip().rstrip(".")
    assert name.split(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "COM¹"}
    assert safe_name(name) == name


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES | st.sampled_from(["a.png", "A.png", "a-2.png", "ß", "SS", "x" * 300]), max_size=12), st.data())
def test_names_in_a_folder_differ_whatever_the_case_and_the_form(wanted: list[str], data: st.DataObject) -> None:
    taken = data.draw(st.lists(st.sampled_from(["a.png", "a-2.PNG", "unnamed", "_"])))
    got = distinct(wanted, taken)
    assert len({fold(name) for name in [*got, *set(taken)]}) == len(got) + len({fold(name) for name in taken})
    assert [safe_name(name) for name in got] == got
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in got}) == len(got)
    # Those that stand keep their names, and the others get the same ones again: what apply relies on to go on.
    stay = data.draw(st.lists(st.booleans(), min_size=len(got), max_size=len(got)))
    rest = [wish for wish, stays in zip(wanted, stay, strict=True) if not stays]
    again = distinct(rest, [*taken, *(name for name, stays in zip(got, stay, strict=True) if stays)])
    assert again == [name for name, stays in zip(got, stay, strict=True) if not stays]


def test_ordinary_names_are_kept() -> None:
    kept = ["a.png", ".hidden", "Ünïcode 図.TIF", "archive.tar.gz", "a..b.png", "family 👨\u200d👩\u200d👧.jpg"]
    assert [safe_name(name) for name in kept] == kept
    assert split("a.b.png") == ("a.b", ".png")
    assert split(".png") == (".png", "")
