"""Presets: each parses, names what exists, says what it needs; hybrid and parts run end to end with tiny models."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import detectors
import drawn
import nets
import numpy as np
import pytest
import restorers
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from imagier import images, presets
from imagier.cli import main
from imagier.collection import Collection
from imagier.models import zoo
from imagier.models.model import Card, Input, Output, to_write, write_model
from imagier.outputs import plots_compare, plots_figures
from imagier.pipeline import Pipeline, check_settings, parse_setting
from imagier.stages import find_stage
from imagier.types import ModelError, SettingError
from imagier.workflows.summary import last_run

NAMES = presets.names()
EVERY = pytest.mark.parametrize("name", NAMES)
PULLED = pytest.mark.parametrize("name", ["hybrid", "parts", "photos"])
"""Those whose models are pulled; those of the others ship, or are the user's own."""
ENCODER = ("timm/any", "embed")
MODEL_SETTINGS = {("embed", "encoder"): "embed", ("upscale", "model"): "upscale", ("crop", "detector"): "detect"}
HERE = (None, "lanczos", "classical", "builtin")
"""What needs no model to be brought."""
KINDS = {"red": 0, "green": 1, "blue": 2}
FACTOR = 3


def models_of(pipeline: Pipeline) -> dict[str, str]:
    """Model -> task, of every step that names one that is to be brought."""
    return {
        value: task
        for step in pipeline.steps
        for (stage, setting), task in MODEL_SETTINGS.items()
        if step.stage == stage and (value := step.settings.get(setting)) not in HERE
    }


# ---------------------------------------------------------------- what is written in them


def test_there_are_seven():
    assert NAMES == ["cells", "figures", "hybrid", "inspection", "lesions", "parts", "photos"]


@EVERY
def test_every_stage_and_setting_exists(name):
    for step in presets.load(name).steps:
        check_settings(find_stage(step.stage), step.settings, step.name)


@PULLED
def test_every_model_is_in_the_zoo_for_its_task(name):
    models = models_of(presets.load(name))
    assert models
    for model, task in models.items():
        assert zoo.ZOO[model].task == task
        assert re.search(rf"imagier models pull [^:#]*?{re.escape(model)}", comment(name)), f"{model} is not said"


def comment(name: str) -> str:
    """The comment at the head of a preset, without its signs."""
    head = re.match(r"(?:#.*\n)+", presets.text(name))
    assert head
    return re.sub(r"\n#\s*", " ", head[0])


@EVERY
def test_the_comment_says_for_whom_what_it_needs_and_how_to_change_it(name):
    said = comment(name)
    for words in ("For whom:", "Needs ", "To change it:", "Gives:", f"imagier presets show {name}"):
        assert words in said
    assert said.startswith(f"# {name}: ")
    assert presets.about(name) in said.replace(f"# {name}: ", "")


@EVERY
def test_every_change_that_the_comment_tells_can_be_made(name):
    told = re.findall(r"--set ('[^']+'|\S+)", comment(name))
    assert told
    for each in told:
        setting, value = parse_setting(shlex.split(each)[0])
        changed = presets.load(name).with_settings({setting: value})
        for step in changed.steps:
            check_settings(find_stage(step.stage), step.settings, step.name)
        for model, task in models_of(changed).items():
            assert zoo.ZOO[model].task == task


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(SettingError, match="hybrid"):
        presets.load("hybird")
    with pytest.raises(SettingError, match="unknown preset"):
        presets.text("../pyproject")


@PULLED
def test_all_models_that_are_missing_are_named_in_one_message(name, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path))
    pipeline = presets.load(name)
    with pytest.raises(ModelError) as raised:
        pipeline.bind()
    message = str(raised.value)
    for model in models_of(pipeline):
        assert f"'{model}' is not on this machine" in message
        assert f"imagier models pull {model}" in message


# ---------------------------------------------------------------- end to end


def encoder(folder: Path) -> None:
    """The mean of each channel, and sums of them."""
    file = nets.network(folder.parent / f"{folder.name}.onnx")
    card = Card(
        name=folder.name,
        task="embed",
        architecture="onnx",
        input=Input(size=(8, 8), fit="squash"),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        files=to_write(network="network.onnx"),
    )
    write_model(folder, card, {"network": file})


def upscaler(folder: Path) -> None:
    """Every pixel becomes 3 x 3 of its kind."""
    shape, larger = ["n", 3, "h", "w"], ["n", 3, "H", "W"]
    graph = helper.make_graph(
        [helper.make_node("Resize", ["image", "", "scales"], ["enlarged"], mode="nearest")],
        "enlarge",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("enlarged", TensorProto.FLOAT, larger)],
        [numpy_helper.from_array(np.float32([1, 1, FACTOR, FACTOR]), "scales")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    card = Card(
        name=folder.name,
        task="upscale",
        architecture="onnx",
        input=Input(fit="none"),
        outputs={"image": Output(tensors=("enlarged",), form="image")},
        scale=FACTOR,
        files=to_write(network="network.onnx"),
    )
    write_model(folder, card, {"network": made.SerializeToString()})


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """Tiny models under the names that the presets give."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("clip-vit-b-32", "vgg16"):
        encoder(folder / name)
    upscaler(folder / "edsr-x3")
    detectors.detector(folder / "yolov10n")
    monkeypatch.setenv("IMAGIER_MODELS", str(folder))
    return folder


def thing(kind: str, at: int, side: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A bright rectangle of one colour on dark ground, and its box."""
    rng = np.random.default_rng([KINDS[kind], at, side])
    image = rng.integers(0, 40, (side, side * 5 // 4, 3)).astype(np.uint8)
    x0, y0 = rng.integers(2, side // 3, 2)
    x1, y1 = rng.integers(side // 2, side - 2, 2)
    image[y0:y1, x0:x1] = rng.integers(0, 60, 3)
    image[y0:y1, x0:x1, KINDS[kind]] = rng.integers(200, 250)
    return image, (int(x0), int(y0), int(x1), int(y1))


@pytest.fixture
def things(tmp_path) -> dict[str, tuple[int, tuple[int, int, int, int]]]:
    """Small and large pictures of three kinds in folders; name -> short side and box of the object."""
    made = {}
    for kind in KINDS:
        for at in range(12):
            side = 60 if at % 2 else 180
            image, box = thing(kind, at, side)
            drawn.save(tmp_path / "images" / kind / f"{at:02}.png", image)
            made[f"{kind}/{at:02}.png"] = (side, box)
    return made


def imagier(*words: object) -> str:
    result = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two boxes: what both cover, of what either does."""
    common = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    both = common.clip(0).prod()
    return float(both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both))


@pytest.mark.parametrize("detector", ["builtin", "yolov10n"])
def test_hybrid_enlarges_cuts_out_maps_and_groups(models, things, tmp_path, detector):
    out = tmp_path / "out"
    words = ("--preset", "hybrid", "--json", tmp_path / "r.json", "--quiet", "--no-report")
    words += () if detector == "builtin" else ("--set", f"crop.detector={detector}")
    imagier("run", tmp_path / "images", "--into", out, *words)
    made = Collection.open(out)
    assert [step["name"] for step in made.state.steps] == [step.name for step in presets.load("hybrid").steps]
    rows = made.read().to_pylist()
    wholes = [row for row in rows if row["parent"] is None]
    regions = [row for row in rows if row["parent"] is not None]
    assert len(wholes) == len(regions) == len(things)
    worked = last_run(made).steps
    assert (worked["upscale"], worked["crop"], worked["embed"]) == (len(wholes), len(regions), len(regions))
    for row in wholes:
        side, _ = things[row["name"]]
        assert row["upscaled"] == (FACTOR if side < 128 else 1)
        assert row["embedding"] is None
    for row in regions:
        side, box = things[row["name"]]
        if detector == "builtin":
            assert row["detection"] == "main object"
        else:
            margin = 0.05 * np.array([box[2] - box[0], box[3] - box[1]] * 2) * [-1, -1, 1, 1]
            np.testing.assert_allclose(row["box"], np.array(box) + margin, atol=0.06 * side)
            assert row["detection"] == row["label_folder"]
        assert row["embedding"] is not None
        assert None not in (row["x"], row["y"], row["z"])
    boxes = {row["name"]: row["box"] for row in regions}
    whole = [overlap((0, 0, side * 5 // 4, side), box) for side, box in things.values()]
    cut = [overlap(boxes[name], box) for name, (_, box) in things.items()]
    assert np.mean(cut) > np.mean(whole) + 0.2
    groups = {kind: {row["group"] for row in regions if row["label_folder"] == kind} for kind in KINDS}
    assert not set.intersection(*(found - {-1} for found in groups.values()))
    facts = made.receipt("cluster").facts
    assert facts["knee"]["eps"] > 0
    assert {group["quality"] for group in facts["groups"]} <= {"high", "low"}
    assert all(group["cohesion"] is not None for group in facts["groups"])

    entries = json.loads((tmp_path / "r.json").read_text())
    assert sorted(entry["filename"] for entry in entries) == sorted(things)
    assert all(entry["x"] is not None and entry["group"] is not None for entry in entries)
    assert set(entries[0]) == {"filename", "label", "x", "y", "z", "group", "quality"}


def test_parts_sets_two_clusterings_against_the_folders(models, things, tmp_path, monkeypatch):
    monkeypatch.setattr(plots_figures, "DPI", 60)
    out = tmp_path / "out"
    imagier("run", tmp_path / "images", "--into", out, "--preset", "parts", "--json", tmp_path / "r.json", "--quiet")
    made = Collection.open(out)
    facts = plots_compare.facts_of(made)
    assert [each["name"] for each in facts["clusterings"]] == ["dbscan", "kmeans"]
    assert facts["truth"]["column"] == "label_folder"
    kmeans = facts["clusterings"][1]
    assert kmeans["truth"]["all"]["purity"] == 1
    assert kmeans["truth"]["all"]["nmi"] > 0.6
    assert (out / "plots" / "compare.png").is_file()
    assert '<section id="compared">' in (out / "report.html").read_text(encoding="utf-8")
    assert made.receipt("reduce").facts["method"] == "tsne"
    own = dict(zip(*(each.to_pylist() for each in made.read(["name", "kmeans_group"]).columns), strict=True))
    entries = json.loads((tmp_path / "r.json").read_text())
    assert {entry["filename"]: entry["group"] for entry in entries} == own
    told = imagier("compare", out)
    assert "kmeans" in told
    assert "label_folder" in told


def test_photos_binds_with_the_one_model_that_it_needs(models):
    (models / "vgg16").rename(models / "gone")
    names = [bound.name for bound in presets.load("photos").bind()]
    assert names == ["embed", "pca", "reduce", "cluster", "duplicates"]


def test_cells_are_found_cut_out_measured_and_grouped(tmp_path, monkeypatch):
    """Drawn micrographs, the models that ship: counts near the truth, and a folder of cells a group."""
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "none"))
    imagier("samples", tmp_path / "demo", "--per-kind", 6)
    out, cells = tmp_path / "out", tmp_path / "demo" / "images" / "cells"
    imagier("run", cells, "--into", out, "--preset", "cells", "--set", "cluster.k=3", "--quiet", "--no-report")
    made = Collection.open(out)
    rows = made.read().to_pylist()
    wholes = [row for row in rows if row["parent"] is None]
    regions = [row for row in rows if row["parent"] is not None]
    assert len(wholes) == 6
    assert len(regions) == sum(row["objects"] for row in wholes)
    for row in wholes:
        labels = images.decode((tmp_path / "demo" / "truth" / "cells" / f"{Path(row['name']).stem}.png").read_bytes())
        assert row["objects"] == pytest.approx(len(np.unique(labels.image)) - 1, rel=0.35, abs=2)
        assert row["coverage"] == pytest.approx((labels.image > 0).mean(), rel=0.35)
        assert row["noise"] > 0
    assert all(row["area_px2"] > 0 and row["group"] is not None for row in regions)
    imagier("organise", out, "--by", "group", "--to", tmp_path / "sorted", "--apply")
    folders = [path for path in (tmp_path / "sorted").iterdir() if path.is_dir()]
    assert sum(len(list(folder.iterdir())) for folder in folders) == len(regions)


def test_lesions_are_measured_by_models_of_ones_own(tmp_path):
    """A lesion that a tiny model finds, and the share of it that a structure covers."""
    for at in range(4):
        image = np.full((90, 120, 3), 60, np.uint8)
        image[20:70, 30:90] = (200, 190, 210)
        image[45:70, 30:90, 0] = 60  # what is red is the upper half of the lesion
        drawn.save(tmp_path / "images" / f"{at}.png", image + np.uint8(at))
    words = ("run", tmp_path / "images", "--into", tmp_path / "out", "--preset", "lesions", "--quiet", "--no-report")
    told = CliRunner().invoke(main, [*map(str, words)])
    assert told.exit_code == 1
    assert "imagier train segmenter --config lesions" in told.stderr
    assert "attributes" not in told.stderr
    restorers.segmenter(tmp_path / "lesion")
    imagier(*words, "--set", f"segment.model={tmp_path / 'lesion'}")  # alone: what waits for a model is left out
    made = Collection.open(tmp_path / "out")
    assert not [name for name in made.columns if name.startswith(("coverage_attributes", "label_set"))]
    assert made.read(["area_px2"], where="parent is not null")["area_px2"].to_pylist() == [50 * 60] * 4
    words = words[:-4] + words[-2:]  # without the preset: the collection keeps its own, and what was left out
    restorers.segmenter(tmp_path / "marks", labels=("net", "dots"), classes=2, gain=10.0)
    models = [f"segment.model={tmp_path / 'lesion'}", f"attributes.model={tmp_path / 'marks'}"]
    imagier(*words, *(word for each in models for word in ("--set", each)))
    rows = Collection.open(tmp_path / "out").read(where="parent is not null").to_pylist()
    assert len(rows) == 4
    for row in rows:
        assert row["area_px2"] == 50 * 60
        assert row["coverage_attributes_masks_net"] == pytest.approx(1)  # all of it is bright
        assert row["coverage_attributes_masks_dots"] == pytest.approx(0.5)
        assert row["solidity"] == pytest.approx(1)


def test_lesions_end_with_a_class_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "none"))
    for at in range(16):
        image = np.random.default_rng(at).integers(0, 110, (90, 120, 3)).astype(np.uint8)
        image[20:70, 30:90] = (240, 150 + at, 200) if at % 2 else (150 + at, 240, 200)
        drawn.save(tmp_path / "images" / "pg"[at % 2] / f"{at}.png", image)
    restorers.segmenter(tmp_path / "lesion")
    (tmp_path / "about.yaml").write_text("notice: Not a diagnosis.\nlabels:\n  p: {recommendation: See someone.}\n")
    words = ("--data", tmp_path / "images", "--about", tmp_path / "about.yaml", "--into", tmp_path / "kinds", "--quiet")
    imagier("train", "classifier", *words)
    models = [f"segment.model={tmp_path / 'lesion'}", f"classify.model={tmp_path / 'kinds'}"]
    out = tmp_path / "out"
    how = ("--preset", "lesions", "--json", tmp_path / "r.json", "--quiet")
    imagier("run", tmp_path / "images", "--into", out, *how, *(word for each in models for word in ("--set", each)))
    told = json.loads((tmp_path / "r.json").read_text())
    assert len(told) == 16
    for row in told:
        assert row["contour"]
        assert row["measured"]["area_px2"] == 50 * 60
        assert row["told"]["label"] in "pg"
        assert 0.5 <= row["told"]["confidence"] <= 1
        assert row["told"]["recommendation"].endswith("Not a diagnosis.")
    html = (out / "report.html").read_text()
    assert "See someone. Not a diagnosis." in html
    assert "What the items are" in html


# ---------------------------------------------------------------- the commands


def test_the_command_lists_and_shows():
    told = imagier("presets")
    for name in NAMES:
        assert f"{name} " in told
        assert presets.about(name) in told
    assert imagier("presets", "show", "parts") == presets.text("parts")


def test_what_is_shown_is_a_pipeline(models, things, tmp_path):
    (tmp_path / "mine.yaml").write_text(imagier("presets", "show", "photos"), encoding="utf-8")
    assert Pipeline.of(tmp_path / "mine.yaml") == presets.load("photos")


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    def refused(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*map(str, words)])
        return result.exit_code, result.output

    code, told = refused("presets", "show", "hybird")
    assert (code, "hybrid" in told) == (1, True)
    code, told = refused("presets", "show")
    assert (code, "NAME" in told) == (2, True)
    code, told = refused("run", tmp_path, "--into", tmp_path / "o", "--preset", "parts", "--pipeline", "default")
    assert (code, "preset" in told) == (1, True)
    code, told = refused("run", tmp_path, "--into", tmp_path / "o", "--preset", "part")
    assert (code, "parts" in told) == (1, True)
