"""Collection: what is written is read back whole, by one writer at a time, and said in one message where it is not."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
from drawn import GREEN, RED, plain, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagier import images as imaging
from imagier.collection import Collection, Receipt, State, label_of, write_whole
from imagier.types import CollectionError, ImagierError, SettingError
from imagier.workflows.run import run

pytestmark = pytest.mark.usefixtures("plugs")


@pytest.fixture
def made(images, tmp_path) -> Collection:
    return run(images, into=tmp_path / "out", pipeline=["tint", "rank"], report=False, threads=2)


# ---------------------------------------------------------------- open and create


def test_a_folder_that_holds_no_collection_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere", save(tmp_path / "a.png", plain(RED))):
        with pytest.raises(CollectionError, match="holds no collection"):
            Collection.open(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"format": 1}', b'{"format": "x", "sources": [], "steps": []}', b"\xff",
     b'{"format": 1, "sources": [], "steps": [], "more": 1}'],
)  # fmt: skip
def test_a_broken_collection_json_is_one_message(tmp_path, content):
    (tmp_path / "collection.json").write_bytes(content)
    with pytest.raises(CollectionError, match=r"collection\.json"):
        Collection.open(tmp_path)


def test_a_newer_format_is_told_to_be_newer(tmp_path):
    write_whole(tmp_path / "collection.json", json.dumps({"format": 99, "later": 1}).encode())
    with pytest.raises(CollectionError, match="newer imagier"):
        Collection.open(tmp_path)


def test_making_it_twice_is_opening_it(tmp_path):
    first = Collection.create(tmp_path / "deep" / "out")
    first.save_state(replace(first.state, sources=("../x",)))
    assert Collection.create(tmp_path / "deep" / "out").state == first.state


def test_an_empty_collection_reads_as_empty(tmp_path):
    made = Collection.create(tmp_path / "out")
    assert len(made) == 0
    assert made.read().num_rows == 0
    assert made.read(["id", "path"], where="page = 1").schema.names == ["id", "path"]
    assert made.files().num_rows == 0
    assert made.receipts() == {}
    with pytest.raises(CollectionError, match="no item"):
        made.pixels("x")


def test_the_state_reads_back(tmp_path):
    made = Collection.create(tmp_path / "out")
    state = State(
        sources=("a", "ü\n'"),
        steps=({"stage": "tint", "settings": {}, "name": "tint"},),
        like="../b",
        items="i",
        building="j",
    )
    made.save_state(state)
    assert Collection.open(tmp_path / "out").state == state


# ---------------------------------------------------------------- read


def test_a_row_for_each_item_sorted_by_id(made, images):
    table = made.read()
    assert table.schema.names == made.columns
    ids = table["id"].to_pylist()
    assert ids == sorted(ids)
    hashes = sorted(imaging.content_hash(path.read_bytes()) for path in images.iterdir())
    assert ids == hashes
    for row in table.to_pylist():
        assert row["file"] == row["id"]
        assert row["paths"] == [row["path"]]
        assert os.path.basename(row["path"]) == row["name"]
        assert imaging.content_hash(Path(row["path"]).read_bytes()) == row["id"]
        assert (row["page"], row["width"], row["height"], row["depth"]) == (0, 48, 48, "uint8")
        assert (row["black"], row["white"]) == (0, 255)
        assert imaging.header(row["thumbnail"]).width == 48


def test_columns_come_in_the_order_asked_for(made):
    for wanted in (["rank", "id"], ["path"], ["thumbnail", "name", "tint"], []):
        assert made.read(wanted).schema.names == wanted
        assert made.read(wanted).num_rows == 12
    assert made.read(("id",)).schema.names == ["id"]


def test_an_unknown_column_is_told_with_the_nearest(made):
    with pytest.raises(SettingError, match="Did you mean rank"):
        made.read(["id", "rnak"])


def test_a_word_is_no_list_of_columns(made):
    with pytest.raises(SettingError, match="column"):
        made.read("rank")


def test_where_chooses(made):
    assert made.read(["rank"], where="rank < 3")["rank"].to_pylist().__len__() == 3
    assert made.read(["path"], where="rank = 99").num_rows == 0
    one = made.read(["id"])["id"][5].as_py()
    assert made.read(["id"], where=f"id = '{one}'")["id"].to_pylist() == [one]


@pytest.mark.parametrize(
    "where", ["rank <", "nothing = 1", "rank = 'x' or", "'", ";", "rank", "1; drop table items", "path = 'x'"]
)
def test_a_condition_that_cannot_be_used_is_one_message(made, where):
    with pytest.raises(SettingError, match="condition"):
        made.read(["id"], where=where)
    assert len(made) == 12


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=12))
def test_any_id_can_be_asked_for(made, text):
    with pytest.raises(CollectionError, match="no item"):
        made.pixels(text)


def test_pixels_come_at_full_size_and_depth(tmp_path):
    deep = (np.arange(300 * 200, dtype=np.uint16).reshape(200, 300) * 3).astype(np.uint16)
    save(tmp_path / "images" / "a.png", deep)
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=["tint"], report=False)
    (row,) = made.read(["id", "width", "height", "depth"]).to_pylist()
    assert (row["width"], row["height"], row["depth"]) == (300, 200, "uint16")
    assert (made.pixels(row["id"]) == deep).all()


def test_pixels_of_a_file_that_is_gone_or_changed_are_refused_but_a_copy_serves(made, images, tmp_path):
    (row,) = made.read(["id", "path"], where="rank = 0").to_pylist()
    shutil.copy(row["path"], images / "zcopy.png")
    made = run(images, into=tmp_path / "out", report=False, pipeline=["tint", "rank"])
    save(Path(row["path"]), plain(RED))
    assert made.pixels(row["id"]).shape == (48, 48, 3)
    (images / "zcopy.png").unlink()
    with pytest.raises(CollectionError, match="gone or has changed"):
        made.pixels(row["id"])


@pytest.mark.parametrize(
    ("name", "label"),
    [("cats/a.png", "cats"), ("cats/deep/a_1.png", "cats"), ("player_01.jpg", "player"), ("a_b_7.png", "a_b"),
     ("a.png", None),
     ("_1.png", None), ("a_.png", None), ("a_1b.png", None), ("a_1.tar.png", None), ("ü_٣.png", "ü")],
)  # fmt: skip
def test_what_the_folders_call_it(name, label):
    assert label_of(name) == label


def test_the_version_changes_whenever_a_table_does(made, images):
    seen = {made.version}
    assert made.version in seen
    save(images / "new.png", plain(RED))
    run(images, into=made.folder, pipeline=["tint", "rank"], report=False)
    assert made.version not in seen


# ---------------------------------------------------------------- receipts


def receipt(**more) -> Receipt:
    plain_ = {"step": "rank", "stage": "rank", "version": 1, "settings": {"a": [1, None, "ü"]}, "key": "k",
              "reads": ["id"], "writes": ["rank"], "precision": "float32", "weights": [], "items": 3, "failed": 0,
              "seconds": 0.1, "made": "2026-01-01T00:00:00+00:00", "facts": {"curve": [0.5, None]}}  # fmt: skip
    return Receipt(**{**plain_, **more})


def test_a_receipt_and_its_arrays_read_back(tmp_path):
    made = Collection.create(tmp_path / "out")
    arrays = {"points": np.arange(6, dtype=np.float32).reshape(2, 3), "names": np.array(["a", "ü"])}
    made.save_receipt(receipt(), arrays)
    assert made.receipt("rank") == receipt()
    for name, values in made.fitted("rank").items():
        assert (values == arrays[name]).all()
    made.drop_receipt("rank", keep_arrays=True)
    assert made.receipt("rank") is None
    assert set(made.fitted("rank")) == set(arrays)
    made.drop_receipt("rank")
    assert made.fitted("rank") == {}


def test_no_pickle_is_written_or_read(tmp_path):
    made = Collection.create(tmp_path / "out")
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        made.save_receipt(receipt(), {"x": np.array([{}], dtype=object)})


def test_a_receipt_that_cannot_be_read_is_one_message(made):
    for content in (b"", b"{}", b'{"step": 3'):
        (made.folder / "receipts" / "rank.json").write_bytes(content)
        with pytest.raises(ImagierError, match=r"rank\.json"):
            made.receipt("rank")


# ---------------------------------------------------------------- writing whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    write_whole(path, b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CollectionError, match="No space left"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"


# ---------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_within_the_process(made):
    other = Collection.open(made.folder)
    with made.writing(), made.writing(), pytest.raises(CollectionError, match="another imagier"):  # noqa: SIM117
        with other.writing():
            pass
    with other.writing():
        pass


def test_a_second_thread_with_the_same_collection_is_refused(made):
    caught = []

    def write():
        try:
            with made.writing():
                caught.append("let in")
        except CollectionError as error:
            caught.append(str(error))

    with made.writing():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert "another imagier" in caught[0]


def test_a_second_writer_is_refused_from_another_process_but_reads(made, images):
    code = (
        "import sys\nfrom imagier.workflows.run import run\nfrom imagier.collection import Collection\n"
        "print(Collection.open(sys.argv[1]).read(['id']).num_rows)\nrun((), into=sys.argv[1], report=False)"
    )
    with made.writing():
        told = subprocess.run(
            [sys.executable, "-c", code, str(made.folder)], capture_output=True, text=True, check=False
        )
    assert told.stdout.strip() == "12"
    assert "CollectionError" in told.stderr
    assert "another imagier" in told.stderr


def test_a_dead_writer_holds_nothing(made):
    code = (
        "import os, sys\nfrom imagier.collection import Collection\n"
        "Collection.open(sys.argv[1])._lock.acquire(timeout=0)\nos._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(made.folder)], check=False).returncode == 1
    with made.writing():
        pass


def test_a_writer_that_could_not_begin_holds_nothing(made):
    whole = (made.folder / "collection.json").read_bytes()
    first, second = Collection.open(made.folder), Collection.open(made.folder)
    (made.folder / "collection.json").write_bytes(b"{")
    with pytest.raises(CollectionError), first.writing():
        pass
    (made.folder / "collection.json").write_bytes(whole)
    with second.writing():
        pass


def test_two_that_make_the_same_collection_at_once_do_not_undo_each_other(tmp_path, monkeypatch):
    """The second looks before the first has written, and writes after it has begun to work."""
    exists, turns = Collection.exists, []

    def late(self):
        found = exists(self)
        if not turns:
            turns.append(1)
            first = Collection.create(tmp_path / "out")
            first.save_state(replace(first.state, sources=("../images",)))
        return found

    monkeypatch.setattr(Collection, "exists", late)
    Collection.create(tmp_path / "out")
    assert Collection.open(tmp_path / "out").state.sources == ("../images",)


def test_tables_out_of_force_go_when_the_next_writer_comes(made, images):
    old = made.state.items
    run(images, into=made.folder, pipeline=[{"tint": {"gain": 2.0}}], report=False)
    with made.writing():
        assert not (made.folder / old).exists()
    assert [path.name for path in made.folder.glob("items-*")] == [made.state.items]


# ---------------------------------------------------------------- moved


def test_files_that_were_moved_are_told_of(made, images):
    (row,) = made.read(["id", "path"], where="rank = 0").to_pylist()
    there = images / "sorted" / "it's.png"
    there.parent.mkdir()
    Path(row["path"]).rename(there)
    made.relocate({row["path"]: str(there)})
    assert made.pixels(row["id"]).shape == (48, 48, 3)
    assert made.read(["path"], where="rank = 0")["path"].to_pylist() == [str(there)]
    assert len(made.files()) == 12


def test_two_files_that_change_places_are_told_of(made, images):
    one, two = made.read(["id", "path"], where="rank < 2").to_pylist()
    os.rename(one["path"], images / "aside")
    os.rename(two["path"], one["path"])
    os.rename(images / "aside", two["path"])
    made.relocate({one["path"]: two["path"], two["path"]: one["path"]})
    assert len(made.files()) == 12
    for row in (one, two):
        made.pixels(row["id"])


# ---------------------------------------------------------------- a full disk


FULL = """
import json, resource, signal, sys
from imagier.types import ImagierError
from imagier.workflows.run import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    run(sys.argv[1], into=sys.argv[2], pipeline=["tint", "rank"], report=False, threads=2)
except ImagierError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.parametrize("limit", [300, 4_000, 12_000, 30_000])
def test_what_the_file_system_refuses_is_one_message_and_the_next_run_goes_on(images, tmp_path, limit):
    command = [sys.executable, "-c", FULL, str(images), str(tmp_path / "out"), str(limit)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in told.stderr, told.stderr
    if told.returncode == 1:
        assert "cannot be written" in told.stdout
        assert len(told.stdout.splitlines()) == 1
    made = run(images, into=tmp_path / "out", pipeline=["tint", "rank"], report=False)
    assert len(made) == 12
    assert sorted(made.read(["rank"])["rank"].to_pylist()) == list(range(12))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; skips where the test may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_message_and_loses_nothing(small_disk, tmp_path):
    folder = drawn.fill(tmp_path / "images", each=4)
    out = small_disk / "out"
    run(folder, into=out, pipeline=["tint", "rank"], report=False)
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 3 * 4096))
    for at in range(40):
        save(folder / f"more_{at}.png", drawn.picture("disc", 1000 + at, 200))
    with pytest.raises(CollectionError, match=r"full|No space") as caught:
        run(folder, into=out, pipeline=["tint", "rank"], report=False)
    assert "\n" not in str(caught.value)
    assert set(Collection.open(out).read(["rank"])["rank"].to_pylist()) >= {0, 11}
    (small_disk / "ballast").unlink()
    made = run(folder, into=out, pipeline=["tint", "rank"], report=False)
    assert sorted(made.read(["rank"])["rank"].to_pylist()) == list(range(52))


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CollectionError, match="Permission denied"):
        Collection.create(tmp_path / "out")


def test_no_limit_of_this_process_was_changed():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


# ---------------------------------------------------------------- columns


def test_columns_are_replaced_whole_and_items_not_named_get_null(made):
    ids = made.read(["id"])["id"].to_pylist()
    with made.writing():
        made.put_columns(made.state.items, pa.table({"id": ids[:3][::-1], "rank": pa.array([2, 1, 0], pa.int32())}))
    assert made.read(["rank"])["rank"].to_pylist() == [0, 1, 2] + [None] * 9
    with made.writing():
        made.put_columns(
            made.state.items, pa.table({"id": pa.array([], pa.string()), "rank": pa.array([], pa.int32())})
        )
    assert made.read(["rank"])["rank"].to_pylist() == [None] * 12


def test_colours_of_a_thumbnail_are_not_swapped(tmp_path):
    save(tmp_path / "images" / "a.png", plain(GREEN))
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=["tint"], report=False)
    (thumbnail,) = made.read(["thumbnail"])["thumbnail"].to_pylist()
    assert np.abs(imaging.decode(thumbnail).image.reshape(-1, 3).mean(0) - GREEN).max() < 4
