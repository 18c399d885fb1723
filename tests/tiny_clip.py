"""A CLIP small enough to know by heart: an image's vector is its mean colour, a text's that of its words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from imagier.models.model import Card, Input, Model, Output, Text, to_write, write_model

WORDS: Mapping[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "light": (0.2, 0.2, 0.2),
    "a": (0, 0, 0),
    "photo": (0, 0, 0),
    "of": (0, 0, 0),
    "car": (0, 0, 0),
    ".": (0, 0, 0),
}
"""What each word adds; words that are not here are <unk> and add nothing."""
PAD, UNK, START, END = range(4)
LENGTH = 8
SCALE = 20.0


def vocabulary(words: Sequence[str]) -> dict[str, int]:
    return {word: at for at, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *words])}


def tokenizer_json(words: Sequence[str] = tuple(WORDS)) -> bytes:
    """A tokenizer.json as the tokenizers library writes it. Its own limits are others than the card's, on purpose."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel(vocabulary(words), unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    made.enable_truncation(3)
    made.enable_padding(length=5, pad_id=END, pad_token="</s>")
    return bytes(json.dumps(json.loads(made.to_str())), "utf-8")


def image_network(gain: Sequence[float] = (1, 1, 1)) -> bytes:
    """`pixels` (n, 3, h, w) -> `image_vector` (n, 3): the mean of each channel, times gain."""
    kernel = numpy_helper.from_array(np.diag(np.float32(gain))[:, :, None, None].copy(), "w")
    shape = numpy_helper.from_array(np.array([0, 3], np.int64), "flat")
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Reshape", ["g", "flat"], ["image_vector"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    vector = helper.make_tensor_value_info("image_vector", TensorProto.FLOAT, ["n", 3])
    return _file(nodes, [pixels], [vector], [kernel, shape])


def text_network(width: int = 3, length: int = LENGTH) -> bytes:
    """`ids` (n, length) int64 -> `text_vector` (n, width): the mean of what the tokens add."""
    table = np.zeros((4 + len(WORDS), width), np.float32)
    table[4:, :3] = list(WORDS.values())
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["text_vector"], axes=[1], keepdims=0),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", length])
    vector = helper.make_tensor_value_info("text_vector", TensorProto.FLOAT, ["n", width])
    return _file(nodes, [ids], [vector], [numpy_helper.from_array(table, "table")])


def _file(nodes: list, inputs: list, outputs: list, constants: list) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def write(
    folder: Path,
    *,
    text: bool = True,
    temperature: float | None = SCALE,
    gain: Sequence[float] = (1, 1, 1),
    text_width: int = 3,
    tokenizer: bytes | None = None,
    replace: bool = False,
) -> Model:
    """The Model folder. Without `text`, the image network alone."""
    outputs = {"embedding": Output(tensors=("image_vector",), form="vector", width=3)}
    files: dict = {"network": image_network(gain)}
    names = {"network": "network.onnx"}
    if text:
        outputs["text_embedding"] = Output(tensors=("text_vector",), form="vector", width=3)
        files |= {"text": text_network(text_width), "tokenizer": tokenizer or tokenizer_json()}
        names |= {"text": "text.onnx", "tokenizer": "tokenizer.json"}
    card = Card(
        name=folder.name,
        task="embed",
        architecture="onnx",
        input=Input(size=(8, 8), fit="squash"),
        outputs=outputs,
        text=Text(length=LENGTH, pad=PAD, temperature=temperature) if text else None,
        files=to_write(**names),
    )
    return write_model(folder, card, files, replace=replace)
