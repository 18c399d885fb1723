"""What a segmenter's network gives becomes likelihoods at the image's own size, whole or in tiles, by its labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import nets
import numpy as np
import pytest

from imagier.models.model import Card, Input, Model, Output, to_write, write_model
from imagier.models.segmenting import classes, has_cores, teller
from imagier.types import ModelError

LABELS = ("a", "b", "c", "d", "e")


@pytest.fixture
def segmenter(tmp_path):
    """A network whose logits are nets.WEIGHTS @ pixel, on [0, 1]; by labels and input."""

    def make(labels: tuple[str, ...] = LABELS, **how) -> Model:
        spec = Input(**{"fit": "none"} | how)
        sides = (
            {"height": "h", "width": "w"}
            if spec.size is None
            else dict(zip(("height", "width"), spec.size, strict=True))
        )
        path = nets.network(tmp_path / "net.onnx", "map", **sides)
        card = Card(
            name="tiny",
            task="segment",
            architecture="onnx",
            input=spec,
            outputs={"logits": Output(tensors=("m",), form="logits", width=5)},
            labels=labels,
            files=to_write(network="network.onnx"),
        )
        return write_model(Path(tmp_path / "model"), card, {"network": path}, replace=True)

    return make


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def logits(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255 @ nets.WEIGHTS.T


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("size", [(7, 9), (60, 41), (130, 200)])
def test_any_size_whole_or_in_tiles(segmenter, size):
    model, image = segmenter(), pixels(*size)
    for options in ({}, {"tile": 208}, {"flips": True}):
        made = teller(model, engine="openvino", precision="float32", **options)(image)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, sigmoid(logits(image)), atol=1e-4)
    assert classes(model) == LABELS
    assert not has_cores(model)


def test_labels_say_what_excludes_and_what_is_a_core(segmenter):
    image = pixels(20, 30)
    model = segmenter(("background", "a", "b", "c", "core"))
    made = teller(model, engine="openvino", precision="float32")(image)
    assert classes(model) == ("a", "b", "c")
    assert has_cores(model)
    given = logits(image)
    shares = np.exp(given[..., :4]) / np.exp(given[..., :4]).sum(-1, keepdims=True)
    np.testing.assert_allclose(made[..., :3], shares[..., 1:], atol=1e-4)
    np.testing.assert_allclose(made[..., 3], sigmoid(given[..., 4]), atol=1e-4)


def test_classes_that_nobody_named_are_numbered(segmenter):
    assert classes(segmenter(())) == tuple(f"object {at}" for at in range(1, 6))


@pytest.mark.parametrize("pad_at", ["corner", "centre"])
def test_one_size_is_brought_back_to_the_image(segmenter, pad_at):
    ground = cv2.GaussianBlur(pixels(120, 240), (0, 0), 9)
    for how in ({"fit": "squash"}, {"fit": "pad", "pad_at": pad_at}):
        model = segmenter(size=(64, 64), interpolation="area", **how)
        made = teller(model, engine="openvino", precision="float32")(ground)
        assert made.shape == (120, 240, 5)
        assert np.abs(made - sigmoid(logits(ground)))[8:-8, 8:-8].mean() < 0.01


def test_a_model_that_sees_the_middle_alone_is_refused(segmenter):
    with pytest.raises(ModelError, match="--fit squash or pad"):
        teller(segmenter(size=(64, 64), fit="crop"))
