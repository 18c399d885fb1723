"""A job's own process: python -m imagier.workflows._jobs_child FOLDER runs the command line, and writes how it ended.

It is the parent of the command, since nobody but a parent learns an exit code; and it is nobody's child, in a session
of its own, so that it outlives who started it. It holds the folder's lock, and its command holds it too: as long as
anything of a job lives, the lock is taken, and the system lets go of it when all is dead, however that came.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from imagier._progress import WHERE

PATIENCE = 10.0
"""Seconds in which the lock must be had: one who looks whether it is held has it for an instant."""


def lock(folder: Path) -> int | None:
    """Take the lock of a job's folder: its file descriptor, or None where a process holds it."""
    import fcntl

    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def main(folder: Path) -> None:
    """Run the job in `folder`: its command's exit code and its end are in outcome.json as the last act.

    Returns in the process that was started once another one holds the lock and goes on; the lock's file names the
    group of processes. Where the lock is held by a process already, ends with a message.
    """
    until = time.monotonic() + PATIENCE
    while (held := lock(folder)) is None:
        if time.monotonic() > until:
            sys.exit("imagier: an earlier process of this job is still there")
        time.sleep(0.05)
    os.ftruncate(held, 0)
    os.write(held, str(os.getpgrp()).encode())
    stopped: list[int] = []
    # A function, since a signal that is ignored would be ignored by the command too.
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    if os.fork():
        return
    argv = json.loads((folder / "job.json").read_bytes())["argv"]
    with open(folder / "output.txt", "ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "imagier.cli", *argv],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(held,),
            env=os.environ | {WHERE: str(folder / "progress.json"), "PYTHONUNBUFFERED": "1"},
        )
    if stopped:  # before there was a command to hear it
        child.send_signal(signal.SIGINT)
    code = child.wait()

    from imagier.collection import write_whole  # only now: it is heavy to hold

    write_whole(folder / "outcome.json", json.dumps({"exit": code, "ended": now()}).encode())


def now() -> str:
    """The time, as it is kept."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
