"""heatmap: how strange each place of an item is by the inspector that judged it, made again from its picture."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from imagier import images
from imagier.collection import Receipt
from imagier.outputs import heat
from imagier.types import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagier.models.inspecting import Looked, Rule
    from imagier.types import Image
    from imagier.workflows.browse import Browser


def inspected(browser: Browser, item: str) -> Receipt | None:
    """The step that has inspected an item; None for a region, or where nothing was inspected. Raises NoSuchItem."""
    if browser.item(item)["parent"] is not None:
        return None
    return next((each for each in browser.collection.receipts().values() if each.stage == "inspect"), None)


def tinted(browser: Browser, item: str, side: int) -> Image:
    """(h, w, 4) uint8, of the size of `Browser.picture`: redder where it is stranger, transparent where it is not.

    Raises NoSuchItem, SettingError where it was not inspected, ModelError where the inspector is gone, and
    CollectionError where the item's file is.
    """
    import cv2

    receipt = inspected(browser, item)
    if receipt is None:
        raise SettingError(f"item {item} was not inspected: it has no heat")
    found = browser.pixels(item)
    image = images.to_uint8(found.image, found.black, found.white)
    rule, look = _loaded(str(receipt.settings["model"]), float(receipt.settings["rate"]), tuple(receipt.weights))
    told = rule.say(look([image])[0], *image.shape[:2])
    small = images.thumbnail(image, side)
    height, width = small.shape[:2]
    hot = cv2.resize(told.heat / max(rule.spot, 1e-12), (width, height), interpolation=cv2.INTER_AREA)
    return heat.tint(np.asarray(hot, np.float32))


@functools.lru_cache(maxsize=2)
def _loaded(
    model: str, rate: float, weights: tuple[str, ...]
) -> tuple[Rule, Callable[[Sequence[Image]], list[Looked]]]:
    """By the weights too: a model of the same name may have become another."""
    from imagier.models.inspecting import inspect_by, rule_of
    from imagier.models.store import find

    found = find(model, "inspect")
    if not set(found.keys) <= set(weights):
        raise SettingError(f"the inspector {found.card.name} is another than the one that judged: run again")
    return rule_of(found, rate), inspect_by(found)
