"""Denoisers and upscalers: trained by one command, taken up again, judged by PSNR; bad input is told first."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from restorers import denoiser
from test_upscale import repeating
from trainings import broken_off, finished, scores_of

from imagier import images
from imagier.cli import main
from imagier.models.model import read_model
from imagier.training.pairs import Way
from imagier.types import ImageError

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 72


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """24 drawn images of rectangles in colour; and, beside them, ones with noise, called alike."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for at in range(24):
        image = np.full((SIDE, SIDE + at, 3), rng.integers(0, 256, 3), np.float32)
        for _ in range(8):
            x, y, w, h = rng.integers([0, 0, 8, 8], [60, 60, 40, 40])
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        noisy = (image + rng.normal(0, 30, image.shape)).clip(0, 255)
        for kind, pixels in (("clean", image), ("noisy", noisy)):
            path = folder / kind / f"{at:02d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(images.encode(pixels.astype(np.uint8), "png"))
    return folder


TINY = {
    "network": "runet:8-16@rgb",
    "part": 32,
    "parts": 24,
    "epochs": 10,
    "batch": 4,
    "split": "70:15:15",
    "rate": 4e-3,
}


def command(kind: str, into: Path, *more: object, **settings: object) -> list[str]:
    told = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return [sys.executable, "-m", "imagier.cli", "train", kind, "--into", str(into), *map(str, more), *told]


def judged(model: Path, folder: Path, *more: object) -> dict:
    path = model.parent / f"{model.name}.json"
    told = CliRunner().invoke(
        main, ["evaluate", str(model), "--images", str(folder), "--json", str(path), "--quiet", *map(str, more)]
    )
    assert told.exit_code == 0, told.output
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> Path:
    """A denoiser that was trained on the pictures; once for all workers of a test run."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "denoisers"
    into = folder / "model"
    with FileLock(f"{folder}.lock"):
        if not into.exists():
            more = ["--images", pictures / "clean"]
            finished(command("denoiser", into, *more, **TINY | {"noise": "gaussian:15-60", "sigma": 25, "half": True}))
    return into


@pytest.mark.slow
def test_a_trained_denoiser_takes_noise_out(trained, pictures, tmp_path):
    page = tmp_path / "page.html"
    told = judged(trained, pictures / "clean", "--noise", "gaussian:30", "--part", "test", "--page", page)
    assert told["psnr"]["mean"] > told["psnr_before"]["mean"] + 3
    assert told["ssim"]["mean"] > told["ssim_before"]["mean"]
    assert told["psnr_before"]["mean"] == pytest.approx(10 * np.log10(255**2 / 30**2), abs=1)
    assert set(told["psnr"]) == {"mean", "median", "ci95", "n"}
    assert told["psnr"]["n"] == told["images"] > 2
    assert "gaussian:30" in told["protocol"]
    assert page.read_text().count("<img") == 3 * told["images"]
    card = read_model(trained).card
    assert (card.task, card.architecture, card.input.multiple) == ("denoise", "runet:8-16@rgb", 4)
    assert set(card.files) == {"network", "weights", "split", "training"}
    same = judged(trained, pictures / "clean", "--noise", "gaussian:30", "--part", "test")
    assert same["psnr"] == told["psnr"]
    assert card.sigma == 25
    assert "its deviation told" in told["protocol"]
    for noise, more in (("gaussian:30", ["--estimate"]), ("gaussian:60", [])):
        other = judged(trained, pictures / "clean", "--noise", noise, "--part", "test", *more)
        assert other["psnr"]["mean"] > other["psnr_before"]["mean"] + 2.5


@pytest.mark.slow
def test_it_runs_in_the_pipeline_and_on_pairs(trained, pictures, tmp_path):
    from imagier.stages.denoise import DENOISE

    noisy, clean = (images.decode((pictures / kind / "05.png").read_bytes()).image for kind in ("noisy", "clean"))
    made = DENOISE.make(model=str(trained)).load()({"image": [noisy], "black": [0.0], "white": [255.0]})["image"][0]
    assert np.std(made.astype(float) - clean) < 0.75 * np.std(noisy.astype(float) - clean)
    told = judged(trained, pictures / "clean", "--noisy", pictures / "noisy")
    assert told["psnr"]["mean"] > told["psnr_before"]["mean"] + 2


@pytest.mark.slow
def test_training_goes_on_from_weights_and_from_pairs_with_a_critic(trained, pictures, tmp_path):
    into = tmp_path / "gan"
    more = ["--config", "denoise", "--noisy", pictures / "noisy", "--clean", pictures / "clean", "--adversarial"]
    finished(command("denoiser", into, *more, **TINY | {"weights": str(trained / "network.onnx"), "epochs": 1}))
    told = judged(into, pictures / "clean", "--noisy", pictures / "noisy")
    assert told["psnr"]["mean"] > told["psnr_before"]["mean"] + 1  # what it began with is not lost
    kept = (into / "training.yaml").read_text()
    assert "adversarial: 0.01" in kept
    assert "sigma: null" in kept  # the config's own is for clean images
    assert not [name for name in read_model(into).card.files if "critic" in name]


@pytest.mark.slow
def test_a_trained_upscaler_enlarges(pictures, tmp_path):
    how = {"network": "edsr:1x8@2", "part": 16, "parts": 24, "epochs": 6, "batch": 4, "split": "70:15:15", "rate": 2e-3}
    finished(command("upscaler", tmp_path / "up", "--images", pictures / "clean", **how))
    told = judged(tmp_path / "up", pictures / "clean", "--part", "test")
    assert "reduced 2 times" in told["protocol"]
    assert told["psnr"]["mean"] > 29  # 32.2 was seen, 24.5 after a twelfth of the steps; bicubic has 32.6
    card = read_model(tmp_path / "up").card
    assert (card.task, card.scale) == ("upscale", 2)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(pictures, tmp_path):
    how = TINY | {"network": "runet:8-8@grey", "parts": 4, "epochs": 5, "adversarial": 0.01, "optimiser": "muon"}
    more = ["--images", pictures / "clean"]
    broken_off(command("denoiser", tmp_path / "broken", *more, **how), tmp_path / "broken.training")
    for name in ("broken", "whole"):
        finished(command("denoiser", tmp_path / name, *more, **how))
    scores = [scores_of(tmp_path / f"{name}.training") for name in ("broken", "whole")]
    assert len(scores[0]) == 5
    np.testing.assert_allclose(scores[0], scores[1], atol=0.05)  # dB


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("denoiser", [], "give --images with clean images, or pairs"),
        ("denoiser", ["--noisy", "{}/noisy"], "give --images with clean images, or pairs"),
        ("denoiser", ["--images", "{}/clean", "--clean", "{}/clean"], "give --images with clean images, or pairs"),
        ("denoiser", ["--images", "{}/clean", "--set", "noise=blur:3"], "unknown noise 'blur'"),
        ("denoiser", ["--noisy", "{}/noisy", "--clean", "{}/clean", "--set", "noise=gaussian:3"], "their own"),
        ("denoiser", ["--images", "{}/clean", "--set", "noise=jpeg:50", "--set", "sigma=25"], "sigma goes with"),
        ("denoiser", ["--noisy", "{}/noisy", "--clean", "{}/clean", "--set", "sigma=25"], "their own"),
        ("denoiser", ["--noisy", "{}/none", "--clean", "{}/clean"], "no folder"),
        ("denoiser", ["--images", "{}/clean", "--set", "network=edsr:1x8@2"], "not to denoise"),
        ("denoiser", ["--images", "{}/clean", "--set", "network=runet:8@pink"], "grey or rgb"),
        ("denoiser", ["--images", "{}/clean", "--set", "part=50"], "multiples of 8"),
        ("denoiser", ["--images", "{}/clean", "--config", "upscale"], "denoise"),
        ("denoiser", ["--images", "{}/clean", "--set", "nosie=x"], "Did you mean noise"),
        ("upscaler", ["--images", "{}/clean", "--set", "network=runet:8-8@rgb"], "not to upscale"),
        ("upscaler", ["--images", "{}/clean", "--set", "network=edsr:8x48@5"], "2, 3 or 4"),
        ("upscaler", ["--images", "{}/nothing"], "nothing"),
    ],
)
def test_what_does_not_fit_is_told_before_training(pictures, tmp_path, kind, more, why):
    words = [each.format(pictures) for each in more]
    told = CliRunner().invoke(main, ["train", kind, "--into", str(tmp_path / "m"), *words])
    assert told.exit_code == 1, told.output
    assert why in told.stderr
    assert not (tmp_path / "m").exists()


def test_pairs_that_do_not_fit_are_named(pictures, tmp_path):
    (tmp_path / "noisy").mkdir()
    for at in range(24):
        image = np.zeros((9, 9, 3), np.uint8)
        (tmp_path / "noisy" / f"{at:02d}.png").write_bytes(images.encode(image, "png"))
    words = ["train", "denoiser", "--noisy", str(tmp_path / "noisy"), "--clean", str(pictures / "clean")]
    told = CliRunner().invoke(main, [*words, "--into", str(tmp_path / "m")])
    assert told.exit_code == 1
    assert "has 9 x 9 pixels, and its clean image" in told.stderr
    (tmp_path / "noisy" / "07.png").unlink()
    told = CliRunner().invoke(main, [*words, "--into", str(tmp_path / "m")])
    assert "no image that is called as" in told.stderr
    assert "07.png" in told.stderr


@pytest.mark.parametrize(
    ("task", "more", "why"),
    [
        ("denoise", [], "say what a denoiser is to take out"),
        ("denoise", ["--noise", "gaussian:25", "--noisy", "."], "say what a denoiser is to take out"),
        ("denoise", ["--noise", "gaussian:25", "--masks", "."], "leave it out"),
        ("denoise", ["--noise", "gaussian:25", "--part", "test"], "has no split"),
        ("denoise", ["--noise", "gaussian:25", "--estimate"], "leave out --estimate"),
        ("upscale", ["--noise", "gaussian:25"], "leave out --noise"),
    ],
)
def test_what_cannot_be_judged_is_told(pictures, tmp_path, task, more, why):
    model = (denoiser if task == "denoise" else repeating)(tmp_path / "m").folder
    told = CliRunner().invoke(main, ["evaluate", str(model), "--images", str(pictures / "clean"), *more])
    assert told.exit_code == 1, told.output
    assert why in told.stderr


def test_an_image_too_small_for_ssim_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(images.encode(np.zeros((10, 30, 3), np.uint8), "png"))
    model = denoiser(tmp_path / "m").folder
    told = CliRunner().invoke(main, ["evaluate", str(model), "--images", str(tmp_path), "--noise", "gaussian:5"])
    assert told.exit_code == 1
    assert "a.png is too small to be judged" in told.stderr


def test_deep_pairs_come_on_the_scale_of_the_noisy_one(tmp_path):
    """Where nothing is clean, black and white of the noisy image are all that is known."""
    rng = np.random.default_rng(0)
    clean = rng.integers(1000, 3000, (20, 30)).astype(np.uint16)
    noisy = (clean + rng.normal(0, 200, clean.shape)).clip(0, 65535).astype(np.uint16)
    for name, image in (("clean", clean), ("noisy", noisy)):
        (tmp_path / f"{name}.png").write_bytes(images.encode(image, "png"))
    way = Way("grey", noisy={tmp_path / "clean.png": tmp_path / "noisy.png"})
    shown, wanted = way.whole(tmp_path / "clean.png")
    black, white = images.levels(noisy)
    np.testing.assert_allclose(shown[:, :, 0], (noisy - black) * 255 / (white - black), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(wanted[:, :, 0], (clean - black) * 255 / (white - black), rtol=1e-4, atol=1e-3)


def test_an_image_is_cropped_to_what_its_factor_divides(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (31, 44, 3)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(images.encode(image, "png"))
    shown, wanted = Way("rgb", factor=3).whole(tmp_path / "a.png")
    assert (shown.shape, wanted.shape) == ((10, 14, 3), (30, 42, 3))
    np.testing.assert_array_equal(wanted, image[:30, :42])
    (tmp_path / "b.png").write_bytes(images.encode(image[:2], "png"))
    with pytest.raises(ImageError, match="too small"):
        Way("rgb", factor=3).whole(tmp_path / "b.png")
