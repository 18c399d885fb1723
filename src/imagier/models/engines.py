"""Engines: what runs a model's network. One function on arrays, whichever engine is behind it.

torch serves graphics cards where a model has weights, ONNX Runtime where it has a provider for the card; OpenVINO is
the fastest on CPUs, and ONNX Runtime is there where it is not. All are held to the same numbers by a test. `imagier
doctor` says which one is taken on this machine, and why.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagier.models import _onnxruntime, _openvino, _torch
from imagier.models._openvino import package as openvino
from imagier.models._running import Job, Pixels, Ports, Run
from imagier.models.model import Model, Role
from imagier.types import SettingError, nearest

__all__ = [
    "ENGINES",
    "Choice",
    "Engine",
    "Pixels",
    "Ports",
    "Run",
    "choose",
    "load",
    "network",
    "openvino",
    "pick",
    "pooled",
    "ports",
]


@dataclass(frozen=True)
class Engine:
    """What an engine runs, and the functions that do it."""

    install: str
    """What pip is told."""
    runs: dict[Role, tuple[Role, tuple[str, ...]]]
    """The networks that it runs, by role: the file that each is in, of which formats."""
    load: Callable[[Job], Run]
    refusal: Callable[[str], str]
    """Why it cannot compute in a precision on this machine; empty where it can."""
    ports: Callable[[Path], Ports] | None = None


def _float32_alone(precision: str) -> str:
    return "" if precision == "float32" else "ONNX Runtime computes in the numbers of the file"


ENGINES = {
    "openvino": Engine(
        "openvino",
        {"network": ("network", (".onnx", ".tflite")), "text": ("text", (".onnx",))},
        _openvino.load,
        _openvino.refusal,
        _openvino.ports,
    ),
    "onnxruntime": Engine(
        "'imagier[onnxruntime]'",
        {"network": ("network", (".onnx",)), "text": ("text", (".onnx",))},
        _onnxruntime.load,
        _float32_alone,
        _onnxruntime.ports,
    ),
    "torch": Engine(
        "'imagier[train]'",
        {"network": ("weights", (".safetensors", ".onnx")), "text": ("weights", (".safetensors",))},
        _torch.load,
        _torch.refusal,
    ),
}
"""In the order in which "auto" takes them, but that the one that serves a graphics card comes first."""

READERS = tuple(name for name, each in ENGINES.items() if each.ports is not None)
"""Those that run a network's file by itself, without a card."""


@dataclass(frozen=True)
class Choice:
    """What runs a model's network, and in which numbers."""

    engine: str
    precision: str
    """"float32", "bfloat16", "float16" or "int8": for `Step.precision`, so that it is in keys and receipts."""
    why: str = ""
    """A person's answer to: why this engine?"""


def installed(engine: str) -> bool:
    """Whether an engine's package is there."""
    return importlib.util.find_spec(engine) is not None


def pick(engine: str = "auto") -> str:
    """The engine for network files: the one named, or for "auto" the first that is installed. Raises SettingError.

    Whether a graphics card is here is not asked: what a file takes and gives is the same, and what 8 bits have cost it
    is seen on the processor, for which they are. `choose` asks.
    """
    if engine == "auto":
        for name in READERS:
            if installed(name):
                return name
        raise SettingError(f"no engine is installed that runs ONNX files: pip install {' or '.join(READERS)}")
    _known(engine)
    return engine


def choose(model: Model, engine: str = "auto", precision: str = "auto", *, role: Role = "network") -> Choice:
    """The engine and precision for a model on this machine; cheap: its file is not loaded, no hash taken.

    Where a graphics card may be, the engines that could serve it are imported and asked, once.
    engine: "auto", or a name in ENGINES. precision: "auto", "float32", "bfloat16", or the card's own, "int8" or
    "float16". role: "network" or "text".
    Raises SettingError for what cannot be had, saying why.
    """
    if engine != "auto":
        _known(engine)
        if why := _unable(engine, model, role):
            others = " or ".join(_able(model, role)) or "another model"
            raise SettingError(f"{why}. Leave the engine to auto, or take {others}.")
        numbers = _precision([engine], model, precision, role)[1]
        not_on_card = _onnxruntime.device().why if engine == "onnxruntime" and numbers != "int8" else ""
        return Choice(engine, numbers, _joined("it was asked for", not_on_card))
    able = _able(model, role)
    there = [name for name in able if installed(name)]
    if not there:
        raise SettingError(_nothing(model, role, able))
    on_card, why = _on_card(there, model)
    there.sort(key=lambda name: name != on_card)
    taken, numbers = _precision(there, model, precision, role)
    if taken != on_card:
        why = _joined(_why(taken, able), "" if on_card else why)
    return Choice(taken, numbers, why)


def network(
    model: Model,
    *,
    role: Role = "network",
    pixels: Pixels = "uint8",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    wanted: tuple[str, ...] = (),
) -> Run:
    """A model's network, ready to run; its file's hash is checked.

    role "network": takes (n, H, W, C) pixels on 0 to 255, RGB or grey, of the dtype that `pixels` says: the card's
    channel order, layout, mean and std are done here. role "text": takes (n, length) int64 tokens.
    threads: at most so many for one call; None: for images one, since a pass makes as many calls at once as there are
    cores, and for a text all cores.
    wanted: the tensors that are asked for; all unless given.
    Gives tensor name -> (n, ...) float32. May be called from several threads at once.
    Raises SettingError for an engine that cannot run it, ModelError for a file that is not the card's.
    """
    chosen = choose(model, engine, precision, role=role)
    path = model.file(ENGINES[chosen.engine].runs[role][0])
    spec = None if role == "text" else model.card.input
    threads = threads or (os.cpu_count() if role == "text" else None)
    return ENGINES[chosen.engine].load(Job(path, spec, pixels, chosen.precision, threads, model.card, role, wanted))


def ports(path: Path, engine: str) -> Ports:
    """What the network in a file takes and gives. Raises SettingError for a file that is none."""
    return _reader(engine)(path)


def load(path: Path, engine: str, threads: int | None = None) -> Run:
    """The network in a file, ready to run in float32 on its only input, which is handed over as it is.

    `threads`: at most so many for one call. Raises SettingError for a file that is none.
    """
    _reader(engine)
    return ENGINES[pick(engine)].load(Job(path, threads=threads))


def _reader(engine: str) -> Callable[[Path], Ports]:
    told = ENGINES[pick(engine)].ports
    if told is None:
        raise SettingError(f"the engine {engine!r} builds a network by its card, and reads none from a file")
    return told


def _known(engine: str) -> None:
    """Raises SettingError for an engine that does not exist or is not installed."""
    if engine not in ENGINES:
        raise SettingError("the engine: " + nearest("engine", engine, ["auto", *ENGINES]))
    if not installed(engine):
        raise SettingError(f"the engine {engine!r} is not installed: pip install {ENGINES[engine].install}")


def _unable(engine: str, model: Model, role: Role) -> str:
    """Why an engine cannot run a model's network; empty where it can."""
    if role == "text" and "text" not in model.card.files:
        return f"the model {model.card.name} has no text network"
    taken, suffixes = ENGINES[engine].runs[role]
    if taken not in model.card.files:
        return f"the engine {engine} runs {taken} ({', '.join(suffixes)}), and the model {model.card.name} has none"
    path = model.card.files[taken].path
    if Path(path).suffix.lower() not in suffixes:
        return f"the engine {engine} runs {', '.join(suffixes)}, and the model {model.card.name} has {path}"
    return ""


def pooled(values: np.ndarray, form: str, layout: str) -> np.ndarray:
    """What a network gave, (n, ...), as vectors (n, width) of the same dtype, by the form that its card says it has."""
    if form == "cls":
        values = values[:, 0]
    elif form == "tokens":
        values = values.mean(axis=1)
    elif form == "maps":
        values = values.mean(axis=(2, 3) if layout == "nchw" else (1, 2))
    return values.reshape(len(values), -1)


def _able(model: Model, role: Role) -> list[str]:
    """The engines that run a model's network, installed or not."""
    return [name for name in ENGINES if not _unable(name, model, role)]


def _on_card(there: list[str], model: Model) -> tuple[str, str]:
    """The engine that serves a graphics card, and how; or no name, and why one that was tried does not."""
    if "torch" in there and _torch.device() != "cpu":
        return "torch", f"torch sees {_torch.device()}"
    if "onnxruntime" not in there or model.card.precision == "int8":  # 8 bits are for processors
        return "", ""
    found = _onnxruntime.device()
    if found.provider == _onnxruntime.CPU:
        return "", found.why
    return "onnxruntime", f"ONNX Runtime computes by its {found.provider}"


def _nothing(model: Model, role: Role, able: list[str]) -> str:
    if not able:
        return f"the model {model.card.name} has no {role} that an engine runs: it has {', '.join(model.card.files)}"
    return f"no engine is installed that runs the model {model.card.name}: pip install " + " or ".join(
        ENGINES[name].install for name in able
    )


def _precision(names: list[str], model: Model, precision: str, role: Role) -> tuple[str, str]:
    """Which of the engines, best first, and what it is to compute in. Raises SettingError for what cannot be had."""
    own = "float32" if role == "text" or names[0] == "torch" else model.card.precision
    if precision not in ("auto", "float32", "bfloat16", own):
        raise SettingError("the precision: " + nearest("precision", precision, ["auto", "float32", "bfloat16"]))
    if own != "float32":  # numbers that were rounded away do not come back
        if precision not in ("auto", own):
            raise SettingError(
                f"the precision cannot be {precision}: the file of the model {model.card.name} holds {own} numbers. "
                f"Leave it to auto, or take the model that this one was made from ({model.card.source})."
            )
        return names[0], own
    # In a picture one sees the steps that bfloat16's 8 bits make; a text is asked for once, and may be exact.
    if precision == "auto" and model.card.task not in ("upscale", "denoise") and role != "text":
        precision = "float32" if ENGINES[names[0]].refusal("bfloat16") else "bfloat16"
    if precision != "bfloat16":
        return names[0], "float32"
    refusals = {name: ENGINES[name].refusal(precision) for name in names}
    for name, why in refusals.items():
        if not why:
            return name, precision
    whys = "; ".join(refusals.values())
    raise SettingError(f"the precision cannot be bfloat16: {whys}. Leave it to auto, or take float32.")


def _joined(*whys: str) -> str:
    return "; ".join(filter(None, whys))


def _why(engine: str, able: list[str]) -> str:
    if engine == "openvino":
        return "the fastest on processors"
    return "it alone runs this model's files" if able == [engine] else f"{able[0]} is not installed"
