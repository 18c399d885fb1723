"""A stage from an installed package is a stage like any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the plug-in package was installed by pip."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", target, PLUGIN], check=True)
    return target


def imagier(*words, site=None):
    environment = os.environ | ({"PYTHONPATH": f"{site}{os.pathsep}{os.environ['PYTHONPATH']}"} if site else {})
    command = [sys.executable, "-m", "imagier.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_an_installed_stage_runs_and_is_keyed_by_its_settings(installed, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for at, level in enumerate([0, 51, 102, 255]):
        Image.fromarray(np.full((80, 80), level, np.uint8)).save(images / f"level_{at}.png")
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("- brightness\n")
    words = ("run", images, "--into", tmp_path / "out", "--pipeline", pipeline, "--no-report", "--quiet")
    result = imagier(*words, site=installed)
    assert result.returncode == 0, result.stderr

    csv = tmp_path / "all.csv"
    assert imagier("export", tmp_path / "out", "--to", "csv", csv, site=installed).returncode == 0
    import pandas

    table = pandas.read_csv(csv).sort_values("name")
    assert np.allclose(table["brightness"], [0, 0.2, 0.4, 1], atol=1e-6)

    again = imagier(*words, "--set", "brightness.gamma=2", site=installed)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "out" / "last_run.json").read_text())["decoded"] == 4


def test_its_settings_are_checked_like_any_other(installed, tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("- brightness: {gama: 2}\n")
    result = imagier("run", tmp_path, "--into", tmp_path / "out", "--pipeline", pipeline, site=installed)
    assert result.returncode == 1
    assert "gamma" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_the_package_the_stage_is_unknown(tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("- brightness\n")
    result = imagier("run", tmp_path, "--into", tmp_path / "out", "--pipeline", pipeline)
    assert result.returncode == 1
    assert "unknown stage 'brightness'" in result.stderr
