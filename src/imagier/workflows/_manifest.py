"""The manifest of `organise`: every act written down before it is done, and what came of it after.

    {"plan": {"by": "group", "to": "/out/organised", "how": "copy"}}      a plan a person may look at, not applied yet
    {"act": 7, "action": "copy", "source": ..., "destination": ...}       about to be done
    {"act": 7, "state": "done", "size": 4711, "sha256": ...}              done; later lines change what earlier ones say
    {"applied": {...}}                                                    the whole plan was gone through

Lines of JSON, only ever added to. A line that a dying process left half written counts as never written.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from imagier.types import CollectionError


@dataclass
class Act:
    """One thing done to the disk. All paths are absolute."""

    number: int
    action: str
    """copy, crop, hardlink, symlink, move, or mkdir."""
    destination: str
    source: str = ""
    id: str = ""
    to: str = ""
    """The folder that the plan was for."""
    size: int = -1
    mtime_ns: int = -1
    """Of the destination, once it is done."""
    sha256: str = ""
    temp: str = ""
    """The file that the content is gathered in until it is whole."""
    placeholder: str = ""
    """An empty file put down to hold a name, where the file system knows no hard links."""
    link: str = ""
    """The text of the symbolic link at the source."""
    link_mtime_ns: int = -1
    target: str = ""
    """The text of the symbolic link at the destination."""
    state: str = "open"
    """open: begun. done. failed: never came about. undoing, undone. left: undone, but what stands there stays."""


@dataclass
class Manifest:
    """What the manifest says, and the file open for more of it."""

    path: Path
    acts: dict[int, Act] = field(default_factory=dict)
    pending: dict[str, str] | None = None
    """Settings of the plan that was last written and has not been applied."""
    _out: BinaryIO | None = None

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest at `path`, empty where there is none. Raises CollectionError when it is damaged."""
        manifest = cls(path)
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return manifest
        except OSError as error:
            raise CollectionError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines[:-1], 1):  # what stands after the last line's end was never wholly written
            try:
                manifest._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise CollectionError(
                    f"{path}, line {number}, is damaged, so what was organised is not known for sure. Restore the file "
                    "from a backup, or put its name aside: then what was laid out stays as it is."
                ) from error
        return manifest

    def __enter__(self) -> Manifest:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._out = self.path.open("ab")
        data = self.path.read_bytes()
        if not data.endswith(b"\n"):
            self._out.truncate(data.rfind(b"\n") + 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None

    def begin(self, act: Act) -> Act:
        """Write down an act before it is done."""
        plain = {each.name: getattr(act, each.name) for each in fields(Act) if getattr(act, each.name) != each.default}
        del plain["number"]
        self._add({"act": act.number, **plain})
        return self.acts[act.number]

    def note(self, act: Act, **changes: Any) -> None:
        """Write down what became of an act."""
        self._add({"act": act.number, **changes})

    def plan(self, settings: dict[str, str]) -> None:
        """Write down that a plan was made and can be looked at."""
        self._add({"plan": settings})

    def applied(self, settings: dict[str, str]) -> None:
        """Write down that there is no plan to be followed any more."""
        self._add({"applied": settings})

    def sync(self) -> None:
        """Have the disk itself hold what was written: after this it outlasts a power cut."""
        if self._out is not None:
            os.fsync(self._out.fileno())

    @property
    def next(self) -> int:
        """The number of the next act."""
        return len(self.acts) + 1

    def standing(self) -> list[Act]:
        """The acts that are done and not undone, in order."""
        return [act for act in self.acts.values() if act.state == "done"]

    def _add(self, line: dict[str, Any]) -> None:
        if self._out is None:
            raise RuntimeError("the manifest is not open for writing")
        self._out.write(json.dumps(line).encode() + b"\n")  # ASCII: names that are no Unicode come back as they were
        self._out.flush()
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "plan" in line:
            self.pending = line["plan"]
        elif "applied" in line:
            self.pending = None
        elif "action" in line:
            self.acts[line["act"]] = Act(**{("number" if key == "act" else key): line[key] for key in line})
        else:
            act = self.acts[line["act"]]
            for key in line.keys() - {"act"}:
                if not hasattr(act, key):
                    raise KeyError(key)
                setattr(act, key, line[key])
