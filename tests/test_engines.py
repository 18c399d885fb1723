"""Engines: the same numbers from each, for any number of images, from many threads; what cannot be had is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import onnx
import pytest
from nets import WEIGHTS, network
from onnx import TensorProto, helper

from imagier.models import _onnxruntime, _openvino, _torch, engines, exporting
from imagier.models._running import Job
from imagier.models.model import Card, Input, Output, Text, to_write, write_model
from imagier.types import ModelError, SettingError

READERS = ("openvino", "onnxruntime")
ALL = (*READERS, "torch")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")


def needed(name: str) -> str:
    if not importlib.util.find_spec(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture(params=READERS)
def engine(request, float32):
    return needed(request.param)


@pytest.fixture(params=ALL)
def any_engine(request, float32):
    return needed(request.param)


def batch_of(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 3, side, side)).astype(np.float32)


def truth(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(2, 3)) @ WEIGHTS.T


# ---------------------------------------------------------------- files by themselves


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("n", [1, 3, 4, 6, 19])
def test_any_number_of_images_gives_the_exact_numbers(tmp_path, engine, batch, n):
    run = engines.load(network(tmp_path / "n.onnx", batch=batch), engine)
    images = batch_of(n)
    out = run(images)
    assert list(out) == ["v"]
    assert out["v"].dtype == np.float32
    assert out["v"].shape == (n, 5)
    np.testing.assert_allclose(out["v"], truth(images), atol=1e-5)


def test_a_file_that_reshapes_to_one_image_gives_each_its_own_row(tmp_path, engine):
    run = engines.load(network(tmp_path / "n.onnx", "fixed", batch=1), engine)
    images = batch_of(3)
    np.testing.assert_allclose(run(images)["v"], truth(images), atol=1e-5)


def test_an_output_has_the_same_name_in_ports_and_in_results(tmp_path, engine):
    """An engine may join the last layers into one, which then bears all their names."""
    path = network(tmp_path / "n.onnx", "log")
    images = np.abs(batch_of(2)) + 1
    out = engines.load(path, engine)(images)
    assert list(out) == list(engines.ports(path, engine).outputs) == ["v"]
    np.testing.assert_allclose(out["v"], np.log(truth(images) - np.float32(0.2)), atol=1e-4)


def test_all_outputs_are_given(tmp_path, engine):
    run = engines.load(network(tmp_path / "n.onnx", "both"), engine)
    images = batch_of(2)
    out = run(images)
    assert out["m"].shape == (2, 5, 8, 8)
    np.testing.assert_allclose(out["m"].mean(axis=(2, 3)), out["v"], atol=1e-5)


def test_what_is_handed_over_may_be_a_view_and_stays_as_it_was(tmp_path, engine):
    run = engines.load(network(tmp_path / "n.onnx"), engine)
    images = batch_of(2).transpose(0, 2, 3, 1)[..., ::-1].astype(np.float64)
    before = images.copy()
    view = images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(view)["v"], truth(view), atol=1e-5)
    assert (images == before).all()


def test_a_result_is_not_overwritten_by_the_next(tmp_path, engine):
    run = engines.load(network(tmp_path / "n.onnx"), engine)
    first = run(batch_of(2))["v"]
    kept = first.copy()
    run(batch_of(2) * 5)
    assert (first == kept).all()


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_many_threads_may_call_at_once(tmp_path, engine, threads):
    run = engines.load(network(tmp_path / "n.onnx"), engine, threads=threads)
    batches = [batch_of(n % 5 + 1) * n for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, batches))
    for batch, out in zip(batches, results, strict=True):
        np.testing.assert_allclose(out["v"], truth(batch), atol=1e-3)


@pytest.mark.parametrize("batch", ["n", 1])
def test_ports_tell_shapes_with_none_where_free(tmp_path, engine, batch):
    ports = engines.ports(network(tmp_path / "n.onnx", "both", batch=batch, height="h", width="w"), engine)
    n = None if batch == "n" else 1
    assert ports.inputs == {"x0": (n, 3, None, None)}
    assert ports.dtypes == {"x0": "float32"}
    assert ports.outputs["v"] == (n, 5)
    assert ports.outputs["m"][1] == 5


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07"])
def test_a_file_that_is_no_network_is_refused(tmp_path, engine, content):
    path = tmp_path / "n.onnx"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"n\.onnx"):
        engines.ports(path, engine)
    with pytest.raises(SettingError, match=r"n\.onnx"):
        engines.load(path, engine)


def test_a_network_cut_short_is_refused(tmp_path, engine):
    path = network(tmp_path / "n.onnx")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(SettingError, match=r"n\.onnx"):
        engines.ports(path, engine)


def test_a_network_of_two_inputs_is_refused(tmp_path, engine):
    with pytest.raises(SettingError, match=r"takes 2 inputs \(x0, x1\)"):
        engines.load(network(tmp_path / "n.onnx", inputs=2), engine)


def test_torch_reads_no_network_from_a_file(tmp_path):
    needed("torch")
    with pytest.raises(SettingError, match="by its card"):
        engines.load(network(tmp_path / "n.onnx"), "torch")


def test_the_engine_is_picked(monkeypatch):
    assert engines.pick("openvino") == "openvino"
    assert engines.pick() in READERS
    without(monkeypatch, "openvino")
    assert engines.pick() == "onnxruntime"
    with pytest.raises(SettingError, match="openvino"):
        engines.pick("openvino")
    without(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(SettingError, match="no engine"):
        engines.pick()


def without(monkeypatch, *names: str) -> None:
    """As if packages were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name in names else find(name))


def test_openvino_tells_nobody_that_it_was_imported():
    code = (
        "import socket, sys\n"
        "def refuse(*words): raise SystemExit(f'a connection was tried: {words}')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from imagier.models import engines\n"
        "engines.openvino().Core()\n"
        "import multiprocessing; assert not multiprocessing.active_children()\n"
        "print('told' if 'openvino_telemetry.main' in sys.modules else 'quiet')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "quiet\n", result.stderr


# ---------------------------------------------------------------- Model folders


def turned(path):
    """The same network, which takes (n, H, W, C)."""
    net = onnx.load(path)
    dims = net.graph.input[0].type.tensor_type.shape.dim
    order = [dims[at].SerializeToString() for at in (0, 2, 3, 1)]
    del dims[:]
    dims.extend(onnx.TensorShapeProto.Dimension.FromString(each) for each in order)
    for node in net.graph.node:
        node.input[:] = ["turned" if name == "x0" else name for name in node.input]
    net.graph.node.insert(0, helper.make_node("Transpose", ["x0"], ["turned"], perm=[0, 3, 1, 2]))
    onnx.save(net, path)
    return path


def tiny(*, both: bool = False, nhwc: bool = False):
    """The network of nets.py in torch."""
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHTS.copy()))

        def forward(self, x):
            x = x.permute(0, 3, 1, 2) if nhwc else x
            maps = torch.nn.functional.conv2d(x.float(), self.weight[:, :, None, None])
            vector = maps.mean(dim=(2, 3))
            return {"v": vector, "m": maps} if both else vector

    return Tiny()


def folder(tmp_path, monkeypatch, *, batch="n", kind="vector", task="embed", size=(8, 8), precision="float32", **spec):
    """A Model folder with the tiny network as ONNX, and as weights for torch."""
    spec = {"mean": MEAN, "std": STD, "fit": "squash", "size": size, **spec}
    nhwc, dtype = spec.get("layout") == "nhwc", TensorProto.UINT8 if spec.get("dtype") == "uint8" else TensorProto.FLOAT
    free = {} if size else {"height": "h", "width": "w"}
    path = network(tmp_path / "tiny.onnx", kind, batch=batch, dtype=dtype, **free)
    names = {"vector": {"embedding": ("v", "vector")}, "both": {"map8": ("m", "maps"), "embedding": ("v", "vector")}}
    outputs = {key: Output(tensors=(name,), form=form, width=5) for key, (name, form) in names[kind].items()}
    outputs |= {"image": Output(tensors=("v",), form="image")} if task == "upscale" else {}
    roles, files = {"network": "network.onnx"}, {"network": turned(path) if nhwc else path}
    if importlib.util.find_spec("torch"):
        import safetensors.torch
        import torch

        monkeypatch.setattr(exporting, "module", lambda *_: tiny(both=kind == "both", nhwc=nhwc))
        roles["weights"] = "weights.safetensors"
        files["weights"] = safetensors.torch.save({"weight": torch.from_numpy(WEIGHTS.copy())})
    card = Card(
        name="tiny",
        task=task,
        architecture="timm:tiny",
        precision=precision,
        input=Input(**spec),
        outputs=outputs,
        scale=3 if task == "upscale" else None,
        source="drawn",
        files=to_write(**roles),
    )
    return write_model(tmp_path / "model", card, files)


def pixels_of(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3), np.uint8)


def expected(pixels: np.ndarray, *, bgr: bool = False) -> np.ndarray:
    given = pixels[..., ::-1] if bgr else pixels
    return truth(((given / 255 - MEAN) / STD).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "spec", [{}, {"colour": "bgr"}, {"layout": "nhwc"}, {"colour": "bgr", "layout": "nhwc"}], ids=str
)
def test_pixels_become_what_the_card_says(tmp_path, monkeypatch, any_engine, spec, dtype, batch):
    model = folder(tmp_path, monkeypatch, batch=batch, **spec)
    run = engines.network(model, engine=any_engine, pixels=dtype)
    for n in (1, 3):
        pixels = pixels_of(n).astype(dtype)
        before = pixels.copy()
        out = run(pixels)
        assert list(out) == ["v"]
        assert out["v"].dtype == np.float32
        np.testing.assert_allclose(out["v"], expected(pixels, bgr="colour" in spec), atol=2e-5)
        assert (pixels == before).all()


def test_float_pixels_keep_their_fractions(tmp_path, monkeypatch, any_engine):
    pixels = pixels_of(2).astype(np.float32) + 0.4
    run = engines.network(folder(tmp_path, monkeypatch), engine=any_engine, pixels="float32")
    np.testing.assert_allclose(run(pixels)["v"], expected(pixels), atol=2e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_network_of_bytes_gets_them_as_they_are(tmp_path, monkeypatch, any_engine, dtype, layout):
    model = folder(tmp_path, monkeypatch, dtype="uint8", layout=layout)
    pixels = pixels_of(3)
    handed = pixels if dtype == "uint8" else np.clip(pixels + np.float32(0.3), 0, 255)
    out = engines.network(model, engine=any_engine, pixels=dtype)(handed)
    np.testing.assert_allclose(out["v"], truth(pixels.transpose(0, 3, 1, 2).astype(np.float64)), rtol=1e-5)


def test_grey_has_one_channel(tmp_path, engine):
    weights = np.float32([[1], [2], [-1], [0.5], [0]])
    path = network(tmp_path / "n.onnx", channels=1)
    net = onnx.load(path)
    net.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights[:, :, None, None], "w"))
    onnx.save(net, path)
    card = Card(
        name="grey",
        task="embed",
        architecture="onnx",
        input=Input(size=(8, 8), colour="grey", mean=(0.5,), std=(0.25,)),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        files=to_write(network="network.onnx"),
    )
    model = write_model(tmp_path / "grey", card, {"network": path})
    pixels = pixels_of(3)[..., :1]
    out = engines.network(model, engine=engine)(pixels)
    np.testing.assert_allclose(out["v"], ((pixels / 255 - 0.5) / 0.25).mean(axis=(1, 2)) @ weights.T, atol=1e-5)


def test_any_size_is_taken_where_the_card_leaves_it_open(tmp_path, monkeypatch, any_engine):
    model = folder(tmp_path, monkeypatch, size=None, fit="none")
    run = engines.network(model, engine=any_engine, pixels="float32")
    for height, width in ((8, 8), (5, 11), (16, 9)):
        pixels = np.random.default_rng(height).uniform(0, 255, (2, height, width, 3)).astype(np.float32)
        np.testing.assert_allclose(run(pixels)["v"], expected(pixels), atol=2e-5)


def test_several_outputs_bear_the_names_of_the_card(tmp_path, monkeypatch, any_engine):
    out = engines.network(folder(tmp_path, monkeypatch, kind="both"), engine=any_engine)(pixels_of(2))
    assert sorted(out) == ["m", "v"]
    assert out["m"].shape == (2, 5, 8, 8)
    np.testing.assert_allclose(out["m"].mean(axis=(2, 3)), out["v"], atol=1e-5)
    np.testing.assert_allclose(out["v"], expected(pixels_of(2)), atol=2e-5)


def test_many_threads_may_call_a_model_at_once(tmp_path, monkeypatch, any_engine):
    run = engines.network(folder(tmp_path, monkeypatch), engine=any_engine)
    batches = [pixels_of(n % 5 + 1) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, batches))
    for batch, out in zip(batches, results, strict=True):
        np.testing.assert_allclose(out["v"], expected(batch), atol=2e-5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"size": (9, 8)}, "n x 3 x 9 x 8"),
        ({"layout": "nhwc"}, "n x 8 x 8 x 3"),
        ({"dtype": "uint8"}, "uint8"),
    ],
    ids=str,
)
def test_a_network_that_takes_other_pixels_than_its_card_says_is_refused(tmp_path, engine, spec, said):
    card = Card(
        name="tiny",
        task="embed",
        architecture="onnx",
        input=Input(**{"size": (8, 8), **spec}),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        files=to_write(network="network.onnx"),
    )
    model = write_model(tmp_path / "model", card, {"network": network(tmp_path / "n.onnx")})
    with pytest.raises(SettingError, match="but its card says") as caught:
        engines.network(model, engine=engine)
    assert said in str(caught.value)


def test_a_file_that_is_not_the_cards_is_refused(tmp_path, monkeypatch, any_engine):
    model = folder(tmp_path, monkeypatch)
    for name in ("network.onnx", "weights.safetensors"):
        if (model.folder / name).exists():
            (model.folder / name).write_bytes((model.folder / name).read_bytes() + b"\0")
    with pytest.raises(ModelError, match="sha256"):
        engines.network(model, engine=any_engine)


@pytest.mark.parametrize("integer", [TensorProto.INT64, TensorProto.INT32])
def test_tokens_go_to_the_text_network(tmp_path, engine, integer):
    table = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceMean", ["rows"], ["t"], axes=[1], keepdims=0),
        ],
        "text",
        [helper.make_tensor_value_info("ids", integer, ["n", 7])],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    text = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    vector, words = (Output(tensors=(name,), form="vector", width=5) for name in ("v", "t"))
    card = Card(
        name="clip",
        task="embed",
        architecture="onnx",
        precision="int8",
        input=Input(size=(8, 8)),
        outputs={"embedding": vector, "text_embedding": words},
        text=Text(length=7, pad=0),
        files=to_write(network="network.onnx", text="text.onnx", tokenizer="tokenizer.json"),
    )
    files = {"network": network(tmp_path / "n.onnx"), "text": text.SerializeToString(), "tokenizer": b"{}"}
    model = write_model(tmp_path / "clip", card, files)
    tokens = np.random.default_rng(1).integers(0, 30, (3, 7))
    run = engines.network(model, role="text", engine=engine, precision="float32")
    np.testing.assert_allclose(run(tokens)["t"], table[tokens].mean(axis=1), atol=1e-6)
    assert engines.choose(model, role="text").precision == "float32"
    with pytest.raises(SettingError, match=r"torch runs weights \(\.safetensors\), and the model clip has none"):
        engines.choose(model, "torch", role="text")


@pytest.mark.shared
def test_a_quantised_tflite_takes_bytes(tmp_path, shared):
    outputs = {"embedding": Output(tensors=("MobilenetV2/Predictions/Softmax",), form="vector", width=1001)}
    card = Card(
        name="mnv2",
        task="embed",
        architecture="tflite",
        precision="int8",
        input=Input(size=(224, 224), layout="nhwc", dtype="uint8"),
        outputs=outputs,
        files=to_write(network="network.tflite"),
    )
    path = shared / "weights" / "mobilenet_v2_1.0_224_quant.tflite"
    model = write_model(tmp_path / "mnv2", card, {"network": path})
    assert engines.choose(model) == engines.Choice("openvino", "int8", "the fastest on processors")
    run = engines.network(model)
    pixels = pixels_of(3, 224)
    together = run(pixels)["MobilenetV2/Predictions/Softmax"]
    assert together.shape == (3, 1001)
    alone = [run(pixels[at : at + 1])["MobilenetV2/Predictions/Softmax"] for at in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    with pytest.raises(SettingError, match=r"onnxruntime runs \.onnx, and the model mnv2 has network\.tflite"):
        engines.choose(model, "onnxruntime")


# ---------------------------------------------------------------- the choice


@pytest.fixture
def plain(monkeypatch):
    """A machine with a processor of AVX2 and no graphics card."""
    monkeypatch.setattr(_openvino, "capabilities", lambda: ("FP32", "INT8"))
    monkeypatch.setattr(_torch, "device", lambda: "cpu")
    monkeypatch.setattr(_onnxruntime, "device", lambda: _onnxruntime.Device("CPUExecutionProvider"))


@pytest.fixture
def sapphire(plain, monkeypatch):
    """A machine whose processor has bfloat16."""
    monkeypatch.setattr(_openvino, "capabilities", lambda: ("FP32", "BF16", "INT8"))


def with_provider(monkeypatch, provider: str, why: str = "") -> None:
    """A machine on which ONNX Runtime computes by a provider."""
    monkeypatch.setattr(_onnxruntime, "device", lambda: _onnxruntime.Device(provider, why))


def without_weights(model, tmp_path):
    """The same model as an imported .onnx is: a network alone."""
    card = msgspec.structs.replace(model.card, files=to_write(network="network.onnx"))
    return write_model(tmp_path / "bare", card, {"network": model.file("network")})


def with_card(monkeypatch, name: str, bfloat16: str = "") -> None:
    """A machine with a graphics card that torch sees."""
    monkeypatch.setattr(_torch, "device", lambda: name)
    told = (lambda _: bfloat16) if name == "cuda" else (lambda precision: _torch.refusal(precision, name))
    monkeypatch.setitem(engines.ENGINES, "torch", dataclasses.replace(engines.ENGINES["torch"], refusal=told))


def chosen(*arguments, **keywords) -> tuple[str, str]:
    choice = engines.choose(*arguments, **keywords)
    assert choice.why
    return choice.engine, choice.precision


@pytest.mark.usefixtures("plain")
def test_on_a_processor_openvino_is_taken_then_onnxruntime_then_torch(tmp_path, monkeypatch):
    model = folder(tmp_path, monkeypatch)
    assert chosen(model) == ("openvino", "float32")
    without(monkeypatch, "openvino")
    assert chosen(model) == ("onnxruntime", "float32")
    without(monkeypatch, "openvino", "onnxruntime")
    if importlib.util.find_spec("torch"):
        assert chosen(model) == ("torch", "float32")
    without(monkeypatch, *ALL)
    with pytest.raises(SettingError, match=r"pip install openvino or 'imagier\[onnxruntime\]' or 'imagier\[train\]'"):
        engines.choose(model)


@pytest.mark.usefixtures("sapphire")
def test_bfloat16_where_the_processor_has_it_but_not_for_pictures(tmp_path, monkeypatch):
    model = folder(tmp_path, monkeypatch)
    assert chosen(model) == ("openvino", "bfloat16")
    assert chosen(model, precision="float32") == ("openvino", "float32")
    assert chosen(model, "onnxruntime") == ("onnxruntime", "float32")
    (tmp_path / "two").mkdir()
    picture = folder(tmp_path / "two", monkeypatch, task="upscale", fit="none", size=None)
    assert chosen(picture) == ("openvino", "float32")
    assert chosen(picture, precision="bfloat16") == ("openvino", "bfloat16")


@pytest.mark.usefixtures("plain")
def test_bfloat16_that_cannot_be_had_is_refused(tmp_path, monkeypatch):
    model = folder(tmp_path, monkeypatch)
    with pytest.raises(SettingError, match=r"OpenVINO computes in FP32, INT8 on this processor; .*take float32"):
        engines.choose(model, precision="bfloat16")
    with pytest.raises(SettingError, match="ONNX Runtime computes in the numbers of the file"):
        engines.choose(model, "onnxruntime", "bfloat16")
    if importlib.util.find_spec("torch"):
        with pytest.raises(SettingError, match="torch sees no CUDA device"):
            engines.choose(model, "torch", "bfloat16")


def test_openvino_computes_in_what_the_choice_says(tmp_path):
    """A hint that it cannot follow it drops in silence; what it lists as capabilities it must follow."""
    package = _openvino.package()
    model = package.Core().read_model(network(tmp_path / "n.onnx"))
    compiled = package.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    told = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if "BF16" in package.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert told == "bf16"


@pytest.mark.usefixtures("plain")
def test_a_graphics_card_is_taken_where_the_model_has_weights(tmp_path, monkeypatch):
    needed("torch")
    model = folder(tmp_path, monkeypatch)
    with_card(monkeypatch, "cuda")
    assert chosen(model) == ("torch", "bfloat16")
    assert chosen(model, "openvino") == ("openvino", "float32")
    with_card(monkeypatch, "cuda", bfloat16="too old")
    assert chosen(model) == ("torch", "float32")
    with_card(monkeypatch, "mps")
    assert chosen(model) == ("torch", "float32")
    bare = without_weights(model, tmp_path)
    assert chosen(bare) == ("openvino", "float32")
    with pytest.raises(SettingError, match=r"torch runs weights \(.*\), and the model tiny has none"):
        engines.choose(bare, "torch")


@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider"])
@pytest.mark.usefixtures("sapphire")
def test_a_graphics_card_is_taken_by_onnxruntime_where_the_model_has_no_weights(tmp_path, monkeypatch, provider):
    needed("onnxruntime")
    model = folder(tmp_path, monkeypatch)
    bare = without_weights(model, tmp_path)
    with_provider(monkeypatch, provider)
    assert engines.choose(bare) == engines.Choice("onnxruntime", "float32", f"ONNX Runtime computes by its {provider}")
    assert chosen(bare, precision="bfloat16") == ("openvino", "bfloat16")
    assert chosen(bare, "openvino") == ("openvino", "bfloat16")
    eight = dataclasses.replace(bare, card=msgspec.structs.replace(bare.card, precision="int8"))
    assert chosen(eight) == ("openvino", "int8")
    if importlib.util.find_spec("torch"):
        with_card(monkeypatch, "cuda")
        assert chosen(model)[0] == "torch"
        assert chosen(bare)[0] == "onnxruntime"


@pytest.mark.usefixtures("plain")
def test_a_provider_that_does_not_load_is_not_taken_and_the_choice_says_why(tmp_path, monkeypatch):
    needed("onnxruntime")
    bare = without_weights(folder(tmp_path, monkeypatch), tmp_path)
    with_provider(monkeypatch, "CPUExecutionProvider", "CUDAExecutionProvider is broken")
    told = "the fastest on processors; CUDAExecutionProvider is broken"
    assert engines.choose(bare) == engines.Choice("openvino", "float32", told)
    told = "it was asked for; CUDAExecutionProvider is broken"
    assert engines.choose(bare, "onnxruntime") == engines.Choice("onnxruntime", "float32", told)
    without(monkeypatch, "openvino")
    told = "openvino is not installed; CUDAExecutionProvider is broken"
    assert engines.choose(bare) == engines.Choice("onnxruntime", "float32", told)


@pytest.mark.usefixtures("sapphire")
def test_a_precision_that_the_card_lacks_is_had_from_the_processor(tmp_path, monkeypatch):
    needed("torch")
    model = folder(tmp_path, monkeypatch)
    with_card(monkeypatch, "mps")
    assert chosen(model, precision="bfloat16") == ("openvino", "bfloat16")


@pytest.mark.parametrize("own", ["int8", "float16"])
@pytest.mark.usefixtures("sapphire")
def test_numbers_that_the_file_holds_are_what_one_gets(tmp_path, monkeypatch, own):
    model = folder(tmp_path, monkeypatch, precision=own)
    assert chosen(model) == ("openvino", own)
    assert chosen(model, precision=own) == ("openvino", own)
    for other in ("float32", "bfloat16"):
        with pytest.raises(SettingError, match=f"cannot be {other}: .* holds {own} numbers.*drawn"):
            engines.choose(model, precision=other)


@pytest.mark.usefixtures("plain")
def test_what_does_not_exist_is_refused_with_the_nearest(tmp_path, monkeypatch):
    model = folder(tmp_path, monkeypatch)
    with pytest.raises(SettingError, match="Did you mean openvino"):
        engines.choose(model, "openvin")
    with pytest.raises(SettingError, match="Did you mean bfloat16"):
        engines.choose(model, precision="float16x")
    with pytest.raises(SettingError, match="unknown precision"):
        engines.choose(model, precision="int8")
    without(monkeypatch, "onnxruntime")
    with pytest.raises(SettingError, match=r"not installed: pip install 'imagier\[onnxruntime\]'"):
        engines.choose(model, "onnxruntime")


def test_a_choice_can_be_handed_back(tmp_path, monkeypatch, any_engine):
    model = folder(tmp_path, monkeypatch)
    choice = engines.choose(model, any_engine)
    assert engines.choose(model, choice.engine, choice.precision) == choice


@pytest.mark.skipif(_torch.likely(), reason="a graphics card may be here, and only torch can say")
def test_choosing_imports_no_engine(tmp_path, monkeypatch):
    model = folder(tmp_path, monkeypatch)
    code = (
        "import json, sys\n"
        "from imagier.models import engines\n"
        "from imagier.models.model import read_model\n"
        f"engines.choose(read_model({str(model.folder)!r}), precision='float32')\n"
        "print(json.dumps([name for name in ('torch', 'openvino', 'onnxruntime') if name in sys.modules]))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == []


# ---------------------------------------------------------------- ONNX Runtime


def test_the_best_provider_comes_first_and_the_processor_last():
    needed("onnxruntime")
    assert _onnxruntime.providers()[-1] == "CPUExecutionProvider"
    order = list(_onnxruntime.PROVIDERS)
    assert sorted(_onnxruntime.providers(), key=order.index) == list(_onnxruntime.providers())


CUDA = "CUDAExecutionProvider"


class Session:
    """Stands for a session of an ONNX Runtime that has CUDA; computes on the processor."""

    def __init__(self, session, providers) -> None:
        self.session, self.providers = session, providers

    def __getattr__(self, name):
        return getattr(self.session, name)

    def get_providers(self):
        return self.providers


@pytest.fixture
def with_cuda(monkeypatch):
    """An ONNX Runtime that lists CUDA; what comes of that `happens` says: "works", "falls back", "raises", "stops"."""
    needed("onnxruntime")
    package = _onnxruntime._package()
    real, sessions = package.InferenceSession, []

    def install(happens):
        def make(network, options, *, providers, **keywords):
            names = [name for name, _ in providers]
            sessions.append(names)
            card = names[0] == CUDA
            raises = card and happens(network) == "raises"
            if raises and not keywords.get("enable_fallback", 1):
                raise RuntimeError("CUDA failure 35: driver too old\nand a trace")
            session = real(network, options, providers=[("CPUExecutionProvider", {})], **keywords)
            session = Session(session, names[-1:] if raises or happens(network) == "falls back" else names)
            if card and happens(network) == "stops":
                session.run = lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel image"))
            return session

        monkeypatch.setattr(package, "InferenceSession", make)
        return sessions

    monkeypatch.setattr(package, "get_available_providers", lambda: ["AzureExecutionProvider", CUDA, _onnxruntime.CPU])
    monkeypatch.setattr(_torch, "likely", lambda: True)
    monkeypatch.setattr(_torch, "device", lambda: "cpu")
    for cached in (_onnxruntime.providers, _onnxruntime.device):
        cached.cache_clear()
    yield install
    for cached in (_onnxruntime.providers, _onnxruntime.device):
        cached.cache_clear()


def test_a_provider_is_tried_out_once(tmp_path, monkeypatch, with_cuda, caplog):
    sessions = with_cuda(lambda _: "works")
    bare = without_weights(folder(tmp_path, monkeypatch), tmp_path)
    for _ in range(3):
        assert engines.choose(bare).engine == "onnxruntime"
    assert sessions == [[CUDA, "CPUExecutionProvider"]]
    np.testing.assert_allclose(engines.network(bare)(pixels_of(3))["v"], expected(pixels_of(3)), atol=2e-5)
    assert sessions == [[CUDA, "CPUExecutionProvider"]] * 2
    assert not caplog.records


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        ("falls back", "CUDAExecutionProvider is listed but does not load: its libraries or the driver"),
        ("raises", "CUDAExecutionProvider fails: CUDA failure 35: driver too old"),
        ("stops", "CUDAExecutionProvider fails: no kernel image"),
    ],
)
def test_a_provider_that_is_listed_and_computes_nothing_is_told(tmp_path, monkeypatch, with_cuda, caplog, happens, why):
    with_cuda(lambda _: happens)
    bare = without_weights(folder(tmp_path, monkeypatch), tmp_path)
    assert _onnxruntime.device().provider == "CPUExecutionProvider"
    assert why in _onnxruntime.device().why
    assert "\n" not in _onnxruntime.device().why
    choice = engines.choose(bare)
    assert choice.engine == "openvino"
    assert why in choice.why
    run = engines.network(bare, engine="onnxruntime")
    assert f"runs {bare.file('network')} on the processor: {why}" in caplog.text
    np.testing.assert_allclose(run(pixels_of(3))["v"], expected(pixels_of(3)), atol=2e-5)


@pytest.mark.parametrize("happens", ["falls back", "raises"])
def test_a_network_that_the_provider_refuses_runs_on_the_processor_and_the_log_says_so(
    tmp_path, monkeypatch, with_cuda, caplog, happens
):
    with_cuda(lambda network: happens if isinstance(network, str) else "works")
    bare = without_weights(folder(tmp_path, monkeypatch), tmp_path)
    run = engines.network(bare)
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert "on the processor: CUDAExecutionProvider" in caplog.text
    np.testing.assert_allclose(run(pixels_of(3))["v"], expected(pixels_of(3)), atol=2e-5)


@pytest.mark.parametrize("happens", ["works", "falls back"])
def test_eight_bits_run_on_the_processor_unremarked(tmp_path, monkeypatch, with_cuda, caplog, happens):
    sessions = with_cuda(lambda _: happens)
    bare = without_weights(folder(tmp_path, monkeypatch, precision="int8"), tmp_path)
    assert engines.choose(bare, "onnxruntime").why == "it was asked for"
    engines.network(bare, engine="onnxruntime")
    assert sessions[-1] == ["CPUExecutionProvider"]
    assert not caplog.records


# ---------------------------------------------------------------- torch


@pytest.fixture
def on_cuda(monkeypatch):
    """torch as with a card, but that what is sent there stays here; its switches as they are when a program begins."""
    needed("torch")
    import torch

    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    yield torch
    torch.backends.fp32_precision = "none"
    cudnn.enabled = cudnn.allow_tf32 = True
    matmul.allow_tf32 = False


def switches(torch) -> dict[str, object]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "cudnn": cudnn.enabled,
        "tf32": [cudnn.allow_tf32, matmul.allow_tf32],
        "precision": [each.fp32_precision for each in (cudnn.conv, cudnn.rnn, matmul)],
    }


def test_networks_that_run_at_once_on_cuda_have_cudnn_and_no_tf32(on_cuda):
    """The one that began first ends first: what it would set back, it would set back for the other."""
    seen, begun, ended = [], threading.Event(), threading.Event()

    class First(on_cuda.nn.Module):
        def forward(self, batch):
            seen.append(switches(on_cuda))
            assert begun.wait(10)
            return batch

    class Second(on_cuda.nn.Module):
        def forward(self, batch):
            begun.set()
            assert ended.wait(10)
            seen.append(switches(on_cuda))
            return batch

    first, second = (_torch._Network(module, "cuda", "float32") for module in (First(), Second()))
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first, on_cuda.zeros(1))
        one.add_done_callback(lambda _: ended.set())
        pool.submit(second, on_cuda.zeros(1)).result()
        one.result()
    exact = {"cudnn": True, "tf32": [False, False], "precision": ["ieee"] * 3}
    assert [*seen, switches(on_cuda)] == [exact] * 3


def test_tf32_is_off_also_where_a_program_asked_for_it_everywhere(on_cuda):
    on_cuda.backends.fp32_precision = "tf32"
    _torch.no_tf32()
    assert switches(on_cuda) == {"cudnn": True, "tf32": [False, False], "precision": ["ieee"] * 3}


def test_a_network_that_gives_more_than_the_card_names_is_refused(tmp_path, monkeypatch):
    needed("torch")
    import torch

    assert list(_torch.named((1, 2), ["a", "b"])) == ["a", "b"]
    assert _torch.named({"x": 1, "b": 2, "a": 3}, ["a", "b"]) == {"a": 3, "b": 2}
    assert _torch.named({"x": 1, "y": 2}, ["a", "b"]) == {"a": 1, "b": 2}
    with pytest.raises(ModelError, match="gives 1 outputs, but its card names 2: a, b"):
        _torch.named(torch.zeros(1), ["a", "b"])


def test_the_threads_of_others_stay_as_they_were(tmp_path, monkeypatch):
    needed("torch")
    import torch

    before = torch.get_num_threads()
    engines.network(folder(tmp_path, monkeypatch), engine="torch", threads=1)(pixels_of(2))
    assert torch.get_num_threads() == before


class Compiled:
    """Stands for torch.compile: what it gives is `factor` times what the network gives."""

    def __init__(self, factor: float = 1.0, fails: bool = False) -> None:
        self.factor, self.fails, self.calls = factor, fails, 0

    def __call__(self, network):
        def call(batch):
            if self.fails:
                raise RuntimeError("no kernel\nand a long trace")
            self.calls += 1
            out = network(batch)
            return out if self.factor == 1 else out * self.factor + 1

        return call


def long_run(monkeypatch, compiled: Compiled, *, faster: bool) -> np.ndarray:
    """What a network gives for a batch after which it is compiled."""
    import torch

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(_torch, "can_compile", lambda _: True)
    monkeypatch.setattr(_torch, "COMPILE_AFTER", 4)
    times = iter([2.0, 1.0] if faster else [1.0, 2.0])
    monkeypatch.setattr(_torch._Network, "seconds", lambda *_: next(times))
    module = tiny()
    card = Card(
        name="t",
        task="embed",
        architecture="timm:tiny",
        input=Input(size=(8, 8), mean=MEAN, std=STD),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        files=to_write(weights="w.safetensors"),
    )
    run = _torch.runner(module, Job(path=None, spec=card.input, card=card), "cpu")
    run(pixels_of(3))
    assert compiled.calls == 0
    run(pixels_of(3))
    run(pixels_of(2))  # the short last one
    return run(pixels_of(3))["v"]


def test_a_long_run_is_compiled_where_that_is_faster(monkeypatch):
    needed("torch")
    compiled = Compiled()
    np.testing.assert_allclose(long_run(monkeypatch, compiled, faster=True), expected(pixels_of(3)), atol=2e-5)
    assert compiled.calls == 3  # once to compare, and the two batches of its shape


@pytest.mark.parametrize(
    ("compiled", "faster"),
    [(Compiled(), False), (Compiled(-1.0), True), (Compiled(fails=True), True)],
    ids=["slower", "differs", "fails"],
)
def test_one_that_is_slower_or_differs_or_fails_is_not_used(monkeypatch, compiled, faster):
    needed("torch")
    np.testing.assert_allclose(long_run(monkeypatch, compiled, faster=faster), expected(pixels_of(3)), atol=2e-5)
    assert compiled.calls <= 1


@pytest.mark.skipif(_torch.device() != "cuda", reason="torch sees no CUDA device here")
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999), ("bfloat16", 0.995)])
def test_cuda_gives_what_the_processor_gives(tmp_path, monkeypatch, precision, least):
    model = folder(tmp_path, monkeypatch)
    pixels = pixels_of(20)
    got = engines.network(model, engine="torch", precision=precision)(pixels)["v"]
    wanted = expected(pixels)
    cosines = (got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() >= least


@pytest.mark.skipif(_torch.device() != "mps", reason="torch sees no MPS device here")
def test_mps_gives_what_the_processor_gives(tmp_path, monkeypatch):
    out = engines.network(folder(tmp_path, monkeypatch), engine="torch")(pixels_of(20))["v"]
    np.testing.assert_allclose(out, expected(pixels_of(20)), atol=1e-3)


# ---------------------------------------------------------------- a real architecture on all of them


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # torch's own exporter of TorchScript, which is the quicker one
def test_a_real_architecture_gives_the_same_on_every_engine(tmp_path):
    """MobileNetV3-Small with drawn weights: features centred over the set, since those of drawn weights lie close."""
    for name in ("torch", "timm", *READERS):
        needed(name)
    import torch

    model = exporting.export(
        "timm:mobilenetv3_small_100",
        state=None,
        seed=0,
        name="mnv3",
        task="embed",
        folder=tmp_path / "model",
        size=(96, 96),
    )
    net = exporting.module(model.card, model.file("weights"))
    pixels = np.stack(
        [np.kron(pixels_of(1, 6 + at % 7)[0], np.ones((16, 16, 1), np.uint8))[:96, :96] for at in range(12)]
    )
    pixels = np.stack([np.roll(each, 7 * at, axis=(0, 1)) ^ np.uint8(at * 17) for at, each in enumerate(pixels)])
    spec = model.card.input
    with torch.inference_mode():
        fed = torch.from_numpy(((pixels / 255 - spec.mean) / spec.std).transpose(0, 3, 1, 2).astype(np.float32))
        wanted = net(fed)[0].numpy()
    centred = wanted - wanted.mean(axis=0)
    for name in ALL:
        got = engines.network(model, engine=name, precision="float32")(pixels)["embedding"]
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
        off = got - wanted.mean(axis=0)
        cosines = (off * centred).sum(1) / np.linalg.norm(off, axis=1) / np.linalg.norm(centred, axis=1)
        assert cosines.min() >= 0.9999
