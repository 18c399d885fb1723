"""The encoder that ships: what its card says is so on every engine, and its recipe can be left and taken up again."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier import images
from imagier.models import engines
from imagier.models.model import Input, read_model
from imagier.models.preprocess import place, prepare
from imagier.models.store import built_in, find, get
from imagier.stages.embed import make
from imagier.types import ModelError, SettingError
from imagier.workflows.models import carry, listing, take

ROOT = Path(__file__).parent.parent
ENGINES = ("openvino", "onnxruntime", "torch")
NEVER = "it is not installed"


@pytest.fixture(scope="module")
def model():
    return find("builtin", "embed")


@pytest.fixture(scope="module")
def batch(model):
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (7, 7, 3), np.uint8), (200, 170)) for _ in range(5)]
    return prepare(pictures, model.card.input)[0]


# ---------------------------------------------------------------- what ships


def test_it_is_small(model):
    from onnx import numpy_helper

    path = model.file("network")
    assert path.stat().st_size <= 8_000_000
    constants = [numpy_helper.to_array(each) for each in load_graph(path).initializer]
    assert sum(each.size for each in constants if each.dtype == np.float16) <= 4_000_000
    assert all(160 <= side <= 224 for side in model.card.input.size)
    assert model.output("embedding").width <= 1024


def load_graph(path: Path):
    import onnx

    return onnx.load(path).graph


def test_its_weights_are_there_once(model):
    assert {each.path for each in model.card.files.values()} == {"network.onnx"}
    assert sorted(path.name for path in model.folder.iterdir()) == ["model.json", "network.onnx"]


def test_every_engine_gives_the_same(model, batch):
    given = {}
    for engine in ENGINES:
        if importlib.util.find_spec(engine):
            given[engine] = engines.network(model, engine=engine, precision="float32")(batch)
    assert "openvino" in given
    for made in given.values():
        assert {name: value.shape for name, value in made.items()} == {
            "embedding": (5, 512),
            "map8": (5, 32, 22, 22),
            "map16": (5, 96, 11, 11),
        }
        for name, value in made.items():
            other = given["openvino"][name]
            np.testing.assert_allclose(value, other, atol=2e-3 * np.abs(other).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_is_asked_for_is_given(model, batch, engine):
    if not importlib.util.find_spec(engine):
        pytest.skip(NEVER)
    whole = engines.network(model, engine=engine, precision="float32")(batch)
    part = engines.network(model, engine=engine, precision="float32", wanted=("map16", "embedding"))(batch)
    assert set(part) == {"map16", "embedding"}
    for name, value in part.items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-4)


def test_maps_lie_over_the_image(model):
    """What is bright in one corner shows in that corner of the maps."""
    (side, _) = model.card.input.size
    dark = np.zeros((1, side, side, 3), np.uint8)
    for corner in ((slice(0, 48), slice(0, 48)), (slice(side - 48, side), slice(side - 48, side))):
        lit = dark.copy()
        lit[0][corner] = np.random.default_rng(0).integers(0, 256, (48, 48, 3))
        run = engines.network(model, precision="float32")
        for name, stride in (("map8", 8), ("map16", 16)):
            change = np.abs(run(lit)[name] - run(dark)[name]).sum(1)[0]
            y, x = np.unravel_index(change.argmax(), change.shape)
            # Or the cell beyond the patch's edge, which is bright on one side.
            for at, span in zip((y, x), corner, strict=True):
                assert span.start - stride < at * stride + stride / 2 < span.stop + stride


def test_it_is_the_default_and_needs_nothing_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "empty"))
    step = make()
    assert step.weights == find("builtin", "embed").keys
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    columns = {"image": [picture, picture[:, ::-1]], "black": [0.0] * 2, "white": [255.0] * 2}
    made = step.load()(columns)["embedding"]
    assert made.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_like_images_come_near_and_others_do_not(model):
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (2, 6, 6, 3), np.uint8)
    one, other = (cv2.resize(each, (240, 200), interpolation=cv2.INTER_CUBIC) for each in coarse)
    again = images.decode(images.encode(cv2.resize(one, (180, 150)), "jpeg", quality=70)).image
    columns = {"image": [one, again, other], "black": [0.0] * 3, "white": [255.0] * 3}
    made = make().load()(columns)["embedding"]
    copy, stranger = 1 - made[0] @ made[1], 1 - made[0] @ made[2]
    assert copy < 0.15  # by which `duplicates` knows copies
    assert stranger > 2 * copy  # though both are coloured clouds


def test_its_name_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    (row,) = (row for row in listing() if row["name"] == "embed")
    assert row | {"precision": None} == {
        "name": "embed", "task": "embed", "here": "yes", "precision": None, "licence": "Apache-2.0",
        "pinned": "ships with imagier",
    }  # fmt: skip
    assert get("embed") == find("builtin", "embed")
    with pytest.raises(ModelError, match=r"several models.*embed"):
        get("builtin")
    with pytest.raises(ModelError, match=r"can detect.*name one"):
        find("builtin", "detect")
    carried = carry("embed", tmp_path / "carried")
    with pytest.raises(SettingError, match="choose another"):
        take(carried.folder, "embed")
    assert take(carried.folder, "mine").card.files == carried.card.files


def test_every_built_in_model_is_called_as_its_folder_and_says_where_it_comes_from():
    assert {"embed", "denoise", "denoise-colour", "upscale", "nuclei"} <= set(built_in())
    for name, folder in built_in().items():
        card = read_model(folder).card
        assert card.name == folder.name == name
        assert card.task == {"nuclei": "segment", "denoise-colour": "denoise"}.get(name, name)
        assert card.licence != "unknown"
        assert "recipes/" in card.source


# ---------------------------------------------------------------- weights in halves


def test_what_is_written_in_halves_comes_back(tmp_path):
    torch = pytest.importorskip("torch", reason=NEVER)
    from safetensors.torch import save_file

    from imagier.models.architectures import build
    from imagier.models.exporting import export, read_state

    torch.manual_seed(0)
    own = build("imagier:encoder").state_dict()
    save_file({name: each.contiguous() for name, each in own.items()}, tmp_path / "w.safetensors")
    how = {"state": tmp_path / "w.safetensors", "name": "x", "task": "embed"}
    made = export("imagier:encoder", folder=tmp_path / "half", half=True, **how)
    read = read_state(made.file("weights"))
    assert read.keys() == own.keys()
    for name, each in own.items():
        assert torch.equal(read[name], each.half().float()), name
    whole = export("imagier:encoder", folder=tmp_path / "whole", **how)
    assert made.file("network").stat().st_size < 0.52 * whole.file("network").stat().st_size


def test_made_whole_for_quantising_it_is_the_same_network(model, tmp_path):
    import onnx

    from imagier.models.quantise import _made_whole

    network = onnx.load(model.file("network"))
    _made_whole(onnx, network.graph)
    assert not [node for node in network.graph.node if node.op_type == "Cast" and node.input[0].endswith(".weight")]
    onnx.save(network, tmp_path / "whole.onnx")
    given = np.random.default_rng(0).normal(size=(2, 3, *model.card.input.size)).astype(np.float32)
    one, other = (engines.load(path, "openvino")(given) for path in (model.file("network"), tmp_path / "whole.onnx"))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the geometry that it takes


@given(h=st.integers(3, 400), w=st.integers(3, 400), size=st.sampled_from([16, 33, 64]), grey=st.booleans())
@settings(max_examples=60, deadline=None)
def test_area_is_images_resize_and_the_middle(h, w, size, grey):
    image = np.random.default_rng(h * w).integers(0, 256, (h, w, 3), np.uint8)
    image = image[..., 0] if grey else image
    channels = 1 if grey else 3
    colour = {"colour": "grey" if grey else "rgb", "mean": (0.0,) * channels, "std": (1.0,) * channels}
    made, placed = place(image, Input(size=(size, size), interpolation="area", **colour))
    wide, high = (size, int(size * h / w)) if w <= h else (int(size * w / h), size)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    wanted = images.resize(image, size=(wide, high)).reshape(high, wide, -1)[top : top + size, left : left + size]
    np.testing.assert_array_equal(made, wanted)
    assert (placed.left, placed.top) == (-left, -top)


# ---------------------------------------------------------------- real images


@pytest.mark.shared
@pytest.mark.slow
def test_it_sees_what_its_card_says(shared):
    """The floor that was set for it; the card in docs/encoder.md has what was reached."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import encoders

    scores = [
        encoders.score(encoders.vectors("builtin", paths), labels)
        for paths, labels in (encoders.read(shared / "data", name) for name in encoders.SETS)
    ]
    shares, right = np.mean(scores, axis=0)
    assert shares >= 0.33
    assert right >= 0.62


# ---------------------------------------------------------------- the recipe


def pack(folder: Path) -> Path:
    """A few drawn images in the layout that the recipe reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rng = np.random.default_rng(0)
    numbers = [f"n{at:08d}" for at in range(1000)]
    for name, side, labels in (
        ("natural_160px", 160, [*numbers, "sea"]),
        ("tiny_imagenet_64px", 64, [*numbers[5:20], "sea"]),
    ):
        drawn = [cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), (side, side)) for _ in range(24)]
        encoded = [images.encode(each, "webp") for each in drawn]
        rows = [encoded[at % 24] for at in range(len(labels))]
        table = pa.table({"image": rows, "label": labels, "source": ["y"] * len(labels)})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


@pytest.mark.shared
@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_to_the_same_end(shared, tmp_path):
    pytest.importorskip("torch", reason=NEVER)
    teacher = shared / "weights" / "mobilenet_v2_1.0_224_quant.tflite"
    data = pack(tmp_path / "pack")

    def command(work: str, into: str) -> list[str]:
        told = {"--pack": data, "--teacher": teacher, "--work": tmp_path / work, "--into": tmp_path / into}
        counts = {"--steps": 4, "--last": 2, "--alike": 0.5, "--batch": 4, "--each": 1}
        words = [str(word) for pair in (told | counts).items() for word in pair]
        return [sys.executable, str(ROOT / "recipes" / "encoder" / "train.py"), *words]

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command("broken", "first"), **quiet) as broken:
        log = tmp_path / "broken" / "log.jsonl"
        for _ in range(1200):
            if log.is_file() and log.read_text().count("\n") >= 2:
                break
            time.sleep(0.1)
        broken.send_signal(signal.SIGKILL)
    done = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert 2 <= done[-1] < 6, done
    assert not (tmp_path / "first").exists()
    for work, into in (("broken", "first"), ("whole", "second")):
        ended = subprocess.run(command(work, into), capture_output=True, text=True, check=False, env=dict(os.environ))
        assert ended.returncode == 0, ended.stderr
    told = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert told == [*done, *range(done[-1] + 1, 7)]
    first, second = (read_model(tmp_path / name) for name in ("first", "second"))
    batch = np.random.default_rng(0).integers(0, 256, (2, *first.card.input.size, 3), np.uint8)
    one, other = (engines.network(each, precision="float32")(batch) for each in (first, second))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-3, atol=1e-3 * np.abs(value).max())
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["labels"] > 0
    assert last["alike"] > 0


@pytest.fixture
def recipe(monkeypatch):
    """The recipe's modules, as its own folder imports them."""
    pytest.importorskip("torch", reason=NEVER)
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "encoder"))
    return importlib.import_module


@pytest.mark.shared
def test_the_teacher_is_asked_once_about_a_view(shared, tmp_path, recipe):
    teacher = recipe("teacher")
    file, cache = shared / "weights" / "mobilenet_v2_1.0_224_quant.tflite", tmp_path / "teacher.bin"
    views = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    first = teacher.Teacher(file, cache, 1)
    bare = first.network(views)
    told = first(views[[0, 1, 1]])
    np.testing.assert_allclose(told["map8"][1], bare[2][1], atol=1e-4)
    np.testing.assert_allclose(told["features"][0], bare[0].reshape(3, -1)[0], atol=1e-4)
    with open(cache, "ab") as torn:
        torn.write(b"a record that was not finished")
    again = teacher.Teacher(file, cache, 1)
    whole = again(views)
    for name, value in told.items():
        np.testing.assert_array_equal(whole[name][:2], value[:2])
    again.network = None  # it is not asked any more
    np.testing.assert_array_equal(again(views[::-1])["logits"], whole["logits"][::-1])


@pytest.mark.shared
def test_labels_of_the_pack_are_the_teachers_classes(shared, tmp_path, recipe):
    views = recipe("views")
    large, small = views.packs(shared / "data" / "pretrain")
    assert (large.classes >= 0).sum() == len(set(large.classes.tolist())) - 1 == 1000
    assert small.classes.min() >= 1
    file = shared / "weights" / "mobilenet_v2_1.0_224_quant.tflite"
    teacher = recipe("teacher").Teacher(file, tmp_path / "teacher.bin", 2)
    at = np.flatnonzero(large.classes >= 0)[::10]
    shown = np.stack([cv2.resize(views.opened(large.images[each]), (224, 224)) for each in at])
    logits = teacher.network(shown)[1].reshape(len(at), -1)
    assert (logits.argmax(1) == large.classes[at]).mean() > 0.5
