"""Models from files of other programs: what the file itself states is read; what it does not state must be said.

    .onnx, .tflite              a network: copied into a Model folder, cut where an inner tensor is what is wanted
    .safetensors, .pth, .pt     weights, with --arch: built in torch and exported (exporting.py)
    a Model folder              copied, every file checked against its card

Nothing is guessed: a refusal names the option that says what is missing. What a form means by itself (YOLOX: raw
pixels, BGR), and what was left at its default, stands in the card's notes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from imagier.models import _graphs, _meanings
from imagier.models._graphs import Facts, Shape
from imagier.models._meanings import Meaning
from imagier.models._told import TAKEN, Told, labels_of, numbers, without_none
from imagier.models.architectures import IMAGENET, preprocessing
from imagier.models.model import (
    CARD,
    Card,
    File,
    Input,
    Model,
    Output,
    Role,
    Task,
    apart,
    hash_of,
    read_model,
    to_write,
    write_model,
)
from imagier.models.store import NETWORKS, WEIGHTS, folder_of
from imagier.types import ModelError, SettingError, nearest

FITS: Mapping[Task, str] = {"embed": "crop", "classify": "crop", "upscale": "none", "denoise": "none"}
"""How an image comes to a network's size, unless said otherwise; the other tasks have no such custom."""


def import_model(
    file: Path,
    *,
    name: str,
    task: Task,
    arch: str | None = None,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    colour: str | None = None,
    layout: str | None = None,
    fit: str | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    output: str | None = None,
    form: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    scale: int | None = None,
    licence: str | None = None,
    source: str | None = None,
    replace: bool = False,
) -> Model:
    """Make the Model folder `name` of a file.

    arch: what weights are of; for a network "timm:NAME", whose config then says mean, std and geometry.
    mean, std: of pixels on 0 to 1, in the network's channel order. output: a tensor's name, or "pooled": what a
    classifier's last layer takes. labels: names, or a text file with a line for each.
    Raises SettingError naming the option that is missing or does not fit, ModelError for what is no such file.
    """
    file = Path(file).absolute()
    told = Told(
        size=size,
        mean=numbers(mean),
        std=numbers(std),
        colour=colour,
        layout=layout,
        fit=fit,
        resize=resize,
        interpolation=interpolation,
        output=output,
        form=form,
        scale=scale,
        labels=labels_of(labels),
    )
    told.fits(task)
    return _imported(file, name, task, arch, told, without_none(licence=licence, source=source), replace)


def bare(
    path: Path,
    *,
    task: Task,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
) -> Model:
    """A Model of an .onnx or .tflite file as it lies; nothing is written.

    size: the side of the square input where the file leaves it open. mean, std: what the file states, or ImageNet's.
    output: which one; of an ONNX file it must be one of its own, as it gives it.
    Raises SettingError for a file that is no such network, and for what it leaves open.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx" and apart(path):
        how: dict[str, Any] = {"size": size, "output": output}
        if task == "embed":
            how |= {"mean": mean or IMAGENET["mean"], "std": std or IMAGENET["std"]}
        raise SettingError(f"{path} keeps its weights in another file: {_command(path, task, **how)} joins them")
    if task != "embed":
        try:
            card, meaning = _card(path, task, Told())
        except SettingError as error:
            command = _command(path, task)
            raise SettingError(f"{error}. A file as it lies says too little: {command}, with such options") from error
        if meaning.inner is not None and path.suffix.lower() == ".onnx":
            raise SettingError(f"{path} must be cut at its tensor {meaning.inner}: {_command(path, task)}")
    elif path.suffix.lower() == ".onnx":
        card = _bare_onnx(path, size, mean, std, output)
    else:
        told = Told(mark="embed.", size=size, mean=numbers(mean), std=numbers(std), output=output)
        card, _ = _card(path, task, told, otherwise=IMAGENET)
    card = msgspec.structs.replace(card, files={"network": File(path=path.name, sha256=hash_of(path))})
    return Model(path.absolute().parent, card)


def _command(path: Path, task: Task, **how: Any) -> str:
    """The command that imports a file, as a shell takes it; under a name that a model can have."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", path.stem).strip("-_") or "mine"
    words = ["imagier", "models", "import", str(path), "--as", name, "--task", task]
    for option, value in without_none(**how).items():
        words += [f"--{option}", value if isinstance(value, str) else ",".join(map(str, np.atleast_1d(value)))]
    return shlex.join(words)


def _bare_onnx(
    path: Path, size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None, output: str | None
) -> Card:
    """An encoder as `embed` takes it: float32, (n, 3, side, side), a vector or maps."""
    if size is not None and not 1 <= size <= 4096:
        raise SettingError(f"embed.size cannot be {size}: it takes 1 to 4096 pixels")
    how = {name: IMAGENET[name] if given is None else tuple(given) for name, given in (("mean", mean), ("std", std))}
    for name, values in how.items():
        if len(values) != 3 or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise SettingError(
                f"embed.{name} cannot be {list(values)}: it takes three numbers, one for each of R, G, B"
            )
    facts = _graphs.read(path)
    side = _side(facts, size)
    if output is None and len(facts.outputs) > 1:
        raise SettingError(f"{path} gives several outputs: choose one by embed.output: {', '.join(facts.outputs)}")
    name = output or next(iter(facts.outputs))
    if name not in facts.outputs:
        raise SettingError("embed.output: " + nearest("output", name, facts.outputs))
    given = facts.outputs[name]
    width = given[1] if len(given) in (2, 4) else None
    if width is None:
        raise SettingError(f"{path}: the output {name} has the shape {given}; an encoder gives (n, width) or maps")
    embedding = Output(tensors=(name,), form="vector" if len(given) == 2 else "maps", width=width)
    return Card(
        name=path.stem,
        task="embed",
        architecture="onnx",
        precision=facts.precision,
        input=Input(size=(side, side), mean=how["mean"], std=how["std"], fit="crop"),
        outputs={"embedding": embedding},
        source=path.name,
        files={},
    )


def _side(facts: Facts, size: int | None) -> int:
    """Side of an encoder's square input."""
    path = facts.path
    if len(facts.inputs) != 1:
        raise SettingError(f"{path} takes {len(facts.inputs)} inputs ({', '.join(facts.inputs)}); an encoder takes one")
    (shape,) = facts.inputs.values()
    if len(shape) != 4 or shape[1] not in (3, None) or facts.dtype != "float32":
        kind = facts.dtype if facts.dtype == "float32" else "no float32"
        raise SettingError(f"{path} takes {shape}, {kind}; an encoder takes float32 images as (n, 3, H, W)")
    if shape[2] != shape[3]:
        raise SettingError(f"{path} takes images of {shape[2]} x {shape[3]} pixels; an encoder takes square ones")
    if shape[2] and size and shape[2] != size:
        raise SettingError(f"embed.size cannot be {size}: {path} takes {shape[2]} pixels")
    side = shape[2] or size
    if side is None:
        raise SettingError(f"{path} leaves its input's size open: give it, such as --set embed.size=224")
    return side


def _imported(
    file: Path, name: str, task: Task, arch: str | None, told: Told, marks: Mapping[str, str], replace: bool
) -> Model:
    """By what the file is."""
    if (file / CARD).is_file():
        if told != Told() or arch:
            raise SettingError(f"{file} is a Model folder: its card says how it is used, so that no option can")
        return _copied(read_model(file), name, task, marks, replace)
    if not file.is_file():
        raise ModelError(f"{file} is {f'no Model folder: it has no {CARD}' if file.is_dir() else 'not there'}")
    if file.suffix.lower() in WEIGHTS:
        return _exported(file, name, task, arch, told, marks, replace)
    if file.suffix.lower() not in NETWORKS:
        raise ModelError(f"{file} is none of {', '.join((*NETWORKS, *WEIGHTS))}, and no Model folder")
    card, meaning = _card(file, task, told, arch=arch)
    card = msgspec.structs.replace(card, name=name, files=to_write(network=f"network{file.suffix.lower()}"), **marks)
    content: Path | bytes = file
    if file.suffix.lower() == ".onnx":
        if meaning.inner is None and not meaning.besides:
            content = _graphs.whole(file)
        else:
            tensor = meaning.inner or card.outputs["embedding"].tensors[0]
            shape = meaning.shape or _graphs.read(file).outputs[tensor]
            content = _graphs.cut(file, tensor, shape, meaning.flat, meaning.besides)
    return write_model(folder_of(name), card, {"network": content}, replace=replace)


def _copied(model: Model, name: str, task: Task, marks: Mapping[str, str], replace: bool) -> Model:
    if model.card.task != task:
        raise SettingError(f"{model.folder} is there to {model.card.task}, not to {task}")
    files: dict[Role, Path | bytes] = {role: model.file(role) for role in model.card.files}
    return write_model(folder_of(name), msgspec.structs.replace(model.card, name=name, **marks), files, replace=replace)


def _exported(
    file: Path, name: str, task: Task, arch: str | None, told: Told, marks: Mapping[str, str], replace: bool
) -> Model:
    """Weights. What their architecture says itself cannot be said again."""
    if arch is None:
        raise SettingError(
            f"{file} holds weights alone: say what they are the weights of by --arch, such as timm:vgg16"
        )
    for option in ("colour", "layout", "output", "form", "scale"):
        if getattr(told, option) is not None:
            told.refuse(option, f"cannot be said of weights: {arch} says it")
    from imagier.models.exporting import export

    how = {option: getattr(told, option) for option in ("mean", "std", "fit", "resize", "interpolation")}
    return export(
        arch,
        state=file,
        name=name,
        task=task,
        folder=folder_of(name),
        labels=told.labels,
        licence=marks.get("licence", "unknown"),
        source=marks.get("source", file.name),
        size=told.sides,
        how=without_none(**how),
        replace=replace,
    )


# ---------------------------------------------------------------- a network's card


def _card(
    path: Path, task: Task, told: Told, *, arch: str | None = None, otherwise: Mapping[str, Any] | None = None
) -> tuple[Card, Meaning]:
    """What a network file states and what is told, as a card without files. `otherwise`: for what neither says."""
    facts = _graphs.read(path)
    if len(facts.inputs) != 1:
        raise SettingError(
            f"{path} takes {len(facts.inputs)} inputs ({', '.join(facts.inputs)}); here it is one of images"
        )
    (shape,) = facts.inputs.values()
    layout, channels = _layout(facts, shape, told)
    sides = _sides(facts, shape, layout, told, task, preprocessing(arch) if arch else {})
    if sides is not None and facts.kind == "onnx":
        facts = _graphs.read(path, (1, channels, *sides) if layout == "nchw" else (1, *sides, channels))
    meaning = _meanings.of(task, facts, told, layout)
    spec, notes = _input(facts, told, task, meaning, layout, channels, sides, arch, otherwise or {})
    labels = told.labels or (facts.labels if task in TAKEN["labels"] else ())
    if meaning.classes is not None and labels and len(labels) != meaning.classes:
        told.refuse("labels", f"must be given: {path} names {len(labels)} classes and tells {meaning.classes} apart")
    card = Card(
        name=path.stem,
        task=task,
        architecture=facts.kind,
        precision=facts.precision,
        input=spec,
        outputs=meaning.outputs,
        scale=meaning.scale,
        labels=labels,
        licence=facts.licence or "unknown",
        source=path.name,
        notes=" ".join(note for note in (meaning.notes, *notes) if note),
        files={},
    )
    return card, meaning


def _layout(facts: Facts, shape: Shape, told: Told) -> tuple[str, int]:
    """The order of the axes, by where the channels are; and how many there are."""
    if len(shape) != 4:
        raise SettingError(f"{facts.path} takes {shape}; an image network takes (n, 3, H, W) or (n, H, W, 3)")
    places = {"nchw": shape[1], "nhwc": shape[3]}
    found = [layout for layout, channels in places.items() if channels in (1, 3)]
    layout = told.layout or (found[0] if len(found) == 1 else None)
    if layout is None:
        told.refuse("layout", f"must be given, nchw or nhwc: {facts.path} takes {_meanings.said(shape)}")
    channels = places[layout] or (1 if told.colour == "grey" else 3)
    if channels not in (1, 3):
        raise SettingError(
            f"{facts.path} takes {_meanings.said(shape)}, {channels} channels as {layout}; images have 3 or 1"
        )
    if facts.dtype not in ("float32", "uint8"):
        raise SettingError(f"{facts.path} takes {facts.dtype}; a network of float32 or uint8 is run here")
    return layout, channels


def _sides(
    facts: Facts, shape: Shape, layout: str, told: Told, task: Task, known: Mapping[str, Any]
) -> tuple[int, int] | None:
    """Height and width of the input; None: any."""
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    if FITS.get(task) == "none":
        if told.sides:
            told.refuse("size", f"cannot be given: what is there to {task} takes any")
        return None
    if height and width:
        if told.sides not in (None, (height, width)):
            told.refuse("size", f"cannot be {told.size}: {facts.path} takes {height} x {width} pixels")
        return height, width
    found = told.sides or facts.size or known.get("size")
    if found is None:
        told.refuse("size", f"must be given: {facts.path} leaves it open")
    if any(fixed not in (None, side) for fixed, side in zip((height, width), found, strict=True)):
        told.refuse("size", f"cannot be {told.size}: {facts.path} takes {_meanings.said((height, width))} pixels")
    return found


def _input(
    facts: Facts,
    told: Told,
    task: Task,
    meaning: Meaning,
    layout: str,
    channels: int,
    sides: tuple[int, int] | None,
    arch: str | None,
    otherwise: Mapping[str, Any],
) -> tuple[Input, list[str]]:
    """How images come in, and what is to be noted of that. What is told goes before what is known."""
    notes = []
    of_arch = preprocessing(arch, sides) if arch else {}
    given = {name: getattr(told, name) for name in ("colour", "fit", "mean", "std", "resize", "interpolation")}
    known = {**facts.normalised(channels), **meaning.how, **of_arch, **without_none(**given)}
    how: dict[str, Any] = {**otherwise, **known}
    if arch:
        notes.append(f"The preprocessing is that of {arch}, where it was not said.")
    if facts.dtype == "uint8":
        for name in ("mean", "std"):
            if given[name] is not None:
                told.refuse(name, f"cannot be given: {facts.path} takes pixels as they are, uint8")
        how |= {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    for name in ("mean", "std"):
        if name not in how:
            told.refuse(name, f"must be given: {facts.path} does not tell it. For one of timm's, --arch timm:NAME does")
        how[name] = how[name] * channels if len(how[name]) == 1 else how[name]
        if len(how[name]) != channels:
            told.refuse(name, f"cannot be {list(how[name])}: {facts.path} has {channels} channels")
    colour = how.setdefault("colour", "grey" if channels == 1 else "rgb")
    if (colour == "grey") != (channels == 1):
        told.refuse("colour", f"cannot be {colour}: {facts.path} has {channels} channels")
    fit = how.setdefault("fit", FITS.get(task))
    if fit is None:
        told.refuse("fit", f"must be given: how an image comes to {facts.path}'s {sides} pixels, crop, squash or pad")
    if (fit == "none") != (FITS.get(task) == "none"):
        told.refuse("fit", f"cannot be {fit} of a network that is there to {task}")
    if fit != "crop" and told.resize is not None:
        told.refuse("resize", f"cannot be given: it goes with a fit of crop, not {fit}")
    how["resize"] = how.get("resize") if fit == "crop" else None
    if left := [name for name in ("colour", "fit", "interpolation") if name not in known]:
        notes.append(f"Neither the file nor the import says {', '.join(left)}: that is the default.")
    if fit == "pad":
        how["pad_at"] = meaning.how.get("pad_at", "corner")
    return Input(**how | {"size": sides, "layout": layout, "dtype": facts.dtype}), notes
