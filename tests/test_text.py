"""Text to tokens and vectors, held to a tiny CLIP whose vectors are known, and to CLIP's own tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_clip
from hypothesis import given
from hypothesis import strategies as st
from tiny_clip import END, LENGTH, PAD, START, UNK

from imagier.algorithms.novelty import unit
from imagier.models.model import CARD, read_model
from imagier.models.text import embed_texts, has_text, tokens
from imagier.types import ModelError

IDS = tiny_clip.vocabulary(tuple(tiny_clip.WORDS))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


def test_text_becomes_tokens_between_start_and_end_filled_up(clip):
    ids = tokens(clip, ["a Red car", ""])
    assert ids.dtype == np.int64
    assert ids.tolist() == [
        [START, IDS["a"], IDS["red"], IDS["car"], END, PAD, PAD, PAD],
        [START, END, *[PAD] * 6],
    ]


def test_longer_text_is_cut_and_its_end_token_stays(clip):
    (ids,) = tokens(clip, ["red " * 50]).tolist()
    assert ids == [START, *[IDS["red"]] * (LENGTH - 2), END]


def test_an_unknown_word_is_no_error(clip):
    assert tokens(clip, ["zebra"])[0, :3].tolist() == [START, UNK, END]


def test_no_text_gives_no_rows(clip):
    assert tokens(clip, []).shape == (0, LENGTH)
    assert embed_texts(clip, []).shape == (0, 3)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_gives_a_row_of_the_right_length_that_begins_and_ends(clip, texts):
    ids = tokens(clip, texts)
    assert ids.shape == (len(texts), LENGTH)
    assert (ids[:, 0] == START).all()
    assert ((ids == END).sum(axis=1) == 1).all()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_vectors_are_what_the_network_gives_at_length_one(clip, engine):
    vectors = embed_texts(clip, ["red", "a photo of a yellow car.", "red green blue", "nothing"], engine=engine)
    truth = unit(np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.float32))
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, truth, atol=1e-6)
    assert np.linalg.norm(vectors[:3], axis=1) == pytest.approx(1, abs=1e-6)


def test_more_texts_than_go_at_once_keep_their_order(clip, monkeypatch):
    texts = [["red", "green", "blue"][at % 3] for at in range(20)]
    whole = embed_texts(clip, texts)
    monkeypatch.setattr("imagier.models.text.BATCH", 7)
    assert np.array_equal(embed_texts(clip, texts), whole)
    assert whole.argmax(axis=1).tolist() == [at % 3 for at in range(20)]


def test_a_model_of_images_alone_says_that_a_clip_model_is_needed(tmp_path):
    model = tiny_clip.write(tmp_path / "sees", text=False)
    assert not has_text(model)
    for call in (tokens, embed_texts):
        with pytest.raises(ModelError, match=r"sees has no text network.*CLIP"):
            call(model, ["red"])


def test_a_tokenizer_that_is_none_is_told(tmp_path):
    model = tiny_clip.write(tmp_path / "m", tokenizer=b'{"no": "tokenizer"}')
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        tokens(model, ["red"])


def test_a_tokenizer_that_was_changed_is_refused(tmp_path):
    model = tiny_clip.write(tmp_path / "m")
    (model.folder / "tokenizer.json").write_bytes(tiny_clip.tokenizer_json(["other"]))
    with pytest.raises(ModelError, match="is not the file that"):
        tokens(model, ["red"])


def test_text_vectors_of_another_width_than_the_images_are_refused(tmp_path):
    model = tiny_clip.write(tmp_path / "m", text_width=5)
    with pytest.raises(ModelError, match="vectors of 3 values"):
        embed_texts(model, ["red"])


def test_the_cards_length_counts(tmp_path):
    model = tiny_clip.write(tmp_path / "m")
    card = json.loads((model.folder / CARD).read_bytes())
    card["text"] |= {"length": 4, "pad": 9}
    (model.folder / CARD).write_text(json.dumps(card))
    assert tokens(read_model(model.folder), ["red", "a red car"]).tolist() == [
        [START, IDS["red"], END, 9],
        [START, IDS["a"], IDS["red"], END],
    ]


def clip_tokenizer(simple) -> bytes:
    """CLIP's own words and merges as a tokenizer.json, in the way that its published one is made."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(
        models.BPE(
            vocab=dict(simple.encoder),
            merges=sorted(simple.bpe_ranks, key=simple.bpe_ranks.get),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token="<end_of_text>",
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>",
        special_tokens=[(name, simple.encoder[name]) for name in ("<start_of_text>", "<end_of_text>")],
    )
    return bytes(made.to_str(), "utf-8")


def test_tokens_are_those_of_clips_own_tokenizer(tmp_path):
    tokenizer = pytest.importorskip("open_clip.tokenizer")
    simple = tokenizer.SimpleTokenizer(context_length=77)
    model = tiny_clip.write(tmp_path / "m", tokenizer=clip_tokenizer(simple))
    card = json.loads((model.folder / CARD).read_bytes())
    card["text"] |= {"length": 77, "pad": 0}
    (model.folder / CARD).write_text(json.dumps(card))
    texts = [
        "a photo of a cat.",
        "",
        "It's  THE\tblue car's 3rd wheel, isn't it?",
        "Zürich – naïve façade, 東京 🚗",
        "word " * 200,
        "unbelievablyextraordinarycircumstances " * 30,
    ]
    assert np.array_equal(tokens(read_model(model.folder), texts), simple(texts).numpy())
