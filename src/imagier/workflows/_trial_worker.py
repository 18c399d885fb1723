"""The child process that trials run in: a job a line of JSON comes in, a line of JSON goes out when it is done.

    {"folder": ".../ID", "steps": [...], "like": null}    ->    {"refused": {"page.html": "not an image ..."}}
                                                                {"failed": "no image was sent ..."}

What was sent lies in `sent` of the folder; the collection made of it comes to `out`. Images are strangers' data: what
they do to a decoder they do to this process, which is started anew for the next trial.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from imagier.types import ImagierError
from imagier.workflows import _trial_sent


def done(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job."""
    from imagier.workflows.run import run

    folder = Path(job["folder"])
    sent = folder / "sent"
    try:
        _trial_sent.unpack(sent, **job["sizes"])
        refused = _trial_sent.refused(sent, most_pixels=job["most_pixels"])
        # Each by itself: a folder would be searched for what is called like an image, and these are called anyhow.
        sources = [path for path in sorted(sent.iterdir()) if path.name not in refused]
        if sources:
            run(sources, into=folder / "out", pipeline=job["steps"], like=job["like"], report=False)
    except ImagierError as error:
        return {"failed": str(error)}
    return {"refused": refused}


def main(root: Path) -> None:
    """Work until the server ends this process; where that itself has died, leave nothing of any trial in `root`."""
    _private()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        for _ in range(10):  # what is in hand may still be writing
            shutil.rmtree(root, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=read, name="jobs", daemon=True).start()
    import imagier.workflows.run  # noqa: F401 - while nobody waits yet

    for job in _given(jobs):
        print(json.dumps(done(job)), file=out, flush=True)


def _given(jobs: SimpleQueue[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while True:
        yield jobs.get()


def _private() -> None:
    """What it writes is for this user alone, and no image of its memory is left where it dies."""
    os.umask(0o077)
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
