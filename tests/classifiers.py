"""Tiny classifiers, as Model folders: what they say can be said to the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from imagier.algorithms import confidence, novelty
from imagier.models.classifying import Confidence, Seen, packed
from imagier.models.model import Card, Head, Input, Model, Output, to_write, write_model

LABELS = ("red", "green", "blue")
SHA = "1" * 64
"""Of the encoder that `head` goes by, where no other is told."""


def trusted(gain: float) -> bytes:
    """Confidence from 60 vectors, 20 about each axis."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 20)
    vectors = (np.eye(3)[classes] + rng.normal(0, 0.4, (60, 3))).astype(np.float32)
    arrays = novelty.METHODS["neighbours"].fit(vectors, classes, 0)
    distribution = novelty.Distribution("neighbours", arrays)
    seen = Seen(gain * vectors, vectors)
    known = distribution.strangeness(vectors, seen.logits)
    covering = confidence.covering(confidence.shares(seen.logits), classes)
    return Confidence(1.0, covering, distribution, known).encoded()


def head(folder: Path, *, gain: float = 1.0, sha256: str = SHA) -> Model:
    """A vector of three numbers is `gain` times itself in logits of red, green and blue."""
    eye = np.eye(3, dtype=np.float32)
    arrays = {"mean": np.zeros(3, np.float32), "std": np.ones(3, np.float32), "weight0": gain * eye}
    card = Card(
        name=folder.name,
        task="classify",
        architecture="head",
        input=Input(fit="none"),
        outputs={"logits": Output(tensors=("logits",), form="logits", width=3)},
        labels=LABELS,
        calibration={"temperature": 1.0},
        head=Head(encoder="somebody", sha256=sha256),
        novelty="neighbours",
        files=to_write(head="head.npz", confidence="confidence.npz"),
    )
    files = {"head": packed(arrays | {"bias0": np.zeros(3, np.float32)}), "confidence": trusted(gain)}
    return write_model(folder, card, files)


def network(folder: Path, *, gain: float = 4.0) -> Model:
    """The mean colour is the feature, `gain` times it the logits."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["features"]),
            helper.make_node("MatMul", ["features", "w"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
        ],
        [numpy_helper.from_array(gain * np.eye(3, dtype=np.float32), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    card = Card(
        name=folder.name,
        task="classify",
        architecture="onnx",
        input=Input(size=(16, 16), fit="squash", interpolation="area"),
        outputs={
            "logits": Output(tensors=("logits",), form="logits", width=3),
            "embedding": Output(tensors=("features",), form="vector", width=3),
        },
        labels=LABELS,
        calibration={"temperature": 1.0},
        novelty="neighbours",
        files=to_write(network="network.onnx", confidence="confidence.npz"),
    )
    return write_model(folder, card, {"network": made.SerializeToString(), "confidence": trusted(gain)})
