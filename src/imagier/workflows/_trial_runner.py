"""Holds the child process that trials run in: starts it, hands it jobs, ends it when it takes too long or too much."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

LOOK = 0.1
"""Seconds between two looks at what the child takes."""


class BrokenOff(Exception):
    """The child did not bring a job to its end; the message says why."""


class Runner:
    """One child, kept for the next job. `do` is for one thread; `stop` may be called by any."""

    def __init__(self, folder: Path, *, seconds: float, memory: int) -> None:
        """folder: where the child works and puts what is for the moment; it removes it where this process has died.

        seconds: of a job, at most. memory: bytes that it may take, looked after where the system has /proc (Linux).
        """
        self.folder, self.seconds, self.memory = folder, seconds, memory
        self._child: subprocess.Popen[str] | None = None
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the child, while there is one."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Start the child, unless it is there. Raises BrokenOff where the system refuses."""
        with self._lock:
            if self.pid is not None:
                return
            self._close()
            try:
                # -P: what lies in its folder is no module. A session of its own: Ctrl-C is for the server, not for it.
                child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "imagier.workflows._trial_worker", str(self.folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    cwd=self.folder,
                    env=os.environ | {"TMPDIR": str(self.folder)},
                    start_new_session=True,
                )
            except OSError as error:
                raise BrokenOff(f"no process could be started for it: {error.strerror}") from error
            lines: SimpleQueue[str | None] = SimpleQueue()
            threading.Thread(target=_read, args=(child, lines), name="trial", daemon=True).start()
            self._child, self._lines = child, lines

    def do(self, job: dict[str, Any], wanted: Callable[[], bool]) -> dict[str, Any]:
        """Hand over a job and wait for the answer, while it is wanted. Raises BrokenOff."""
        self.start()
        child, lines = self._child, self._lines
        assert child is not None
        assert child.stdin is not None
        try:
            print(json.dumps(job), file=child.stdin, flush=True)
        except OSError as error:
            raise BrokenOff("its process ended before it could begin: try again") from error
        end = time.monotonic() + self.seconds
        while True:
            try:
                line = lines.get(timeout=LOOK)
            except Empty:
                if not wanted():
                    self.stop()
                    raise BrokenOff("it was removed") from None
                if time.monotonic() > end:
                    self.stop()
                    raise BrokenOff(f"it took longer than {self.seconds:g} s, the most that a trial may") from None
                if _resident(child.pid) > self.memory:
                    self.stop()
                    raise BrokenOff(
                        f"it took more than {self.memory / 2**30:.3g} GB of memory, the most that a trial may"
                    ) from None
                continue
            if line is None:
                why = child.wait()
                said = f"signal {-why}" if why < 0 else f"code {why}"
                raise BrokenOff(f"its process ended unforeseen ({said}): an image may have brought it down")
            answer: dict[str, Any] = json.loads(line)
            return answer

    def stop(self) -> None:
        """End the child and all that it started, at once."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            if os.name == "posix":
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
        child.wait()
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # of what it was not handed any more
            child.stdin.close()


def _read(child: subprocess.Popen[str], lines: SimpleQueue[str | None]) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put(None)


def _resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 where nobody tells."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # it has just ended, or there is no /proc
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
