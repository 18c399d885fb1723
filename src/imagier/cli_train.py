"""`imagier train`, `evaluate`, `segment`, `classify`, `import`: skins over workflows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagier.cli_errors import NONE_SUCCEEDED, SOME_FAILED, guarded

if TYPE_CHECKING:
    from imagier.models.segmenting import Cleaning
    from imagier.workflows.train import Masks

PATH = click.Path(path_type=Path)


IMAGES = click.option("--images", type=PATH, required=True, metavar="DIR", help="The images, walked whole.")


def masked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where masks are."""
    options = (
        click.option(
            "--masks",
            multiple=True,
            metavar="[CLASS=]DIR",
            help="Masks called as the images are; repeatable, a class each.",
        ),
        click.option("--label-images", type=PATH, metavar="DIR", help="Label images: a number an object, 0 none."),
        click.option("--coco", type=PATH, metavar="FILE", help="Polygons and run lengths of a COCO file."),
        click.option("--labelme", type=PATH, metavar="DIR", help="labelme's JSON files."),
        click.option("--cvat", type=PATH, metavar="FILE", help="CVAT's XML for images."),
        click.option("--unmasked", is_flag=True, help="In images without a mask there is nothing to find."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def labelled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where labels are."""
    options = (
        click.option("--data", type=PATH, metavar="DIR", help="Labels: a folder a class."),
        click.option("--labels", metavar="TABLE.csv:COLUMN", help="Or a table (CSV, Parquet) beside --images."),
        click.option(
            "--collection", type=PATH, metavar="OUT", help="Or items of a collection; --labels names its column."
        ),
        click.option("--biofors", type=PATH, metavar="DIR", help="Or BioFors's classification.json beside images/."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def rated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option that says where an inspector draws the line."""
    option = click.option(
        "--rate", type=float, default=0.05, show_default=True, metavar="SHARE",
        help="Of good parts that may be taken for bad.",
    )  # fmt: skip
    return option(function)


def confidences(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what a classifier says."""
    share = click.FloatRange(0, 1, min_open=True, max_open=True)
    options = (
        click.option(
            "--level", type=share, default=0.9, show_default=True, help="Sets hold the true class in this share."
        ),
        click.option(
            "--refused", type=share, default=0.05, show_default=True, help="Of known images, taken for unknown."
        ),
        click.option("--by-class", is_flag=True, help="Sets hold it in that share of each class."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def cleanings(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options from probabilities to masks."""
    options = (
        click.option("--threshold", type=float, default=0.5, show_default=True, help="Inside is what is likelier."),
        click.option("--fill", type=float, default=0.01, show_default=True, help="Holes to this share are closed."),
        click.option("--least", type=click.IntRange(0), default=0, show_default=True, help="Smallest object, pixels."),
        click.option("--apart", is_flag=True, help="Tell touching objects apart."),
        click.option("--flips", is_flag=True, help="The mean over mirror images: better, four times the work."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _masks(masks: tuple[str, ...], others: dict[str, Any]) -> Masks:
    from imagier.models.segmenting import OBJECT
    from imagier.types import SettingError
    from imagier.workflows.train import Masks

    named: dict[str, Path] = {}
    for each in masks:
        name, equals, folder = each.partition("=")
        if not equals:
            name, folder = OBJECT, each
        if name in named or not name:
            raise SettingError(f"--masks {each}: give each folder a class of its own, such as --masks lesion=DIR")
        named[name] = Path(folder)
    return Masks(masks=named or None, **others)


def _cleaning(threshold: float, fill: float, least: int, apart: bool) -> Cleaning:
    from imagier.models.segmenting import Cleaning

    return Cleaning(threshold, fill, least, apart)


@click.group()
def train() -> None:
    """Train a model of one's own."""


def runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every training has."""
    options = (
        click.option(
            "--config", metavar="NAME|FILE", help="Settings: a config that comes with imagier, or a YAML file."
        ),
        click.option("--set", "settings", multiple=True, metavar="SETTING=VALUE", help="Change a setting; repeatable."),
        click.option("--groups", metavar="TABLE.csv:COLUMN", help="Images of one value stay on one side of the split."),
        click.option("--split", metavar="A:B:C|FILE", help="Shares of train, val and test, or a split.json to use."),
        click.option("--into", type=PATH, required=True, metavar="MODEL", help="The Model folder to write."),
        click.option("--work", type=PATH, metavar="DIR", help="Checkpoints and logs [MODEL.training]."),
        click.option("--replace", "over", is_flag=True, help="Replace a Model folder that is there."),
        click.option("--quiet", is_flag=True, help="No progress, only the outcome."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _told(settings: tuple[str, ...], split: str | None) -> tuple[dict[str, Any], Path | None]:
    """Settings, and the file of a split: shares are a setting."""
    from imagier.training.config import parse_setting
    from imagier.types import SettingError

    told = dict(parse_setting(each) for each in settings)
    if split is None or not re.fullmatch(r"[\d.]+(:[\d.]+)+", split):
        return told, None if split is None else Path(split)
    if "split" in told:
        raise SettingError("the split is said twice, by --split and by --set split: leave out one")
    return told | {"split": split}, None


def _run(
    work_on: Callable[..., Any],
    settings: tuple[str, ...],
    split: str | None,
    quiet: bool,
    besides: dict[str, Any],
    **how: Any,
) -> None:
    """Train, and tell where things are. besides: settings that options stand for, unless --set tells them."""
    told, file = _told(settings, split)
    made = work_on(settings=besides | told, split=file, progress=not quiet, **how)
    click.echo(f"written: {made.folder}")
    click.echo(f"logs and curves: {how['work'] or made.folder.with_name(f'{made.folder.name}.training')}")


@train.command()
@click.option("--images", type=PATH, metavar="DIR", help="The images, walked whole.")
@masked
@click.option(
    "--collection", type=PATH, metavar="OUT", help="Or items of a collection, by the masks that people corrected."
)
@runs
@guarded
def segmenter(
    masks: tuple[str, ...],
    unmasked: bool,
    label_images: Path | None,
    coco: Path | None,
    labelme: Path | None,
    cvat: Path | None,
    settings: tuple[str, ...],
    split: str | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Train a network that tells which pixels are what, from images and their masks.

    Stopped at any time, the same command goes on from the last epoch.
    """
    from imagier.workflows.train import segmenter as work_on

    others = {"label_images": label_images, "coco": coco, "labelme": labelme, "cvat": cvat}
    told = _masks(masks, others) if how["collection"] is None or masks or any(others.values()) else None
    _run(work_on, settings, split, quiet, {}, masks=told, unmasked=unmasked, **how)


@train.command()
@click.option("--images", type=PATH, metavar="DIR", help="Clean images, walked whole; noise is added to them.")
@click.option("--noisy", type=PATH, metavar="DIR", help="Or pairs: noisy images,")
@click.option("--clean", type=PATH, metavar="DIR", help="and the clean ones, called as those are.")
@click.option("--adversarial", is_flag=True, help="With a critic: sharper, at a little less PSNR.")
@runs
@guarded
def denoiser(
    images: Path | None,
    noisy: Path | None,
    clean: Path | None,
    adversarial: bool,
    settings: tuple[str, ...],
    split: str | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Train a network that takes noise out of images.

    Stopped at any time, the same command goes on from the last epoch.
    """
    from imagier.types import SettingError
    from imagier.workflows.train import ADVERSARIAL
    from imagier.workflows.train import denoiser as work_on

    chosen = images or clean
    if chosen is None or (images is None) == (clean is None) or (clean is None) != (noisy is None):
        raise SettingError("give --images with clean images, or pairs: --noisy and --clean")
    besides = {"adversarial": ADVERSARIAL} if adversarial else {}
    _run(work_on, settings, split, quiet, besides, images=chosen, noisy=noisy, **how)


@train.command()
@IMAGES
@runs
@guarded
def upscaler(images: Path, settings: tuple[str, ...], split: str | None, quiet: bool, **how: Any) -> None:
    """Train a network that enlarges images, from images and their reductions.

    Stopped at any time, the same command goes on from the last epoch.
    """
    from imagier.workflows.train import upscaler as work_on

    _run(work_on, settings, split, quiet, {}, images=images, **how)


@train.command()
@click.option("--images", type=PATH, metavar="DIR", help="The images of --labels, walked whole.")
@labelled
@click.option("--about", metavar="NAME|FILE", help="What to say of each class: a labels.yaml, or one that ships.")
@runs
@guarded
def classifier(
    images: Path | None,
    data: Path | None,
    labels: str | None,
    biofors: Path | None,
    collection: Path | None,
    settings: tuple[str, ...],
    split: str | None,
    quiet: bool,
    work: Path | None,
    **how: Any,
) -> None:
    """Train a classifier: it says what an image is, how sure it is, and when it does not know.

    Without --config a head on the encoder that ships: seconds. --config finetune and --config scratch train networks;
    stopped at any time, the same command goes on from the last epoch.
    """
    from imagier.workflows.train import Labels
    from imagier.workflows.train import classifier as work_on

    told, file = _told(settings, split)
    where = Labels(data, labels, biofors, images, collection)
    made = work_on(labels=where, settings=told, split=file, work=work, progress=not quiet, **how)
    click.echo(f"written: {made.folder}")
    if made.card.head is None:
        click.echo(f"logs and curves: {work or made.folder.with_name(f'{made.folder.name}.training')}")


@click.command()
@click.argument("model")
@click.option("--images", type=PATH, metavar="DIR", help="The images, walked whole.")
@masked
@labelled
@click.option("--noise", metavar="KIND:LEVEL", help="Added to the images before, such as gaussian:25.")
@click.option(
    "--noisy", type=PATH, metavar="DIR", help="Or, for a denoiser, noisy images, called as the clean ones are."
)
@click.option("--estimate", is_flag=True, help="A denoiser is not told how much noise there is, as in a run.")
@click.option("--part", type=click.Choice(["train", "val", "test"]), help="Of the split in MODEL; if not given, all.")
@cleanings
@confidences
@click.option("--good", type=PATH, metavar="DIR", help="For an inspector: good parts,")
@click.option("--bad", type=PATH, metavar="DIR", help="and bad ones, or a folder a kind of them.")
@rated
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Write every measure there.")
@click.option("--page", type=PATH, metavar="FILE", help="Write a page with the pictures there.")
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
@guarded
@click.pass_context
def evaluate(context: click.Context, /, model: str, json_path: Path | None, quiet: bool, **given: Any) -> None:
    """Judge MODEL on images with their truth: masks for a segmenter, labels for a classifier, good and bad parts for an
    inspector, the clean images for a denoiser or an upscaler."""
    from imagier.models import store
    from imagier.types import SettingError
    from imagier.workflows import evaluate as work

    found = store.get(model)
    task = found.card.task
    if task not in JUDGED:
        raise SettingError(f"{model} is there to {task}; {', '.join(JUDGED)} are judged here")
    told = {name for name in given if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    if others := sorted(told - set(JUDGED[task])):
        raise SettingError(
            f"--{others[0].replace('_', '-')} does not go with a model that is there to {task}: leave it out"
        )
    how: dict[str, Any] = {name: given[name] for name in ("part", "page")} | {"progress": not quiet}
    if task not in ("classify", "inspect") and given["images"] is None:
        raise SettingError("--images must be given: the images that it is judged by")
    if task == "segment":
        how |= {name: given[name] for name in ("images", "flips", "noise", "unmasked")}
        sources = {name: given[name] for name in ("label_images", "coco", "labelme", "cvat")}
        cleaning = _cleaning(*(given[name] for name in ("threshold", "fill", "least", "apart")))
        made: work.Judgement = work.segmenter(found, masks=_masks(given["masks"], sources), how=cleaning, **how)
    elif task == "classify":
        from imagier.workflows.judge import classifier
        from imagier.workflows.train import Labels

        where = Labels(*(given[name] for name in ("data", "labels", "biofors", "images", "collection")))
        how |= {name: given[name] for name in ("level", "refused", "by_class")}
        made = classifier(found, labels=where, **how)
    elif task == "inspect":
        from imagier.workflows.judge_inspector import inspector as judge

        if given["good"] is None or given["bad"] is None or len(given["masks"]) > 1:
            raise SettingError("give --good and --bad, and, where there are masks of the bad ones, one --masks DIR")
        del how["part"]
        masks = next((Path(each) for each in given["masks"]), None)
        made = judge(found, good=given["good"], bad=given["bad"], masks=masks, rate=given["rate"], **how)
    else:
        how |= {name: given[name] for name in ("images", "flips", "noise", "noisy", "estimate")}
        made = work.restorer(found, **how)
    for line in made.lines():
        click.echo(line)
    if json_path is not None:
        work.save(made, json_path)
    written = [str(path) for path in (json_path, given["page"]) if path is not None]
    if written:
        click.echo("written: " + ", ".join(written))


RESTORED = ("images", "flips", "noise", "noisy", "estimate", "part", "page")
JUDGED = {
    "inspect": ("good", "bad", "masks", "rate", "page"),
    "segment": (
        "images", "masks", "label_images", "coco", "labelme", "cvat", "unmasked", "noise", "part", "threshold", "fill",
        "least", "apart", "flips", "page",
    ),
    "classify": ("images", "data", "labels", "biofors", "collection", "part", "level", "refused", "by_class", "page"),
    "denoise": RESTORED,
    "upscale": RESTORED,
}  # fmt: skip
"""Task -> the options that judging such a model takes."""


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--model", required=True, metavar="NAME|DIR", help="A classifier.")
@confidences
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Write it all there, with every probability.")
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
@guarded
def classify(
    sources: tuple[str, ...],
    model: str,
    level: float,
    refused: float,
    by_class: bool,
    json_path: Path | None,
    quiet: bool,
) -> int:
    """Tell what images are (files, folders, globs), how sure that is, and which are like nothing MODEL knows."""
    from imagier.workflows.classify import classify as work

    made = work(sources, model=model, level=level, refused=refused, by_class=by_class, progress=not quiet)
    for reason in made.failed:
        click.echo(f"imagier: {reason}", err=True)
    for line in made.lines():
        click.echo(line)
    if json_path is not None:
        made.save(json_path)
        click.echo(f"written: {json_path}")
    if made.failed:
        return SOME_FAILED if made.rows else NONE_SUCCEEDED
    return 0


@click.group(name="import")
def imports() -> None:
    """Bring labelled images from other layouts into a folder a class."""


@imports.command()
@click.argument("folder", type=PATH)
@click.option("--into", type=PATH, required=True, metavar="DIR", help="The folder to write, a folder a class.")
@guarded
def biofors(folder: Path, into: Path) -> None:
    """Copy BioFors's images (classification.json beside images/) into a folder a class."""
    from imagier.workflows.labels import TABLE, import_biofors

    images, classes = import_biofors(folder, into)
    click.echo(f"{images} images of {classes} classes: {into}")
    click.echo(f"their documents: --groups {into / TABLE}:document")


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--model", required=True, metavar="NAME|DIR", help="A segmenter.")
@click.option("--into", type=PATH, required=True, metavar="DIR", help="Where masks and overlays are written.")
@cleanings
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
@guarded
def segment(
    sources: tuple[str, ...],
    model: str,
    into: Path,
    threshold: float,
    fill: float,
    least: int,
    apart: bool,
    flips: bool,
    quiet: bool,
) -> int:
    """Write masks and overlays of images (files, folders, globs)."""
    from imagier.workflows.segment import segment as work

    made = work(
        sources,
        model=model,
        into=into,
        how=_cleaning(threshold, fill, least, apart),
        flips=flips,
        progress=not quiet,
    )
    for reason in made.failed:
        click.echo(f"imagier: {reason}", err=True)
    counts: dict[str, int] = {}
    for row in made.rows:
        for label, entry in row["classes"].items():
            counts[label] = counts.get(label, 0) + len(entry["objects"])
    told = ", ".join(f"{count} of {label}" for label, count in counts.items()) or "none"
    click.echo(f"{len(made.rows)} images, {len(made.failed)} failed; objects: {told}")
    click.echo(f"written: {into}")
    if made.failed:
        return SOME_FAILED if made.rows else NONE_SUCCEEDED
    return 0
