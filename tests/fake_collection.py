"""A collection in memory, with the methods of the real one: drawn pictures and facts as the stages give them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow

from imagier.collection import BY_PEOPLE, DERIVED, FILES, ITEMS, Receipt, label_of

WIDTH = 6
"""Components of the embedding."""


class FakeCollection:
    """What outputs may use of a Collection, and nothing else."""

    def __init__(self, folder: Path, items: pa.Table, files: pa.Table, receipts: Sequence[Receipt]) -> None:
        self.folder = folder
        self._items, self._files, self._receipts = items, files, list(receipts)

    @property
    def columns(self) -> list[str]:
        return list(self._items.column_names)

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        assert where is None
        return self._items if columns is None else self._items.select(list(columns))

    def files(self) -> pa.Table:
        return self._files

    def receipts(self) -> dict[str, Receipt]:
        return {receipt.step: receipt for receipt in self._receipts}

    def receipt(self, step: str) -> Receipt | None:
        return self.receipts().get(step)


def drawn_jpeg(number: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A disc on a ground; hue and place follow from the number."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    hue = np.array([(number * 37) % 200, (number * 71) % 200, (number * 113) % 200], dtype=np.uint8)
    pixels = np.full((height, width, 3), 235, dtype=np.uint8)
    pixels[(x - width * (0.3 + 0.04 * (number % 10))) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2] = hue
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def receipt(
    step: str, stage: str, writes: Sequence[str], facts: dict[str, Any] | None = None, **settings: Any
) -> Receipt:
    return Receipt(
        step=step,
        stage=stage,
        version=1,
        settings=dict(settings),
        key=hashlib.sha256(step.encode()).hexdigest(),
        reads=["embedding"],
        writes=list(writes),
        precision="float32",
        weights=["ab" * 32] if stage == "embed" else [],
        items=0,
        failed=0,
        seconds=1.25,
        made="2026-01-02T03:04:05+00:00",
        facts=facts or {},
    )


def cluster_facts(
    ids: Sequence[str], groups: np.ndarray, distances: np.ndarray, *, good: bool = True
) -> dict[str, Any]:
    """Facts as the cluster stage gives them, for groups (-1 noise, -2 null)."""
    found = []
    for group in sorted(set(groups[groups >= 0].tolist())):
        rows = np.flatnonzero(groups == group)
        central = rows[np.argsort(distances[rows], kind="stable")][:9]
        found.append(
            {
                "group": group,
                "size": len(rows),
                "cohesion": 0.8 - 0.05 * (group % 10),
                "quality": "high" if group % 3 else "low",
                "central": [ids[row] for row in central],
            }
        )
    scores = {"silhouette": 0.41, "davies_bouldin": 0.93, "calinski_harabasz": 812.5}
    text = f"{len(found)} groups, well apart." if good else "no good clustering found: the silhouette is 0.05."
    return {
        "method": "kmeans",
        "on": ["pca_components"],
        "items": int((groups > -2).sum()),
        "noise": float((groups == -1).mean()) if len(groups) else 0.0,
        "groups": found,
        "cohesion_rule": "Cohesion is 1 less the mean distance over that of all items; low is below 0.5.",
        "scores": {"space": scores, "embedding": {**scores, "silhouette": None}},
        "stability": {"ari": 0.88, "ari_each": [0.9, 0.86, 0.88, 0.91, 0.85], "resamples": 5},
        "verdict": {"good": good, "text": text},
        "choice": {
            "k": [2, 3, 4, 5, 6],
            "inertia": [900.0, 500.0, 300.0, 280.0, 270.0],
            "silhouette": [0.3, 0.38, 0.41, 0.36, None],
            "elbow": 4,
            "silhouette_k": 4,
            "chosen": 4,
            "why": "Elbow and silhouette agree on k = 4.",
        },
    }


def knee_facts() -> dict[str, Any]:
    curve = np.concatenate([np.linspace(0.1, 0.3, 90), np.linspace(0.32, 1.4, 10)])
    return {
        "distances": curve.tolist(),
        "neighbour": 5,
        "eps": 0.31,
        "position": 90,
        "why": "The knee of the curve lies at 0.31.",
    }


def fake(
    folder: Path,
    n: int = 40,
    groups: int = 4,
    *,
    maps: Sequence[str] = ("pca_", ""),
    clusterings: Sequence[str] = ("",),
    noise: float = 0.1,
    unplaced: int = 1,
    flat: bool = False,
    good: bool = True,
    names: Sequence[str] | None = None,
    copies: int = 1,
    failed: Sequence[tuple[str, str]] = (("broken/bad.jpg", "the file is no image"),),
    thumbnails: Sequence[bytes] | None = None,
    points: np.ndarray | None = None,
    grouping: np.ndarray | None = None,
) -> FakeCollection:
    """n items in `groups` groups. The last `unplaced` items have no embedding; the first `copies` files lie at two
    paths."""
    rng = np.random.default_rng(0)
    names = list(names) if names is not None else [f"kind{i % 3}/{i:05d}.jpg" for i in range(n)]
    hashes = sorted(hashlib.sha256(f"{i}".encode()).hexdigest() for i in range(n))
    number = np.where(rng.random(n) < noise, -1, np.arange(n) % max(groups, 1) if grouping is None else grouping)
    unplaced = min(unplaced, n)
    number[n - unplaced :] = -2
    centres = rng.normal(0, 4, (max(groups, 1), 3))
    where = centres[np.maximum(number, 0)] + rng.normal(0, 1, (n, 3)) if points is None else points
    where = where.astype(np.float32)
    if flat:
        where[:, 2] = 0
    if points is not None:
        centres = np.stack([where[number == g].mean(axis=0) for g in range(max(groups, 1))])
    away = np.linalg.norm(where - centres[np.maximum(number, 0)], axis=1).astype(np.float32)
    gone = number == -2
    pictures = list(thumbnails) if thumbnails is not None else [drawn_jpeg(i) for i in range(min(n, 50))]

    columns: dict[str, pa.Array] = {
        "id": pa.array(hashes, pa.string()),
        "file": pa.array(hashes, pa.string()),
        "page": pa.array([0] * n, pa.int32()),
        "parent": pa.nulls(n, pa.string()),
        "box": pa.nulls(n, pa.list_(pa.float32(), 4)),
        "width": pa.array([96] * n, pa.int32()),
        "height": pa.array([64] * n, pa.int32()),
        "depth": pa.array(["uint8"] * n, pa.string()),
        "black": pa.array([0.0] * n, pa.float32()),
        "white": pa.array([255.0] * n, pa.float32()),
        "pixel_size_um": pa.nulls(n, pa.float32()),
        "thumbnail": pa.array([pictures[i % len(pictures)] for i in range(n)], pa.binary()),
        "phash": pa.array(range(n), pa.uint64()),
    }
    vectors = pa.array(rng.normal(size=n * WIDTH).astype(np.float32))
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, WIDTH, mask=pa.array(gone))
    made = [receipt("embed", "embed", ["embedding"], encoder="classical")]
    for prefix in maps:
        for axis, name in enumerate("xyz"):
            columns[prefix + name] = pa.array(where[:, axis] * (2 if prefix else 1), pa.float32(), mask=gone)
        method = prefix.rstrip("_") or "umap"
        facts: dict[str, Any] = {"method": method, "dimensions": 2 if flat else 3, "items": n}
        if method == "pca":
            facts["explained_variance"] = [0.3, 0.2, 0.1, 0.05, 0.02]
        made.append(
            receipt(prefix.rstrip("_") or "reduce", "reduce", [prefix + c for c in "xyz"], facts, method=method)
        )
    for prefix in clusterings:
        columns[f"{prefix}group"] = pa.array(number, pa.int32(), mask=gone)
        columns[f"{prefix}distance"] = pa.array(away, pa.float32(), mask=gone)
        quality = [None if g < 0 else ("high" if g % 3 else "low") for g in number]
        columns[f"{prefix}quality"] = pa.array(quality, pa.string())
        columns[f"{prefix}far"] = pa.array(away > np.quantile(away, 0.95) if n else [], pa.bool_())
        written = [prefix + name for name in ("group", "distance", "quality", "far")]
        facts = cluster_facts(hashes, number, away, good=good)
        if prefix:
            facts = {**facts, "method": "dbscan", "knee": knee_facts()}
            del facts["choice"]
        made.append(receipt(prefix.rstrip("_") or "cluster", "cluster", written, facts, method=facts["method"]))
    twins = [hashes[:2]] if n >= 2 else []
    columns["duplicate"] = pa.array([0 if twins and h in twins[0] else None for h in hashes], pa.int32())
    made.append(
        receipt("duplicates", "duplicates", ["duplicate"], {"groups": twins, "items": n, "cosine": 0.98, "hamming": 6})
    )

    source = "/pictures"
    rows = [_path(source, name, content) for name, content in zip(names, hashes, strict=True)]
    rows += [_path(source, f"copy/{name}", content) for name, content in zip(names[:copies], hashes, strict=False)]
    rows += [_path(source, name, None, reason) for name, reason in failed]
    paths = {content: sorted(row["path"] for row in rows if row["hash"] == content) for content in hashes[:copies]}
    all_paths = [paths.get(content, [f"{source}/{name}"]) for name, content in zip(names, hashes, strict=True)]
    first = [each[0].removeprefix(source + "/") for each in all_paths]
    columns["path"] = pa.array([each[0] for each in all_paths], pa.string())
    columns["paths"] = pa.array(all_paths, pa.list_(pa.string()))
    columns["name"] = pa.array(first, pa.string())
    columns["label_folder"] = pa.array([label_of(name) for name in first], pa.string())
    columns |= {name: pa.nulls(len(names), pa.string()) for name in BY_PEOPLE}
    assert set(ITEMS.names + DERIVED.names) <= set(columns)
    files = pa.Table.from_pylist(
        sorted(rows, key=lambda row: row["path"]), pa.schema([f for f in FILES if f.name != "key"])
    )
    return FakeCollection(folder, pa.table(columns), files, made)


def _path(source: str, name: str, content: str | None, reason: str | None = None) -> dict[str, Any]:
    return {
        "path": f"{source}/{name}",
        "source": source,
        "name": name,
        "size": 1000,
        "mtime_ns": 1,
        "hash": content,
        "outcome": "failed" if reason else "ok",
        "reason": reason,
        "pages": 0 if reason else 1,
    }
