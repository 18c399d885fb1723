"""Twenty people at once at one server that works beside, and a server that is killed while it does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drawn
import httpx
import pytest
from trainings import ALONE

from imagier import images
from imagier.collection import Collection
from imagier.workflows.run import run

STEPS = [
    {"tint": {}},
    {"segment": {"model": "nuclei", "least": 20}},
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 4}},
    {"cluster": {"k": 3}},
]
SLOW = {"kind": "run", "settings": {"tint.sleep": 0.25}, "report": False}
"""The 60 images then take many seconds."""
PEOPLE, ROUNDS = 20, 3
PATIENCE = 300
"""Seconds that anything here may take on a busy machine; nothing is judged by it."""

pytestmark = pytest.mark.slow


@pytest.fixture
def collection(tmp_path, plugs, monkeypatch) -> Collection:
    """60 drawn pictures of three kinds."""
    monkeypatch.setenv("OMP_NUM_THREADS", ALONE["OMP_NUM_THREADS"])
    pictures = drawn.fill(tmp_path / "images", each=20)
    return run(pictures, into=tmp_path / "out", pipeline=STEPS, report=False, threads=2)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """`imagier serve` in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "imagier.cli", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"(http://\S+:\d+)/", line)
            assert found is not None, line
            yield found[1], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[0]
    assert "Traceback" not in rest, rest


def until(happens: Callable[[], Any]) -> Any:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := happens():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


class Person:
    """A client that comes again where it is told to, and takes nothing but success."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=address, timeout=PATIENCE)

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        for _ in range(200):
            answer = self.client.request(method, f"/api/v1{path}", **given)
            if answer.status_code != 503:
                assert answer.status_code in (200, 201), (method, path, answer.status_code, answer.text)
                return answer
            time.sleep(int(answer.headers["retry-after"]) / 5)
        raise AssertionError(f"{path}: many wait, for ever")

    def job(self, id: str) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("GET", f"/jobs/{id}").json()
        return told


def test_a_crowd_browses_labels_and_predicts_while_a_run_goes_on(collection):
    some = collection.read(["id"])["id"].to_pylist()
    picture = images.encode(drawn.picture("checks", 5), "png")
    gate = threading.Barrier(PEOPLE)

    def visit(number: int, address: str) -> list[str]:
        """What a person does; the acts by which it labelled."""
        with Person(address) as one:
            gate.wait()
            return carried_out(one, number)

    def carried_out(one: Person, number: int) -> list[str]:
        acts = []
        for at in range(ROUNDS):
            item = some[(number + at * PEOPLE) % len(some)]
            page = one.ask("GET", "/items", params={"where": f"group={at}", "sort": "-name", "limit": 30}).json()
            assert page["total"] >= len(page["items"])
            assert one.ask("GET", f"/items/{item}").json()["id"] == item
            for kind in ("thumbnail", "image?side=64", "layers/masks", "enhanced?how=contrast"):
                assert one.ask("GET", f"/items/{item}/{kind}").headers["content-type"].startswith("image/")
            found = one.ask("POST", "/search", params={"n": 3}, files={"image": ("a.png", picture)}).json()
            assert found["hits"][0]["name"] == "checks_5.png"
            assert one.ask("GET", f"/items/{item}/similar", params={"n": 3}).json()["hits"]
            said = {"items": [item], "label": f"label {number} {at}", "author": f"person {number}"}
            acts.append(one.ask("POST", "/labels", json=said).json()["act"])
            assert one.ask("GET", "/jobs").json()["watching"] is True
        sent = {"files": {"image": (f"{number}.png", picture)}, "data": {"model": "nuclei"}}
        (told,) = one.ask("POST", "/predict", **sent).json()["images"]
        assert (told["name"], told["outcome"]) == (f"{number}.png", "ok")
        return acts

    with served(collection.folder) as (address, _), Person(address) as chief:
        going = chief.ask("POST", "/jobs", json=SLOW).json()["id"]
        until(lambda: chief.job(going)["state"] == "running")
        with ThreadPoolExecutor(PEOPLE) as pool:
            coming = [pool.submit(visit, number, address) for number in range(PEOPLE)]
            lined = [chief.ask("POST", "/jobs", json={"kind": "export", "to": "csv"}).json()["id"] for _ in range(3)]
            acts = [act for each in coming for act in each.result()]
        for id in (going, *lined):
            told = until(lambda id=id: (now := chief.job(id))["state"] not in ("waiting", "running") and now)
            assert (told["state"], told["exit"]) == ("done", 0), told
        assert {each["id"] for each in chief.ask("GET", "/jobs").json()["jobs"]} == {going, *lined}

        history = chief.ask("GET", "/labels", params={"limit": 1000}).json()
        assert history["total"] == len(acts) == len(set(acts)) == PEOPLE * ROUNDS
        assert {row["act"] for row in history["rows"]} == set(acts)
        assert min(row["made"] for row in history["rows"]) < chief.job(going)["ended"]
        last = {some[(number + at * PEOPLE) % len(some)]: f"label {number} {at}"
                for number in range(PEOPLE) for at in range(ROUNDS)}  # fmt: skip
        export = chief.ask("GET", "/labels/export", headers={"accept": "application/json"}).json()
        assert {row["item"]: row["label"] for row in export} == last
        assert chief.ask("GET", "").json()["items"] == len(some)
    now = Collection.open(collection.folder)
    assert now.receipt("tint").settings["sleep"] == 0.25
    assert len(now) == len(some)


@pytest.mark.parametrize("whole", [False, True], ids=["the server alone", "the machine"])
def test_a_server_that_is_killed_comes_again_and_its_jobs_are_done(collection, whole):
    with served(collection.folder) as (address, process), Person(address) as chief:
        going = chief.ask("POST", "/jobs", json=SLOW).json()["id"]
        lined = chief.ask("POST", "/jobs", json={"kind": "export", "to": "csv"}).json()["id"]
        item = chief.ask("GET", "/items", params={"limit": 1}).json()["items"][0]["id"]
        chief.ask("POST", "/labels", json={"items": [item], "label": "kept", "author": "ada"})
        until(lambda: ((chief.job(going)["progress"] or {}).get("done") or 0) >= 4)
        process.kill()
        process.wait()
    group = int((collection.folder / "jobs" / going / "lock").read_text())
    if whole:
        os.killpg(group, signal.SIGKILL)
    with served(collection.folder) as (address, _), Person(address) as chief:
        assert {each["id"] for each in chief.ask("GET", "/jobs").json()["jobs"]} == {going, lined}
        told = [
            until(lambda id=id: (now := chief.job(id))["state"] not in ("waiting", "running") and now)
            for id in (going, lined)
        ]
        assert [(each["state"], each["exit"]) for each in told] == [("done", 0)] * 2, told
        befell = [each["text"] for each in told[0]["events"]]
        if whole:
            assert "broken: the machine or the program stopped in the middle" in befell
            assert "put in line again by itself, to go on" in befell
        else:
            assert "found running by a server that came anew" in befell
        assert befell[-1] == "done"
        assert chief.ask("GET", f"/items/{item}").json()["label_user"] == "kept"
    assert Collection.open(collection.folder).receipt("tint").settings["sleep"] == 0.25
