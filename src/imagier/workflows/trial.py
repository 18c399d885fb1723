"""trial: one's own images through a preset or models, and nothing of them left afterwards unless that is asked for.

    with closing(Trials(root)) as trials:
        trial = trials.put([("a.tif", data)], preset="lesions", models=["my-segmenter"])
        trial.wait()
        print(result(trial))

A trial is a small collection in a folder of its own, made by a run in a child process, one trial after another. It goes
an hour after it ended, when it is removed, and when all are closed.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from imagier import presets
from imagier._names import distinct
from imagier.collection import Collection
from imagier.models.model import Model, read_model
from imagier.pipeline import Pipeline
from imagier.types import ImagierError, ModelError, SettingError, nearest
from imagier.workflows import _trial_result, _trial_sent
from imagier.workflows._trial_plan import fitted, needs, pipeline_for
from imagier.workflows._trial_runner import BrokenOff, Runner
from imagier.workflows._trial_sent import MOST_BYTES, MOST_FILES, MOST_PIXELS, Sent
from imagier.workflows.browse import Browser, NoSuchItem

__all__ = ["Busy", "Limits", "NoSuchTrial", "Trial", "Trials", "archive", "keep", "pipeline_for", "result"]

_say = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "removed"]
DIRECTORIES = re.compile(r"(?<![\w./:])(?:[A-Za-z]:)?(?:[/\\][^/\\\s'\":;,]+)*[/\\](?=[^/\\\s])")
"""What stands before the last name of an absolute path."""
TICK = 5.0
"""Seconds between two looks for what is to go."""


class NoSuchTrial(NoSuchItem):
    """A trial that has been removed, or never was, or has not come so far."""


class Busy(ImagierError):
    """Too many wait: come again."""


@dataclass(frozen=True)
class Limits:
    """What trials may take."""

    files: int = MOST_FILES
    bytes: int = MOST_BYTES
    pixels: int = MOST_PIXELS
    """Of a file."""
    seconds: float = 300.0
    """Of a run; then it is ended."""
    memory: int = 4 * 2**30
    """Bytes, of the process."""
    waiting: int = 32
    """Trials that run or wait."""
    trials: int = 50
    """That have ended, of which the oldest go."""
    disk: int = 4 * 2**30
    """Bytes of what was sent to all that are there."""
    kept: float = 3600.0
    """Seconds that a trial stays after it ended."""
    idle: float = 600.0
    """Seconds after which the process goes, when no trial is there any more."""


@dataclass(eq=False)
class Trial:
    """One. What becomes of it is written by `Trials` alone."""

    id: str
    folder: Path
    steps: list[dict[str, Any]] | None
    """As YAML would give them; None: those of the collection that it is placed in."""
    like: Path | None
    bytes: int = 0
    state: State = "waiting"
    reason: str | None = None
    """Why it failed."""
    refused: dict[str, str] = field(default_factory=dict)
    """Files that were not put through, with the reason."""
    started: float | None = None
    ended: float | None = None
    """By time.monotonic()."""
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while its folder is read for long, or removed."""

    def wait(self, seconds: float | None = None) -> bool:
        """Until it has ended or is removed; whether it has."""
        return self.over.wait(seconds)

    @property
    def sent(self) -> Path:
        """The folder of what was sent."""
        return self.folder / "sent"

    @property
    def names(self) -> list[str]:
        """What the files are called, sorted; an archive's files are its own once it is unpacked."""
        return sorted(path.name for path in self.sent.iterdir()) if self.sent.is_dir() else []

    @cached_property
    def browser(self) -> Browser:
        """The collection that was made. Raises NoSuchTrial where there is none."""
        if self.state != "done" or not (self.folder / "out" / "collection.json").is_file():
            raise NoSuchTrial(f"the trial has no items: {self.reason or f'it is {self.state}'}")
        return Browser(Collection.open(self.folder / "out"))

    @cached_property
    def told(self) -> dict[str, Any]:
        """Its `result`."""
        return _trial_result.result(self.names, self.refused, self.made)

    @property
    def made(self) -> Browser | None:
        """The same, or None where no file was an image."""
        return self.browser if (self.folder / "out" / "collection.json").is_file() else None

    def progress(self) -> dict[str, Any]:
        """How many files have an outcome, of how many; files a second; seconds left: both None at first."""
        total = len(self.names)
        if self.state == "done":
            return {"done": total, "total": total, "rate": None, "left": 0.0}
        out = Collection(self.folder / "out")
        done = out.stored_files().num_rows if self.state == "running" and out.exists() else 0
        seconds = time.monotonic() - self.started if self.started is not None else 0.0
        rate = done / seconds if done and seconds else None
        return {"done": done, "total": total, "rate": rate, "left": (total - done) / rate if rate else None}


class Trials:
    """Those of a server. Serves many threads; one trial runs at a time."""

    def __init__(
        self,
        root: Path,
        *,
        collection: Collection | None = None,
        models: Sequence[Model] = (),
        limits: Limits | None = None,
    ) -> None:
        """root: an empty folder, or none yet; it is made this user's alone, and removed by `close`.

        collection: whose models are offered, and whose steps are taken where none are named. models: others that are
        offered. Raises SettingError for a folder that holds something.
        """
        self.root, self.collection, self.given, self.limits = root, collection, tuple(models), limits or Limits()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise SettingError(f"{root} is not empty: trials need a folder of their own, which is removed in the end")
        root.chmod(0o700)
        self._runner = Runner(root, seconds=self.limits.seconds, memory=self.limits.memory)
        self._lock = threading.Condition()
        self._there: dict[str, Trial] = {}
        self._line: deque[Trial] = deque()
        self._coming = 0
        self._closed = False
        self._worked = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="trials", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process that trials run in, while there is one."""
        return self._runner.pid

    def models(self) -> dict[str, Model]:
        """What is offered, by name: models that were given, the collection's own, those that ship."""
        from imagier.models.store import built_in

        own = self.collection.folder / "models" if self.collection is not None else None
        folders = sorted(path.parent for path in own.glob("[!.]*/model.json")) if own is not None else []
        found = {each.folder: each for each in self.given}
        for folder in (*folders, *built_in().values()):
            try:
                found.setdefault(folder, read_model(folder))
            except ModelError as error:  # the others can be named all the same
                _say.warning("a model is not offered: %s", error)
        names = distinct([model.card.name for model in found.values()])
        return dict(zip(names, found.values(), strict=True))

    def presets(self) -> list[dict[str, Any]]:
        """What is offered: `name`, `what`, and what `_trial_plan.needs` tells of each."""
        return [{"name": name, "what": presets.about(name)} | needs(name) for name in presets.names()]

    def put(self, files: Iterable[Sent], *, preset: str | None = None, models: Sequence[str] = ()) -> Trial:
        """Take in images, or ZIP archives of them, and put them in the line. Names are of those that are offered.

        Raises SettingError, ModelError for what cannot be, Busy where too many wait.
        """
        steps, like = self._plan(preset, models)
        ident = secrets.token_hex(16)
        trial = Trial(ident, self.root / ident, steps, like)
        with self._lock:
            waiting = sum(each.state in ("waiting", "running") for each in self._there.values()) + self._coming
            if self._closed:
                raise Busy("the server has ended, or is about to")
            if waiting >= self.limits.waiting:
                raise Busy("many trials wait already: try again in some seconds")
            self._coming += 1
        try:
            trial.folder.mkdir(mode=0o700)
            trial.sent.mkdir(mode=0o700)
            trial.bytes = _trial_sent.take(
                files, trial.sent, most_files=self.limits.files, most_bytes=self.limits.bytes
            )
            with self._lock:
                if self._closed:
                    raise Busy("the server is ending")
                if trial.bytes + sum(each.bytes for each in self._there.values()) > self.limits.disk:
                    raise Busy("earlier trials take all the room there is: remove some, or try again later")
                self._there[ident] = trial
                self._line.append(trial)
                self._lock.notify_all()
        except BaseException:
            shutil.rmtree(trial.folder, ignore_errors=True)
            raise
        finally:
            with self._lock:
                self._coming -= 1
                self._lock.notify_all()
        return trial

    def get(self, ident: str) -> Trial:
        """A trial that is there. Raises NoSuchTrial."""
        with self._lock:
            if ident not in self._there:
                raise NoSuchTrial("there is no such trial: it has been removed, or never was")
            return self._there[ident]

    def remove(self, ident: str) -> None:
        """Let go of a trial and of all that was made of it; where it runs, it is broken off. Raises NoSuchTrial."""
        self.discard(self.get(ident))

    def discard(self, trial: Trial) -> None:
        """The same, of a trial that may be gone already."""
        with self._lock:
            self._there.pop(trial.id, None)
            if trial in self._line:
                self._line.remove(trial)
            trial.state = "removed"
        if trial.started is not None:
            trial.over.wait()  # its folder is written to until then
        with trial.lock:
            shutil.rmtree(trial.folder, ignore_errors=True)
        trial.over.set()

    def close(self) -> None:
        """Break off what runs, and leave nothing."""
        with self._lock:
            self._closed = True
            while self._coming:
                self._lock.wait()
            there = [*self._there.values()]
            self._there.clear()
            self._line.clear()
            for trial in there:
                trial.state = "removed"
            self._lock.notify_all()
        if threading.current_thread() is not self._thread:  # it may be there that what held this was collected
            self._thread.join()
        self._runner.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        for trial in there:
            trial.over.set()

    # ---------------------------------------------------------------- the line

    def _plan(self, preset: str | None, names: Sequence[str]) -> tuple[list[dict[str, Any]] | None, Path | None]:
        """Steps, or the collection in whose map and groups the images are placed; each found good."""
        offered = self.models()
        for name in names:
            if name not in offered:
                raise SettingError(nearest("model", name, offered))
        own = self.collection
        try:
            if preset is None and not names and own is not None and (placing := fitted(own)) is not None:
                return None, placing.folder
            chosen = [offered[name] for name in dict.fromkeys(names)]
            steps = pipeline_for(preset, chosen, own, among=offered.values())
            Pipeline.of(steps).bind()
        except ImagierError as error:
            raise type(error)(self._told(str(error))) from error
        return steps, None

    def _told(self, text: str) -> str:
        """A message without where things lie on this machine; models by the names under which they are offered."""
        places: Mapping[str, str] = {str(model.folder): name for name, model in self.models().items()}
        for place, name in places.items():
            text = text.replace(place, name)
        return DIRECTORIES.sub("", text)

    def _work(self) -> None:
        """Trial after trial, until it is closed; what has been there for long goes meanwhile."""
        while True:
            with self._lock:
                if not self._line and not self._closed:
                    self._lock.wait(TICK)
                if self._closed:
                    return
                old = self._old()
                trial = self._line.popleft() if self._line else None
                if trial is not None:
                    trial.state, trial.started = "running", time.monotonic()
            for each in old:
                with each.lock:
                    shutil.rmtree(each.folder, ignore_errors=True)
            if trial is not None:
                self._carry_out(trial)
                self._worked = time.monotonic()
            elif time.monotonic() - self._worked > self.limits.idle and not self._there:
                self._runner.stop()  # before that it stays: where this process dies, that one removes the trials

    def _carry_out(self, trial: Trial) -> None:
        limits = self.limits
        like = None if trial.like is None else str(trial.like)
        job: dict[str, Any] = {"folder": str(trial.folder), "steps": trial.steps, "like": like}
        job |= {"sizes": {"most_files": limits.files, "most_bytes": limits.bytes}, "most_pixels": limits.pixels}
        try:
            answer = self._runner.do(job, lambda: trial.state == "running")
        except BrokenOff as error:
            answer = {"failed": f"the trial broke off: {error}"}
        with self._lock:
            if trial.state == "running":
                if "failed" in answer:
                    trial.reason = self._told(answer["failed"].replace(str(trial.folder), "trial"))
                trial.refused = answer.get("refused", {})
                trial.ended = time.monotonic()
                trial.bytes = _trial_result.bytes_of(trial.folder)
                trial.state = "failed" if "failed" in answer else "done"  # last: who sees it reads the rest
        trial.over.set()

    def _old(self) -> list[Trial]:
        """Trials that have been there for long or are too many, let go of; their folders are still to be removed."""
        now = time.monotonic()
        ended = sorted((t for t in self._there.values() if t.ended is not None), key=lambda t: t.ended or 0.0)
        many = len(ended) - self.limits.trials
        old = [t for at, t in enumerate(ended) if at < many or now - (t.ended or 0.0) > self.limits.kept]
        for trial in old:
            del self._there[trial.id]
            trial.state = "removed"
        return old


def result(trial: Trial) -> dict[str, Any]:
    """`images`: name, outcome (ok or failed), reason, and items, each with all that is light of it and the columns of
    `masks` that it has; `notice`: what must stand on every result. Raises NoSuchTrial where it has not ended well."""
    if trial.state != "done":
        raise NoSuchTrial(f"the trial has no result: {trial.reason or f'it is {trial.state}'}")
    return trial.told


def archive(trial: Trial) -> Path:
    """The path of a ZIP in the trial's folder: result.json as `result` tells it, items.csv, the masks of each image as
    PNGs of 16 bits with a number an object, and the images with them tinted. Raises NoSuchTrial."""
    told = result(trial)
    with trial.lock:
        path = trial.folder / "archive.zip"
        if trial.state != "done":
            raise NoSuchTrial("the trial has been removed")
        made = None if trial.made is None else trial.made.collection
        return path if path.is_file() else _trial_result.archive(told, made, path)


def keep(trial: Trial, collection: Collection, start: Callable[[Sequence[str]], str]) -> tuple[str, str]:
    """Copy the images into the collection's own folder `added`, and have them taken in.

    start: starts the command of these words as a job, and gives its id. Files that failed are left out.
    The job's id, and the folder, relative to the collection's. Raises NoSuchTrial, CollectionError, and what `start`
    raises: then nothing was copied.
    """
    names = [each["name"] for each in result(trial)["images"] if each["outcome"] == "ok"]
    if not names:
        raise SettingError("none of the files is an image: there is nothing to keep")
    with trial.lock:
        folder = _trial_result.keep(trial.sent, names, collection, trial.id)
        try:
            job = start(["run", str(folder), "--into", str(collection.folder)])
        except ImagierError:
            shutil.rmtree(folder)
            raise
    return job, folder.relative_to(collection.folder).as_posix()
