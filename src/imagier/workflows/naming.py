"""naming: names that people give to groups.

Numbers change when images come and groups are found anew; a name stays with the items that were central to the group
when it was given, and so goes to the group that holds most of them now.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from imagier.collection import write_whole
from imagier.outputs import shown
from imagier.types import CollectionError, SettingError, nearest

if TYPE_CHECKING:
    from imagier.collection import Collection
    from imagier.workflows.browse import Browser

LONGEST = 80
"""Letters of a name."""


def names(browser: Browser, column: str) -> dict[int, str]:
    """Group -> name, of a column of groups."""
    given = _read(browser.collection).get(column, [])
    found = zip(_groups(browser, column, given), given, strict=True)
    return {group: each["name"] for group, each in found if group is not None}


def _groups(browser: Browser, column: str, given: list[dict[str, Any]]) -> list[int | None]:
    """The group that each name falls to: the one with most of its items; None where they have gone."""
    table = browser.light()
    if not given or column not in table.column_names:
        return [None] * len(given)
    wanted = pa.array(sorted({item for each in given for item in each["items"]}), pa.string())
    some = table.select(["id", column]).filter(pc.is_in(table["id"], wanted))
    group_of = dict(zip(some["id"].to_pylist(), some[column].to_pylist(), strict=True))
    held = [Counter(group_of[item] for item in each["items"] if group_of.get(item) is not None) for each in given]
    return [each.most_common(1)[0][0] if each else None for each in held]


def rename(browser: Browser, column: str, group: int, name: str) -> None:
    """Give a group a name; an empty one takes it away.

    Raises SettingError for a column or group that is not there, and for a name that is too long.
    """
    collection = browser.collection
    found = {each.column: each for each in shown.clusterings(collection)}
    if column not in found:
        raise SettingError(nearest("clustering", column, found) if found else "this collection has no clusterings")
    central = {each["group"]: each.get("central", []) for each in found[column].groups}
    if group not in central:
        raise SettingError(f"{column} has no group {group}")
    name = " ".join(name.split())
    if len(name) > LONGEST:
        raise SettingError(f"the name is too long: it has {len(name)} letters of {LONGEST} at most")
    with FileLock(collection.folder / "names.lock"):
        before = _read(collection)
        found_now = _groups(browser, column, before.get(column, []))
        kept = [each for each, now in zip(before.get(column, []), found_now, strict=True) if now != group]
        if name:
            kept.append({"name": name, "items": central[group]})
        before[column] = kept
        write_whole(collection.folder / "names.json", json.dumps(before, indent=1, ensure_ascii=False).encode())


def _read(collection: Collection) -> dict[str, list[dict[str, Any]]]:
    path = collection.folder / "names.json"
    try:
        made: dict[str, list[dict[str, Any]]] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    return made
