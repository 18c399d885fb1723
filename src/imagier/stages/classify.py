"""classify: each item gets the label that fits it best, of labels in plain words, without any training (zero-shot).

For collections whose embedding is a CLIP model's: an image is compared with the text "a photo of a cat" by the cosine
of their vectors. Radford et al., Learning Transferable Visual Models From Natural Language Supervision (2021), 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from imagier.types import Apply, Columns, ModelError, NameOrFile, SettingError, Stage, Step

if TYPE_CHECKING:
    from imagier.models.model import Model


def make(
    *,
    labels: list[str] | None = None,
    model: NameOrFile = "",
    prompts: list[str] = ["a photo of a {}."],  # noqa: B006 - read only; a list is what YAML gives
    embedding: str = "embedding",
    temperature: float | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto",
) -> Step:
    """`label`: the label whose text is nearest to the item's vector; `confidence`: float32, its share of the softmax.

    The softmax is over the labels that were given. It is no calibrated probability: it says which of these labels fits
    best, and how clearly, but the item may be none of them, and one label more changes every number.

    labels: two or more, as one would write them in a sentence; must be given.
    model: the CLIP model that made the vectors, by name or as the path of a Model folder; must be given.
    prompts: sentences with {} for the label. A label's vector is the mean of theirs, each of length 1.
    embedding: the column of vectors that is read. No image is.
    temperature: what cosines are multiplied with before the softmax; the model's own (100 for CLIP) unless given.
    engine: what runs the text network.
    """
    from imagier.models import engines
    from imagier.models.store import find
    from imagier.models.text import has_text

    names = _labels(labels)
    if not prompts or not all("{}" in prompt for prompt in prompts):
        raise SettingError(f"classify.prompts cannot be {prompts}: it takes sentences with {{}} for the label")
    if not model:
        raise SettingError(
            "classify.model must be given: the CLIP model that makes the embedding, such as "
            "--set classify.model=clip-vit-b-32"
        )
    clip = find(model, "embed")
    if not has_text(clip):
        raise ModelError(
            f"classify.model cannot be {model!r}: it knows images alone. Labels in words need a CLIP model, such as "
            "clip-vit-b-32, in embed and here."
        )
    scale = _scale(clip, temperature)
    choice = engines.choose(clip, engine, "float32", role="text")

    def load() -> Apply:
        texts = label_vectors(clip, names, prompts, choice.engine)

        def apply(columns: Columns) -> Columns:
            shares = softmax(scale * _cosines(columns[embedding], texts))
            best = shares.argmax(axis=1)
            return {"label": [names[at] for at in best], "confidence": shares.max(axis=1).astype(np.float32)}

        return apply

    files = clip.card.files
    return Step(
        reads=(embedding,),
        writes=pa.schema([pa.field("label", pa.string()), pa.field("confidence", pa.float32())]),
        load=load,
        weights=clip.keys,
        needs={embedding: files["network" if "network" in files else "weights"].sha256},
        precision=choice.precision,
        pixels=1,  # it sees no image: the decoder need not go to full size for it
    )


def _labels(labels: list[str] | None) -> list[str]:
    if labels is None:
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
    from imagier.models.text import embed_texts, unit

    texts = [prompt.replace("{}", label) for label in labels for prompt in prompts]
    vectors = embed_texts(model, texts, engine=engine)
    return unit(vectors.reshape(len(labels), len(prompts), -1).mean(axis=1))


def _cosines(vectors: Sequence[np.ndarray] | np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Of n vectors of any length with each text: (n, labels) float64."""
    images = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(images, axis=1, keepdims=True)
    cosines: np.ndarray = images / np.where(lengths > 0, lengths, 1) @ texts.T.astype(np.float64)
    return cosines


def softmax(values: np.ndarray) -> np.ndarray:
    """Each row (n, k) as shares that add up to 1."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


CLASSIFY = Stage(name="classify", version=1, over="rows", make=make)
