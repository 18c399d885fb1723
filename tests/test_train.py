"""A segmenter is trained by one command, taken up again, judged, and run over images; bad input is told first."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from trainings import broken_off, finished, scores_of

from imagier import images
from imagier._names import distinct_paths
from imagier.cli import main
from imagier.models.model import read_model
from imagier.models.segmenting import Cleaning
from imagier.outputs.masks import overlay
from imagier.training import config
from imagier.training.segmenter import soft_dice
from imagier.training.truth import Truth
from imagier.types import ModelError, SettingError
from imagier.workflows import train as work
from imagier.workflows.segment import segment

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 64


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    """48 drawn images of one to three discs on rough ground, with masks and label images."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for at in range(48):
        labels = np.zeros((SIDE, SIDE), np.uint16)
        for number in range(1, int(rng.integers(1, 4)) + 1):
            x, y, radius = (int(each) for each in rng.integers([10, 10, 5], [54, 54, 10]))
            cv2.circle(labels, (x, y), radius, number, -1)
        ground = cv2.GaussianBlur(rng.normal(90, 60, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 2)
        ground[labels > 0] += np.array([90, 20, -20], np.float32)
        image = ground + rng.normal(0, 8, (SIDE, SIDE, 3))
        for kind, pixels in (
            ("images", image.clip(0, 255).astype(np.uint8)),
            ("masks", (labels > 0).astype(np.uint8) * 255),
            ("labels", labels),
        ):
            path = folder / kind / f"{at:03d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(images.encode(pixels, "png"))
    (folder / "wrong.csv").write_bytes(b"file,owner\n\xff\xfe,1\n")
    (folder / "ragged.csv").write_text("file,owner\n000.png,a,more,and more\n001.png\n")
    (folder / "groups.csv").write_text("file,owner\n" + "".join(f"{at:03d}.png,o{at // 3}\n" for at in range(48)))
    return folder


SMALL = {"size": [SIDE, SIDE], "epochs": 16, "batch": 4, "split": "60:20:20", "patience": 16, "precision": "float32"}


def command(discs: Path, into: Path, *more: str, **settings: object) -> list[str]:
    told = [word for name, value in (SMALL | settings).items() for word in ("--set", f"{name}={json.dumps(value)}")]
    words = ["train", "segmenter", "--images", str(discs / "images"), "--into", str(into), *told, *more]
    return [sys.executable, "-m", "imagier.cli", *words]


@pytest.fixture(scope="module")
def trained(discs, tmp_path_factory) -> Path:
    """A model that was trained on the discs; once for all workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "trained"
    into = folder / "model"
    with FileLock(f"{folder}.lock"):
        if not into.exists():
            more = ["--masks", str(discs / "masks"), "--groups", f"{discs / 'groups.csv'}:owner"]
            told = finished(command(discs, into, *more))
            assert f"written: {into}" in told.stdout
    return into


def test_a_small_object_counts_as_much_as_a_large_one():
    wanted = torch.zeros(3, 1, 64, 64)
    wanted[0, 0, :60, :60], wanted[1, 0, 10:18, 10:18] = 1, 1  # and the third image is empty
    assert soft_dice(wanted, wanted) == 0
    wrong = [wanted.clone() for _ in range(3)]
    wrong[0][0], wrong[1][1], wrong[2][2, 0, :8, :8] = 0, 0, 1  # the large one missed, the small one; one made up
    for made in wrong:
        assert soft_dice(made, wanted) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.slow
def test_a_trained_model_finds_what_it_was_shown(trained, discs, tmp_path):
    path, page = tmp_path / "r.json", tmp_path / "page.html"
    words = ["evaluate", str(trained), "--images", str(discs / "images"), "--masks", str(discs / "masks")]
    more = ["--part", "test", "--json", str(path), "--page", str(page), "--quiet"]
    finished([sys.executable, "-m", "imagier.cli", *words, *more])
    told = json.loads(path.read_text())
    assert told["dice"]["mean"] > 0.8, told["dice"]
    assert told["dice"]["ci95"][0] <= told["dice"]["mean"] <= told["dice"]["ci95"][1]
    assert told["dice"]["n"] == told["images"] > 5
    assert set(told["iou"]) == {"mean", "median", "ci95", "n"}
    html = page.read_text()
    assert html.count("<img") == 4 * min(10, told["images"])
    assert "<script" not in html
    learnt = json.loads((trained / "split.json").read_text())["parts"]
    assert set(learnt) == {"train", "val", "test"}
    owners = {images.content_hash(p.read_bytes()): int(p.stem) // 3 for p in (discs / "images").iterdir()}
    sides = [{owners[key] for key in keys} for keys in learnt.values()]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


@pytest.mark.slow
def test_what_a_training_leaves_behind(trained):
    logs = trained.with_name("model.training")
    rows = (logs / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,train_loss,val_loss,dice")
    assert len(rows) == 1 + SMALL["epochs"]
    assert images.header((logs / "curves.png").read_bytes()).width > 500
    assert list((logs / "tensorboard").glob("events*"))
    model = read_model(trained)
    assert model.card.task == "segment"
    assert model.card.labels == ("object",)
    assert set(model.card.files) == {"network", "weights", "split", "training"}
    told = config.read(str(model.file("training")), config.Segmenter, {})
    assert told.epochs == SMALL["epochs"]


@pytest.mark.slow
def test_masks_overlays_and_objects_are_written(trained, discs, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    made = segment(
        [discs / "images", bad], model=trained, into=tmp_path / "out", how=Cleaning(split=True), progress=False
    )
    assert len(made.rows) == 48
    assert len(made.failed) == 1
    assert "bad.png" in made.failed[0]
    told = json.loads((tmp_path / "out" / "segments.json").read_text())
    first = told["images"][0]
    entry = first["classes"]["object"]
    mask = images.decode((tmp_path / "out" / entry["mask"]).read_bytes()).image
    labels = images.decode((tmp_path / "out" / entry["labels"]).read_bytes()).image
    assert set(np.unique(mask)) <= {0, 255}
    np.testing.assert_array_equal(labels > 0, mask > 0)
    assert entry["coverage"] == pytest.approx((mask > 0).mean())
    assert len(entry["objects"]) == labels.max()
    for number, each in enumerate(entry["objects"], 1):
        y, x = np.nonzero(labels == number)
        assert each["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert each["area"] == len(x)
    shown = images.decode((tmp_path / "out" / first["overlay"]).read_bytes()).image
    assert shown.shape == (SIDE, SIDE, 3)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(discs, tmp_path):
    more = ["--label-images", str(discs / "labels")]
    how = {"cores": True, "epochs": 5, "augment": "strong"}
    broken_off(command(discs, tmp_path / "broken", *more, **how), tmp_path / "broken.training")
    assert not (tmp_path / "broken").exists()
    for name in ("broken", "whole"):
        finished(command(discs, tmp_path / name, *more, **how))
    scores = [scores_of(tmp_path / f"{name}.training") for name in ("broken", "whole")]
    assert len(scores[0]) == 5
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)
    assert read_model(tmp_path / "broken").card.labels == ("object", "core")
    whole = read_model(tmp_path / "whole").card.files["weights"]
    shutil.rmtree(tmp_path / "whole")  # as if it had been killed after its last epoch: nothing is left but to write it
    finished(command(discs, tmp_path / "whole", *more, **how))
    assert read_model(tmp_path / "whole").card.files["weights"] == whole
    other = finished(command(discs, tmp_path / "broken", *more, "--replace", **how | {"rate": 0.1}), code=1)
    assert "was begun with another config.yaml" in other.stderr


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--set", "epochz=3", "--masks", "{}/masks"], "unknown setting 'epochz'. Did you mean epochs?"),
        (["--set", "rate=fast", "--masks", "{}/masks"], "at rate"),
        (["--config", "lesion", "--masks", "{}/masks"], "lesions"),
        (["--masks", "{}/masks", "--coco", "x.json"], "give one of"),
        ([], "give one of"),
        (["--masks", "{}/empty"], "no folder"),
        (["--masks", "{}/masks", "--groups", "{}/groups.csv:patient"], "unknown column 'patient'"),
        (["--masks", "{}/masks", "--groups", "nowhere.csv:owner"], "cannot be read"),
        (["--masks", "{}/masks", "--set", "cores=true"], "do not tell objects apart"),
        (["--masks", "{}/masks", "--set", "network=resnet18"], "unknown architecture"),
        (["--masks", "{}/masks", "--set", "network=timm:resnet18"], "imagier:unet-small or smp:"),
        (["--masks", "{}/masks", "--set", "split=1:1"], "train:val:test"),
        (["--masks", "{}/masks", "--set", "part=64"], "--set: part goes with size=null"),
        (["--masks", "{}/masks", "--set", "size=null", "--set", "part=70"], "multiples of 32"),
        (["--masks", "{}/masks", "--set", "seed=x"], "--set: Expected `int`"),
        (["--masks", "{}/masks", "--split", "x.json", "--groups", "{}/groups.csv:owner"], "leave out --groups"),
        (["--masks", "{}/masks", "--groups", "{}/wrong.csv:owner"], "cannot be read as a table"),
        (["--masks", "{}/masks", "--groups", "{}/ragged.csv:owner"], "no row for"),
    ],
)
def test_what_does_not_fit_is_told_before_training(discs, tmp_path, more, why):
    words = [each.format(discs) for each in more]
    told = CliRunner().invoke(main, command(discs, tmp_path / "model", *words)[3:])
    assert told.exit_code == 1, told.exception
    assert why in told.stderr
    assert "Traceback" not in told.output
    assert not (tmp_path / "model").exists()


def test_a_folder_is_found_from_anywhere(discs, tmp_path, monkeypatch):
    """A path with .. in it, as the commands of the guides have it."""
    (discs / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(discs / "elsewhere")
    root, found = work.pictures(Path("../images"))
    assert root == discs / "images"
    assert work.Masks(label_images=Path("../labels")).truth(found, root).draw.keys() == set(found)
    with pytest.raises(SettingError, match="no folder that holds images"):
        work.pictures(Path("../groups.csv"))


def test_images_of_one_name_keep_masks_of_their_own():
    names = distinct_paths(["a.jpg", "a.png", "a.tif", "sub/a.jpg", "A.bmp"])
    assert names[0] == "a"
    assert names[3] == os.path.join("sub", "a")
    assert len({name.casefold() for name in names}) == 5


@pytest.mark.parametrize("loss", ["dice-bce", "dice-focal", "dice-l1"])
def test_the_loss_falls_as_classes_come_out_right(loss):
    torch = pytest.importorskip("torch", reason="it is not installed")
    segmenter = pytest.importorskip("imagier.training.segmenter")
    for exclusive in (False, True):
        told = config.Segmenter(loss=loss, exclusive=exclusive, cores=True, size=(64, 64))
        classes = ("a", "b")
        network, spec = segmenter.begun(told, classes)
        truth = Truth(classes, {}, True)
        learning = segmenter.Learning(segmenter.SegmenterPlan(told, network, spec, (), None, Path(), Path(), truth), 1)
        wanted = torch.zeros((2, 3, 8, 8), dtype=torch.uint8)
        wanted[:, 0, :4], wanted[:, 1, 4:, :4], wanted[:, 2, 1:3] = 1, 1, 1
        right = wanted.float()
        if exclusive:
            right = torch.cat([1 - right[:, :2].sum(1, keepdim=True), right], 1)
        losses = [float(learning.loss_of(8 * sure * (2 * right - 1), wanted)) for sure in (-1, 0, 0.2, 1)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 0.05
        assert learning.judged(2 * right - 1, wanted).tolist() == [1, 1]
        assert max(learning.judged(1 - 2 * right, wanted)) < 0.4


def test_a_missing_mask_and_an_empty_class_are_told(discs, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for at in range(47):
        (masks / f"{at:03d}.png").write_bytes(images.encode(np.zeros((SIDE, SIDE), np.uint8), "png"))
    how = {"images": discs / "images", "masks": work.Masks(masks={"spot": masks}), "progress": False}
    with pytest.raises(SettingError, match=r"1 of 48 images have no mask, such as .*047\.png"):
        work.segmenter(into=tmp_path / "model", settings=SMALL, **how)
    with pytest.raises(SettingError, match="the class 'spot' is empty"):
        work.segmenter(into=tmp_path / "model", settings=SMALL, unmasked=True, **how)
    (masks / "003.png").write_bytes(images.encode(np.zeros((9, 9), np.uint8), "png"))
    (masks / "004.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SettingError, match=r"2 of 48 images cannot be learnt from:\n.*003\.png has 9 x 9"):
        work.segmenter(into=tmp_path / "model", settings=SMALL, unmasked=True, **how)


def test_a_folder_that_is_there_is_not_overwritten(discs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    how = {"images": discs / "images", "masks": work.Masks(masks={"x": discs / "masks"}), "progress": False}
    for over in (False, True):
        with pytest.raises(ModelError, match="no Model folder"):
            work.segmenter(into=tmp_path / "mine", settings=SMALL, over=over, **how)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize("kind", [config.Segmenter, config.Denoiser, config.Upscaler])
def test_configs_that_come_with_imagier_are_read(kind):
    assert config.names(kind)
    for name in config.names(kind):
        assert config.read(name, kind, {"epochs": 2}).epochs == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("split=65:15:20", "65:15:20"),
        ("rate=1e-3", 1e-3),
        ("size=null", None),
        ("size=[96, 128]", [96, 128]),
        ("x=3", 3),
    ],
)
def test_settings_are_read_as_a_person_means_them(text, value):
    assert config.parse_setting(text)[1] == value


def test_an_overlay_tints_objects_alone():
    image = np.full((20, 20), 100, np.uint8)
    numbers = np.zeros((20, 20, 1), np.int32)
    numbers[5:15, 5:15] = 1
    made = overlay(image, numbers)
    assert (made[numbers[:, :, 0] == 0] == 100).all()
    assert (made[numbers[:, :, 0] == 1] != 100).any(1).all()
    assert (image == 100).all()
