"""Where models are, by name: Model folders in one place on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from imagier.models import zoo
from imagier.models.model import CARD, Model, Task, read_model
from imagier.types import BUILTIN, ModelError, SettingError, nearest

NETWORKS = (".onnx", ".tflite")
"""Suffixes of files that are networks by themselves."""
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of files that hold weights alone."""


def built_in() -> dict[str, Path]:
    """The Model folders of those that ship, by name. The one that has a task's name is that task's "builtin"."""
    folders = sorted(path.parent for path in (Path(__file__).parent / BUILTIN).glob(f"*/{CARD}"))
    return {folder.name: folder for folder in folders}


def where() -> Path:
    """The folder that holds the Model folders of this machine: IMAGIER_MODELS, or the user's data folder."""
    if named := os.environ.get("IMAGIER_MODELS"):
        return Path(named).absolute()
    import platformdirs

    return platformdirs.user_data_path("imagier", appauthor=False) / "models"


def folder_of(name: str) -> Path:
    """The Model folder of a name, whether it is there or not: "timm:vgg16" is a folder's name nowhere."""
    return where() / name.replace(":", "--").replace("/", "--")


def folders() -> list[Path]:
    """The Model folders that are here, sorted by name; their cards unread."""
    return sorted(path.parent for path in where().glob(f"*/{CARD}") if not path.parent.name.startswith("."))


def find(named: str, task: Task, *, besides: tuple[str, ...] = ()) -> Model:
    """The model of a name, or at a path: a Model folder, or a bare network file that says all that is needed.

    besides: names that the caller knows, to be thought of when a name is unknown.
    Raises ModelError where it is not on this machine, saying how it gets there; SettingError for another task's.
    """
    if named == BUILTIN:
        if task not in built_in():
            raise ModelError(f"no model that can {task} whatever there is ships with imagier: name one")
        model = read_model(built_in()[task])
    elif is_network_file(named):
        from imagier.models.importing import bare

        model = bare(Path(named), task=task)
    else:
        model = get(named, besides=besides)
    if model.card.task != task:
        raise SettingError(f"the model {named!r} is there to {model.card.task}, not to {task}")
    return model


def is_network_file(named: str) -> bool:
    """Whether a model is named by the path of a bare network file: a name or a folder may end like one."""
    return named.lower().endswith(NETWORKS) and os.path.isfile(named) and is_path(named)


def is_path(named: str) -> bool:
    """Whether a model is named by the path of a file or Model folder: not by the name of one that is here."""
    there = os.path.isfile(named) or os.path.isfile(os.path.join(named, CARD))
    return there and not (folder_of(named) / CARD).is_file()


def get(named: str, *, besides: tuple[str, ...] = ()) -> Model:
    """The model of a name, or the Model folder at a path, whatever its task. Raises ModelError as `find` does."""
    if not named:
        raise ModelError("a model's name is empty: 'imagier models list' shows those there are")
    path = Path(named)
    if named == BUILTIN:
        raise ModelError(f"several models are {BUILTIN!r}, one to a task. They are called {', '.join(built_in())}")
    if named in built_in():
        return read_model(built_in()[named])
    for folder in (folder_of(named), path):  # a name's first: what lies about where a command is given hides none
        if (folder / CARD).is_file():
            return read_model(folder)
    raise ModelError(_missing(named, path, besides))


def _missing(named: str, path: Path, besides: tuple[str, ...]) -> str:
    """What to do about a model that is not here."""
    suffix = path.suffix.lower()
    if zoo.known(named):
        return f"the model {named!r} is not on this machine. {how_to_get(named)}"
    if suffix in WEIGHTS and path.is_file():
        return (
            f"{named} holds weights alone; what they are the weights of must be said: "
            f"imagier models import {named} --as {path.stem} --task embed --arch timm:vgg16, or whatever it is"
        )
    if suffix in NETWORKS and path.is_file():
        return f"{named} is a network, and no model before: imagier models import {named} --as {path.stem} --task embed"
    if path.is_dir():
        return f"{path.absolute()} is no Model folder: there is no {CARD} in it"
    if suffix in NETWORKS + WEIGHTS or len(path.parts) > 1:
        return f"{path.absolute()} is not there"
    here = [folder.name for folder in folders()]
    known = list(dict.fromkeys([BUILTIN, *built_in(), *zoo.ZOO, *here, *besides]))
    return nearest("model", named, known) + " timm:NAME, hf:OWNER/REPO and paths work as well."


def how_to_get(named: str, entry: zoo.Entry | None = None) -> str:
    """How a model that the zoo knows gets here: with a network, and by a file carried over.

    entry: what is known of it; of one that is not in the table, timm would have to be asked.
    """
    entry = entry or zoo.ZOO.get(named)
    pull = f"imagier models pull {named} downloads it"
    if entry is None or not entry.files:
        return f"{pull}. Without a network, from a machine that has it: {_carry(named)}"
    terms = ", ".join(filter(None, [f"licence {entry.licence}", entry.size]))
    by_hand = f"bring {_file(entry)[1]} of https://huggingface.co/{entry.repo} and: {import_command(entry)}"
    return f"{pull} ({terms}). Without a network, {by_hand}; or from a machine that has it: {_carry(named)}"


def import_command(entry: zoo.Entry) -> str:
    """The command that takes a file of the hub's under its name: what the table says of it need not be said again."""
    role, file = _file(entry)
    arch = f" --arch {entry.architecture or 'ARCHITECTURE'}" if role == "weights" else ""
    told = f"--task {entry.task or 'TASK'}{arch} --licence {entry.licence}"
    return f"imagier models import {Path(file).name} --as {entry.name} {told}"


def _file(entry: zoo.Entry) -> tuple[str, str]:
    """Role and name of the file that the model is made of."""
    return next((role, names[0]) for role, names in entry.files.items() if role in ("weights", "network"))


def _carry(named: str) -> str:
    return f"imagier models export {named} DIR there, imagier models import DIR --as {named} here"
