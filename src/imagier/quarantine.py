"""Quarantine: files that an earlier run died over go one by one through a child process, which dies in its stead.

A file that kills the child as well has killed twice, and is `failed`. A person's stop, or a kill of the whole program,
hits the parent, and so makes no file guilty.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import IO, Any

import pyarrow as pa

from imagier.execute import Contents, Done, Pass, Work, Worker
from imagier.pipeline import Named, Pipeline
from imagier.types import ImagierError


def one_by_one(works: Sequence[Work], worker: Worker) -> Generator[list[Done], None, None]:
    """The outcomes of suspects, as `execute.map_files` gives them."""
    child = Child(worker)
    try:
        for work in works:
            yield [child.process(work)]
    finally:
        child.close()


class Child:
    """A process that takes one file at a time."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._process: subprocess.Popen[bytes] | None = None

    def process(self, work: Work) -> Done:
        """The file's outcome; `failed` where the child died over it.

        The file is read and hashed here, so that a copy of it is not taken for another file, now or later.
        """
        begun = self.worker.begin(work)
        if isinstance(begun, Done):
            return begun
        if self._process is None:
            self._start()
        try:
            self._send(asdict(work))
            head, body = self._receive()
        except (BrokenPipeError, EOFError):
            how = self._end()
            return Done(work, begun[1], "failed", f"the program died twice while it had this file in hand ({how})")
        items = pa.ipc.open_stream(body).read_all() if body else None
        return Done(**{**head, "work": work, "items": items})

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "imagier.quarantine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            self._send({"steps": [Named(s.stage.name, s.settings, s.name).written for s in self.worker.joined.steps]})
            self._receive()  # ready: from here on, its death is the file's doing
        except (BrokenPipeError, EOFError):
            raise ImagierError(
                f"files that an earlier run died over are tried in a process of their own, which did not start "
                f"({self._end()}; what it said is above). Put that right and run the same command to go on."
            ) from None

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._end()

    def _end(self) -> str:
        """Wait for the child's end; how it came."""
        assert self._process is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        code, self._process = self._process.returncode, None
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return _receive(self._process.stdout)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    sizes = pipe.read(16)
    if len(sizes) < 16:
        raise EOFError
    head, body = struct.unpack(">QQ", sizes)
    text, data = pipe.read(head), pipe.read(body)
    if len(text) < head or len(data) < body:
        raise EOFError
    return json.loads(text), data


def _be_child() -> None:
    """The child's loop: a JSON line per file in, outcome and items out. Ends when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it ends this loop
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a stage prints must not fall into the answers
    first = json.loads(sys.stdin.buffer.readline())
    worker = Worker(Pass(Pipeline(tuple(Named(**step) for step in first["steps"])).bind()), Contents({}, {}))
    worker.joined.load()
    _answer(out, {}, b"")
    for line in sys.stdin.buffer:
        (done,) = worker.process([Work(**json.loads(line))])
        body = b""
        if done.items is not None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, done.items.schema) as stream:
                stream.write_table(done.items)
            body = sink.getvalue().to_pybytes()
        head = {"hash": done.hash, "outcome": done.outcome, "reason": done.reason, "pages": done.pages}
        _answer(out, head, body)


def _answer(out: IO[bytes], head: dict[str, Any], body: bytes) -> None:
    text = json.dumps(head).encode()
    out.write(struct.pack(">QQ", len(text), len(body)) + text + body)
    out.flush()


if __name__ == "__main__":
    _be_child()
