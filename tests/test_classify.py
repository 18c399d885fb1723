"""classify: zero-shot labels from a tiny CLIP whose vectors are known, so that every share of the softmax is."""

from __future__ import annotations

import drawn
import numpy as np
import pytest
import tiny_clip
from drawn import BLUE, GREEN, GREY, RED, plain

from imagier.pipeline import Pipeline
from imagier.stages.classify import make
from imagier.types import ModelError, SettingError
from imagier.workflows.run import run
from imagier.workflows.summary import last_run

LABELS = ["red", "green", "blue"]
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture
def colours(tmp_path):
    """Two plain pictures of each colour."""
    for name, colour in COLOURS.items():
        for at in range(2):
            drawn.save(tmp_path / "colours" / name / f"{at}.png", plain(colour, 16 + 8 * at))
    return tmp_path / "colours"


def settings(clip, **more):
    return {"labels": LABELS, "model": str(clip.folder), "engine": "openvino"} | more


def labelled(clip, vectors, **more):
    return make(**settings(clip, **more)).load()({"embedding": np.asarray(vectors, np.float32)})


def shares(vectors, texts, scale):
    """The softmax over cosines, written down once more."""
    unit = [np.asarray(v, float) / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, texts)]
    powers = np.exp(scale * unit[0] @ unit[1].T)
    return powers / powers.sum(axis=1, keepdims=True)


VECTORS = [[0.9, 0.2, 0.1], [0.1, 3.0, 0.2], [0.3, 0.2, 0.4], [0.5, 0.5, 0.5]]


def test_label_and_confidence_are_those_of_the_softmax(clip):
    out = labelled(clip, VECTORS)
    truth = shares(VECTORS, np.eye(3), tiny_clip.SCALE)
    assert out["label"] == [LABELS[at] for at in truth.argmax(axis=1)]
    assert out["confidence"].dtype == np.float32
    assert np.allclose(out["confidence"], truth.max(axis=1), atol=1e-6)
    for ranked, given, row in zip(out["ranked"], out["ranked_confidence"], truth, strict=True):
        assert ranked == [LABELS[at] for at in np.argsort(-row, kind="stable")]
        assert np.allclose(given, np.sort(row)[::-1], atol=1e-6)


def test_the_length_of_a_vector_does_not_count(clip):
    once, tenfold = labelled(clip, VECTORS), labelled(clip, 10 * np.array(VECTORS))
    assert once["label"] == tenfold["label"]
    assert np.allclose(once["confidence"], tenfold["confidence"], atol=1e-6)


def test_columns_as_a_list_of_vectors_serve_too(clip):
    """As a step that cuts regions hands them on; and at half precision."""
    rows = [np.array(each, np.float16) for each in VECTORS]
    out = make(**settings(clip)).load()({"embedding": rows})
    assert out["label"] == labelled(clip, VECTORS)["label"]


def test_a_label_is_the_mean_of_its_prompts_at_length_one(clip):
    prompts = ["{}", "{} yellow yellow"]
    words = np.array([[[1, 0, 0], [3, 2, 0]], [[0, 1, 0], [2, 3, 0]], [[0, 0, 1], [2, 2, 1]]], float)
    words /= np.linalg.norm(words, axis=2, keepdims=True)
    out = labelled(clip, VECTORS, prompts=prompts)
    truth = shares(VECTORS, words.mean(axis=1), tiny_clip.SCALE)
    assert out["label"] == [LABELS[at] for at in truth.argmax(axis=1)]
    assert np.allclose(out["confidence"], truth.max(axis=1), atol=1e-5)


def test_the_temperature_sharpens_and_never_changes_the_label(clip):
    flat, sharp = labelled(clip, VECTORS, temperature=1.0), labelled(clip, VECTORS, temperature=100.0)
    assert flat["label"] == sharp["label"]
    assert (flat["confidence"] <= sharp["confidence"]).all()
    assert np.allclose(flat["confidence"], shares(VECTORS, np.eye(3), 1.0).max(axis=1), atol=1e-6)


def test_a_great_temperature_is_no_overflow(clip):
    out = labelled(clip, VECTORS, temperature=1e6)
    assert np.isfinite(out["confidence"]).all()
    assert out["confidence"][0] == 1


def test_a_run_labels_every_item_and_decodes_nothing_again_for_other_labels(clip, colours, tmp_path):
    steps = [{"embed": {"encoder": str(clip.folder)}}, {"classify": settings(clip)}]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    rows = made.read(["label", "label_folder", "confidence", "embedding"])
    assert rows["label"].to_pylist() == rows["label_folder"].to_pylist()
    truth = shares(rows["embedding"].to_pylist(), np.eye(3), tiny_clip.SCALE).max(axis=1)
    assert np.allclose(rows["confidence"].to_pylist(), truth, atol=1e-5)
    receipt = made.receipt("classify")
    assert receipt is not None
    assert {clip.card.files[role].sha256 for role in ("network", "text", "tokenizer")} <= set(receipt.weights)

    made = run(into=tmp_path / "out", settings={"classify.labels": ["red", "yellow"]}, report=False, threads=1)
    assert set(made.read(["label"])["label"].to_pylist()) == {"red", "yellow"}
    assert last_run(made).steps["embed"] == 0


def test_it_reads_an_embedding_under_another_name(clip, colours, tmp_path):
    steps = [
        {"embed": {"encoder": str(clip.folder)}, "as": "clip"},
        {"classify": settings(clip, embedding="clip_embedding"), "as": "colour"},
    ]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    rows = made.read(["colour_label", "label_folder"])
    assert rows["colour_label"].to_pylist() == rows["label_folder"].to_pylist()


@pytest.mark.usefixtures("plugs")
def test_regions_are_labelled_and_the_image_that_they_were_cut_from_is_not(clip, tmp_path):
    drawn.save(tmp_path / "images" / "two.png", np.hstack([plain(RED, 40), plain(BLUE, 40)]))
    steps = ["halves", {"embed": {"encoder": str(clip.folder)}}, {"classify": settings(clip)}]
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    rows = made.read(["parent", "box", "label"]).to_pylist()
    found = {None if row["parent"] is None else row["box"][0]: row["label"] for row in rows}
    assert found == {None: None, 0.0: "red", 40.0: "blue"}


def test_an_embedding_of_another_model_is_refused_before_any_work(clip, tmp_path):
    other = tiny_clip.write(tmp_path / "other", gain=(1, 1, 0.5))
    for steps in (
        ["embed", {"classify": settings(clip)}],
        [{"embed": {"encoder": str(other.folder)}}, {"classify": settings(clip)}],
    ):
        with pytest.raises(SettingError, match="name the same model in both"):
            Pipeline.of(steps).bind()


def test_without_an_embedding_before_it_it_is_refused(clip):
    with pytest.raises(SettingError, match="reads a column that no step before it makes"):
        Pipeline.of([{"classify": settings(clip)}]).bind()


def test_it_asks_for_no_pixels(clip):
    step = make(**settings(clip))
    assert step.reads == ("embedding",)
    assert step.pixels == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"labels": None}, r"classify\.labels must be given"),
        ({"labels": ["red"]}, "two labels or more"),
        ({"labels": ["red", " "]}, "none of them empty"),
        ({"labels": ["red", "blue", "red "]}, "names 'red' twice"),
        ({"model": ""}, r"classify\.model must be given"),
        ({"prompts": []}, "sentences with {}"),
        ({"prompts": ["a photo"]}, "sentences with {}"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": -3.0}, "above 0"),
    ],
)
def test_settings_that_do_not_fit_are_one_message(clip, given, told):
    with pytest.raises(SettingError, match=told):
        make(**settings(clip, **given))


def test_a_model_of_images_alone_is_told(tmp_path):
    sees = tiny_clip.write(tmp_path / "sees", text=False)
    with pytest.raises(ModelError, match=r"knows images alone.*CLIP"):
        make(labels=LABELS, model=str(sees.folder))


def test_a_card_without_a_temperature_needs_the_setting(tmp_path):
    silent = tiny_clip.write(tmp_path / "silent", temperature=None)
    with pytest.raises(SettingError, match=r"classify\.temperature must be given"):
        make(labels=LABELS, model=str(silent.folder))
    assert labelled(silent, [[1, 0, 0]], temperature=5.0)["label"] == ["red"]


def test_braces_in_a_label_or_a_prompt_are_only_letters(clip):
    out = labelled(clip, [[1, 0, 0]], labels=["red", "{0} blue"], prompts=["{} {x}"])
    assert out["label"] == ["red"]


def test_an_unsure_grey_says_so(clip):
    assert labelled(clip, [np.array(GREY) / 255])["confidence"][0] == pytest.approx(1 / 3, abs=1e-6)
