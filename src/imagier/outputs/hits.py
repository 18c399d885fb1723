"""What a search found, as one HTML page of pictures that needs no network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagier.collection import write_whole
from imagier.outputs import pages

if TYPE_CHECKING:
    import pyarrow as pa

    from imagier.collection import Collection

MOST = 500
"""Hits on a page, at most: the best."""


def write_hits(collection: Collection, hits: pa.Table, query: str, path: str | Path) -> Path:
    """Write the hits of a search (a table with rank, score, id, path and box, best first) with their thumbnails.

    Raises CollectionError when it cannot be written.
    """
    rows = hits.slice(0, MOST).to_pylist()
    ids = ", ".join(f"'{row['id']}'" for row in rows)
    read = collection.read(["id", "name", "thumbnail"], where=f"id in ({ids})").to_pylist() if rows else []
    known = {row["id"]: row for row in read}
    page = pages.environment().get_template("hits.html")
    html = page.render(
        title=collection.folder.name,
        query=query,
        policy=pages.policy(),
        found=hits.num_rows,
        hits=[_shown(row, known.get(row["id"], {})) for row in rows],
    )
    target = Path(path)
    write_whole(target, html.encode())
    return target


def _shown(hit: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    jpeg = item.get("thumbnail")
    box = hit["box"]
    return {
        "rank": hit["rank"],
        "score": f"{hit['score']:.3f}",
        "name": item.get("name") or hit["id"],
        "path": hit["path"] or "",
        "box": "" if box is None else ", ".join(f"{edge:.0f}" for edge in box),
        "source": None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
    }
