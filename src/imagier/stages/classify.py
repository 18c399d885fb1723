"""classify: each item gets a label, and a confidence that one can act on.

By a classifier that was trained here (docs/training.md): calibrated, with the set of labels that holds the true one in
a share of images that one names, and with whether the item is like anything that the classifier knows. Or, without
training, by labels in plain words, where the embedding is a CLIP model's: an image is compared with the text
"a photo of a cat" by the cosine of their vectors (Radford et al., Learning Transferable Visual Models From Natural
Language Supervision, 2021, 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from imagier.algorithms.confidence import LEVEL, REFUSED, shares
from imagier.stages._choice import chosen
from imagier.stages._pixels import eight_bit
from imagier.types import Apply, Columns, ModelError, NameOrFile, SettingError, Stage, Step

if TYPE_CHECKING:
    from imagier.models.classifying import Seen
    from imagier.models.model import Model

Engine = Literal["auto", "openvino", "onnxruntime", "torch"]

MOST = 10
"""Labels that are told of each item with their confidences."""
SAID = pa.schema(
    [
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float32()),
        pa.field("ranked", pa.list_(pa.string())),
        pa.field("ranked_confidence", pa.list_(pa.float32())),
    ]
)
"""What every classifier tells."""

UNNAMED = (
    "classify.model must be given. A classifier is trained by: imagier train classifier --data FOLDER_PER_CLASS --into "
    "MODEL (docs/training.md); then --set classify.model=MODEL. Or the CLIP model that makes the embedding, such as "
    "--set classify.model=clip-vit-b-32, with labels in words"
)
"""What is said of a step without a model, in one message."""


def make(
    *,
    model: NameOrFile = "",
    level: float | None = None,
    refused: float | None = None,
    by_class: bool | None = None,
    labels: list[str] | None = None,
    prompts: list[str] | None = None,
    embedding: str | None = None,
    temperature: float | None = None,
    engine: Engine | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
) -> Step:
    """`label`; `confidence`: float32, its probability or share; `ranked`: the labels, most likely first, ten at most;
    `ranked_confidence`: float32, of each of those.

    model: a classifier that was trained here, a network or a head; or a CLIP model. It must be given.

    Of a classifier also `label_set`: labels of which the true one is one, in `level` of images; `known`: whether the
    item is like what the classifier has learnt from; `typical`: float32, the share of known images at least as strange;
    and `recommendation`, where the model has one for each label. A head reads the embedding and no image.

    level: 0.9, unless given. refused: of known images, the share that may be taken for unknown; 0.05, unless given.
    by_class: sets cover the true label in `level` of each class's images, and not of all together.
    precision: what a network computes in. engine: what runs it.

    Of a CLIP model the confidence is a share of the softmax over the labels that were given. It is no calibrated
    probability: it says which of these labels fits best, and how clearly, but the item may be none of them, and one
    label more changes every number.

    labels: two or more, as one would write them in a sentence.
    prompts: sentences with {} for the label. A label's vector is the mean of theirs, each of length 1.
    temperature: what cosines are multiplied with before the softmax; the model's own (100 for CLIP) unless given.

    embedding: the column of vectors that a head, or a CLIP model, reads.
    """
    from imagier.models.store import get

    if not model:
        raise SettingError(UNNAMED)
    found = get(model)
    given: dict[str, object] = {"level": level, "refused": refused, "by_class": by_class, "precision": precision}
    given |= {"labels": labels, "prompts": prompts, "embedding": embedding, "temperature": temperature}
    given["engine"] = engine
    method = "words"
    if found.card.task == "classify":
        method = "network" if found.card.head is None else "head"
    elif found.card.task != "embed":
        raise SettingError(f"classify.model cannot be {model!r}: it is there to {found.card.task}")
    return METHODS[method](found, **chosen(METHODS, method, given))


# ---------------------------------------------------------------- classifiers


def _head(
    model: Model,
    *,
    level: float = LEVEL,
    refused: float = REFUSED,
    by_class: bool = False,
    embedding: str = "embedding",
) -> Step:
    from imagier.algorithms.novelty import unit
    from imagier.models.classifying import check, confidence_of, head_of

    check(level, refused)
    confidence_of(model).check(refused)
    head = model.card.head
    assert head is not None
    columns = (embedding, *head.columns)

    def load() -> Apply:
        look = head_of(model)

        def see(columns: Columns) -> Seen:
            vectors = unit(np.asarray(columns[embedding], np.float32))
            beside = [np.asarray(columns[name], np.float32)[:, None] for name in head.columns]
            return look(np.concatenate([vectors, *beside], axis=1))

        return _telling(model, see, level, refused, by_class)

    return Step(
        reads=columns,
        writes=_schema(model),
        load=load,
        weights=model.keys,
        needs={embedding: head.sha256},
        pixels=1,  # it sees no image: the decoder need not go to full size for it
    )


def _network(
    model: Model,
    *,
    level: float = LEVEL,
    refused: float = REFUSED,
    by_class: bool = False,
    engine: str = "auto",
    precision: str = "auto",
) -> Step:
    from imagier.models import engines
    from imagier.models.classifying import check, confidence_of, network_of
    from imagier.models.preprocess import short_side

    check(level, refused)
    confidence_of(model).check(refused)
    choice = engines.choose(model, engine, precision)

    def load() -> Apply:
        look = network_of(model, engine=choice.engine, precision=choice.precision)
        return _telling(model, lambda columns: look(eight_bit(columns)), level, refused, by_class)

    return Step(
        reads=("image", "black", "white"),
        writes=_schema(model),
        load=load,
        weights=model.keys,
        precision=choice.precision,
        pixels=short_side(model.card.input),
    )


def _schema(model: Model) -> pa.Schema:
    """What is written: what the model has nothing to tell by is no column."""
    fields = list(SAID)
    if "confidence" in model.card.files:
        fields.append(pa.field("label_set", pa.list_(pa.string())))
    if model.card.novelty is not None:
        fields += [pa.field("known", pa.bool_()), pa.field("typical", pa.float32())]
    if "about" in model.card.files:
        fields.append(pa.field("recommendation", pa.string()))
    return pa.schema(fields)


def _telling(model: Model, see: Callable[[Columns], Seen], level: float, refused: float, by_class: bool) -> Apply:
    from imagier.models import about
    from imagier.models.classifying import confidence_of

    trust, texts, names = confidence_of(model), about.of_model(model), model.card.labels

    def apply(columns: Columns) -> Columns:
        said = trust.say(see(columns), level, refused, by_class)
        made: dict[str, Any] = _ranked(said.shares, names)
        if said.sets is not None:
            ranked = np.argsort(-said.shares, axis=1, kind="stable")
            made["label_set"] = [
                [names[at] for at in order if inside[at]] for order, inside in zip(ranked, said.sets, strict=True)
            ]
        if said.known is not None and said.typical is not None:
            made |= {"known": said.known, "typical": said.typical.astype(np.float32)}
        if texts is not None:
            made["recommendation"] = [texts.recommendation(label) for label in made["label"]]
        return made

    return apply


def _ranked(given: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The columns SAID, of the labels' probabilities or shares (n, labels)."""
    order = np.argsort(-given, axis=1, kind="stable")[:, :MOST]
    top = np.take_along_axis(given, order, axis=1).astype(np.float32)
    return {
        "label": [names[row[0]] for row in order],
        "confidence": np.ascontiguousarray(top[:, 0]),
        "ranked": [[names[at] for at in row] for row in order],
        "ranked_confidence": list(top),
    }


# ---------------------------------------------------------------- words


def _words(
    clip: Model,
    *,
    labels: list[str] = [],  # noqa: B006 - read only; a list is what YAML gives
    prompts: list[str] = ["a photo of a {}."],  # noqa: B006
    embedding: str = "embedding",
    temperature: float | None = None,
    engine: str = "auto",
) -> Step:
    from imagier.models import engines
    from imagier.models.classifying import network_sha
    from imagier.models.text import has_text

    names = _labels(labels)
    if not prompts or not all("{}" in prompt for prompt in prompts):
        raise SettingError(f"classify.prompts cannot be {prompts}: it takes sentences with {{}} for the label")
    if not has_text(clip):
        raise ModelError(
            f"classify.model cannot be {clip.card.name!r}: it knows images alone. Labels in words need a CLIP model, "
            "such as clip-vit-b-32, in embed and here."
        )
    scale = _scale(clip, temperature)
    choice = engines.choose(clip, engine, "float32", role="text")

    def load() -> Apply:
        texts = label_vectors(clip, names, prompts, choice.engine)

        def apply(columns: Columns) -> Columns:
            return _ranked(shares(scale * _cosines(columns[embedding], texts)), names)

        return apply

    return Step(
        reads=(embedding,),
        writes=SAID,
        load=load,
        weights=clip.keys,
        needs={embedding: network_sha(clip)},
        precision=choice.precision,
        pixels=1,  # it sees no image: the decoder need not go to full size for it
    )


METHODS: dict[str, Callable[..., Step]] = {"head": _head, "network": _network, "words": _words}


def _labels(labels: list[str]) -> list[str]:
    if not labels:
        raise SettingError("classify.labels must be given: two or more, such as --set 'classify.labels=[cat, dog]'")
    names = [label.strip() for label in labels]
    if len(names) < 2 or not all(names):
        raise SettingError(f"classify.labels cannot be {labels}: it takes two labels or more, none of them empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"classify.labels names {twice[0]!r} twice")
    return names


def _scale(model: Model, temperature: float | None) -> float:
    """What cosines are multiplied with. Raises SettingError where it is not above 0, or nobody says it."""
    assert model.card.text is not None
    scale = model.card.text.temperature if temperature is None else temperature
    if scale is None:
        raise SettingError(
            f"classify.temperature must be given: the card of {model.card.name} does not say it (CLIP's own is 100)"
        )
    if scale <= 0:
        raise SettingError(f"classify.temperature cannot be {scale:g}: it takes a number above 0")
    return scale


def label_vectors(model: Model, labels: Sequence[str], prompts: Sequence[str], engine: str) -> np.ndarray:
    """A vector of length 1 per label, the mean over its prompts: (labels, width) float32."""
    from imagier.algorithms.novelty import unit
    from imagier.models.text import embed_texts

    texts = [prompt.replace("{}", label) for label in labels for prompt in prompts]
    vectors = embed_texts(model, texts, engine=engine)
    return unit(vectors.reshape(len(labels), len(prompts), -1).mean(axis=1))


def _cosines(vectors: Sequence[np.ndarray] | np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Of n vectors of any length with each text: (n, labels) float64."""
    images = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(images, axis=1, keepdims=True)
    cosines: np.ndarray = images / np.where(lengths > 0, lengths, 1) @ texts.T.astype(np.float64)
    return cosines


CLASSIFY = Stage(name="classify", version=2, over="rows", make=make)
