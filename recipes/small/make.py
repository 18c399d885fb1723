"""The small models that ship: each trained by a config that comes with imagier, and put among those of the package.

    python recipes/small/make.py denoise --data ../shared/data --work work

Stopped at any time, the same command goes on. What a training leaves behind (logs, curves) stays in the work folder.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from imagier.models import store
from imagier.models.model import Model, write_model
from imagier.workflows import train


@dataclass(frozen=True)
class Recipe:
    """One model."""

    kind: str
    config: str
    images: str
    settings: dict[str, Any] = field(default_factory=dict)
    labels: str | None = None
    terms: str = ""


RESTORATION = {"images": "restoration/train", "terms": "trained on 120 images of BSDS500, for research"}
RECIPES = {
    "denoise": Recipe("denoiser", "denoise", **RESTORATION),
    "denoise-colour": Recipe(
        "denoiser", "denoise", settings={"network": "runet:64-64-64@rgb", "epochs": 12}, **RESTORATION
    ),
    "upscale": Recipe("upscaler", "upscale", **RESTORATION),
    "nuclei": Recipe(
        "segmenter",
        "cells",
        "nuclei/images",
        {"network": "imagier:unet-small", "half": True},
        "nuclei/labels",
        "trained on 240 images of the Data Science Bowl 2018, CC0",
    ),
}


def trained(recipe: Recipe, data: Path, into: Path) -> Model:
    """The Model folder as the training leaves it."""
    how: dict[str, Any] = {"images": data / recipe.images, "into": into, "config": recipe.config, "over": True}
    if recipe.labels is not None:
        how["masks"] = train.Masks(label_images=data / recipe.labels)
    model: Model = getattr(train, recipe.kind)(settings=recipe.settings, **how)
    return model


def shipped(model: Model, name: str, recipe: Recipe) -> Model:
    """The same among the models of the package, under its name there."""
    card = msgspec.structs.replace(
        model.card, name=name, licence="Apache-2.0", source=f"recipes/small, seed 0; {recipe.terms}"
    )
    files = {role: model.folder / entry.path for role, entry in model.card.files.items()}
    into = Path(store.__file__).parent / "builtin" / name
    return write_model(into, card, files, replace=True)


def main() -> None:
    """Train, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    recipe = RECIPES[given.name]
    print(shipped(trained(recipe, given.data, given.work / given.name), given.name, recipe).folder)


if __name__ == "__main__":
    main()
