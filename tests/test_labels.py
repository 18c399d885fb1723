"""What people say of items: it is appended and never lost, undone, seen at once, and learnt from."""

from __future__ import annotations

import csv
import io
import json
import logging
import multiprocessing
import shutil
import sys
import threading
from pathlib import Path

import cv2
import drawn
import numpy as np
import pyarrow as pa
import pytest
import trainings
from click.testing import CliRunner
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagier import images, labels
from imagier.cli import main
from imagier.cli_labels import labels as command
from imagier.collection import Collection
from imagier.models.model import read_model
from imagier.pipeline import Bound
from imagier.training.segmenter import SegmenterPlan
from imagier.types import CollectionError, Fitted, ImageError, SettingError, Stage, Step
from imagier.web import api_labels, make_app
from imagier.workflows import browse, organise
from imagier.workflows._tables import table_step
from imagier.workflows.browse import Browser
from imagier.workflows.compare import compare
from imagier.workflows.run import run
from imagier.workflows.summary import Summary

STEPS = [{"segment": {"model": "nuclei", "least": 20}}, {"embed": {"encoder": "classical"}}]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with images/ and out/, a collection of 12 drawn pictures of three kinds and one of 16 bits."""
    folder = tmp_path_factory.mktemp("labels")
    drawn.fill(folder / "images")
    drawn.save(folder / "images" / "deep.png", (np.arange(64 * 48).reshape(48, 64) % 4096).astype(np.uint16))
    run(folder / "images", into=folder / "out", pipeline=STEPS, report=False, threads=2)
    return folder


@pytest.fixture
def collection(made, tmp_path) -> Collection:
    """A copy of its own."""
    shutil.copytree(made, tmp_path / "c")
    return Collection.open(tmp_path / "c" / "out")


@pytest.fixture(scope="module")
def shared_one(made) -> Collection:
    """For tests that begin with its labels taken away."""
    return Collection.open(shutil.copytree(made, made.with_name("labels-own")) / "out")


def ids(collection: Collection) -> list[str]:
    return collection.read(["id"])["id"].to_pylist()


def said(collection: Collection) -> dict[str, str]:
    """Item -> label, by the collection's column."""
    rows = collection.read(["id", "label_user"]).to_pylist()
    return {row["id"]: row["label_user"] for row in rows if row["label_user"] is not None}


def lines(collection: Collection) -> list[dict]:
    path = collection.folder / labels.NAME
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def png(image: np.ndarray) -> bytes:
    return images.encode(image, "png")


def blob(width: int = 48, height: int = 48, value: int = 255, dtype: type = np.uint8) -> np.ndarray:
    mask = np.zeros((height, width), dtype)
    mask[10:20, 12:30] = value
    return mask


# ---------------------------------------------------------------- labels


def test_a_label_is_a_row_and_a_column(collection):
    one, two, *_ = ids(collection)
    act = labels.assign(collection, [one, two, one], "  a nut ", "ada")
    assert act.items == (one, two)
    assert lines(collection) == [
        {"item": item, "column": "label_user", "value": "a nut", "author": "ada", "made": act.made, "act": act.act}
        for item in (one, two)
    ]
    assert said(collection) == {one: "a nut", two: "a nut"}
    labels.assign(collection, [two], None, "ben")
    assert said(collection) == {one: "a nut"}
    assert said(Collection.open(collection.folder)) == {one: "a nut"}
    assert [(row.author, row.value) for row in labels.history(collection, two)] == [("ben", None), ("ada", "a nut")]
    assert len(labels.history(collection)) == 3
    assert set(collection.read(["label_folder", "mask_user"])["mask_user"].to_pylist()) == {None}


def test_the_version_changes_with_what_is_said_and_the_tables_do_not(collection):
    version, tables = collection.version, collection.tables
    labels.assign(collection, ids(collection)[:1], "nut", "ada")
    assert collection.version != version
    assert collection.tables == tables
    again = collection.version
    labels.undo(collection, "ada")
    assert collection.version not in (version, again)


@pytest.mark.parametrize(
    ("items", "label", "author", "why"),
    [
        (["nobody"], "nut", "ada", "there is no item 'nobody'"),
        (["o'; drop"], "nut", "ada", "there is no item"),
        ([], "nut", "ada", "no items are named"),
        (None, "  ", "ada", "a label has 1 to 200 letters"),
        (None, "n" * 201, "ada", "a label has 1 to 200 letters, and this has 201"),
        (None, "a\nb", "ada", "control characters"),
        (None, "a\x00b", "ada", "control characters"),
        (None, "a\ud800b", "ada", "control characters"),
        (None, "nut", "", "an author has"),
    ],
)
def test_what_does_not_fit_changes_nothing(collection, items, label, author, why):
    some = ids(collection)[:2] if items is None else [*ids(collection)[:1], *items] if items else []
    with pytest.raises(SettingError, match=why):
        labels.assign(collection, some, label, author)
    assert not lines(collection)


def test_many_items_at_once_are_looked_for(collection, monkeypatch):
    monkeypatch.setattr("imagier.collection._FEW", 3)
    everyone = ids(collection)
    assert labels.assign(collection, everyone, "nut", "ada").items == tuple(everyone)
    with pytest.raises(SettingError, match="no item 'x', nor 1 more of the 15"):
        labels.assign(collection, [*everyone, "x", "y"], "nut", "ada")


# ---------------------------------------------------------------- undo


def test_undo_goes_back_act_by_act(collection):
    one, two, *_ = ids(collection)
    assert labels.undo(collection, "ada") is None
    first = labels.assign(collection, [one, two], "nut", "ada")
    second = labels.assign(collection, [one], "bolt", "ada")
    undone = labels.undo(collection, "ada")
    assert (undone.undoes, undone.items, undone.left) == (second.act, (one,), ())
    assert said(collection) == {one: "nut", two: "nut"}
    assert lines(collection)[-1]["undoes"] == second.act
    assert labels.undo(collection, "ada").undoes == first.act
    assert said(collection) == {}
    assert labels.undo(collection, "ada") is None
    assert len(lines(collection)) == 6


def test_what_another_said_since_is_left_and_told(collection):
    one, two, *_ = ids(collection)
    labels.assign(collection, [one, two], "nut", "ada")
    labels.assign(collection, [two], "bolt", "ben")
    undone = labels.undo(collection, "ada")
    assert (undone.items, undone.left) == ((one,), (two,))
    assert said(collection) == {two: "bolt"}
    assert labels.undo(collection, "ben").items == (two,)
    assert said(collection) == {}  # not ada's, which is undone
    labels.assign(collection, [one], "nut", "ada")
    labels.assign(collection, [one], "bolt", "ben")
    assert labels.undo(collection, "ada").left == (one,)
    assert labels.undo(collection, "ada") is None


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["ada", "ben"]),
        st.one_of(
            st.none(),
            st.tuples(
                st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True),
                st.sampled_from([None, "nut", "bolt", "=1"]),
            ),
        ),
    ),
    max_size=12,
)


@QUICK
@given(ACTS)
def test_what_stands_is_the_last_that_is_not_undone(shared_one, acts):
    (shared_one.folder / labels.NAME).unlink(missing_ok=True)
    some = ids(shared_one)[:5]
    model: list[dict] = []
    for author, what in acts:
        if what is None:
            last = next((act for act in reversed(model) if act["author"] == author and not act["undone"]), None)
            told = labels.undo(shared_one, author)
            assert (told is None) == (last is None)
            if last is not None:
                later = {item for act in model[last["at"] + 1 :] if not act["undone"] for item in act["items"]}
                assert set(told.left) == set(last["items"]) & later
                assert set(told.items) == set(last["items"]) - later
                last["undone"] = True
        else:
            places, label = what
            labels.assign(shared_one, [some[at] for at in places], label, author)
            items = {some[at]: label for at in places}
            model.append({"at": len(model), "author": author, "items": items, "undone": False})
        wanted: dict[str, str | None] = {}
        for act in model:
            wanted |= {} if act["undone"] else act["items"]
        wanted = {item: label for item, label in wanted.items() if label is not None}
        assert said(shared_one) == wanted
    plain: dict[str | None, str | None] = {row["item"]: row["value"] for row in lines(shared_one)}
    assert {item: label for item, label in plain.items() if label is not None} == said(shared_one)
    assert said(Collection.open(shared_one.folder)) == said(shared_one)


# ---------------------------------------------------------------- the file


def _appends(folder: str, item: str, author: str, times: int) -> None:
    collection = Collection.open(folder)
    for at in range(times):
        labels.assign(collection, [item], f"{author} {at}", author)


def test_processes_and_threads_at_once_lose_nothing(collection):
    spawn = multiprocessing.get_context("spawn")
    everyone = ids(collection)
    works = [(str(collection.folder), everyone[at], f"p{at}", 15) for at in range(3)]
    running: list = [spawn.Process(target=_appends, args=work) for work in works]
    running += [
        threading.Thread(target=_appends, args=(str(collection.folder), everyone[at], f"t{at}", 15)) for at in (3, 4)
    ]
    with collection.writing():  # a run that goes on meanwhile
        for each in running:
            each.start()
        for each in running:
            each.join()
    assert [each.exitcode for each in running[:3]] == [0, 0, 0]
    rows = lines(collection)
    assert len(rows) == 75
    for author in ("p0", "p1", "p2", "t3", "t4"):
        assert [row["value"] for row in rows if row["author"] == author] == [f"{author} {at}" for at in range(15)]
    assert sorted(said(collection).values()) == ["p0 14", "p1 14", "p2 14", "t3 14", "t4 14"]


def test_a_torn_line_spoils_nothing_and_is_told(collection, caplog):
    one, two, *_ = ids(collection)
    path = collection.folder / labels.NAME
    labels.assign(collection, [one], "nut", "ada")
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:50])
    assert said(collection) == {one: "nut"}
    assert said(Collection.open(collection.folder)) == {one: "nut"}
    assert not caplog.records  # it may be being written
    labels.assign(collection, [two], "bolt", "ada")
    with caplog.at_level(logging.WARNING):
        assert said(collection) == {one: "nut", two: "bolt"}
    (record,) = caplog.records
    assert "a row is left out" in record.getMessage()
    assert repr(whole[:50]) in record.getMessage()
    assert path.read_bytes().startswith(whole + whole[:50] + b"\n")


def test_a_row_that_lacks_its_end_alone_is_kept(collection, caplog):
    one, two, *_ = ids(collection)
    path = collection.folder / labels.NAME
    labels.assign(collection, [one], "nut", "ada")
    path.write_bytes(path.read_bytes()[:-1])
    labels.assign(collection, [two], "bolt", "ada")
    assert said(Collection.open(collection.folder)) == {one: "nut", two: "bolt"}
    assert not caplog.records


@pytest.mark.parametrize(
    "row",
    [
        b"nothing",
        b"[1]",
        b'{"item": "ONE", "column": "thumbnail", "value": "x", "author": "a", "made": "", "act": "1"}',
        b'{"item": "ONE", "column": "mask_user", "value": "../../x", "author": "a", "made": "", "act": "1"}',
        b'{"item": null, "column": null, "value": "x", "author": "a", "made": "", "act": "1"}',
        b'{"item": "ONE", "column": "label_user", "value": 3, "author": "a", "made": "", "act": "1"}',
    ],
)
def test_rows_that_are_none_are_left_out_and_told(collection, caplog, row):
    one = ids(collection)[0]
    (collection.folder / labels.NAME).write_bytes(row.replace(b"ONE", one.encode()) + b"\n")
    labels.assign(collection, [one], "nut", "ada")
    assert said(collection) == {one: "nut"}
    assert set(collection.read(["mask_user"])["mask_user"].to_pylist()) == {None}
    assert len([each for each in caplog.records if "left out" in each.getMessage()]) == 1


def test_what_a_full_disk_cuts_off_was_never_said(collection, monkeypatch):
    import os

    one, two, *_ = ids(collection)
    labels.assign(collection, [one], "nut", "ada")
    before = (collection.folder / labels.NAME).read_bytes()
    seen: list[dict] = []

    def full(file: int) -> None:
        seen.append(said(collection))  # a reader in between
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CollectionError, match=r"No space left on device\. Nothing was changed"):
            labels.assign(collection, [one, two], "bolt", "ada")
    assert seen == [{one: "bolt", two: "bolt"}]
    assert (collection.folder / labels.NAME).read_bytes() == before
    assert said(collection) == {one: "nut"}
    labels.assign(collection, [one, two], "gear", "ada")  # of the same length
    assert said(collection) == {one: "gear", two: "gear"}


def test_a_folder_that_cannot_be_written_is_told(collection, monkeypatch):
    monkeypatch.setattr(labels, "PATIENCE", 0.05)
    from filelock import FileLock

    with (
        FileLock(collection.folder / labels.LOCK),
        pytest.raises(CollectionError, match="being written by another for long"),
    ):
        labels.assign(collection, ids(collection)[:1], "nut", "ada")
    (collection.folder / labels.NAME).mkdir()
    with pytest.raises(CollectionError, match=r"labels\.jsonl cannot be written"):
        labels.assign(collection, ids(collection)[:1], "nut", "ada")


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (3, np.uint8), (700, np.uint16)])
def test_a_corrected_mask_is_kept_as_it_was_drawn(collection, value, dtype):
    one = ids(collection)[0]
    width, height = (collection.found([one], ["width", "height"])[one][name] for name in ("width", "height"))
    drawn_mask = blob(width, height, value, dtype)
    sent = png(drawn_mask) + b"and what somebody hung on"
    labels.correct(collection, one, sent, "ada", of="nucleus")
    (column,) = {row["mask_user"] for row in collection.read(["id", "mask_user"]).to_pylist() if row["mask_user"]}
    data = labels.mask_path(collection, column).read_bytes()
    assert b"hung on" not in data
    np.testing.assert_array_equal(images.decode(data).image, drawn_mask)
    assert lines(collection)[0]["of"] == "nucleus"
    labels.correct(collection, one, png(np.zeros_like(drawn_mask)), "ada")
    labels.undo(collection, "ada")
    assert labels.current(collection)[labels.MASK][one].value == column
    labels.correct(collection, one, None, "ada")
    assert set(collection.read(["mask_user"])["mask_user"].to_pylist()) == {None}


def test_masks_that_do_not_fit_are_refused(collection):
    one = next(row["id"] for row in collection.read(["id", "name"]).to_pylist() if row["name"] == "disc_0.png")
    jpeg = images.encode(blob(), "jpeg")
    for sent, why in [
        (b"", "the mask: empty file"),
        (png(blob())[:80], "the mask: "),
        (jpeg, "as a PNG of one picture, and this is JPEG"),
        (png(blob(48, 47)), r"it has 48 x 47 pixels, and item \w+ has 48 x 48"),
        (png(np.dstack([blob(), blob() // 2, blob()])), "it must be grey"),
    ]:
        with pytest.raises(ImageError, match=why):
            labels.correct(collection, one, sent, "ada")
    with pytest.raises(SettingError, match="there is no item 'nobody'"):
        labels.correct(collection, "nobody", png(blob()), "ada")
    assert not lines(collection)
    assert not (collection.folder / labels.MASKS).exists()


def test_a_regions_mask_has_its_boxs_size(images, tmp_path):
    steps = [{"segment": {"model": "nuclei", "least": 20}}, {"crop": {"source": "mask", "keep": "each"}}]
    made = run(images, into=tmp_path / "out", pipeline=steps, report=False, threads=2)
    regions = [row for row in made.read(["id", "box", "parent"]).to_pylist() if row["parent"]]
    assert regions
    for row in regions[:3]:
        pixels = made.pixels(row["id"])
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        labels.correct(made, row["id"], png(mask), "ada")
        with pytest.raises(ImageError, match="pixels, and item"):
            labels.correct(made, row["id"], png(np.pad(mask, 1)), "ada")


# ---------------------------------------------------------------- seen in pages, and over REST


@pytest.fixture
def client(collection) -> TestClient:
    app = make_app(collection)
    app.include_router(api_labels.router(Browser(collection)))
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_a_page_shows_at_once_what_was_said(collection, monkeypatch):
    browser = Browser(collection)
    one, two, *others = ids(collection)
    assert browser.page(where=["label_user!="]).total == 0
    held = browser._held
    labels.assign(collection, [one, two], "nut", "ada")
    page = browser.page(where=["label_user=nut"], columns=["id", "label_user"])
    assert page.rows() == [{"id": one, "label_user": "nut"}, {"id": two, "label_user": "nut"}]
    assert browser.item(one)["label_user"] == "nut"
    assert browser.columns()["label_user"] == browser.columns()["mask_user"] == "text"
    labels.undo(Collection.open(collection.folder), "ada")  # as another process does
    assert browser.page(where=["label_user="]).total == len(others) + 2
    monkeypatch.setattr(browse, "FRESH", -1.0)
    for _ in range(3):
        browser.page()
    assert browser._held is held  # the tables were not taken in again


def test_labels_over_rest(client, collection):
    one, two, *_ = ids(collection)
    told = client.post("/api/v1/labels", json={"items": [one, two], "label": "nut", "author": "ada"}).json()
    assert (told["items"], told["left"], told["undoes"]) == (2, [], None)
    told = client.post("/api/v1/labels", json={"where": ["name~disc"], "label": "disc", "author": "ben"}).json()
    assert told["items"] == 4
    table = collection.read(["id", "name", "label_user"]).to_pylist()
    assert all(row["label_user"] == "disc" for row in table if "disc" in row["name"])
    counts = client.get("/api/v1/labels/counts").json()
    values = [row["label_user"] for row in table if row["label_user"]]
    assert counts == {label: values.count(label) for label in set(values)}
    assert next(iter(counts)) == "disc"
    found = client.get("/api/v1/items", params={"where": "label_user=disc", "columns": "id"}).json()
    assert found["total"] == 4
    rows = client.get("/api/v1/labels", params={"item": one}).json()
    assert rows["rows"][-1] | {"made": ""} == {
        "item": one, "column": "label_user", "value": "nut", "author": "ada", "made": "",
        "act": rows["rows"][-1]["act"], "undoes": None, "of": None,
    }  # fmt: skip
    page = client.get("/api/v1/labels", params={"limit": 2, "offset": 1}).json()
    assert (len(page["rows"]), page["total"]) == (2, 6)
    assert {row["author"] for row in page["rows"]} == {"ben"}
    told = client.post("/api/v1/labels/undo", json={"author": "ben"}).json()
    assert told["items"] == 4
    assert client.post("/api/v1/labels/undo", json={"author": "ben"}).json() is None
    assert client.get("/api/v1/labels/counts").json() == {"nut": 2}


def test_labels_are_exported_as_cells_that_do_nothing(client, collection):
    one, two, three, *_ = ids(collection)
    for item, label in ((one, '=HYPERLINK("x")'), (two, 'say "nut", please'), (three, "+1")):
        labels.assign(collection, [item], label, "@ada")
    reply = client.get("/api/v1/labels/export")
    assert reply.headers["content-type"].startswith("text/csv")
    rows = {row["item"]: row for row in csv.DictReader(io.StringIO(reply.text))}
    assert {item: row["label"] for item, row in rows.items()} == {
        one: '\'=HYPERLINK("x")', two: 'say "nut", please', three: "'+1",
    }  # fmt: skip
    names = {row["id"]: row["name"] for row in collection.read(["id", "name"]).to_pylist()}
    assert {item: row["name"] for item, row in rows.items()} == {item: names[item] for item in (one, two, three)}
    assert {row["author"] for row in rows.values()} == {"'@ada"}
    told = client.get("/api/v1/labels/export", headers={"accept": "application/json"}).json()
    assert {row["item"]: row["label"] for row in told}[three] == "+1"
    assert {row["made"] for row in told} == {row["made"] for row in rows.values()}


def test_masks_over_rest(client, collection):
    one = next(row["id"] for row in collection.read(["id", "name"]).to_pylist() if row["name"] == "disc_0.png")
    where, author = f"/api/v1/items/{one}/mask", {"author": "ada"}
    got = f"/api/v1/items/{one}/masks/mask_user"
    assert client.get(got).status_code == 404
    assert client.delete(where, params=author).status_code == 404
    told = client.put(where, params=author, content=png(blob()), headers={"content-type": "image/png"})
    assert (told.status_code, told.json()["items"]) == (200, 1)
    np.testing.assert_array_equal(images.decode(client.get(got).content).image, blob())
    sha256 = client.get(f"/api/v1/items/{one}").json()["mask_user"]
    assert client.get("/api/v1/labels").json()["rows"][0]["value"] == sha256
    assert client.delete(where, params=author).status_code == 200
    assert client.get(got).status_code == 404
    client.post("/api/v1/labels/undo", json=author)
    assert client.get(got).status_code == 200
    labels.mask_path(collection, sha256).unlink()
    lost = client.get(got)
    assert lost.status_code == 409
    assert str(collection.folder) not in lost.text


def test_what_does_not_fit_is_refused_over_rest(client, collection):
    one = ids(collection)[0]
    right = {"items": [one], "label": "nut", "author": "ada"}
    for change, status, why in [
        ({"items": ["nobody"]}, 400, "there is no item 'nobody'"),
        ({"items": []}, 400, "no items are named"),
        ({"items": None}, 422, "give items, or where"),
        ({"where": ["name~disc"]}, 422, "give items, or where"),
        ({"items": None, "where": ["nane~disc"]}, 400, "Did you mean name?"),
        ({"items": None, "where": ["name=nothing"]}, 400, "0 items fit"),
        ({"items": [one] * 100_001}, 422, "items"),
        ({"items": ["\ud800"]}, 422, ""),
        ({"label": " "}, 400, "1 to 200 letters"),
        ({"label": "x" * 201}, 400, "1 to 200 letters"),
        ({"label": 3}, 422, "label"),
        ({"author": ""}, 400, "an author has"),
    ]:
        body = json.dumps({name: value for name, value in (right | change).items() if value is not None})
        reply = client.post("/api/v1/labels", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, why in reply.json()["detail"]) == (status, True), reply.text
    assert client.post("/api/v1/labels", json={"items": [one], "author": "ada"}).status_code == 422  # no label is said
    put = f"/api/v1/items/{one}/mask"
    for path, params, content, status, why in [
        (put, {"author": "ada"}, b"no picture", 400, "the mask: not an image"),
        (put, {}, png(blob()), 422, "author"),
        (put, {"author": "ada"}, png(blob(3, 3)), 400, "has 3 x 3 pixels"),
        ("/api/v1/items/nobody/mask", {"author": "ada"}, png(blob()), 404, "there is no item"),
    ]:
        reply = client.put(path, params=params, content=content, headers={"content-type": "image/png"})
        assert (reply.status_code, why in reply.json()["detail"]) == (status, True), reply.text
    assert client.get("/api/v1/labels", params={"limit": 1001}).status_code == 422
    foreign = {"origin": "http://elsewhere"}
    assert client.post("/api/v1/labels", json=right, headers=foreign).status_code == 403
    assert client.put(put, params={"author": "ada"}, content=png(blob()), headers=foreign).status_code == 403
    assert not lines(collection)


def test_the_command_counts_and_exports(collection, tmp_path):
    one, two, *_ = ids(collection)
    labels.assign(collection, [one, two], "nut", "ada")
    told = CliRunner().invoke(command, [str(collection.folder), "--export", str(tmp_path / "l.csv")])
    assert told.exit_code == 0, told.output
    assert "     2 nut\n2 of 13 items have a label, 0 a corrected mask\n" in told.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "l.csv").read_text())))
    assert [(row["item"], row["label"]) for row in rows] == [
        (row["id"], "nut") for row in sorted(collection.read(["id", "name"]).to_pylist(), key=lambda row: row["name"])
        if row["id"] in (one, two)
    ]  # fmt: skip
    assert CliRunner().invoke(command, [str(tmp_path)]).exit_code == 1


# ---------------------------------------------------------------- read by steps, folders and trainings


def test_a_step_that_reads_labels_is_done_anew_when_they_change(collection):
    seen: list[list[str]] = []

    def load():
        def fit(columns):
            seen.append(columns["label_user"])
            return Fitted({"letters": np.array([len(label) for label in columns["label_user"]], np.int32)}, {})

        return fit

    step = Step(("id", "label_user"), pa.schema([pa.field("letters", pa.int32())]), load)
    bound = Bound("letters", Stage("letters", 1, "table", lambda: step), {}, step, "k")
    one, two, *_ = ids(collection)
    labels.assign(collection, [one, two], "nut", "ada")
    for label in ("nut", "nut", "washer"):
        labels.assign(collection, [two], label, "ada")
        with collection.writing():
            table_step(collection, bound, None, Summary(), progress=False)
    assert seen == [["nut", "nut"], ["nut", "washer"]]  # that it was said again changes nothing
    assert collection.found([one, two], ["letters"])[two]["letters"] == 6


def test_labels_make_no_run_of_other_steps(collection, made):
    before = collection.receipts()
    labels.assign(collection, ids(collection)[:2], "nut", "ada")
    steps = [*STEPS]
    run(collection.folder.parent / "images", into=collection.folder, pipeline=steps, report=False, threads=1)
    assert collection.receipts() == before
    assert sorted(said(collection).values()) == ["nut", "nut"]


def test_labels_stay_with_the_items_that_come_back(images, tmp_path):
    made = run(images, into=tmp_path / "out", pipeline=STEPS[1:], report=False, threads=1)
    one = ids(made)[0]
    labels.assign(made, [one], "nut", "ada")
    path = Path(made.found([one], ["path"])[one]["path"])
    kept = path.read_bytes()
    path.unlink()
    run(images, into=made.folder, report=False, threads=1)
    assert one not in ids(made)
    assert said(made) == {}
    assert Browser(made).page(where=["label_user!="]).total == 0
    (path.parent / "elsewhere.png").write_bytes(kept)
    run(images, into=made.folder, report=False, threads=1)
    assert said(made) == {one: "nut"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> Collection:
    """24 pictures whose files say nothing, their kinds told by a person; two clusterings."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind in drawn.KINDS:
        for seed in range(8):
            drawn.save(folder / "images" / f"{drawn.KINDS.index(kind)}{seed}.png", drawn.picture(kind, seed))
    steps = ["embed", {"cluster": {"k": 3}}, {"cluster": {"k": 2}, "as": "coarse"}]
    made = run(folder / "images", into=folder / "out", pipeline=steps, report=False, threads=2)
    rows = made.read(["id", "name"]).to_pylist()
    for at, kind in enumerate(drawn.KINDS):
        labels.assign(made, [row["id"] for row in rows if row["name"].startswith(str(at))], kind, "ada")
    return made


def test_a_classifier_learns_from_labels_of_people(kinds, tmp_path):
    words = ["train", "classifier", "--collection", str(kinds.folder), "--labels", "label_user", "--quiet"]
    told = CliRunner().invoke(main, [*words, "--set", "split=50:25:25", "--into", str(tmp_path / "model")])
    assert told.exit_code == 0, told.output
    assert set(read_model(tmp_path / "model").card.labels) == set(drawn.KINDS)


def test_labels_of_people_name_folders_and_are_a_truth(kinds, tmp_path):
    planned = organise.plan(kinds, by="label_user", to=tmp_path / "to").to_pylist()
    folders = {row["destination"].split("/")[0] for row in planned}
    assert folders == set(drawn.KINDS)
    assert all("label_user is" in row["why"] for row in planned)
    compared = compare(kinds, truth="label_user")
    assert compared.truth["items"] == 24


def test_regions_go_by_their_own_label(images, tmp_path):
    steps = [{"segment": {"model": "nuclei", "least": 20}}, {"crop": {"source": "mask", "keep": "each"}}]
    made = run(images, into=tmp_path / "out", pipeline=steps, report=False, threads=2)
    whole = next(row["id"] for row in made.read(["id", "parent"]).to_pylist() if row["parent"] is None)
    labels.assign(made, [whole], "nut", "ada")
    rows = {row["id"]: row for row in organise.plan(made, by="label_user", to=tmp_path / "to").to_pylist()}
    assert rows[whole]["destination"].startswith("nut/")
    parents = {row["id"]: row["parent"] for row in made.read(["id", "parent"]).to_pylist()}
    assert not any(parents[item] == whole for item in rows if parents.get(item))


@pytest.fixture
def brushed(tmp_path) -> Collection:
    """24 pictures with discs; of 20 a mask, of one class, by a person."""
    rng = np.random.default_rng(0)
    masks = {}
    for at in range(24):
        mask = np.zeros((64, 64), np.uint8)
        x, y, radius = (int(each) for each in rng.integers([14, 14, 6], [50, 50, 12]))
        cv2.circle(mask, (x, y), radius, 255, -1)
        ground = rng.normal(90, 30, (64, 64, 3)) + (mask > 0)[..., None] * np.array([90, 20, -20])
        drawn.save(tmp_path / "images" / f"{at:02d}.png", ground.clip(0, 255).astype(np.uint8))
        masks[f"{at:02d}.png"] = mask
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=STEPS[1:], report=False, threads=2)
    for row in made.read(["id", "name"]).to_pylist()[:20]:
        labels.correct(made, row["id"], png(masks[row["name"]]), "ada", of="nucleus")
    return made


SMALL = ["size=[64, 64]", "epochs=2", "batch=4", "split=60:20:20", "precision=float32"]


def training(collection: Collection, into: Path, *more: str) -> list[str]:
    told = [word for each in SMALL for word in ("--set", each)]
    return ["train", "segmenter", "--collection", str(collection.folder), "--into", str(into), *told, *more]


def planned_for(words: list[str], monkeypatch) -> SegmenterPlan:
    """What a training is begun with."""
    plans: list[SegmenterPlan] = []

    def stop(plan: SegmenterPlan, _: bool) -> None:
        plans.append(plan)
        raise SettingError("far enough")

    monkeypatch.setattr("imagier.training.segmenter.train", stop)
    told = CliRunner().invoke(main, words)
    assert "far enough" in told.output, told.output
    return plans[0]


def test_a_segmenter_learns_from_exactly_what_was_brushed(brushed, tmp_path, monkeypatch):
    one, two, *others = sorted(labels.current(brushed)[labels.MASK])
    mask = images.decode(labels.mask_path(brushed, labels.current(brushed)[labels.MASK][one].value).read_bytes()).image
    brush = mask.copy()
    brush[:8, :8] = 255
    labels.correct(brushed, one, png(brush), "ben", of="nucleus")
    labels.correct(brushed, two, None, "ben")
    plan = planned_for(training(brushed, tmp_path / "model"), monkeypatch)
    assert {each.path.stem for each in plan.samples} == {one, *others}
    assert plan.truth.classes == ("nucleus",)
    assert not plan.truth.instances
    (sample,) = (each for each in plan.samples if each.path.stem == one)
    held = plan.truth.draw[sample.path](64, 64)
    np.testing.assert_array_equal(held.inside[:, :, 0], brush > 0)
    assert held.objects is None
    assert sample.shares == ((brush > 0).mean(),)
    for each in plan.samples:
        pixels = images.decode(each.path.read_bytes()).image
        np.testing.assert_array_equal(pixels, brushed.pixels(each.path.stem))
        mask = labels.mask_path(brushed, labels.current(brushed)[labels.MASK][each.path.stem].value)
        stood = images.decode(mask.read_bytes()).image > 0
        np.testing.assert_array_equal(plan.truth.draw[each.path](64, 64).inside[:, :, 0], stood)


def test_objects_that_have_numbers_are_told_apart(brushed, tmp_path, monkeypatch):
    cores = ["--set", "cores=true"]
    told = CliRunner().invoke(main, training(brushed, tmp_path / "model", *cores))
    assert (told.exit_code, "do not tell objects apart" in told.output) == (1, True)
    for at, item in enumerate(list(labels.current(brushed)[labels.MASK])):
        numbers = np.zeros((64, 64), np.uint16)
        numbers[4:20, 4:20], numbers[4:20, 20:30] = 300, (1 if at else 0)
        labels.correct(brushed, item, png(numbers), "ada")
    plan = planned_for(training(brushed, tmp_path / "model", *cores), monkeypatch)
    assert plan.truth.classes == ("object",)
    assert {*np.unique(plan.truth.draw[plan.samples[-1].path](64, 64).objects)} <= {0, 1, 300}


def test_what_a_segmenter_cannot_learn_from_is_told(brushed, collection, tmp_path):
    out = str(brushed.folder)
    for words, why in [
        (training(collection, tmp_path / "m"), "no masks that a person corrected"),
        (training(brushed, tmp_path / "m", "--images", out), "a collection has images and masks of its own"),
        (training(brushed, tmp_path / "m", "--masks", out), "a collection has images and masks of its own"),
        (training(brushed, tmp_path / "m", "--unmasked"), "a collection has images and masks of its own"),
        (["train", "segmenter", "--into", str(tmp_path / "m")], "say where images are"),
        (["train", "segmenter", "--masks", out, "--into", str(tmp_path / "m")], "say where images are"),
        (["train", "segmenter", "--collection", str(tmp_path), "--into", str(tmp_path / "m")], "holds no collection"),
    ]:
        told = CliRunner().invoke(main, words)
        assert (told.exit_code, why in told.output) == (1, True), told.output
    item = ids(brushed)[0]
    labels.correct(brushed, item, png(np.full((64, 64), 255, np.uint8)), "ada", of="cell")
    told = CliRunner().invoke(main, training(brushed, tmp_path / "m"))
    assert "masks of several classes (19 of nucleus, 1 of cell)" in told.output
    labels.undo(brushed, "ada")
    labels.mask_path(brushed, labels.current(brushed)[labels.MASK][item].value).unlink()
    told = CliRunner().invoke(main, training(brushed, tmp_path / "m"))
    assert (told.exit_code, "cannot be read" in told.output) == (1, True), told.output
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_segmenter_is_trained_from_a_collection_and_not_gone_on_with_by_other_masks(brushed, tmp_path):
    words = [sys.executable, "-m", "imagier.cli", *training(brushed, tmp_path / "model")]
    told = trainings.finished(words)
    assert f"written: {tmp_path / 'model'}" in told.stdout
    assert read_model(tmp_path / "model").card.labels == ("nucleus",)
    labels.correct(brushed, ids(brushed)[0], png(np.full((64, 64), 255, np.uint8)), "ada", of="nucleus")
    told = trainings.finished([*words, "--replace"], code=1)
    assert "was begun with another labels.json" in told.stderr
