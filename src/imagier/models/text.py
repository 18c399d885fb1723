"""Text to vectors, for models that know text and images alike (CLIP): both lie in one space, and cosines compare.

A text network runs in float32 whatever the images' one does: it is asked for few vectors, once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imagier.algorithms.novelty import unit
from imagier.models.model import Model
from imagier.types import ModelError

BATCH = 256
"""Texts put through the network at once."""


def tokens(model: Model, texts: Sequence[str]) -> np.ndarray:
    """Texts as the model's text network takes them: (n, length) int64.

    Longer text is cut so that its end token stays, shorter is filled up with the card's token; the tokenizer file's own
    limits do not count. Raises ModelError for a model without a text network, or with a tokenizer that cannot be read.
    """
    from tokenizers import Tokenizer

    length, pad = _told(model)
    path = model.file("tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"the model {model.card.name}: {path} is no tokenizer.json: {error}") from error
    tokenizer.enable_truncation(length)  # of the text alone: the tokens that begin and end it are kept
    tokenizer.enable_padding(length=length, pad_id=pad)
    return np.array([each.ids for each in tokenizer.encode_batch(list(texts))], np.int64).reshape(len(texts), length)


def embed_texts(model: Model, texts: Sequence[str], *, engine: str = "auto") -> np.ndarray:
    """Texts as vectors of length 1 in the space of the model's image vectors: (n, width) float32.

    Raises ModelError for a model without a text network, or one whose vectors are not of the images' width.
    """
    from imagier.models import engines

    batch = tokens(model, texts)
    output, images = model.output("text_embedding"), model.output("embedding")
    run = engines.network(model, role="text", engine=engine, precision="float32")
    if not len(batch):
        return np.zeros((0, images.width or 0), np.float32)
    parts = [run(batch[at : at + BATCH])[output.tensors[0]] for at in range(0, len(batch), BATCH)]
    vectors = np.concatenate(parts).astype(np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != images.width:
        raise ModelError(
            f"the model {model.card.name}: {output.tensors[0]} of its text network is {vectors.shape}, but its images "
            f"are vectors of {images.width} values. Pull or import the model again."
        )
    return unit(vectors)


def has_text(model: Model) -> bool:
    """Whether a model knows text."""
    return "text" in model.card.files and model.card.text is not None


def _told(model: Model) -> tuple[int, int]:
    """How many tokens the text network takes, and which fills up."""
    if not has_text(model) or model.card.text is None:
        raise ModelError(
            f"the model {model.card.name} has no text network: it knows images alone. Text needs a CLIP model, such as "
            "clip-vit-b-32 (imagier models list)."
        )
    return model.card.text.length, model.card.text.pad
