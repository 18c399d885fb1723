"""Quantising: the same features from int8 within a bar that is measured, on engines that both run it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings

import msgspec
import numpy as np
import onnx
import pytest

from imagier.models import _probe, engines, quantise
from imagier.models.model import Card, Input, Model, Output, read_model, to_write, write_model
from imagier.models.preprocess import prepare
from imagier.models.store import folder_of
from imagier.types import ModelError, SettingError

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of NNCF and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Fields of colour with edges, of many sizes, some grey."""
    rng = np.random.default_rng(seed)
    made = []
    for at in range(count):
        height, width = rng.integers(60, 120, 2)
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / rng.uniform(2, 30) + y / rng.uniform(2, 30) + rng.uniform(0, 6)) for _ in range(3)]
        image = np.stack(waves, axis=2) * rng.uniform(20, 127) + rng.uniform(60, 200)
        image[rng.integers(height) :, rng.integers(width) :] = rng.integers(0, 256, 3)
        image = image.clip(0, 255).astype(np.uint8)
        made.append(image[:, :, 0] if at % 7 == 3 else image)
    return made


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def probe(tmp_path) -> Model:
    """Six convolutions."""
    return _probe.model(tmp_path / "probe")


def features(model: Model, images: list[np.ndarray], engine: str) -> np.ndarray:
    batch, _ = prepare(images, model.card.input)
    output = model.output("embedding")
    values = engines.network(model, engine=engine)(batch)[output.tensors[0]]
    return engines.pooled(values, output.form, "nchw")


def holds(model: Model, made: Model, engine: str, fresh: list[np.ndarray]) -> None:
    """The bar: 0.97 for the same image, below 0.9 for different ones, of features centred over the set."""
    wanted, got = features(model, fresh, engine), features(made, fresh, engine)
    assert not np.array_equal(wanted, got)
    one, other = ((each - each.mean(axis=0)) for each in (wanted, got))
    cosines = (one @ other.T) / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1)
    assert np.diag(cosines).min() >= 0.97
    assert np.median(cosines[~np.eye(len(cosines), dtype=bool)]) < 0.9


def test_int8_gives_the_features_of_float32_on_both_engines(models, probe):
    made = quantise.quantise(probe, iter(pictures(40)), name="probe-int8")
    assert made.folder == folder_of("probe-int8") == models / "probe-int8"
    card = read_model(made.folder).card
    assert (card.precision, card.name, card.task) == ("int8", "probe-int8", "embed")
    assert probe.card.files["network"].sha256 in card.source
    assert "on 32 images, least cosine with float32 on 8 others" in card.notes
    assert made.file("network").stat().st_size < 0.5 * probe.file("network").stat().st_size
    kinds = {node.op_type for node in onnx.load(made.file("network")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    for engine in ("openvino", "onnxruntime"):
        holds(probe, made, engine, pictures(12, seed=1))
        assert engines.choose(made, engine).precision == "int8"
    assert read_model(probe.folder).card.precision == "float32"


def test_a_file_for_a_fixed_number_of_images(tmp_path, models, probe):
    net = onnx.load(probe.file("network"))
    for port in (*net.graph.input, *net.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 2
    card = msgspec.structs.replace(probe.card, files=to_write(network="network.onnx"))
    fixed = write_model(tmp_path / "fixed", card, {"network": net.SerializeToString()})
    made = quantise.quantise(fixed, pictures(20), name="fixed-int8")
    holds(fixed, made, "openvino", pictures(9, seed=1))


def test_a_transformer(tmp_path, models):
    for name in ("torch", "timm"):
        if not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed")
    import torch
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    net = VisionTransformer(img_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=0).eval()
    path = tmp_path / "vit.onnx"
    with warnings.catch_warnings():  # of what tracing fixes, such as the size
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(2, 3, 64, 64),), str(path), dynamo=False, opset_version=17,
            input_names=["x"], output_names=["v"], dynamic_axes={"x": {0: "n"}, "v": {0: "n"}},
        )  # fmt: skip
    card = Card(
        name="vit",
        task="embed",
        architecture="timm:vit",
        input=Input(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=64)},
        files=to_write(network="network.onnx"),
    )
    model = write_model(tmp_path / "vit", card, {"network": path})
    made = quantise.quantise(model, pictures(25), name="vit-int8")
    for engine in ("openvino", "onnxruntime"):
        holds(model, made, engine, pictures(10, seed=1))


def test_where_int8_costs_too_much_the_ends_stay_as_they_are(models, probe, monkeypatch):
    shares = []
    monkeypatch.setattr(quantise, "fidelity", lambda *_: [0.5, 0.9, 0.98][len(shares) - 1])
    rounded = quantise.rounded
    monkeypatch.setattr(quantise, "rounded", lambda m, b, share: shares.append(share) or rounded(m, b, share))
    made = quantise.quantise(probe, pictures(20), name="later")
    assert shares == [0.0, 0.125, 0.25]
    assert "the first 25.0% and last 12.5% of its layers in float32" in made.card.notes
    weights = {each.name: each.data_type for each in onnx.load(made.file("network")).graph.initializer}
    for end in ("w0", f"w{_probe.LAYERS - 1}"):
        assert weights[end] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.INT8 in weights.values()


def test_what_does_not_come_up_to_the_bar_is_not_kept(models, probe, monkeypatch):
    monkeypatch.setattr(quantise, "FLOATING", (0.0,))
    with pytest.raises(ModelError, match=r"least cosine with float32, centred, is 0\.\d+, and 1 is asked for"):
        quantise.quantise(probe, pictures(20), name="none", least=1.0)
    assert not folder_of("none").exists()


def test_what_cannot_be_quantised_is_refused(tmp_path, models, probe):
    def changed(**fields) -> Model:
        return Model(probe.folder, msgspec.structs.replace(probe.card, **fields))

    with pytest.raises(SettingError, match="19 images are too few"):
        quantise.quantise(probe, pictures(19), name="few")
    with pytest.raises(SettingError, match="int8 already"):
        quantise.quantise(changed(precision="int8"), pictures(20), name="twice")
    with pytest.raises(SettingError, match="there to upscale"):
        quantise.quantise(changed(task="upscale"), pictures(20), name="picture")
    with pytest.raises(SettingError, match="no ONNX network"):
        quantise.quantise(changed(files=to_write(network="n.tflite")), pictures(20), name="lite")
    (models / "taken").mkdir(parents=True)
    with pytest.raises(ModelError, match="there already"):
        quantise.quantise(probe, pictures(20), name="taken")


def test_without_nncf_it_is_said_what_to_install(models, probe, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(SettingError, match=r"quantising needs nncf: pip install 'imagier\[quantise\]'"):
        quantise.quantise(probe, pictures(20), name="no")


def test_nobody_is_told_that_something_was_quantised(tmp_path):
    code = (
        "import os, socket, sys\n"
        "def refuse(*words): raise SystemExit(f'a connection was tried: {words}')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from imagier.models import quantise\n"
        "nncf, _ = quantise._packages()\n"
        "told = 'openvino_telemetry' in sys.modules\n"
        "print(type(nncf.telemetry.wrapper.telemetry).__name__, told, 'NNCF_CI' in os.environ)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "MagicMock False False\n", result.stderr
