"""The command line: one thin command per verb, a skin over workflows.

Exit codes: 0 all files ok; 1 refused or broken off, with one message; 2 the command's own words are off; 3 some files
failed; 4 none succeeded; 130 stopped by the user.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import imagier
from imagier.cli_errors import NONE_SUCCEEDED, SOME_FAILED, guarded
from imagier.cli_inspect import inspect
from imagier.cli_labels import labels
from imagier.cli_models import models
from imagier.cli_train import classify, evaluate, imports, segment, train

if TYPE_CHECKING:
    from imagier.collection import Collection
    from imagier.workflows.summary import Summary

COLLECTION = click.argument("collection", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(imagier.__version__, prog_name="imagier")
def main() -> None:
    """Turn a folder of images into a sorted, measured, searchable collection.

    \b
    imagier run photos/ --into out/        embed, map, cluster, plot, report
    imagier search out/ --image f.jpg      the items most like it
    imagier organise out/ --apply          lay the groups out in folders
    """


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors are one message and an exit code."""
    return main.command()(guarded(function))


for each in (models, train, evaluate, segment, classify, inspect, imports, labels):
    main.add_command(each)


@verb
@click.argument("sources", nargs=-1)
@click.option("--into", required=True, metavar="DIR", help="The collection's folder; made when it is not there.")
@click.option("--pipeline", metavar="FILE", help="A YAML pipeline, or: default.")
@click.option("--preset", metavar="NAME", help="A ready pipeline: see imagier presets.")
@click.option("--set", "settings", multiple=True, metavar="STEP.SETTING=VALUE", help="Change one setting; repeatable.")
@click.option("--like", metavar="COLLECTION", help="Place the images in the map and groups that this one fitted.")
@click.option("--forget", multiple=True, metavar="SOURCE", help="A source whose images are to leave; repeatable.")
@click.option("--json", "json_path", metavar="FILE", help="Write the result for 3-D viewers there too.")
@click.option("--report/--no-report", default=True, help="Write plots and report.html (the default) or not.")
@click.option("--threads", type=click.IntRange(1), help="Workers that read and embed; if not given, the cores.")
@click.option("--quiet", is_flag=True, help="No progress, only the outcome.")
def run(
    sources: tuple[str, ...],
    into: str,
    pipeline: str | None,
    preset: str | None,
    settings: tuple[str, ...],
    like: str | None,
    forget: tuple[str, ...],
    json_path: str | None,
    report: bool,
    threads: int | None,
    quiet: bool,
) -> int:
    """Turn SOURCES (folders, files, globs) into a collection, or bring one up to date.

    Does only what is not done yet; can be stopped at any time and goes on. Without SOURCES: those of the last time.
    A collection keeps its pipeline and settings until others are named.
    """
    from imagier.pipeline import parse_setting
    from imagier.workflows.run import run as work
    from imagier.workflows.summary import last_run

    collection = work(
        sources,
        into=into,
        pipeline=pipeline,
        preset=preset,
        settings=dict(parse_setting(each) for each in settings),
        like=like,
        forget=forget,
        json=json_path,
        report=report,
        threads=threads,
        progress=not quiet,
    )
    summary = last_run(collection)
    _tell(collection, summary, json_path)
    if summary.failed:
        return SOME_FAILED if summary.ok else NONE_SUCCEEDED
    return 0 if summary.ok else NONE_SUCCEEDED


def _tell(collection: Collection, summary: Summary, json_path: str | None) -> None:
    from imagier.workflows.summary import enlarged

    others = f" ({summary.skipped} others are no images by their names)" if summary.skipped else ""
    click.echo(f"{summary.files} files: {summary.ok} ok, {summary.failed} failed{others}")
    parts = [f"{getattr(summary, word)} {word}" for word in ("new", "changed", "moved", "removed")]
    click.echo(f"  {', '.join(parts)}; {summary.decoded} decoded in {summary.seconds['pass']:.1f} s")
    work = [f"{name} {count}" if count else f"{name} –" for name, count in summary.steps.items()]
    click.echo(f"  items worked on: {', '.join(work)} (of {summary.items}; – means nothing to do)")
    for name, counts in enlarged(collection).items():
        parts = [f"{counts[factor]} enlarged ×{factor}" for factor in sorted(counts) if factor > 1]
        click.echo(f"{name}: {', '.join(parts) or 'none enlarged'}, {counts[1]} left as they are")
    for name, receipt in collection.receipts().items():
        if summary.steps.get(name) and (changed := (receipt.facts.get("drift") or {}).get("text")):
            click.echo(f"{name}: {changed}")
        if verdict := receipt.facts.get("verdict"):
            groups, noise = len(receipt.facts["groups"]), receipt.facts.get("noise") or 0
            click.echo(f"{name}: {groups} groups, {noise:.0%} noise. {verdict['text']}")
        if far := (receipt.facts.get("far") or {}).get("items"):
            click.echo(f"{name}: {far} items lie far from everything known")
    if summary.failed:
        click.echo(f"why files failed: imagier show {_short(collection.folder)} --failed")
    made = [name for name in ("report.html", "map.html", "plots") if (collection.folder / name).exists()]
    written = [_short(collection.folder / name) for name in made] + ([json_path] if json_path else [])
    click.echo(f"results: {', '.join(written) or _short(collection.folder)}")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@verb
@COLLECTION
@click.option("--failed", is_flag=True, help="The files that failed, by path, with the reason.")
def show(collection: Path, failed: bool) -> None:
    """Show what a COLLECTION holds."""
    from imagier.collection import Collection

    opened = Collection.open(collection)
    files = opened.files().to_pylist()
    bad = [row for row in files if row["outcome"] == "failed"]
    if failed:
        for row in bad:
            click.echo(f"{row['path']}: {row['reason']}")
        click.echo(f"{len(bad)} of {len(files)} files failed", err=True)
        return
    click.echo(f"{len(opened)} items of {len(files)} files ({len(bad)} failed)")
    click.echo("sources: " + ", ".join(opened.absolute(source) for source in opened.state.sources))
    click.echo("columns: " + ", ".join(opened.columns))
    for name, receipt in opened.receipts().items():
        given = ", ".join(f"{key}={value}" for key, value in receipt.settings.items() if value is not None)
        click.echo(
            f"{name}: {receipt.stage}({given}), {receipt.items} items in {receipt.seconds:.1f} s, {receipt.made}"
        )
        for group in receipt.facts.get("groups", []):
            if isinstance(group, dict):
                click.echo(
                    f"  group {group['group']}: {group['size']} items, cohesion {group['cohesion']:.2f}, "
                    f"quality {group['quality']}"
                )


@verb
@click.argument("collection", required=False, type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, metavar="NAME|DIR", help="To try one's own images on; repeatable.")
@click.option("--preset", metavar="NAME", help="A ready pipeline to try them on.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any other than this machine's own needs a token.")
@click.option("--token", help="What whoever asks must show.")
def serve(
    collection: Path | None, models: tuple[str, ...], preset: str | None, port: int, host: str, token: str | None
) -> None:
    """Look at a COLLECTION in a browser: gallery, map, search, labels, one's own images; and REST under /api/v1.

    Without one: an empty one, to drop images on.
    """
    from imagier.collection import Collection
    from imagier.types import SettingError

    try:
        from imagier.web.serve import serve as work
    except ModuleNotFoundError as error:
        raise SettingError(f"serve needs {error.name}: pip install 'imagier[web]'") from error
    opened = None if collection is None else Collection.open(collection)
    work(opened, host=host, port=port, token=token, models=models, preset=preset, tell=click.echo)


@verb
@COLLECTION
@click.option("--by", default="group", show_default=True, metavar="COLUMN[,COLUMN]", help="What names the folders.")
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), help="Where to [COLLECTION/organised].")
@click.option(
    "--how",
    type=click.Choice(["copy", "hardlink", "symlink", "move"]),
    default="copy",
    show_default=True,
    help="Originals are touched by move alone.",
)
@click.option("--plan", "act", flag_value="plan", default=True, help="Write the plan and stop there (the default).")
@click.option("--apply", "act", flag_value="apply", help="Do it.")
@click.option("--undo", "act", flag_value="undo", help="Put everything back as it was.")
def organise(collection: Path, by: str, to: Path | None, how: str, act: str) -> int:
    """Lay a COLLECTION out in folders, a folder per group or any other column."""
    from imagier.collection import Collection
    from imagier.workflows import organise as work

    opened = Collection.open(collection)
    if act == "plan":
        table = work.plan(opened, by=by, to=to, how=how)  # type: ignore[arg-type]
        for row in table.slice(0, 20).to_pylist():
            click.echo(f"{row['action']:8} {row['source']} -> {row['destination'] or '-'}  ({row['why']})")
        more = ", the first 20 above" if table.num_rows > 20 else ""
        click.echo(f"{table.num_rows} lines{more}; all: {_short(opened.folder / 'organise' / 'plan.csv')}")
        click.echo("nothing was done yet: the same with --apply does it")
        return 0
    if act == "undo":
        outcome = work.undo(opened, progress=True)
        click.echo(f"{outcome.placed} put back or taken away, {outcome.skipped} left as they are")
    else:
        outcome = work.apply(opened, by=by, to=to, how=how, progress=True)  # type: ignore[arg-type]
        failed = f", {outcome.failed} that failed are in no folder" if outcome.failed else ""
        click.echo(f"{outcome.placed} placed in {_short(outcome.folder)}, {outcome.skipped} left as they are{failed}")
    for problem in outcome.problems:
        click.echo(f"imagier: {problem}", err=True)
    return SOME_FAILED if outcome.problems else 0


@verb
@COLLECTION
@click.option("--image", metavar="FILE", help="An image file; it need not be in the collection.")
@click.option("--text", metavar="WORDS", help='Words, such as "a blue car"; needs a CLIP collection.')
@click.option("--like", metavar="ITEM", help="An item's id, its beginning, or a file of the collection.")
@click.option("-n", "n", type=click.IntRange(1), default=20, show_default=True, help="Hits.")
@click.option("--on", default="embedding", show_default=True, metavar="COLUMN", help="The column of vectors.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with the pictures there.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def search(
    collection: Path,
    image: str | None,
    text: str | None,
    like: str | None,
    n: int,
    on: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Find the items of a COLLECTION most like an image, words, or one of its items."""
    import json

    from imagier.collection import Collection
    from imagier.outputs.hits import write_hits
    from imagier.workflows.search import search as work

    opened = Collection.open(collection)
    result = work(opened, image=image, text=text, like=like, n=n, on=on, progress=not as_json)
    if html is not None:
        write_hits(opened, result.hits, result.query, html)
    if as_json:
        click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
        return
    for line in result.lines():
        click.echo(line)


@verb
@COLLECTION
@click.option("--truth", metavar="COLUMN", help="folder, or the column that holds what is true; found if not given.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write it all there too.")
def compare(collection: Path, truth: str | None, json_path: Path | None) -> None:
    """Compare every clustering of a COLLECTION with the others and with the truth, where there is one."""
    from imagier.collection import Collection
    from imagier.workflows import compare as work
    from imagier.workflows._compare_text import lines

    opened = Collection.open(collection)
    made = work.compare(opened, truth=truth)
    for line in lines(made):
        click.echo(line)
    # The person's own file first: where it cannot be written, nothing was.
    own = [] if json_path is None else [work.save(opened, made, json_path)]
    written = work.write(opened, made) + own
    click.echo("written: " + ", ".join(_short(path) for path in written))


@verb
@COLLECTION
@click.option("--model", metavar="NAME|DIR", help="A head that goes by the collection's embedding: what to label next.")
@click.option("--doubtful", is_flag=True, help="Instead, labels that are likely wrong.")
@click.option("--curve", type=click.Path(path_type=Path), metavar="FILE.png", help="Instead, what suggestions gain.")
@click.option("--by", metavar="COLUMN", help="The column of labels: label_folder, or any other.")
@click.option("-n", "n", type=click.IntRange(1), help="Items [50; of a curve 10 a round].")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write it all there.")
def suggest(
    collection: Path,
    model: str | None,
    doubtful: bool,
    curve: Path | None,
    by: str | None,
    n: int | None,
    json_path: Path | None,
) -> None:
    """Tell which items of a COLLECTION to label next, or whose labels to look at again."""
    from imagier.collection import Collection, write_whole
    from imagier.types import SettingError
    from imagier.workflows import suggest as work

    if sum([model is not None, doubtful, curve is not None]) != 1:
        raise SettingError("say what to suggest: --model MODEL, --doubtful or --curve FILE.png, one of them")
    if by is None and model is None:
        raise SettingError("--by must be given: the column of labels, such as label_folder")
    opened = Collection.open(collection)
    if curve is not None:
        from imagier.outputs.plots_classes import gained
        from imagier.outputs.plots_figures import png

        told = work.gained(opened, by=by or "", n=n or 10).as_dict()
        work.write_json(told, json_path)
        write_whole(curve, png(gained(told)))
        for count, mine, other in zip(told["labels"], told["suggested"], told["random"], strict=True):
            click.echo(f"{count} labels: {mine:.3f} suggested, {other:.3f} at random")
        needed = told["share_needed"]
        click.echo(
            "suggestions do not reach what random choice reaches"
            if needed is None
            else f"as good as random choice with {needed:.0%} of its labels".replace("%", " %")
        )
        click.echo(f"written: {_short(curve)}")
        return
    if doubtful:
        found = work.doubtful(opened, by=by or "", n=n or 50)
    else:
        found = work.suggest(opened, model=model or "", n=n or 50, labelled=by)
    for each in found:
        click.echo(f"{_short(Path(each.path))}: " + ", ".join(f"{name} {value}" for name, value in each.told.items()))
    if not found:
        click.echo(f"no label in {by} looks wrong by what the others say")
    work.write_json([each.as_dict() for each in found], json_path)


@main.group(invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List the ready pipelines: imagier run IMAGES --into DIR --preset NAME."""
    from imagier import presets as kept

    if context.invoked_subcommand is None:
        for name in kept.names():
            click.echo(f"{name:10} {kept.about(name)}")


@presets.command(name="show")
@click.argument("name")
@guarded
def show_preset(name: str) -> None:
    """Print the preset NAME, a pipeline file to start one's own from."""
    from imagier import presets as kept

    click.echo(kept.text(name), nl=False)


@verb
@COLLECTION
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["json", "parquet", "csv", "coco", "masks", "overlays"]),
    required=True,
    help="The format.",
)
def export(collection: Path, to: str, file: Path) -> None:
    """Write a COLLECTION to FILE: json for 3-D viewers, parquet or csv with every column; coco, or a folder with masks
    or overlays, of what a step 'segment' found."""
    from imagier.collection import Collection

    opened = Collection.open(collection)
    if to in ("masks", "overlays"):
        from imagier.outputs.masks import write_files

        write_files(opened, file, overlays=to == "overlays")
    elif to == "coco":
        from imagier.outputs.masks import write_coco

        write_coco(opened, file)
    else:
        from imagier.outputs.tables import export as work

        work(opened, to, file)  # type: ignore[arg-type]
    click.echo(str(file))


@verb
@COLLECTION
def report(collection: Path) -> None:
    """Write a COLLECTION's plots and report.html again."""
    from imagier.collection import Collection
    from imagier.workflows.run import publish

    for path in publish(Collection.open(collection)):
        click.echo(_short(path))


@verb
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--per-kind", type=click.IntRange(1), default=24, show_default=True, help="Images of each kind.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same images.")
def samples(folder: Path, per_kind: int, seed: int) -> None:
    """Draw demo images with their exact truth into FOLDER: micrographs, parts, gels, skin, surfaces."""
    from imagier.samples import write

    click.echo(f"images: {write(folder, per_kind=per_kind, seed=seed) / 'images'}")


@verb
def doctor() -> None:
    """Tell what is installed, what is missing, and what this machine can do."""
    from imagier.workflows.doctor import examine

    for line in examine():
        click.echo(line)


if __name__ == "__main__":
    main()
