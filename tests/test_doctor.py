"""doctor: which engine a model gets, why, in which numbers, and how fast each is, measured on a network of its own."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest

from imagier.models import _openvino, _probe, _torch, engines
from imagier.workflows.doctor import examine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")


def test_it_says_what_runs_models_and_how_fast(monkeypatch):
    monkeypatch.setattr(_torch, "device", lambda: "cpu")
    monkeypatch.setattr(_openvino, "capabilities", lambda: ("FP32",))
    monkeypatch.setattr(_torch, "devices", lambda: ["cpu"])
    lines = list(examine())
    assert "engine for ONNX encoders: openvino (the first installed of openvino, onnxruntime)" in lines
    assert "a model's network runs on openvino in float32 (the fastest on processors)" in lines
    for name in engines.READERS:
        if engines.installed(name):
            (line,) = [each for each in lines if each.startswith(f"  {name}: ") and "images a second" in each]
            assert int(line.split()[1]) > 0
    assert any(line.startswith("stages: ") for line in lines)


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
