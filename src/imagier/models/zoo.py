"""The zoo: models by name, where each lies on the hub, its licence, and the page where that was read.

A literal table. What stands in it was read on the page that `cite` names: a page of the hub, or the source of a package
that lists its own weights (timm 1.0.31 and open_clip 3.3.0, by file). A revision or sha256 that was read nowhere stays
empty and is shown as "unpinned": `models/hub.py` records both at the first pull and checks them from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagier.models.model import Task
from imagier.types import ModelError, nearest

PERMISSIVE = ("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "cc-by-4.0")
"""Licences, as the hub writes them, that ask for no more than a name. Any other is the user's own choice."""

TIMM, HUB = "timm:", "hf:"

WEIGHTS = {"weights": ("model.safetensors", "pytorch_model.bin")}
"""What timm 1.0.31 asks a repository for, in its order: timm/models/_hub.py."""
CLIP_WEIGHTS = {"weights": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")}
"""What open_clip 3.3.0 asks a repository for, in its order: open_clip/pretrained.py and constants.py."""
CLIP_NOTES = "Takes text too. LAION's cards call deployed use of its CLIP models, commercial or not, out of scope."

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = tuple(_COCO.split(","))
"""The 80 classes of COCO in their order: torchvision 0.29.2, torchvision/models/_meta.py, without its gaps."""

YOLOX: dict[str, Any] = {"form": "yolox", "labels": COCO}
YOLOV10: dict[str, Any] = {"form": "yolov10", "labels": COCO}
"""What the form says of the pixels is importing's to know; it is that of YOLOX's yolox/data/data_augment.py at 05b20c8
and of THU-MIG/yolov10's ultralytics/engine/predictor.py at 38bcce5."""
READY = {"network": ("onnx/model.onnx",), "config": ("config.json",), "preprocess": ("preprocessor_config.json",)}
"""How the hub's exporters lay out a ready network."""
RAW = {"mean": (0, 0, 0), "std": (1, 1, 1)}
RTDETR: dict[str, Any] = {"form": "detr", "size": 640, "fit": "squash", **RAW, "labels": COCO}
"""preprocessor_config.json of onnx-community/rtdetr_r101vd_coco_o365 and PekingU/rtdetr_r50vd_coco_o365; what the
repository that is pulled states in its own files goes before this."""


@dataclass(frozen=True)
class Entry:
    """A model that can be pulled by its name, or at least be imported under it."""

    name: str
    task: Task | None
    """None: a repository of the hub does not say; it is given to the pull."""
    architecture: str
    """As a card has it. "" for a repository of the hub: its files tell."""
    repo: str
    """"owner/name" on the hub; "" where none was read of."""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: WEIGHTS)
    """Role -> names in the repository, of which the first that is there. Roles: weights or network; config (its labels)
    and preprocess, which may lie beside a network."""
    revision: str = ""
    """The commit; "" is unpinned."""
    sha256s: Mapping[str, str] = field(default_factory=dict)
    """Name in the repository -> sha256; what is not in it is unpinned."""
    licence: str = "unknown"
    cite: str = ""
    """The page where repository and licence were read."""
    size: str = ""
    """Of the file that is fetched, as the page has it."""
    notes: str = ""
    how: Mapping[str, Any] = field(default_factory=dict)
    """What a ready network does not say of itself: options of `importing.import_model`."""

    @property
    def agpl(self) -> bool:
        """Whether it is the AGPL's, whose duties reach what is served over a network."""
        return self.licence.lower().startswith("agpl")

    @property
    def free(self) -> bool:
        """Whether its licence asks for no more than a name; another must be accepted before a download."""
        return self.licence.lower() in PERMISSIVE


_TABLE = (
    Entry(
        name="efficientnet-b0",
        task="embed",
        architecture="timm:efficientnet_b0.ra_in1k",
        repo="timm/efficientnet_b0.ra_in1k",
        licence="apache-2.0",
        cite="https://huggingface.co/timm/efficientnet_b0.ra_in1k/tree/main",
        size="21.4 MB",
    ),
    Entry(
        name="efficientnet-b1",
        task="embed",
        architecture="timm:efficientnet_b1.ft_in1k",
        repo="timm/efficientnet_b1.ft_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/efficientnet.py",
    ),
    Entry(
        name="efficientnet-b2",
        task="embed",
        architecture="timm:efficientnet_b2.ra_in1k",
        repo="timm/efficientnet_b2.ra_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/efficientnet.py",
    ),
    Entry(
        name="efficientnet-b3",
        task="embed",
        architecture="timm:efficientnet_b3.ra2_in1k",
        repo="timm/efficientnet_b3.ra2_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/efficientnet.py",
    ),
    Entry(
        name="efficientnet-b4",
        task="embed",
        architecture="timm:efficientnet_b4.ra2_in1k",
        repo="timm/efficientnet_b4.ra2_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/efficientnet.py",
    ),
    Entry(
        name="vgg16",
        task="embed",
        architecture="timm:vgg16.tv_in1k",
        repo="timm/vgg16.tv_in1k",
        revision="3394518cba29aee1ea82a49d971be90d2dd1dab7",
        licence="bsd-3-clause",
        cite="https://huggingface.co/timm/vgg16.tv_in1k/commit/3394518cba29aee1ea82a49d971be90d2dd1dab7",
    ),
    Entry(
        name="resnet50",
        task="embed",
        architecture="timm:resnet50.a1_in1k",
        repo="timm/resnet50.a1_in1k",
        revision="5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8",
        licence="apache-2.0",
        cite="https://huggingface.co/timm/resnet50.a1_in1k/tree/5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8",
        size="102 MB",
    ),
    Entry(
        name="vit-b-16",
        task="embed",
        architecture="timm:vit_base_patch16_224.augreg2_in21k_ft_in1k",
        repo="timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        revision="3feba41e737e1b28af8e1fd7dca8eed073385972",
        licence="apache-2.0",
        cite="https://huggingface.co/timm/vit_base_patch16_224.augreg2_in21k_ft_in1k/tree/"
        "3feba41e737e1b28af8e1fd7dca8eed073385972",
        size="346 MB",
    ),
    Entry(
        name="vit-s-16",
        task="embed",
        architecture="timm:vit_small_patch16_224.augreg_in21k_ft_in1k",
        repo="timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/vision_transformer.py",
    ),
    Entry(
        name="mobilenetv3-large",
        task="embed",
        architecture="timm:mobilenetv3_large_100.ra_in1k",
        repo="timm/mobilenetv3_large_100.ra_in1k",
        revision="6bb94b5210be33364f802aa99ef7109990a86c5f",
        licence="apache-2.0",
        cite="https://huggingface.co/timm/mobilenetv3_large_100.ra_in1k/tree/6bb94b5210be33364f802aa99ef7109990a86c5f",
        size="22.1 MB",
    ),
    Entry(
        name="mobilenetv3-small",
        task="embed",
        architecture="timm:mobilenetv3_small_100.lamb_in1k",
        repo="timm/mobilenetv3_small_100.lamb_in1k",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/mobilenetv3.py",
    ),
    Entry(
        name="dinov2-s",
        task="embed",
        architecture="timm:vit_small_patch14_dinov2.lvd142m",
        repo="timm/vit_small_patch14_dinov2.lvd142m",
        licence="apache-2.0",
        cite="timm 1.0.31, timm/models/vision_transformer.py",
        notes="Sees images at 518 x 518 pixels, as it was trained: slow on a CPU.",
    ),
    Entry(
        name="clip-vit-b-32",
        task="embed",
        architecture="open_clip:ViT-B-32",
        repo="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        files=CLIP_WEIGHTS,
        licence="mit",
        cite="https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/commits/main/open_clip_config.json; "
        "open_clip 3.3.0, open_clip/pretrained.py (ViT-B-32, laion2b_s34b_b79k)",
        notes=CLIP_NOTES,
    ),
    Entry(
        name="clip-vit-b-16",
        task="embed",
        architecture="open_clip:ViT-B-16",
        repo="laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        files=CLIP_WEIGHTS,
        revision="7288da5a0d6f0b51c4a2b27c624837a9236d0112",
        licence="mit",
        cite="https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K/blob/"
        "7288da5a0d6f0b51c4a2b27c624837a9236d0112/tokenizer.json; open_clip 3.3.0, open_clip/pretrained.py (ViT-B-16, "
        "laion2b_s34b_b88k)",
        notes=CLIP_NOTES,
    ),
    Entry(
        name="edsr-x2",
        task="upscale",
        architecture="edsr:16x64-plain@2",
        repo="eugenesiow/edsr-base",
        files={"weights": ("pytorch_model_2x.pt",)},
        revision="d44aba7ce88abb2caae927dff98a40b749ba5a71",
        sha256s={"pytorch_model_2x.pt": "b709bea0d3e3a7a1c84eb1eaa6e5e777f176edcfca00b3b5acde5320eb630211"},
        licence="apache-2.0",
        cite="https://huggingface.co/eugenesiow/edsr-base/tree/d44aba7ce88abb2caae927dff98a40b749ba5a71; the sha256: "
        "https://huggingface.co/eugenesiow/edsr-base/blob/d44aba7ce88abb2caae927dff98a40b749ba5a71/pytorch_model_2x.pt",
        size="5.51 MB",
        notes="The baseline EDSR, as the package super-image runs it.",
    ),
    Entry(
        name="edsr-x3",
        task="upscale",
        architecture="edsr:16x64-plain@3",
        repo="eugenesiow/edsr-base",
        files={"weights": ("pytorch_model_3x.pt",)},
        revision="d622f68a86f11af7c1c6add1a8fa3790a1173d97",
        sha256s={"pytorch_model_3x.pt": "27a09b477d3b9531e2a0e6747a103a8c619c0daac9f4ee704828e335bdb034cd"},
        licence="apache-2.0",
        cite="https://huggingface.co/eugenesiow/edsr-base/tree/main; the sha256: "
        "https://huggingface.co/eugenesiow/edsr-base/blob/d622f68a86f11af7c1c6add1a8fa3790a1173d97/pytorch_model_3x.pt",
        size="6.25 MB",
        notes="The baseline EDSR, as the package super-image runs it.",
    ),
    Entry(
        name="edsr-x4",
        task="upscale",
        architecture="edsr:16x64-plain@4",
        repo="eugenesiow/edsr-base",
        files={"weights": ("pytorch_model_4x.pt",)},
        revision="d44aba7ce88abb2caae927dff98a40b749ba5a71",
        sha256s={"pytorch_model_4x.pt": "9302a679cf3e656a8aefd4ae7cfae4dd86ca60b2e1c50fbe9e06dde9767d32ad"},
        licence="apache-2.0",
        cite="https://huggingface.co/eugenesiow/edsr-base/tree/d44aba7ce88abb2caae927dff98a40b749ba5a71; the sha256: "
        "https://huggingface.co/eugenesiow/edsr-base/blob/main/pytorch_model_4x.pt",
        size="6.1 MB",
        notes="The baseline EDSR, as the package super-image runs it.",
    ),
    Entry(
        name="yolov10n",
        task="detect",
        architecture="onnx",
        repo="onnx-community/YOLOv10",
        files={"network": ("yolov10n.onnx",)},
        revision="c03e02456387191807059ef0ebe2c56315ddff55",
        sha256s={"yolov10n.onnx": "a77dd863933f184a19e84361c64b788228a7c7dacc2c78939239a96ad3efca3b"},
        licence="agpl-3.0",
        cite="https://huggingface.co/onnx-community/YOLOv10/blob/c03e02456387191807059ef0ebe2c56315ddff55/yolov10n.onnx",
        size="9.39 MB",
        how=YOLOV10,
    ),
    Entry(
        name="yolov10s",
        task="detect",
        architecture="onnx",
        repo="onnx-community/YOLOv10",
        files={"network": ("yolov10s.onnx",)},
        revision="305deee9272dc7082fbc36e9f424a38d6ef23b8e",
        sha256s={"yolov10s.onnx": "e2df1b4f5190e1ab4b7305181b2a80eb84ed7cc36d11aee0318781e91b0ad0b8"},
        licence="agpl-3.0",
        cite="https://huggingface.co/onnx-community/YOLOv10/blob/305deee9272dc7082fbc36e9f424a38d6ef23b8e/yolov10s.onnx",
        size="29.2 MB",
        how=YOLOV10,
    ),
    Entry(
        name="yolox-nano",
        task="detect",
        architecture="onnx",
        repo="Heliosoph/yolox-onnx",
        files={"network": ("yolox_nano.onnx",)},
        licence="apache-2.0",
        cite="https://huggingface.co/Heliosoph/yolox-onnx",
        size="3.5 MB",
        notes="A copy; the authors' own is no repository of the hub, but this file, to be fetched and imported: "
        "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.onnx",
        how=YOLOX,
    ),
    Entry(
        name="yolox-s",
        task="detect",
        architecture="onnx",
        repo="Heliosoph/yolox-onnx",
        files={"network": ("yolox_s.onnx",)},
        licence="apache-2.0",
        cite="https://huggingface.co/Heliosoph/yolox-onnx",
        size="35 MB",
        notes="A copy; the authors' own is no repository of the hub, but this file, to be fetched and imported: "
        "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_s.onnx",
        how=YOLOX,
    ),
    Entry(
        name="rtdetr",
        task="detect",
        architecture="onnx",
        repo="onnx-community/rtdetr_r50vd",
        files=READY,
        revision="201838983b0bc05071bccdaa47aba49c2145487d",
        licence="apache-2.0",
        cite="https://huggingface.co/onnx-community/rtdetr_r50vd/tree/201838983b0bc05071bccdaa47aba49c2145487d/onnx; "
        "the licence: https://huggingface.co/PekingU/rtdetr_r50vd/tree/main, of which it is the export",
        size="175 MB",
        notes="RT-DETR with a ResNet50-vd.",
        how=RTDETR,
    ),
)

ZOO: dict[str, Entry] = {each.name: each for each in _TABLE}
"""Name -> entry."""


def known(name: str) -> bool:
    """Whether a name is one of the zoo's, or of a kind that gives an entry: "timm:...", "hf:..."."""
    return name in ZOO or name.startswith((TIMM, HUB))


def entry(name: str) -> Entry:
    """The entry of a name: one of the table, "timm:NAME", "hf:OWNER/REPO" or "hf:OWNER/REPO/FILE".

    Raises ModelError for a name that is none, and for a "timm:" name where timm is not installed.
    """
    if name.startswith(TIMM):
        return _of_timm(name)
    if name.startswith(HUB):
        return _of_hub(name)
    if name not in ZOO:
        raise ModelError(nearest("model", name, ZOO) + " timm:NAME and hf:OWNER/REPO work as well.")
    return ZOO[name]


def _of_timm(name: str) -> Entry:
    """By timm's own list of its weights: repository and licence are what it says of them."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModelError(f"{name} needs timm, whose list says where it lies: pip install 'imagier[train]'") from error
    wanted = name.removeprefix(TIMM)
    architecture, _, tag = wanted.partition(".")
    if not timm.is_model(architecture):
        raise ModelError(nearest("timm architecture", architecture, timm.list_models()))
    tags = [each.partition(".")[2] for each in timm.list_pretrained(architecture + ".*")]
    if tag and tag not in tags:
        raise ModelError(
            f"{name}: " + nearest("tag", tag, tags) if tags else f"timm knows no weights of {architecture}"
        )
    config = timm.get_pretrained_cfg(wanted)
    if config is None or not config.hf_hub_id:
        raise ModelError(f"timm names no weights on the hub for {name}")
    full = f"{architecture}.{config.tag}" if config.tag else architecture
    module = timm.model_entrypoint(architecture).__module__.replace(".", "/")
    return Entry(
        name=name,
        task="embed",
        architecture=TIMM + full,
        repo=config.hf_hub_id,
        files={"weights": (config.hf_hub_filename,)} if config.hf_hub_filename else WEIGHTS,
        licence=config.license or "unknown",
        cite=f"timm {timm.__version__}, {module}.py",
    )


def _of_hub(name: str) -> Entry:
    """A repository of the hub: what it is, its files say when it is pulled."""
    owner, _, rest = name.removeprefix(HUB).partition("/")
    repo, _, file = rest.partition("/")
    if not owner or not repo:
        raise ModelError(
            f"{name!r} names no repository: write hf:OWNER/REPO, or hf:OWNER/REPO/FILE for one of its files"
        )
    files = {("network" if file.endswith((".onnx", ".tflite")) else "weights"): (file,)} if file else {}
    return Entry(name=name, task=None, architecture="", repo=f"{owner}/{repo}", files=files)
