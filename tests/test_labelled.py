"""Labels from folders, tables and BioFors's layout; what does not fit is one message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from imagier import images
from imagier._names import safe_name
from imagier.cli import main
from imagier.training import labelled
from imagier.types import SettingError
from imagier.workflows.train import Labels


@given(st.text(min_size=1, max_size=12))
def test_a_label_comes_back_from_its_folder(label):
    name = labelled.as_folder(label)
    assert labelled.of_folder(name) == label
    assert safe_name(name, 10_000) == name


def test_labels_that_are_names_stay_as_they_are():
    assert labelled.as_folder("Blot/Gel") == "Blot%2FGel"
    assert [labelled.as_folder(each) for each in ("good", "été 2", "a-b_c (1)")] == ["good", "été 2", "a-b_c (1)"]


def picture(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(np.full((8, 8, 3), shade, np.uint8), "png"))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of three images each, and a table of what they are."""
    for at in range(6):
        picture(tmp_path / "data" / ("Blot%2FGel" if at < 3 else "scene") / "deep" / f"{at}.png", 40 * at)
    rows = "".join(f"{at}.png,{'ab'[at % 2]},{at // 2}\n" for at in range(6))
    (tmp_path / "labels.csv").write_text("name,kind,owner\n" + rows)
    table = pa.table({"name": [str(at) for at in range(6)], "number": [at % 2 for at in range(6)]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    return tmp_path


def test_a_folder_a_class(folder):
    _, made = Labels(data=folder / "data").read()
    assert made.classes == ("Blot/Gel", "scene")
    assert [path.name for path in made.paths] == [f"{at}.png" for at in range(6)]
    assert made.labels == ("Blot/Gel",) * 3 + ("scene",) * 3


@pytest.mark.parametrize(("table", "labels"), [("labels.csv:kind", "ababab"), ("labels.parquet:number", "010101")])
def test_a_column_of_a_table(folder, table, labels):
    _, made = Labels(images=folder / "data", labels=str(folder / table)).read()
    assert "".join(made.labels) == labels


def test_a_bare_name_that_two_files_have_is_told(folder):
    picture(folder / "data" / "scene" / "0.png", 7)
    with pytest.raises(SettingError, match=r"the row '0\.png' may be .*Blot%2FGel.*0\.png or .*scene/0\.png"):
        Labels(images=folder / "data", labels=f"{folder / 'labels.csv'}:kind").read()


@pytest.mark.parametrize("name", ["10%FBS", "Stain%E9", "5%20x", "%"])
def test_a_folder_of_ones_own_with_a_percent_sign_is_its_own_label(name):
    assert labelled.of_folder(name) == name


def test_a_row_without_a_label_is_left_out(folder):
    text = (folder / "labels.csv").read_text().replace("5.png,b", "5.png,")
    (folder / "labels.csv").write_text(text)
    _, made = Labels(images=folder / "data", labels=f"{folder / 'labels.csv'}:kind").read()
    assert "".join(made.labels) == "ababa"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda f: (f / "data" / "none").mkdir(), "the class 'none' is empty"),
        (lambda f: picture(f / "data" / "stray.png", 3), r"stray\.png lies in no class's folder"),
        (lambda f: [(f / "data" / "scene").rename(f / "data" / "Blot%2FGel" / "x")], "one class alone, 'Blot/Gel'"),
    ],
)
def test_a_tree_that_is_none_is_told(folder, change, why):
    change(folder)
    with pytest.raises(SettingError, match=why):
        Labels(data=folder / "data").read()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,kind\n", "holds no rows"),
        ("name,sort\n0.png,a\n", "unknown column 'kind'"),
        ("name,kind\n0.png,a\n0.png,b\n", r"has two rows for '0\.png': 'a' and 'b'"),
        ("name,kind\n" + "".join(f"{at}.png,a\n" for at in range(7)), r"has a row for '6\.png', which is not in"),
        ("name,kind\n0.png,a\n1.png,b\n", r"has no row for .*2\.png, nor for 3 more"),
        ("name,kind\n" + "".join(f"{at}.png,a\n" for at in range(6)), "one class alone, 'a'"),
    ],
)
def test_a_table_that_does_not_fit_is_told(folder, text, why):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(SettingError, match=why):
        Labels(images=folder / "data", labels=f"{folder / 'labels.csv'}:kind").read()


def test_one_source_of_labels_and_no_other(folder):
    for given_ in ({}, {"data": folder / "data", "biofors": folder}, {"labels": "x.csv:y"}, {"images": folder}):
        with pytest.raises(SettingError, match="say where labels come from"):
            Labels(**given_).read()


@pytest.fixture
def biofors(tmp_path) -> Path:
    """Two documents, with two files called alike."""
    told = {"doc1": {"a.png": "Blot/Gel", "b.png": "FACS"}, "doc2": {"a.png": "FACS"}}
    for at, (document, file) in enumerate([("doc1", "a.png"), ("doc1", "b.png"), ("doc2", "a.png")]):
        picture(tmp_path / "bio" / "images" / document / file, 60 * at)
    (tmp_path / "bio" / "classification.json").write_text(json.dumps(told))
    return tmp_path / "bio"


def test_biofors_is_read_with_its_documents(biofors):
    root, made = Labels(biofors=biofors).read()
    assert root == biofors / "images"
    assert [path.relative_to(root).as_posix() for path in made.paths] == ["doc1/a.png", "doc1/b.png", "doc2/a.png"]
    assert made.labels == ("Blot/Gel", "FACS", "FACS")
    assert made.groups == ("doc1", "doc1", "doc2")


def test_biofors_becomes_a_folder_a_class(biofors, tmp_path):
    told = CliRunner().invoke(main, ["import", "biofors", str(biofors), "--into", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert "3 images of 2 classes" in told.output
    _, made = Labels(data=tmp_path / "out").read()
    assert sorted(zip((p.read_bytes() for p in made.paths), made.labels, strict=True)) == sorted(
        zip(
            (p.read_bytes() for p in Labels(biofors=biofors).read()[1].paths), ("Blot/Gel", "FACS", "FACS"), strict=True
        )
    )
    groups = labelled.column(f"{tmp_path / 'out' / 'documents.csv'}:document", tmp_path / "out", made.paths, "--groups")
    assert dict(zip((p.relative_to(tmp_path / "out").as_posix() for p in made.paths), groups, strict=True)) == {
        "Blot%2FGel/doc1/a.png": "doc1", "FACS/doc1/b.png": "doc1", "FACS/doc2/a.png": "doc2",
    }  # fmt: skip
    again = CliRunner().invoke(main, ["import", "biofors", str(biofors), "--into", str(tmp_path / "out")])
    assert again.exit_code == 1
    assert "holds something" in again.stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "not as BioFors's is"),
        ('{"doc1": ["a.png"]}', "not as BioFors's is"),
        ('{"doc1": {"a.png": ""}}', "not as BioFors's is"),
        ('{"doc1": {"lost.png": "FACS", "a.png": "Blot/Gel"}}', r"lost\.png, which is not there, and 0 more"),
        ("{", "is no JSON"),
    ],
)
def test_a_listing_that_is_none_is_told(biofors, text, why):
    (biofors / "classification.json").write_text(text)
    with pytest.raises(SettingError, match=why):
        Labels(biofors=biofors).read()
    (biofors / "classification.json").unlink()
    with pytest.raises(SettingError, match="cannot be read"):
        Labels(biofors=biofors).read()
