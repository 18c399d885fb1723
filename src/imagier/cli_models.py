"""`imagier models`: a skin over workflows/models.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from imagier.cli_errors import guarded

TASKS = click.Choice(["embed", "denoise", "upscale", "detect", "segment", "classify"])
COLUMNS = ("name", "task", "here", "precision", "licence", "pinned")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


class Numbers(click.ParamType):
    """One number for each channel: 0.485,0.456,0.406."""

    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[float, ...]:
        """ "0.5,0.5,0.5" -> (0.5, 0.5, 0.5); one number stays one."""
        try:
            return tuple(float(each) for each in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 0.485,0.456,0.406", param, context)


def how(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say of a network what its file does not."""
    options = (
        click.option("--arch", metavar="NAME", help="What weights are of: timm:vgg16, edsr:16x64@3, carn-m@3, ..."),
        click.option("--size", type=click.IntRange(1), help="Side of the square that the network takes."),
        click.option("--mean", type=Numbers(), help="Taken off each channel, on [0, 1]."),
        click.option("--std", type=Numbers(), help="What each channel is then divided by, on [0, 1]."),
        click.option("--colour", type=click.Choice(["rgb", "bgr", "grey"]), help="Order of the channels."),
        click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="Order of the axes."),
        click.option(
            "--fit", type=click.Choice(["crop", "squash", "pad", "none"]), help="How an image becomes a square."
        ),
        click.option("--resize", type=click.IntRange(1), help="Short side before the centre crop."),
        click.option("--interpolation", type=click.Choice(["bilinear", "bicubic", "lanczos"]), help="When resizing."),
        click.option("--output", metavar="NAME", help="Which output; for embedding, pooled: what precedes the head."),
        click.option(
            "--form", metavar="FORM", help="What the output means: vector, maps, cls, yolox, yolov10, detr, ..."
        ),
        click.option("--labels", type=click.Path(path_type=Path), help="A file with a class a line."),
        click.option("--scale", type=click.IntRange(2, 8), help="By how much an upscaler enlarges."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def models() -> None:
    """List, pull, import and carry models: encoders, upscalers, detectors.

    No other command downloads anything.
    """


@models.command(name="list")
@AS_JSON
@guarded
def list_(as_json: bool) -> None:
    """List the models that are known, and those that are here."""
    from imagier.workflows import models as work

    rows = work.listing()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = [COLUMNS, *(tuple(str(row[column] or "") for column in COLUMNS) for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(COLUMNS))]
    for cells in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    for row in rows:
        if "problem" in row:
            click.echo(f"imagier: {row['problem']}", err=True)


@models.command()
@click.argument("name")
@AS_JSON
@guarded
def show(name: str, as_json: bool) -> None:
    """Show all that is known of a model: NAME, or the path of a Model folder."""
    from imagier.workflows import models as work

    told = work.describe(name)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for key, value in told.items():
        _tell(key, value, "")


def _tell(key: str, value: Any, indent: str) -> None:
    if isinstance(value, dict):
        click.echo(f"{indent}{key}:")
        for inner, each in value.items():
            _tell(inner, each, indent + "  ")
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(str, value[:8])) + (f", ... ({len(value)})" if len(value) > 8 else "")
        click.echo(f"{indent}{key}: {shown}")
    else:
        click.echo(f"{indent}{key}: {value}")


@models.command()
@click.argument("name")
@click.option("--task", type=TASKS, help="What a repository of the hub is for, where it does not say.")
@click.option("--offline", is_flag=True, help="From the hub's cache alone; HF_HUB_OFFLINE=1 says the same.")
@click.option("--accept-licence", is_flag=True, help="Take it under a licence that asks for more than a name.")
@click.option("--repin", is_flag=True, help="Take what the hub has now, and record that.")
@click.option("--quiet", is_flag=True, help="No progress.")
@how
@guarded
def pull(
    name: str, task: Any, offline: bool, accept_licence: bool, repin: bool, quiet: bool, labels: Path | None, **how: Any
) -> None:
    """Download the model NAME: one of the list, timm:NAME, hf:OWNER/REPO or hf:OWNER/REPO/FILE.

    Its licence is shown first. What came before a break is kept, and the same command goes on from there.
    """
    from imagier.workflows import models as work

    work.pull(
        name,
        task=task,
        offline=offline,
        accept_licence=accept_licence,
        repin=repin,
        how=how | {"labels": labels},
        tell=click.echo,
        progress=not quiet,
    )


@models.command()
@guarded
def where() -> None:
    """Tell the folder that the models are in; IMAGIER_MODELS names another."""
    from imagier.models import store

    click.echo(str(store.where()))


@models.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@guarded
def export(name: str, folder: Path) -> None:
    """Copy the model NAME to DIR, for a machine without a network."""
    from imagier.workflows import models as work

    click.echo(str(work.carry(name, folder).folder))


@models.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What to call it here.")
@click.option("--task", type=TASKS, help="What it is for; the list says it for its own names.")
@how
@click.option("--licence", metavar="NAME", help="What it is under, such as apache-2.0.")
@click.option("--source", metavar="TEXT", help="Where it came from; the file's name unless given.")
@click.option("--replace", "replace_it", is_flag=True, help="In place of a model of that name.")
@guarded
def import_(file: Path, name: str, replace_it: bool, **options: Any) -> None:
    """Make a model of FILE: .onnx, .tflite, weights with --arch, or a Model folder that was carried here.

    What the file itself states is read from it; what it does not state must be said, and nothing is guessed.
    """
    from imagier.workflows import models as work

    model = work.take(file, name, replace_it=replace_it, **options)
    click.echo(f"{model.card.name}: {model.folder}")


@models.command()
@click.argument("name")
@click.option(
    "--images", multiple=True, required=True, metavar="DIR", help="Images like those it will see; repeatable."
)
@click.option("--as", "new", required=True, metavar="NEW", help="What to call the 8-bit model.")
@click.option("--replace", "replace_it", is_flag=True, help="In place of a model of that name.")
@guarded
def quantise(name: str, images: tuple[str, ...], new: str, replace_it: bool) -> None:
    """Make an 8-bit model of NAME, which is faster on many CPUs, by images like those that it will see."""
    from imagier.workflows import models as work

    model = work.quantise(name, images, new, replace_it=replace_it, tell=click.echo)
    click.echo(f"{model.card.name}: {model.folder}")
