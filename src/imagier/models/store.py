"""Where models are, by name: Model folders in one place on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from imagier.models.model import CARD, Model, Task, read_model
from imagier.types import ModelError, SettingError

NETWORKS = (".onnx", ".tflite")
"""Suffixes of files that are networks by themselves."""


def where() -> Path:
    """The folder that holds the Model folders of this machine: IMAGIER_MODELS, or the user's data folder."""
    if named := os.environ.get("IMAGIER_MODELS"):
        return Path(named).absolute()
    import platformdirs

    return platformdirs.user_data_path("imagier", appauthor=False) / "models"


def folder_of(name: str) -> Path:
    """The Model folder of a name, whether it is there or not: "timm:vgg16" is a folder's name nowhere."""
    return where() / name.replace(":", "--").replace("/", "--")


def find(named: str, task: Task) -> Model:
    """The model of a name, or at a path: a Model folder, or a bare network file that says all that is needed.

    Raises ModelError where it is not on this machine, saying how it gets there; SettingError for another task's.
    """
    path = Path(named)
    if (path / CARD).is_file():
        model = read_model(path)
    elif path.suffix.lower() in NETWORKS and path.is_file():
        from imagier.models.importing import bare

        model = bare(path, task=task)
    elif (folder_of(named) / CARD).is_file():
        model = read_model(folder_of(named))
    else:
        raise ModelError(f"the model {named!r} is not on this machine")
    if model.card.task != task:
        raise SettingError(f"the model {named!r} is there to {model.card.task}, not to {task}")
    return model
