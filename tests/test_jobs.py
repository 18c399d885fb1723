"""Jobs: real ones, as processes of the command line: their line, their progress, their ends; servers that die; REST."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trainings import ALONE

from imagier import _progress, images, labels
from imagier.collection import Collection
from imagier.models.model import read_model
from imagier.pipeline import Pipeline
from imagier.types import CollectionError, ImagierError, SettingError
from imagier.web import make_app
from imagier.workflows import jobs as work
from imagier.workflows import orders
from imagier.workflows.jobs import Job, Jobs, NoSuchJob
from imagier.workflows.run import run

STEPS = [
    {"tint": {}},
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 4}},
    {"cluster": {"k": 3}},
]
SLOW = {"tint.sleep": 0.1}
"""The 60 images then take some seconds."""
PATIENCE = 300
"""Seconds that anything here may take on a busy machine; nothing is judged by it."""


def until(happens: Callable[[], Any]) -> Any:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := happens():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def over(jobs: Jobs, job: Job) -> Job:
    until(lambda: jobs.one(job.id).is_over)
    return jobs.one(job.id)


def half_way(jobs: Jobs, job: Job) -> None:
    """Wait until some images of it are done and some are not."""
    until(lambda: 4 <= ((jobs.progress(job.id) or {}).get("done") or 0) < 50)


def said(job: Job) -> list[str]:
    return [each.text for each in job.events]


def group(jobs: Jobs, job: Job) -> dict[str, psutil.Process]:
    """The processes of a job that runs: its own, and the command."""
    leader = int((jobs.folder / job.id / "lock").read_text())
    found = [each for each in psutil.process_iter() if os.getpgid(each.pid) == leader]
    words = {each: " ".join(each.cmdline()) for each in found}
    return {
        "own": next(each for each in found if "_jobs_child" in words[each]),
        "command": next(each for each in found if "imagier.cli" in words[each]),
    }


def decoded(jobs: Jobs, job: Job) -> list[int]:
    """How many images each run of the job that came to its end decoded."""
    return [int(each) for each in re.findall(r"(\d+) decoded", "\n".join(jobs.tail(job.id, 500)))]


@pytest.fixture
def collection(tmp_path, plugs, monkeypatch) -> Collection:
    """60 drawn pictures of three kinds."""
    monkeypatch.setenv("OMP_NUM_THREADS", ALONE["OMP_NUM_THREADS"])
    pictures = drawn.fill(tmp_path / "images", each=20)
    return run(pictures, into=tmp_path / "out", pipeline=STEPS, report=False, threads=2)


@pytest.fixture
def jobs(collection) -> Iterator[Jobs]:
    made = Jobs(collection.folder / "jobs")
    with looked_after(made):
        yield made


@contextmanager
def looked_after(jobs: Jobs) -> Iterator[None]:
    """Begun, and ended with nothing left running, also where a test fails."""
    jobs.begin()
    yield
    for job in jobs.all():
        if not job.is_over and jobs.is_watching:
            jobs.stop(job.id)
            over(jobs, job)
    jobs.end()


# ---------------------------------------------------------------- the line


@pytest.mark.slow
def test_one_after_another_in_order(collection, jobs):
    first = orders.run(collection, settings=SLOW, report=False).start(jobs, "Ada")
    second = orders.export(collection, jobs, to="csv").start(jobs)
    third = orders.run(collection, settings={"cluster.k": 2}, report=False).start(jobs)
    until(lambda: jobs.one(first.id).state == "running")
    assert [job.id for job in jobs.line()] == [second.id, third.id]
    assert [job.id for job in jobs.all()] == [third.id, second.id, first.id]
    done = [over(jobs, job) for job in (first, second, third)]
    assert [(job.state, job.exit) for job in done] == [("done", 0)] * 3
    for one, next_ in itertools.pairwise(done):
        assert one.started < one.ended <= next_.started
    assert said(done[0]) == ["put in line", "started", "done"]
    assert (done[0].author, done[0].kind) == ("Ada", "run")
    assert collection.receipt("cluster").settings["k"] == 2
    lines = (collection.folder / "exports" / second.id / "items.csv").read_text().splitlines()
    assert len(lines) == 61
    assert jobs.tail(second.id) == [f"out/exports/{second.id}/items.csv"]


def test_progress_is_on_disk_while_it_runs(collection, jobs):
    job = orders.run(collection, settings=SLOW, report=False).start(jobs)
    half_way(jobs, job)
    told = jobs.progress(job.id)
    assert (told["what"], told["unit"], told["total"]) == ("images", "img", 60)
    until(lambda: (jobs.progress(job.id) or {}).get("rate"))
    assert over(jobs, job).state == "done"
    assert jobs.progress(job.id)["what"].startswith("cluster")


def test_one_that_waits_leaves_the_line(collection, jobs):
    first = orders.run(collection, settings=SLOW, report=False).start(jobs)
    second = orders.export(collection, jobs, to="json").start(jobs)
    until(lambda: jobs.one(first.id).state == "running")
    assert jobs.stop(second.id).state == "stopped"
    for act in (jobs.resume, jobs.remove):
        with pytest.raises(CollectionError, match="running"):
            act(first.id)
    assert over(jobs, first).state == "done"
    assert jobs.one(second.id).started is None
    with pytest.raises(CollectionError, match="nothing to stop"):
        jobs.stop(second.id)
    jobs.remove(second.id)
    assert [job.id for job in jobs.all()] == [first.id]
    for act in (jobs.one, jobs.stop, jobs.resume, jobs.remove, jobs.tail, jobs.progress):
        for name in (second.id, "../..", "", "20260102-030405-678901-9f3a"):
            with pytest.raises(NoSuchJob):
                act(name)


# ---------------------------------------------------------------- how they end


def test_a_stopped_one_goes_on_from_where_it_was(collection, jobs):
    job = orders.run(collection, settings=SLOW, report=False).start(jobs)
    half_way(jobs, job)
    assert jobs.stop(job.id).stopping
    stopped = over(jobs, job)
    assert (stopped.state, stopped.exit) == ("stopped", 130)
    assert "goes on from here" in jobs.tail(job.id)[-1]
    assert decoded(jobs, job) == []
    jobs.resume(job.id)
    assert over(jobs, job).state == "done"
    (rest,) = decoded(jobs, job)
    assert 0 < rest < 60
    assert said(jobs.one(job.id))[-3:] == ["put in line again, to go on", "started", "done"]


def test_one_that_fails_tells_why(collection, jobs):
    orders_ = orders.run(collection, report=False)
    (collection.folder.parent / "images").rename(collection.folder.parent / "elsewhere")
    job = over(jobs, orders_.start(jobs))
    assert (job.state, job.exit) == ("failed", 1)
    assert job.reason == jobs.tail(job.id)[-1].removeprefix("imagier: ")
    assert "images" in job.reason
    assert str(collection.folder.parent) not in json.dumps([job.reason, said(job), jobs.tail(job.id)])
    off = over(jobs, jobs.start(["run", "--nonsense"], title="off", kind="run"))
    assert (off.state, off.exit) == ("failed", 2)
    assert "--nonsense" in off.reason


def test_files_that_fail_are_a_remark(collection, jobs):
    (collection.folder.parent / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    job = over(jobs, orders.run(collection, report=False).start(jobs))
    assert (job.state, job.exit, job.reason) == ("done", 3, "1 files failed")
    alone = collection.folder.parent / "alone"
    alone.mkdir()
    (alone / "bad.png").write_bytes(b"nothing")
    words = ["run", str(alone), "--into", str(collection.folder.parent / "new"), "--no-report"]
    job = over(jobs, jobs.start(words, title="none", kind="run"))
    assert (job.state, job.exit, job.reason) == ("failed", 4, "no file could be used")


def test_a_command_that_the_system_kills_has_failed(collection, jobs):
    job = orders.run(collection, settings=SLOW, report=False).start(jobs)
    half_way(jobs, job)
    group(jobs, job)["command"].kill()
    killed = over(jobs, job)
    assert (killed.state, killed.exit) == ("failed", -signal.SIGKILL)
    assert "memory" in killed.reason


@pytest.mark.slow
def test_one_that_does_not_stop_is_ended(collection, jobs, monkeypatch):
    monkeypatch.setattr(work, "GRACE", 1.0)
    job = orders.run(collection, settings=SLOW, report=False).start(jobs)
    half_way(jobs, job)
    group(jobs, job)["command"].suspend()  # deaf to all but the one signal
    jobs.stop(job.id)
    ended = over(jobs, job)
    assert ended.state == "stopped"
    assert "did not stop by itself" in ended.reason
    jobs.resume(job.id)
    assert over(jobs, job).state == "done"


@pytest.mark.slow
def test_an_orphan_is_not_doubled(collection, jobs):
    job = orders.run(collection, settings=SLOW, report=False).start(jobs)
    half_way(jobs, job)
    there = group(jobs, job)
    there["own"].kill()
    there["command"].wait(PATIENCE)  # it goes on to its end, while nothing else is started
    assert over(jobs, job).state == "done"
    assert decoded(jobs, job) == [60, 0]
    assert said(jobs.one(job.id)).count("started") == 2


# ---------------------------------------------------------------- servers

SERVER = """
import sys, time
from pathlib import Path
from imagier.collection import Collection
from imagier.workflows import orders
from imagier.workflows.jobs import Jobs
collection = Collection.open(sys.argv[1])
jobs = Jobs(collection.folder / "jobs")
jobs.begin()
print(orders.run(collection, settings={"tint.sleep": 0.1}, report=False).start(jobs).id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def killed(collection) -> tuple[Jobs, Job]:
    """Jobs of a server that was killed while one of them ran; nobody looks after them."""
    with subprocess.Popen([sys.executable, "-c", SERVER, collection.folder], stdout=subprocess.PIPE) as server:
        name = server.stdout.readline().decode().strip()
        jobs = Jobs(collection.folder / "jobs")
        job = jobs.one(name)
        half_way(jobs, job)
        server.kill()
    return jobs, job


def test_a_job_outlives_its_server_and_the_next_finds_it(killed):
    jobs, job = killed
    jobs.begin()
    assert jobs.one(job.id).state == "running"
    done = over(jobs, job)
    jobs.end()
    assert (done.state, done.exit) == ("done", 0)
    assert said(done) == ["put in line", "started", "found running by a server that came anew", "done"]
    assert decoded(jobs, job) == [60]


def test_one_that_ended_between_two_servers_is_taken_in(killed):
    jobs, job = killed
    until(lambda: (jobs.folder / job.id / "outcome.json").is_file())
    jobs.begin()
    assert over(jobs, job).state == "done"
    jobs.end()


@pytest.mark.slow
def test_one_that_died_with_its_server_goes_on_once(killed):
    jobs, job = killed

    def die() -> None:
        os.killpg(int((jobs.folder / job.id / "lock").read_text()), signal.SIGKILL)

    die()
    jobs.begin()
    until(lambda: "put in line again by itself, to go on" in said(jobs.one(job.id)))
    assert f"broken: {work.MIDDLE}" in said(jobs.one(job.id))
    until(lambda: said(jobs.one(job.id)).count("started") == 2)
    half_way(jobs, job)
    die()
    broken = over(jobs, job)
    assert (broken.state, broken.reason) == ("broken", work.MIDDLE)
    jobs.resume(job.id)
    assert over(jobs, job).state == "done"
    jobs.end()
    (rest,) = decoded(jobs, job)
    assert 0 < rest < 60


def test_one_server_looks_after_them_and_the_next_takes_over(collection, jobs):
    second = Jobs(jobs.folder)
    second.begin()
    assert (jobs.is_watching, second.is_watching) == (True, False)
    job = orders.export(collection, jobs, to="json").start(jobs)
    for act in (
        lambda: orders.export(collection, second, to="json").start(second),
        lambda: second.stop(job.id),
        lambda: second.resume(job.id),
        lambda: second.remove(job.id),
    ):
        with pytest.raises(CollectionError, match="another server"):
            act()
    assert over(second, job).state == "done"
    jobs.end()
    until(lambda: second.is_watching)
    assert over(second, orders.export(collection, second, to="csv").start(second)).state == "done"
    second.end()
    with pytest.raises(CollectionError, match="nobody looks after the jobs"):
        jobs.start(["doctor"], title="no", kind="run")


def test_what_keeps_jobs_from_being_looked_after_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "REST", 0.05)
    jobs = Jobs(tmp_path / "jobs")
    (tmp_path / "jobs").touch()
    jobs.begin()
    with pytest.raises(CollectionError, match="cannot be looked after"):
        jobs.start(["doctor"], title="doctor", kind="run")
    (tmp_path / "jobs").unlink()
    until(lambda: jobs.is_watching)
    until(lambda: not jobs._trouble)
    job = over(jobs, jobs.start(["doctor"], title="doctor", kind="run"))
    assert job.state == "done"
    jobs.end()
    (jobs.folder / job.id / "state.json").write_text("{")
    jobs.begin()
    with pytest.raises(CollectionError, match=f"the job {job.id} cannot be read"):
        jobs.start(["doctor"], title="doctor", kind="run")
    jobs.end()


# ---------------------------------------------------------------- orders


def test_a_head_is_trained_and_put_to_use_without_reading_images_again(collection, jobs):
    run(into=collection.folder, settings={"embed.encoder": "builtin"}, report=False)
    assert over(jobs, orders.train(collection, what="head", name="kinds", labels="label_folder").start(jobs)).exit == 0
    with pytest.raises(SettingError, match="there is a model of that name"):
        orders.train(collection, what="head", name="kinds", labels="label_folder")
    job = over(jobs, orders.classify(collection, model="kinds", report=False).start(jobs))
    assert (job.state, decoded(jobs, job)) == ("done", [0])
    table = collection.read(["label", "label_folder"]).to_pylist()
    assert sum(row["label"] == row["label_folder"] for row in table) > 55
    names = [step["name"] for step in collection.state.steps]
    assert names == ["tint", "embed", "classify", "reduce", "cluster"]
    again = orders.classify(collection, model="kinds", report=False)
    steps = Pipeline.of(_yaml_of(again, jobs)).steps
    assert [step.name for step in steps] == names
    told = orders.run(collection, settings={"classify.model": "kinds", "classify.level": 0.8})
    assert told.argv[3:5] == ("--set", f'classify.model="{collection.folder / "models" / "kinds"}"')


def _yaml_of(order: orders.Order, jobs: Jobs) -> Path:
    path = jobs.folder / "pipeline.yaml"
    path.write_bytes(order.files["pipeline.yaml"])
    return path


def test_layouts_are_made_and_taken_back(collection, jobs):
    with pytest.raises(SettingError, match="nothing was organised"):
        orders.undo(collection)
    assert over(jobs, orders.organise(collection, by="label_folder", how="hardlink").start(jobs)).exit == 0
    assert len(list((collection.folder / "organised" / "disc").iterdir())) == 20
    assert over(jobs, orders.undo(collection).start(jobs)).exit == 0
    assert not (collection.folder / "organised").exists()
    with pytest.raises(SettingError, match="confirm"):
        orders.organise(collection, by="group", how="move")
    assert orders.organise(collection, by="group", how="move", confirm=True).argv[-1] == "--apply"


ODD = ("--into=/etc", "../x", "a/../b", "-", "--", ".", "x\n--into", "a b")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(st.text(), st.sampled_from(["--into=/etc", "../x", "a/../b", "-", "--", ".", "x\n--into", "a b"]))
)
def test_no_text_becomes_an_option_or_leaves_the_collection(collection, text):
    for ask in (
        lambda: orders.train(collection, what="head", name=text, labels="label_folder"),
        lambda: orders.train(collection, what="scratch", name="m", labels=text),
        lambda: orders.organise(collection, by=text),
        lambda: orders.run(collection, settings={text: 1}),
        lambda: orders.run(collection, settings={"cluster.method": text}),
        lambda: orders.run(collection, settings={"embed.encoder": text}),
        lambda: orders.run(collection, preset=text),
        lambda: orders.classify(collection, model=text),
    ):
        try:
            order = ask()
        except ImagierError:
            continue
        paths = [word for word in order.argv if word.startswith("/")]
        assert all(Path(os.path.normpath(path)).is_relative_to(collection.folder) for path in paths)
        known = {"--into", "--collection", "--config", "--set", "--how", "--apply", "--preset"}
        options = {word.partition("=")[0] for word in order.argv if word.startswith("-")}
        assert options <= known | {"--labels", "--by"}


# ---------------------------------------------------------------- REST


@pytest.fixture
def client(collection) -> Iterator[TestClient]:
    """The app, its jobs looked after."""
    made = make_app(collection)
    with looked_after(made.state.served.jobs):
        yield TestClient(made, base_url="http://127.0.0.1")
    made.state.close()


JOBS = "/api/v1/jobs"


@pytest.mark.slow
def test_a_job_by_rest(client, collection):
    asked = {"kind": "run", "settings": {"tint.sleep": 0.1, "cluster.k": 4}, "report": False, "author": "Ada"}
    made = client.post(JOBS, json=asked)
    assert made.status_code == 201
    job = f"{JOBS}/{made.json()['id']}"
    waits = client.post(JOBS, json={"kind": "export", "to": "parquet"}).json()
    until(lambda: (client.get(job).json()["progress"] or {}).get("done"))
    told = client.get(job).json()
    assert (told["state"], told["author"], told["place"]) == ("running", "Ada", None)
    assert told["command"].startswith("imagier run --into out --set ")
    assert client.get(f"{JOBS}/{waits['id']}").json()["place"] == 1
    assert client.post(f"{job}/resume").status_code == 409
    assert client.delete(job).status_code == 409
    assert client.post(f"{job}/stop").json()["stopping"] is True
    until(lambda: client.get(job).json()["state"] == "stopped")
    assert client.post(f"{job}/resume").json()["state"] in ("waiting", "running")
    until(lambda: client.get(job).json()["state"] == "done")
    listed = client.get(JOBS).json()
    assert listed["watching"] is True
    assert [each["id"] for each in listed["jobs"]] == [waits["id"], made.json()["id"]]
    whole = client.get(job).json()
    assert [each["text"] for each in whole["events"]][-1] == "done"
    assert any("60 files: 60 ok" in line for line in whole["output"])
    for path in (JOBS, job, f"{JOBS}/{waits['id']}"):
        assert str(collection.folder.parent) not in client.get(path).text
    assert collection.receipt("cluster").settings["k"] == 4
    assert client.delete(job).status_code == 204
    assert client.get(job).status_code == 404
    assert "no job" in client.post(f"{JOBS}/nothing/stop").json()["detail"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"kind": "run", "sources": ["/etc"]}, 422),
        ({"kind": "run", "argv": ["doctor"]}, 422),
        ({"kind": "shell"}, 422),
        ({"kind": "run", "settings": {"--into": "/etc"}}, 400),
        ({"kind": "run", "settings": {"cluster.k=1 --into": "/etc"}}, 400),
        ({"kind": "run", "settings": {"cluster.k": "many"}}, 400),
        ({"kind": "run", "settings": {"clutser.k": 2}}, 400),
        ({"kind": "run", "settings": {"embed.encoder": "/etc/passwd"}}, 400),
        ({"kind": "run", "settings": {"embed.encoder": "../../model"}}, 400),
        ({"kind": "run", "preset": "../photos"}, 400),
        ({"kind": "train", "what": "head", "name": "--into=/etc", "labels": "label_folder"}, 400),
        ({"kind": "train", "what": "head", "name": "../x", "labels": "label_folder"}, 400),
        ({"kind": "train", "what": "scratch", "name": "x", "labels": "--into=/etc"}, 400),
        ({"kind": "train", "what": "scratch", "name": "x", "labels": "path"}, 400),
        ({"kind": "train", "what": "scratch", "name": "x"}, 400),
        ({"kind": "train", "what": "scratch", "name": "x", "labels": "label_folder", "epochs": 0}, 400),
        ({"kind": "train", "what": "segmenter", "name": "x", "labels": "label_folder"}, 400),
        ({"kind": "train", "what": "denoiser", "name": "x"}, 422),
        ({"kind": "train", "what": "head", "name": "x", "labels": "label_folder"}, 400),
        ({"kind": "classify", "model": "/etc/passwd"}, 400),
        ({"kind": "classify", "model": "--help"}, 400),
        ({"kind": "classify", "model": "nothing"}, 409),
        ({"kind": "organise", "by": "--to=/etc"}, 400),
        ({"kind": "organise", "by": "group", "how": "move"}, 400),
        ({"kind": "organise", "by": "group", "to": "/etc"}, 422),
        ({"kind": "undo"}, 400),
        ({"kind": "export", "to": "/etc"}, 422),
    ],
)
def test_what_does_not_fit_is_refused_at_once(client, collection, asked, status):
    told = client.post(JOBS, json=asked)
    assert told.status_code == status, told.text
    assert told.json()["detail"]
    assert str(collection.folder.parent) not in told.text
    assert Jobs(collection.folder / "jobs").all() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{home}/report.html, {home}/plots", "out/report.html, out/plots"),
        ("{home} is being written", "out is being written"),
        ("/srv/images/a/b.png: cannot be read", "b.png: cannot be read"),
        ("at /srv/images/a/, says '/srv/x y'", "at a, says 'x y'"),
        ("http://127.0.0.1:8080/api/v1 and 3/4, a/b", "http://127.0.0.1:8080/api/v1 and 3/4, a/b"),
    ],
)
def test_nothing_says_where_it_lies(tmp_path, text, told):
    assert Jobs(tmp_path / "out" / "jobs").pathless(text.format(home=tmp_path / "out")) == told


# ---------------------------------------------------------------- progress


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_goes_to_disk_shown_or_not(tmp_path, monkeypatch, capsys, shown):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(_progress.WHERE, str(path))
    monkeypatch.setattr(_progress, "EVERY", 0)
    for each in _progress.bar(5, shown, what="looking").over("abcde"):
        told = json.loads(path.read_bytes())
        assert (told["what"], told["done"], told["total"]) == ("looking", "abcde".index(each), 5)
    assert json.loads(path.read_bytes())["done"] == 5
    with _progress.bar(None, shown, initial=3, unit="step") as bar:
        bar.note("loss 0.1", loss=0.1)
        bar.update(2)
        told = json.loads(path.read_bytes())
        assert (told["done"], told["total"], told["unit"], told["facts"]) == (5, None, "step", {"loss": 0.1})
    _progress.say("plots and report", shown)
    assert json.loads(path.read_bytes())["what"] == "plots and report"
    assert ("looking" in capsys.readouterr().err) == shown


def test_progress_that_cannot_be_written_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(_progress.WHERE, str(tmp_path / "nowhere" / "progress.json"))
    monkeypatch.setattr(_progress, "EVERY", 0)
    assert list(_progress.bar(3, False).over("abc")) == ["a", "b", "c"]
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_what_waits_for_a_command_is_light():
    code = "import imagier.workflows._jobs_child, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "imagier" in loaded
    assert not {"numpy", "pyarrow", "lance", "torch"} & set(loaded)


@pytest.mark.slow
def test_a_training_tells_its_epochs(collection, jobs, tmp_path):
    words = ["train", "classifier", "--collection", str(collection.folder), "--labels=label_folder"]
    words += ["--config", "scratch", "--set", "model=cnn:4/4@32", "--set", "epochs=3", "--into", str(tmp_path / "net")]
    job = jobs.start(words, title="train", kind="train")
    told = until(lambda: (jobs.progress(job.id) or {}).get("facts"))
    assert told["epochs"] == 3
    assert over(jobs, job).state == "done"
    assert isinstance(jobs.progress(job.id)["facts"]["loss"], float)


@pytest.mark.slow
def test_a_segmenter_of_corrected_masks_is_stopped_and_goes_on(collection, jobs):
    inside = np.zeros((48, 48), np.uint8)
    inside[12:36, 12:36] = 255
    for row in collection.read(["id", "label_folder"]).to_pylist():
        if row["label_folder"] == "disc":
            labels.correct(collection, row["id"], images.encode(inside, "png"), "ada")
    job = orders.train(collection, what="segmenter", name="discs", epochs=3).start(jobs)
    until(lambda: ((jobs.progress(job.id) or {}).get("facts") or {}).get("epoch") == 1 or jobs.one(job.id).is_over)
    jobs.stop(job.id)
    assert over(jobs, job).state == "stopped"
    before = jobs.progress(job.id)["done"]
    jobs.resume(job.id)
    assert over(jobs, job).state == "done"
    assert read_model(collection.folder / "models" / "discs").card.task == "segment"
    log = (collection.folder / "models" / "discs.training" / "log.csv").read_text().splitlines()
    assert len(log) == 4
    assert 0 < before < jobs.progress(job.id)["done"]
