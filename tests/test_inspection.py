"""Inspectors from the command line, on drawn parts whose faults are known to the pixel."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import drawn
import numpy as np
import pytest
from click.testing import CliRunner

from imagier import images
from imagier.cli import main
from imagier.collection import Collection
from imagier.models import store
from imagier.models.inspecting import RATE, Looked, drift, inspect_by, memory_of, rule_of
from imagier.models.model import hash_of, read_model
from imagier.outputs.shown import UNGROUPED, Judging
from imagier.outputs.tables import result_rows
from imagier.training.inspector import folds_of
from imagier.types import ModelError, SettingError
from imagier.workflows import pictures, train
from imagier.workflows import run as work
from imagier.workflows._compare_text import lines
from imagier.workflows.browse import Browser
from imagier.workflows.compare import _Said, compare
from imagier.workflows.inspect import inspect
from imagier.workflows.organise import plan
from imagier.workflows.run import run

SIDE = 176


def plate(seed: int, fault: str | None = None, light: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A ribbed plate, and what is wrong with it: (h, w, 3) uint8, (h, w) bool."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIDE)[None, :] + rng.uniform(0, 22)
    image = 120 + 35 * np.sin(columns * 2 * np.pi / 22) + rng.normal(0, 5, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), bool)
    if fault is not None:
        x, y = rng.integers(40, SIDE - 40, 2)
        mask[y - 14 : y + 14, x - 14 : x + 14] = True
        image[mask] = {"dent": 235, "hole": 10}[fault] + rng.normal(0, 5, int(mask.sum()))
    image = cv2.GaussianBlur(image * light, (0, 0), 0.7).clip(0, 255).astype(np.uint8)
    return np.repeat(image[:, :, None], 3, axis=2), mask


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """good/ to learn from, new/ good ones, bad/KIND and masks/KIND."""
    folder = tmp_path_factory.mktemp("plates")
    for at in range(30):
        drawn.save(folder / "good" / f"{at}.png", plate(at)[0])
    for at in range(16):
        drawn.save(folder / "new" / f"{at}.png", plate(100 + at)[0])
        kind = ("dent", "hole")[at % 2]
        image, mask = plate(200 + at, kind)
        drawn.save(folder / "bad" / kind / f"{at}.png", image)
        drawn.save(folder / "masks" / kind / f"{at}.png", mask.astype(np.uint8) * 255)
    return folder


@pytest.fixture(scope="module")
def model(parts) -> Path:
    """A PatchCore of it."""
    told = CliRunner().invoke(
        main, ["train", "inspector", "--good", str(parts / "good"), "--into", str(parts / "model"), "--quiet"]
    )
    assert told.exit_code == 0, told.output
    assert "by 30 that were not learnt from" in told.output
    return parts / "model"


def judged(parts: Path, model: Path, *more: str) -> dict:
    path = model.with_suffix(".json")
    words = ["evaluate", str(model), "--good", str(parts / "new"), "--bad", str(parts / "bad"), "--json", str(path)]
    told = CliRunner().invoke(main, [*words, "--quiet", *more])
    assert told.exit_code == 0, told.output
    return json.loads(path.read_text())


def test_faults_never_seen_are_found_and_where(parts, model, tmp_path):
    page = tmp_path / "page.html"
    told = judged(parts, model, "--masks", str(parts / "masks"), "--page", str(page))
    assert told["good"] == told["images"] - 16 == 16
    assert told["image_auroc"]["mean"] > 0.97
    assert told["pixel_auroc"]["mean"] > 0.95
    assert told["pro"]["mean"] > 0.7
    assert told["average_precision"]["mean"] > 0.97
    assert told["dice"]["n"] == 16
    assert set(told["kinds"]) == {"dent", "hole"}
    assert told["kinds"]["hole"]["miss"]["n"] == 8
    assert told["false_reject"]["n"] == 16
    assert told["image_auroc"]["ci95"][0] <= told["image_auroc"]["mean"] <= told["image_auroc"]["ci95"][1]
    html = page.read_text()
    assert 'alt="Scores, and the line"' in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_inspect_writes_verdicts_heatmaps_and_masks(parts, model, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    words = ["inspect", str(parts / "bad"), str(parts / "new"), str(broken), "--model", str(model)]
    told = CliRunner().invoke(main, [*words, "--into", str(tmp_path / "out"), "--quiet"])
    assert told.exit_code == 3, told.output
    assert "broken.png" in told.output
    made = json.loads((tmp_path / "out" / "verdicts.json").read_text())
    assert made["false_reject"]["n"] == 30
    assert len(made["failed"]) == 1
    rows = {row["file"]: row for row in made["images"]}
    assert len(rows) == 32
    right = 0
    for path, row in rows.items():
        shown = images.read(tmp_path / "out" / row["heatmap"]).image
        assert shown.shape == (SIDE, SIDE, 3)
        bad = "/bad/" in path
        right += bad == (row["verdict"] == "bad")
        if bad and row["defects"]:
            name = Path(path)
            true = images.read(parts / "masks" / name.parent.name / name.name).image > 127
            found = images.read(tmp_path / "out" / row["mask"]).image > 127
            assert (found & true).any()
            x0, y0, x1, y1 = max(row["defects"], key=lambda each: each["area"])["box"]
            assert true[y0:y1, x0:x1].any()
    assert right >= 29
    with (tmp_path / "out" / "verdicts.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["verdict"] for row in table] == [row["verdict"] for row in made["images"]]
    assert made["drift"]["images"] == 32


def test_a_run_under_another_lamp_is_told_from_bad_parts(parts, model, tmp_path):
    for at in range(24):
        drawn.save(tmp_path / "dark" / f"{at}.png", plate(300 + at, light=0.45)[0])
    told = inspect([tmp_path / "dark"], model=model, into=tmp_path / "out", progress=False)
    assert told.drift.changed
    assert told.drift.features > 1
    assert "Has the lamp, the camera or the part changed?" in told.lines()[-1]
    memory = memory_of(read_model(model))
    same = drift(memory, memory.held[:24].tolist(), memory.middles[0])
    assert not same.changed
    assert same.features == 0


def test_one_rate_means_fewer_alarms_than_another(model):
    found = read_model(model)
    lines = [rule_of(found, rate).line for rate in (0.3, 0.1, 0.05)]
    assert lines[0].threshold < lines[1].threshold <= lines[2].threshold
    assert lines[0].rate == pytest.approx(9 / 31)
    with pytest.raises(SettingError, match="rate cannot be 5"):
        rule_of(found, 5)


def test_with_bad_ones_shown_a_score_has_a_probability(parts, tmp_path):
    made = train.inspector(good=parts / "good", bad=parts / "bad", into=tmp_path / "model", progress=False)
    told = inspect([parts / "new", parts / "bad"], model=made.folder, into=tmp_path / "out", progress=False)
    sure = {row["file"]: row["probability"] for row in told.rows}
    bad, good = ([value for path, value in sure.items() if ("/bad/" in path) == kind] for kind in (True, False))
    assert min(bad) > max(good)
    assert np.mean(good) < 0.3 < 0.7 < np.mean(bad)


def test_a_second_run_leaves_no_mask_of_the_first(parts, model, tmp_path):
    for rate in (0.9, 0.001):
        told = inspect([parts / "new"], model=model, into=tmp_path / "out", rate=rate, progress=False)
        there = {path.name for path in (tmp_path / "out" / "masks").glob("*.png")}
        assert there == {Path(row["mask"]).name for row in told.rows if "mask" in row}


def test_of_a_few_large_bundles_none_is_held_out_whole():
    joined = np.repeat([0, 1], [500, 100])
    for seed in range(20):
        folds = folds_of(joined, np.random.default_rng(seed).permutation(600), True, 2)
        assert set(folds) == {0, 1}
    folds = folds_of(np.arange(2000), np.random.default_rng(0).permutation(2000), True, 2)
    assert (folds == -1).mean() == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize("config", ["padim", "knn"])
def test_every_method_learns_is_saved_and_tells_the_same_again(parts, tmp_path, config):
    made = train.inspector(good=parts / "good", config=config, into=tmp_path / "model", progress=False)
    assert made.card.inspector.method == config
    given = [images.read(each).image for each in sorted((parts / "bad").rglob("*.png"))[:3]]
    first = inspect_by(made)(given)
    shutil.copytree(made.folder, tmp_path / "copy")
    again = inspect_by(read_model(tmp_path / "copy"))(given)
    np.testing.assert_allclose([each.score for each in first], [each.score for each in again], rtol=1e-6)
    assert judged(parts, made.folder)["image_auroc"]["mean"] > (0.9 if config == "padim" else 0.8)
    assert "pixel_auroc" not in judged(parts, made.folder)


def test_the_same_command_gives_the_same_model(parts, model, tmp_path):
    train.inspector(good=parts / "good", into=tmp_path / "model", progress=False)
    assert (tmp_path / "model" / "memory.npz").read_bytes() == (model / "memory.npz").read_bytes()


def test_a_mixed_folder_is_learnt_from_as_if_the_bad_ones_were_not_there(parts, model, tmp_path):
    shutil.copytree(parts / "good", tmp_path / "mixed")
    for at in range(4):
        drawn.save(tmp_path / "mixed" / f"bad{at}.png", plate(400 + at, "dent")[0])
    mixed = train.inspector(unlabelled=tmp_path / "mixed", into=tmp_path / "model", progress=False)
    assert "4 least like the others left out" in mixed.card.source
    clean, robust = (judged(parts, each)["image_auroc"]["mean"] for each in (model, mixed.folder))
    assert robust > clean - 0.03


def test_parts_at_any_angle_are_laid_upright(tmp_path):
    """Cams with their nose anywhere; a bad one has a second nose. What is found lies where it is in the image."""
    from test_anomaly import part

    rng = np.random.default_rng(0)
    for at in range(24):
        image = part(rng.uniform(0, 360), rng.uniform(90, 110), rng.uniform(75, 85), 44)
        drawn.save(tmp_path / "good" / f"{at}.png", image)
    shown = []
    for _ in range(6):
        angle, x, y = rng.uniform(0, 360), 100, 80
        image = part(angle, x, y, 44)
        spot = (round(x - 28 * np.cos(np.radians(angle))), round(y - 28 * np.sin(np.radians(angle))))
        cv2.circle(image, spot, 9, (20, 20, 20), -1)
        shown.append((image, spot))
    settings = {"turned": True, "method": "padim"}
    made = train.inspector(good=tmp_path / "good", into=tmp_path / "model", settings=settings, progress=False)
    rule, look = rule_of(made, RATE), inspect_by(made)
    for (image, (x, y)), looked in zip(shown, look([image for image, _ in shown]), strict=True):
        told = rule.say(looked, *image.shape[:2])
        assert told.bad
        row, column = np.unravel_index(told.heat.argmax(), told.heat.shape)
        assert np.hypot(row - y, column - x) < 16
    (tmp_path / "empty").mkdir()
    drawn.save(tmp_path / "empty" / "plain.png", np.full((160, 200, 3), 90, np.uint8))
    drawn.save(tmp_path / "empty" / "whole.png", shown[0][0])
    told = inspect([tmp_path / "empty"], model=made.folder, into=tmp_path / "out", progress=False)
    assert len(told.rows) == 1
    assert "no part stands out" in told.failed[0]
    assert "plain.png" in told.failed[0]


def test_heat_is_smoothed_and_a_share_of_the_score_taken_off_it(parts, model, tmp_path):
    how = {"smooth": 0.0, "bleed": 0.25}
    other = train.inspector(good=parts / "good", into=tmp_path / "other", settings=how, progress=False)
    bad = [images.decode(path.read_bytes()).image for path in sorted((parts / "bad" / "hole").iterdir())]
    plain, taken = (inspect_by(each)(bad) for each in (read_model(model), other))
    for one, two in zip(plain, taken, strict=True):
        assert two.score == pytest.approx(one.score, rel=1e-4)
        raw = cv2.resize(two.heat, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(two.heatmap(SIDE, SIDE), raw - 0.25 * two.score, atol=1e-4)
        smoothed = cv2.GaussianBlur(raw, (0, 0), SIDE * 4 / 224)
        np.testing.assert_allclose(one.heatmap(SIDE, SIDE), smoothed, rtol=1e-3)
    # The line for a place is drawn by heat of the same kind: it lies lower, and what is outlined fits more closely.
    assert rule_of(other, RATE).spot < rule_of(read_model(model), RATE).spot


def test_larger_images_are_seen_in_windows(parts, tmp_path):
    settings = {"size": [352, 256], "maps": ["map8", "map16"], "memory": 500}
    made = train.inspector(good=parts / "good", into=tmp_path / "model", settings=settings, progress=False)
    looked = inspect_by(made)([plate(500, "dent")[0]])[0]
    assert looked.heat.shape == (44, 32)
    heat = looked.heatmap(SIDE, SIDE)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert plate(500, "dent")[1][max(0, row - 12) : row + 12, max(0, column - 12) : column + 12].any()


def test_a_heatmap_lies_where_the_image_lay():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    looked = Looked(1.0, heat, np.array([[0.5, 0, 10.0], [0, 0.25, -3.0]]), (64, 64), np.zeros(3), 4 / 224, 0.0)
    made = looked.heatmap(200, 150)  # the canvas's (40, 24) comes from x = (40 - 10) / 0.5, y = (24 + 3) / 0.25
    row, column = np.unravel_index(made.argmax(), made.shape)
    assert (column, row) == (pytest.approx(60, abs=2), pytest.approx(108, abs=4))


def test_the_preset_ends_with_verdicts_and_groups_of_defects(parts, model, tmp_path):
    words = ["run", str(parts / "bad"), str(parts / "new"), "--into", str(tmp_path / "out"), "--preset", "inspection"]
    told = CliRunner().invoke(main, [*words, "--set", f"inspect.model={model}", "--threads", "1"])
    assert told.exit_code == 0, told.output
    rows = (
        Collection.open(tmp_path / "out").read(["path", "parent", "verdict", "anomaly", "defects", "group"]).to_pylist()
    )
    wholes = [row for row in rows if row["parent"] is None]
    assert len(wholes) == 32
    assert np.mean([("/bad/" in row["path"]) == (row["verdict"] == "bad") for row in wholes]) > 0.9
    cut = [row for row in rows if row["parent"] is not None]
    assert len(cut) == sum(row["defects"] for row in wholes)
    assert all(row["group"] is not None for row in cut)


def test_the_stage_says_what_the_command_says(parts, model, tmp_path):
    made = run(
        parts / "bad", into=tmp_path / "out", pipeline=[{"inspect": {"model": str(model)}}], report=False, threads=1
    )
    rows = made.read(["path", "anomaly", "verdict", "defects"]).to_pylist()
    told = inspect([parts / "bad"], model=model, into=tmp_path / "files", progress=False)
    by_path = {row["file"]: row for row in told.rows}
    for row in rows:
        other = by_path[row["path"]]
        assert row["anomaly"] == pytest.approx(other["score"], rel=0.05)  # bfloat16 there, where there is any
        assert row["defects"] == pytest.approx(len(other["defects"]), abs=1)


def steps(model: Path, *first: dict) -> list[dict]:
    return [
        *first,
        {"inspect": {"model": str(model)}},
        {"embed": {"encoder": "classical"}},
        {"cluster": {"k": 2}},
    ]


def test_each_run_tells_of_its_own_images_whether_they_differ_as_a_whole(parts, model, tmp_path):
    for at in range(24):
        drawn.save(tmp_path / "line" / "day" / f"{at}.png", plate(300 + at)[0])
    made = run(tmp_path / "line", into=tmp_path / "out", pipeline=steps(model), report=False, threads=2)
    facts = made.receipt("inspect").facts
    assert (facts["images"], facts["drift"]["images"], facts["drift"]["changed"]) == (24, 24, False)
    verdicts = made.read(["verdict"])["verdict"].to_pylist()
    assert facts["bad"] == verdicts.count("bad")
    assert facts["threshold"] == rule_of(read_model(model), RATE).line.threshold

    for at in range(20):
        drawn.save(tmp_path / "line" / "night" / f"{at}.png", plate(400 + at, light=0.6)[0])
    words = ["run", "--into", str(tmp_path / "out"), "--quiet"]
    told = CliRunner().invoke(main, words)
    assert "inspect: the middle image of this run is stranger than" in told.output
    dark = Collection.open(tmp_path / "out").receipt("inspect")
    assert (dark.facts["images"], dark.facts["drift"]["changed"], dark.items) == (20, True, 44)
    assert dark.facts["drift"]["features"] > 2 * facts["drift"]["features"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The middle image of this run is stranger than" in page
    assert "44 images were inspected" in page

    # Nothing new: the receipt stays, and nobody is told again. One gone: it is of fewer items, and of the same run.
    assert "the middle image" not in CliRunner().invoke(main, words).output
    (tmp_path / "line" / "day" / "0.png").unlink()
    CliRunner().invoke(main, words)
    left = Collection.open(tmp_path / "out").receipt("inspect")
    assert (left.items, left.facts) == (43, dark.facts)


def test_verdicts_stand_beside_clusterings_a_segmenter_and_the_truth(parts, model, tmp_path):
    segment = {"segment": {"model": "nuclei", "threshold": 0.9, "least": 100}, "as": "faults"}
    folder = tmp_path / "mixed"
    shutil.copytree(parts / "new", folder / "good")
    for kind in ("dent", "hole"):
        shutil.copytree(parts / "bad" / kind, folder / kind)
    made = run(folder, into=tmp_path / "out", pipeline=steps(model, segment), threads=2)
    found = compare(made)
    table = made.read(["label_folder", "verdict", "faults_objects", "anomaly"]).to_pandas()
    by = {each.name: each for each in found.verdicts}
    assert [(each.name, each.kind, each.items) for each in found.verdicts] == [
        ("faults", "segment", 32),
        ("inspect", "inspect", 32),
    ]
    bad, seen = table["verdict"] == "bad", table["faults_objects"] > 0
    assert by["inspect"].bad == pytest.approx(bad.mean())
    assert by["faults"].bad == pytest.approx(seen.mean())
    cells = [(bad & seen).sum(), (bad & ~seen).sum(), (~bad & seen).sum(), (~bad & ~seen).sum()]
    assert by["inspect"].alike["faults"] == cells
    for value in by["inspect"].values:
        own = table[table["label_folder"] == value["value"]]
        assert (value["items"], value["bad"]) == (len(own), pytest.approx((own["verdict"] == "bad").mean()))
        others = table[table["label_folder"] != value["value"]]
        assert value["auroc"] == pytest.approx((own["anomaly"].values[:, None] > others["anomaly"].values).mean())
    (clustering,) = found.clusterings
    assert clustering.verdicts["inspect"].explained is not None
    assert clustering.verdicts["faults"].explained is None  # a count of objects is no score of strangeness
    assert json.loads((tmp_path / "out" / "compare.json").read_bytes()) == found.to_json()  # though there is one alone
    said = "\n".join(lines(found))
    assert f"inspect beside faults: both bad {cells[0]}, inspect alone {cells[1]}, faults alone {cells[2]}" in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{cells[0]} bad by both, {cells[1]} by inspect alone" in page
    entry = next(row for row in result_rows(made) if row["filename"] == "dent/0.png")
    assert set(entry["inspected"]) == {"anomaly", "verdict", "anomaly_typical", "defects", "defect_share"}


def test_images_are_laid_out_by_their_verdict_and_defects_by_that_of_their_image(parts, model, tmp_path):
    words = ["run", str(parts / "bad"), "--into", str(tmp_path / "out"), "--preset", "inspection", "--no-report"]
    told = CliRunner().invoke(main, [*words, "--set", f"inspect.model={model}", "--quiet"])
    assert told.exit_code == 0, told.output
    collection = Collection.open(tmp_path / "out")
    rows = collection.read(["parent", "verdict"]).to_pylist()
    wholes = [row["verdict"] for row in rows if row["parent"] is None]
    planned = plan(collection, by="verdict", to=tmp_path / "by").to_pandas()
    assert sorted(planned["destination"].str.partition("/")[0]) == sorted(wholes)
    assert set(planned["action"]) == {"copy"}
    planned = plan(collection, by="verdict,group", to=tmp_path / "by").to_pandas()
    cut = planned[planned["action"] == "crop"]
    assert len(cut) == len(rows) - len(wholes)
    assert cut["destination"].str.match(r"bad/group_\d\d/").all()
    planned = plan(collection, by="label_folder,verdict", to=tmp_path / "by").to_pandas()
    assert set(planned["action"]) == {"copy"}  # a region has its file's folder too; what is said is said of images
    planned = plan(collection, by="label_folder", to=tmp_path / "by").to_pandas()
    assert (planned["action"] == "crop").sum() == len(rows) - len(wholes)


def test_a_region_counts_with_the_nearest_of_which_something_was_said():
    judging = Judging(None, "inspect", ("anomaly", "verdict"))
    # An image, a part of it that was inspected, and two defects of that; another image with nothing said of it.
    scores = np.array([np.nan, 3.0, np.nan, np.nan, np.nan, 1.0])
    bad = np.array([False, True, False, False, False, False])
    said = _Said(judging, scores, bad, np.array([-1, 0, 1, 2, -1, -1]))
    beside = said.beside(np.array([UNGROUPED, UNGROUPED, 0, 0, 1, 1]))
    assert beside.verdict.items == 3  # the defects with what was said of their part, and the last image
    assert beside.explained == 1
    assert beside.verdict.ari == 1


def test_a_report_sets_each_verdict_under_its_own_true_value(parts, model, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(parts / "new", folder / "agood")
    shutil.copytree(parts / "bad" / "dent", folder / "dent")
    inspecting = [{"inspect": {"model": str(model)}}, {"crop": {"source": "mask", "keep": "each"}}]
    seeing = [{"segment": {"model": "nuclei"}, "as": "faults"}, {"embed": {"encoder": "classical"}}, {"cluster": {}}]
    made = run(folder, into=tmp_path / "out", pipeline=[*inspecting, *seeing], threads=1)
    by = {each.name: each for each in compare(made).verdicts}
    assert [each["value"] for each in by["faults"].values] == ["dent"]  # what was cut out of good ones is nothing
    assert by["inspect"].alike == {}  # one judged images, the other what was cut out of them
    page = (tmp_path / "out" / "report.html").read_text()
    row = re.search(r"<th scope=\"row\">faults.*?</tr>", page, re.S)[0]
    order = re.findall(r"(\w+): bad</th>", page)
    cells = re.findall(r"<td class=\"n\">(.*?)</td>", row)[2:]
    assert cells[2 * order.index("agood") : 2 * order.index("agood") + 2] == ["–", "–"]
    assert cells[2 * order.index("dent")] != "–"


def test_what_a_run_that_died_looked_at_is_told_by_the_next(parts, model, tmp_path, monkeypatch):
    shutil.copytree(parts / "new", tmp_path / "line")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    kept = work._receipts
    monkeypatch.setattr(work, "_receipts", dies)
    how = {"into": tmp_path / "out", "pipeline": steps(model), "report": False, "threads": 1}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "line", **how)
    monkeypatch.setattr(work, "_receipts", kept)
    shutil.copy(parts / "bad" / "dent" / "0.png", tmp_path / "line" / "late.png")
    made = run(tmp_path / "line", **how)
    assert made.receipt("inspect").facts["images"] == 17
    shutil.copy(parts / "bad" / "dent" / "2.png", tmp_path / "line" / "later.png")
    monkeypatch.setattr(work, "_receipts", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "line", **how)
    monkeypatch.setattr(work, "_receipts", kept)
    facts = run(tmp_path / "line", **how).receipt("inspect").facts
    assert (facts["images"], facts["drift"]["images"]) == (18, 18)


# ---------------------------------------------------------------- messages


def refused(*words: str) -> str:
    told = CliRunner().invoke(main, list(words))
    assert told.exit_code == 1, told.output
    assert "Traceback" not in told.output
    assert told.output.count("imagier: ") == 1
    return " ".join(told.output.split())


def test_what_cannot_be_learnt_from_is_told(parts, tmp_path):
    learn = ("train", "inspector", "--into", str(tmp_path / "model"), "--quiet")
    (tmp_path / "none").mkdir()
    assert "is no folder that holds images" in refused(*learn, "--good", str(tmp_path / "none"))
    drawn.save(tmp_path / "one" / "a.png", plate(0)[0])
    assert "too few images that differ, 1 among 1 that are left to learn from: 2 or more" in refused(
        *learn, "--good", str(tmp_path / "one")
    )
    for at in range(3):
        drawn.save(tmp_path / "copies" / f"{at}.png", plate(0)[0])
    assert "too few images that differ, 1 among 3 that are left to learn from" in refused(
        *learn, "--good", str(tmp_path / "copies")
    )
    drawn.save(tmp_path / "sizes" / "a.png", plate(0)[0])
    drawn.save(tmp_path / "sizes" / "b.png", plate(1)[0][:100])
    assert "padim compares places, and images are of 2 sizes, such as 176 x 100 and 176 x 176" in refused(
        *learn, "--good", str(tmp_path / "sizes"), "--config", "padim"
    )
    assert "give a folder of good images by --good, or a mixed one" in refused(*learn)
    assert "is among the bad ones too" in refused(*learn, "--good", str(parts / "good"), "--bad", str(parts / "good"))
    folder = shutil.copytree(store.find("builtin", "embed").folder, tmp_path / "encoder")
    with (folder / "network.onnx").open("ab") as file:
        file.write(b"\x12\x00")  # other bytes, which no reader minds
    card = json.loads((folder / "model.json").read_text())
    for entry in card["files"].values():
        entry["sha256"] = hash_of(folder / "network.onnx")
    (folder / "model.json").write_text(json.dumps(card))
    assert "encoder cannot be" in (told := refused(*learn, "--good", str(parts / "good"), "--set", f"encoder={folder}"))
    assert "an inspector finds its encoder by name" in told
    drawn.save(tmp_path / "plain" / "a.png", np.full((90, 90, 3), 50, np.uint8))
    drawn.save(tmp_path / "plain" / "b.png", plate(1)[0])
    told = refused(*learn, "--good", str(tmp_path / "plain"), "--set", "turned=true")
    assert "a.png: no part stands out from the image's border" in told
    drawn.save(tmp_path / "two" / "a.png", plate(0)[0])
    drawn.save(tmp_path / "two" / "b.png", plate(1)[0])
    assert "2 among 2 that are left to learn from: 3 or more" in refused(
        *learn, "--good", str(tmp_path / "two"), "--config", "padim"
    )
    assert "hottest does not go with method=knn" in refused(
        *learn, "--good", str(parts / "good"), "--config", "knn", "--set", "hottest=0.5"
    )
    blunt = ("--set", "smooth=0.2", "--set", "bleed=0.5", "--set", "hottest=0.01")
    for at in range(8):  # smooth plates, each with one warm place, of which wide smoothing leaves nothing
        image = np.full((SIDE, SIDE, 3), 120, np.uint8)
        image[20 * at : 20 * at + 12, 60:72] = 250
        drawn.save(tmp_path / "spots" / f"{at}.png", image)
    assert "bleed=0.5 takes off all heat that smooth=0.2 leaves of a good part" in refused(
        *learn, "--good", str(tmp_path / "spots"), *blunt
    )
    assert "unknown setting 'memry'. Did you mean memory" in refused(
        *learn, "--good", str(parts / "good"), "--set", "memry=3"
    )
    assert "size cannot be 180: the encoder takes 176 pixels" in refused(
        *learn, "--good", str(parts / "good"), "--set", "size=[180,180]"
    )
    assert not (tmp_path / "model").exists()


def test_what_cannot_be_judged_is_told(parts, model, tmp_path):
    judge = ("evaluate", str(model), "--quiet")
    assert "give --good and --bad" in refused(*judge, "--good", str(parts / "new"))
    assert "is among the good ones and the bad ones" in refused(
        *judge, "--good", str(parts / "new"), "--bad", str(parts / "new")
    )
    for kind in ("dent", "hole"):
        for path in (parts / "masks" / kind).iterdir():
            drawn.save(tmp_path / "masks" / kind / path.name, np.zeros((20, 30), np.uint8))
    assert "30 x 20" in refused(
        *judge, "--good", str(parts / "new"), "--bad", str(parts / "bad"), "--masks", str(tmp_path / "masks")
    )
    assert "--images does not go with a model that is there to inspect" in refused(*judge, "--images", str(parts))


def test_a_model_of_another_encoder_is_told(parts, model, tmp_path):
    shutil.copytree(model, tmp_path / "other")
    card = json.loads((model / "model.json").read_text())
    card["inspector"]["sha256"] = "0" * 64
    (tmp_path / "other" / "model.json").write_text(json.dumps(card))
    with pytest.raises(
        ModelError, match=r"embedding of 'embed' \(sha256 000000000000…\), which is not on this machine"
    ):
        inspect([parts / "new"], model=tmp_path / "other", into=tmp_path / "out", progress=False)
    with pytest.raises(ModelError, match="no model that can inspect whatever there is ships with imagier"):
        store.find("builtin", "inspect")


def test_heat_is_laid_over_what_was_inspected(model, parts, tmp_path):
    """Made again by the inspector that judged, hottest in the fault, and none of it on good parts to speak of."""
    steps = [{"inspect": {"model": str(model)}}, {"crop": {"source": "mask", "keep": "each"}}]
    collection = run([parts / "bad", parts / "new"], into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    browser = Browser(collection)
    rows = collection.read(["id", "name", "parent"]).to_pylist()
    whole = [row for row in rows if row["parent"] is None and "/" in row["name"]]
    good = [row for row in rows if row["parent"] is None and "/" not in row["name"]]
    assert pictures.layers(browser, whole[0]["id"])[0].kind == "heat"
    opacity = np.stack([alpha(pictures.layer(browser, row["id"], "heat", SIDE)) for row in whole])
    masks = np.stack([images.decode((parts / "masks" / row["name"]).read_bytes()).image > 0 for row in whole])
    assert opacity[masks].min() == opacity.max() > 0
    unhurt = np.stack([alpha(pictures.layer(browser, row["id"], "heat", SIDE)) for row in good])
    assert unhurt.mean() < opacity.max() / 10
    small = images.decode(browser.picture(whole[0]["id"], 90)).image
    assert alpha(pictures.layer(browser, whole[0]["id"], "heat", 90)).shape == small.shape[:2]
    region = next(row for row in rows if row["parent"] is not None)
    assert "heat" not in [each.kind for each in pictures.layers(browser, region["id"])]
    with pytest.raises(SettingError, match="was not inspected"):
        pictures.layer(browser, region["id"], "heat")
    with pytest.raises(SettingError, match="heat"):
        pictures.coded(browser, whole[0]["id"], "heat")


def alpha(png: bytes) -> np.ndarray:
    """(h, w) of an RGBA PNG."""
    made: np.ndarray = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)[:, :, 3].astype(float)
    return made
