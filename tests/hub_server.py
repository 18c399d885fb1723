"""A hub on this machine: the part of huggingface.co's protocol that a download speaks, over real files.

Two servers, as there: the hub answers what a repository holds and redirects to where large files lie, and the store
behind it sends them, also from the middle (Range). A transfer can be cut on purpose, and everything asked is logged.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".bin", ".pt", ".pth", ".tflite")
"""Suffixes of files that lie in the store; the hub sends the others itself."""


@dataclass
class Commit:
    files: dict[str, bytes]
    licence: str | None


@dataclass
class Asked:
    method: str
    path: str
    start: int = 0
    """Where the answer was asked to begin."""
    sent: int = 0
    """Bytes of the body that were sent."""
    agent: str = ""


@dataclass
class Hub:
    repos: dict[str, dict[str, Commit]] = field(default_factory=dict)
    """Repository -> its commits, of which the last is main."""
    log: list[Asked] = field(default_factory=list)
    cut_after: int | None = None
    """The next transfers end after so many bytes of the file."""
    cuts: int = 0
    """How many transfers are to be cut."""
    hold_after: int | None = None
    """Transfers stop there, and wait until the other end is gone."""
    wrong: bytes | None = None
    """What the store sends instead of any file, under the file's own hash: a line that damages."""
    gated: set[str] = field(default_factory=set)

    def __enter__(self) -> Hub:
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(self)) for _ in range(2)]
        self.url, self.store = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)
        self.threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in self.servers]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for server, thread in zip(self.servers, self.threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()

    def publish(self, repo: str, files: Mapping[str, bytes | Path], licence: str | None = "apache-2.0") -> str:
        """A new commit of a repository; gives its hash."""
        content = {name: each.read_bytes() if isinstance(each, Path) else each for name, each in files.items()}
        told = json.dumps([len(self.repos.get(repo, {})), licence, {k: sha256(v) for k, v in content.items()}])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.repos.setdefault(repo, {})[commit] = Commit(content, licence)
        return commit

    def of(self, repo: str, revision: str) -> tuple[str, Commit] | None:
        commits = self.repos[repo]
        commit = list(commits)[-1] if revision == "main" else revision
        return (commit, commits[commit]) if commit in commits else None

    def bodies(self) -> list[Asked]:
        """Transfers of files: what was asked of the store, and small files."""
        return [each for each in self.log if each.method == "GET" and not each.path.startswith("/api/") and each.sent]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            asked = Asked(self.command, self.path, agent=self.headers.get("User-Agent", ""))
            hub.log.append(asked)
            path = unquote(urlsplit(self.path).path)
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self.info(match[1], match[2] or "main")
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve(asked, *match.groups())
            elif match := re.fullmatch(r"/store/([0-9a-f]{64})", path):
                self.send_stored(asked, match[1])
            else:
                self.refuse(404, "", f"nothing at {path}")

        def refuse(self, status: int, code: str, message: str) -> None:
            self.reply(status, {"X-Error-Code": code, "X-Error-Message": message}, b"")

        def reply(self, status: int, headers: Mapping[str, str], body: bytes, length: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def found(self, repo: str, revision: str) -> tuple[str, Commit] | None:
            if repo not in hub.repos:
                self.refuse(404, "RepoNotFound", "Repository not found")
            elif repo in hub.gated:
                self.refuse(403, "GatedRepo", "Access to this repository is restricted")
            elif (found := hub.of(repo, revision)) is None:
                self.refuse(404, "RevisionNotFound", "Invalid rev id")
            else:
                return found
            return None

        def info(self, repo: str, revision: str) -> None:
            if (found := self.found(repo, revision)) is None:
                return
            commit, held = found
            siblings = []
            for name, content in held.files.items():
                one = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
                if name.endswith(LARGE):
                    one["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 130}
                siblings.append(one)
            told = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": [], "private": False}
            told["cardData"] = {"license": held.licence} if held.licence else {}
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

        def resolve(self, asked: Asked, repo: str, revision: str, name: str) -> None:
            if (found := self.found(repo, revision)) is None:
                return
            commit, held = found
            if name not in held.files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            content, headers = held.files[name], {"X-Repo-Commit": commit}
            if name.endswith(LARGE):
                headers |= {"X-Linked-ETag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
                return self.reply(302, headers | {"Location": f"{hub.store}/store/{sha256(content)}"}, b"")
            asked.sent = len(content) if self.command == "GET" else 0
            return self.reply(200, headers | {"ETag": f'"{git_hash(content)}"'}, content)

        def send_stored(self, asked: Asked, wanted: str) -> None:
            held = (each for repo in hub.repos.values() for commit in repo.values() for each in commit.files.values())
            content = next(each for each in held if sha256(each) == wanted)
            if hub.wrong is not None:
                content = hub.wrong.ljust(len(content), b"!")[: len(content)]
            whole = len(content)
            headers, status = {"ETag": f'"{wanted}"', "Accept-Ranges": "bytes"}, 200
            if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                asked.start, status = int(match[1]), 206
                headers["Content-Range"] = f"bytes {asked.start}-{whole - 1}/{whole}"
            body = content[asked.start :]
            length = len(body)
            if hub.cuts and hub.cut_after is not None and length > hub.cut_after:
                hub.cuts -= 1
                body, self.close_connection = body[: hub.cut_after], True
            if hub.hold_after is not None:
                self.reply(status, headers, body[: hub.hold_after], length)
                self.connection.settimeout(60)
                self.connection.recv(1)
                return
            asked.sent = len(body)
            self.reply(status, headers, body, length)

    return Handler
