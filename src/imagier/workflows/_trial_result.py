"""What came of a trial: told as JSON, packed as a ZIP, or kept for good."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imagier import images
from imagier._names import distinct, distinct_paths, safe_name
from imagier.collection import Collection
from imagier.models import about
from imagier.outputs import masks
from imagier.outputs.tables import flat
from imagier.types import CollectionError
from imagier.workflows.browse import HIDDEN, Browser

ADDED = "added"
"""The folder, in a collection's own, of images that were kept."""
SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WebP": ".webp", "TIFF": ".tif", "DICOM": ".dcm"}
SUFFIX |= {"HEIC": ".heic", "AVIF": ".avif"}


def result(names: Sequence[str], refused: Mapping[str, str], browser: Browser | None) -> dict[str, Any]:
    """An entry an image, in the order of their names; see `trial.result`."""
    files = {} if browser is None else {row["name"]: row for row in browser.collection.files().to_pylist()}
    items = {} if browser is None else _items(browser)
    told = []
    for name in names:
        row = files.get(name, {"outcome": "failed", "reason": refused.get(name), "hash": None})
        ok = row["outcome"] == "ok"
        told.append(
            {
                "name": name,
                "outcome": "ok" if ok else "failed",
                "reason": None if ok else row["reason"],
                "items": items.get(row["hash"], []) if ok else [],
            }
        )
    return {"images": told, "notice": "" if browser is None else notice(browser.collection)}


def notice(collection: Collection) -> str:
    """What must stand on every result, as the models that were used say. Raises ModelError."""
    from imagier.models.store import get

    found: list[str] = []
    for receipt in collection.receipts().values():
        if receipt.stage == "classify" and (texts := about.of_model(get(receipt.settings["model"]))) is not None:
            found.append(texts.notice)
    return " ".join(dict.fromkeys(filter(None, found)))


def archive(told: Mapping[str, Any], collection: Collection | None, path: Path) -> Path:
    """Write the ZIP, whole or not at all: result.json, items.csv, masks/KIND/NAME.png, overlays/NAME.png."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("result.json", json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False))
        if collection is not None:
            out.writestr("items.csv", _csv(collection))
            for name, data in _pictures(collection):
                out.writestr(name, data, zipfile.ZIP_STORED)
    part.replace(path)
    return path


def keep(sent: Path, names: Sequence[str], collection: Collection, ident: str) -> Path:
    """Copy originals, by their names in `sent`, into a folder of the collection's own, whole or not at all.

    A name that folders are not searched for gets the suffix of what the file is. Raises CollectionError where they have
    been kept before, and where there is no room.
    """
    folder = collection.folder / ADDED / f"{datetime.now(UTC):%Y-%m-%d}-{ident[:8]}"
    if before := sorted(folder.parent.glob(f"*-{ident[:8]}")):
        raise CollectionError(f"these images have been kept already, in {ADDED}/{before[0].name}")
    called = distinct([_suffixed(sent / name) for name in names])
    try:
        folder.parent.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
        try:
            for name, to in zip(names, called, strict=True):
                shutil.copyfile(sent / name, part / to)
            part.chmod(0o755)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise CollectionError(f"the images cannot be kept in {ADDED}: {error.strerror or error}") from error
    return folder


def _suffixed(path: Path) -> str:
    if path.suffix.lower() in images.SUFFIXES:
        return path.name
    return safe_name(path.name + SUFFIX[images.header(path.read_bytes()).format])


def _items(browser: Browser) -> dict[str, list[dict[str, Any]]]:
    """Content -> its items, whole images before their regions, with the masks that there are of each."""
    schema = browser.collection.read(where="false").schema
    binary = [each.name for each in schema if pa.types.is_binary(each.type) and each.name != "thumbnail"]
    table = browser.collection.read(["id", "file", "page", "parent", "box", *binary])
    rows = sorted(table.to_pylist(), key=lambda row: (row["page"] or 0, row["parent"] is not None, row["box"] or []))
    made: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        there = [name for name in binary if row[name] is not None]
        made.setdefault(row["file"], []).append(browser.item(row["id"]) | {"masks": there})
    return made


def _csv(collection: Collection) -> bytes:
    from pyarrow import csv

    data = io.BytesIO()
    csv.write_csv(flat(collection.read([name for name in collection.columns if name not in HIDDEN])), data)
    return data.getvalue()


def _pictures(collection: Collection) -> Iterator[tuple[str, bytes]]:
    """Names and PNGs: each kind of mask of each whole image, a number an object, and the image with them tinted."""
    kinds = masks.columns(collection) | _defects(collection)
    if not kinds:
        return
    folders = dict(zip(kinds, distinct(list(kinds.values())), strict=True))
    table = collection.read(["id", "name", "parent", "width", "height", *kinds])
    rows = [row for row in table.to_pylist() if row["parent"] is None]
    for row, title in zip(rows, distinct_paths([row["name"] for row in rows]), strict=True):
        there = [column for column in kinds if row[column] is not None]
        if not there:
            continue
        objects = [masks.label_image(row[column], row["height"], row["width"]) for column in there]
        for column, numbers in zip(there, objects, strict=True):
            yield f"masks/{folders[column]}/{title}.png", images.encode(numbers.astype(np.uint16), "png")
        image = collection.pixels(row["id"])
        eight = images.to_uint8(image, *images.levels(image))
        yield f"overlays/{title}.png", images.encode(masks.overlay(eight, np.stack(objects, 2)), "png")


def _defects(collection: Collection) -> dict[str, str]:
    """Columns of what inspectors found -> what it is called."""
    found: dict[str, str] = {}
    for receipt in collection.receipts().values():
        if receipt.stage == "inspect":
            own = receipt.step == receipt.stage
            found["defect_masks" if own else f"{receipt.step}_defect_masks"] = "defect" if own else receipt.step
    return found


def bytes_of(folder: Path) -> int:
    """What a folder takes."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)
