"""imagier turns a folder of images into a sorted, measured, searchable collection.

import imagier

c = imagier.run("photos/", into="out/")
c.read(["id", "path", "embedding", "group"])    # an Arrow table
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagier.collection import Collection, Receipt
    from imagier.pipeline import Pipeline
    from imagier.types import ImagierError
    from imagier.workflows.run import run
    from imagier.workflows.search import search

try:
    __version__ = version("imagier")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_PUBLIC = {
    "Collection": "imagier.collection",
    "ImagierError": "imagier.types",
    "Pipeline": "imagier.pipeline",
    "Receipt": "imagier.collection",
    "run": "imagier.workflows.run",
    "search": "imagier.workflows.search",
}

__all__ = ["Collection", "ImagierError", "Pipeline", "Receipt", "open_collection", "run", "search"]


def open_collection(folder: str) -> Collection:
    """The collection in `folder`, to read. Raises CollectionError where there is none."""
    from imagier.collection import Collection

    return Collection.open(folder)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that `import imagier` stays fast."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'imagier' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
