"""What the outputs of a network file mean, as far as their shapes and names tell; else, the option that says it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imagier.models import _graphs
from imagier.models._graphs import Facts, Shape
from imagier.models._openvino import package
from imagier.models._told import Told
from imagier.models.model import MAP_STRIDES, NEEDED, Output, Task
from imagier.types import SettingError, nearest

POOLED = "pooled"
CLASSES = (1000, 1001, 11221, 11821, 21841, 21843)
"""Numbers of classes that ImageNet's classifiers have: a layer of so many at the end is one."""
CLASSIFIER = re.compile(r"logit|softmax|prob|class|predict|score", re.IGNORECASE)
ENCODER = re.compile(r"embed|feature|pooled|pooler", re.IGNORECASE)
FORMS: dict[str, dict[str, Any]] = {
    "yolox": {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "colour": "bgr", "fit": "pad", "pad_at": "corner"},
    "yolov8": {"mean": (0.0,) * 3, "std": (1.0,) * 3, "colour": "rgb", "fit": "pad", "pad_at": "centre"},
    "yolov10": {"mean": (0.0,) * 3, "std": (1.0,) * 3, "colour": "rgb", "fit": "pad", "pad_at": "centre"},
}
"""How the detectors of a form were trained to see images: YOLOX raw pixels, BGR, at the top left of a grey ground
(Megvii-BaseDetection/YOLOX, yolox/data/data_augment.py); YOLOv8 and YOLOv10 RGB in [0, 1], in its middle."""
LEAST_MAP = 4
"""Places a side, below which a map places nothing."""
STRIDES = (8, 16, 32)
"""Pixels between the points of the three grids that YOLOv8 and YOLOX have a row for."""


@dataclass(frozen=True)
class Meaning:
    """What a card says of the outputs."""

    outputs: dict[str, Output]
    inner: str | None = None
    """The tensor that becomes the output, where that is none of the file's own."""
    shape: Shape = ()
    """Of that tensor."""
    flat: bool = False
    """Whether that tensor has an area of 1 x 1 to be dropped."""
    besides: Mapping[str, Shape] = field(default_factory=dict)
    """Tensors on the way there that are outputs too."""
    classes: int | None = None
    """How many labels there must be."""
    scale: int | None = None
    how: Mapping[str, Any] = field(default_factory=dict)
    """What the form says of the input."""
    notes: str = ""


def of(task: Task, facts: Facts, told: Told, layout: str) -> Meaning:
    """Raises SettingError, naming the option, where the file leaves it open."""
    if told.form is not None and not any(told.form in forms for forms in NEEDED[task].values()):
        told.refuse("form", f"cannot be {told.form!r} of a network that is there to {task}")
    meaning = MEANINGS[task](facts, told, layout)
    if told.labels and meaning.classes is not None and len(told.labels) != meaning.classes:
        told.refuse("labels", f"has {len(told.labels)} names; {facts.path} tells {meaning.classes} classes apart")
    return meaning


def _embedding(facts: Facts, told: Told, layout: str) -> Meaning:
    made = _vector(facts, told, layout)
    maps = _maps(facts, layout, made.inner or made.outputs["embedding"].tensors[0])
    outputs = {name: Output(tensors=(at,), form="maps", width=_width(sides, layout)) for name, (at, sides) in maps}
    return replace(made, outputs={**made.outputs, **outputs}, besides=dict(at for _, at in maps))


def _maps(facts: Facts, layout: str, end: str) -> list[tuple[str, tuple[str, Shape]]]:
    """What inspectors go by, where the way to a tensor has it: at an eighth and at a sixteenth of the image's side the
    last sum of a residual block, after its activation, or the last tensor where there is none.

    Inner tensors of a TFLite file can be asked for by name; to one of ONNX they are added as outputs, by the package
    onnx."""
    across = slice(1, 3) if layout == "nhwc" else slice(2, 4)
    sides = next(iter(facts.inputs.values()))[across]
    onnx = facts.kind == "onnx"
    if onnx and (facts.precision != "float32" or importlib.util.find_spec("onnx") is None):
        return []
    nodes = facts.towards(end)
    made = []
    for name, stride in MAP_STRIDES.items():
        wanted = [None if each is None or each % stride else each // stride for each in sides]
        fitting = [at for at, node in enumerate(nodes) if node.names and _lies(node, across, wanted)]
        sums = [at for at in fitting if nodes[at].kind == "add" and len(nodes[at].inputs) == 2]
        last = (sums or fitting or [-1])[-1]
        if last < 0 or any(each is None or each < LEAST_MAP for each in wanted):
            continue
        if sums and last + 1 < len(nodes) and nodes[last + 1].kind == "activation" and last + 1 in fitting:
            last += 1  # nodes stand in their order: what follows a sum at once, and is of its size, takes it
        if sum(node.kind == "convolution" for node in nodes[: last + 1]) > 1:  # one alone cuts patches, and sees little
            made.append((name, (nodes[last].names[0], nodes[last].shape)))
    return made


def _lies(node: _graphs.Node, across: slice, wanted: list[int | None]) -> bool:
    return len(node.shape) == 4 and list(node.shape)[across] == wanted


def _width(shape: Shape, layout: str) -> int | None:
    return shape[3 if layout == "nhwc" else 1]


def _vector(facts: Facts, told: Told, layout: str) -> Meaning:
    inner = facts.inner
    name = told.output
    if name == POOLED or name is None:
        end = _only(facts, told)
        found = _graphs.head(facts, end)
        if name == POOLED and found is None:
            told.refuse("output", f"cannot be {POOLED!r}: {facts.path} has no fully connected layer at its end")
        if found and (name == POOLED or _classifies(facts, told, end, found)):
            return _cut_at(facts, told, found.features, found.shape, layout)
        name = end
    if name in facts.outputs:
        form, width = _embedding_form(facts, told, name, facts.outputs[name], layout)
        return Meaning({"embedding": Output(tensors=(name,), form=form, width=width)})
    if name not in inner:
        told.refuse("output", nearest("output", name, [*facts.outputs, POOLED]) + " Inner tensors go by their names.")
    return _cut_at(facts, told, name, inner[name], layout)


def _classifies(facts: Facts, told: Told, end: str, found: _graphs.Head) -> bool:
    """Whether a layer at the end tells classes apart, and is no encoder's last; SettingError where that is open."""
    if found.logits or facts.labels:
        return True
    if facts.outputs[end][-1] in CLASSES or CLASSIFIER.search(end):
        return True
    if ENCODER.search(end):
        return False
    raise SettingError(
        f"{facts.path} ends in a fully connected layer, {end} {said(facts.outputs[end])}: classes, or the embedding? "
        f"Say {told.mark}output {POOLED} for what that layer takes, or {told.mark}output {end} for what it gives"
    )


def _cut_at(facts: Facts, told: Told, name: str, shape: Shape, layout: str) -> Meaning:
    notes = f"The embedding is the inner tensor {name!r} of the file that was imported."
    if facts.kind == "onnx" and len(shape) == 4 and shape[2:] == (1, 1) and shape[1]:
        output = Output(tensors=(_graphs.flat_name(name),), form="vector", width=shape[1])
        return Meaning({"embedding": output}, inner=name, shape=shape, flat=True, notes=notes)
    form, width = _embedding_form(facts, told, name, shape, layout)
    return Meaning({"embedding": Output(tensors=(name,), form=form, width=width)}, inner=name, shape=shape, notes=notes)


def _embedding_form(facts: Facts, told: Told, name: str, shape: Shape, layout: str) -> tuple[Any, int]:
    if len(shape) == 3 and told.form not in ("cls", "tokens"):
        raise SettingError(
            f"{facts.path}: the output {name} is {said(shape)}. Say {told.mark}form cls, of whose tokens the first is "
            f"the embedding, or {told.mark}form tokens, of which the mean is; or name another by {told.mark}output"
        )
    kinds = {2: ("vector", 1), 3: (told.form, 2), 4: ("maps", 1 if layout == "nchw" else 3)}
    form, axis = kinds.get(len(shape), ("", 0))
    width = shape[axis] if form else None
    if width is None:
        raise SettingError(
            f"{facts.path}: the output {name} has the shape {shape}; an encoder gives (n, width) or maps"
        )
    if layout == "nhwc" and facts.kind == "onnx" and len(shape) == 4 and shape[1] != shape[2]:
        raise SettingError(f"{facts.path}: {name} is {said(shape)}, no maps of nhwc layout: name a pooled output")
    if told.form is not None and told.form != form:
        told.refuse("form", f"cannot be {told.form!r}: {name} is {said(shape)}")
    return form, width


def _logits(facts: Facts, told: Told, layout: str) -> Meaning:
    """Of a classifier: what softmax takes, where the file has one at its end."""
    end = _only(facts, told, told.output)
    found, shape = _graphs.head(facts, end), facts.outputs[end]
    name = end
    if found and found.logits:
        name, shape = found.logits, found.logits_shape
    sides = [side for side in shape[1:] if side != 1]
    if not 2 <= len(shape) <= 4 or len(sides) != 1 or sides[0] is None:
        raise SettingError(f"{facts.path}: the output {end} is {said(shape)}; a classifier gives (n, classes)")
    if not (told.labels or facts.labels):
        told.refuse("labels", f"must be given: a text file with a line for each of the {sides[0]} classes, in order")
    inner = name if name not in facts.outputs else None
    flat = inner is not None and facts.kind == "onnx" and len(shape) > 2
    tensor = _graphs.flat_name(name) if flat else name
    output = Output(tensors=(tensor,), form="logits", width=sides[0])
    notes = f"The logits are the inner tensor {name!r} of the file that was imported." if inner else ""
    return Meaning({"logits": output}, inner=inner, shape=shape, flat=flat, classes=sides[0], notes=notes)


def _classes_of_pixels(facts: Facts, told: Told, layout: str) -> Meaning:
    """Of a segmenter: (n, classes, h, w)."""
    end = _only(facts, told, told.output)
    shape = facts.outputs[end]
    axis = 1 if layout == "nchw" else 3
    if len(shape) != 4 or shape[axis] is None:
        raise SettingError(f"{facts.path}: the output {end} is {said(shape)}; a segmenter gives a map for each class")
    classes = shape[axis]
    output = Output(tensors=(end,), form="logits", width=classes)
    return Meaning({"logits": output}, classes=None if classes == 1 else classes)


SIDES = (48, 32)
"""Of an image that a network from images to images is tried with."""


def _image(facts: Facts, told: Told, layout: str) -> Meaning:
    """Of an upscaler: an image; how many times larger, two sizes tell."""
    end, trial, given = _pictured(facts, told, layout, "an upscaler")
    ratios = {None if out is None else out / side for out, side in zip(given[2:], SIDES, strict=True)}
    found = ratios.pop() if len(ratios) == 1 else None
    if found is None and told.scale is None:
        told.refuse("scale", f"must be given: {facts.path} does not tell how many times larger its images are")
    scale = told.scale if found is None else int(found)
    if found is not None and (found != scale or not 2 <= scale <= 8 or told.scale not in (None, scale)):
        raise SettingError(f"{facts.path} enlarges {found:g} times; {told.mark}scale is 2 to 8, and what the file does")
    return Meaning({"image": Output(tensors=(end,), form="image")}, scale=scale, how=_as_it_is(trial))


def _clean(facts: Facts, told: Told, layout: str) -> Meaning:
    """Of a denoiser: an image of the same size."""
    end, trial, given = _pictured(facts, told, layout, "a denoiser")
    if any(out not in (None, side) for out, side in zip(given[2:], trial[2:], strict=True)):
        raise SettingError(
            f"{facts.path} gives {said(given)} for {said(trial)}; a denoiser gives the size that it takes"
        )
    return Meaning({"image": Output(tensors=(end,), form="image")}, how=_as_it_is(trial))


def _as_it_is(trial: Shape) -> dict[str, Any]:
    channels = trial[1] or 3
    return {"mean": (0.0,) * channels, "std": (1.0,) * channels, "fit": "none"}


def _pictured(facts: Facts, told: Told, layout: str, what: str) -> tuple[str, Shape, Shape]:
    """Of a network from images to images: its output, and the shape that it gives for one that it takes."""
    end = _only(facts, told, told.output)
    (shape,) = facts.inputs.values()
    rows, columns = (2, 3) if layout == "nchw" else (1, 2)
    if shape[rows] is not None or shape[columns] is not None:
        raise SettingError(
            f"{facts.path} takes images of {shape[rows]} x {shape[columns]} pixels; {what} takes any size"
        )
    if layout == "nhwc" or facts.kind != "onnx":
        raise SettingError(f"{facts.path} is not {what} that is run here: that is an ONNX file of nchw layout")
    trial = (1, shape[1] or 3, *SIDES)
    given = _graphs.read(facts.path, trial).outputs[end]
    if len(given) != 4 or given[1] != trial[1]:
        raise SettingError(f"{facts.path}: the output {end} is {said(given)} for {said(trial)}; {what} gives an image")
    return end, trial, given


def _detections(facts: Facts, told: Told, layout: str) -> Meaning:
    """Of a detector: its form, by the shapes of what it gives."""
    shapes = facts.outputs if told.output is None else {told.output: facts.outputs[_only(facts, told, told.output)]}
    form = _detector_form(facts, told, shapes, layout)
    if form == "detr":
        boxes = [name for name, shape in shapes.items() if shape[-1:] == (4,)]
        logits = [name for name, shape in shapes.items() if len(shape) == 3 and name not in boxes]
        if len(boxes) != 1 or len(logits) != 1:
            raise SettingError(f"{facts.path} gives {_all(shapes)}; the form detr is logits and boxes (n, queries, 4)")
        names, count = len(told.labels or facts.labels), shapes[logits[0]][-1]
        if not names:
            told.refuse("labels", "must be given: their count tells whether the last of detr's classes is 'no object'")
        if count is not None and count - names not in (0, 1):
            told.refuse("labels", f"must be {count}, or {count - 1} if the last is 'no object': there are {names}")
        return Meaning({"detections": Output(tensors=(logits[0], boxes[0]), form="detr")})
    if len(shapes) != 1:
        raise SettingError(f"{facts.path} gives {_all(shapes)}: choose the detections by {told.mark}output")
    ((name, shape),) = shapes.items()
    if len(shape) != 3:
        raise SettingError(f"{facts.path}: the output {name} is {said(shape)}, which no decoder reads")
    width = {"yolov8": shape[1], "yolox": shape[2]}.get(form)
    classes = width - (5 if form == "yolox" else 4) if width else None
    output = Output(tensors=(name,), form=form)  # type: ignore[arg-type]
    if form == "yolox":
        _check_raw(facts, name, layout)
    notes = f"Where it was not said, the input is as the form {form} means it."
    return Meaning({"detections": output}, classes=classes, how=FORMS[form], notes=notes)


def _check_raw(facts: Facts, name: str, layout: str) -> None:
    """Raise SettingError where YOLOX's boxes come in pixels already: what a blank image gives tells them apart."""
    (taken,) = facts.inputs.values()
    core = package().Core()
    network = core.compile_model(core.read_model(facts.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = network(np.full([side or 1 for side in taken], 114, np.float32))[name]
    side = max(taken[2:] if layout == "nchw" else taken[1:3], key=lambda side: side or 0)
    if np.abs(given[..., :2]).max() > (side or 0) / 2:
        raise SettingError(
            f"{facts.path} gives boxes in pixels, worked out already; the form yolox is what the head itself gives: "
            "export it without decoding (YOLOX's decode_in_inference=False)"
        )


def _detector_form(facts: Facts, told: Told, shapes: Mapping[str, Shape], layout: str) -> str:
    """The form that is told, where the shapes can be that; else the one that they speak for."""
    (taken,) = facts.inputs.values()
    height, width = taken[2:] if layout == "nchw" else taken[1:3]
    cells = sum(((height or 0) // by) * ((width or 0) // by) for by in STRIDES)
    found = _spoken_for(shapes, cells)
    gives = f"{facts.path} gives {_all(shapes)} for images of {height} x {width}"
    if told.form is None and found is None:
        forms = ", ".join(sorted(NEEDED["detect"]["detections"]))
        raise SettingError(f"{gives}, which tells no detector's form: say {told.mark}form, one of {forms}")
    if told.form is None or told.form == found:
        return str(found)
    if found is not None:
        told.refuse("form", f"cannot be {told.form!r}: {gives}, which speaks for {found}")
    sides = [side for side in next(iter(shapes.values()))[1:] if side]
    if len(shapes) == 1 and len(sides) == 2:  # of several outputs one is to be chosen first
        rows, columns = sides
        reads = {
            "yolov8": ("(n, 4 + classes, places)", 4 < rows < columns),
            "yolov10": ("(n, k, 6)", columns == 6),
            "yolox": (f"(n, {cells}, 5 + classes)", rows == cells and columns > 5),
        }
        shape, can = reads.get(told.form, ("", True))
        if not can:
            told.refuse("form", f"cannot be {told.form!r}, which is {shape}: {gives}")
    return told.form


def _spoken_for(shapes: Mapping[str, Shape], cells: int) -> str | None:
    """The form that only a detector of that kind has."""
    if len(shapes) == 2 and sum(shape[-1:] == (4,) for shape in shapes.values()) == 1:
        return "detr"
    if len(shapes) == 1:
        (shape,) = shapes.values()
        if len(shape) == 3 and shape[1:] == (300, 6):
            return "yolov10"
        if len(shape) == 3 and shape[2] == cells and (shape[1] or 0) > 4:
            return "yolov8"
        if len(shape) == 3 and shape[1] == cells and (shape[2] or 0) > 5:
            return "yolox"
    return None


def _only(facts: Facts, told: Told, name: str | None = None) -> str:
    """The output of that name, or the only one."""
    if name is None and len(facts.outputs) > 1:
        raise SettingError(
            f"{facts.path} gives several outputs: choose one by {told.mark}output: {', '.join(facts.outputs)}"
        )
    name = name or next(iter(facts.outputs))
    if name not in facts.outputs:
        told.refuse("output", nearest("output", name, facts.outputs))
    return name


def said(shape: Shape) -> str:
    """A shape as a person writes it."""
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def _all(shapes: Mapping[str, Shape]) -> str:
    return " and ".join(f"{name} {said(shape)}" for name, shape in shapes.items())


MEANINGS: dict[Task, Callable[[Facts, Told, str], Meaning]] = {
    "embed": _embedding,
    "classify": _logits,
    "segment": _classes_of_pixels,
    "denoise": _clean,
    "upscale": _image,
    "detect": _detections,
}
