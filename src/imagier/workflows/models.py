"""Models by name: what is here and what could be, pulled from the hub, imported, carried to another machine.

What is pulled becomes a Model folder at once: a ready network by `importing`, weights by `exporting` (torch, once), a
repository that is a Model folder as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from imagier.images import decode, to_uint8
from imagier.models import hub, store, zoo
from imagier.models._told import TAKEN
from imagier.models.model import CARD, Card, Model, Role, Task, read_model, write_model
from imagier.models.zoo import Entry
from imagier.sources import scan
from imagier.types import BUILTIN, Image, ImageError, ModelError, SettingError
from imagier.workflows import _stated

Tell = Callable[[str], None]
TASKS = "--task embed, denoise, upscale, detect, segment or classify"


def listing() -> list[dict[str, Any]]:
    """What ships, the zoo's models, and all others that are here: name, task, here, precision, licence, pinned."""
    here = {folder: folder.name for folder in store.folders()}
    ours = {"pinned": "ships with imagier"}
    rows = [_row(name, folder, None) | ours | {"name": name} for name, folder in store.built_in().items()]
    for entry in zoo.ZOO.values():
        folder = store.folder_of(entry.name)
        rows.append(_row(entry.name, folder if here.pop(folder, None) else None, entry))
    return rows + [_row(name, folder, None) for folder, name in here.items()]


def _row(name: str, folder: Path | None, entry: Entry | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "task": entry.task if entry else None,
        "here": "yes" if folder else "no",
        "precision": None,
        "licence": entry.licence if entry else "unknown",
        "pinned": pinned(entry) if entry else None,
    }
    if folder is None:
        return row
    try:
        card = read_model(folder).card
    except ModelError as error:
        return row | {"here": "damaged", "problem": str(error)}
    known = {"name": card.name, "task": card.task, "precision": card.precision, "licence": card.licence}
    if not _pulled(card):
        row["pinned"] = "imported"
    return row | known | {"pinned": row["pinned"] or "recorded"}


def _pulled(card: Card) -> bool:
    """Whether a model came by `pull`, and not as somebody's file under that name."""
    return " at " in card.source and card.source.startswith("http")


def pinned(entry: Entry) -> str:
    """How sure it is that a pull gives what others had: by the table, by what was recorded here, or not at all."""
    files = {name for names in entry.files.values() for name in names}
    if entry.revision or files & set(entry.sha256s):
        return "pinned"
    return "recorded" if files & set(hub.recorded(entry.repo)) else "unpinned"


def describe(named: str) -> dict[str, Any]:
    """All that is known of a model: of the zoo's, and of the one that is here. Raises ModelError for neither."""
    told: dict[str, Any] = {"name": named}
    here = (store.folder_of(named) / CARD).is_file()
    if named in zoo.ZOO or (zoo.known(named) and not here):  # of what is here, timm need not be asked
        told |= _of_the_zoo(zoo.entry(named))
        if not here:
            return told | {"here": "no", "get": store.how_to_get(named)}
    model = store.get(named)
    if "pinned" in told and not _pulled(model.card):
        told["pinned"] = "imported: what is here is not what the hub gave"
    return told | {"here": str(model.folder), "card": msgspec.to_builtins(model.card)}


def _of_the_zoo(entry: Entry) -> dict[str, Any]:
    told = {key: value for key, value in asdict(entry).items() if value and key not in ("how", "sha256s")}
    told["files"] = {role: list(names) for role, names in entry.files.items()}
    told["page"] = f"https://huggingface.co/{entry.repo}" if entry.repo else "none is known"
    told["pinned"] = pinned(entry)
    told["revision"] = entry.revision or "unpinned"
    told["sha256"] = dict(entry.sha256s) or "unpinned"
    if recorded := hub.recorded(entry.repo):
        told["recorded"] = {name: asdict(pin) for name, pin in recorded.items()}
    return told


def pull(
    named: str,
    *,
    task: Task | None = None,
    offline: bool = False,
    accept_licence: bool = False,
    repin: bool = False,
    how: Mapping[str, Any] | None = None,
    tell: Tell = print,
    progress: bool = True,
) -> Model:
    """Bring a model of the zoo, of timm or of the hub to this machine, as a Model folder.

    One that is here already is checked against its card and left, or pulled anew where it is damaged.
    offline: from the hub's cache alone. accept_licence: also where it asks for more than a name. repin: take what the
    hub has now, and record that. how: options of `importing.import_model` for a ready network that does not say them
    itself; `task` likewise.
    Raises ModelError with what to do, SettingError for what is not said.
    """
    folder = store.folder_of(_name(named))
    if (folder / CARD).is_file() and not repin:
        if not (damage := _damage(folder)):
            told = {"task": task, **(how or {})}
            if idle := [f"--{name}" for name, value in told.items() if value is not None]:
                raise SettingError(f"{named} is here already, and {', '.join(idle)} would change nothing: add --repin")
            tell(f"{named} is here already: {folder}")
            return read_model(folder)
        tell(f"{damage}\nIt is pulled anew.")
    entry = zoo.entry(named)
    offer = _offer(entry, offline or hub.told_offline(), repin, tell)
    names = _chosen(entry, offer)
    _needs_torch(named, names)
    licence = _consent(entry, offer, names, accept_licence, tell)
    get = functools.partial(hub.fetch, offer, repin=repin, progress=progress)
    files = {role: get(name, expected=entry.sha256s.get(name, "")) for role, name in names.items()}
    main = next(name for role, name in names.items() if role in ("network", "weights", "card"))
    source = f"{hub.page(entry.repo)} at {offer.commit}, {main}"
    entry = replace(entry, task=task or entry.task)
    if "card" in files:
        model = _folder(entry, files["card"], get, licence, source)
    else:
        given = {key: value for key, value in (how or {}).items() if value is not None}
        model = _made(entry, files, given, licence, source)
    tell(f"{named}: {model.folder}")
    return model


def _damage(folder: Path) -> str:
    """What is wrong with a Model folder; empty for nothing. Raises ModelError where only its owner can mend it."""
    try:
        model = read_model(folder)
    except ModelError as error:  # whose it was, the card would have said
        raise ModelError(f"{error}. Take {folder} away, and pull again.") from error
    try:
        _checked(model)
    except ModelError as error:
        if not _pulled(model.card):
            raise
        return str(error)
    return ""


def _name(named: str) -> str:
    """A name that can be a folder's. Raises SettingError."""
    from imagier.stages.embed import CLASSICAL
    from imagier.stages.upscale import LANCZOS

    if not re.fullmatch(r"[A-Za-z0-9][\w.:/+-]*", named) or ".." in named:
        raise SettingError(f"{named!r} cannot be a model's name: letters, digits, and . - _ + inside it")
    if named in (BUILTIN, CLASSICAL, LANCZOS, *store.built_in()):
        raise SettingError(f"{named!r} is the name of what ships with imagier: choose another")
    return named


def _offer(entry: Entry, offline: bool, repin: bool, tell: Tell) -> hub.Offer:
    """What there is to be had: by the hub, or by its cache where there is no network or it is not to be used."""
    if not entry.repo:
        raise ModelError(f"no repository of {entry.name} is known: {entry.notes}")
    pins = hub.recorded(entry.repo)
    names = [name for each in entry.files.values() for name in each] or list(pins)
    known = next((pins[name].revision for name in names if name in pins), entry.revision or hub.MAIN)
    by_hand = store.how_to_get(entry.name, entry)
    if offline:
        if offer := hub.look_in_cache(entry.repo, known):
            return offer
        raise ModelError(
            f"{entry.name} is not in {hub.cache()}, and no network is to be used (--offline, HF_HUB_OFFLINE). {by_hand}"
        )
    try:
        return hub.look(entry.repo, hub.MAIN if repin else known)
    except hub.Unreachable as error:
        if offer := hub.look_in_cache(entry.repo, known):
            tell(f"{error}. Taken from {hub.cache()}, where it is.")
            return offer
        raise ModelError(f"{error}. {by_hand}") from error


def _chosen(entry: Entry, offer: hub.Offer) -> dict[str, str]:
    """Role -> name in the repository: as the table says, or by the names of what is there."""
    if not entry.files:
        return _stated.recognised(offer)
    names = {}
    for role, candidates in entry.files.items():
        there = [name for name in candidates if name in offer.files]
        if not there:
            none = " and no ".join(candidates)
            raise ModelError(f"{entry.repo} at {offer.commit} has no {none}. {store.how_to_get(entry.name, entry)}")
        names[role] = there[0]
    return names | (_stated.beside_a_network(offer) if "network" in names and entry.task is None else {})


def _needs_torch(named: str, names: Mapping[str, str]) -> None:
    """Said before the download, not after it."""
    if "weights" in names and not importlib.util.find_spec("torch"):
        raise ModelError(
            f"{named} lies there as weights, of which torch makes a network, once: pip install 'imagier[train]'. Or "
            f"pull it on a machine that has torch, and bring the folder: imagier models export {named} DIR there, "
            f"imagier models import DIR --as {named} here"
        )


def _consent(entry: Entry, offer: hub.Offer, names: Mapping[str, str], accepted: bool, tell: Tell) -> str:
    """Show what is about to be fetched and its licence, which comes back. Raises ModelError for one not accepted."""
    told = [each for each in (entry.licence, offer.licence) if each != "unknown"] or ["unknown"]
    licence = " and ".join(dict.fromkeys(told))
    sizes = [each.size for name, each in offer.files.items() if "card" in names or name in names.values()]
    size = f", {sum(each or 0 for each in sizes) / 1e6:.1f} MB" if all(sizes) else ""
    sure = {"pinned": ", pinned", "recorded": ", as recorded", "unpinned": ", unpinned: recorded now"}[pinned(entry)]
    tell(f"{entry.name}: {', '.join(names.values())} of {hub.page(entry.repo)} at {offer.commit[:12]}{size}{sure}")
    tell(f"licence: {licence}")
    asks = [replace(entry, licence=each) for each in told]
    if all(each.free for each in asks) or accepted:
        return licence
    if any(each.agpl for each in asks):
        why = "what is served over a network with it must be given away in source"
    elif any("-nc" in each.licence.lower() for each in asks):
        why = "not for commercial use"
    else:
        why = "read it on the page above" if told != ["unknown"] else "its page states none, which permits nothing"
    raise ModelError(f"{entry.name} is under the licence {licence}: {why}. If that suits your use: --accept-licence")


def _made(entry: Entry, files: Mapping[str, Path], given: Mapping[str, Any], licence: str, source: str) -> Model:
    """The Model folder of a ready network, or of weights. What is given goes before what is stated beside it."""
    from imagier.models.importing import import_model

    if "network" in files:
        options = dict(entry.how) | _stated.options(files.get("config"), files.get("preprocess"))
        if entry.task is None:
            raise SettingError(f"{entry.name} does not say what it is for: {TASKS}")
    else:
        arch = given.get("arch") or entry.architecture
        options = {"arch": arch} if arch or "config" not in files else _stated.weights(files["config"])
    task = entry.task or "embed"
    return import_model(
        files.get("network") or files["weights"],
        name=entry.name,
        task=task,
        licence=licence,
        source=source,
        replace=True,
        **(_of_use(options, task) | dict(given)),
    )


def _of_use(stated: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Of what nobody gave but is stated elsewhere, what a network of the task has a use for."""
    return {name: value for name, value in stated.items() if task in TAKEN.get(name, (task,))}


def _folder(entry: Entry, card: Path, get: Callable[..., Path], licence: str, source: str) -> Model:
    """A repository that is a Model folder: its files, which its card names with their hashes."""
    model = read_model(card.parent)
    if entry.task not in (None, model.card.task):
        raise SettingError(f"{entry.name} is there to {model.card.task}, not to {entry.task}")
    for each in model.card.files.values():
        get(each.path, expected=each.sha256)
    made = msgspec.structs.replace(model.card, name=entry.name, licence=licence, source=source)
    return write_model(store.folder_of(entry.name), made, _checked(model), replace=True)


def _checked(model: Model) -> dict[Role, Path | bytes]:
    """A model's files by role, each as its card says. Raises ModelError."""
    return {role: model.file(role) for role in model.card.files}


def carry(named: str, folder: Path) -> Model:
    """Copy a model to a folder of its own, for a machine without a network. Raises ModelError."""
    model = store.get(named)
    return write_model(folder, model.card, _checked(model))


def take(
    file: Path,
    named: str,
    *,
    task: Task | None = None,
    licence: str | None = None,
    source: str | None = None,
    replace_it: bool = False,
    **options: Any,
) -> Model:
    """Import a file, or a Model folder that was carried here, under a name.

    What the zoo says of that name need not be said again: task, architecture, preprocessing. The licence must be: the
    file may be another's. options: those of `importing.import_model`; None is not given.
    """
    from imagier.models.importing import import_model

    given = {key: value for key, value in options.items() if value is not None}
    entry = zoo.ZOO.get(_name(named))
    if (file / CARD).is_file():
        task = task or read_model(file).card.task
    elif entry is not None:
        is_weights = file.suffix.lower() in store.WEIGHTS
        task = task or entry.task or "embed"
        given = ({"arch": entry.architecture} if is_weights else _of_use(entry.how, task)) | given
    if task is None and file.is_file():
        raise SettingError(f"what {file} is for must be said: {TASKS}")
    return import_model(
        file, name=named, task=task or "embed", licence=licence, source=source, replace=replace_it, **given
    )


def quantise(named: str, sources: Sequence[str], name: str, *, replace_it: bool = False, tell: Tell = print) -> Model:
    """Make the int8 model of one that is here, by images of the kind that it will see, and call it `name`.

    Of the images that the sources lead to, as many as are needed are taken, evenly over all; one that cannot be read is
    told and left out. Raises ModelError and SettingError as `models.quantise` does, SourceError for no source.
    """
    from imagier.models import quantise as work

    model = store.get(named)
    paths = [each.path for each in scan(sources).files if each.problem is None]
    chosen = [paths[at * len(paths) // work.LIMIT] for at in range(work.LIMIT)] if len(paths) > work.LIMIT else paths
    return work.quantise(model, _pixels(chosen, model, tell), name=_name(name), replace=replace_it)


def _pixels(paths: Sequence[str], model: Model, tell: Tell) -> Iterator[Image]:
    """The images as the model will meet them: 8-bit, one at a time."""
    from imagier.models.preprocess import short_side

    for path in paths:
        try:
            decoded = decode(Path(path).read_bytes(), short_side=short_side(model.card.input))
        except (ImageError, OSError) as error:
            tell(f"{path} is left out: {error}")
        else:
            yield to_uint8(decoded.image, decoded.black, decoded.white)
