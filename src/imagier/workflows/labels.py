"""Bring labelled images from other layouts into a folder a class."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

from imagier._names import distinct_paths, safe_name
from imagier.collection import write_whole
from imagier.training.labelled import as_folder, biofors
from imagier.types import CollectionError, SettingError

TABLE = "documents.csv"


def import_biofors(folder: Path, into: Path) -> tuple[int, int]:
    """Copy BioFors's images into INTO/CLASS/DOCUMENT/FILE, with documents.csv, whose column `document` is the group.

    A class that no folder can be called is written in percent codes: Blot%2FGel. Gives how many images and classes.
    Raises SettingError for a folder that is not BioFors's, or an INTO that holds something; CollectionError where it
    cannot be written.
    """
    found = biofors(folder.absolute())
    assert found.groups is not None
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise SettingError(f"{into} is there already and holds something: name a new folder")
    names = [
        f"{as_folder(label)}/{safe_name(document)}/{path.name}"
        for path, label, document in zip(found.paths, found.labels, found.groups, strict=True)
    ]
    stems = distinct_paths(names)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["file", "document", "class"])
    try:
        for path, stem, label, document in zip(found.paths, stems, found.labels, found.groups, strict=True):
            target = into / f"{stem}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            rows.writerow([target.relative_to(into).as_posix(), document, label])
    except OSError as error:
        raise CollectionError(f"{into} cannot be written: {error}") from error
    write_whole(into / TABLE, text.getvalue().encode())
    return len(found.paths), len(found.classes)
