"""What to label next, and which labels are wrong, on collections whose truth is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import drawn
import numpy as np
import pytest
from click.testing import CliRunner
from drawn import BLUE, GREEN, RED

from imagier import images
from imagier.algorithms import active
from imagier.cli import main
from imagier.collection import Collection
from imagier.types import SettingError
from imagier.workflows import suggest as work
from imagier.workflows import train
from imagier.workflows.run import run

COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
EACH = 12


def test_unsure_items_come_first_and_no_two_that_are_alike():
    vectors = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]])
    chosen = active.choose(vectors, np.array([0.9, 0.9, 0.8, 0.1]), 3)
    assert chosen.tolist() == [0, 2, 3]
    assert active.choose(vectors, np.ones(4), 9).tolist().__len__() == 4
    near = active.choose(vectors, np.ones(4), 1, labelled=np.array([[1, 0, 0], [0, 1, 0]]))
    assert near.tolist() == [3]


def test_uncertainty_is_one_less_the_margin():
    shares = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
    np.testing.assert_allclose(active.uncertainty(shares), [1, 0, 0.8])


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    """Rough pictures of three colours, one of them in the wrong folder."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for at in range(EACH):
            ground = cv2.GaussianBlur(rng.normal(0, 300, (48, 48)), (0, 0), 4)
            image = (np.array(colour) * 0.7 + 40 + ground[:, :, None]).clip(0, 255).astype(np.uint8)
            where = "green" if (name, at) == ("red", 3) else name
            drawn.save(folder / "images" / where / f"{name}{at}.png", image)
    return run(folder / "images", into=folder / "out", pipeline=["embed"], report=False, threads=1)


def test_the_label_that_is_wrong_is_found(collection, tmp_path):
    words = [
        "suggest",
        str(collection.folder),
        "--doubtful",
        "--by",
        "label_folder",
        "--json",
        str(tmp_path / "d.json"),
    ]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "d.json").read_text())
    assert found[0]["path"].endswith("green/red3.png")
    assert (found[0]["label_folder"], found[0]["likelier"]) == ("green", "red")
    assert "red3.png: label_folder green, likelier red" in told.stdout


def test_near_copies_do_not_vouch_for_each_other(tmp_path, collection):
    """Five copies of a picture, all labelled wrong alike: by each other's labels they would all be right."""
    shutil.copytree(collection.folder.parent / "images", tmp_path / "images")
    wrong = images.decode((tmp_path / "images" / "green" / "red3.png").read_bytes()).image
    for at in range(4):
        copy = wrong.copy()
        copy[0, at] = 0
        drawn.save(tmp_path / "images" / "green" / f"copy{at}.png", copy)
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=["embed"], report=False, threads=1)
    found = {Path(each.path).stem for each in work.doubtful(made, by="label_folder")}
    assert found == {"red3", "copy0", "copy1", "copy2", "copy3"}


def test_suggestions_leave_out_what_is_labelled(collection, tmp_path):
    images = collection.folder.parent / "images"
    model = train.classifier(labels=train.Labels(data=images), into=tmp_path / "model", progress=False)
    words = ["suggest", str(collection.folder), "--model", str(model.folder), "-n", "7"]
    told = CliRunner().invoke(main, [*words, "--json", str(tmp_path / "s.json")])
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "s.json").read_text())
    assert len({each["id"] for each in found}) == 7
    assert set(found[0]) == {"id", "path", "label", "confidence", "uncertainty"}
    everyone = CliRunner().invoke(main, [*words, "--by", "label_folder"])
    assert everyone.exit_code == 1
    assert "every item has a label" in everyone.stderr


def test_what_suggestions_gain_is_a_curve(collection, tmp_path):
    made = work.gained(collection, by="label_folder", n=2, rounds=4, seeds=2)
    assert made.counts == (6, 8, 10, 12, 14)
    assert made.suggested.shape == made.random.shape == (5, 2)
    assert made.suggested[0].tolist() == made.random[0].tolist()  # the same start
    words = ["suggest", str(collection.folder), "--curve", str(tmp_path / "c.png"), "--by", "label_folder", "-n", "1"]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.output
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_the_share_that_is_needed_is_read_off_the_curve():
    rise = np.array([[0.2], [0.5], [0.8], [0.9]])
    assert work.Gained((10, 20, 30, 40), rise, np.array([[0.2], [0.3], [0.6], [0.8]])).needed() == 30 / 40
    assert work.Gained((10, 20, 30, 40), rise, rise + 0.1).needed() is None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "say what to suggest"),
        (["--doubtful", "--model", "x"], "say what to suggest"),
        (["--doubtful"], "--by must be given"),
        (["--doubtful", "--by", "nowhere"], "unknown column 'nowhere'"),
        (["--doubtful", "--by", "depth"], "tells no two classes apart"),
        (["--model", "nuclei"], "to segment, not to classify"),
    ],
)
def test_what_cannot_be_suggested_is_told(collection, words, why):
    told = CliRunner().invoke(main, ["suggest", str(collection.folder), *words])
    assert told.exit_code == 1
    assert why in told.stderr


def test_a_model_of_another_embedding_is_refused(collection, tmp_path):
    from classifiers import head

    with pytest.raises(SettingError, match="has no embedding by somebody"):
        work.suggest(collection, model=head(tmp_path / "head").folder)
