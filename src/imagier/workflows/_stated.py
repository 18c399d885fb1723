"""What a repository of the hub states of its model: by the names of its files, and in those beside the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagier.models.architectures import needed
from imagier.models.hub import Offer
from imagier.models.model import CARD
from imagier.models.zoo import CLIP_WEIGHTS, WEIGHTS
from imagier.types import ModelError, nearest

READY = ("onnx/model.onnx", "model.onnx")
"""Where exporters of the hub put the network in full precision."""
BESIDE = {"config": "config.json", "preprocess": "preprocessor_config.json"}
CLIP_CONFIG, TIMM_CONFIG = "open_clip_config.json", "config.json"
RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which preprocessor_config.json writes."""


def recognised(offer: Offer) -> dict[str, str]:
    """Role -> name, by what a repository holds: a Model folder, a ready network, weights of timm or open_clip.

    Raises ModelError for a repository that holds none, or several.
    """
    files = offer.files
    if CARD in files:
        return {"card": CARD}
    networks = [name for name in files if name.endswith((".onnx", ".tflite"))]
    ready = [name for name in READY if name in files] or (networks if len(networks) == 1 else [])
    if ready:
        return {"network": ready[0]} | beside_a_network(offer)
    if networks:
        raise ModelError(
            f"{offer.repo} holds {len(networks)} networks: name one, such as hf:{offer.repo}/{networks[0]}"
        )
    for config, candidates in ((CLIP_CONFIG, CLIP_WEIGHTS), (TIMM_CONFIG, WEIGHTS)):
        there = [name for name in candidates["weights"] if name in files]
        if config in files and there:
            return {"weights": there[0], "config": config}
    shown = ", ".join(sorted(files)[:8]) or "nothing"
    raise ModelError(
        f"{offer.repo} holds no {CARD}, no .onnx, no .tflite no weights of timm or open_clip, but {shown}. "
        f"A file of it can be named: hf:{offer.repo}/FILE"
    )


def beside_a_network(offer: Offer) -> dict[str, str]:
    """The files that tell of a network, where they are."""
    return {role: name for role, name in BESIDE.items() if name in offer.files}


def options(config: Path | None, preprocess: Path | None) -> dict[str, Any]:
    """Options of `importing.import_model` that files beside a network state: config.json its classes,
    preprocessor_config.json how an image becomes its input. What is not of a known kind is left to be said."""
    found = {}
    if config is not None:
        names = _read(config).get("id2label")
        if isinstance(names, dict) and names.keys() == {str(at) for at in range(len(names))}:
            labels = tuple(str(names[str(at)]) for at in range(len(names)))
            if not all(label == f"LABEL_{at}" for at, label in enumerate(labels)):  # transformers' own, for no names
                found["labels"] = labels
    return found | (_pixels(_read(preprocess)) if preprocess is not None else {})


def _pixels(told: Mapping[str, Any]) -> dict[str, Any]:
    """Size, fit, mean and std; what the network sees is (pixels * rescale_factor - image_mean) / image_std."""
    found = _geometry(told)
    factor = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if told.get("do_normalize", True):
        mean, std = told.get("image_mean") or [], told.get("image_std") or []
    if factor and len(mean) == len(std) == 3:
        found["mean"] = tuple(each / (255 * factor) for each in mean)
        found["std"] = tuple(each / (255 * factor) for each in std)
    if told.get("resample") in RESAMPLING:
        found["interpolation"] = RESAMPLING[told["resample"]]
    return found


def _geometry(told: Mapping[str, Any]) -> dict[str, Any]:
    """Two kinds are known: the short side and a centre crop, and a square whatever the shape was."""
    size, crop = told.get("size"), told.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if not told.get("do_resize", True) or told.get("do_pad") or not isinstance(size, dict):
        return {}
    if told.get("do_center_crop") and size.keys() == {"shortest_edge"} and isinstance(crop, dict):
        if crop.get("height") == crop.get("width"):
            return {"size": crop["height"], "fit": "crop", "resize": size["shortest_edge"]}
    elif not told.get("do_center_crop") and size.keys() == {"height", "width"} and size["height"] == size["width"]:
        return {"size": size["height"], "fit": "squash"}
    return {}


def weights(config: Path) -> dict[str, Any]:
    """What weights are of and how that sees images, as options of `importing.import_model`, by the config beside them.

    Raises ModelError for a config that is neither timm's nor open_clip's.
    """
    told = _read(config)
    if config.name == CLIP_CONFIG:
        return {"arch": _of_open_clip(config, told)}
    name = told.get("architecture")
    if not isinstance(name, str):
        raise ModelError(f"{config} names no architecture of timm; say what the weights are of: --arch timm:resnet50")
    if told.get("model_args"):
        raise ModelError(
            f"{config}: {name} with other arguments ({told['model_args']}) is none that can be built by name"
        )
    return _of_timm(config, name, told.get("pretrained_cfg") or told)


def _of_timm(config: Path, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture with the tag that sees images as the config says; without one, what the config says itself."""
    timm = needed("timm", f"{config} speaks of {name}, which")
    if not timm.is_model(name):
        raise ModelError(f"{config}: {nearest('timm architecture', name, timm.list_models())}")
    wanted = {key: _plain(told[key]) for key in SEEN if key in told}
    tags = timm.list_pretrained(name + ".*")
    for each in sorted(tags, key=lambda each: not each.endswith(f".{told.get('tag')}")):
        known = timm.get_pretrained_cfg(each).to_dict()
        if all(_plain(known.get(key)) == value for key, value in wanted.items()):
            return {"arch": f"timm:{each}"}
    if missing := [key for key in SEEN[:5] if key not in wanted]:
        raise ModelError(f"{config} does not say {', '.join(missing)}: how {name} sees images is not known")
    _, height, width = wanted["input_size"]
    if wanted.get("crop_mode", "center") != "center" or height != width:
        raise ModelError(f"{config}: images cut by {wanted} are not supported")
    return {
        "arch": f"timm:{name}",
        "size": height,
        "mean": wanted["mean"],
        "std": wanted["std"],
        "interpolation": wanted["interpolation"],
        "fit": "crop",
        "resize": math.floor(height / wanted["crop_pct"]),
    }


SEEN = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
"""How timm's networks see images."""


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _of_open_clip(config: Path, told: Mapping[str, Any]) -> str:
    """The architecture of open_clip's list that has the config which the repository states."""
    open_clip = needed("open_clip", str(config))
    wanted = told.get("model_cfg")
    for name in open_clip.list_models():
        if open_clip.get_model_config(name) == wanted:
            return f"open_clip:{name}"
    raise ModelError(f"{config}: its model_cfg is none of open_clip's; --arch open_clip:NAME says another")


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise ModelError(f"{path} holds no object")
    return told
