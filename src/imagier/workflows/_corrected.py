"""The items of a collection whose masks people corrected, as a segmenter learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagier import _progress, images, labels
from imagier.collection import Collection, write_whole
from imagier.types import SettingError

if TYPE_CHECKING:
    from imagier.training.truth import Truth


@dataclass(frozen=True)
class Corrected:
    """Items with a mask, those of one file one after another."""

    collection: Collection
    items: list[str]
    masks: list[Path]
    """Of each its mask, whose name is its hash."""
    name: str
    """The class that all are masks of."""
    files: list[str]
    """The content of the file that each is of: its regions are never parted."""
    paths: list[Path]
    """Of that file."""

    @property
    def told(self) -> dict[str, str]:
        """Item -> its mask's hash."""
        return {item: path.stem for item, path in zip(self.items, self.masks, strict=True)}

    def truth(self, place: Path) -> tuple[list[Path], Truth]:
        """Where `draw` is to write each item, in this folder, and what is known of them. Raises ImageError."""
        from imagier.training.truth import corrected

        paths = [place / f"{item}.png" for item in self.items]
        return paths, corrected(dict(zip(paths, self.masks, strict=True)), self.name)

    def draw(self, paths: Sequence[Path], progress: bool) -> None:
        """Write an 8-bit PNG of each item's own pixels, of full size, to its path; those that are there stay.

        Raises CollectionError where a file is gone or has changed since.
        """
        missing = {item: path for item, path in zip(self.items, paths, strict=True) if not path.is_file()}
        levels = self.collection.found(list(missing), ["black", "white"])
        pixels = self.collection.reader(list(missing))
        with _progress.bar(len(missing), progress, what="pixels", unit="item") as bar:
            for item, path in missing.items():
                eight = images.to_uint8(pixels(item), levels[item]["black"], levels[item]["white"])
                write_whole(path, images.encode(eight, "png"))
                bar.update()


def read(folder: Path) -> Corrected:
    """Those of a collection. Raises SettingError where there are none, or masks of several classes; CollectionError."""
    collection = Collection.open(folder)
    standing = labels.current(collection)[labels.MASK]
    found = collection.found(list(standing), ["file", "page", "path"])
    rows = sorted((row for row in found.values() if row["path"]), key=lambda row: (row["file"], row["page"], row["id"]))
    classes = Counter(standing[row["id"]].of or labels.OBJECT for row in rows)
    if not classes:
        raise SettingError(
            f"{folder} has no masks that a person corrected: correct some first (imagier serve {folder}), or give "
            "--images and --masks"
        )
    if len(classes) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in classes.most_common())
        raise SettingError(
            f"{folder} has corrected masks of several classes ({counts}): a mask is learnt from with one"
        )
    return Corrected(
        collection,
        [row["id"] for row in rows],
        [labels.mask_path(collection, standing[row["id"]].value or "") for row in rows],
        next(iter(classes)),
        [row["file"] for row in rows],
        [Path(row["path"]) for row in rows],
    )
