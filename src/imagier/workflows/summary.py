"""What a run did, left in the collection's folder as last_run.json."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from imagier.collection import Collection, write_whole
from imagier.types import CollectionError


@dataclass
class Summary:
    """What a run did. Written to `last_run.json`, printed by the command line."""

    files: int = 0
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    """Files in the sources that are no images by their suffix."""
    new: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    decoded: int = 0
    """Files whose pixels were read in this run."""
    items: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    """Items that each step worked on in this run: 0 where its receipt covered all."""
    seconds: dict[str, float] = field(default_factory=dict)
    published: str | None = None
    """The version of the collection that plots and report show."""

    def save(self, collection: Collection) -> None:
        """Leave word of it."""
        self.seconds = {name: round(seconds, 3) for name, seconds in self.seconds.items()}
        write_whole(collection.folder / "last_run.json", json.dumps(asdict(self), indent=1).encode())


def last_run(collection: Collection) -> Summary:
    """What the last run on this collection did; an empty Summary where none came to its end."""
    path = collection.folder / "last_run.json"
    try:
        return Summary(**json.loads(path.read_bytes())) if path.is_file() else Summary()
    except (OSError, ValueError, TypeError) as error:
        raise CollectionError(f"{path} cannot be read: {error}. Delete it; nothing depends on it.") from error


def enlarged(collection: Collection) -> dict[str, Counter[int]]:
    """Step that enlarges images -> factor -> images; factor 1: left as they were."""
    found = {}
    for name, receipt in collection.receipts().items():
        if receipt.stage == "upscale":
            (column,) = receipt.writes
            factors = collection.read([column])[column].to_pylist()
            found[name] = Counter(factor for factor in factors if factor is not None)  # null: a region's
    return found
