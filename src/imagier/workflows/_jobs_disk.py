"""What jobs are on disk, and reading them; jobs.py says where. Any process may read, at any time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from imagier.collection import write_whole
from imagier.types import CollectionError
from imagier.workflows._jobs_child import now

Word = Literal["waiting", "running", "done", "failed", "stopped", "broken"]

ENDED = ("done", "failed", "stopped", "broken")
TAIL = 64_000
"""Bytes of the output that its last lines are looked for in."""
NAME = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
ABSOLUTE = re.compile(r"(?<![\w./])/(?:[^/\s:,'\"]+/)+[^/\s:,'\"]*")
WHAT = ("id", "title", "kind", "argv", "author", "made")
"""Of a job, what job.json holds; the rest is state.json's."""


class NoSuchJob(CollectionError):
    """A job that is not there."""


@dataclass(frozen=True)
class Event:
    """Something that befell a job."""

    time: str
    text: str


@dataclass(frozen=True)
class Job:
    """A job, as it was when it was looked at."""

    id: str
    """Sorts by time."""
    title: str
    kind: str
    argv: tuple[str, ...]
    """The words after `imagier`."""
    author: str
    made: str
    state: Word = "waiting"
    reason: str = ""
    """Why it is in this state, in a sentence; may be empty. Of one that is done: a remark."""
    exit: int | None = None
    """The exit code; negative: the signal that killed it."""
    queued: str = ""
    """When it was put in line last."""
    started: str | None = None
    ended: str | None = None
    stopping: str | None = None
    """Since when it has been told to stop."""
    events: tuple[Event, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs or waits."""
        return self.state in ENDED


class JobsOnDisk:
    """The jobs of a folder, to read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Job]:
        """All jobs, the newest first. Raises CollectionError for one that cannot be read."""
        found = []
        for path in sorted(self.folder.glob("*/job.json"), reverse=True):
            if NAME.fullmatch(path.parent.name) and (job := self._job(path.parent)) is not None:
                found.append(job)
        return found

    def one(self, id: str) -> Job:
        """A job. Raises NoSuchJob, and CollectionError where it cannot be read."""
        if (job := self._job(self._place(id))) is None:
            raise _none(id)
        return job

    def line(self, there: Sequence[Job] | None = None) -> list[Job]:
        """The jobs that wait, who is next first. there: all jobs, where they have been read."""
        waiting = [job for job in (self.all() if there is None else there) if job.state == "waiting"]
        return sorted(waiting, key=lambda job: (job.queued, job.id))

    def progress(self, id: str) -> dict[str, Any] | None:
        """How far it is: what, done, total, unit, rate (a second), left_s, facts, made; None before it says so.

        Raises NoSuchJob.
        """
        told = self._read(id, "progress.json")
        return None if told is None else told | {"what": self.pathless(told["what"])}

    def tail(self, id: str, lines: int = 20) -> list[str]:
        """The last lines that it said, of a bar no more than it was last. Raises NoSuchJob."""
        path = self._place(id) / "output.txt"
        if path.is_symlink() or not path.is_file():  # a link may lead to what is nobody's business
            return []
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
        said = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [self.pathless(line) for line in said if line][-lines:]

    def pathless(self, text: str) -> str:
        """A text without where anything lies on this machine: the jobs' collection by its name, others by theirs."""
        home = self.folder.absolute().parent
        text = text.replace(str(home), home.name)
        return ABSOLUTE.sub(lambda found: found[0].rstrip("/").rpartition("/")[2], text)

    def _job(self, place: Path) -> Job | None:
        try:
            told = json.loads((place / "job.json").read_bytes()) | json.loads((place / "state.json").read_bytes())
            told |= {"argv": tuple(told["argv"]), "events": tuple(Event(**each) for each in told["events"])}
            return Job(**told)
        except FileNotFoundError:  # it is being made, or removed
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CollectionError(f"the job {place.name} cannot be read: {error}. Delete {place}.") from error

    def _place(self, id: str) -> Path:
        if not NAME.fullmatch(id) or not (self.folder / id / "job.json").is_file():
            raise _none(id)
        return self.folder / id

    def _read(self, id: str, name: str) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads((self._place(id) / name).read_bytes())
        except FileNotFoundError:
            return None
        return told

    def _save(self, job: Job, *, told: str, **changed: Any) -> Job:
        """Put a job's state on disk, with what befell it."""
        job = replace(job, **changed, events=(*job.events, Event(now(), told)))
        state = {name: value for name, value in asdict(job).items() if name not in WHAT}
        write_whole(self.folder / job.id / "state.json", as_json(state))
        return job


def as_json(told: Mapping[str, Any]) -> bytes:
    """As it is kept."""
    return json.dumps(told, indent=1, ensure_ascii=False).encode()


def _none(id: str) -> NoSuchJob:
    return NoSuchJob(f"there is no job {id[:60]!r}")
