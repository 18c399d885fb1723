"""result.json, Parquet and CSV: every path accounted for, strict JSON, cells that no spreadsheet runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fake_collection import WIDTH, FakeCollection, fake
from pyarrow import parquet

from imagier.outputs import tables
from imagier.types import ImagierError, SettingError

KEYS = ["filename", "label", "x", "y", "z", "group", "quality"]


def no_constant(text: str) -> float:
    raise AssertionError(f"{text} is no strict JSON")


def test_every_path_has_an_entry_with_all_seven_keys_sorted_by_name(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=30, copies=3)
    path = tables.write_result(collection, tmp_path / "new" / "result.json")
    rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constant)
    assert [list(row) for row in rows] == [KEYS] * 33  # 30 files and 3 copies, not the one that failed
    names = [row["filename"] for row in rows]
    assert names == sorted(names)
    files = collection.files().to_pylist()
    assert names == sorted(file["name"] for file in files if file["outcome"] == "ok")


def test_values_are_those_of_the_columns_and_null_where_there_is_nothing(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=30, copies=0)
    rows = {row["filename"]: row for row in tables.result_rows(collection)}
    for item in collection.read().to_pylist():
        row = rows[item["name"]]
        assert row["group"] == item["group"]
        assert row["quality"] == item["quality"]
        assert row["label"] == item["label_folder"]
        assert (row["x"] is None) == (item["embedding"] is None)
        if row["x"] is not None:
            assert np.float32(row["x"]) == np.float32(item["x"])
    assert "broken/bad.jpg" not in rows


def test_a_copy_in_another_folder_has_its_own_name_and_label_and_the_same_place(tmp_path: Path) -> None:
    rows = {row["filename"]: row for row in tables.result_rows(fake(tmp_path, n=5, copies=1))}
    original, copy = rows["kind0/00000.jpg"], rows["copy/kind0/00000.jpg"]
    assert (original["label"], copy["label"]) == ("kind0", "copy")
    assert [original[key] for key in KEYS[2:]] == [copy[key] for key in KEYS[2:]]


def test_pages_and_regions_of_one_file_are_entries_of_their_own(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=6, copies=0, failed=())
    items = collection.read()
    one_file = pa.array([items["file"][0].as_py()] * 6)
    items = items.set_column(items.schema.get_field_index("file"), "file", one_file)
    files = collection.files().slice(0, 1)
    files = files.set_column(files.schema.get_field_index("hash"), "hash", one_file.slice(0, 1))
    merged = FakeCollection(tmp_path, items, files, list(collection.receipts().values()))
    rows = tables.result_rows(merged)
    assert len(rows) == 6
    assert len({row["filename"] for row in rows}) == 1
    assert [row["group"] for row in rows] == items["group"].to_pylist()


def test_not_a_number_becomes_null(tmp_path: Path) -> None:
    points = np.zeros((4, 3))
    points[1, 2] = np.nan
    collection = fake(tmp_path, n=4, noise=0, unplaced=0, copies=0, points=points)
    path = tables.write_result(collection, tmp_path / "r.json")
    rows = json.loads(path.read_text(), parse_constant=no_constant)
    assert sum(row["x"] is None for row in rows if row["filename"] != "broken/bad.jpg") == 1


@pytest.mark.parametrize(
    ("maps", "clusterings", "x", "group"),
    [
        (("pca_", "", "tsne_"), ("", "night_"), "x", "group"),
        (("pca_", "tsne_"), ("day_", "night_"), "tsne_x", "night_group"),
        ((), ("",), None, "group"),
        (("",), (), "x", None),
        ((), (), None, None),
    ],
)
def test_the_map_without_a_prefix_is_taken_else_the_last(
    tmp_path: Path, maps: tuple[str, ...], clusterings: tuple[str, ...], x: str | None, group: str | None
) -> None:
    collection = fake(tmp_path, n=12, maps=maps, clusterings=clusterings, copies=0, failed=())
    table = collection.read().sort_by("name")
    rows = tables.result_rows(collection)
    wanted = [None] * 12 if x is None else table[x].to_pylist()
    assert [None if row["x"] is None else np.float32(row["x"]) for row in rows] == wanted
    assert [row["group"] for row in rows] == ([None] * 12 if group is None else table[group].to_pylist())


def test_an_empty_collection_gives_an_empty_list(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=0, copies=0, failed=())
    assert json.loads(tables.write_result(collection, tmp_path / "r.json").read_text()) == []
    for to in ("parquet", "csv"):
        assert tables.export(collection, to, tmp_path / f"r.{to}").stat().st_size > 0  # type: ignore[arg-type]


def test_parquet_keeps_every_column_in_its_type(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=20)
    back = parquet.read_table(tables.export(collection, "parquet", tmp_path / "r.parquet"))
    assert back.equals(collection.read())


def test_csv_has_a_column_per_component_and_no_thumbnails(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=20, copies=1)
    with tables.export(collection, "csv", tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = collection.read()
    assert len(rows) == 20
    assert "thumbnail" not in rows[0]
    assert {f"embedding_{i}" for i in range(WIDTH)} <= set(rows[0])
    for row, item in zip(rows, table.to_pylist(), strict=True):
        vector = item["embedding"] or [None] * WIDTH
        for i, value in enumerate(vector):
            assert (row[f"embedding_{i}"] == "") == (value is None)
            if value is not None:
                assert np.float32(row[f"embedding_{i}"]) == np.float32(value)
        assert row["group"] == ("" if item["group"] is None else str(item["group"]))
        assert row["paths"] == " | ".join(item["paths"])
    assert " | " in rows[0]["paths"]


def test_csv_texts_are_no_formulas_and_numbers_are_untouched(tmp_path: Path) -> None:
    hostile = ["=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", 'plain "quoted", e.png']
    collection = fake(tmp_path, n=6, names=hostile, copies=0, points=-np.ones((6, 3)), unplaced=0, noise=0)
    with tables.export(collection, "csv", tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [*("'" + name for name in hostile[:5]), hostile[5]]
    assert {row["x"] for row in rows} == {"-1"}


def test_csv_leaves_a_cell_empty_for_not_a_number_and_writes_structures_as_json() -> None:
    table = pa.table(
        {
            "a": pa.array([1.5, float("nan"), float("inf"), None], pa.float32()),
            "b": pa.array([{"k": 1}, None, {"k": 2}, {"k": 3}]),
            "c": pa.array([[1, 2], [], None, [3]]),
        }
    )
    made = tables.flat(table).to_pydict()
    assert made["a"] == [1.5, None, None, None]
    assert made["b"][0] == '{"k": 1}'
    assert made["c"] == ["1 | 2", "", None, "3"]


def test_a_format_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"xlsx.*json, parquet, csv"):
        tables.export(fake(tmp_path, n=2), "xlsx", tmp_path / "r")  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["json", "parquet", "csv"])
def test_a_destination_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, to: tables.Format) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImagierError, match="cannot be written"):
        tables.export(fake(tmp_path, n=2), to, tmp_path / "file" / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
