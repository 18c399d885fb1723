"""Tiles are as large as memory allows, by what a network's graph says that it holds at once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from restorers import denoiser, segmenter
from test_upscale import repeating

from imagier.models import memory
from imagier.models.restoring import tile_of
from imagier.stages.denoise import DENOISE
from imagier.types import SettingError


def test_what_lives_at_once_is_counted(tmp_path):
    """One convolution: three channels in and three out, four bytes each; then 3, 27 and 27 channels at a pixel."""
    assert memory.bytes_per_pixel(denoiser(tmp_path / "a")) == pytest.approx(4 * 6)
    assert memory.bytes_per_pixel(denoiser(tmp_path / "b", channels=1)) == pytest.approx(4 * 2)
    assert memory.bytes_per_pixel(segmenter(tmp_path / "c", classes=2)) == pytest.approx(4 * 5)
    assert memory.bytes_per_pixel(repeating(tmp_path / "d")) == pytest.approx(4 * 54)


def test_the_tile_is_what_fits(tmp_path):
    model = repeating(tmp_path / "m")
    sides = [memory.tile_for(model, megabytes, 96, "upscale") for megabytes in (10, 50, 100, 500, 5000)]
    assert sides == sorted(sides)
    assert all(side % 32 == 0 for side in sides)
    assert sides[-1] == memory.LARGEST
    for side, megabytes in zip(sides[:3], (10, 50, 100), strict=True):
        assert side**2 * 4 * 54 * memory.BESIDE <= megabytes * 2**20 < (side + 32) ** 2 * 4 * 54 * memory.BESIDE
    with pytest.raises(SettingError, match="needs 4 MB for the least tile"):
        memory.tile_for(model, 1, 96, "upscale")


def test_tile_and_memory_exclude_one_another(tmp_path):
    model = denoiser(tmp_path / "m")
    with pytest.raises(SettingError, match="leave one of them out"):
        tile_of(model, "denoise", 128, 100)
    fixed = repeating(tmp_path / "fixed", side=64)
    assert tile_of(fixed, "upscale", None, None) == 64
    with pytest.raises(SettingError, match="memory cannot be given"):
        tile_of(fixed, "upscale", None, 100)
    with pytest.raises(SettingError, match="tile cannot be given"):
        tile_of(fixed, "upscale", 128, None)


def test_less_memory_gives_the_same_image(tmp_path):
    model = str(denoiser(tmp_path / "m").folder)
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3)).astype(np.uint8)
    columns = {"image": [image], "black": [0.0], "white": [255.0]}
    small, large = (DENOISE.make(model=model, memory=mb).load()(columns)["image"][0] for mb in (2, 500))
    assert np.abs(small.astype(int) - large).max() <= 1


SHORT = """
import logging, resource
import numpy as np
from imagier.models import restoring, store
logging.basicConfig()
image = np.random.default_rng(0).integers(0, 256, (1600, 1600), np.uint8)
model = store.find("denoise", "denoise")
ample, short = (restoring.load(model, 1024, engine="onnxruntime") for _ in range(2))
want, _ = ample(image, 0, 255, 25.0), short(image[:100, :100], 0, 255, 25.0)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (held + 200 * 2**20, before[1]))
got = short(image, 0, 255, 25.0)
resource.setrlimit(resource.RLIMIT_AS, before)
assert np.abs(got.astype(int) - want).max() <= 1
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory that can be lifted again is Linux's")
def test_where_an_engine_finds_no_memory_tiles_become_smaller():
    """A real shortage: some 200 MB more than the process has. Tiles of 832 pixels do not fit. Of ONNX Runtime: what
    OpenVINO does then is not the same each time, and now and then it fails at last."""
    pytest.importorskip("onnxruntime")
    told = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "no memory for 1 at once of tiles" in told.stderr
