"""Jobs: runs and trainings that a server starts as processes of the command line, one after another, and outlives.

    jobs/ID/job.json       what it is: title, kind, author, the words of the command line
    jobs/ID/state.json     waiting, running, done, failed, stopped or broken; since when, why, and what befell it
    jobs/ID/progress.json  how far it is (imagier/_progress.py)
    jobs/ID/output.txt     what it said
    jobs/ID/lock           held by its processes, and names their group; outcome.json: how they ended (_jobs_child.py)
    jobs/lock              held by the one server that looks after them

All of it is on disk, so a server that comes after another finds the jobs as they are, those that still run among them.
Whether a job lives is told by its lock, which everything of it holds, and not by the number of a process, which may by
now be another's.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagier.collection import write_whole
from imagier.types import CollectionError
from imagier.workflows._jobs_child import lock, now
from imagier.workflows._jobs_disk import WHAT, Event, Job, JobsOnDisk, NoSuchJob, Word, as_json

__all__ = ["Event", "Job", "Jobs", "NoSuchJob"]

_say = logging.getLogger(__name__)

GRACE = 20.0
"""Seconds in which a job that is told to stop may do so by itself."""
LOOK = 0.2
"""Seconds between two looks at what runs."""
REST = 5.0
"""Seconds between two looks where the first could not be had."""
SOME_FAILED, NONE_SUCCEEDED, STOPPED = 3, 4, 130
"""Exit codes of the command line, as cli_errors.py has them."""
MIDDLE = "the machine or the program stopped in the middle"


class Jobs(JobsOnDisk):
    """The jobs of a folder. One at a time runs, the others wait in line. Serves many threads.

    Between `begin` and `end` it looks after them, unless another process does: then this one only reads, and takes
    over when the other is gone.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mutex = threading.RLock()
        self._wake = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._held: Any = None
        """The lock of the folder, while it is ours."""
        self._trouble = ""
        """Why they cannot be looked after, a sentence."""
        self._open: set[str] = set()
        """The jobs that are not over."""
        self._again: set[str] = set()
        """Jobs that broke under this server and were put in line again: once is enough."""
        self._sent: dict[str, int] = {}
        """Job that is told to stop -> the signal that it was sent last."""

    # ---------------------------------------------------------------- act

    @staticmethod
    def fresh() -> str:
        """An id that no job has; ids sort by time."""
        return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}"

    def start(
        self,
        argv: Sequence[str],
        *,
        title: str,
        kind: str,
        author: str = "",
        id: str | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Job:
        """Put a job in line. Raises CollectionError where another process looks after the jobs.

        argv: the words after `imagier`; relative paths are of the job's folder. id: from `fresh`. files: put into its
        folder, under these names.
        """
        with self._mutex:
            self._ours()
            made = now()
            job = Job(id or self.fresh(), title, kind, tuple(argv), author, made)
            place = self.folder / job.id
            for name, data in (files or {}).items():
                write_whole(place / name, data)
            job = self._save(job, state="waiting", queued=made, told="put in line")
            # The last: before it, there is no such job.
            write_whole(place / "job.json", as_json({name: getattr(job, name) for name in WHAT}))
            return job

    def stop(self, id: str) -> Job:
        """Tell a job to stop, as Ctrl-C does; what does not within 20 seconds is ended. One that waits leaves the line.

        Raises NoSuchJob, and CollectionError where it is over or another process looks after it.
        """
        with self._mutex:
            self._ours()
            job = self.one(id)
            if job.is_over:
                raise CollectionError(f"the job is {job.state} already: there is nothing to stop")
            if job.state == "waiting":
                why = "taken out of the line"
                return self._save(job, state="stopped", reason=why, ended=now(), told=why)
            return job if job.stopping else self._save(job, stopping=now(), told="told to stop")

    def resume(self, id: str) -> Job:
        """Put a job that is over in line again: the same command goes on from where it was.

        Raises NoSuchJob, and CollectionError where it is not over or another process looks after it.
        """
        with self._mutex:
            self._ours()
            job = self.one(id)
            if not job.is_over:
                raise CollectionError(f"the job is {job.state}: only one that is over can go on")
            self._again.discard(id)
            return self._queue(job, "put in line again, to go on")

    def remove(self, id: str) -> None:
        """Forget a job that is over, its output with it; what it made stays.

        Raises NoSuchJob, and CollectionError where it is not over or another process looks after it.
        """
        with self._mutex:
            self._ours()
            job, place = self.one(id), self._place(id)
            if not job.is_over:
                raise CollectionError(f"the job is {job.state}: stop it first")
            (place / "job.json").unlink()  # the first: after it, there is no such job
            shutil.rmtree(place)

    # ---------------------------------------------------------------- look after

    @property
    def is_watching(self) -> bool:
        """Whether this process looks after the jobs."""
        return self._held is not None

    def begin(self) -> None:
        """Look after the jobs from now on, in a thread; where another process does, wait there for its end.

        Where they cannot be looked after, as on a disk that cannot be written, the log and every act say so.
        """
        if sys.platform == "win32":  # it has no groups of processes: `_ours` says so
            return
        self._ending = False
        self._turn()
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No longer look after them. What runs goes on, and is found by who comes next."""
        self._ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._mutex:
            if self._held is not None:
                self._held.release()
                self._held = None

    def _watch(self) -> None:
        while not self._ending:
            self._wake.wait(REST if self._trouble else LOOK)
            self._wake.clear()
            if not self._ending:
                self._turn()

    def _turn(self) -> None:
        trouble = ""
        with self._mutex:
            try:
                self._take()
                self._look()
            except (CollectionError, OSError, ValueError) as error:
                trouble = f"the jobs cannot be looked after: {error}"
            if trouble and trouble != self._trouble:
                _say.warning("%s", trouble)
            self._trouble = trouble

    def _take(self) -> None:
        """Become the one who looks after them, if nobody is."""
        from filelock import FileLock, Timeout

        if self._held is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(self.folder / "lock", thread_local=False)
        try:
            held.acquire(timeout=0)
        except Timeout:
            return
        try:
            there = self.all()
        except CollectionError:
            held.release()
            raise
        self._held = held
        self._open = {job.id for job in there if not job.is_over}
        for job in there:
            if job.state == "running" and self._lives(job.id):
                self._save(job, told="found running by a server that came anew")

    def _look(self) -> None:
        """Take in how the running ones stand, and start the next where none runs."""
        if self._held is None:
            return
        # One whose folder a person has taken away is no longer there.
        there = [job for id in sorted(self._open) if (job := self._job(self.folder / id)) is not None]
        running = [job for job in there if job.state == "running"]
        for job in running:
            if self._lives(job.id):
                if job.stopping:
                    self._urge(job, job.stopping)
            elif (outcome := self._read(job.id, "outcome.json")) is not None:
                self._settle(job, outcome["exit"], outcome["ended"])
            else:
                self._gone(job)
        if not running and (line := self.line(there)):
            self._launch(line[0])

    def _launch(self, job: Job) -> None:
        place = self._place(job.id)
        for name in ("outcome.json", "progress.json"):
            (place / name).unlink(missing_ok=True)
        self._sent.pop(job.id, None)
        fresh: dict[str, Any] = {"reason": "", "exit": None, "ended": None, "stopping": None}
        self._save(job, state="running", started=now(), told="started", **fresh)
        with (place / "output.txt").open("ab") as output:
            subprocess.run(  # back at once, when its child holds the lock; where it does not, that is found next
                [sys.executable, "-m", "imagier.workflows._jobs_child", str(place)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
            )

    def _urge(self, job: Job, since: str) -> None:
        """Send a job that is told to stop what makes it stop: each signal once."""
        late = time.time() - datetime.fromisoformat(since).timestamp() > GRACE
        number = signal.SIGKILL if late else signal.SIGINT
        group = (self._place(job.id) / "lock").read_text()
        if self._sent.get(job.id) != number and group:
            self._sent[job.id] = number
            os.killpg(int(group), number)  # it lives, so its number is nobody else's

    def _settle(self, job: Job, code: int, ended: str) -> None:
        """A job's command has ended with an exit code; negative: the signal that killed it."""
        state: Word = "failed"
        output = self.tail(job.id, 200)
        said = [line for line in output if line.startswith(("imagier: ", "Error: "))]
        reason = said[-1].partition(": ")[2] if said else f"it ended with the exit code {code}"
        if code == 0:
            state, reason = "done", ""
        elif code == SOME_FAILED:
            counts = re.findall(r"\d+ files: \d+ ok, (\d+) failed", "\n".join(output))
            state, reason = "done", f"{counts[-1]} files failed" if counts else reason
        elif code == NONE_SUCCEEDED:
            reason = "no file could be used"
        elif code == STOPPED or job.stopping:
            state, reason = "stopped", "what was done is kept, and it can go on from there"
        elif code == -signal.SIGKILL:
            reason = "the system killed it, most likely for want of memory; it can go on from where it was"
        elif code < 0:
            reason = f"the signal {-code} killed it; it can go on from where it was"
        told = f"{state}: {reason}" if reason else state
        self._save(job, state=state, reason=reason, exit=code, ended=ended, told=told)

    def _gone(self, job: Job) -> None:
        """A job's processes are dead, and did not say how they ended."""
        if job.stopping:
            late = self._sent.get(job.id) == signal.SIGKILL
            why = f"it did not stop by itself within {GRACE:.0f} seconds and was ended; " if late else ""
            why += "what was done is kept, and it can go on from there"
            self._save(job, state="stopped", reason=why, ended=now(), told=f"stopped: {why}")
            return
        job = self._save(job, state="broken", reason=MIDDLE, ended=now(), told=f"broken: {MIDDLE}")
        if job.id not in self._again:
            self._again.add(job.id)
            self._queue(job, "put in line again by itself, to go on")

    def _queue(self, job: Job, told: str) -> Job:
        return self._save(job, state="waiting", reason="", queued=now(), ended=None, stopping=None, told=told)

    def _save(self, job: Job, *, told: str, **changed: Any) -> Job:
        job = super()._save(job, told=told, **changed)
        (self._open.discard if job.is_over else self._open.add)(job.id)
        self._wake.set()
        return job

    def _lives(self, id: str) -> bool:
        """Whether anything of a job's processes lives."""
        if (held := lock(self._place(id))) is None:
            return True
        os.close(held)
        return False

    def _ours(self) -> None:
        if sys.platform == "win32":
            raise CollectionError("jobs cannot be started from here on Windows: use the command line")
        if self._trouble:
            raise CollectionError(self._trouble)
        if self._thread is None:
            raise CollectionError("nobody looks after the jobs: the app was not started by a server, or has ended")
        if self._held is None:
            raise CollectionError("another server looks after the jobs of this collection: ask that one, or end it")
