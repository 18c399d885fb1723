"""Labelled images: what each of some images is, from what people have it in.

    tree      a folder a class: FOLDER/CLASS/…/IMAGE
    table     CSV or Parquet with a column of file names and one of labels
    biofors   BioFors's classification.json, {document: {file: class}}, beside images/DOCUMENT/FILE

A class may be called what no folder can be ("Blot/Gel"): as a folder it is written in percent codes (Blot%2FGel), as in
an address, and read back from them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from imagier._names import safe_name
from imagier.types import SettingError, nearest

LISTED = "classification.json"
LONGEST = 10_000
"""Bytes: a label that is longer than a folder's name may be is the file system's to refuse."""


@dataclass(frozen=True)
class Labelled:
    """Images that have a label each."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    """What each belongs to, where the source says so: BioFors's document."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels there are, sorted."""
        return tuple(sorted(set(self.labels)))


def as_folder(label: str) -> str:
    """A label as the name of a folder, from which `of_folder` reads it back."""

    def fits(name: str) -> bool:
        return safe_name(name, LONGEST) == name

    made = [each if each != "%" and fits(f"a{each}a") else _coded(each) for each in label]
    if made[0].isspace():
        made[0] = _coded(made[0])
    if made[-1].isspace() or made[-1] == ".":
        made[-1] = _coded(made[-1])
    if not fits("".join(made)):  # what Windows keeps for a device
        made[0] = _coded(label[0])
    return "".join(made)


def _coded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def of_folder(name: str) -> str:
    """The label that a folder stands for: of percent codes that `as_folder` would not have written, the name itself."""
    try:
        label = unquote(name, errors="surrogatepass")
    except UnicodeDecodeError:
        return name
    return label if label and as_folder(label) == name else name


def tree(found: Sequence[Path], root: Path) -> Labelled:
    """A folder a class. Raises SettingError for images beside the classes, and for a class that holds none."""
    beside = [path for path in found if path.parent == root]
    if beside:
        raise SettingError(
            f"{beside[0]} lies in no class's folder, nor do {len(beside) - 1} more: it takes {root}/CLASS/IMAGE"
        )
    labels = tuple(of_folder(path.relative_to(root).parts[0]) for path in found)
    there = {of_folder(each.name) for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")}
    if empty := sorted(there - set(labels)):
        raise SettingError(f"the class {empty[0]!r} is empty: {root / as_folder(empty[0])} holds no image")
    return checked(Labelled(tuple(found), labels), str(root))


def table(found: Sequence[Path], root: Path, told: str) -> Labelled:
    """TABLE:COLUMN; a row whose cell is empty is of no label, and left out. Raises SettingError for rows without a file
    and files without a row."""
    labels = column(told, root, found, "--labels", whole=True)
    kept = [(path, label) for path, label in zip(found, labels, strict=True) if label]
    return checked(Labelled(tuple(path for path, _ in kept), tuple(label for _, label in kept)), told)


def biofors(folder: Path) -> Labelled:
    """BioFors's layout; groups are its documents. Raises SettingError for what is not so, and for files not there."""
    listed = folder / LISTED
    try:
        told: Any = json.loads(listed.read_bytes())
    except OSError as error:
        raise SettingError(f"{listed} cannot be read: {error.strerror}. BioFors has it beside images/") from error
    except ValueError as error:
        raise SettingError(f"{listed} is no JSON: {error}") from error
    entries: list[tuple[Path, str, str]] = []
    for document, files in told.items() if isinstance(told, dict) else [("", None)]:
        if not isinstance(files, dict) or not all(isinstance(label, str) and label for label in files.values()):
            raise SettingError(f"{listed} is not as BioFors's is: it takes {{document: {{file: class}}}}")
        entries += [(folder / "images" / document / file, label, document) for file, label in files.items()]
    inside = (folder / "images").resolve()
    missing = [path for path, _, _ in entries if not path.is_file() or not path.resolve().is_relative_to(inside)]
    if missing:
        raise SettingError(f"{listed} names {missing[0]}, which is not there, and {len(missing) - 1} more such files")
    entries.sort()
    paths, labels, documents = zip(*entries, strict=True) if entries else ((), (), ())
    return checked(Labelled(paths, labels, documents), str(listed))


def checked(made: Labelled, source: str) -> Labelled:
    """Raises SettingError where there are no two classes."""
    if len(made.classes) < 2:
        told = f"one class alone, {made.classes[0]!r}" if made.classes else "no label"
        raise SettingError(f"{source} has {told}: a classifier tells two or more apart")
    return made


def rare(labels: Sequence[str], least: int) -> tuple[str, int] | None:
    """The class of the fewest images, where it has fewer than `least`, and how many."""
    label, count = min(Counter(labels).items(), key=lambda pair: (pair[1], pair[0]))
    return (label, count) if count < least else None


def column(told: str, root: Path, paths: Sequence[Path], option: str, *, whole: bool = False) -> list[str]:
    """What a table says of each image, by TABLE:COLUMN. "" for an empty cell.

    Files stand in the column that names most of them: by path below `root`, by name, with their ending or without.
    whole: a row whose file is not there is an error. Raises SettingError for a table that is none, and where an image
    has no row.
    """
    name, colon, wanted = told.rpartition(":")
    if not colon or not name:
        raise SettingError(f"{option} cannot be {told!r}: it takes TABLE.csv:COLUMN, or TABLE.parquet:COLUMN")
    columns, rows = _rows(name)
    if not rows:
        raise SettingError(f"{name} holds no rows")
    if wanted not in columns:
        raise SettingError(f"{name}: {nearest('column', wanted, columns)}")

    def names(path: Path) -> tuple[str, ...]:
        relative = path.relative_to(root)
        return relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem

    known = {name for path in paths for name in names(path)}
    key = max(columns, key=lambda each: sum(row[each] in known for row in rows))
    by_name: dict[str, str] = {}
    for row in rows:
        if by_name.setdefault(row[key], row[wanted]) != row[wanted]:
            raise SettingError(f"{name} has two rows for {row[key]!r}: {by_name[row[key]]!r} and {row[wanted]!r}")
    if whole and (lost := [row[key] for row in rows if row[key] not in known]):
        raise SettingError(f"{name} has a row for {lost[0]!r}, which is not in {root}, and {len(lost) - 1} more such")
    rows_of = [next((each for each in names(path) if each in by_name), None) for path in paths]
    first: dict[str, Path] = {}
    for path, row_of in zip(paths, rows_of, strict=True):
        if row_of is not None and first.setdefault(row_of, path) != path:
            raise SettingError(
                f"{name}: the row {row_of!r} may be {first[row_of]} or {path}: write files with the folders they "
                f"are in below {root}"
            )
    found = [None if each is None else by_name[each] for each in rows_of]
    if None in found:
        missing = [path for path, label in zip(paths, found, strict=True) if label is None]
        raise SettingError(f"{name} has no row for {missing[0]}, nor for {len(missing) - 1} more images")
    return [each or "" for each in found]


def _rows(name: str) -> tuple[list[str], list[Mapping[str, str]]]:
    """A table's columns and rows, every cell as text."""
    import csv

    import pyarrow as pa
    from pyarrow import parquet

    try:
        if Path(name).suffix.lower() in (".parquet", ".pq"):
            read = parquet.read_table(name)
            rows: list[Mapping[str, str]] = [
                {key: "" if v is None else str(v) for key, v in row.items()} for row in read.to_pylist()
            ]
            return list(read.column_names), rows
        with open(name, newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            columns = list(lines.fieldnames or ())
            rows = [{key: row[key] or "" for key in columns} for row in lines]
            return columns, rows
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise SettingError(f"{name} cannot be read as a table: {error}") from error
