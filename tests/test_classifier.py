"""A classifier is trained in three ways, judged, run over images and in a pipeline; bad input is told first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import restorers
from click.testing import CliRunner
from filelock import FileLock
from trainings import broken_off, finished, scores_of

from imagier import images
from imagier.cli import main
from imagier.models.classifying import looker
from imagier.models.model import read_model
from imagier.training import config
from imagier.types import CollectionError, ModelError, SettingError
from imagier.workflows import train as work
from imagier.workflows.classify import classify
from imagier.workflows.judge import classifier as judge
from imagier.workflows.run import run
from imagier.workflows.train import Labels

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {"disc": 0, "square": 1, "cross/star": 2}
PER_KIND = 24
SMALL = ["--split", "40:35:25"]


def drawn(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A shape on rough ground, (64, 64, 3) uint8."""
    image = cv2.GaussianBlur(rng.normal(90, 60, (64, 64, 3)).astype(np.float32), (0, 0), 2)
    x, y, r = (int(each) for each in rng.integers([24, 24, 11], [40, 40, 18]))
    colour = (200, 180, 150)
    if kind == "disc":
        cv2.circle(image, (x, y), r, colour, -1)
    elif kind == "square":
        cv2.rectangle(image, (x - r, y - r), (x + r, y + r), colour, -1)
    else:
        cv2.line(image, (x - r, y - r), (x + r, y + r), colour, 4)
        cv2.line(image, (x - r, y + r), (x + r, y - r), colour, 4)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """A folder a class, and a table of groups of three images of one class."""
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    rows = ["file,owner,kind,lump"]
    for kind in KINDS:
        for at in range(PER_KIND):
            path = folder / "data" / kind.replace("/", "%2F") / f"{at:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.encode(drawn(kind, rng), "png"))
            lump = kind if kind == "disc" else f"{kind}{at}"
            rows.append(f"{path.relative_to(folder / 'data').as_posix()},{kind}{at // 3},{kind},{lump}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    (folder / "about.yaml").write_text(
        "notice: Not a diagnosis.\nlabels:\n  disc: {title: A disc, recommendation: Roll it.}\n"
    )
    return folder


def command(shapes: Path, into: Path, *more: str) -> list[str]:
    words = ["train", "classifier", "--data", str(shapes / "data"), "--into", str(into), *SMALL, *more]
    return [sys.executable, "-m", "imagier.cli", *words]


@pytest.fixture(scope="module")
def head(shapes, tmp_path_factory) -> Path:
    """A head that was trained on the shapes; once for all workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "classifier"
    into = folder / "head"
    with FileLock(f"{folder}.lock"):
        if not into.exists():
            more = ["--groups", f"{shapes / 'table.csv'}:owner", "--about", str(shapes / "about.yaml"), "--quiet"]
            finished(command(shapes, into, *more))
    return into


def test_a_head_says_what_it_sees_and_how_well_it_does(head, shapes, tmp_path):
    path, page = tmp_path / "r.json", tmp_path / "page.html"
    words = ["evaluate", str(head), "--data", str(shapes / "data"), "--part", "test", "--json", str(path)]
    told = CliRunner().invoke(main, [*words, "--page", str(page), "--quiet"])
    assert told.exit_code == 0, told.output
    made = json.loads(path.read_text())
    assert made["accuracy"]["mean"] > 0.8
    assert made["accuracy"]["ci95"][0] <= made["accuracy"]["mean"] <= made["accuracy"]["ci95"][1]
    assert made["accuracy"]["n"] == made["images"] == 18
    counts = np.array(made["confusion"]["counts"])
    assert counts.sum() == 18
    assert np.trace(counts) / 18 == pytest.approx(made["accuracy"]["mean"])
    assert set(made["classes"]) == set(KINDS)
    recalls = [of["recall"]["mean"] for of in made["classes"].values()]
    assert np.mean(recalls) == pytest.approx(made["balanced_accuracy"]["mean"])
    assert {"ece", "ece_before", "coverage", "set_size", "auroc", "f1", "precision", "refused"} <= set(made)
    html = page.read_text()
    assert "Surely wrong" in html
    assert "<script" not in html


def test_groups_stay_on_one_side_and_the_split_is_kept(head, shapes):
    parts = json.loads((head / "split.json").read_text())["parts"]
    owner = {}
    for path in (shapes / "data").rglob("*.png"):
        owner[images.content_hash(path.read_bytes())] = (path.parent.name, int(path.stem) // 3)
    sides = [{owner[key] for key in keys} for keys in parts.values()]
    assert all(sides)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert sum(map(len, parts.values())) == 72


def test_the_same_command_makes_the_same_head(head, shapes, tmp_path):
    more = ["--groups", f"{shapes / 'table.csv'}:owner", "--about", str(shapes / "about.yaml"), "--quiet"]
    finished(command(shapes, tmp_path / "again", *more))
    one, other = read_model(head).card, read_model(tmp_path / "again").card
    assert one.files["head"] == other.files["head"]
    assert one.files["confidence"] == other.files["confidence"]
    assert one.calibration == other.calibration


def test_a_head_is_trained_and_run_without_torch(shapes, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for words in (
        command(shapes, tmp_path / "model", "--quiet")[3:],
        ["classify", str(shapes / "data"), "--model", str(tmp_path / "model"), "--quiet"],
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "imagier.cli", *words], env=env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr


def test_what_an_image_is_in_the_terminal_and_as_json(head, shapes, tmp_path):
    bad, path = tmp_path / "bad.png", tmp_path / "r.json"
    bad.write_bytes(b"no image")
    strange = tmp_path / "strange.png"
    strange.write_bytes(images.encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "png"))
    words = ["classify", str(shapes / "data" / "disc"), str(bad), str(strange), "--model", str(head)]
    told = CliRunner().invoke(main, [*words, "--json", str(path), "--quiet"])
    assert told.exit_code == 3
    assert "bad.png" in told.stderr
    assert "A disc" in told.stdout
    assert "Roll it. Not a diagnosis." in told.stdout
    made = json.loads(path.read_text())
    assert made["notice"] == "Not a diagnosis."
    assert len(made["images"]) == PER_KIND + 1
    for row in made["images"]:
        assert row["confidence"] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["label"] in row["set"]
        assert row["known"] == (row["typical"] > 0.05)
        assert row["recommendation"].endswith("Not a diagnosis.")
    (odd,) = [row for row in made["images"] if row["file"].endswith("strange.png")]
    assert not odd["known"]
    discs = [row for row in made["images"] if row is not odd]
    assert np.mean([row["label"] == "disc" for row in discs]) > 0.8


def test_sets_grow_with_the_level_and_refusals_with_the_rate(head, shapes):
    how = {"model": head, "progress": False}
    low, high = (classify([shapes / "data"], level=level, **how).rows for level in (0.6, 0.99))
    assert sum(len(row["set"]) for row in low) <= sum(len(row["set"]) for row in high)
    few, many = (classify([shapes / "data"], refused=rate, **how).rows for rate in (0.06, 0.4))
    assert sum(not row["known"] for row in few) < sum(not row["known"] for row in many)
    with pytest.raises(SettingError, match="level cannot be 90"):
        classify([shapes / "data"], level=90, **how)
    with pytest.raises(SettingError, match=r"refused cannot be 0\.001: the model has 54 known images"):
        classify([shapes / "data"], refused=0.001, **how)


def test_a_pipeline_tells_the_same_and_reads_no_pixel_for_it(head, shapes, tmp_path):
    steps = [{"embed": {"precision": "float32"}}, {"classify": {"model": str(head)}}]
    made = run(shapes / "data", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    told = ["label", "confidence", "ranked", "ranked_confidence", "label_set", "known", "typical", "recommendation"]
    table = made.read(["paths", *told])
    alone = {row["file"]: row for row in classify([shapes / "data"], model=head, progress=False).rows}
    for row in table.to_pylist():
        other = alone[row["paths"][0]]
        assert row["confidence"] == pytest.approx(other["confidence"], abs=0.03)  # bfloat16 there, where there is any
        assert row["label"] in row["label_set"]
        assert set(row["ranked"]) == set(other["probabilities"])
        assert (row["ranked"][0], row["ranked_confidence"][0]) == (row["label"], row["confidence"])
        assert row["ranked_confidence"] == sorted(row["ranked_confidence"], reverse=True)
        for label, share in zip(row["ranked"], row["ranked_confidence"], strict=True):
            assert share == pytest.approx(other["probabilities"][label], abs=0.03)
        assert (row["label"] == "disc") == row["recommendation"].startswith("Roll it.")
    assert np.mean([alone[row["paths"][0]]["label"] == row["label"] for row in table.to_pylist()]) > 0.97


def test_items_that_were_cut_out_and_measured_are_learnt_from(tmp_path):
    """Bright bars, lying or standing, two an image: a head on their embedding and what was measured of them."""
    rng = np.random.default_rng(0)
    for at in range(16):
        image = rng.integers(0, 90, (96, 128, 3)).astype(np.uint8)
        for x in (10, 74):
            wide, high = (40, 14) if at % 2 else (14, 40)
            light = rng.integers(190, 250, (3, 3, 1)).astype(np.uint8)
            image[20 : 20 + high + at, x : x + wide] = images.resize(light[..., 0], size=(wide, high + at))[..., None]
        drawn_at = tmp_path / "images" / ("lying" if at % 2 else "standing") / f"{at}.png"
        drawn_at.parent.mkdir(parents=True, exist_ok=True)
        drawn_at.write_bytes(images.encode(image, "png"))
    restorers.segmenter(tmp_path / "bright")
    steps = [
        {"segment": {"model": str(tmp_path / "bright"), "least": 50}},
        {"crop": {"source": "mask", "keep": "each", "surroundings": "mean"}},
        "measure",
        "embed",
    ]
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    words = ["--collection", str(made.folder), "--labels", "label_folder"]
    more = ["--set", "columns=[eccentricity, orientation_deg]", "--set", "split=50:25:25", "--quiet"]
    told = CliRunner().invoke(main, ["train", "classifier", *words, *more, "--into", str(tmp_path / "model")])
    assert told.exit_code == 0, told.output
    model = read_model(tmp_path / "model")
    assert model.card.head.columns == ("eccentricity", "orientation_deg")
    path, page = tmp_path / "r.json", tmp_path / "r.html"
    told = CliRunner().invoke(
        main, ["evaluate", str(model.folder), *words, "--part", "test", "--json", str(path), "--page", str(page)]
    )
    assert told.exit_code == 0, told.output
    judged = json.loads(path.read_text())
    assert judged["accuracy"]["mean"] > 0.8
    assert judged["images"] % 2 == 0  # regions of an image are on one side
    run(into=made.folder, pipeline=[*steps, {"classify": {"model": str(model.folder)}}], report=False, threads=1)
    rows = made.read(["label", "label_folder", "parent"], where="parent is not null").to_pylist()
    assert np.mean([row["label"] == row["label_folder"] for row in rows]) > 0.9
    with pytest.raises(ModelError, match="columns of a collection: use it there"):
        looker(model)
    for settings, why in (
        ({"columns": ["phash2"]}, "unknown column 'phash2'"),
        ({"columns": ["depth"]}, "depth holds no numbers"),
        ({"views": "mirrored"}, "have one embedding each"),
        ({"model": "clip-vit-b-32"}, "not on this machine"),
    ):
        with pytest.raises((SettingError, ModelError), match=why):
            work.classifier(
                labels=Labels(collection=made.folder, labels="label_folder"), into=tmp_path / "no", settings=settings
            )
    of_pixels = [
        "--config",
        "scratch",
        "--set",
        "model=cnn:8-8/16@32",
        "--set",
        "epochs=12",
        "--set",
        "augment=none",
        "--set",
        "fit=pad",
    ]
    told = CliRunner().invoke(
        main,
        [
            "train",
            "classifier",
            *words,
            *of_pixels,
            "--set",
            "split=50:25:25",
            "--quiet",
            "--into",
            str(tmp_path / "cnn"),
        ],
    )
    assert told.exit_code == 0, told.output
    told = CliRunner().invoke(
        main, ["evaluate", str(tmp_path / "cnn"), *words, "--part", "test", "--json", str(path), "--page", str(page)]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(path.read_text())["accuracy"]["mean"] > 0.8
    run(into=made.folder, pipeline=[*steps, {"classify": {"model": str(tmp_path / "cnn")}}], report=False, threads=1)
    rows = made.read(["id", "label", "label_folder", "thumbnail"], where="parent is not null").to_pylist()
    assert np.mean([row["label"] == row["label_folder"] for row in rows]) > 0.8
    for row in rows:  # it learnt from what the step classify is shown: objects on the mean of their surroundings
        there = images.decode((tmp_path / "cnn.training" / "items" / f"{row['id']}.png").read_bytes()).image
        kept = images.decode(row["thumbnail"]).image
        assert np.abs(there.astype(float) - kept).mean() < 4
    shutil.rmtree(tmp_path / "bright")
    restorers.segmenter(tmp_path / "bright", gain=11)
    with pytest.raises(CollectionError, match="32 of 32 items are no longer what its steps make of their files"):
        work.classifier(
            labels=Labels(collection=made.folder, labels="label_folder"), into=tmp_path / "no", progress=False,
            settings={"way": "scratch", "model": "cnn:8/8@32"},
        )  # fmt: skip
    with pytest.raises(SettingError, match="columns are those of a collection"):
        work.classifier(labels=Labels(data=tmp_path / "images"), into=tmp_path / "no", settings={"columns": ["width"]})


def test_a_head_asks_for_its_own_encoder(head, shapes, tmp_path):
    with pytest.raises(SettingError, match="reads 'embedding' and needs it made by its own model"):
        run(
            shapes / "data", into=tmp_path / "out",
            pipeline=[{"embed": {"encoder": "classical"}}, {"classify": {"model": str(head)}}],
        )  # fmt: skip
    card = json.loads((head / "model.json").read_text())
    card["head"]["sha256"] = "0" * 64
    shutil.copytree(head, tmp_path / "other")
    (tmp_path / "other" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"goes by the embedding of 'embed' \(sha256 000000000000…\), which is not on"):
        looker(read_model(tmp_path / "other"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [
            "--config=finetune",
            "model=test_resnet",
            "size=[64, 64]",
            "rate=5e-3",
            "mixup=0.2",
            "falloff=0.8",
            "frozen=1",
        ],
        ["--config=scratch", "model=cnn:8-16-32/32@64", "rate=2e-3"],
        ["--config=finetune", "size=[64, 64]", "epochs=6"],
    ],
    ids=["timm", "scratch", "builtin"],
)
def test_a_network_learns_and_is_run_without_torch(shapes, tmp_path, more):
    plain = ["precision=float32", "batch=8", "epochs=24", "patience=24"]
    told = [word for each in [*plain, *more[1:]] for word in ("--set", each)]
    finished(command(shapes, tmp_path / "model", more[0], *told))
    model = read_model(tmp_path / "model")
    assert model.card.labels == ("cross/star", "disc", "square")
    assert set(model.card.files) == {"network", "weights", "split", "training", "confidence"}
    told = judge(model, labels=Labels(data=shapes / "data"), part="train", progress=False).told
    assert told["balanced_accuracy"]["mean"] > 0.55  # a third by chance
    eight = [images.read(path).image for path in sorted((shapes / "data" / "disc").iterdir())[:4]]
    seen = [looker(model, engine=engine, precision="float32")(eight) for engine in ("openvino", "torch")]
    np.testing.assert_allclose(seen[0].logits, seen[1].logits, atol=2e-3)
    np.testing.assert_allclose(seen[0].features, seen[1].features, atol=2e-3)
    steps = [{"classify": {"model": str(tmp_path / "model")}}]
    made = run(shapes / "data" / "disc", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    assert {"label", "confidence", "label_set", "known", "typical"} <= set(made.columns)


def test_other_labels_of_the_same_images_are_no_training_to_go_on_with(shapes, tmp_path):
    """The split is the same, and so is the config."""
    data = tmp_path / "data"
    shutil.copytree(shapes / "data", data)
    how = {"settings": {"model": "cnn:4/4@32", "epochs": 1, "split": "40:35:25"}, "progress": False}
    how |= {"config": "scratch", "into": tmp_path / "model"}
    work.classifier(labels=Labels(data=data), **how)
    (data / "disc").rename(data / "dish")
    with pytest.raises(SettingError, match=r"begun with another labels\.json"):
        work.classifier(labels=Labels(data=data), over=True, **how)


def test_too_few_images_to_tell_what_is_unknown_say_so(shapes, tmp_path):
    data = tmp_path / "data"
    for path in sorted((shapes / "data").rglob("*.png")):
        if int(path.stem) < 5 and path.parent.name != "square":
            (data / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, data / path.parent.name / path.name)
    model = work.classifier(
        labels=Labels(data=data), into=tmp_path / "m", settings={"split": "40:40:20"}, progress=False
    )
    assert model.card.novelty is None
    assert "too few to tell what is unknown" in model.card.notes
    (row,) = classify([data / "disc" / "00.png"], model=model.folder, progress=False).rows
    assert "known" not in row
    assert row["confidence"] < 1  # however right all of so few were


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(shapes, tmp_path):
    how = ["--config", "scratch", "--set", "model=cnn:8-16/16@64", "--set", "epochs=5", "--set", "precision=float32"]
    how += ["--set", "mixup=0.3", "--set", "augment=strong"]
    broken_off(command(shapes, tmp_path / "broken", *how), tmp_path / "broken.training")
    for name in ("broken", "whole"):
        finished(command(shapes, tmp_path / name, *how))
    scores = [scores_of(tmp_path / f"{name}.training") for name in ("broken", "whole")]
    assert len(scores[0]) == 5
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)


def test_a_near_copy_across_the_split_is_kept_on_one_side(shapes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(shapes / "data", data)
    copies = {}
    for at, path in enumerate(sorted((data / "disc").iterdir())):
        image = images.read(path).image.astype(int)
        noisy = (image + np.random.default_rng(at).integers(-2, 3, image.shape)).clip(0, 255).astype(np.uint8)
        twin = path.with_name(f"twin{path.name}")
        twin.write_bytes(images.encode(noisy, "png"))
        copies[images.content_hash(path.read_bytes())] = images.content_hash(twin.read_bytes())
    made = work.classifier(labels=Labels(data=data), into=tmp_path / "model", progress=False)
    parts = json.loads(made.file("split").read_text())["parts"]
    side = {key: part for part, keys in parts.items() for key in keys}
    assert all(side[one] == side[other] for one, other in copies.items())
    assert len({side[one] for one in copies}) > 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--set", "way=guess"], "unknown way 'guess'"),
        (["--set", "way=[head]"], "unknown way"),
        (["--set", "epochs=3"], "unknown setting 'epochs'"),
        (["--config", "scratch", "--set", "frozen=2"], "frozen does not go with way=scratch"),
        (["--config", "finetune", "--set", "model=cnn:8/8@32"], "way=finetune does not go with model=cnn"),
        (["--config", "finetune", "--set", "model=resnet5"], "resnet50"),
        (["--config", "scratch", "--set", "model=cnn:8-x/8@32"], "such are cnn:32-64-128/256@96"),
        (["--config", "scratch", "--set", "model=cnn:8-8-8-8-8/8@16"], "less than one after 5 poolings"),
        (["--set", "model=nowhere"], "unknown model 'nowhere'"),
        (["--set", "model=nuclei"], "to segment, not to embed"),
        (["--set", "split=65:15:20"], "the split is said twice"),
        (["--split", "65:15"], "train:val:test"),
        (["--split", "nowhere.json"], "nowhere.json cannot be read"),
        (["--work", "{}/w"], "leaves nothing to go on from"),
        (["--labels", "{}/table.csv:kind"], "say where labels come from"),
        (["--about", "{}/table.csv"], "table.csv"),
        (["--about", "nevi"], "unknown class"),
        (["--about", "nowhere.yaml"], "skin-lesions"),
        (["--groups", "{}/table.csv:patient"], "unknown column 'patient'"),
        (["--groups", "{}/table.csv:lump"], "the split leaves no image of the class"),
    ],
)
def test_what_does_not_fit_is_told_before_training(shapes, tmp_path, more, why):
    words = [*command(shapes, tmp_path / "model")[3:], *(each.format(shapes) for each in more)]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 1, told.output
    assert why in told.stderr
    assert not (tmp_path / "model").exists()


def test_unreadable_files_few_images_and_two_labels_are_told_before_training(shapes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(shapes / "data", data)
    (data / "disc" / "bad.png").write_bytes(b"no image")
    (data / "square" / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    how = {"labels": Labels(data=data), "into": tmp_path / "model", "progress": False}
    with pytest.raises(SettingError, match=r"2 of 74 images cannot be learnt from:\n.*bad\.png.*\n.*worse\.png"):
        work.classifier(**how)
    (data / "disc" / "bad.png").unlink()
    (data / "square" / "worse.png").unlink()
    shutil.copyfile(data / "disc" / "00.png", data / "square" / "again.png")
    with pytest.raises(SettingError, match="are the same image, labelled 'disc' and 'square': keep one"):
        work.classifier(**how)
    for path in sorted((data / "square").iterdir())[3:]:
        path.unlink()
    with pytest.raises(SettingError, match="the class 'square' has 3 images: 4 or more are needed"):
        work.classifier(**how)
    assert not (tmp_path / "model").exists()


def test_a_model_is_not_judged_by_what_it_does_not_know(head, shapes, tmp_path):
    shutil.copytree(shapes / "data", tmp_path / "data")
    (tmp_path / "data" / "disc").rename(tmp_path / "data" / "disk")
    with pytest.raises(SettingError, match=r"unknown class 'disk'\. Did you mean disc\?"):
        judge(read_model(head), labels=Labels(data=tmp_path / "data"), progress=False)
    for words in (
        ["--images", "x", "--masks", "y"],
        ["--data", "x", "--threshold", "0.3"],
        ["--data", "x", "--noise", "jpeg:3"],
    ):
        told = CliRunner().invoke(main, ["evaluate", str(head), *words])
        assert told.exit_code == 1
        assert "does not go with a model that is there to classify" in told.stderr


def test_configs_that_come_with_imagier_are_read():
    assert config.names(config.Head) == ["finetune", "head", "scratch"]
    for name in config.names(config.Head):
        assert config.read_classifier(name, {"seed": 3}).seed == 3
    assert isinstance(config.read_classifier(None, {}), config.Head)


@pytest.mark.shared
@pytest.mark.slow
def test_figures_are_told_apart_and_what_is_none_of_them_is_stranger(shared, tmp_path):
    """Documents are groups; of the classes one is left out of training, the rest are told from it."""
    from imagier.algorithms.judging import auroc
    from imagier.models.classifying import confidence_of
    from imagier.workflows.labels import TABLE, import_biofors
    from imagier.workflows.segment import read

    data = tmp_path / "data"
    import_biofors(shared / "data" / "figures", data)
    how = {"groups": f"{data / TABLE}:document", "progress": False}
    whole = work.classifier(labels=Labels(data=data), into=tmp_path / "whole", **how)
    assert judge(whole, labels=Labels(data=data), part="test", progress=False).told["accuracy"]["mean"] >= 0.97
    (data / "Blot%2FGel").rename(tmp_path / "away")
    model = work.classifier(labels=Labels(data=data), into=tmp_path / "model", **how)
    test = set(json.loads(model.file("split").read_text())["parts"]["test"])
    known = [path for path in sorted(data.rglob("*.png")) if images.content_hash(path.read_bytes()) in test]
    strange = sorted((tmp_path / "away").rglob("*.png"))[::4]
    trust = confidence_of(model)
    seen = looker(model)([read(path) for path in known + strange])
    scores = trust.distribution.strangeness(seen.features, seen.logits / trust.temperature)
    assert auroc(scores, np.arange(len(scores)) >= len(known)) >= 0.90
    assert (~trust.say(seen).known[: len(known)]).mean() <= 0.12
