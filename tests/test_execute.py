"""The pass: regions, files that fail alone, files that kill the process, and what is in hand when it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
from drawn import BLUE, GREEN, GREY, RED, plain, save, save_pages

from imagier import execute, quarantine
from imagier.collection import Collection
from imagier.execute import Contents, Pass, Work, Worker, arrow
from imagier.pipeline import Pipeline
from imagier.types import CollectionError
from imagier.workflows.run import run
from imagier.workflows.summary import last_run

pytestmark = pytest.mark.usefixtures("plugs")

RUN = """
import sys, json, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from imagier.workflows.run import run
run(sys.argv[1], into=sys.argv[2], pipeline=json.loads(sys.argv[3]), report=False, threads=2)
"""


def go(sources, out, pipeline, **settings) -> Collection:
    collection = run(sources, into=out, pipeline=pipeline, report=False, **{"threads": 2, **settings})
    ids = collection.read(["id"])["id"].to_pylist()
    assert len(ids) == len(set(ids))
    return collection


def apart(sources, out, pipeline, **more) -> subprocess.Popen:
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(sources), str(out), json.dumps(pipeline)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **more,
    )


def outcomes(collection: Collection) -> dict[str, str]:
    return {row["name"]: row["outcome"] for row in collection.files().to_pylist()}


def reasons(collection: Collection) -> dict[str, str]:
    return {row["name"]: row["reason"] for row in collection.files().to_pylist() if row["reason"]}


# ---------------------------------------------------------------- pages


def test_each_page_is_an_item(tmp_path):
    (tmp_path / "images").mkdir()
    path = save_pages(tmp_path / "images" / "stack.tif", [plain(RED), plain(GREEN), plain(BLUE, 20)])
    made = go(tmp_path / "images", tmp_path / "out", ["tint"])
    rows = made.read(["id", "file", "page", "width", "tint", "parent", "box"]).to_pylist()
    assert [(row["page"], row["width"], tuple(row["tint"])) for row in rows] == [
        (0, 32, RED),
        (1, 32, GREEN),
        (2, 20, BLUE),
    ]
    assert [row["id"] for row in rows] == [f"{rows[0]['file']}-{page}" for page in (1, 2, 3)]
    assert made.files()["pages"].to_pylist() == [3]
    for row, colour in zip(rows, (RED, GREEN, BLUE), strict=True):
        assert (made.pixels(row["id"]) == colour).all()
    path.unlink()
    save(tmp_path / "images" / "one.png", plain(RED))
    assert len(go(tmp_path / "images", tmp_path / "out", ["tint"])) == 1


def test_a_file_with_a_bad_page_fails_whole_and_alone(tmp_path, monkeypatch):
    from imagier import images
    from imagier.types import ImageError

    folder = drawn.fill(tmp_path / "images", each=1)
    save_pages(folder / "stack.tif", [plain(RED), plain(GREEN), plain(BLUE)])
    decode = images.decode

    def fail_second(data, *, page=0, **more):
        if page == 1:
            raise ImageError("damaged TIFF: cut short")
        return decode(data, page=page, **more)

    monkeypatch.setattr(images, "decode", fail_second)
    made = go(folder, tmp_path / "out", ["tint"])
    assert reasons(made) == {"stack.tif": "page 2 of 3: damaged TIFF: cut short"}
    assert len(made) == 3


@pytest.mark.parametrize("error", [MemoryError("13 GiB"), RecursionError("too deep"), ZeroDivisionError("oh")])
def test_an_image_over_which_the_decoder_stumbles_fails_alone(tmp_path, monkeypatch, error):
    from imagier import images

    folder = drawn.fill(tmp_path / "images", each=2)
    bad = images.content_hash((folder / "disc_0.png").read_bytes())
    decode = images.decode

    def stumble(data, **more):
        if images.content_hash(data) == bad:
            raise error
        return decode(data, **more)

    monkeypatch.setattr(images, "decode", stumble)
    made = go(folder, tmp_path / "out", ["tint"])
    assert list(reasons(made)) == ["disc_0.png"]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 3), (1, 1), (2, 3)])
def test_any_shape_goes_through(tmp_path, shape):
    save(tmp_path / "images" / "a.png", np.full(shape, 90, np.uint8))
    made = go(tmp_path / "images", tmp_path / "out", ["embed", "tint"])
    assert reasons(made) == {}


def test_what_a_pass_holds_in_memory_is_bounded(tmp_path, monkeypatch):
    """The pixels handed to a step at once never exceed the budget by more than an image."""
    monkeypatch.setattr(execute, "BUDGET", 60_000)
    handed = []
    folder = tmp_path / "images"
    folder.mkdir()
    save_pages(folder / "stack.tif", [plain((at, at, at), 64) for at in range(40)])
    rows = Pass.rows

    def spy(self, some):
        handed.append(sum(row["image"].nbytes for row in some))
        return rows(self, some)

    monkeypatch.setattr(Pass, "rows", spy)
    made = go(folder, tmp_path / "out", ["tint"])
    assert len(made) == 40
    assert max(handed) <= 60_000 + 64 * 64 * 3


# ---------------------------------------------------------------- regions


def test_regions_are_items_with_parent_box_thumbnail_and_pixels(tmp_path):
    image = np.concatenate([plain(RED), plain(GREEN)], axis=1)
    save(tmp_path / "images" / "a.png", image)
    made = go(tmp_path / "images", tmp_path / "out", ["halves", "tint"])
    rows = made.read().to_pylist()
    (parent,) = [row for row in rows if row["parent"] is None]
    parts = sorted((row for row in rows if row["parent"] is not None), key=lambda row: row["box"])
    assert parent["share"] is None
    assert parent["tint"] is None
    assert [part["parent"] for part in parts] == [parent["id"]] * 2
    assert [part["box"] for part in parts] == [[0, 0, 32, 32], [32, 0, 64, 32]]
    assert [tuple(part["tint"]) for part in parts] == [RED, GREEN]
    assert [part["share"] for part in parts] == [0.5, 0.5]
    assert len({row["id"] for row in rows}) == 3
    assert len({row["thumbnail"] for row in rows}) == 3
    assert {row["file"] for row in rows} == {parent["file"]}
    assert (made.pixels(parts[1]["id"]) == GREEN).all()
    assert made.pixels(parts[1]["id"]).shape == (32, 32, 3)
    assert made.pixels(parent["id"]).shape == (32, 64, 3)
    pixels = made.reader([row["id"] for row in rows[1:]])
    for row in rows[1:]:
        assert (pixels(row["id"]) == made.pixels(row["id"])).all()
    with pytest.raises(CollectionError, match=rows[0]["id"]):
        pixels(rows[0]["id"])  # was not asked for
    again = go(tmp_path / "images", tmp_path / "out", ["halves", "tint"])
    assert last_run(again).decoded == 0


def test_table_steps_see_the_regions_and_leave_the_parents_null(tmp_path):
    folder = drawn.fill(tmp_path / "images", each=2)
    made = go(folder, tmp_path / "out", ["halves", "tint", "rank"])
    rows = made.read(["parent", "rank"]).to_pylist()
    assert sorted(row["rank"] for row in rows if row["parent"] is not None) == list(range(12))
    assert [row["rank"] for row in rows if row["parent"] is None] == [None] * 6
    assert made.receipt("rank").items == 12


def test_no_region_is_an_outcome_whatever_comes_after(tmp_path):
    save(tmp_path / "images" / "a.png", plain(BLUE))
    made = go(tmp_path / "images", tmp_path / "out", ["halves", "embed", "tint"])
    assert reasons(made) == {}
    assert len(made) == 1
    save(tmp_path / "images" / "b.png", plain(RED))
    made = go(tmp_path / "images", tmp_path / "out", ["halves", "embed", "tint"])
    assert reasons(made) == {}
    assert len(made) == 4


def test_equal_regions_of_one_image_are_not_one_id(tmp_path):
    save(tmp_path / "images" / "a.png", plain(RED))
    made = go(tmp_path / "images", tmp_path / "out", [{"halves": {"repeat": 2}}])
    ids = made.read(["id"])["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 5


def test_what_was_measured_on_the_image_is_not_said_of_its_regions(tmp_path):
    save(tmp_path / "images" / "a.png", np.concatenate([plain(RED), plain(GREEN)], axis=1))
    made = go(tmp_path / "images", tmp_path / "out", ["tint", "halves"])
    for row in made.read(["parent", "box", "tint"]).to_pylist():
        if row["parent"] is None:
            assert row["tint"] == [120, 120, 20]
        else:
            assert row["tint"] is None


def test_regions_of_another_cutting_step_have_other_ids(tmp_path):
    save(tmp_path / "images" / "a.png", plain(RED))
    first = go(tmp_path / "images", tmp_path / "one", ["halves"]).read(["id", "parent"]).to_pylist()
    second = go(tmp_path / "images", tmp_path / "two", [{"halves": {"repeat": 1}, "as": "cut"}])
    both = {row["id"] for row in first if row["parent"]} & set(second.read(["id"])["id"].to_pylist())
    assert len(both) == 2, "the same cut under another name is the same region"


def test_a_regions_own_size_is_its_boxs(tmp_path):
    save(tmp_path / "images" / "a.png", plain(RED, 40))
    made = go(tmp_path / "images", tmp_path / "out", ["halves"])
    sizes = {
        (row["parent"] is None, row["width"], row["height"])
        for row in made.read(["parent", "width", "height"]).to_pylist()
    }
    assert sizes == {(True, 40, 40), (False, 20, 40)}


def test_a_large_image_is_cut_at_full_size(tmp_path):
    image = np.zeros((1200, 1600, 3), np.uint8)
    image[:, 800:] = GREEN
    save(tmp_path / "images" / "a.jpg", image)
    made = go(tmp_path / "images", tmp_path / "out", ["halves"])
    assert [800, 0, 1600, 1200] in made.read(["box"])["box"].to_pylist()


# ---------------------------------------------------------------- failing alone


def test_an_image_over_which_a_stage_raises_fails_alone(tmp_path):
    folder = drawn.fill(tmp_path / "images", each=3)
    save(folder / "bad.png", plain(GREEN))
    save(folder / "bad copy.png", plain(GREEN))
    made = go(folder, tmp_path / "out", ["picky"])
    assert reasons(made) == dict.fromkeys(["bad.png", "bad copy.png"], "ValueError: no green, please")
    assert len(made) == 9
    again = go(folder, tmp_path / "out", ["picky"])
    assert last_run(again).decoded == 0


def test_a_stage_that_gives_too_few_values_fails_each_file_with_its_reason(tmp_path):
    folder = drawn.fill(tmp_path / "images", each=1)
    made = go(folder, tmp_path / "out", ["short"])
    assert set(outcomes(made).values()) == {"failed"}


def test_an_image_handed_on_is_seen_by_later_steps_and_not_by_earlier_ones(tmp_path):
    save(tmp_path / "images" / "a.png", plain(RED))
    made = go(tmp_path / "images", tmp_path / "out", ["tint", "invert", {"tint": {}, "as": "late"}])
    assert made.read(["tint", "late_tint"]).to_pylist() == [{"tint": list(RED), "late_tint": [255 - v for v in RED]}]
    changed = go(tmp_path / "images", tmp_path / "out", ["tint", "invert", {"tint": {"gain": 2.0}, "as": "late"}])
    assert changed.read(["late_tint"]).to_pylist() == [{"late_tint": [2 * (255 - v) for v in RED]}]
    assert last_run(changed).steps["tint"] == 0


# ---------------------------------------------------------------- files that kill


@pytest.mark.parametrize("how", ["exit", "segv"])
def test_a_file_that_kills_the_process_fails_alone_at_the_next_run(tmp_path, how):
    folder = drawn.fill(tmp_path / "images", each=8, side=24)
    save(folder / "killer.png", plain(RED))
    pipeline = [{"killer": {"how": how}}]
    with killer_of(folder, tmp_path / "out", pipeline) as one:
        codes = [one(60)[0] for _ in range(3)]
        assert codes[0] in (9, -signal.SIGSEGV)
        assert codes[1:] == [0, 0], "the third run as well: what is known to kill is left alone"
    made = Collection.open(tmp_path / "out")
    assert list(reasons(made)) == ["killer.png"]
    assert "died" in reasons(made)["killer.png"]
    assert len(made) == 24


def test_a_copy_of_a_killer_kills_no_more_than_once_more(tmp_path):
    folder = drawn.fill(tmp_path / "images", each=8, side=24)
    for at in range(3):
        save(folder / f"killer_{at}.png", plain(RED))
    with killer_of(folder, tmp_path / "out", ["killer"]) as one:
        codes = [one(60)[0] for _ in range(4)]
    assert codes[-2:] == [0, 0]
    made = Collection.open(tmp_path / "out")
    assert set(reasons(made)) == {f"killer_{at}.png" for at in range(3)}
    assert len(made) == 24


def _suspect(out: Path, paths: list[Path]) -> None:
    """The notes of a process that died with these files in hand."""
    (out / "in_hand").mkdir(parents=True, exist_ok=True)
    (out / "in_hand" / "0.json").write_text(json.dumps([str(path) for path in paths]))


def test_a_suspect_that_is_innocent_is_ok(images, tmp_path):
    wanted = go(images, tmp_path / "wanted", ["embed", "tint"])
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", sorted(images.iterdir())[:5])
    made = go(images, tmp_path / "out", ["embed", "tint"])
    assert reasons(made) == {}
    assert made.read(["id", "tint"]).equals(wanted.read(["id", "tint"]))
    assert not list((tmp_path / "out" / "in_hand").glob("*"))


def test_a_copy_of_a_suspect_is_no_second_item(images, tmp_path):
    shutil.copy(images / "disc_0.png", images / "zcopy.png")
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", [images / "disc_0.png"])
    assert len(go(images, tmp_path / "out", ["tint"])) == 12


def test_copies_on_either_side_of_a_killer_are_one_item(images, tmp_path):
    killer = save(images / "k.png", plain(RED))
    copies = [shutil.copy(images / "disc_0.png", images / name) for name in ("a.png", "z.png")]
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", [killer, *map(Path, copies)])
    made = go(images, tmp_path / "out", ["killer"])
    assert len(made) == 12
    assert list(reasons(made)) == ["k.png"]


def test_suspects_are_not_blamed_when_the_child_cannot_even_start(tmp_path, plugs):
    """A program that puts imagier or a plug-in on sys.path by hand has children that do not have it there."""
    folder = drawn.fill(tmp_path / "images", each=2, side=24)
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", sorted(folder.iterdir()))
    code = f"import sys; sys.path[:0] = {plugs.split(os.pathsep)!r}\n" + RUN
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(
        each for each in os.environ["PYTHONPATH"].split(os.pathsep) if each not in plugs.split(os.pathsep)
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out"), json.dumps(["tint"])]
    subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    made = Collection.open(tmp_path / "out")
    assert "failed" not in outcomes(made).values(), reasons(made)


def test_what_a_stage_prints_does_not_disturb_the_child(images, tmp_path, capfd):
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", sorted(images.iterdir()))
    made = go(images, tmp_path / "out", ["tint"])
    assert len(made) == 12
    assert capfd.readouterr().out == ""


def test_suspects_are_not_forgotten_when_the_next_run_dies_too(images, tmp_path, monkeypatch):
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", sorted(images.iterdir()))

    class Death(BaseException):
        pass

    def die(self, work):
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(quarantine.Child, "process", die)
        with pytest.raises(Death):
            run(images, into=tmp_path / "out", pipeline=["tint"], report=False)
    assert len(json.loads((tmp_path / "out" / "in_hand" / "suspects.json").read_text())) == 12


def test_a_suspect_of_the_second_half_of_a_run_is_quarantined_too(images, tmp_path):
    run(images, into=tmp_path / "out", pipeline=["tint"], report=False)
    killer = save(images / "killer.png", plain(RED))
    _suspect(tmp_path / "out", [killer])
    # the old files go through the new step alone, the new one through both: two passes
    made = run(images, into=tmp_path / "out", pipeline=["tint", "killer"], report=False)
    failed = {Path(row["path"]).name: row["reason"] for row in made.files().to_pylist() if row["outcome"] == "failed"}
    assert list(failed) == ["killer.png"]
    assert "died twice" in failed["killer.png"]
    assert not (tmp_path / "out" / "in_hand" / "suspects.json").exists()


# ---------------------------------------------------------------- killed at any instant


HOST = """
import json, os, signal, sys, time
import imagier.workflows.run, imagier.execute, imagier.pipeline
from imagier import images, _raster
import PIL.Image, msgspec, filelock, tqdm, yaml
sources, out, pipeline = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
imagier.pipeline.Pipeline.of(pipeline).bind()
for line in sys.stdin:
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        imagier.workflows.run.run(sources, into=out, pipeline=pipeline, report=False, threads=2)
        os._exit(0)
    until = begun + float(line)
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.002)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        done = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(done[1]), time.monotonic() - begun]), flush=True)
"""
"""Forks a run for each line it is given, and kills it after so many seconds: Python and its imports start but once."""


@contextlib.contextmanager
def killer_of(sources, out, pipeline):
    command = [sys.executable, "-c", HOST, str(sources), str(out), json.dumps(pipeline)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:

        def one(seconds: float) -> tuple[int, float]:
            host.stdin.write(f"{seconds}\n")
            host.stdin.flush()
            code, took = json.loads(host.stdout.readline())
            return code, took

        yield one


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_what_an_undisturbed_run_comes_to(tmp_path):
    """20 SIGKILLs at moments spread over the whole of a run: no innocent file fails, nothing is twice or missing."""
    folder = drawn.fill(tmp_path / "images", each=10, side=24)
    shutil.copytree(folder, folder / "copies")
    (folder / "bad.png").write_bytes(b"no image")
    pipeline = [{"tint": {"sleep": 0.003}}, "picky", "rank"]
    columns = ["id", "tint", "fine", "rank", "name"]
    wanted = go(folder, tmp_path / "wanted", pipeline)
    random_, out = random.Random(0), tmp_path / "out"
    killed = whole = 0
    with killer_of(folder, out, pipeline) as one:
        code, whole = one(60)
        assert code == 0
        for at in range(40):
            if at % 4 == 0:
                shutil.rmtree(out)  # so that the first instants are met again, too
            code, _ = one(random_.uniform(0.02, whole))
            assert code in (0, -signal.SIGKILL)
            killed += code != 0
            if (out / "collection.json").is_file():
                opened = Collection.open(out)
                opened.read()
                assert set(reasons(opened)) <= {"bad.png"}
            if killed == 20:
                break
        assert killed >= 5
        assert one(60)[0] == 0
    made = go(folder, out, pipeline)
    assert outcomes(made) == outcomes(wanted)
    assert made.read(columns).equals(wanted.read(columns))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_stopped_over_suspects_no_innocent_fails(tmp_path, stop):
    """The whole process group is stopped, as a terminal, a batch system or a container does it."""
    folder = drawn.fill(tmp_path / "images", each=12, side=24)
    Collection.create(tmp_path / "out")
    _suspect(tmp_path / "out", sorted(folder.iterdir()))
    # half a second a file: however slow the machine, the stop comes long before the last
    with apart(folder, tmp_path / "out", [{"tint": {"sleep": 0.5}}], start_new_session=True) as one:
        until = time.monotonic() + 20
        while time.monotonic() < until and not (tmp_path / "out" / "files.lance").exists():
            time.sleep(0.02)
        os.killpg(one.pid, stop)
        one.communicate(timeout=30)
    opened = Collection.open(tmp_path / "out")
    assert reasons(opened) == {}
    assert 0 < len(opened) < 36


# ---------------------------------------------------------------- a worker, and Arrow


def test_a_worker_gives_one_outcome_for_each_file(images):
    bound = Pipeline.of(["tint"]).bind()
    worker = Worker(Pass(bound), Contents({}, {}))
    works = [Work(str(path), str(images), path.name, 1, 1) for path in sorted(images.iterdir())]
    done = worker.process([*works, works[0], Work("/nowhere.png", str(images), "x", 1, 1)])
    assert len(done) == 14
    assert sorted(each.outcome for each in done) == ["failed", *["ok"] * 12, "twin"]
    known = Worker(Pass(bound), Contents({each.hash: 1 for each in done if each.outcome == "ok"}, {}))
    assert {each.outcome for each in known.process(works)} == {"known"}


@pytest.mark.parametrize(
    ("values", "type_", "wanted"),
    [
        ([1, None, 3], pa.int32(), [1, None, 3]),
        (np.array([1, 2], np.int64), pa.int32(), [1, 2]),
        (np.array([0.5, 1.5], np.float64), pa.float32(), [0.5, 1.5]),
        (np.ma.masked_array([1, 2], [False, True]), pa.int32(), [1, None]),
        (np.array([[1, 2], [3, 4]], np.float64), pa.list_(pa.float32(), 2), [[1, 2], [3, 4]]),
        (np.ma.masked_array([[1.0, 2], [3, 4]], [[0, 0], [1, 1]]), pa.list_(pa.float32(), 2), [[1, 2], None]),
        (np.array([[1, 2], [3, 4]], np.float32)[:, ::-1], pa.list_(pa.float32(), 2), [[2, 1], [4, 3]]),
        (np.zeros((0, 2), np.float32), pa.list_(pa.float32(), 2), []),
        (np.array([True, False]), pa.bool_(), [True, False]),
        (["a", None], pa.string(), ["a", None]),
        (np.array(["a", "b"]), pa.string(), ["a", "b"]),
    ],
)
def test_values_become_arrow(values, type_, wanted):
    made = arrow(values, pa.field("x", type_))
    assert made.type == type_
    assert made.to_pylist() == wanted


def test_values_that_do_not_fit_are_refused():
    with pytest.raises((ValueError, TypeError, pa.ArrowInvalid)):
        assert len(arrow(np.zeros((2, 3), np.float32), pa.field("x", pa.list_(pa.float32(), 2)))) == 2
    with pytest.raises((ValueError, TypeError, pa.ArrowInvalid)):
        arrow(np.array([2**40]), pa.field("x", pa.int32()))


def test_grey_and_colour_go_through_one_batch(tmp_path):
    save(tmp_path / "images" / "a.png", plain(GREY)[..., 0])
    save(tmp_path / "images" / "b.png", plain(GREY))
    made = go(tmp_path / "images", tmp_path / "out", ["embed", "tint"])
    assert made.read(["tint"])["tint"].to_pylist() == [[128] * 3] * 2
