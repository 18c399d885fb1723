"""What every stage promises, held to one test: built-in ones here, a plug-in by the same list.

A new stage adds its case to CASES: for each of its settings another value than the default, and the other settings that
are needed for it to count. One of them, marked by `shows`, must change the output on the drawn data.
"""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import pytest
import tiny_clip
from classifiers import head, network
from detectors import detector
from restorers import denoiser, segmenter
from test_upscale import repeating

from imagier.images import encode
from imagier.pipeline import Bound, Pipeline, check_settings, key_of_step
from imagier.stages import BUILT_IN
from imagier.types import Columns, Fitted, Regions, SettingError, Stage
from imagier.workflows import train


@dataclass(frozen=True)
class Case:
    """Settings other than the defaults: name -> (value, other settings that go with it)."""

    settings: dict[str, tuple[Any, dict[str, Any]]]
    shows: str
    """The setting whose other value must change the output."""
    base: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, Any] = field(default_factory=dict)
    """Settings that have no default: always given."""


ONNX = {"encoder": "ONNX"}
MODEL = {"encoder": "CLIP"}
WORDS = {"model": "CLIP", "labels": ["red", "green", "blue"]}
"""Names in capitals are those of `nets`."""

CASES = {
    "embed": Case(
        {
            "encoder": ("ONNX", {}),
            "tone": ("full", {}),
            "size": (8, ONNX),
            "mean": ([0.1, 0.2, 0.3], ONNX),
            "std": ([0.5, 0.5, 0.5], ONNX),
            "output": ("second", ONNX),
            "normalise": (False, ONNX),
            "engine": ("openvino", MODEL),
            "precision": ("float32", MODEL),
            "storage": ("float16", {}),
        },
        shows="tone",
    ),
    "upscale": Case(
        {
            "model": ("lanczos", {}),
            "below": (25, {}),
            "tile": (128, {}),
            "memory": (20, {}),
            "engine": ("onnxruntime", {}),
        },
        shows="model",
        needs={"model": "UPSCALER"},
    ),
    "denoise": Case(
        {
            "model": ("OTHER DENOISER", {}),
            "sigma": (20.0, {"model": "TOLD DENOISER"}),
            "strength": (0.5, {}),
            "flips": (True, {}),
            "tile": (128, {}),
            "memory": (20, {}),
            "engine": ("onnxruntime", {}),
        },
        shows="strength",
        needs={"model": "DENOISER"},
    ),
    "segment": Case(
        {
            "model": ("OTHER SEGMENTER", {}),
            "threshold": (0.6, {}),
            "fill": (0.5, {}),
            "least": (40, {}),
            "split": (True, {}),
            "flips": (True, {}),
            "tile": (256, {}),
            "memory": (20, {}),
            "engine": ("onnxruntime", {}),
            "precision": ("float32", {"engine": "onnxruntime"}),
        },
        shows="threshold",
        needs={"model": "SEGMENTER"},
    ),
    "measure": Case({"pixel_size": (0.5, {}), "attributes": (["spots"], {})}, shows="pixel_size"),
    "crop": Case(
        {
            "source": ("mask", {"detector": "builtin"}),
            "detector": ("SUPPRESSED", {}),
            "keep": ("each", {}),
            "margin": (0.5, {}),
            "classes": (["red"], {}),
            "threshold": (0.6, {}),
            "overlap": (0.2, {"detector": "SUPPRESSED"}),
            "fallback": ("none", {}),
            "surroundings": ("mean", {"source": "mask", "detector": "builtin"}),
            "engine": ("openvino", {}),
            "precision": ("float32", {}),
        },
        shows="margin",
        needs={"detector": "DETECTOR"},
    ),
    "classify": Case(
        {
            "model": ("OTHER HEAD", {}),
            "level": (0.99, {}),
            "refused": (0.9, {}),
            "by_class": (True, {}),
            "embedding": ("other", {}),
            "labels": (["red", "blue"], WORDS),
            "prompts": (["a {} car", "{}"], WORDS),
            "temperature": (1.0, WORDS),
            "engine": ("onnxruntime", {"model": "CLASSIFIER"}),
            "precision": ("float32", {"model": "CLASSIFIER"}),
        },
        shows="level",
        needs={"model": "HEAD"},
    ),
    "inspect": Case(
        {
            "model": ("OTHER INSPECTOR", {}),
            "rate": (0.4, {}),
            "engine": ("onnxruntime", {}),
            "precision": ("float32", {}),
        },
        shows="rate",
        needs={"model": "INSPECTOR"},
    ),
    "reduce": Case(
        {
            "method": ("pca", {}),
            "on": (["a", "b"], {}),
            "dimensions": (2, {}),
            "seed": (1, {"method": "tsne"}),
            "components": (3, {"method": "pca"}),
            "whiten": (True, {"method": "pca"}),
            "perplexity": (5.0, {"method": "tsne"}),
            "exaggeration": (2.0, {"method": "tsne"}),
            "neighbours": (4, {"method": "umap"}),
            "min_distance": (0.5, {"method": "umap"}),
        },
        shows="dimensions",
        base={"method": "pca"},
    ),
    "cluster": Case(
        {
            "method": ("dbscan", {}),
            "on": (["a", "b"], {}),
            "embedding": ("other", {}),
            "k": (4, {}),
            "k_max": (3, {}),
            "eps": (0.5, {"method": "dbscan"}),
            "min_samples": (4, {"method": "dbscan"}),
            "min_cluster_size": (4, {"method": "hdbscan"}),
            "linkage": ("single", {"method": "agglomerative"}),
            "distance_threshold": (3.0, {"method": "agglomerative"}),
            "resamples": (2, {}),
            "seed": (1, {}),
        },
        shows="k",
    ),
    "duplicates": Case(
        {"embedding": ("other", {}), "cosine": (2.0, {}), "hamming": (64, {})},
        shows="cosine",
        base={"hamming": 64},
    ),
}

STAGES = pytest.mark.parametrize("stage", BUILT_IN, ids=lambda stage: stage.name)
ROWS, TABLES = (
    pytest.mark.parametrize("stage", [s for s in BUILT_IN if s.over == over], ids=lambda stage: stage.name)
    for over in ("rows", "table")
)
SETTINGS = pytest.mark.parametrize(
    ("stage", "setting"),
    [(stage, setting) for stage in BUILT_IN for setting in CASES[stage.name].settings],
    ids=lambda value: value if isinstance(value, str) else value.name,
)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name in the cases -> path."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "ONNX": two_outputs(folder / "tiny.onnx"),
        "CLIP": str(tiny_clip.write(folder / "clip").folder),
        "OTHER CLIP": str(tiny_clip.write(folder / "other_clip", gain=(1, 1, 0.5)).folder),
        "DETECTOR": str(detector(folder / "detector").folder),
        "SUPPRESSED": str(detector(folder / "suppressed", form="yolov8").folder),
        "UPSCALER": str(repeating(folder / "upscaler").folder),
        "DENOISER": str(denoiser(folder / "denoiser", 0.5).folder),
        "TOLD DENOISER": str(denoiser(folder / "told_denoiser", sigma=25.0).folder),
        "OTHER DENOISER": str(denoiser(folder / "other_denoiser", 0.7).folder),
        "SEGMENTER": str(segmenter(folder / "segmenter").folder),
        "OTHER SEGMENTER": str(segmenter(folder / "other_segmenter", gain=20.0).folder),
        "HEAD": str(head(folder / "head").folder),
        "OTHER HEAD": str(head(folder / "other_head", gain=2.0).folder),
        "CLASSIFIER": str(network(folder / "classifier").folder),
        "INSPECTOR": inspector(folder / "inspector"),
        "OTHER INSPECTOR": inspector(folder / "other_inspector", seed=1),
    }


def inspector(folder: Path, seed: int = 0) -> str:
    """Of noise: what is plain is strange."""
    rng = np.random.default_rng(seed)
    for at in range(6):
        drawn.save(folder / "good" / f"{at}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
    made = train.inspector(good=folder / "good", into=folder / "model", settings={"memory": 50}, progress=False)
    return str(made.folder)


def two_outputs(path: Path) -> str:
    """An ONNX encoder with two outputs and an open input size."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    shape = ["n", 3, "h", "w"]
    nodes, weights = [], []
    for name, width in (("first", 4), ("second", 6)):
        weights.append(numpy_helper.from_array(rng.normal(0, 1, (width, 3, 3, 3)).astype(np.float32), f"{name}_w"))
        nodes.append(helper.make_node("Conv", ["image", f"{name}_w"], [f"{name}_conv"], kernel_shape=[3, 3]))
        nodes.append(helper.make_node("Relu", [f"{name}_conv"], [f"{name}_relu"]))
        nodes.append(helper.make_node("GlobalAveragePool", [f"{name}_relu"], [name]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("first", TensorProto.FLOAT, ["n", 4, 1, 1]),
            helper.make_tensor_value_info("second", TensorProto.FLOAT, ["n", 6, 1, 1]),
        ],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def drawn_rows(n: int = 6) -> Columns:
    """Images of different depth, size and colour, as a pass hands them to a row stage."""
    rng = np.random.default_rng(0)
    images: list[np.ndarray] = []
    for at in range(n):
        shape = (24 + at, 40 - at, 3) if at % 3 else (30, 20 + at)
        smooth = np.add.outer(np.linspace(0, 90 + at * 9, shape[0]), np.linspace(0, 80, shape[1]))
        pixels = smooth.reshape(*shape[:2], *([1] * (len(shape) - 2))) + rng.uniform(0, 20, shape)
        images.append(pixels.astype(np.uint8) if at % 2 else (pixels * 11).astype(np.uint16))
    return {
        "id": [f"{at:04d}" for at in range(n)],
        "file": [f"{at:04d}" for at in range(n)],
        "page": [0] * n,
        "width": [image.shape[1] for image in images],
        "height": [image.shape[0] for image in images],
        "depth": [str(image.dtype) for image in images],
        "black": [0.0 if image.dtype == np.uint8 else float(image.min()) for image in images],
        "white": [255.0 if image.dtype == np.uint8 else float(image.max()) for image in images],
        "pixel_size_um": [None, 0.25] * (n // 2),
        "image": images,
        "box": [None] * n,
        "regions": [regions(image) for image in images],
        "mask": [ellipse(*image.shape[:2]) for image in images],
        "spots": [ellipse(*image.shape[:2]) for image in images],
        "embedding": rng.uniform(0, 1, (n, 3)).astype(np.float32),
        "other": rng.uniform(0, 1, (n, 3)).astype(np.float32),
    }


def ellipse(height: int, width: int) -> bytes:
    """A mask, as a PNG."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (height / 3)) ** 2 + ((x - width / 2) / (width / 4)) ** 2 < 1
    return encode(np.where(inside, np.uint8(255), np.uint8(0)), "png")


def regions(image: np.ndarray) -> Regions:
    """Two objects in an image."""
    height, width = image.shape[:2]
    boxes = np.array([[2, 3, 10, 9], [width - 8, height - 9, width - 1, height - 2]], np.float32)
    masks = tuple(np.ones((round(y1 - y0), round(x1 - x0)), bool) for x0, y0, x1, y1 in boxes)
    return Regions(boxes, masks, np.float32([0.9, 0.6]), ("red", "red"))


def drawn_table(n: int = 45) -> Columns:
    """Three loose groups, as a run hands them to a table stage."""
    rng = np.random.default_rng(0)
    centre = rng.normal(0, 4, (3, 8))[np.arange(n) % 3]
    points = (centre + rng.normal(0, 1, (n, 8))).astype(np.float32)
    return {
        "id": [f"{at:04d}" for at in range(n)],
        "embedding": points,
        "other": (points @ rng.normal(0, 1, (8, 5))).astype(np.float32),
        "a": points[:, 0].copy(),
        "b": points[:, 1].copy(),
        "phash": rng.integers(0, 2**63, n, np.uint64),
    }


def bind(stage: Stage, given: dict[str, Any], nets: dict[str, str]) -> Bound:
    given = CASES[stage.name].needs | given
    if given.get("encoder") == "ONNX":
        given = {"output": "first", "size": 12} | given
    given = {name: nets.get(value, value) if isinstance(value, str) else value for name, value in given.items()}
    settings = check_settings(stage, given, stage.name)
    step = stage.make(**settings)
    return Bound(stage.name, stage, settings, step, key_of_step(stage, settings, step, [[c] for c in step.reads]))


def handed(bound: Bound) -> Columns:
    columns = drawn_rows() if bound.stage.over == "rows" else drawn_table()
    return {name: columns[name] for name in bound.step.reads}


def at_work(bound: Bound, columns: Columns) -> Columns:
    out = bound.step.load()(columns)
    return out.columns if isinstance(out, Fitted) else out


def same(one: Columns, other: Columns) -> bool:
    if one.keys() != other.keys():
        return False
    return all(len(one[name]) == len(other[name]) and all(map(alike, one[name], other[name])) for name in one)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, Regions):
        return one.labels == other.labels and all(
            np.array_equal(a, b)
            for a, b in zip((one.boxes, one.scores, *one.masks), (other.boxes, other.scores, *other.masks), strict=True)
        )
    return np.array_equal(np.asarray(one), np.asarray(other))


@STAGES
def test_it_writes_the_columns_that_it_declares_and_no_others(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    out = at_work(bound, handed(bound))
    assert set(bound.step.writes.names) <= set(out) <= {*bound.step.writes.names, *bound.step.passes}
    assert {len(values) for values in out.values()} == {len(handed(bound)[bound.step.reads[0]])}


@STAGES
def test_it_leaves_what_it_is_handed_as_it_was(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    columns = handed(bound)
    at_work(bound, columns)
    assert same(columns, handed(bound))


@ROWS  # a table step is handed its rows sorted by id, always
def test_it_keeps_the_order_of_rows(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    columns = handed(bound)
    turned = {name: list(values)[::-1] for name, values in columns.items()}
    out = at_work(bound, columns)
    back = {name: list(values)[::-1] for name, values in at_work(bound, turned).items()}
    if "parent" in back:  # the place of a row, which is now counted from the other end
        back["parent"] = [len(columns["image"]) - 1 - at for at in back["parent"]]
    assert same(out, back)


@STAGES
def test_the_same_seed_gives_the_same_result(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    assert same(at_work(bound, handed(bound)), at_work(bound, handed(bound)))


@STAGES
def test_threads_give_what_one_thread_gives(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    work = bound.step.load()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, [handed(bound) for _ in range(8)]))
    alone = at_work(bound, handed(bound))
    assert all(same(r.columns if isinstance(r, Fitted) else r, alone) for r in results)


@STAGES
def test_an_unknown_setting_is_refused_with_the_nearest_name(stage):
    name = next(iter(CASES[stage.name].settings))
    with pytest.raises(SettingError, match=f"Did you mean {name}"):
        check_settings(stage, {name + "x": 1}, stage.name)


@STAGES
def test_a_setting_of_another_type_is_refused(stage):
    for name in inspect.signature(stage.make).parameters:
        with pytest.raises(SettingError, match=f"{stage.name}.{name}"):
            check_settings(stage, {name: {"no": "setting"}}, stage.name)


@STAGES
def test_the_case_names_every_setting(stage):
    assert set(CASES[stage.name].settings) == set(inspect.signature(stage.make).parameters)
    assert CASES[stage.name].shows in CASES[stage.name].settings


@SETTINGS
def test_every_setting_changes_the_key(stage, setting, nets):
    value, needs = CASES[stage.name].settings[setting]
    assert bind(stage, needs | {setting: value}, nets).key != bind(stage, needs, nets).key


@STAGES
def test_the_listed_setting_changes_the_output(stage, nets):
    case = CASES[stage.name]
    value, needs = case.settings[case.shows]
    plain, other = (bind(stage, case.base | needs | more, nets) for more in ({}, {case.shows: value}))
    assert not same(at_work(plain, handed(plain)), at_work(other, handed(other)))


@TABLES
def test_a_table_stage_places_its_own_items_where_it_put_them(stage, nets):
    bound = bind(stage, CASES[stage.name].base, nets)
    fitted = bound.step.load()(handed(bound))
    assert bound.step.place is not None
    placed = bound.step.place(handed(bound), replace(fitted, columns={}))
    assert isinstance(placed, Fitted)
    assert set(placed.columns) == set(fitted.columns)
    for name in {"x", "y", "z"} & set(placed.columns):
        assert np.allclose(placed.columns[name], fitted.columns[name], atol=1e-3)
    if "group" in placed.columns:
        assert np.mean(np.asarray(placed.columns["group"]) == fitted.columns["group"]) > 0.95


def test_the_default_pipeline_needs_no_model_and_has_every_stage_that_needs_none():
    bound = Pipeline.of(None).bind()
    alone = {stage.name for stage in BUILT_IN if not CASES[stage.name].needs} - {"measure"}  # which needs masks
    assert {each.stage.name for each in bound} == alone
    assert len({each.key for each in bound}) == len(bound)
