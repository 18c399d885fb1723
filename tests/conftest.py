"""What the tests share: the real images where they are, drawn ones, and stages from a plug-in."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path

import drawn
import pytest

TESTS = Path(__file__).parent
GUARD = TESTS / "guard"
"""Python loads the socket guard from here in every process that the tests start; in this one the line below does."""
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH")]))
runpy.run_path(str(GUARD / "sitecustomize.py"))


@pytest.fixture(scope="session", autouse=True)
def guard_log(tmp_path_factory) -> Path:
    """Where the guard notes what it refused, in this process and those it starts."""
    path = tmp_path_factory.mktemp("guard") / "log"
    path.touch()
    os.environ["IMAGIER_GUARD"] = str(path)
    return path


@pytest.fixture(autouse=True)
def nothing_leaves_the_machine(guard_log):
    """Fails a test that tried to, where a thread, a fork or an `except` hid it."""
    before = guard_log.stat().st_size
    yield
    tried = guard_log.read_bytes()[before:].decode()
    assert not tried, f"this test tried to use the network:\n{tried}"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images beside the checkout; skips where it is missing, but fails in continuous integration."""
    folder = TESTS.parent.parent / "shared"
    if not (folder / "data").is_dir():
        reason = f"the real images are not there: {folder}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def lesion_models(shared, tmp_path_factory) -> tuple[Path, Path]:
    """The folders of a segmenter of lesions that has seen little, and of a classifier of them."""
    import trainings

    return trainings.lesion_models(shared / "data", tmp_path_factory.mktemp("lesions"))


@pytest.fixture
def float32(monkeypatch) -> None:
    """As on a processor without bfloat16: numbers that are known to the digit come out so on every machine."""
    from imagier.models import _openvino

    monkeypatch.setattr(_openvino, "capabilities", lambda: ("FP32", "INT8"))


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of 12 drawn pictures, 4 of each of three kinds."""
    return drawn.fill(tmp_path / "images")


@pytest.fixture(scope="session")
def plug_path(tmp_path_factory) -> str:
    """What PYTHONPATH must hold for the stages of `plugs.py` to be installed: an entry point is a line in a file."""
    import plugs

    site = tmp_path_factory.mktemp("site")
    info = site / "imagier_plugs-1.0.dist-info"
    info.mkdir()
    lines = [f"{name} = plugs:{name.upper()}" for name in plugs.STAGES]
    (info / "entry_points.txt").write_text("[imagier.stages]\n" + "\n".join(lines) + "\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: imagier-plugs\nVersion: 1.0\n")
    return os.pathsep.join([str(site), str(TESTS)])


@pytest.fixture
def plugs(plug_path, monkeypatch) -> str:
    """The stages of `plugs.py`, installed for this process and those it starts."""
    for each in reversed(plug_path.split(os.pathsep)):
        monkeypatch.setattr(sys, "path", [each, *sys.path])
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([plug_path, *([before] if before else [])]))
    importlib.invalidate_caches()
    return plug_path
