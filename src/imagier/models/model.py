"""The Model folder: a network with all that is needed to use it, in files that any engine on any machine reads.

    mnv2/
      model.json                  the card: task, preprocessing to the letter, meaning of each output, licence, source
      network.onnx                files by role, each with its sha256 in the card

The same folder is what training writes, what is pulled or imported, what ships, and what every engine runs. Nothing in
it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from imagier.types import ModelError

CARD = "model.json"

Task = Literal["embed", "denoise", "upscale", "detect", "segment", "classify", "inspect"]
Role = Literal["network", "text", "tokenizer", "weights", "head", "memory", "confidence", "about", "split", "training"]
RECORDS = ("split", "training")
"""Roles of what tells how a model came about, which no result depends on."""
Form = Literal["vector", "maps", "cls", "tokens", "image", "logits", "yolov10", "yolov8", "yolox", "detr"]

Side = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a card: a field that is unknown, missing or of another type is refused when it is read."""


class Input(_Strict, frozen=True, kw_only=True):
    """How 8-bit pixels become what the image network takes (models/preprocess.py does the geometry).

    What the network is fed is (pixels / 255 - mean) / std, on its own channel order; uint8 pixels as they are where
    `dtype` says so.
    """

    size: tuple[Side, Side] | None = None
    """(height, width); None: the network takes any size."""
    multiple: Side = 1
    """For any size: both sides must be a multiple of this."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "uint8"] = "float32"
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of each channel, on [0, 1], in the network's channel order; one number for grey."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    fit: Literal["crop", "squash", "pad", "none"] = "crop"
    """crop: the short side to `resize`, then the middle `size`; squash: to `size`, whatever the shape; pad: the whole
    image, its shape kept, on a ground of `pad_value`; none: the pixels as they are."""
    resize: Side | None = None
    """The short side before the centre crop; None: that of `size`."""
    interpolation: Literal["bilinear", "bicubic", "lanczos", "area"] = "bilinear"
    """The first three as Pillow does them, antialiased when shrinking; area: `images.resize`, faster, and of strips,
    of which a 256th or less is kept, bilinear."""
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    pad_at: Literal["corner", "centre"] = "corner"
    """Where the padded image lies: at the top left, or in the middle."""


class Output(_Strict, frozen=True, kw_only=True):
    """What an output of a network means."""

    tensors: tuple[str, ...]
    """Their names in the network: one, but for "detr", which has logits and boxes."""
    form: Form
    """For an embedding: vector (n, width); maps (n, width, h, w), or (n, h, w, width) in a network of nhwc layout,
    averaged over their area; cls (n, tokens, width), of which the first; tokens, of which the mean of all. For
    detections the decoder (algorithms/detections.py). image: (n, channels, h, w) in [0, 1]."""
    width: int | None = None


SMOOTH = 4 / 224
"""Of what is seen, by Roth et al. (2022)."""
MAP_STRIDES = {"map8": 8, "map16": 16}
"""The maps that inspectors go by: pixels for a place."""


class File(_Strict, frozen=True, kw_only=True):
    """A file of the folder."""

    path: str
    sha256: Sha256


class Text(_Strict, frozen=True, kw_only=True):
    """How text becomes tokens: `tokenizer` is a tokenizer.json of the tokenizers library."""

    length: Side
    """Tokens that the text network takes: longer text is cut, shorter is filled up."""
    pad: int
    """The token it is filled up with."""
    temperature: float | None = None
    """What cosines are multiplied with before softmax (CLIP's exp(logit_scale), 100); None: unknown."""


class Head(_Strict, frozen=True, kw_only=True):
    """Of a classifier that goes by another model's embedding, and holds a few layers alone."""

    encoder: str
    """What that model is called where the head was made."""
    sha256: Sha256
    """Of its network's file: no other's embedding will do."""
    columns: tuple[str, ...] = ()
    """Numbers of an item that stand after its embedding, such as what `measure` writes."""


class Inspector(_Strict, frozen=True, kw_only=True):
    """Of an inspector, which goes by another model's maps, and remembers what good parts look like."""

    encoder: str
    """What that model is called where the inspector was made."""
    sha256: Sha256
    """Of its network's file: no other's maps will do."""
    method: Literal["patchcore", "padim", "knn"]
    maps: tuple[Literal["map8", "map16"], ...] = ()
    """Of that model's outputs; knn goes by its embedding, and by none."""
    size: tuple[Side, Side]
    """Height and width that images are brought to; seen in windows where it is more than the network takes."""
    fit: Literal["squash", "pad"] = "squash"
    turned: bool = False
    """Parts are laid upright first, as the first one lay that was learnt from."""
    around: Side = 3
    """A place's features are the mean of so many by so many."""
    neighbours: Side = 1
    """Of those remembered, to which the mean distance is taken."""
    hottest: float = 0.05
    """An image's score is the mean over this share of its heat."""
    smooth: float = SMOOTH
    """Deviation of the Gaussian that heat is smoothed by, in sides of what is seen."""
    bleed: float = 0.0
    """The share of the score that is taken off all heat."""
    left_out: float = 0.0
    """Share of what it was given that was left out as likely bad: if that was good, as many more are taken for bad."""


class Card(_Strict, frozen=True, kw_only=True):
    """model.json."""

    format: Literal[1] = 1
    name: str
    task: Task
    architecture: str
    """"timm:vgg16", "edsr:16x64", "carn-m", ... builds the same network in torch; "onnx", "tflite": only the file."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """The numbers that the network's file holds."""
    input: Input
    outputs: dict[str, Output]
    """By meaning: embedding, image, detections, logits, text_embedding, map8, map16 (stride), ..."""
    scale: int | None = None
    """An upscaler's factor."""
    sigma: float | None = None
    """A denoiser's that knows noise of one standard deviation, in 255ths: images are brought to it, and back."""
    labels: tuple[str, ...] = ()
    text: Text | None = None
    calibration: dict[str, float] | None = None
    """A classifier's: "temperature", which its logits are divided by. An inspector's, where it has seen bad ones: a
    part is bad with the probability of the logistic function of "slope" times its score plus "intercept"."""
    head: Head | None = None
    inspector: Inspector | None = None
    novelty: Literal["mahalanobis", "neighbours", "energy"] | None = None
    """A classifier's: how it tells what is of none of its classes (algorithms/novelty.py)."""
    licence: str = "unknown"
    source: str = "unknown"
    """Where it came from: a page, a repository with its revision, a recipe, a file's name."""
    notes: str = ""
    files: dict[Role, File]


@dataclass(frozen=True)
class Model:
    """A Model folder whose card was read and found good. Cheap: no network is loaded, no large file read."""

    folder: Path
    card: Card

    @property
    def keys(self) -> tuple[str, ...]:
        """What results depend on, for `Step.weights`: sha256 of each file, and of how the card says to use them."""
        how: list[Any] = [self.card.input, self.card.outputs, self.card.scale, self.card.labels, self.card.text]
        how += [
            each
            for each in (self.card.sigma, self.card.calibration, self.card.novelty, self.card.inspector)
            if each is not None
        ]
        files = [each.sha256 for role, each in sorted(self.card.files.items()) if role not in RECORDS]
        return (*files, hashlib.sha256(msgspec.json.encode(how, order="sorted")).hexdigest())

    def file(self, role: Role) -> Path:
        """The path of a file, which is as the card says: its hash is checked. Raises ModelError."""
        if role not in self.card.files:
            there = ", ".join(self.card.files)
            raise ModelError(f"the model {self.card.name} has no {role} (in {self.folder}: {there})")
        entry = self.card.files[role]
        path = self.folder / entry.path
        try:
            found = hash_of(path)
        except OSError as error:
            raise ModelError(f"the model {self.card.name}: {path} cannot be read: {error.strerror}") from error
        if found != entry.sha256:
            raise ModelError(
                f"the model {self.card.name}: {path} is not the file that {self.folder / CARD} names "
                f"(its sha256 is {found[:12]}…, not {entry.sha256[:12]}…). Pull it again, or import it with --replace."
            )
        _refuse_apart(path)
        return path

    def output(self, meaning: str) -> Output:
        """What an output means. Raises ModelError where the network has none such."""
        if meaning not in self.card.outputs:
            raise ModelError(f"the model {self.card.name} gives {', '.join(self.card.outputs)}; no {meaning}")
        return self.card.outputs[meaning]


def read_model(folder: str | os.PathLike[str]) -> Model:
    """The Model folder. Raises ModelError for a folder that is none, and for a card that does not fit the schema."""
    path = Path(folder).absolute()
    try:
        data = (path / CARD).read_bytes()
    except OSError as error:
        raise ModelError(f"{path} is no Model folder: {CARD} cannot be read: {error.strerror}") from error
    try:
        card = msgspec.json.decode(data, type=Card)
    except msgspec.DecodeError as error:  # ValidationError is one
        raise ModelError(f"{path / CARD} is no card that this version reads: {error}") from error
    _check(card, path)
    return Model(path, card)


def write_model(
    folder: str | os.PathLike[str], card: Card, files: Mapping[Role, Path | bytes], *, replace: bool = False
) -> Model:
    """Write a Model folder, whole or not at all. `card.files` gives the names; the hashes are those of `files`.

    Raises ModelError where the folder is there and `replace` is false, for a card that does not fit, and where a file
    cannot be read or written.
    """
    target = Path(folder).absolute()
    if target.exists() and not (target / CARD).is_file():
        raise ModelError(f"{target} is there already, and is no Model folder: choose another place, or take it away")
    if target.exists() and not replace:
        raise ModelError(f"{target} is there already: choose another name, or replace it (--replace)")
    if set(files) != set(card.files):
        raise ValueError(f"files {sorted(files)}, but the card names {sorted(card.files)}")
    _check(card, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return _written(target, card, files)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error


def _written(target: Path, card: Card, files: Mapping[Role, Path | bytes]) -> Model:
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        entries: dict[Role, File] = {}
        for role, content in files.items():
            path = made / card.files[role].path
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
            _refuse_apart(path)
            entries[role] = File(path=card.files[role].path, sha256=hash_of(path))
        card = msgspec.structs.replace(card, files=entries)
        (made / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
        made.chmod(0o755)
        if target.exists():
            # Aside, not away: were the process killed between the two, the old one would still be there.
            target.rename(old := made.with_name(f"{made.name}.old"))
            try:
                made.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old)
        else:
            made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return read_model(target)  # not as it was given: 0 is written, and 0.0 read


def _refuse_apart(path: Path) -> None:
    """Raises ModelError for an ONNX file that keeps weights in another file, which no hash of the card would cover."""
    if path.suffix.lower() == ".onnx" and apart(path):
        raise ModelError(f"{path} keeps its weights in another file: 'imagier models import' joins the two")


def apart(path: Path) -> bool:
    """Whether an ONNX file keeps weights in another: an entry "location" (protobuf's field 1, 8 bytes) says so."""
    with open(path, "rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(b"\x0a\x08location\x12") >= 0


UNSET = "0" * 64


def to_write(**names: str) -> dict[Any, File]:
    """`Card.files` for `write_model`, which puts the hashes in: `to_write(network="network.onnx")`."""
    return {role: File(path=name, sha256=UNSET) for role, name in names.items()}


def hash_of(path: Path) -> str:
    """sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


NEEDED: dict[str, dict[str, set[str]]] = {
    "embed": {"embedding": {"vector", "maps", "cls", "tokens"}},
    "denoise": {"image": {"image"}},
    "upscale": {"image": {"image"}},
    "detect": {"detections": {"yolov10", "yolov8", "yolox", "detr"}},
    "segment": {"logits": {"logits"}},
    "classify": {"logits": {"logits"}},
    "inspect": {},
}
"""Task -> the output that it must have, and the forms it may have."""


def _check(card: Card, folder: Path) -> None:
    """What types cannot say. Raises ModelError."""

    def refuse(what: str) -> None:
        raise ModelError(f"{folder / CARD}: {what}")

    for entry in card.files.values():
        if Path(entry.path).name != entry.path or entry.path in ("", ".", "..", CARD):
            refuse(f"{entry.path!r} must be the bare name of a file in the folder")
    if not {"network", "weights", "head", "memory"} & set(card.files):
        refuse("files must name a network or weights")
    if (card.head is None) != ("head" not in card.files) or (card.head is not None and card.task != "classify"):
        refuse("head and a file of that role go together, and are a classifier's")
    remembers = "memory" in card.files
    if (card.inspector is None) != (not remembers) or (card.task == "inspect") != remembers:
        refuse("inspector and a file of the role memory go together, and are those of the task inspect")
    if card.inspector is not None and not 0 < card.inspector.hottest <= 1:
        refuse("inspector.hottest is a share, above 0")
    if card.novelty is not None and "confidence" not in card.files:
        refuse("novelty needs a file of the role confidence")
    if not 0 < (card.calibration or {}).get("temperature", 1.0) < float("inf"):
        refuse("calibration.temperature must be above 0")
    channels = 1 if card.input.colour == "grey" else 3
    if len(card.input.mean) != channels or len(card.input.std) != channels or min(card.input.std) <= 0:
        refuse(f"input.mean and input.std must each be {channels} numbers, std above 0")
    if card.input.fit != "none" and card.input.size is None:
        refuse(f"input.fit {card.input.fit!r} needs input.size")
    for meaning, forms in NEEDED[card.task].items():
        if meaning not in card.outputs or card.outputs[meaning].form not in forms:
            refuse(f"the task {card.task} needs an output {meaning!r} of the form {' or '.join(sorted(forms))}")
    for meaning, output in card.outputs.items():
        if len(output.tensors) != (2 if output.form == "detr" else 1):
            refuse(f"outputs.{meaning}.tensors must be {'logits and boxes' if output.form == 'detr' else 'one name'}")
    if card.task == "embed" and not card.outputs["embedding"].width:
        refuse("outputs.embedding.width must be given")
    if card.task == "upscale" and (card.scale is None or not 2 <= card.scale <= 8):
        refuse("scale must be 2 to 8")
    if card.sigma is not None and (card.task != "denoise" or card.sigma <= 0):
        refuse("sigma must be above 0, and a denoiser's")
    if "text" in card.files and (
        card.text is None or "tokenizer" not in card.files or "text_embedding" not in card.outputs
    ):
        refuse("a text network needs text, a tokenizer and an output text_embedding")
