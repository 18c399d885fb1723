"""Files from the hub (huggingface.co, or what HF_ENDPOINT names): whole, as recorded, and never twice.

Three promises. A transfer that was cut goes on where it stopped, also after the program died: huggingface_hub keeps no
part of a file from one call to the next, so that its own transfer is given a file that stays. What arrives is what was
asked for: every file is held against the hash that the hub names it by. And it is what was had before: commit and
sha256 are recorded at the first pull (pins.json, beside the models) and checked from then on.

Files lie in the hub's own cache, which other programs share. Nothing is told to anybody: telemetry is off.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import imagier
from imagier.models import store
from imagier.models.model import hash_of
from imagier.types import ModelError

PINS = "pins.json"
MAIN = "main"
YES = {"1", "ON", "YES", "TRUE"}
"""What huggingface_hub takes for a yes in the environment."""
WHO = {"library_name": "imagier", "library_version": imagier.__version__}
"""What the hub is told of who asks."""


@dataclass(frozen=True)
class Listed:
    """A file of a repository."""

    size: int | None = None
    """Bytes."""
    sha256: str = ""
    """Of a large file; the hub knows small ones by another hash."""


@dataclass(frozen=True)
class Offer:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    licence: str
    files: Mapping[str, Listed]


@dataclass(frozen=True)
class Pin:
    """What a file was when it was first pulled."""

    revision: str
    sha256: str


def endpoint() -> str:
    """Where the hub is: HF_ENDPOINT, or huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or str(_hub().constants.ENDPOINT)


def cache() -> Path:
    """The hub's own cache: HF_HUB_CACHE, HF_HOME/hub, or where huggingface_hub has it."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(_hub().constants.HF_HUB_CACHE)


def told_offline() -> bool:
    """Whether the environment says to leave the network alone: HF_HUB_OFFLINE, or TRANSFORMERS_OFFLINE."""
    named = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return named.upper() in YES


def _hub() -> Any:
    """The package, its telemetry off: it would send which other packages are installed, and what runs it."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.file_download

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def page(repo: str) -> str:
    """The repository's page."""
    return f"{endpoint()}/{repo}"


def look(repo: str, revision: str) -> Offer:
    """Ask the hub what a repository holds at a revision. Raises ModelError."""
    with _answering(repo, revision):
        api = _hub().HfApi(endpoint=endpoint(), **WHO)
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=30)
    files = {each.rfilename: Listed(each.size, each.lfs.sha256 if each.lfs else "") for each in info.siblings or []}
    licence = (info.card_data.get("license") if info.card_data else None) or "unknown"
    licence = licence if isinstance(licence, str) else ", ".join(licence)
    if licence == "other" and info.card_data and (name := info.card_data.get("license_name")):
        licence = str(name)
    if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
        raise ModelError(f"{page(repo)} names no commit: is {endpoint()} a hub?")
    return Offer(repo, info.sha, licence, files)


def look_in_cache(repo: str, revision: str) -> Offer | None:
    """What the cache holds of a repository at a revision, without a network; None for nothing."""
    folder = cache() / _folder(repo)
    ref = folder / "refs" / revision
    commit = ref.read_text().strip() if ref.is_file() else revision
    snapshot = folder / "snapshots" / commit
    files = {
        path.relative_to(snapshot).as_posix(): Listed(path.stat().st_size)
        for path in sorted(snapshot.rglob("*"))
        if path.is_file()  # follows the link into blobs: one that leads nowhere is no file
    }
    return Offer(repo, commit, "unknown", files) if files else None


def fetch(offer: Offer, name: str, *, expected: str = "", repin: bool = False, progress: bool = True) -> Path:
    """A file of a repository, from the cache or from the hub; its path in the cache.

    expected: a sha256 that it must have. What is recorded of it must be so too, unless `repin`: then it is recorded
    anew. Raises ModelError for another file than expected, for one that arrived damaged, and where there is no network.
    """
    path = _had(offer, name) or _download(offer, name, progress)
    found = hash_of(path)
    listed = offer.files.get(name, Listed()).sha256
    if listed and listed != found:
        raise ModelError(
            f"{name} of {offer.repo} lies damaged in {path}: its sha256 is {found}, the hub's is {listed}. "
            "Delete it there and pull again."
        )
    if expected and expected != found:
        raise ModelError(
            f"{name} of {offer.repo} is not the file that imagier knows: its sha256 is {found}, not {expected}. "
            "It is not used."
        )
    pin = recorded(offer.repo).get(name)
    if pin and pin.sha256 != found and not repin:
        raise ModelError(
            f"{name} of {offer.repo} has changed: its sha256 is {found}, and was {pin.sha256} when it was first pulled "
            f"(recorded in {store.where() / PINS}). It is not used. If you trust the new one: --repin."
        )
    if pin is None or repin:
        _record(offer.repo, name, Pin(offer.commit, found))
    return path


def recorded(repo: str) -> dict[str, Pin]:
    """What was recorded of a repository's files at their first pull. Raises ModelError for a damaged record."""
    return {name: Pin(**each) for name, each in _pins().get(repo, {}).items()}


def _pins() -> dict[str, dict[str, dict[str, str]]]:
    path = store.where() / PINS
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
        if all(set(pin) == {"revision", "sha256"} for files in pins.values() for pin in files.values()):
            return dict(pins)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}): put it right, or delete it to record anew") from error
    raise ModelError(f"{path} is no record of pins: put it right, or delete it to record anew")


def _record(repo: str, name: str, pin: Pin) -> None:
    from filelock import FileLock

    folder = store.where()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{PINS}.lock"):
            pins = _pins()
            pins.setdefault(repo, {})[name] = {"revision": pin.revision, "sha256": pin.sha256}
            made = folder / f".{PINS}.new"
            made.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            made.replace(folder / PINS)
    except OSError as error:
        raise ModelError(f"{folder / PINS} cannot be written: {error.strerror or error}") from error


def _folder(repo: str) -> str:
    return "models--" + repo.replace("/", "--")


def _had(offer: Offer, name: str) -> Path | None:
    """The file in the cache, where it is."""
    path = _hub().try_to_load_from_cache(offer.repo, name, cache_dir=cache(), revision=offer.commit)
    return Path(path) if isinstance(path, str) else None


def _download(offer: Offer, name: str, progress: bool) -> Path:
    """The transfer; goes on from what an earlier one left in the cache."""
    from filelock import FileLock

    hub = _hub()
    bar = None if progress else _Silent
    url = hub.hf_hub_url(offer.repo, name, revision=offer.commit, endpoint=endpoint())
    with _answering(offer.repo, offer.commit, name):
        headers = hub.utils.build_hf_headers(**WHO)
        told = hub.get_hf_file_metadata(url, headers=headers, endpoint=endpoint())
        if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", told.etag or ""):
            blobs = cache() / _folder(offer.repo) / "blobs"
            blobs.mkdir(parents=True, exist_ok=True)
            part = blobs / f"{told.etag}.incomplete"
            lock = cache() / ".locks" / _folder(offer.repo) / f"{told.etag}.lock"  # huggingface_hub's own
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if not (blobs / told.etag).exists():
                    if part.exists() and told.size is not None and part.stat().st_size > told.size:
                        part.unlink()
                    with open(part, "ab") as stream:
                        hub.file_download.http_get(
                            url,
                            stream,
                            resume_size=stream.tell(),
                            headers=headers,
                            expected_size=told.size,
                            displayed_filename=name,
                            tqdm_class=bar,
                        )
                    if not _is(part, told.etag):
                        part.unlink()
                        raise ModelError(
                            f"{name} of {offer.repo} arrived damaged: its hash is not {told.etag}. Pull again."
                        )
                    part.replace(blobs / told.etag)
        # Puts the file into the cache's folder for that commit, under its name; transfers what is not there yet.
        path = hub.hf_hub_download(
            offer.repo,
            name,
            revision=offer.commit,
            cache_dir=cache(),
            endpoint=endpoint(),
            tqdm_class=bar,
            **WHO,
        )
    return Path(path)


def _is(path: Path, etag: str) -> bool:
    """Whether a file is the one that the hub names so: by its sha256, or a small one by git's hash of it."""
    if len(etag) == 64:
        return hash_of(path) == etag
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == etag


@contextmanager
def _answering(repo: str, revision: str, name: str = "") -> Iterator[None]:
    """The hub's refusals, and a network that is none, as one message each."""
    from huggingface_hub import errors

    what = f"{name} of {repo}" if name else repo
    try:
        yield
    except errors.HFValidationError as error:
        raise ModelError(f"{repo!r} can be no repository's name: {error}") from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} is given to those who accept its terms: do so on {page(repo)}, then log in: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no {page(repo)}, or it is private and you are not logged in: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{page(repo)} no longer has the revision {revision}. If you trust another: --repin"
        ) from error
    except errors.LocalEntryNotFoundError as error:  # the network went away on the way
        raise Unreachable(f"{what} could not be had from {endpoint()}") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{page(repo)} has no {name} at {revision}") from error
    except _failures() as error:
        raise Unreachable(f"{what} could not be had from {endpoint()}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _failures() -> tuple[type[Exception], ...]:
    """What a network that fails raises: whatever HTTP client huggingface_hub has, its own errors are made of those."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(each for each in HfHubHTTPError.__bases__ if issubclass(each, Exception)))


class Unreachable(ModelError):
    """The hub does not answer. What came so far is kept."""


class _Silent:
    """A progress bar that shows nothing."""

    def __init__(self, **told: Any) -> None:
        del told

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def update(self, count: float | None = 1) -> None:
        """Nothing."""
