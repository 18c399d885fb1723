"""What the main job promises, end to end, on real images and on drawn ones with exact truth."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imagier
from imagier import images, samples
from imagier.workflows.organise import apply, undo
from imagier.workflows.summary import last_run

KEYS = ["filename", "label", "x", "y", "z", "group", "quality"]

QUICK = ["embed", {"reduce": {"method": "pca"}, "as": "pca"}, {"cluster": {"on": "pca_components"}}, "duplicates"]
"""The default pipeline without the map."""


def command(*words: object) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "imagier.cli", *map(str, words)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["clothing/test", "metal_nut", "figures/images", "nuclei/images", "restoration/train"])
def test_a_real_folder_becomes_a_collection_and_the_same_again_does_nothing(name, shared, tmp_path):
    source, out = shared / "data" / name, tmp_path / "A"
    words = ("run", source, "--into", out, "--json", out / "result.json", "--no-report")
    result = command(*words)
    assert result.returncode == 0, result.stderr
    files = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in (".jpg", ".png"))
    rows = json.loads((out / "result.json").read_text())
    assert [row["filename"] for row in rows] == files
    assert all(list(row) == KEYS for row in rows)
    assert all(isinstance(row[key], float) for row in rows for key in "xyz")

    assert command(*words).returncode == 0
    summary = json.loads((out / "last_run.json").read_text())
    assert summary["decoded"] == 0
    assert set(summary["steps"].values()) == {0}


@pytest.mark.shared
def test_metal_nuts_placed_tomorrow_join_the_group_of_their_nearest_neighbour(shared, tmp_path):
    shutil.copytree(shared / "data" / "metal_nut", tmp_path / "fitted")
    nuts = sorted((tmp_path / "fitted").rglob("*.jpg"))
    for path in nuts[::10][:10]:
        goal = tmp_path / "tomorrow" / path.relative_to(tmp_path / "fitted")
        goal.parent.mkdir(parents=True, exist_ok=True)
        path.rename(goal)
    fitted = imagier.run(tmp_path / "fitted", into=tmp_path / "out", pipeline=QUICK, report=False)
    placed = imagier.run(tmp_path / "tomorrow", into=tmp_path / "out2", like=tmp_path / "out", report=False)
    known, new = (c.read(["embedding", "group"]).to_pandas() for c in (fitted, placed))
    assert len(new) == 10
    vectors = np.stack(known["embedding"])
    nearest = [int(np.linalg.norm(vectors - vector, axis=1).argmin()) for vector in new["embedding"]]
    assert (known["group"].to_numpy()[nearest] == new["group"].to_numpy()).sum() >= 9


def test_of_200_images_with_20_broken_ones_180_are_ok_and_each_other_says_why(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    broken = samples.broken(folder, 0)
    chosen = dict(list(broken.items())[:20])
    for name in set(broken) - set(chosen):
        path = folder / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for at in range(180):
        data = images.encode(samples.draw("nuts", at, size=64).image, "jpeg")
        (folder / f"good_{at:03d}.jpg").write_bytes(data)
    result = command("run", folder, "--into", tmp_path / "out", "--no-report", "--quiet")
    assert result.returncode == 3, result.stderr
    files = imagier.open_collection(tmp_path / "out").files().to_pylist()
    assert len(files) == 200
    assert sum(file["outcome"] == "ok" for file in files) == 180
    bad = {Path(file["path"]).name: file["reason"] for file in files if file["outcome"] == "failed"}
    assert set(bad) == set(chosen)
    assert all(len(reason) > 8 for reason in bad.values())
    shown = command("show", tmp_path / "out", "--failed")
    assert all(name in shown.stdout and reason in shown.stdout for name, reason in bad.items())


@pytest.mark.parametrize("kind", ["tiff", "dicom"])
def test_a_structure_of_8_of_4096_grey_levels_is_seen(kind, tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    drawn = samples.faint(100, 0, levels=8, bits=12)
    for at, sample in enumerate(drawn):
        encode = {
            "tiff": lambda image: images.encode(image, "tiff"),
            "dicom": lambda image: samples.dicom(image, bits=12),
        }
        suffix = {"tiff": "tif", "dicom": "dcm"}[kind]
        path = tmp_path / "images" / f"{sample.label}_{at:03d}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode[kind](sample.image))
    collection = imagier.run(tmp_path / "images", into=tmp_path / "out", pipeline=["embed"], report=False)
    table = collection.read(["embedding", "label_folder"]).to_pandas()
    assert sorted(table["label_folder"].unique()) == ["flat", "structure"]
    scores = cross_val_score(LogisticRegression(), np.stack(table["embedding"]), table["label_folder"], cv=5)
    assert scores.mean() >= 0.95


def save(drawn: list[samples.Sample], folder: Path) -> Path:
    folder.mkdir()
    for at, sample in enumerate(drawn):
        (folder / f"{sample.label}_{at:03d}.png").write_bytes(images.encode(sample.image, "png"))
    return folder


def test_three_drawn_groups_are_found_by_kmeans_and_by_dbscan(tmp_path):
    from sklearn.metrics import adjusted_rand_score

    folder = save(samples.three_groups(90, 0), tmp_path / "images")
    pipeline = [*QUICK[:3], {"cluster": {"method": "dbscan", "on": "pca_components"}, "as": "dense"}]
    collection = imagier.run(folder, into=tmp_path / "out", pipeline=pipeline, report=False)
    facts = collection.receipt("cluster").facts
    assert facts["choice"]["chosen"] == 3
    assert facts["verdict"]["good"]
    table = collection.read(["label_folder", "group", "dense_group"]).to_pandas()
    assert adjusted_rand_score(table["label_folder"], table["group"]) >= 0.95
    assert adjusted_rand_score(table["label_folder"], table["dense_group"]) >= 0.95


@pytest.mark.parametrize("method", ["kmeans", "dbscan", "hdbscan", "agglomerative"])
def test_in_noise_no_good_clustering_is_found(method, tmp_path):
    folder = save(samples.noise(80, 0), tmp_path / "images")
    pipeline = [*QUICK[:2], {"cluster": {"method": method, "on": "pca_components"}}]
    collection = imagier.run(folder, into=tmp_path / "out", pipeline=pipeline, report=False)
    verdict = collection.receipt("cluster").facts["verdict"]
    assert not verdict["good"]
    assert verdict["text"].startswith("no good clustering found")


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything in a folder: kind, content, mode and time of every file."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        if path.is_dir():
            found[str(path.relative_to(folder))] = ("dir", stat.st_mode)
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = (content, stat.st_mode, stat.st_mtime_ns)
    return found


def test_what_organise_moved_it_puts_back_byte_for_byte_and_runs_in_between_decode_nothing(tmp_path):
    samples.write(tmp_path / "demo", per_kind=3)
    source = tmp_path / "demo" / "images"
    before = tree(source)
    collection = imagier.run(source, into=tmp_path / "out", pipeline=QUICK, report=False)
    ids = collection.read(["id", "group"])
    outcome = apply(collection, how="move")
    assert outcome.placed == len(before) - sum(entry[0] == "dir" for entry in before.values())
    assert not any(entry[0] != "dir" for entry in tree(source).values())
    assert all(os.path.exists(path) for path in collection.read(["path"])["path"].to_pylist())
    again = imagier.run(source, into=tmp_path / "out", pipeline=QUICK, report=False)
    assert last_run(again).decoded == 0
    assert last_run(again).removed == 0
    assert again.read(["id", "group"]).equals(ids)
    assert not undo(collection).problems
    assert tree(source) == before
    imagier.run(source, into=tmp_path / "out", pipeline=QUICK, report=False)
    assert last_run(again).decoded == 0
    assert again.read(["id", "group"]).equals(ids)
