"""doctor: which engine a model gets, why, in which numbers, and how fast each is, measured on a network of its own."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest

from imagier.models import _onnxruntime, _openvino, _probe, _torch, engines
from imagier.workflows.doctor import _engines, examine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")


@pytest.fixture
def plain(monkeypatch):
    """A machine with a processor of AVX2 and no graphics card."""
    monkeypatch.setattr(_torch, "device", lambda: "cpu")
    monkeypatch.setattr(_torch, "devices", lambda: ["cpu"])
    monkeypatch.setattr(_openvino, "capabilities", lambda: ("FP32",))
    monkeypatch.setattr(_onnxruntime, "device", lambda: _onnxruntime.Device("CPUExecutionProvider"))


@pytest.mark.usefixtures("plain")
def test_it_says_what_runs_models_and_how_fast():
    lines = list(examine())
    assert not any(line.startswith("  torch: ") and "images a second" in line for line in lines)
    assert "a model's network runs on openvino in float32 (the fastest on processors)" in lines
    for name in engines.READERS:
        if engines.installed(name):
            (line,) = [each for each in lines if each.startswith(f"  {name}: ") and "images a second" in each]
            assert int(line.split()[1]) > 0
    assert any(line.startswith("stages: ") for line in lines)


@pytest.mark.usefixtures("plain")
def test_it_says_why_a_provider_does_not_serve(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(_onnxruntime, "device", lambda: _onnxruntime.Device("CPUExecutionProvider", "CUDA is broken"))
    lines = list(_engines())
    assert any(line.startswith("  onnxruntime providers: ") and line.endswith("(CUDA is broken)") for line in lines)
    assert "a model's network runs on openvino in float32 (the fastest on processors; CUDA is broken)" in lines
    assert any(line.startswith("  onnxruntime: ") and " by CPUExecutionProvider " in line for line in lines)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("plain")
def test_it_measures_torch_where_that_sees_a_card(monkeypatch, fails):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_torch, "device", lambda: "mps")
    runner = _torch.runner

    def on_processor(module, job, on):
        if fails:
            raise torch.AcceleratorError("no kernel image\nand a trace")
        return runner(module, job, "cpu")

    monkeypatch.setattr(_torch, "runner", on_processor)
    lines = list(_engines())
    at = lines.index("  one that has weights, on torch in float32 (torch sees mps)")
    if fails:
        assert lines[at + 1] == "  torch on mps fails: no kernel image"
    else:
        rate, rest = lines[at + 1].removeprefix("  torch: ").split(" ", 1)
        assert int(rate) > 0
        assert rest == "images a second on mps (the builtin encoder, 32 at a time)"


@pytest.mark.usefixtures("float32")
def test_its_network_is_one_that_every_engine_runs_alike(tmp_path):
    onnx.checker.check_model(onnx.load_from_string(_probe.network()), full_check=True)
    model = _probe.model(tmp_path / "probe")
    pixels = np.random.default_rng(0).integers(0, 256, (3, _probe.SIDE, _probe.SIDE, 3), np.uint8)
    there = [name for name in engines.READERS if importlib.util.find_spec(name)]
    given = [engines.network(model, engine=name)(pixels)["v"] for name in there]
    assert given[0].shape == (3, _probe.WIDTH, 1, 1)
    assert given[0].std() > 0.1
    for each in given[1:]:
        np.testing.assert_allclose(each, given[0], atol=1e-4)
