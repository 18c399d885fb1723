"""The Model folder: what is written is what is read; what does not fit its schema or its hashes is refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagier.models.model import CARD, Card, File, Input, Output, Text, hash_of, read_model, to_write, write_model
from imagier.types import ModelError

NETWORK = b"not a network, but bytes are bytes to a folder"


def card(**more) -> Card:
    """A card of an encoder, with whatever else is said."""
    base = Card(
        name="tiny",
        task="embed",
        architecture="onnx",
        input=Input(size=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5)),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        licence="MIT",
        source="drawn",
        files=to_write(network="network.onnx"),
    )
    return msgspec.structs.replace(base, **more)


def written(folder, **more):
    return write_model(folder, card(**more), {"network": NETWORK})


def changed(model, change) -> None:
    """Change a written card by hand."""
    path = model.folder / CARD
    raw = json.loads(path.read_bytes())
    change(raw)
    path.write_text(json.dumps(raw))


def test_what_is_written_is_what_is_read(tmp_path):
    made = written(tmp_path / "tiny")
    again = read_model(tmp_path / "tiny")
    assert again == made
    assert again.keys == made.keys
    assert again.file("network").read_bytes() == NETWORK


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    size=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    fit=st.sampled_from(["crop", "squash", "pad"]),
    resize=st.none() | st.integers(1, 8192),
    colour=st.sampled_from(["rgb", "bgr"]),
    labels=st.lists(st.text(), max_size=4),
    name=st.text(min_size=1),
)
def test_any_card_comes_back_equal(tmp_path_factory, mean, std, size, fit, resize, colour, labels, name):
    folder = tmp_path_factory.mktemp("m") / "model"
    spec = Input(size=size, mean=mean, std=std, fit=fit, resize=resize, colour=colour)
    made = written(folder, input=spec, labels=tuple(labels), name=name)
    assert read_model(folder) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(extra=1), "unknown field `extra`"),
        (lambda raw: raw.pop("task"), "task"),
        (lambda raw: raw.update(task="guess"), "guess"),
        (lambda raw: raw.update(format=2), "2"),
        (lambda raw: raw["input"].update(size=["8", 8]), r"input\.size"),
        (lambda raw: raw["input"].update(mean=[0.5]), r"input\.mean"),
        (lambda raw: raw["input"].update(std=[1, 0, 1]), r"input\.std"),
        (lambda raw: raw["input"].pop("size"), r"input\.fit"),
        (lambda raw: raw["files"]["network"].update(path="../../etc/passwd"), "bare name"),
        (lambda raw: raw["files"]["network"].update(path=CARD), "bare name"),
        (lambda raw: raw["files"]["network"].update(sha256="abc"), "sha256"),
        (lambda raw: raw["files"].clear(), "network or weights"),
        (lambda raw: raw["outputs"].clear(), "embedding"),
        (lambda raw: raw["outputs"]["embedding"].update(form="image"), "embedding"),
        (lambda raw: raw["outputs"]["embedding"].update(tensors=["a", "b"]), "one name"),
        (lambda raw: raw["outputs"]["embedding"].pop("width"), "width"),
        (lambda raw: raw["files"].update(text=raw["files"]["network"]), "tokenizer"),
        (lambda raw: raw.update(task="upscale", outputs={"image": {"tensors": ["v"], "form": "image"}}), "scale"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_with_what_is_wrong(tmp_path, change, message):
    changed(written(tmp_path / "tiny"), change)
    with pytest.raises(ModelError, match=message) as caught:
        read_model(tmp_path / "tiny")
    assert str(tmp_path / "tiny") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_card_that_is_no_json_is_refused(tmp_path, content):
    (written(tmp_path / "tiny").folder / CARD).write_bytes(content)
    with pytest.raises(ModelError, match=CARD):
        read_model(tmp_path / "tiny")


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no Model folder"):
        read_model(tmp_path)


def test_a_file_that_is_not_the_cards_is_refused(tmp_path):
    model = written(tmp_path / "tiny")
    (model.folder / "network.onnx").write_bytes(NETWORK + b".")
    with pytest.raises(ModelError, match="is not the file"):
        read_model(model.folder).file("network")
    (model.folder / "network.onnx").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(model.folder).file("network")


def test_a_role_or_an_output_that_is_not_there_names_those_that_are(tmp_path):
    model = written(tmp_path / "tiny")
    with pytest.raises(ModelError, match=r"no text .*network"):
        model.file("text")
    with pytest.raises(ModelError, match=r"gives embedding; no logits"):
        model.output("logits")


def test_a_folder_that_is_there_is_replaced_only_when_asked_and_only_if_it_is_a_model(tmp_path):
    model = written(tmp_path / "tiny")
    with pytest.raises(ModelError, match="there already"):
        written(tmp_path / "tiny")
    other = write_model(tmp_path / "tiny", card(licence="other"), {"network": b"new"}, replace=True)
    assert read_model(model.folder) == other
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(ModelError, match="there already"):
        write_model(tmp_path / "photos", card(), {"network": NETWORK}, replace=True)
    assert (tmp_path / "photos" / "mine.jpg").exists()


def test_what_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(ModelError, match="missing"):
        write_model(tmp_path / "tiny", card(), {"network": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError, match="cannot be written"):
        write_model("/proc/nope/tiny", card(), {"network": b"x"})


def test_what_is_replaced_is_whole_or_as_it_was(tmp_path, monkeypatch):
    old = written(tmp_path / "tiny")
    with pytest.raises(ModelError, match="--replace"):
        written(tmp_path / "tiny")
    with pytest.raises(ModelError, match="missing"):
        write_model(tmp_path / "tiny", card(), {"network": tmp_path / "missing"}, replace=True)
    assert old.file("network").is_file()
    new = write_model(tmp_path / "tiny", card(), {"network": b"other"}, replace=True)
    assert new.file("network").read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="no Model folder"):
        write_model(tmp_path / "own", card(), {"network": b"x"}, replace=True)
    assert (tmp_path / "own" / "letter.txt").is_file()


def test_a_network_with_its_weights_in_another_file_is_refused(tmp_path):
    """No hash of the card would cover that file."""
    outside = b"\x0a\x08location\x12\x05w.bin"
    with pytest.raises(ModelError, match="another file"):
        write_model(tmp_path / "tiny", card(), {"network": outside})
    assert list(tmp_path.iterdir()) == []
    model = written(tmp_path / "tiny")
    path = model.folder / "network.onnx"
    path.write_bytes(outside)
    told = json.loads((model.folder / "model.json").read_bytes())
    told["files"]["network"]["sha256"] = hash_of(path)
    (model.folder / "model.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="another file"):
        read_model(model.folder).file("network")


def test_keys_change_with_the_network_and_with_how_it_is_used_and_with_nothing_else(tmp_path):
    base = written(tmp_path / "a").keys
    assert written(tmp_path / "b", name="other", licence="MIT-0", source="elsewhere", notes="more").keys == base
    assert written(tmp_path / "c", input=Input(size=(8, 8), mean=(0.1, 0.2, 0.3))).keys != base
    assert write_model(tmp_path / "d", card(), {"network": b"other"}).keys != base


def test_a_model_that_reads_text_has_all_its_parts(tmp_path):
    outputs = {**card().outputs, "text_embedding": Output(tensors=("t",), form="vector", width=5)}
    files = to_write(network="network.onnx", text="text.onnx", tokenizer="tokenizer.json")
    whole = card(outputs=outputs, files=files, text=Text(length=7, pad=0, temperature=100.0))
    made = write_model(tmp_path / "clip", whole, {"network": NETWORK, "text": b"t", "tokenizer": b"{}"})
    assert read_model(tmp_path / "clip") == made
    assert isinstance(made.card.files["text"], File)
