"""Engines: the same numbers from each, for any number of images, from many threads; a file that is none is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nets import WEIGHTS, network

from imagier.models import engines
from imagier.types import SettingError

BOTH = ("openvino", "onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")


@pytest.fixture(params=BOTH)
def engine(request):
    if not importlib.util.find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    return request.param


def batch_of(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 3, side, side)).astype(np.float32)


def truth(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=(2, 3)) @ WEIGHTS.T


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("n", [1, 3, 4, 6])
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


def test_many_threads_may_call_at_once(tmp_path, engine):
    run = engines.load(network(tmp_path / "n.onnx"), engine, threads=1)
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


def test_the_engine_is_picked(monkeypatch):
    assert engines.pick("openvino") == "openvino"
    assert engines.pick() in BOTH
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    assert engines.pick() == "onnxruntime"
    with pytest.raises(SettingError, match="openvino"):
        engines.pick("openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match="no engine"):
        engines.pick()


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
