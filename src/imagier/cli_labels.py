"""`imagier labels`: what people said of a collection's items, counted or as a table."""

from __future__ import annotations

from pathlib import Path

import click

from imagier.cli_errors import guarded

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("collection", type=PATH)
@click.option("--export", "to", type=PATH, metavar="FILE.csv", help="Write item, name, label, author and time there.")
@guarded
def labels(collection: Path, to: Path | None) -> None:
    """Tell how many items of a COLLECTION people gave which label, and how many masks they corrected."""
    from collections import Counter

    from imagier.collection import BY_PEOPLE, Collection, write_whole
    from imagier.outputs.labelled import labels_csv

    opened = Collection.open(collection)
    said = opened.read(BY_PEOPLE)
    given, masks = (said[name].drop_null().to_pylist() for name in BY_PEOPLE)
    for label, count in Counter(given).most_common():
        click.echo(f"{count:6} {label}")
    click.echo(f"{len(given)} of {len(opened)} items have a label, {len(masks)} a corrected mask")
    if to is not None:
        write_whole(to, labels_csv(opened))
        click.echo(f"written: {to}")
