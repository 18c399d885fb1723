"""What all items have in a column at once, and names of groups: against the table itself."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import drawn
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.collection import Collection
from imagier.types import SettingError
from imagier.web import make_app
from imagier.workflows import naming, overview
from imagier.workflows.browse import Browser, NoSuchItem
from imagier.workflows.run import run

STEPS = [
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 8}},
    {"cluster": {"k": 3}},
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    folder = tmp_path_factory.mktemp("overview")
    images = drawn.fill(folder / "images")
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return run(images, into=folder / "out", pipeline=STEPS, report=False, threads=1)


@pytest.fixture(scope="module")
def browser(collection) -> Browser:
    return Browser(collection)


def test_the_values_of_a_column_are_counted(browser, collection):
    made = overview.spread(browser, "label_folder")
    assert dict(made.values) == dict(Counter(collection.read(["label_folder"])["label_folder"].to_pylist()))
    assert (made.kind, made.items, made.without, made.distinct) == ("text", 12, 0, 3)
    some = overview.spread(browser, "label_folder", ["name~disc"])
    assert some.values == (("disc", 4),)
    assert overview.spread(browser, "parent").without == 12


def test_numbers_come_with_their_ends_and_bins(browser, collection):
    x = collection.read(["x"])["x"].to_numpy()
    made = overview.spread(browser, "x")
    assert (made.low, made.high) == (pytest.approx(x.min()), pytest.approx(x.max()))
    assert made.bins == tuple(np.histogram(x, overview.BINS)[0])


@pytest.mark.parametrize(("column", "says"), [("grup", "Did you mean group"), ("paths", "unknown column")])
def test_what_cannot_be_counted_is_said(browser, column, says):
    with pytest.raises(SettingError, match=says):
        overview.spread(browser, column)


def test_columns_of_all_items_come_in_one_order(browser, collection):
    made = overview.values(browser, ["id", "x", "group"], ["label_folder=disc|checks"], axes=["x", "y", "z"])
    table = collection.read(["id", "x", "group", "label_folder"]).to_pandas()
    some = table[table["label_folder"].isin(["disc", "checks"])]
    assert made.values["id"] == some["id"].tolist()
    assert made.values["group"] == some["group"].tolist()
    assert made.values["x"] == pytest.approx(some["x"].tolist(), rel=1e-4)
    with pytest.raises(SettingError, match="no numbers"):
        overview.values(browser, ["id"], axes=["name"])


def test_named_items_come_in_the_order_in_which_they_were_named(browser, collection):
    ids = collection.read(["id"])["id"].to_pylist()[::-2]
    assert [row["id"] for row in overview.some(browser, ids, ["id"])] == ids
    with pytest.raises(NoSuchItem, match="nobody"):
        overview.some(browser, [ids[0], "nobody"])


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 300), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_points_are_thinned_where_they_lie_thick(seed, count, most, axes):
    random = np.random.default_rng(seed)
    thick = random.normal(0, 0.01, (count, axes))
    lone = np.full((1, axes), 5.0)
    points = np.concatenate([thick, lone])
    kept = overview.thinned(points, most)
    assert len(kept) == min(most, len(points))
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(kept) > 0).all()
    if most >= 2:
        assert count in kept  # where points are few none is left out


def test_files_are_told_with_why_they_failed(collection):
    rows, total = overview.files(collection, "failed")
    assert (total, [row["name"] for row in rows]) == (1, ["broken.png"])
    assert str(collection.folder.parent) not in rows[0]["reason"]
    rows, total = overview.files(collection, limit=5, offset=10)
    assert (total, len(rows)) == (13, 3)


def test_a_name_stays_with_what_the_group_holds(collection, tmp_path):
    """Numbers change when images come and groups are found anew."""
    images = drawn.fill(tmp_path / "images")
    own = run(images, into=tmp_path / "out", pipeline=STEPS, report=False, threads=1)
    browser = Browser(own)
    kinds = dict(
        zip(*(own.read(["group", "label_folder"])[name].to_pylist() for name in ("group", "label_folder")), strict=True)
    )
    for group, kind in kinds.items():
        naming.rename(browser, "group", group, f"  all {kind} ")
    assert naming.names(browser, "group") == {group: f"all {kind}" for group, kind in kinds.items()}
    for seed in range(4, 14):  # the smallest group becomes the largest, and so gets another number
        drawn.save(images / f"checks_{seed}.png", drawn.picture("checks", seed))
    run(images, into=tmp_path / "out", report=False, threads=1)
    browser = Browser(own)
    now = dict(
        zip(*(own.read(["group", "label_folder"])[name].to_pylist() for name in ("group", "label_folder")), strict=True)
    )
    assert naming.names(browser, "group") == {group: f"all {kind}" for group, kind in now.items()}
    naming.rename(browser, "group", 0, "")
    assert 0 not in naming.names(browser, "group")
    for column, group, says in (("grup", 0, "Did you mean group"), ("group", 99, "no group 99")):
        with pytest.raises(SettingError, match=says):
            naming.rename(browser, column, group, "a")
    with pytest.raises(SettingError, match="too long"):
        naming.rename(browser, "group", 0, "a" * 81)


def test_the_api_gives_the_same(collection, browser):
    client = TestClient(make_app(collection), base_url="http://127.0.0.1")
    told = client.get("/api/v1/columns/group").json()
    assert {each["value"]: each["count"] for each in told["values"]} == {0: 4, 1: 4, 2: 4}
    made = client.get("/api/v1/values", params={"columns": "id,x", "axes": "x,y,z"}).json()
    assert (made["items"], made["fit"]) == (12, 12)
    assert client.put("/api/v1/clusters/group/1", json={"name": "odd"}).status_code == 204
    assert client.get("/api/v1/clusters").json()[0]["names"] == {"1": "odd"}
    assert client.get("/api/v1/maps").json()[0]["axes"] == ["x", "y", "z"]
    ids = made["values"]["id"][:2]
    assert client.post("/api/v1/items", json={"ids": ids}).json()["items"][1]["id"] == ids[1]


def test_names_given_at_once_are_all_kept(collection, browser):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda at: naming.rename(browser, "group", at % 3, f"name {at % 3}"), range(12)))
    assert naming.names(browser, "group") == {0: "name 0", 1: "name 1", 2: "name 2"}
    naming.rename(browser, "group", 0, "the same")
    naming.rename(browser, "group", 1, "the same")
    naming.rename(browser, "group", 0, "another")
    assert naming.names(browser, "group") == {0: "another", 1: "the same", 2: "name 2"}


def test_only_columns_are_named_and_no_place_on_the_machine(collection):
    client = TestClient(make_app(collection), base_url="http://127.0.0.1")
    for labels in ("/etc/passwd:root", "path", "paths", "embedding", "../x.csv:a"):
        told = client.get("/api/v1/models/embed/judged", params={"labels": labels})
        assert told.status_code == 400
        assert "unknown column" in told.json()["detail"]
        assert "root" not in told.json()["detail"].replace(labels, "")
        assert client.post("/api/v1/organise/plan", json={"by": labels}).status_code == 400
    axes = {"columns": "id", "axes": ",".join(["x"] * 4)}
    assert "too many" in client.get("/api/v1/values", params=axes).json()["detail"]


def test_files_among_settings_are_told_by_their_names(collection):
    receipt = collection.receipts()["embed"]
    collection.save_receipt(replace(receipt, settings={"model": "/home/somebody/models/mine", "k": 3}))
    client = TestClient(make_app(collection), base_url="http://127.0.0.1")
    assert client.get("/api/v1/receipts").json()[0]["settings"] == {"model": "mine", "k": 3}
    collection.save_receipt(receipt)
