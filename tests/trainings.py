"""Trainings as a user starts them, in a process of their own: run to their end, or killed on the way."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
"""Small images are learnt from no faster by two threads, and much slower where other tests run beside them."""


def finished(words: list[str], code: int = 0) -> subprocess.CompletedProcess:
    """What a command said, ended with this code and without a traceback."""
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=ALONE)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def broken_off(words: list[str], work: Path, epochs: int = 2) -> None:
    """Start a training and kill it after so many epochs."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ALONE}
    with subprocess.Popen(words, **quiet) as broken:
        for _ in range(1200):
            if len(scores_of(work)) >= epochs:
                break
            time.sleep(0.1)
        broken.send_signal(signal.SIGKILL)


def scores_of(work: Path) -> list[float]:
    """The score of each epoch, as the work folder's log has it."""
    log = work / "log.csv"
    return [float(line.split(",")[4]) for line in log.read_text().splitlines()[1:]] if log.is_file() else []


def lesion_models(data: Path, folder: Path) -> tuple[Path, Path]:
    """A segmenter of lesions that has seen little, and a classifier of them, `lesion` and `kind` in a folder.

    data: the folder of real images. PH2's first 20 are not learnt from.
    """
    ph2, ham = data / "ph2", data / "ham10000"
    for path in sorted((ph2 / "images").iterdir())[20:100]:
        for kind, name in (("images", path.name), ("masks", f"{path.stem}.png")):
            (folder / kind).mkdir(exist_ok=True)
            shutil.copyfile(ph2 / kind / name, folder / kind / name)
    with (ham / "labels.csv").open() as table:
        by_label = sorted((row["label"], row["file"]) for row in csv.DictReader(table))
        for label, rows in groupby(by_label, lambda row: row[0]):
            (folder / "data" / label).mkdir(parents=True)
            for _, name in list(rows)[:40]:
                shutil.copyfile(ham / "images" / name, folder / "data" / label / name)
    train = [sys.executable, "-m", "imagier.cli", "train"]
    small = ["--set", "epochs=6", "--set", "size=[64,96]", "--set", "batch=8", "--set", "rate=2e-3"]
    where = ["--config", "lesions", "--images", folder / "images", "--masks", folder / "masks"]
    finished([*train, "segmenter", *map(str, where), *small, "--into", str(folder / "lesion"), "--quiet"])
    told = ["--data", str(folder / "data"), "--about", "skin-lesions", "--into", str(folder / "kind"), "--quiet"]
    finished([*train, "classifier", *told])
    return folder / "lesion", folder / "kind"
