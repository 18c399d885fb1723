"""Architectures by name, as a card writes them, built in torch:

    timm:resnet50, timm:vit_base_patch16_224.augreg_in21k      any of timm's; the tag chooses how images are prepared
    open_clip:ViT-B-32, open_clip:ViT-B-32-quickgelu           CLIP with the tokenizer of its authors; OpenAI's weights
                                                               need QuickGELU, whose name says so
    smp:unet/resnet34, smp:fpn/tu-convnext_tiny                segmentation_models_pytorch's segmenters: decoder/encoder
    edsr:16x64@3, carn-m@3                                     upscalers (networks/)
    dncnn:17x64@grey, runet:32-64-96@rgb                       denoisers (networks/)
    imagier:encoder, imagier:unet, imagier:unet-small          the encoder that ships, and U-Nets upon it (networks/)
    imagier:classifier, cnn:32-64-128/256@96                   a classifier upon it, and a plain one (networks/)

None is ever downloaded: weights come from a file. The packages are those of the extra `train`.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from imagier._quiet import quiet
from imagier.models import networks
from imagier.models.model import MAP_STRIDES, Role, Task
from imagier.types import ModelError, SettingError, nearest

if TYPE_CHECKING:
    import torch

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of R, G, B, as most encoders were trained with."""
RENAMED = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile set before the names of weights."""


@dataclass(frozen=True)
class Port:
    """A network as a card has it: one tensor in, one or several out."""

    takes: str
    gives: tuple[str, ...]
    """What the tensors mean, which are their names as well."""
    call: Callable[[Any, Any], Any]
    """(network, tensor) -> tensor, or a tuple of them."""


@dataclass(frozen=True)
class Family:
    """What stands before the colon."""

    build: Callable[[str, str, int | None, tuple[int, int] | None], Any]
    """(architecture, name, classes, size) -> network."""
    fit: Callable[[str, str, Mapping[str, Any], tuple[int, int] | None], Any]
    """(architecture, name, state dict, size) -> network with these weights."""
    ports: Mapping[Task, Mapping[Role, Port]]
    """Task -> role of the file -> port."""


def build(architecture: str, *, classes: int | None = None, size: tuple[int, int] | None = None) -> torch.nn.Module:
    """The network in torch, untrained, in evaluation mode.

    classes: how many a classifier tells apart; its own number unless given. size: (height, width) of the images, for
    those that are built for one. Raises SettingError for a name that is none, and where a package is missing.
    """
    family, name = _family(architecture)
    needed("torch", f"the architecture {architecture}")
    with quiet("root"):  # of weights that are not there yet, says open_clip
        network: torch.nn.Module = family.build(architecture, name, classes, size).eval()
    return network


def fitted(architecture: str, state: Mapping[str, Any], *, size: tuple[int, int] | None = None) -> torch.nn.Module:
    """The network with the weights of a state dict, in evaluation mode; as many classes as these have.

    Raises ModelError for weights that are not its, SettingError as `build` does.
    """
    family, name = _family(architecture)
    needed("torch", f"the architecture {architecture}")
    with quiet("root"):  # of weights that are not there yet, says open_clip
        network: torch.nn.Module = family.fit(architecture, name, unwrapped(state), size).eval()
    return network


def ports(architecture: str, task: Task, *, besides: Sequence[str] = ()) -> Mapping[Role, Port]:
    """Role -> what the network of a task is.

    besides: what else the network is to give: of a classifier "embedding", which its last layer sees; of a timm
    encoder those of `maps_of`. What it gives anyhow may be among them. Raises SettingError for a task that the
    architecture is not there for.
    """
    family, _ = _family(architecture)
    if task not in family.ports:
        raise SettingError(f"{architecture} is there to {' or '.join(family.ports)}, not to {task}")
    usual = family.ports[task]
    more = tuple(name for name in besides if all(name not in port.gives for port in usual.values()))
    if not more:
        return usual
    call = _both if task == "classify" else partial(_mapped, maps=more)
    return {**usual, "network": Port("image", (*usual["network"].gives, *more), call)}


def maps_of(network: Any, size: tuple[int, int]) -> tuple[str, ...]:
    """Which of MAP_STRIDES a timm network gives for images of this size: some name a stride and drop the edge."""
    if not (hasattr(network, "forward_intermediates") and hasattr(network, "feature_info")):
        return ()
    torch = needed("torch", "a network in torch")
    offered = {each["reduction"] for each in network.feature_info}
    names = tuple(name for name, stride in MAP_STRIDES.items() if stride in offered)
    if not names:
        return ()
    with torch.inference_mode():
        _, *maps = _mapped(network, torch.zeros(1, 3, *size), maps=names)
    exact = {name: tuple(side // MAP_STRIDES[name] for side in size) for name in names}
    return tuple(name for name, each in zip(names, maps, strict=True) if each.shape[2:] == exact[name])


def preprocessing(architecture: str, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Fields of a card's Input, by timm's own config of an architecture; for a network file.

    size: what the network takes, where that is another. Raises SettingError for another family's.
    """
    if not architecture.startswith("timm:"):
        raise SettingError(f"--arch of a network says how it sees images: timm:NAME does, {architecture!r} does not")
    return timm_input(architecture, _timm_config(architecture, architecture.removeprefix("timm:")), size)


def needed(package: str, what: str) -> Any:
    """A package of the extra `train`, or one message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what packages say of one another while they are imported
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise SettingError(f"{what} needs {error.name}: pip install 'imagier[train]'") from error


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without what training programs wrap around it and set before its names."""
    state = networks.bare(state)
    for prefix in RENAMED:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _family(architecture: str) -> tuple[Family, str]:
    kind, _, name = architecture.partition(":")
    kind = architecture if kind == "imagier" else kind.partition("@")[0]
    if kind not in FAMILIES:
        known = ", ".join(
            [
                "timm:NAME, open_clip:NAME, smp:DECODER/ENCODER",
                *networks.SUCH,
                "cnn:WIDTHS/DENSE@SIDE",
                "imagier:encoder, imagier:unet, imagier:unet-small, imagier:classifier",
            ]
        )
        raise SettingError(f"{nearest('architecture', kind, FAMILIES)} Known are {known}.")
    return FAMILIES[kind], name


# ---------------------------------------------------------------- timm


def _timm_config(architecture: str, name: str) -> Any:
    timm = needed("timm", f"the architecture {architecture}")
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        raise SettingError(nearest("timm architecture", plain, timm.list_models()))
    try:
        return timm.get_pretrained_cfg(name).to_dict()
    except RuntimeError as error:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(plain + ".*")]
        raise SettingError(f"{architecture}: {nearest('tag', tag, tags)}") from error


def timm_input(
    architecture: str, config: Mapping[str, Any], size: tuple[int, int] | None, fit: str | None = None
) -> dict[str, Any]:
    """Fields of a card's Input: what timm.data.create_transform does with a config, for evaluation.

    fit: how images come to the size, where that is said; else as the config has it.
    """
    told = importlib.import_module("timm.data").resolve_data_config(pretrained_cfg=dict(config))
    height, width = size or told["input_size"][1:]
    scaled = math.floor(height / told["crop_pct"]), math.floor(width / told["crop_pct"])
    squashed = told["crop_mode"] == "squash" and scaled == (height, width)
    fit = fit or ("squash" if squashed else "crop")
    odd = told["crop_mode"] != "center" or (height != width and scaled != (height, width))
    if fit == "crop" and odd and not squashed:
        raise SettingError(
            f"{architecture} prepares images by {told['crop_mode']} and {told['crop_pct']}, unknown here"
        )
    return {
        "size": (height, width),
        "mean": tuple(told["mean"]),
        "std": tuple(told["std"]),
        "interpolation": told["interpolation"],
        "fit": fit,
        "resize": scaled[0] if fit == "crop" else None,
        "colour": "rgb",
    }


def _timm(architecture: str, name: str, classes: int | None, size: tuple[int, int] | None) -> Any:
    config = _timm_config(architecture, name)
    how: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if size is not None and config.get("fixed_input_size"):
        how["img_size"] = size
    try:
        return importlib.import_module("timm").create_model(name, pretrained=False, **how)
    except (AssertionError, ValueError) as error:
        raise SettingError(f"{architecture} cannot be built for {size} pixels: {error}") from error


def _timm_fitted(architecture: str, name: str, state: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
    heads = _timm_config(architecture, name).get("classifier") or ()
    last = [state.get(f"{head}.weight") for head in ([heads] if isinstance(heads, str) else heads)]
    network = _timm(architecture, name, 0 if not last or last[0] is None else int(last[0].shape[0]), size)
    own = network.state_dict()
    if _misfit(own, state):  # the author's names, or another size's positions: timm's module knows both
        module = sys.modules[type(network).__module__]
        change = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
        state = change(dict(state), network) if change else state
    networks.check(architecture, own, state)
    network.load_state_dict(state)
    return network


def _misfit(own: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    return own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own)


def _pooled(network: Any, image: Any) -> Any:
    return network.forward_head(network.forward_features(image), pre_logits=True)


def _mapped(network: Any, image: Any, *, maps: Sequence[str]) -> Any:
    """The embedding, and the last features of each stride that is wanted."""
    strides = [each["reduction"] for each in network.feature_info]
    at = [max(row for row, stride in enumerate(strides) if stride == MAP_STRIDES[name]) for name in maps]
    rows = sorted({*at, len(strides) - 1})  # the last as well: some networks go no further than is asked for
    last, inner = network.forward_intermediates(image, indices=rows)
    by = dict(zip(rows, inner, strict=True))
    return network.forward_head(last, pre_logits=True), *(by[row] for row in at)


# ---------------------------------------------------------------- open_clip


def clip_config(architecture: str, name: str) -> dict[str, Any]:
    """open_clip's own config of a name, where its text is tokenised as CLIP's authors do it."""
    open_clip = needed("open_clip", f"the architecture {architecture}")
    if name not in open_clip.list_models():
        raise SettingError(nearest("open_clip architecture", name, open_clip.list_models()))
    config: dict[str, Any] = open_clip.get_model_config(name)
    text = config["text_cfg"]
    if {"hf_tokenizer_name", "hf_model_name", "tokenizer_kwargs"} & set(text):
        raise SettingError(
            f"{architecture} has a tokenizer of its own, which is not here; open_clip:ViT-B-32 has CLIP's"
        )
    return config


def _clip(architecture: str, name: str, _: int | None, size: tuple[int, int] | None) -> Any:
    clip_config(architecture, name)
    create = importlib.import_module("open_clip").create_model
    return create(name, pretrained=None, load_weights=False, pretrained_text=False, force_image_size=size)


def _clip_fitted(architecture: str, name: str, state: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
    if "input_resolution" in state and "quickgelu" not in name:
        raise ModelError(f"these are OpenAI's weights, which need QuickGELU: open_clip:{name}-quickgelu")
    left = ("input_resolution", "context_length", "vocab_size", "text.transformer.embeddings.position_ids")
    state = {key: value for key, value in state.items() if key not in left}
    network = _clip(architecture, name, None, size)
    networks.check(architecture, network.state_dict(), state)
    network.load_state_dict(state)
    return network


def clip_input(network: Any) -> dict[str, Any]:
    """Fields of a card's Input, by the config of open_clip's own transform."""
    told = network.visual.preprocess_cfg
    size = told["size"] if isinstance(told["size"], tuple | list) else (told["size"], told["size"])
    fit = {"shortest": "crop", "squash": "squash", "longest": "pad"}[told["resize_mode"]]
    return {
        "size": tuple(size),
        "mean": tuple(told["mean"]),
        "std": tuple(told["std"]),
        "interpolation": told["interpolation"],
        "fit": fit,
        "pad_value": told["fill_color"],
        "pad_at": "centre",
    }


# ---------------------------------------------------------------- segmentation_models_pytorch


def _smp(architecture: str, name: str, classes: int | None, _size: tuple[int, int] | None) -> Any:
    return _smp_of(architecture, name, 3, classes or 1)


def _smp_of(architecture: str, name: str, channels: int, classes: int) -> Any:
    smp = needed("segmentation_models_pytorch", f"the architecture {architecture}")
    decoder, encoder = _smp_parts(name)
    decoders, encoders = smp.MODEL_ARCHITECTURES_MAPPING, smp.encoders.get_encoder_names()
    if decoder not in decoders:
        raise SettingError(f"{architecture}: {nearest('smp decoder', decoder, decoders)} It is smp:DECODER/ENCODER.")
    if encoder.startswith(OF_TIMM):
        _timm_config(architecture, encoder.removeprefix(OF_TIMM))
    elif encoder not in encoders:
        raise SettingError(
            f"{architecture}: {nearest('smp encoder', encoder, encoders)} {OF_TIMM}NAME is an encoder of timm's."
        )
    try:
        return smp.create_model(
            decoder, encoder_name=encoder, encoder_weights=None, in_channels=channels, classes=classes
        )
    except (AssertionError, ValueError, RuntimeError) as error:
        raise SettingError(f"{architecture} cannot be built: {error}") from error


def _smp_parts(name: str) -> tuple[str, str]:
    """ "Unet/resnet34" -> ("unet", "resnet34")."""
    decoder, _, encoder = name.partition("/")
    return decoder.lower(), encoder


def _smp_fitted(architecture: str, name: str, state: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
    network = _smp(architecture, name, None, size)
    own = network.state_dict()
    kernels = [key for key, value in own.items() if value.ndim == 4]
    first, last = (state.get(key) for key in (kernels[0], [key for key in kernels if key.startswith(HEAD)][-1]))
    channels = 3 if first is None or first.ndim != 4 else int(first.shape[1])
    classes = 1 if last is None or last.ndim != 4 else int(last.shape[0])
    if channels not in (1, 3):
        raise ModelError(f"these weights of {architecture} take {channels} channels; images have 3 or 1")
    if (channels, classes) != (3, 1):
        network = _smp_of(architecture, name, channels, classes)
    networks.check(architecture, network.state_dict(), state)
    network.load_state_dict(dict(state))
    return network


def smp_input(architecture: str, network: Any, size: tuple[int, int] | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a card's Input: any size that the encoder's strides divide, unless one is given.

    told: fields that go before; with a size they must say how an image comes to it, without one they cannot.
    """
    multiple = int(network.encoder.output_stride) if network.requires_divisible_input_shape else 1
    kernel = next(value for value in network.state_dict().values() if value.ndim == 4)
    known = {"colour": "grey" if kernel.shape[1] == 1 else "rgb", **_smp_normalised(architecture, kernel, told)}
    return _either_size(architecture, multiple, size, told, known)


def _either_size(
    architecture: str, multiple: int, size: tuple[int, int] | None, told: Mapping[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """Of a segmenter: one size, and how an image comes to it; or any, as images are."""
    if size is None:
        if geometry := [option for option in ("fit", "resize", "interpolation") if option in told]:
            raise SettingError(f"{architecture} takes images of any size as they are: leave out {', '.join(geometry)}")
        return known | {"fit": "none", "multiple": multiple}
    if any(side % multiple for side in size):
        raise SettingError(f"--size cannot be {size[0]} x {size[1]}: {architecture} takes multiples of {multiple}")
    if "fit" not in told:
        raise SettingError(f"--fit must be given: how an image comes to {size} pixels, crop, squash or pad")
    return known | {"size": size}


def _smp_normalised(architecture: str, kernel: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and std that its encoder was pretrained with, where that is known and not told."""
    encoder = _smp_parts(architecture.partition(":")[2])[1]
    missing = [name for name in IMAGENET if name not in told]
    if missing and (kernel.shape[1] == 1 or encoder.startswith(OTHERS)):
        raise SettingError(f"--{missing[0]} must be given: {architecture} does not tell it")
    config = _timm_config(architecture, encoder.removeprefix(OF_TIMM)) if encoder.startswith(OF_TIMM) else IMAGENET
    return {name: tuple(config[name]) for name in missing}


HEAD = "segmentation_head."
OF_TIMM = "tu-"
"""What stands before the name of an encoder that is any of timm's."""
OTHERS = ("dpn", "inception", "xception", "timm-tf_efficientnet_lite")
"""Encoders that were pretrained with another mean and std than ImageNet's (segmentation_models_pytorch's
encoders/_legacy_pretrained_settings.py); the package itself has them from the hub alone."""


# ---------------------------------------------------------------- our own


def _encoder(architecture: str, _name: str, _classes: int | None, _size: tuple[int, int] | None) -> Any:
    return importlib.import_module("imagier.models.networks.encoder").Encoder()


HALF = {"mean": (128 / 255,) * 3, "std": (128 / 255,) * 3}
"""pixels - 128, over 128, as the weights that the encoder began with saw them."""


def encoder_input(size: tuple[int, int] | None) -> dict[str, Any]:
    """Fields of a card's Input, for the encoder."""
    side = importlib.import_module("imagier.models.networks.encoder").SIDE
    return {"size": size or (side, side), **HALF, "interpolation": "area", "fit": "crop"}


def _encoder_fitted(architecture: str, name: str, state: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
    network = _encoder(architecture, name, None, size)
    networks.check(architecture, network.state_dict(), state)
    network.load_state_dict(state)
    return network


def _unet(architecture: str, _name: str, classes: int | None, _size: tuple[int, int] | None) -> Any:
    module = importlib.import_module("imagier.models.networks.unet")
    return module.UNet(classes or 1, module.DEPTHS[architecture])


def unet_input(architecture: str, size: tuple[int, int] | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a card's Input, for imagier's U-Net: any size, unless one is given."""
    multiple = 2 ** importlib.import_module("imagier.models.networks.unet").DEPTHS[architecture]
    return _either_size(architecture, multiple, size, told, dict(HALF))


# ---------------------------------------------------------------- classifiers


def _classifier(architecture: str, _name: str, classes: int | None, _size: tuple[int, int] | None) -> Any:
    return importlib.import_module("imagier.models.networks.encoder").Classifier(classes or 2)


def _cnn(architecture: str, _name: str, classes: int | None, _size: tuple[int, int] | None) -> Any:
    return importlib.import_module("imagier.models.networks.cnn").build(architecture, classes or 2)


def classifier_input(architecture: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """Fields of a card's Input, for imagier's own classifiers. Raises SettingError for a size that cannot be."""
    if architecture == "imagier:classifier":
        return encoder_input(size)
    side = importlib.import_module("imagier.models.networks.cnn").parse(architecture)[2]
    if size not in (None, (side, side)):
        raise SettingError(f"{architecture} takes images of {side} pixels a side: change the number after its @")
    return {"size": (side, side), **HALF, "interpolation": "area", "fit": "crop"}


def _headed(build: Callable[..., Any]) -> Callable[..., Any]:
    """Fits a network whose last layer is called head."""

    def fitted(architecture: str, name: str, state: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
        head = state.get("head.weight")
        network = build(architecture, name, None if head is None else len(head), size)
        networks.check(architecture, network.state_dict(), state)
        network.load_state_dict(state)
        return network

    return fitted


def _both(network: Any, image: Any) -> Any:
    """Logits, and what the last layer sees."""
    if hasattr(network, "features") and hasattr(network, "head") and not hasattr(network, "forward_head"):
        features = network.features(image)
        return network.head(features), features
    features, last = _pooled(network, image), network.get_classifier()
    if hasattr(last, "kernel_size"):  # a convolution of one pixel
        return last(features[:, :, None, None]).flatten(1), features
    return last(features), features


def gives_features(network: Any, side: tuple[int, int]) -> bool:
    """Whether what the last layer sees can be had of a classifier: whether it tells the same by it as by itself."""
    torch = needed("torch", "a network in torch")
    image = torch.linspace(-1, 1, 3 * side[0] * side[1]).view(1, 3, *side)
    was = network.training
    try:
        with torch.no_grad():
            network.eval()
            return bool(torch.allclose(_both(network, image)[0], network(image), atol=1e-4, rtol=1e-3))
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return False
    finally:
        network.train(was)


# ---------------------------------------------------------------- from images to images


def _own(architecture: str, _name: str, _classes: int | None, _size: tuple[int, int] | None) -> Any:
    return networks.build(architecture)


def _own_fitted(architecture: str, _name: str, state: Mapping[str, Any], _size: tuple[int, int] | None) -> Any:
    network = networks.build(architecture)
    network.load_state_dict(state)
    return network


def _forward(network: Any, given: Any) -> Any:
    return network(given)


def _images(network: Any, image: Any) -> Any:
    return network.encode_image(image)


def _texts(network: Any, tokens: Any) -> Any:
    return network.encode_text(tokens)


EMBEDDING = Port("image", ("embedding",), _pooled)
LOGITS = Port("image", ("logits",), _forward)
CLIP: Mapping[Role, Port] = {
    "network": replace(EMBEDDING, call=_images),
    "text": Port("tokens", ("text_embedding",), _texts),
}
CLEANER: Mapping[Task, Mapping[Role, Port]] = {"denoise": {"network": Port("pixels", ("image",), _forward)}}
LARGER: Mapping[Task, Mapping[Role, Port]] = {"upscale": {"network": Port("pixels", ("image",), _forward)}}
MAPS = Port("image", ("embedding", "map8", "map16"), _forward)
FAMILIES: dict[str, Family] = {
    "timm": Family(_timm, _timm_fitted, {"embed": {"network": EMBEDDING}, "classify": {"network": LOGITS}}),
    "open_clip": Family(_clip, _clip_fitted, {"embed": CLIP}),
    "smp": Family(_smp, _smp_fitted, {"segment": {"network": LOGITS}}),
    "edsr": Family(_own, _own_fitted, LARGER),
    "carn-m": Family(_own, _own_fitted, LARGER),
    "dncnn": Family(_own, _own_fitted, CLEANER),
    "runet": Family(_own, _own_fitted, CLEANER),
    "imagier:encoder": Family(_encoder, _encoder_fitted, {"embed": {"network": MAPS}}),
    "imagier:unet": Family(_unet, _headed(_unet), {"segment": {"network": LOGITS}}),
    "imagier:unet-small": Family(_unet, _headed(_unet), {"segment": {"network": LOGITS}}),
    "imagier:classifier": Family(_classifier, _headed(_classifier), {"classify": {"network": LOGITS}}),
    "cnn": Family(_cnn, _headed(_cnn), {"classify": {"network": LOGITS}}),
}
"""What stands before the colon -> how it is built."""
