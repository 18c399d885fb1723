"""torch networks to Model folders: ONNX for the engines, safetensors for what trains on. Needs the extra `train`.

The weights come from a file, or are drawn at random by a seed; how images are prepared is read from the config of the
architecture's own package. Networks are written for any number of images, those that enlarge for any size.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier._quiet import quiet
from imagier.models import architectures, networks
from imagier.models._openvino import package
from imagier.models._told import Told
from imagier.models.architectures import Port, build, needed
from imagier.models.model import Card, Form, Input, Model, Output, Role, Task, Text, to_write, write_model
from imagier.types import ModelError, SettingError

if TYPE_CHECKING:
    import torch

__all__ = ["OPSET", "build", "export", "module", "read_state"]

OPSET = 18
"""Of the ONNX files: what torch's exporter writes natively."""


def export(
    architecture: str,
    *,
    state: Path | None,
    name: str,
    task: Task,
    folder: Path,
    labels: Sequence[str] = (),
    licence: str = "unknown",
    source: str = "unknown",
    seed: int | None = None,
    size: tuple[int, int] | None = None,
    how: Mapping[str, Any] | None = None,
    half: bool = False,
    sigma: float | None = None,
    besides: Mapping[Role, bytes] | None = None,
    features: bool = False,
    replace: bool = False,
) -> Model:
    """Write the Model folder of an architecture with its weights.

    state: a .safetensors or .pth file; None draws weights by `seed`, for tests and timings, and the card says so.
    size: (height, width) of the images, where the architecture leaves it open or can be built for another.
    how: fields of the card's Input that go before the architecture's own.
    half: weights once, as float16, in the ONNX file: engines compute in float32, and torch reads them from there.
    sigma: of a denoiser that knows noise of one deviation, in 255ths.
    besides: files by role that are kept beside the network: what a training was told, and its split.
    features: of a classifier also what its last layer sees, as its embedding.
    Raises SettingError for what is not known or does not fit, ModelError for weights that are not its.
    """
    Told(labels=tuple(labels)).fits(task)
    architectures.ports(architecture, task)  # refuses at once what it is not there for
    torch = needed("torch", f"exporting {architecture}")
    if folder.exists() and not replace:  # write_model says it as well, but minutes later
        raise ModelError(f"{folder.absolute()} is there already")
    network = _network(torch, architecture, state, seed, len(labels) or None, size)
    spec, scale, text = _described(architecture, network, size, dict(how or {}))
    more: tuple[str, ...] = ("embedding",) * features
    if task == "embed" and spec.size is not None:
        more = architectures.maps_of(network, spec.size)
    ports = architectures.ports(architecture, task, besides=more)
    if text is not None and state is not None:
        text = _trained(network, text)
    with tempfile.TemporaryDirectory(prefix="imagier-") as made:
        hold = task in ("segment", "denoise") and spec.size is None
        shapes, files = _files(torch, architecture, network, ports, spec, text, Path(made), hold=hold, half=half)
        files |= besides or {}
        card = Card(
            name=name,
            task=task,
            architecture=architecture,
            input=spec,
            outputs={
                name: _output(name, shape)
                for role, port in ports.items()
                for name, shape in zip(port.gives, shapes[role], strict=True)
            },
            scale=scale,
            sigma=sigma,
            labels=_labels(labels, task, shapes["network"][0]),
            text=text,
            licence=licence,
            source=source if state is not None else f"random weights of seed {seed}",
            notes=" ".join(_notes(architecture, state, how or {})),
            files=to_write(**{role: NAMES["network" if half and role == "weights" else role] for role in files}),
        )
        return write_model(folder, card, files, replace=replace)


def _network(
    torch: Any,
    architecture: str,
    state: Path | None,
    seed: int | None,
    classes: int | None,
    size: tuple[int, int] | None,
) -> Any:
    """With the weights of a file, or drawn by a seed that leaves torch's own generator alone."""
    if (state is None) == (seed is None):
        raise SettingError(f"{architecture}: give a file of weights, or a seed to draw them by, and not both")
    if state is not None:
        network = architectures.fitted(architecture, read_state(state), size=size)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(architecture, classes=classes, size=size)
    return network.float().requires_grad_(False)


def _files(
    torch: Any,
    architecture: str,
    network: Any,
    ports: Mapping[Role, Port],
    spec: Input,
    text: Text | None,
    made: Path,
    *,
    hold: bool,
    half: bool,
) -> tuple[dict[Role, list[tuple[Any, ...]]], dict[Role, Path | bytes]]:
    """The networks, the tokenizer and the weights, written to a folder; and the shapes of what the networks give."""
    shapes: dict[Role, list[tuple[Any, ...]]] = {}
    files: dict[Role, Path | bytes] = {}
    multiple = None if spec.size else spec.multiple
    for role, port in ports.items():
        path = made / NAMES[role]
        example = _example(torch, role, spec, text)
        shapes[role] = _onnx(torch, architecture, network, port, example, path, multiple=multiple)
        files[role] = path
    if text is not None:
        from imagier.models._tokenizer import clip_tokenizer

        files["tokenizer"] = clip_tokenizer(text.length).encode()
    if hold:
        _hold(torch, architecture, network, made / NAMES["network"], spec)
    if half:
        _halve(made / NAMES["network"])
        files["weights"] = files["network"]
    else:
        files["weights"] = made / NAMES["weights"]
        _save(network, made / NAMES["weights"])
    return shapes, files


NAMES: Mapping[Role, str] = {
    "network": "network.onnx",
    "text": "text.onnx",
    "tokenizer": "tokenizer.json",
    "weights": "weights.safetensors",
    "split": "split.json",
    "training": "training.yaml",
}


def module(card: Card, weights: Path, role: Role = "network") -> torch.nn.Module:
    """The torch network of a card with the weights of its file, in evaluation mode.

    It takes what the ONNX file of that role takes (images after mean and std, or tokens), and gives the same tensors,
    as a tuple. Raises ModelError for weights of another network, SettingError where a package is missing.
    """
    ports = architectures.ports(card.architecture, card.task, besides=tuple(card.outputs))
    if role not in ports:
        raise ModelError(f"the model {card.name} has no {role} network")
    made: torch.nn.Module = through(
        architectures.fitted(card.architecture, read_state(weights), size=card.input.size), ports[role]
    )
    return made


def through(network: Any, port: Port) -> Any:
    """A network as the module that a port is: one tensor in, a tuple out."""
    torch = needed("torch", "a network in torch")

    class Through(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, given: Any) -> Any:
            made = port.call(self.network, given)
            return made if isinstance(made, tuple) else (made,)

    return Through().eval()


def read_state(path: Path) -> dict[str, Any]:
    """A state dict from .safetensors, from the constants of an ONNX file that `export` wrote with half=True, or by
    torch.load(weights_only=True): nothing else of a pickle is ever loaded.

    Raises ModelError for what is none.
    """
    torch = needed("torch", f"reading {path.name}")
    if path.suffix.lower() == ".onnx":
        return _constants(torch, path)
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(needed("safetensors.torch", f"reading {path.name}").load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except SettingError:
        raise
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} holds no plain weights: {why}. It takes .safetensors, or a state dict saved by torch.save; what "
            "holds code or whole objects is never loaded"
        ) from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{path} holds a {type(state).__name__}; it takes a state dict, names and tensors")
    state = architectures.unwrapped(state)
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        other = next((name for name, value in state.items() if not isinstance(value, torch.Tensor)), "nothing")
        raise ModelError(f"{path} holds {other!r} beside or instead of tensors; it takes a state dict")
    return state


def _halve(path: Path) -> None:
    """Keep an ONNX file's weights as float16, which a Cast makes float32 again when the file is loaded.

    Half the size, and each engine computes in what it computes best. The constants keep torch's names.
    """
    onnx = needed("onnx", "writing weights as float16")
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for constant in graph.initializer:
        if constant.data_type != onnx.TensorProto.FLOAT or not constant.name.startswith(HELD):
            continue  # a constant of the exporter's own, such as the bounds of a clip
        name, values = constant.name.removeprefix(HELD), onnx.numpy_helper.to_array(constant)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ModelError(f"{name} holds numbers beyond those of float16")
        whole = f"{name}{WHOLE}"
        for node in graph.node:
            node.input[:] = [whole if each == constant.name else each for each in node.input]
        constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(onnx.helper.make_node("Cast", [name], [whole], to=onnx.TensorProto.FLOAT))
    for at, cast in enumerate(casts):
        graph.node.insert(at, cast)
    onnx.checker.check_model(model)
    onnx.save(model, path)


HELD = "network."
"""What `through` sets before the names of weights."""
WHOLE = ".float32"


def _constants(torch: Any, path: Path) -> dict[str, Any]:
    """The float16 constants of an ONNX file, as float32."""
    onnx = needed("onnx", f"reading {path.name}")
    graph = onnx.load(path).graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    return {name: torch.from_numpy(a.astype(np.float32)) for name, a in arrays.items() if a.dtype == np.float16}


def _described(
    architecture: str, network: Any, size: tuple[int, int] | None, how: dict[str, Any]
) -> tuple[Input, int | None, Text | None]:
    """The card's input, an upscaler's factor, how text comes in."""
    family, _, name = architecture.partition(":")
    scale, text = None, None
    if family == "smp":
        known = architectures.smp_input(architecture, network, size, how)
    elif family == "timm":
        known = architectures.timm_input(architecture, network.pretrained_cfg, size, how.get("fit"))
    elif family == "open_clip":
        known = architectures.clip_input(network)
        text = Text(length=architectures.clip_config(architecture, name)["text_cfg"].get("context_length", 77), pad=0)
    elif architecture == "imagier:encoder":
        known = architectures.encoder_input(size)
    elif architecture in ("imagier:unet", "imagier:unet-small"):
        known = architectures.unet_input(architecture, size, how)
    elif architecture == "imagier:classifier" or family == "cnn":
        known = architectures.classifier_input(architecture, size)
    else:
        own, _, scale = networks.describe(architecture)
        if how or size:
            raise SettingError(
                f"{architecture} takes images of any size as they are: leave out {', '.join(how) or 'size'}"
            )
        return own, scale, None
    if "fit" in how and how["fit"] != "crop":
        known["resize"] = None
    return Input(**(known | how)), scale, text


def _notes(architecture: str, state: Path | None, how: Mapping[str, Any]) -> list[str]:
    notes = [] if state is not None else ["The weights are random: what it gives means nothing."]
    if architecture.startswith("smp:") and (left := [name for name in ("mean", "std") if name not in how]):
        notes.append(f"The import does not say {', '.join(left)}: that is what the encoder was pretrained with.")
    return notes


def _example(torch: Any, role: str, spec: Input, text: Text | None) -> Any:
    """Two of what the network takes: torch.export sees one as a constant, of a map inside it as well.

    That is why for any size there are sides that are still above one when they were halved five times."""
    if role == "text" and text is not None:
        return torch.zeros((2, text.length), dtype=torch.int64)
    return torch.zeros((2, 1 if spec.colour == "grey" else 3, *(spec.size or (192, 288))))


def _onnx(
    torch: Any, architecture: str, network: Any, port: Port, example: Any, path: Path, *, multiple: int | None
) -> list[tuple[Any, ...]]:
    """Write the network as ONNX; gives the shapes of its outputs, of which only numbers are fixed.

    multiple: what both sides are a multiple of; None: they are those of the example."""
    needed("onnxscript", f"exporting {architecture}")
    free = {0: torch.export.Dim("n")}
    if multiple is not None:
        least = 4 if multiple == 1 else 2
        sides = [torch.export.Dim(name, min=least) for name in ("height", "width")]
        free |= dict(enumerate(sides if multiple == 1 else [multiple * side for side in sides], 2))
    try:
        with quiet("root"), torch.inference_mode():
            program = torch.onnx.export(
                through(network, port),
                (example,),
                input_names=[port.takes],
                output_names=list(port.gives),
                dynamic_shapes=(free,),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            for node in program.model.graph.all_nodes():
                node.metadata_props.clear()  # where each line of the network's code lies on this machine
            program.save(str(path), external_data=False)
        return [tuple(output.shape) for output in program.model.graph.outputs]
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        of = "" if multiple is None else " for images of any size (a segmenter's --size makes it for one)"
        raise ModelError(f"{architecture} cannot be exported to ONNX{of}: {why}") from error


def _hold(torch: Any, architecture: str, network: Any, path: Path, spec: Input) -> None:
    """Raise SettingError where the file gives other numbers than torch at another size than it was written at.

    Pooling to a grid of cells (PSPNet, UPerNet) is written with the cells' pixels of that one size."""
    shape = (1, 1 if spec.colour == "grey" else 3, *((157, 227) if spec.multiple == 1 else (160, 224)))
    given = np.random.default_rng(0).standard_normal(shape, np.float32)
    with torch.inference_mode():
        truth = network(torch.from_numpy(given)).numpy()
    core = package().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled(given).values()
    if found.shape[2:] != shape[2:] or np.abs(found - truth).max() > SAME * np.abs(truth).max():
        raise SettingError(f"{architecture} is written for one size alone: --size must be given")


SAME = 1e-3
"""Of the largest number that a network gives: what rounding may change."""
FORMS: Mapping[str, Form] = {
    "embedding": "vector", "text_embedding": "vector", "logits": "logits", "image": "image",
    "map8": "maps", "map16": "maps",
}  # fmt: skip


def _output(name: str, shape: Sequence[int]) -> Output:
    width = None if name == "image" else shape[1]
    return Output(tensors=(name,), form=FORMS[name], width=width)


def _labels(labels: Sequence[str], task: Task, shape: Sequence[int]) -> tuple[str, ...]:
    """A classifier's must be there; a segmenter's may be, and one of a single map says little of how many."""
    needless = task != "classify" and (not labels or shape[1] == 1)
    if not needless and len(labels) != shape[1]:
        raise SettingError(
            f"--labels must be given, a line for each of the {shape[1]} classes: there are {len(labels)}"
        )
    return tuple(labels)


def _save(network: Any, path: Path) -> None:
    """All weights, each with memory of its own: safetensors refuses shared ones."""
    save = needed("safetensors.torch", "writing weights").save_file
    save({name: value.detach().contiguous().clone() for name, value in network.state_dict().items()}, path)


def _trained(network: Any, text: Text) -> Text:
    """With the temperature that cosines were trained with (Radford et al. 2021, 2.3: it is clipped at 100)."""
    return Text(length=text.length, pad=text.pad, temperature=min(100.0, math.exp(float(network.logit_scale))))
