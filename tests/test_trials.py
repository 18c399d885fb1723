"""One's own images through a preset or models: what comes of them, what is refused, and that nothing stays."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path

import classifiers
import drawn
import nets
import numpy as np
import pytest
from fastapi.testclient import TestClient
from test_inspection import plate
from test_web import HOME, bomb

from imagier import images, samples
from imagier.collection import Collection
from imagier.models.model import Card, Input, Model, Output, read_model, to_write, write_model
from imagier.models.store import built_in
from imagier.pipeline import Pipeline
from imagier.types import CollectionError, ModelError, SettingError
from imagier.web import api_trials, make_app
from imagier.workflows import _trial_sent, train
from imagier.workflows.browse import Browser
from imagier.workflows.run import run
from imagier.workflows.trial import (
    Busy,
    Limits,
    NoSuchTrial,
    Trial,
    Trials,
    archive,
    keep,
    pipeline_for,
    result,
)

SEGMENT = [{"segment": {"model": "nuclei", "least": 20}}]
FITTED = [
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 4}},
    {"cluster": {"k": 3}},
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Collection:
    """12 drawn pictures of three kinds, mapped and grouped."""
    folder = tmp_path_factory.mktemp("trials")
    return run(drawn.fill(folder / "images"), into=folder / "out", pipeline=FITTED, report=False, threads=1)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    root = tmp_path_factory.mktemp("root") / "trials"
    with closing(Trials(root)) as made:
        yield made
    assert not root.exists()


@pytest.fixture
def make(tmp_path):
    """Trials of one test."""
    made: list[Trials] = []

    def made_of(**how) -> Trials:
        made.append(Trials(tmp_path / f"root{len(made)}", **how))
        return made[-1]

    yield made_of
    for each in made:
        if each.root.exists():
            each.close()


def png(seed: int = 0, kind: str = "nuts", size: int = 96) -> bytes:
    return images.encode(samples.draw(kind, seed, size=size).image, "png")


@cache
def long() -> tuple[tuple[str, bytes], ...]:
    """What keeps the preset `cells` at work for many seconds."""
    return tuple((f"{at}.png", png(at, "cells", 512)) for at in range(12))


def over(trial: Trial) -> Trial:
    assert trial.wait(120), "the trial does not end"
    return trial


def told(trial: Trial) -> dict[str, dict]:
    """By name."""
    assert over(trial).state == "done", trial.reason
    return {each["name"]: each for each in result(trial)["images"]}


def running(trial: Trial) -> None:
    for _ in range(1200):
        if trial.state == "running":
            return
        time.sleep(0.05)
    raise AssertionError(f"it is {trial.state}")


def packed(files: Mapping[str, bytes]) -> bytes:
    """A ZIP."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


# ---------------------------------------------------------------- what comes of images


def test_every_format_goes_through_and_what_is_none_says_why(trials):
    deep = (np.arange(96 * 80).reshape(80, 96) * 8 % 65536).astype(np.uint16)
    files = {
        "deep.tif": images.encode(deep, "tiff"),
        "scan.dcm": samples.dicom((deep % 4096).astype(np.uint16)),
        "nut.png": png(),
        "no suffix at all": png(1),
        "broken.png": png()[:300],
        "bomb.png": bomb(),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "page.png": b"<!doctype html><script>alert(1)</script>",
        "nothing.png": b"",
    }
    found = told(trials.put(files.items()))
    assert set(found) == set(files)
    good = {"deep.tif": "uint16", "scan.dcm": "float32", "nut.png": "uint8", "no suffix at all": "uint8"}
    for name, depth in good.items():
        assert found[name]["outcome"] == "ok", found[name]
        (item,) = found[name]["items"]
        assert (item["depth"], item["masks"]) == (depth, [])
        assert not {"path", "paths", "embedding", "thumbnail"} & set(item)
    reasons = {name: each["reason"] for name, each in found.items() if each["outcome"] == "failed"}
    assert set(reasons) == set(files) - set(good)
    assert "signature" in reasons["drawing.svg"]
    assert "signature" in reasons["page.png"]
    assert "60000 x 60000" in reasons["bomb.png"].replace(",", "")
    assert "empty" in reasons["nothing.png"]
    assert all(each["items"] == [] for each in found.values() if each["outcome"] == "failed")


def test_names_lead_nowhere_and_stay_readable(trials):
    names = ["../../../etc/passwd.png", "C:\\pictures\\a.png", "..", "a.png", "A.png", "b\x00\n.png", ".hidden.png"]
    names += ["x" * 300 + ".png", "con.png", "[1] * ?.png", ""]
    trial = trials.put([(name, png(at)) for at, name in enumerate(names)])
    found = told(trial)
    assert len(found) == len(names)
    assert {"passwd.png", "a.png", "hidden.png"} <= set(found)
    for name, each in found.items():
        assert each["outcome"] == "ok", each
        assert not set("/\\\0\n") & set(name)
        assert not name.startswith(".")
        assert len(name.encode()) <= 110
        assert (trial.sent / name).is_file()
    assert sorted(p.name for p in trials.root.parent.iterdir()) == [trials.root.name]


def test_what_was_sent_is_for_this_user_alone(trials):
    trial = over(trials.put([("a.png", png())]))
    for path in (trials.root, trial.folder, trial.sent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((trial.folder / "out" / "collection.json").stat().st_mode) == 0o600


def test_an_archive_is_taken_apart(trials):
    files = {"folder/a.png": png(0), "../../a.png": png(1), "__MACOSX/a.png": b"no", "folder/.DS_Store": b"no"}
    files |= {"read.txt": b"hello", "inner.zip": packed({"b.png": png(3)})}
    sent = packed(files)
    found = told(trials.put([("mine.zip", sent), ("a.png", png(2))]))
    ok = [name for name, each in found.items() if each["outcome"] == "ok"]
    assert sorted(ok) == ["a-2.png", "a-3.png", "a.png"]
    assert set(found) - set(ok) == {"read.txt", "inner.zip"}


def link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        entry = zipfile.ZipInfo("a.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    return out.getvalue()


def by_lzma() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("a.png", png())
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (packed({"zeros.png": bytes(60 * 2**20)}), "200 times"),
        (packed({f"z{at}": bytes(6 * 2**20) for at in range(20)}), "200 times"),
        (packed({"noise": np.random.default_rng(0).bytes(300_000), "zeros": bytes(9 * 2**20)}), "more than 8 MB"),
        (packed({f"a{at}": b"" for at in range(40)}), "more than the 30"),
        (packed({}), "holds no file"),
        (link(), "no plain file"),
        (by_lzma(), "unusual way"),
        (packed({"a.png": png()})[:-30], "damaged"),
        (packed({"a.png": png()}).replace(b"IHDR", b"IHDX"), "damaged"),
    ],
    ids=["bomb", "many small bombs", "too much", "too many", "empty", "link", "lzma", "cut", "changed"],
)
def test_an_archive_that_cannot_be_is_refused_in_a_sentence(data, says, tmp_path):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SettingError, match=says):
        _trial_sent.unpack(tmp_path, most_files=30, most_bytes=8 * 2**20 if says == "more than 8 MB" else 2**30)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 40 * 2**20


def test_a_bomb_of_an_archive_fails_its_trial_alone(trials):
    trial = over(trials.put([("a.zip", packed({"zeros": bytes(60 * 2**20)}))]))
    assert trial.state == "failed"
    assert "200 times" in trial.reason
    with pytest.raises(NoSuchTrial, match="200 times"):
        result(trial)


@pytest.mark.parametrize(
    ("limits", "files", "says"),
    [
        (Limits(files=2), [("a", b"1"), ("b", b"2"), ("c", b"3")], "3 files are more than the 2"),
        (Limits(bytes=2**20), [("a", io.BytesIO(bytes(2**21)))], "more than 1 MB"),
        (Limits(), [], "no image was sent"),
    ],
)
def test_too_much_is_refused_and_leaves_nothing(make, limits, files, says):
    made = make(limits=limits)
    with pytest.raises(SettingError, match=says):
        made.put(files)
    assert list(made.root.iterdir()) == []


def test_pages_count_as_pixels(make, tmp_path):
    drawn.save_pages(tmp_path / "many.tif", [drawn.plain(drawn.RED)] * 5)
    made = make(limits=Limits(pixels=4 * 32 * 32))
    found = told(made.put([("many.tif", (tmp_path / "many.tif").read_bytes())]))
    assert found["many.tif"]["reason"].startswith("5 pages of 32 x 32 pixels")


# ---------------------------------------------------------------- nothing stays


def test_a_trial_that_is_removed_leaves_nothing(make):
    made = make()
    trial = over(made.put([("a.png", png())]))
    assert trial.folder.is_dir()
    made.remove(trial.id)
    assert not trial.folder.exists()
    with pytest.raises(NoSuchTrial):
        made.get(trial.id)
    with pytest.raises(NoSuchTrial):
        made.remove(trial.id)


def test_one_that_waits_or_runs_is_removed_as_well(make):
    made = make()
    slow, waits = (made.put(long(), preset="cells") for _ in range(2))
    running(slow)
    made.remove(waits.id)
    assert slow.state == "running"
    made.remove(slow.id)
    assert not slow.folder.exists()
    assert not waits.folder.exists()
    assert (slow.state, waits.state) == ("removed", "removed")
    assert told(made.put([("a.png", png())]))["a.png"]["outcome"] == "ok"


def test_closing_ends_all_and_the_process(make):
    made = make()
    line = [made.put(long(), preset="cells") for _ in range(3)]
    running(line[0])
    while (pid := made.pid) is None:
        time.sleep(0.01)
    made.close()
    assert not made.root.exists()
    assert all(each.wait(1) and each.state == "removed" for each in line)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Busy):
        made.put([("a.png", png())])


def test_what_has_ended_long_ago_goes_and_so_does_an_idle_process(make, monkeypatch):
    monkeypatch.setattr("imagier.workflows.trial.TICK", 0.05)
    made = make(limits=Limits(kept=0.1, idle=0.1))
    trial = over(made.put([("a.png", png())]))
    for _ in range(200):
        if not trial.folder.exists() and made.pid is None:
            break
        time.sleep(0.05)
    assert trial.state == "removed"
    assert made.pid is None
    assert list(made.root.glob(trial.id)) == []


def test_of_many_the_oldest_go(make):
    made = make(limits=Limits(trials=2))
    first, *_, last = (over(made.put([("a.png", png(at))])) for at in range(5))
    assert not first.folder.exists()
    assert last.folder.exists()


def test_a_server_that_is_killed_leaves_neither_process_nor_files(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from imagier.workflows.trial import Trials\n"
        "made = Trials(Path(sys.argv[1])); made.put([('a.png', b'x')]).wait(); print(made.pid, flush=True)\n"
        "time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "root")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
        assert (tmp_path / "root").is_dir()
        server.kill()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert not (tmp_path / "root").exists()


# ---------------------------------------------------------------- what goes wrong in the process


def test_a_process_that_is_killed_is_said_and_the_next_trial_has_another(make):
    made = make()
    trial = made.put(long(), preset="cells")
    running(trial)
    while (far := trial.progress())["done"] == 0:
        assert (far["rate"], far["left"], far["total"]) == (None, None, 12)
        time.sleep(0.05)
    assert far["done"] < far["total"]
    assert far["left"] == pytest.approx((12 - far["done"]) / far["rate"])
    pid = made.pid
    os.kill(pid, signal.SIGKILL)
    assert over(trial).state == "failed"
    assert "signal 9" in trial.reason
    assert told(made.put([("a.png", png())]))["a.png"]["outcome"] == "ok"
    assert made.pid != pid


def test_what_takes_too_long_is_ended_and_said(make):
    made = make(limits=Limits(seconds=0.2))
    trial = over(made.put([("a.png", png())]))  # the process has not even begun by then
    assert trial.state == "failed"
    assert "longer than 0.2 s" in trial.reason
    assert made.pid is None


def test_what_takes_too_much_memory_is_ended_and_said(make):
    made = make(limits=Limits(memory=50 * 2**20))
    trial = over(made.put([("a.png", png())]))
    assert trial.state == "failed"
    assert "GB of memory" in trial.reason


def test_no_more_wait_than_may(make):
    made = make(limits=Limits(waiting=2))
    line = [made.put(long(), preset="cells") for _ in range(2)]
    with pytest.raises(Busy, match="try again"):
        made.put([("a.png", png())])
    for trial in line:
        made.remove(trial.id)
    assert told(made.put([("a.png", png())]))["a.png"]["outcome"] == "ok"


def test_the_disk_is_not_filled(make):
    made = make(limits=Limits(disk=len(png()) + 10))
    with pytest.raises(Busy, match="room"):
        made.put([("a.png", png()), ("b.png", png())])
    assert list(made.root.iterdir()) == []


# ---------------------------------------------------------------- which steps


def segmenter(folder: Path, labels: tuple[str, ...]) -> Model:
    """A network of five channels; `labels` as many."""
    path = nets.network(folder.with_suffix(".onnx"), "map", height="h", width="w")
    card = Card(
        name=folder.name,
        task="segment",
        architecture="onnx",
        input=Input(fit="none"),
        outputs={"logits": Output(tensors=("m",), form="logits", width=5)},
        labels=labels,
        files=to_write(network="network.onnx"),
    )
    return write_model(folder, card, {"network": path})


def shipped(name: str) -> Model:
    return read_model(built_in()[name])


def head(folder: Path, of: Model) -> Model:
    return classifiers.head(folder, sha256=of.card.files["network"].sha256)


def stages(steps: list[dict]) -> list[str]:
    return [next(iter(step)) + (f" as {step['as']}" if "as" in step else "") for step in steps]


def test_models_alone_make_up_the_steps_that_they_need(tmp_path):
    nuclei, embed = shipped("nuclei"), shipped("embed")
    steps = pipeline_for(None, [head(tmp_path / "kind", embed), nuclei, shipped("upscale"), shipped("denoise")])
    assert stages(steps) == ["denoise", "upscale", "segment", "crop", "measure", "embed", "classify"]
    assert steps[2]["segment"] == {"split": True, "model": "nuclei"}
    assert steps[3]["crop"] == {"source": "mask", "keep": "each"}
    assert steps[6]["classify"]["model"] == str(tmp_path / "kind")
    assert stages(pipeline_for(None, [classifiers.network(tmp_path / "colours")])) == ["classify"]
    assert stages(pipeline_for(None, [embed])) == ["embed"]


def test_a_second_model_of_a_task_stands_beside(tmp_path):
    embed = shipped("embed")
    models = [head(tmp_path / "Kind A", embed), head(tmp_path / "kind-a", embed), classifiers.network(tmp_path / "3c")]
    steps = pipeline_for(None, models)
    assert stages(steps) == ["embed", "classify", "classify as kind_a", "classify as model_3c"]
    columns = [name for each in Pipeline.of(steps).bind() for name in each.writes.names]
    assert {"label", "kind_a_label", "model_3c_label"} <= set(columns)


def test_structures_are_told_and_one_kind_of_thing_is_cut_out(tmp_path):
    seen = segmenter(tmp_path / "seen", ("a", "b", "c", "d", "e"))
    steps = pipeline_for(None, [seen, shipped("nuclei")])
    assert stages(steps) == ["segment as seen", "segment", "crop", "measure"]
    assert steps[3]["measure"]["attributes"] == [f"seen_masks_{each}" for each in "abcde"]
    Pipeline.of(steps).bind()
    steps = pipeline_for("lesions", [seen, shipped("nuclei")])
    assert stages(steps)[:4] == ["segment as attributes", "segment", "crop", "measure"]
    assert steps[3]["measure"]["attributes"] == [f"attributes_masks_{each}" for each in "abcde"]
    Pipeline.of(steps).bind()


def test_a_preset_keeps_its_steps_over_images(tmp_path):
    steps = pipeline_for("cells", [head(tmp_path / "kind", shipped("embed"))])
    assert stages(steps) == ["denoise", "segment", "crop", "measure", "embed", "classify"]
    assert stages(pipeline_for("cells", [])) == ["denoise", "segment", "crop", "measure", "embed"]


def test_a_head_brings_its_encoder(tmp_path):
    """Where the preset's is another, and where somebody counts on that one."""
    kind = head(tmp_path / "kind", shipped("embed"))
    (embed, classify) = pipeline_for("photos", [kind])
    assert embed["embed"] == {"encoder": "embed"}
    assert classify["classify"] == {"model": str(tmp_path / "kind")}
    other = nets.encoder(tmp_path / "other", tmp_path)
    steps = pipeline_for(None, [other, kind])
    assert stages(steps) == ["embed", "embed as embed_2", "classify"] or stages(steps)[0] == "embed"
    assert steps[-1]["classify"]["embedding"] == f"{steps[1]['as']}_embedding"
    Pipeline.of(steps).bind()
    with pytest.raises(ModelError, match="somebody, which is not on this machine"):
        pipeline_for(None, [classifiers.head(tmp_path / "lost")])


@pytest.mark.parametrize(
    ("preset", "names", "says"),
    [
        ("lesions", [], "needs a model that can segment"),
        ("figures", [], "needs a model that can classify"),
        ("photos", ["denoise"], "has no step that takes 'denoise'"),
        (None, ["denoise", "denoise-colour"], "two models are there to denoise"),
        ("lesion", [], "Did you mean lesions"),
    ],
)
def test_what_cannot_be_is_said(preset, names, says):
    with pytest.raises(SettingError, match=says):
        pipeline_for(preset, [shipped(name) for name in names])


def test_without_a_name_images_are_treated_as_the_collections(collection, make):
    assert pipeline_for(None, [], collection) == [{"embed": {"encoder": "classical"}}]
    assert stages(pipeline_for(None, [])) == ["embed"]
    made = make(collection=collection)
    first = collection.read(["id", "name", "group", "x"]).to_pylist()[0]
    sent = (collection.folder.parent / "images" / first["name"]).read_bytes()
    (item,) = told(made.put([("again.png", sent)]))["again.png"]["items"]
    assert (item["id"], item["group"]) == (first["id"], first["group"])
    assert item["x"] == pytest.approx(first["x"], abs=1e-3)


def test_a_part_is_inspected_and_its_faults_are_given_out(make, tmp_path):
    for at in range(12):
        drawn.save(tmp_path / "good" / f"{at}.png", plate(at)[0])
    made = train.inspector(good=tmp_path / "good", into=tmp_path / "plates", progress=False)
    image, fault = plate(100, "dent")
    trials = make(models=[made])
    sent = [("new.png", images.encode(plate(101)[0], "png")), ("bad.png", images.encode(image, "png"))]
    for preset, steps in (("inspection", ["inspect", "crop", "embed"]), (None, ["inspect"])):
        assert stages(pipeline_for(preset, [made])) == steps
        trial = trials.put(sent, preset=preset, models=["plates"])
        found = told(trial)
        bad, *defects = found["bad.png"]["items"]
        assert (bad["verdict"], bad["masks"]) == ("bad", ["defect_masks"])
        assert len(defects) == (bad["defects"] if preset else 0)
        assert found["new.png"]["items"][0]["anomaly"] < bad["anomaly"]
        with zipfile.ZipFile(archive(trial)) as given:
            assert {"masks/defect/bad.png", "overlays/bad.png"} <= set(given.namelist())
            mask = images.decode(given.read("masks/defect/bad.png")).image
        assert mask.max() == bad["defects"] > 0
        assert (mask[fault] > 0).mean() > 0.5


def test_only_what_is_offered_can_be_named(make, collection, tmp_path):
    mine = classifiers.network(tmp_path / "mine")
    made = make(collection=collection, models=[mine])
    own = classifiers.network(collection.folder / "models" / "own")
    assert list(made.models()) == ["mine", own.card.name, *built_in()]
    for name in (str(tmp_path / "mine"), "../mine", "mnie"):
        with pytest.raises(SettingError, match="unknown model"):
            made.put([("a.png", png())], models=[name])
    (item,) = told(made.put([("a.png", png())], models=["mine", "own"]))["a.png"]["items"]
    assert item["label"] in classifiers.LABELS
    (collection.folder / "models" / "damaged").mkdir()
    (collection.folder / "models" / "damaged" / "model.json").write_text("{}")
    assert list(made.models()) == ["mine", own.card.name, *built_in()]
    assert item["own_label"] == item["label"]
    assert item["label_set"]


# ---------------------------------------------------------------- REST


@pytest.fixture
def client(collection, tmp_path):
    """The app with trials, and a job that is the command itself, at once."""

    def start(words) -> str:
        subprocess.run([sys.executable, "-m", "imagier.cli", *words, "--no-report", "--quiet"], check=True)
        return "7"

    fresh = run(collection.folder.parent / "images", into=tmp_path / "out", pipeline=FITTED, report=False, threads=1)
    browser = Browser(fresh)
    with closing(Trials(tmp_path / "root", collection=fresh, models=[classifiers.network(tmp_path / "mine")])) as made:
        app = make_app(fresh)
        mounted = app.router.routes.copy()
        app.router.routes.clear()
        app.include_router(api_trials.router(browser, made, start=start))
        app.router.routes.extend(mounted)  # before the pages, which answer to every address
        app.state.trials = made
        yield TestClient(app, base_url=HOME, raise_server_exceptions=False)


def ended(client: TestClient, ident: str) -> dict:
    for _ in range(1200):
        said = client.get(f"/api/v1/trials/{ident}").json()
        if said["state"] not in ("waiting", "running"):
            return said
        time.sleep(0.05)
    raise AssertionError(said)


def test_a_trial_by_rest_from_its_images_to_its_end(client):
    files = [("image", ("../cells.png", png(0, "cells", 128))), ("image", ("page.html", b"<script>alert(1)</script>"))]
    said = client.post("/api/v1/trials", files=files, data={"model": ["nuclei"]})
    assert said.status_code == 202, said.text
    ident = said.json()["id"]
    done = ended(client, ident)
    assert done["state"] == "done", done
    assert done["progress"] == {"done": 2, "total": 2, "rate": None, "left": 0.0}
    cells, page = done["result"]["images"]
    assert (cells["name"], cells["outcome"]) == ("cells.png", "ok")
    assert (page["name"], page["outcome"], page["items"]) == ("page.html", "failed", [])
    whole, *regions = cells["items"]
    assert whole["objects"] == len(regions) > 3
    assert all(each["area_px2"] > 0 and each["masks"] == ["mask"] for each in regions)

    at = f"/api/v1/trials/{ident}/items/{whole['id']}"
    assert client.get(at).json() == {name: value for name, value in whole.items() if name != "masks"}
    assert images.decode(client.get(f"{at}/image").content).image.shape[:2] == (128, 128)
    assert client.get(f"{at}/thumbnail").headers["content-type"] == "image/jpeg"
    mask = images.decode(client.get(f"{at}/masks/masks").content).image
    assert mask.max() == len(regions)

    zipped = client.get(f"/api/v1/trials/{ident}/archive")
    assert zipped.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as made:
        assert made.testzip() is None
        assert set(made.namelist()) == {"result.json", "items.csv", "masks/object/cells.png", "overlays/cells.png"}
        assert json.loads(made.read("result.json")) == done["result"]
        assert (images.decode(made.read("masks/object/cells.png")).image == mask).all()
        rows = list(csv.DictReader(io.StringIO(made.read("items.csv").decode())))
        assert {row["id"] for row in rows} == {each["id"] for each in cells["items"]}
        for content in (made.read("items.csv"), made.read("result.json")):
            assert str(client.app.state.trials.root).encode() not in content
    assert client.delete(f"/api/v1/trials/{ident}").status_code == 204
    for path in ("", "/archive", f"/items/{whole['id']}", f"/items/{whole['id']}/image"):
        assert client.get(f"/api/v1/trials/{ident}{path}").status_code == 404
    assert not list(client.app.state.trials.root.glob(ident))


def test_what_is_kept_is_the_collections(client, collection):
    before = client.get("/api/v1/items").json()["total"]
    files = [("image", ("new.png", png(5))), ("image", ("scan", png(6))), ("image", ("no.png", b"no image"))]
    ident = client.post("/api/v1/trials", files=files).json()["id"]
    assert ended(client, ident)["state"] == "done"
    said = client.post(f"/api/v1/trials/{ident}/keep")
    assert said.status_code == 202, said.text
    assert said.json()["job"] == "7"
    folder = client.app.state.trials.collection.folder
    kept = folder / said.json()["folder"]
    assert kept.parent == folder / "added"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"new.png": png(5), "scan.png": png(6)}
    assert client.delete(f"/api/v1/trials/{ident}").status_code == 204
    assert len(Collection.open(folder)) == before + 2
    again = client.post(f"/api/v1/trials/{ident}/keep")
    assert again.status_code == 404


def test_keeping_twice_is_refused_and_nothing_is_overwritten(make, collection):
    made = make(collection=collection)
    trial = over(made.put([("a.png", png(9))]))
    asked: list[list[str]] = []

    def refuses(words) -> str:
        raise CollectionError("another server looks after the jobs")

    def takes(words) -> str:
        asked.append(words)
        return "7"

    with pytest.raises(CollectionError, match="another server"):
        keep(trial, collection, refuses)
    assert not list((collection.folder / "added").iterdir())  # or they would be in no job, and refused the next time
    job, folder = keep(trial, collection, takes)
    assert job == "7"
    assert asked == [["run", str(collection.folder / folder), "--into", str(collection.folder)]]
    with pytest.raises(CollectionError, match="kept already"):
        keep(trial, collection, takes)
    assert [f"added/{path.name}" for path in (collection.folder / "added").iterdir()] == [folder]


def test_a_prediction_leaves_nothing(client):
    said = client.post("/api/v1/predict", files={"image": ("a.png", png())}, data={"model": "mine"})
    assert said.status_code == 200, said.text
    (image,) = said.json()["images"]
    assert image["items"][0]["label"] in classifiers.LABELS
    assert 0 < image["items"][0]["confidence"] <= 1
    assert [path for path in client.app.state.trials.root.iterdir() if path.is_dir()] == []


def test_twenty_at_once_are_all_answered(client):
    def ask(at: int) -> tuple[int, str]:
        said = client.post("/api/v1/predict", files={"image": (f"{at}.png", png(at))}, data={"model": "mine"})
        return said.status_code, said.json()["images"][0]["name"]

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, range(20))) == [(200, f"{at}.png") for at in range(20)]
    assert [path for path in client.app.state.trials.root.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("files", "data", "status", "says"),
    [
        ({"image": ("a.zip", packed({"zeros": bytes(60 * 2**20)}))}, {}, 400, "200 times"),
        ({"image": ("a.png", b"x")}, {"preset": "lesions"}, 400, "can segment"),
        ({"image": ("a.png", b"x")}, {"preset": "../lesions"}, 400, "unknown preset"),
        ({"image": ("a.png", b"x")}, {"model": "/etc/passwd"}, 400, "unknown model"),
        ({"image": ("a.png", b"x")}, {"preset": "parts"}, 409, "vgg16"),
        ({"other": ("a.png", b"x")}, {}, 422, "image"),
    ],
)
def test_what_cannot_be_predicted_is_said(client, files, data, status, says, monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "none"))
    for path in ("predict",) if "200" in says else ("predict", "trials"):
        said = client.post(f"/api/v1/{path}", files=files, data=data)
        assert said.status_code == status, said.text
        assert says in said.json()["detail"]
        assert str(client.app.state.trials.root) not in said.text
    assert [path for path in client.app.state.trials.root.iterdir() if path.is_dir()] == []


def test_a_full_line_says_come_again(client):
    made = client.app.state.trials
    line = [made.put(long(), preset="cells") for _ in range(made.limits.waiting)]
    said = client.post("/api/v1/predict", files={"image": ("a.png", png())})
    assert (said.status_code, said.headers["retry-after"]) == (503, "5")
    for trial in line:
        made.remove(trial.id)


def test_the_choices_are_told(client, monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "none"))
    said = client.get("/api/v1/models")
    presets = {each["name"]: each for each in said.json()["presets"]}
    assert presets["lesions"]["needs"] == ["segment"]
    assert presets["lesions"]["takes"] == ["segment", "embed", "classify"]
    assert presets["parts"]["lacks"] == ["vgg16"]
    assert presets["cells"] | {"what": ""} == {
        "name": "cells",
        "what": "",
        "needs": [],
        "takes": ["denoise", "segment", "embed", "classify"],
        "lacks": [],
    }
    models = {each["name"]: each for each in said.json()["models"]}
    assert models["mine"]["labels"] == list(classifiers.LABELS)
    assert models["nuclei"]["task"] == "segment"
    assert str(tmp_path) not in said.text


def test_an_archive_is_made_once_for_all_who_ask(make):
    made = make()
    trial = over(made.put([("a.png", png(0, "cells"))], preset="cells"))
    paths: list[Path] = []
    asks = [threading.Thread(target=lambda: paths.append(archive(trial))) for _ in range(5)]
    for each in asks:
        each.start()
    for each in asks:
        each.join()
    assert len(set(paths)) == 1
    assert len(paths) == 5
    assert zipfile.ZipFile(paths[0]).testzip() is None


# ---------------------------------------------------------------- real images


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.shared
def test_a_lesion_is_found_measured_told_and_given_out(lesion_models, shared, make):
    made = make(models=[read_model(each) for each in lesion_models])
    ph2 = shared / "data" / "ph2"
    names = [path.stem for path in sorted((ph2 / "images").iterdir())[:4]]
    files = [(f"{name}.jpg", (ph2 / "images" / f"{name}.jpg").read_bytes()) for name in names]
    trial = made.put(files, preset="lesions", models=["kind", "lesion"])
    found = told(trial)
    notice = result(trial)["notice"]
    assert notice == "Not a diagnosis."
    with zipfile.ZipFile(archive(trial)) as given:
        assert json.loads(given.read("result.json"))["images"] == list(found.values())
        rows = {row["id"]: row for row in csv.DictReader(io.StringIO(given.read("items.csv").decode()))}
        overlaps = []
        for name in names:
            whole, *regions = found[f"{name}.jpg"]["items"]
            assert whole["masks"] == ["masks"]
            mask = images.decode(trial.browser.mask(whole["id"], "masks")).image
            assert (images.decode(given.read(f"masks/object/{name}.png")).image == mask).all()
            assert images.decode(given.read(f"overlays/{name}.png")).image.shape == (*mask.shape, 3)
            overlaps.append(dice(mask > 0, images.decode((ph2 / "masks" / f"{name}.png").read_bytes()).image > 0))
            for lesion in regions:
                assert lesion["area_px2"] > 0
                assert 0 <= lesion["asymmetry"] <= 1
                assert lesion["label"] in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
                assert 1 / 7 <= lesion["confidence"] <= 1
                assert lesion["label"] in lesion["label_set"] or not lesion["label_set"]
                assert lesion["known"] in (True, False)
                assert lesion["recommendation"].endswith(notice)
                row = rows[lesion["id"]]
                assert (row["label"], row["recommendation"]) == (lesion["label"], lesion["recommendation"])
                assert float(row["area_px2"]) == pytest.approx(lesion["area_px2"])
    assert sum(len(each["items"]) for each in found.values()) > len(names)
    assert np.mean(overlaps) > 0.5


@pytest.mark.shared
def test_the_same_models_alone_tell_the_same(lesion_models, shared, make):
    made = make(models=[read_model(each) for each in lesion_models])
    path = sorted((shared / "data" / "ham10000" / "images").iterdir())[0]
    (image,) = told(made.put([(path.name, path.read_bytes())], models=["lesion", "kind"])).values()
    whole, *regions = image["items"]
    assert whole["masks"] == ["masks"]
    assert all(each["area_px2"] > 0 and each["label"] and each["recommendation"] for each in regions)
