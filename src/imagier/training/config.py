"""What a training is told: a YAML file of settings, each with its default here, changed one by one with --set.

A setting that does not exist or does not fit is refused, with the nearest name, before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import yaml

from imagier.models.model import SMOOTH
from imagier.types import SettingError, nearest

FOLDER = Path(__file__).parent / "configs"

Count = Annotated[int, msgspec.Meta(ge=1)]
Side = Annotated[int, msgspec.Meta(ge=32, le=4096)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What whatever learns is told."""

    verb: ClassVar[str]
    """imagier train VERB."""
    seed: int = 0
    """Of the split, the weights that are drawn, the order of images and their changes."""


class Parted(Told, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What learns from a part of the images, and is chosen and judged by others."""

    split: str = "70:15:15"
    """Shares of images that are learnt from, that choose the checkpoint, and that judge."""


class Config(Parted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network that learns is told."""

    epochs: Count = 30
    """At most so many times through the images."""
    patience: Count = 10
    """Epochs without a better checkpoint after which it ends early."""
    batch: Count = 16
    rate: Positive = 1e-3
    """The greatest learning rate; it rises over the first twentieth of the steps and falls as a cosine."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """adamw (Loshchilov & Hutter 2019). muon (Jordan et al. 2024): steps of kernels, as matrices, are made orthogonal,
    the other weights are AdamW's; scaled so that one rate fits both (Liu et al. 2025, arXiv:2502.16982)."""
    decay: Annotated[float, msgspec.Meta(ge=0)] = 1e-2
    """Weight decay, apart from the gradient (Loshchilov & Hutter 2019)."""
    half: bool = False
    """Keep the weights once, as float16, half the size; training can go on from them no less."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor or card computes in it."""
    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Processes that prepare images; 0: none beside the training itself."""


class Picture(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network from pictures to pictures is told."""

    adversarial: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Weight of what a critic says (critic.py) beside the loss; 0: there is no critic."""


class Segmenter(Picture, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that tells which pixels are what."""

    verb: ClassVar[str] = "segmenter"
    network: str = "imagier:unet"
    """imagier:unet: the built-in encoder, with its weights, and a small decoder; imagier:unet-small: a third of it, for
    objects that are small themselves. smp:DECODER/ENCODER: any of
    segmentation_models_pytorch's, with weights that are drawn, or those of `weights`."""
    weights: str | None = None
    """A file of weights to begin with (.safetensors, .pth)."""
    size: tuple[Side, Side] | None = (192, 256)
    """Height and width that every image is brought to; null: images as they are, in parts of `part` pixels."""
    part: Side | None = None
    """Side of the random parts that are learnt from, where `size` is null; 256 unless given."""
    parts: Count | None = None
    """So many of each image an epoch, where `size` is null; 1 unless given."""
    cores: bool = False
    """Also learn the inside of each object, by which touching ones are told apart: for label images."""
    exclusive: bool = False
    """A pixel is of one class at most."""
    loss: Literal["dice-bce", "dice-focal", "dice-l1"] = "dice-bce"
    """Soft Dice (Milletari et al. 2016) and cross entropy; or focal loss (Lin et al. 2017), where little is inside; or
    the plain difference, beside a critic."""
    augment: Literal["none", "light", "strong"] = "light"
    """none; light: mirrored, and other light; strong: also turned, enlarged, blurred."""
    noise: str | None = None
    """What images are shown with (algorithms/noise.py), such as gaussian:0-50: it then tells the same of noisy ones."""

    def __post_init__(self) -> None:
        for name in ("part", "parts"):
            if self.size is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} goes with size=null: an image that is brought to {self.size} has no parts")


class Restorer(Picture, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network from images to images. Its weights do not decay, unless told."""

    network: str
    weights: str | None = None
    """A file of weights to begin with (.safetensors, .pth)."""
    decay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    batch: Count = 4
    split: str = "90:10:0"
    part: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 64
    """Side in pixels of the random parts that it is shown; mirrored and turned by quarters."""
    parts: Count = 32
    """So many of each image an epoch."""
    loss: Literal["l1", "l2"] = "l1"
    """The difference, or its square, which PSNR is made of."""


class Denoiser(Restorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that takes noise out of images."""

    verb: ClassVar[str] = "denoiser"
    network: str = "runet:64-64-64@grey"
    """runet:WIDTHS@grey or @rgb, a residual U-Net; dncnn:LAYERSxCHANNELS@grey or @rgb."""
    noise: str | None = None
    """What is added to clean images (algorithms/noise.py), gaussian:0-50 unless told; pairs have their own."""
    sigma: Positive | None = None
    """Of Gaussian noise: images are brought to this standard deviation, in 255ths, so that the network sees noise of
    one strength alone, whatever an image has; null: images as they are, and it must find out by itself."""


class Upscaler(Restorer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that enlarges images; it learns from their bicubic reductions."""

    verb: ClassVar[str] = "upscaler"
    network: str = "edsr:16x48@3"
    """edsr:BLOCKSxCHANNELS@FACTOR, or carn-m@FACTOR; the factor is 2, 3 or 4."""
    part: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 32


Balance = Literal["none", "weights", "oversample"]
"""Where classes differ in size, of the part that is learnt from alone. weights: an image of a class that has few counts
as much more; oversample: it is seen as much more often."""
Choose = Literal["balanced", "accuracy"]
"""What the best is by, on the validation part: the mean over classes of the share that is right, or that of all."""


class Head(Parted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A classifier of a few layers on an encoder's embedding: seconds, and no torch."""

    verb: ClassVar[str] = "classifier"
    way: Literal["head"] = "head"
    balance: Balance = "weights"
    choose: Choose = "balanced"
    model: str = "builtin"
    """The encoder: the one that ships, or any other by its name or Model folder."""
    hidden: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """Units of a layer between; 0: none, and the head is linear."""
    views: Literal["none", "mirrored"] = "none"
    """mirrored: of each image its mirror images and quarter turns are learnt from as well; not of items."""
    columns: tuple[str, ...] = ()
    """Of a collection's items: numbers that stand beside the embedding, such as what `measure` writes."""


class Network(Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A classifier that is a network of its own."""

    verb: ClassVar[str] = "classifier"
    balance: Balance = "weights"
    choose: Choose = "balanced"
    way: Literal["finetune", "scratch"]
    model: str
    """finetune: a name of timm's, such as resnet50, vgg16, efficientnet_b0, vit_tiny_patch16_224; or builtin, the
    encoder that ships, with its weights. scratch: cnn:32-64-128/256, channels of its convolutions and units of its
    dense layer (models/networks/cnn.py)."""
    weights: str | None = None
    """finetune: a file of weights to begin with (.safetensors, .pth); without one those of timm's networks are drawn at
    random."""
    size: tuple[Side, Side] | None = None
    """Height and width that images are brought to; the network's own unless given."""
    fit: Literal["squash", "pad", "crop"] = "squash"
    """How: whatever the shape; with a margin; or the middle."""
    frozen: Annotated[int, msgspec.Meta(ge=0)] = 0
    """finetune: for so many epochs the last layer learns alone."""
    falloff: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """finetune: each block learns at this share of the rate of the one after it (Howard & Ruder 2018)."""
    augment: Literal["none", "light", "strong"] = "light"
    """none; light: mirrored, and other light; strong: also turned, enlarged, blurred."""
    mixup: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Alpha of mixup (Zhang et al. 2018); 0: none."""
    l2: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """scratch: weight of the dense layers' squared weights in the loss."""

    def __post_init__(self) -> None:
        others: Mapping[str, Mapping[str, Any]] = {
            "scratch": {"weights": None, "frozen": 0, "falloff": 1.0},
            "finetune": {"l2": 0.0},
        }
        for name, plain in others[self.way].items():
            if getattr(self, name) != plain:
                raise ValueError(f"{name} does not go with way={self.way}")
        if (self.way == "scratch") != self.model.startswith("cnn:"):
            raise ValueError(f"way={self.way} does not go with model={self.model}")


class Inspector(Told, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tells how unlike good parts an image is."""

    verb: ClassVar[str] = "inspector"
    method: Literal["patchcore", "padim", "knn"] = "patchcore"
    """patchcore: the distance of each place to the nearest of all that good parts show anywhere; padim: to what they
    show at that place, for parts that lie alike; knn: of the whole image to good ones."""
    encoder: str = "builtin"
    """What sees: the one that ships, or any other with maps, by its name or Model folder."""
    maps: tuple[Literal["map8", "map16"], ...] = ("map16",)
    """Of its maps: with a place for 8 x 8 pixels, or for 16 x 16. Not of knn."""
    size: tuple[Side, Side] | None = None
    """Height and width that images are brought to; the encoder's own unless given, seen in windows where it is more."""
    fit: Literal["squash", "pad"] = "squash"
    """How: whatever the shape, or with a margin."""
    turned: bool = False
    """Each is one part on a plain ground, at any angle: lay it upright in the middle first."""
    views: Literal["none", "mirrored", "turned"] = "none"
    """mirrored: of each good image its mirror images and quarter turns are learnt from as well; turned: 24 angles."""
    around: Annotated[int, msgspec.Meta(ge=1, le=15)] = 3
    """A place's features are the mean of so many by so many."""
    memory: Annotated[int, msgspec.Meta(ge=10, le=200_000)] = 4000
    """At most so many places are remembered, however many images there are."""
    neighbours: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Of those remembered, the nearest, to which the mean distance is taken."""
    hottest: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    """An image's score is the mean over this share of its heat."""
    smooth: Annotated[float, msgspec.Meta(ge=0, le=0.2)] = SMOOTH
    """Deviation of the Gaussian that heat is smoothed by, in sides of what is seen: more for wide faults."""
    bleed: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0
    """Share of the score that is taken off all heat: a strong fault warms what lies around it."""
    bad: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] | None = None
    """Share of what is learnt from that may be bad: so many that are least like the others are left out. Unless given
    0 of good ones, and 0.1 of unlabelled ones."""

    def __post_init__(self) -> None:
        if not self.maps:
            raise ValueError("maps cannot be none: map8, map16 or both")
        if len(set(self.maps)) < len(self.maps):
            raise ValueError("maps names one twice")
        places = ("size", "around", "maps", "hottest", "smooth", "bleed")
        usual = {each.name: each.default for each in msgspec.structs.fields(type(self))}
        own = next((name for name in places if getattr(self, name) != usual[name]), None)
        if self.method == "knn" and own is not None:
            raise ValueError(f"{own} does not go with method=knn, which sees an image as a whole")
        if self.method == "padim" and (self.memory != 4000 or self.neighbours != 1):
            raise ValueError("memory and neighbours do not go with method=padim, which remembers each place")
        if self.turned and self.size is not None and self.size[0] != self.size[1]:
            raise ValueError("turned parts lie on a square: give size the same number twice")
        if self.turned and self.fit != "squash":
            raise ValueError("fit does not go with turned: parts are laid on a square of their own")


WAYS: Mapping[str, type[Head] | type[Network]] = {"head": Head, "finetune": Network, "scratch": Network}

C = TypeVar("C", bound=Told)


def folder(kind: type[Told]) -> Path:
    """Where the configs of a kind are that come with imagier."""
    return FOLDER / kind.verb


def names(kind: type[Told]) -> list[str]:
    """Configs of a kind that come with imagier."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def read(name_or_file: str | None, kind: type[C], settings: Mapping[str, Any]) -> C:
    """A config by name or file, with `settings` over it; None: the defaults. Raises SettingError."""
    return _made(*_said(name_or_file, kind), kind, settings)


def read_classifier(name_or_file: str | None, settings: Mapping[str, Any]) -> Head | Network:
    """The same of a classifier, whose `way` says what other settings there are. Raises SettingError."""
    told, where = _said(name_or_file, Head)
    way = (told | dict(settings)).get("way", "head")
    if str(way) not in WAYS:
        raise SettingError("way: " + nearest("way", str(way), WAYS))
    kind: type[Head] | type[Network] = WAYS[way]
    return _made(told, where, kind, settings)


def _said(name_or_file: str | None, kind: type[Told]) -> tuple[dict[str, Any], str]:
    """What a config says, and where that stands."""
    if name_or_file is None:
        return {}, "the defaults"
    there = names(kind)
    path = folder(kind) / f"{name_or_file}.yaml" if name_or_file in there else Path(name_or_file)
    return _yaml(path, name_or_file, there), str(name_or_file)


def _made(told: Mapping[str, Any], where: str, kind: type[C], settings: Mapping[str, Any]) -> C:
    known = {field.name for field in msgspec.structs.fields(kind)}
    for source, keys in ((where, told), ("--set", settings)):
        for key in keys:
            if key not in known:
                raise SettingError(f"{source}: {nearest('setting', str(key), known)}")
    try:
        return msgspec.convert({**told, **settings}, kind)
    except msgspec.ValidationError as error:
        if any(str(error).split("`$.")[-1].startswith(name) for name in settings):
            where = "--set"
        raise SettingError(f"{where}: {str(error).replace(' - at `$.', ', at ').rstrip('`')}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """ "epochs=20" -> ("epochs", 20); the value is read as YAML. Raises SettingError without a `=`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"{text!r} is no setting: write SETTING=VALUE, such as epochs=20")
    try:
        return name.strip(), yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise SettingError(f"{text!r}: {str(error).splitlines()[0]}") from error


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: in 1.1, 70:15:15 is a count of seconds, and 1e-3 is no number."""


NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
DIGITS = list("-+.0123456789")
_Loader.add_implicit_resolver(NUMBERS[0], re.compile(r"[-+]?[0-9]+$"), DIGITS)
_Loader.add_implicit_resolver(NUMBERS[1], re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"), DIGITS)


def _yaml(path: Path, name: str, there: list[str]) -> dict[str, Any]:
    try:
        told = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise SettingError(
            f"{name} is no config file ({error.strerror}), and none of these, which come with imagier: "
            + ", ".join(there)
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict):
        raise SettingError(f"{path} holds no settings: it takes lines of NAME: VALUE")
    return told
