"""Trainings as a user starts them, in a process of their own: run to their end, or killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
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
