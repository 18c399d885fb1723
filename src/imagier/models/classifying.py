"""A classifier as a function of images, or of embeddings; and what it says with a confidence that one can act on.

Beside its network or head, a Model folder that was trained here holds what its confidence is made of, `confidence.npz`,
from images that were not learnt from: scores for sets at any level, how strange known images are, and the distribution
by which that is told.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagier.algorithms import confidence as measures
from imagier.algorithms import novelty
from imagier.algorithms.confidence import LEVEL, REFUSED
from imagier.models import engines, store
from imagier.models.model import Model, read_model
from imagier.models.preprocess import prepare
from imagier.types import Image, ModelError, SettingError

BATCH = 8
"""Images at a time: of 24 megapixels, some 600 MB."""


@dataclass(frozen=True)
class Seen:
    """What a classifier makes of n images."""

    logits: np.ndarray
    """(n, classes) float32."""
    features: np.ndarray
    """(n, d) float32: what the last layer sees; of a head the embedding. d is 0 where the network does not give it."""

    def at(self, places: Sequence[int]) -> Seen:
        """Those at these places, in their order."""
        return Seen(self.logits[places], self.features[places])


def joined(parts: Sequence[Seen]) -> Seen:
    """Those of several batches."""
    return Seen(np.concatenate([each.logits for each in parts]), np.concatenate([each.features for each in parts]))


@dataclass(frozen=True)
class Said:
    """What it says of n images."""

    shares: np.ndarray
    """(n, classes) float64, calibrated: they add up to 1."""
    sets: np.ndarray | None
    """(n, classes) bool: they hold the true class as often as was asked for. None: it was never calibrated."""
    typical: np.ndarray | None
    """(n,) float64, above 0 to 1: the share of known images at least as strange."""
    known: np.ndarray | None
    """(n,) bool; None, as `typical`, where the model has nothing to tell it by."""

    @property
    def best(self) -> np.ndarray:
        """The likeliest class, (n,) int."""
        made: np.ndarray = self.shares.argmax(1)
        return made


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; nothing in it is unpickled. Raises ModelError for what is none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} holds no arrays: {error}") from error


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue())  # its date is 1980's
    return buffer.getvalue()


@dataclass(frozen=True)
class Confidence:
    """From logits and features to what is said."""

    temperature: float = 1.0
    covering: measures.Covering | None = None
    distribution: novelty.Distribution | None = None
    known: np.ndarray | None = None
    """How strange known images are that were not learnt from, (m,)."""

    def check(self, refused: float) -> None:
        """Raises SettingError for a rate at which nothing could ever be refused: there are too few known images."""
        if self.known is not None and refused * (len(self.known) + 1) < 1:
            raise SettingError(
                f"refused cannot be {refused:g}: the model has {len(self.known)} known images to compare with, and the "
                f"least rate is {1 / (len(self.known) + 1):.3f}"
            )

    def say(self, seen: Seen, level: float = LEVEL, refused: float = REFUSED, by_class: bool = False) -> Said:
        """level: of the sets. refused: the share of known images that may be. by_class: sets cover in each class."""
        given = measures.shares(seen.logits, self.temperature)
        sets = None if self.covering is None else self.covering.sets(given, level, by_class)
        if self.distribution is None or self.known is None:
            return Said(given, sets, None, None)
        strange = self.distribution.strangeness(seen.features, seen.logits / self.temperature)
        typical = novelty.typical(strange, self.known)
        return Said(given, sets, typical, typical > refused)

    def encoded(self) -> bytes:
        """As confidence.npz has it. The temperature and the method stand in the card."""
        arrays: dict[str, np.ndarray] = {}
        if self.covering is not None:
            arrays |= {"scores": self.covering.scores, "classes": self.covering.classes}
        if self.distribution is not None and self.known is not None:
            arrays |= {"known": self.known}
            arrays |= {f"novelty_{name}": value for name, value in self.distribution.arrays.items()}
        return packed(arrays)


def confidence_of(model: Model) -> Confidence:
    """What the folder holds; of one that was imported, the logits as they are. Raises ModelError."""
    card = model.card
    temperature = (card.calibration or {}).get("temperature", 1.0)
    if "confidence" not in card.files:
        return Confidence(temperature)
    arrays = arrays_of(model.file("confidence"))
    try:
        covering = measures.Covering(arrays["scores"], arrays["classes"])
        if card.novelty is None:
            return Confidence(temperature, covering)
        held = {name.removeprefix("novelty_"): each for name, each in arrays.items() if name.startswith("novelty_")}
        if missing := [name for name in novelty.METHODS[card.novelty].needs if name not in held]:
            raise KeyError(f"novelty_{missing[0]}")
        return Confidence(temperature, covering, novelty.Distribution(card.novelty, held), arrays["known"])
    except KeyError as error:
        raise ModelError(f"the model {card.name}: {card.files['confidence'].path} has no {error.args[0]}") from error


def check(level: float, refused: float) -> None:
    """Raises SettingError for shares that are none."""
    for name, value in (("level", level), ("refused", refused)):
        if not 0 < value < 1:
            raise SettingError(f"{name} cannot be {value:g}: it is a share, above 0 and below 1")


# ---------------------------------------------------------------- heads


def head_of(model: Model) -> Callable[[np.ndarray], Seen]:
    """A head as a function of vectors (n, d), the embedding and then the head's columns; NaN is taken for the mean.

    Raises ModelError.
    """
    return applied(arrays_of(model.file("head")), model.card.name)


def applied(arrays: Mapping[str, np.ndarray], name: str) -> Callable[[np.ndarray], Seen]:
    """The arrays of a head, of a model so called, as `head_of` gives it. Raises ModelError."""
    try:
        count = sum(each.startswith("weight") for each in arrays)
        layers = [(arrays[f"weight{at}"], arrays[f"bias{at}"]) for at in range(count)]
        mean, std = arrays["mean"], arrays["std"]
    except KeyError as error:
        raise ModelError(f"the model {name}: its head has no {error.args[0]}") from error

    def look(vectors: np.ndarray) -> Seen:
        vectors = np.asarray(vectors, np.float32)
        if vectors.shape[1] != len(mean):
            raise ModelError(f"the model {name} takes vectors of {len(mean)} numbers, and was given {vectors.shape[1]}")
        features = np.where(np.isfinite(vectors), (vectors - mean) / std, 0).astype(np.float32)
        made = features
        for at, (weight, bias) in enumerate(layers):
            made = made @ weight + bias
            if at + 1 < len(layers):
                made = np.maximum(made, 0)
        return Seen(made.astype(np.float32), features)

    return look


def encoder_of(model: Model) -> Model:
    """The model whose embedding a head goes by. Raises ModelError where it is not on this machine."""
    head = model.card.head
    assert head is not None
    return encoder_by(head.encoder, head.sha256, f"the model {model.card.name}")


def encoder_by(named: str, sha256: str, who: str) -> Model:
    """The model of that hash among those that ship or are in the store. Raises ModelError, of `who` needs it."""
    for folder in [*store.built_in().values(), *store.folders()]:
        found = read_model(folder)
        if found.card.task == "embed" and network_sha(found) == sha256:
            return found
    raise ModelError(
        f"{who} goes by the embedding of {named!r} (sha256 {sha256[:12]}…), which is not on this machine: pull or "
        "import that, or train again on an encoder that is here"
    )


def network_sha(model: Model) -> str:
    """sha256 of the file by which a model's embedding is known."""
    files = model.card.files
    return files["network" if "network" in files else "weights"].sha256


# ---------------------------------------------------------------- images


def looker(model: Model, *, engine: str = "auto", precision: str = "auto") -> Callable[[Sequence[Image]], Seen]:
    """A classifier as a function of uint8 images; of a head, by its encoder. Raises ModelError, SettingError."""
    if model.card.head is not None:
        if model.card.head.columns:
            raise ModelError(
                f"the model {model.card.name} goes by {', '.join(model.card.head.columns)} as well, which are columns "
                "of a collection: use it there, in a step classify"
            )
        look, embed = head_of(model), embedder(encoder_of(model), engine=engine, precision=precision)
        return lambda images: look(embed(images))
    return network_of(model, engine=engine, precision=precision, threads=os.cpu_count())


def network_of(
    model: Model, *, engine: str = "auto", precision: str = "auto", threads: int | None = None
) -> Callable[[Sequence[Image]], Seen]:
    """A classifier's network as a function of uint8 images. threads: of a call; one unless given, since a pass makes as
    many calls at once as there are cores."""
    spec, outputs = model.card.input, model.card.outputs
    wanted = tuple(outputs[name].tensors[0] for name in ("logits", "embedding") if name in outputs)
    run = engines.network(model, engine=engine, precision=precision, threads=threads, wanted=wanted)

    def look(images: Sequence[Image]) -> Seen:
        made: list[Seen] = []
        for at in range(0, len(images), BATCH):
            batch, _ = prepare(list(images[at : at + BATCH]), spec)
            given = run(batch)
            logits = given[wanted[0]].astype(np.float32)
            if "embedding" in outputs:
                features = engines.pooled(given[wanted[1]], outputs["embedding"].form, spec.layout)
            else:
                features = np.zeros((len(logits), 0))
            made.append(Seen(logits, features.astype(np.float32)))
        return joined(made)

    return look


def embedder(model: Model, *, engine: str = "auto", precision: str = "auto") -> Callable[[Sequence[Image]], np.ndarray]:
    """An encoder as a function of uint8 images: vectors of length 1, (n, d) float32, as the stage `embed` has them."""
    spec, output = model.card.input, model.output("embedding")
    threads = os.cpu_count()  # nothing else runs beside it
    run = engines.network(model, engine=engine, precision=precision, threads=threads, wanted=output.tensors)

    def embed(images: Sequence[Image]) -> np.ndarray:
        made: list[np.ndarray] = []
        for at in range(0, len(images), BATCH):
            batch, _ = prepare(list(images[at : at + BATCH]), spec)
            made.append(novelty.unit(engines.pooled(run(batch)[output.tensors[0]], output.form, spec.layout)))
        return np.concatenate(made)

    return embed
