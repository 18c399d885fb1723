"""exported: what an export job has written, as one file to take away."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from imagier.types import CollectionError
from imagier.workflows.orders import EXPORTS

if TYPE_CHECKING:
    from imagier.collection import Collection

ID = re.compile(r"[0-9a-f-]{1,40}")
"""Of a job."""


def exported(collection: Collection, job: str) -> tuple[str, BinaryIO]:
    """The name and the content of what a job exported, open at its beginning: its file, or a ZIP of its folder.

    Raises CollectionError where there is none.
    """
    folder = collection.folder / EXPORTS / job
    files = []
    if ID.fullmatch(job) and not folder.is_symlink():  # links may lead out of the collection
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise CollectionError(f"the job {job[:40]!r} has exported nothing")
    if len(files) == 1 and files[0].parent == folder:
        return _plain(files[0].name), files[0].open("rb")
    packed = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed by who reads it to its end
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())
    packed.seek(0)
    return _named(folder, files), packed


def _named(folder: Path, files: list[Path]) -> str:
    """After the one folder that it is of."""
    tops = {path.relative_to(folder).parts[0] for path in files}
    return f"{_plain(tops.pop()) if len(tops) == 1 else 'export'}.zip"


def _plain(name: str) -> str:
    """Fit for a header."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
