"""Train a model by a config, and write its Model folder. The work folder keeps what a killed training goes on from."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from imagier import _progress
from imagier.collection import write_whole
from imagier.models.model import CARD
from imagier.types import Image, ModelError, SettingError

if TYPE_CHECKING:
    import numpy as np

    from imagier.models.model import Input, Model, Task
    from imagier.training.config import Config, Head, Network, Parted, Restorer
    from imagier.training.labelled import Labelled
    from imagier.training.pairs import Way
    from imagier.training.samples import Sample
    from imagier.training.splits import Split
    from imagier.training.truth import Truth

    C = TypeVar("C", bound=Config)

PARTS_FILE, CONFIG_FILE, LABELS_FILE = "split.json", "config.yaml", "labels.json"


@dataclass(frozen=True)
class Masks:
    """Where the truth of images is: one of these alone."""

    masks: Mapping[str, Path] | None = None
    """Folders of masks by class."""
    label_images: Path | None = None
    coco: Path | None = None
    labelme: Path | None = None
    cvat: Path | None = None

    def truth(self, pictures: Sequence[Path], root: Path) -> Truth:
        """For these images. Raises SettingError."""
        from imagier.training import truth

        ways: list[tuple[str, Any, Callable[..., Truth]]] = [
            ("--masks", self.masks, truth.folders),
            ("--label-images", self.label_images, truth.labels),
            ("--coco", self.coco, truth.coco),
            ("--labelme", self.labelme, truth.labelme),
            ("--cvat", self.cvat, truth.cvat),
        ]
        given = [(source, way) for _, source, way in ways if source]
        if len(given) != 1:
            raise SettingError(f"give one of {', '.join(name for name, *_ in ways)}: that is where masks come from")
        ((source, way),) = given
        return way(pictures, root, source)


def pictures(folder: Path) -> tuple[Path, list[Path]]:
    """A folder, absolute, and its images, sorted.

    Raises SourceError where it is not there, SettingError where it is no folder or holds none.
    """
    from imagier.sources import check, scan

    root = Path(check(folder))
    found = [Path(each.path) for each in scan([root]).files] if root.is_dir() else []
    if not found:
        raise SettingError(f"{folder} is no folder that holds images")
    return root, found


def segmenter(
    *,
    images: Path | None = None,
    masks: Masks | None = None,
    collection: Path | None = None,
    into: Path,
    config: str | None = None,
    settings: Mapping[str, Any] | None = None,
    groups: str | None = None,
    unmasked: bool = False,
    split: Path | None = None,
    work: Path | None = None,
    over: bool = False,
    progress: bool = True,
) -> Model:
    """Train a segmenter, or go on with it.

    images: a folder, walked whole. unmasked: images without a mask are empty of it; else they are an error.
    collection: in place of both, the items of one that have a mask which a person corrected.
    groups: TABLE.csv:COLUMN, images of one value never come to two sides of the split.
    split: a split.json to use, for which neither groups nor the config's split may be given; else one is made.
    work: where checkpoints and logs are; INTO.training unless given. over: a Model folder that is there is replaced.
    Raises SettingError for a config, truth or split that does not fit, before training starts.
    """
    from imagier.training import config as configs
    from imagier.training.pairs import noise_of
    from imagier.workflows import _corrected

    told, ratios = _told(configs.Segmenter, config, settings, groups, split)
    if told.noise is not None:
        noise_of(told.noise)
    _free(into, over)
    work = work or into.with_name(f"{into.name}.training")
    items = None
    if collection is not None:
        if images is not None or masks is not None or unmasked:
            raise SettingError("a collection has images and masks of its own: leave out --images, --masks, --unmasked")
        items = _corrected.read(collection)
        found, truth = items.truth(work / ITEMS_FOLDER)
        groups_of: list[str] | None = _of_files(groups, items.paths, items.files)
    elif images is None or masks is None:
        raise SettingError("say where images are: --images and their masks, or --collection with masks of people")
    else:
        root, found = pictures(images)
        truth = masks.truth(found, root)
        groups_of = _groups(groups, root, found)
    if told.cores and not truth.instances:
        raise SettingError("cores: the masks do not tell objects apart; label images, COCO, labelme and CVAT do")
    _there("segmentation_models_pytorch")
    from imagier.training.segmenter import SegmenterPlan, begun, train

    network, spec = begun(told, truth.classes)
    truth = covering(found, truth, unmasked)

    def check(path: Path, image: Image) -> tuple[float, ...]:
        inside = truth.draw[path](*image.shape[:2]).inside
        return tuple(float(share) for share in inside.mean((0, 1)))

    if items is not None:
        items.draw(found, progress)
    samples = _read(found, check, progress)
    _not_empty(samples, truth)
    parted = _parted(samples, _joined(samples, groups_of), ratios, told.seed, split)
    _taken_up(work, told, parted, None if items is None else items.told)
    return train(SegmenterPlan(told, network, spec, samples, parted, into, work, truth), progress)


def denoiser(
    *,
    images: Path,
    noisy: Path | None = None,
    into: Path,
    config: str | None = None,
    settings: Mapping[str, Any] | None = None,
    groups: str | None = None,
    split: Path | None = None,
    work: Path | None = None,
    over: bool = False,
    progress: bool = True,
) -> Model:
    """Train a denoiser, or go on with it: on clean images, to which noise is added, or on pairs.

    images: the clean ones. noisy: a folder of noisy ones that are called as those are, of the same size.
    All else is as of `segmenter`.
    """
    from imagier.training import config as configs
    from imagier.training.pairs import Way, noise_of

    told, ratios = _told(configs.Denoiser, config, settings, groups, split)
    if noisy is not None:
        if given := {"noise", "sigma"} & set(settings or {}):
            raise SettingError(
                f"{given.pop()} cannot be set with pairs, whose noise is their own: leave it out, or --noisy"
            )
        told = msgspec.structs.replace(told, noise=None, sigma=None)  # a config's are for clean images
    added = noise_of(told.noise or NOISE) if noisy is None else None
    if told.sigma is not None and (added is None or added.kind != "gaussian"):
        raise SettingError("sigma goes with noise: gaussian, whose deviation is known: leave it out")
    _free(into, over)
    root, found = pictures(images)
    way = Way(noise=added, sigma=told.sigma, noisy=None if noisy is None else pairs(found, root, noisy))
    return _restorer("denoise", told, ratios, way, found, _groups(groups, root, found), into, split, work, progress)


def upscaler(
    *,
    images: Path,
    into: Path,
    config: str | None = None,
    settings: Mapping[str, Any] | None = None,
    groups: str | None = None,
    split: Path | None = None,
    work: Path | None = None,
    over: bool = False,
    progress: bool = True,
) -> Model:
    """Train an upscaler, or go on with it: on images and their bicubic reductions. All else is as of `segmenter`."""
    from imagier.training import config as configs
    from imagier.training.pairs import Way

    told, ratios = _told(configs.Upscaler, config, settings, groups, split)
    _free(into, over)
    root, found = pictures(images)
    return _restorer("upscale", told, ratios, Way(), found, _groups(groups, root, found), into, split, work, progress)


@dataclass(frozen=True)
class Labels:
    """Where the labels of images are: one of these alone."""

    data: Path | None = None
    """A folder a class."""
    labels: str | None = None
    """TABLE.csv:COLUMN, of `images`."""
    biofors: Path | None = None
    """classification.json beside images/."""
    images: Path | None = None
    collection: Path | None = None
    """With `labels` a column of it, or of a table."""

    def read(self) -> tuple[Path, Labelled]:
        """The folder that images are told by, and the images. Raises SettingError, SourceError."""
        from imagier.training import labelled

        self.check()
        if self.biofors is not None:
            return (self.biofors / "images").absolute(), labelled.biofors(self.biofors.absolute())
        root, found = pictures(self.data or self.images or Path())
        return root, labelled.tree(found, root) if self.labels is None else labelled.table(found, root, self.labels)

    def check(self) -> None:
        """Raises SettingError unless one source alone is named."""
        given = [name for name in ("data", "labels", "biofors") if getattr(self, name) is not None]
        of_labels = (self.images is not None) + (self.collection is not None)
        if len(given) != 1 or of_labels != (self.labels is not None):
            raise SettingError(
                "say where labels come from: --data with a folder a class; or --images and --labels TABLE.csv:COLUMN; "
                "or --biofors with BioFors's folder; or --collection and --labels COLUMN"
            )


ITEMS_FOLDER = "items"
"""In a work folder: the pixels of a collection's items that a network learns from."""
LEAST = 4
"""Images of a class, below which none can be learnt from, choose and judge."""


def classifier(
    *,
    labels: Labels,
    into: Path,
    config: str | None = None,
    settings: Mapping[str, Any] | None = None,
    groups: str | None = None,
    about: str | None = None,
    split: Path | None = None,
    work: Path | None = None,
    over: bool = False,
    progress: bool = True,
) -> Model:
    """Train a classifier; the way that takes epochs goes on where it was left.

    about: a labels.yaml, or one that ships, with what there is to say of each class (models/about.py).
    groups: as of `segmenter`; BioFors's are its documents, unless told. All else is as of `segmenter`.
    """
    from imagier.models import about as texts
    from imagier.training import config as configs

    told = configs.read_classifier(config, settings or {})
    ratios = _ratios(told, settings, groups, split)
    _free(into, over)
    if isinstance(told, configs.Head):
        if work is not None:
            raise SettingError("a head is made in one go, and leaves nothing to go on from: leave out --work")
    else:
        _there()
    labels.check()
    if labels.collection is not None:
        return _of_items(labels, told, ratios, groups, about, split, into, work, progress)
    if isinstance(told, configs.Head) and told.columns:
        raise SettingError("columns are those of a collection's items: give --collection and --labels COLUMN")
    root, truth = labels.read()
    enough(truth.labels)
    said = None if about is None else texts.read(about, truth.classes)[1]
    groups_of = _groups(groups, root, truth.paths)
    if groups is None and truth.groups is not None and split is None:
        groups_of = list(truth.groups)
    place = {path: truth.classes.index(label) for path, label in zip(truth.paths, truth.labels, strict=True)}
    count = len(truth.classes)

    def check(path: Path, _: Image) -> tuple[float, ...]:
        return tuple(float(at == place[path]) for at in range(count))

    if isinstance(told, configs.Head):
        encoder = _encoder(told.model)
    else:
        from imagier.training.classifier import begun

        begin = begun(told, count)
    samples = _alike(_read(truth.paths, check, progress), truth.classes)
    joined = _joined(samples, groups_of)
    parted = _parted(samples, joined, ratios, told.seed, split)
    _in_each(samples, parted, truth.classes)
    if isinstance(told, configs.Head):
        from imagier.training.head import HeadPlan
        from imagier.training.head import train as fit

        with _progress.bar(len(samples), progress, what="embedding") as bar:
            return fit(HeadPlan(told, encoder, samples, parted, joined, into, truth.classes, about=said), bar.update)
    return _network(told, begin, samples, parted, into, work, truth.classes, said, progress)


def _network(
    told: Network,
    begun: tuple[Any, Input],
    samples: Sequence[Sample],
    parted: Split,
    into: Path,
    work: Path | None,
    classes: tuple[str, ...],
    about: bytes | None,
    progress: bool,
    drawn: Callable[[Path], Sequence[Sample]] | None = None,
) -> Model:
    """A network that classifies, learnt or gone on with. drawn: makes the samples' files, where there are none yet."""
    from imagier.training.classifier import ClassifierPlan, train

    work = work or into.with_name(f"{into.name}.training")
    named = {each.sha256: classes[each.shares.index(1.0)] for each in samples}
    _taken_up(work, told, parted, named)
    if drawn is not None:
        samples = drawn(work / ITEMS_FOLDER)
    return train(ClassifierPlan(told, *begun, samples, parted, into, work, classes, about), progress)


def _of_items(
    labels: Labels,
    told: Head | Network,
    ratios: tuple[float, float, float],
    groups: str | None,
    about: str | None,
    split: Path | None,
    into: Path,
    work: Path | None,
    progress: bool,
) -> Model:
    """A head on the embedding that a collection's items have already, and on what was measured of them; or a network
    on their pixels, as the collection's steps hand them on."""
    from imagier.models import about as texts
    from imagier.models.classifying import network_sha
    from imagier.training import config as configs
    from imagier.training.head import HeadPlan
    from imagier.training.head import train as fit
    from imagier.workflows import _items

    assert labels.collection is not None
    assert labels.labels is not None
    folder = labels.collection
    if isinstance(told, configs.Head):
        if told.views != "none":
            raise SettingError("views: the items of a collection have one embedding each; leave it out, or give --data")
        encoder = _encoder(told.model)
        items = _items.read(folder, labels.labels, network_sha(encoder), told.columns)
    else:
        items = _items.read(folder, labels.labels, None)
    names = [items.classes[each.shares.index(1.0)] for each in items.samples]
    enough(names)
    said = None if about is None else texts.read(about, items.classes)[1]
    joined = _joined(items.samples, _of_files(groups, [each.path for each in items.samples], items.files))
    parted = _parted(items.samples, joined, ratios, told.seed, split)
    _in_each(items.samples, parted, items.classes)
    if isinstance(told, configs.Head):
        plan = HeadPlan(
            told, encoder, items.samples, parted, joined, into, items.classes, items.vectors, told.columns, said
        )
        return fit(plan, lambda _: None)
    from imagier.training.classifier import begun

    begin = begun(told, len(items.classes))

    def drawn(place: Path) -> list[Sample]:
        return _items.drawn(folder, items.samples, place, progress)

    return _network(told, begin, items.samples, parted, into, work, items.classes, said, progress, drawn)


def _encoder(named: str, setting: str = "model", who: str = "a head") -> Model:
    """An embedding's model that is found again by its name and hash alone, as a head's card has them."""
    from imagier.models.classifying import encoder_by, network_sha
    from imagier.models.store import find

    encoder = find(named, "embed")
    try:
        return encoder_by(encoder.card.name, network_sha(encoder), who)
    except ModelError as error:
        raise SettingError(
            f"{setting} cannot be {named}: {who} finds its encoder by name. Bring it in under one: imagier models "
            f"import {named} --as NAME"
        ) from error


def enough(names: Sequence[str]) -> None:
    """Raises SettingError for a class of too few. names: of each image's class."""
    from imagier.training.labelled import rare

    if few := rare(names, LEAST):
        raise SettingError(
            f"the class {few[0]!r} has {few[1]} images: {LEAST} or more are needed, to learn from, to choose by and to "
            "judge. Label more, or take its labels back"
        )


def _alike(samples: list[Sample], classes: Sequence[str]) -> list[Sample]:
    """Raises SettingError where the same content has two labels: it would be learnt from as both."""
    seen: dict[str, Sample] = {}
    for each in samples:
        other = seen.setdefault(each.sha256, each)
        if other.shares != each.shares:
            names = [classes[one.shares.index(1.0)] for one in (other, each)]
            raise SettingError(
                f"{other.path} and {each.path} are the same image, labelled {names[0]!r} and {names[1]!r}: keep one"
            )
    return samples


def _in_each(samples: Sequence[Sample], parted: Split, classes: Sequence[str]) -> None:
    """Raises SettingError where the part that is learnt from, or the one that chooses, lacks a class."""
    parts = parted.of([each.sha256 for each in samples])
    for at, name in enumerate(classes):
        for part in ("train", "val"):
            if not any(each.shares[at] for each, of in zip(samples, parts, strict=True) if of == part):
                raise SettingError(
                    f"the split leaves no image of the class {name!r} for {part}: its images are too few, or of "
                    "too few groups"
                )


MIXED = 0.1
"""Share of a folder that may be bad, where it was not said which are good."""


def inspector(
    *,
    into: Path,
    good: Path | None = None,
    unlabelled: Path | None = None,
    bad: Path | None = None,
    config: str | None = None,
    settings: Mapping[str, Any] | None = None,
    over: bool = False,
    progress: bool = True,
) -> Model:
    """Learn what good parts look like: from `good` ones, or from `unlabelled` ones, of which a share may be bad.

    bad: images that are known to be bad, from which nothing is learnt but what a score means as a probability.
    config, settings, over: as of `segmenter`. Raises SettingError, SourceError, ModelError.
    """
    from imagier.algorithms.anomaly import METHODS
    from imagier.models.inspecting import part_of
    from imagier.training import config as configs
    from imagier.training.inspector import InspectorPlan, train

    if (good is None) == (unlabelled is None):
        raise SettingError("give a folder of good images by --good, or a mixed one by --unlabelled")
    told = configs.read(config, configs.Inspector, settings or {})
    if told.bad is None:
        told = msgspec.structs.replace(told, bad=0.0 if unlabelled is None else MIXED)
    _free(into, over)
    encoder = _encoder(told.encoder, "encoder", "an inspector")
    whole = METHODS[told.method].whole
    if not whole and (missing := [name for name in told.maps if name not in encoder.card.outputs]):
        raise SettingError(
            f"encoder cannot be {told.encoder}: it gives {', '.join(encoder.card.outputs)}, and no {missing[0]}; "
            "knn does without (--config knn)"
        )
    _, found = pictures(good or unlabelled or Path())
    others = [] if bad is None else pictures(bad)[1]
    shapes: set[tuple[int, int]] = set()

    def check(path: Path, image: Image) -> tuple[float, ...]:
        if told.turned:
            part_of(image)
        shapes.add(image.shape[:2])
        return ()

    samples = _read(found, check, progress)
    _read(others, check, progress and bool(others))
    if told.method == "padim" and not told.turned and len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        raise SettingError(
            f"padim compares places, and images are of {len(shapes)} sizes, such as {one[1]} x {one[0]} and "
            f"{other[1]} x {other[0]}: bring them to one, lay parts upright (--set turned=true), or take --config "
            "patchcore"
        )
    if known := {each.sha256 for each in samples} & _hashes(others):
        both = next(each.path for each in samples if each.sha256 in known)
        raise SettingError(f"{both} is among the bad ones too: keep it in one of the two")
    with _progress.bar(None, progress, what="learning") as bar:
        return train(InspectorPlan(told, encoder, samples, _joined(samples, None), others, into), bar.update)


def _hashes(paths: Sequence[Path]) -> set[str]:
    from imagier.images import content_hash

    return {content_hash(path.read_bytes()) for path in paths}


ADVERSARIAL = 0.01
"""The critic's weight that `--adversarial` stands for: the plain difference counts a hundred times as much (Isola et
al. 2017)."""
NOISE = "gaussian:0-50"
"""Of a denoiser whose config names none."""


def _told(
    kind: type[C], config: str | None, settings: Mapping[str, Any] | None, groups: str | None, split: Path | None
) -> tuple[C, tuple[float, float, float]]:
    """The config, and the shares of its split. Raises SettingError."""
    from imagier.training import config as configs

    told = configs.read(config, kind, settings or {})
    return told, _ratios(told, settings, groups, split)


def _ratios(
    told: Parted, settings: Mapping[str, Any] | None, groups: str | None, split: Path | None
) -> tuple[float, float, float]:
    """The shares of the split. Raises SettingError."""
    from imagier.training.splits import parse_ratios

    if split is not None and (groups is not None or "split" in (settings or {})):
        raise SettingError("a split that is given says it all: leave out --groups and --set split, or --split")
    return parse_ratios(told.split)


def _restorer(
    task: Task,
    told: Restorer,
    ratios: tuple[float, float, float],
    way: Way,
    found: Sequence[Path],
    groups_of: list[str] | None,
    into: Path,
    split: Path | None,
    work: Path | None,
    progress: bool,
) -> Model:
    """way: without the colours and the factor, which the network decides."""
    _there()
    from imagier.training.restoring import RestorerPlan, begun, train

    network, spec, factor = begun(told, task)
    way = replace(way, colour=spec.colour, factor=factor)

    def check(path: Path, _: Image) -> tuple[float, ...]:
        if way.noisy is not None or factor > 1:
            way.whole(path)
        return ()

    samples = _read(found, check, progress)
    work = work or into.with_name(f"{into.name}.training")
    parted = _parted(samples, _joined(samples, groups_of), ratios, told.seed, split)
    _taken_up(work, told, parted)
    return train(RestorerPlan(told, network, spec, samples, parted, into, work, way), task, progress)


def pairs(found: Sequence[Path], root: Path, folder: Path) -> dict[Path, Path]:
    """Of each clean image, the noisy one in a folder that is called as it is. Raises SettingError for what has none."""
    from imagier.training.truth import beside, by_name

    made = beside(found, root, by_name(folder))
    if missing := [path for path in found if path not in made]:
        raise SettingError(f"{folder} holds no image that is called as {missing[0]} is, nor as {len(missing) - 1} more")
    return made


def _there(*besides: str) -> None:
    """Raises SettingError unless all is installed that trains; it is imported later, which takes seconds."""
    for package in ("torch", "torchvision", "lightning", "tensorboard", "onnx", "onnxscript", *besides):
        if importlib.util.find_spec(package) is None:
            raise SettingError(f"training needs {package}: pip install 'imagier[train]'")


def _free(into: Path, over: bool) -> None:
    """Said now, and not after half an hour of training."""
    if into.exists() and not ((into / CARD).is_file() and over):
        what = "choose another name, or replace it (--replace)" if (into / CARD).is_file() else "it is no Model folder"
        raise ModelError(f"{into} is there already: {what}")
    parent = next(each for each in into.absolute().parents if each.exists())
    if not os.access(parent, os.W_OK):
        raise ModelError(f"{into} cannot be written: {parent} is not writable")


def covering(found: Sequence[Path], truth: Truth, unmasked: bool) -> Truth:
    """The truth of all images: those without a mask are empty where `unmasked` says so. Raises SettingError."""
    missing = [path for path in found if path not in truth.draw]
    if missing and not unmasked:
        raise SettingError(
            f"{len(missing)} of {len(found)} images have no mask, such as {missing[0]}. Give one for each; or, where "
            "nothing is to be found in those, say so: --unmasked"
        )
    if missing:
        import numpy as np

        from imagier.training.truth import Mask

        def empty(height: int, width: int) -> Mask:
            inside = np.zeros((height, width, len(truth.classes)), bool)
            return Mask(inside, inside.astype(np.int32) if truth.instances else None)

        truth = replace(truth, draw=dict.fromkeys(missing, empty) | dict(truth.draw))
    return truth


def _read(chosen: Sequence[Path], check: Callable[[Path, Image], tuple[float, ...]], progress: bool) -> list[Sample]:
    from imagier.training.samples import looked_at

    with _progress.bar(len(chosen), progress, what="reading") as bar:
        return looked_at(chosen, check, bar.update)


def _not_empty(samples: Sequence[Sample], truth: Truth) -> None:
    for at, name in enumerate(truth.classes):
        if not any(each.shares[at] for each in samples):
            raise SettingError(f"the class {name!r} is empty: no mask of {len(samples)} has a pixel of it")


def _groups(told: str | None, root: Path, paths: Sequence[Path]) -> list[str] | None:
    """The group of each image, by a column of a table. Raises SettingError."""
    from imagier.training.labelled import column

    return None if told is None else column(told, root, paths, "--groups")


def _of_files(told: str | None, paths: Sequence[Path], files: Sequence[str]) -> list[str]:
    """The group of each item, by a column of a table of the files, or else by the content of its file."""
    if told is None:
        return list(files)
    known = sorted(set(paths))
    groups = _groups(told, Path(os.path.commonpath([each.parent for each in known])), known)
    by_path = dict(zip(known, groups or (), strict=True))
    return [by_path[path] or f"file {file}" for path, file in zip(paths, files, strict=True)]


def _joined(samples: Sequence[Sample], groups: list[str] | None) -> np.ndarray:
    """Which images belong together: (n,) int."""
    import numpy as np

    from imagier.training.splits import together

    phash = np.array([each.phash for each in samples], np.uint64)
    return together([each.sha256 for each in samples], np.stack([each.small for each in samples]), phash, groups)


def _parted(
    samples: Sequence[Sample],
    joined: np.ndarray,
    ratios: tuple[float, float, float],
    seed: int,
    given: Path | None,
) -> Split:
    """The split that was given, or one that is made. Raises SettingError."""
    from imagier.training import splits

    if given is not None:
        parted = splits.read_split(given)
        if missing := [each for each in samples if each.sha256 not in parted.parts]:
            raise SettingError(f"{given} does not know {missing[0].path}, and {len(missing) - 1} more images")
        return parted
    hashes = [each.sha256 for each in samples]
    kinds = ["".join("1" if share else "0" for share in each.shares) for each in samples]
    return splits.split(hashes, joined, kinds, ratios, seed)


def _taken_up(work: Path, config: Any, parted: Split, labels: Mapping[str, str] | None = None) -> None:
    """Begin a work folder, or find it begun in the same way. labels: by content's hash. Raises SettingError."""
    begun = {CONFIG_FILE: msgspec.yaml.encode(config), PARTS_FILE: parted.encoded()}
    if labels is not None:
        begun[LABELS_FILE] = msgspec.json.encode(labels, order="sorted")
    for name, data in begun.items():
        path = work / name
        if path.is_file() and path.read_bytes() != data and (work / "last.ckpt").is_file():
            raise SettingError(
                f"{work} was begun with another {name}: train with the same settings and images to go on, name another "
                "--work, or take the folder away"
            )
        write_whole(path, data)
