"""`imagier train inspector` and `imagier inspect`: skins over workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imagier.cli_errors import NONE_SUCCEEDED, SOME_FAILED, guarded
from imagier.cli_train import PATH, rated, train


@train.command()
@click.option("--good", type=PATH, metavar="DIR", help="Images of good parts, walked whole.")
@click.option("--unlabelled", type=PATH, metavar="DIR", help="Or good and bad ones, nobody knows which.")
@click.option("--bad", type=PATH, metavar="DIR", help="Bad ones, if there are any: a score then has a probability.")
@click.option("--config", metavar="NAME|FILE", help="patchcore (the default), padim, knn, or a YAML file.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change one setting; repeatable.")
@click.option("--into", type=PATH, required=True, metavar="DIR", help="The Model folder to write.")
@click.option("--replace", "over", is_flag=True, help="In place of a model that is there.")
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
@guarded
def inspector(settings: tuple[str, ...], quiet: bool, **how: Any) -> None:
    """Learn what good parts look like, from them alone: then tell what is unlike them, and where.

    Seconds to minutes, and without torch.
    """
    from imagier.models.inspecting import RATE, rule_of
    from imagier.training.config import parse_setting
    from imagier.workflows.train import inspector as work_on

    made = work_on(settings=dict(parse_setting(each) for each in settings), progress=not quiet, **how)
    line = rule_of(made, RATE).line
    low, high = line.ci95
    click.echo(f"written: {made.folder}")
    click.echo(
        f"the line at {line.threshold:.3f} takes {line.rate:.1%} of good parts for bad (95 % interval {low:.1%} to "
        f"{high:.1%}, by {line.held} that were not learnt from); another: --rate, where it is used"
    )


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--model", required=True, metavar="NAME|DIR", help="An inspector.")
@click.option("--into", type=PATH, required=True, metavar="DIR", help="Where verdicts, heatmaps and masks are written.")
@rated
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
@guarded
def inspect(sources: tuple[str, ...], model: str, into: Path, rate: float, quiet: bool) -> int:
    """Tell which images (files, folders, globs) show a bad part, and where it is bad."""
    from imagier.workflows.inspect import inspect as work

    made = work(sources, model=model, into=into, rate=rate, progress=not quiet)
    for reason in made.failed:
        click.echo(f"imagier: {reason}", err=True)
    for line in made.lines():
        click.echo(line)
    click.echo(f"written: {into}")
    if made.failed:
        return SOME_FAILED if made.rows else NONE_SUCCEEDED
    return 0
