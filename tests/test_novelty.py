"""What is of none of the known classes is told by each score, and refused at the rate that one names."""

from __future__ import annotations

import numpy as np
import pytest

from imagier.algorithms import novelty
from imagier.algorithms.judging import auroc
from imagier.models.classifying import Confidence, Seen, arrays_of, packed
from imagier.types import ModelError


def clouds(n: int, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points around each place, and which."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(places)), n)
    return (places[classes] + rng.normal(0, 0.3, (len(classes), places.shape[1]))).astype(np.float32), classes


PLACES = np.eye(8)[:5] * 3
LOGITS = PLACES[:4].T


@pytest.mark.parametrize("method", sorted(novelty.METHODS))
def test_a_class_that_was_never_seen_is_stranger(method):
    learnt, classes = clouds(60, PLACES[:4], 0)
    held, which = clouds(60, PLACES, 1)
    distribution = novelty.Distribution(method, novelty.METHODS[method].fit(learnt, classes, 0))
    strange = distribution.strangeness(held, held @ LOGITS)
    assert strange.shape == (300,)
    assert auroc(strange, which == 4) > 0.97


def test_the_better_method_is_chosen_by_classes_left_out():
    learnt, classes = clouds(60, PLACES[:4], 0)
    held, which = clouds(30, PLACES[:4], 1)
    useless = np.random.default_rng(2).normal(size=(120, 4))
    chosen, found = novelty.choose(learnt, classes, held, which, useless)
    assert chosen.method != "energy"
    assert found[chosen.method] == max(found.values())
    assert found["energy"] < 0.7
    flat = np.random.default_rng(3).normal(size=(240, 8)).astype(np.float32)
    chosen, _ = novelty.choose(flat, classes, flat[:120], which, held @ LOGITS)
    assert chosen.method == "energy"


def test_fewer_items_than_dimensions_are_enough():
    places = np.eye(64)[:3] * 3
    learnt, classes = clouds(5, places, 0)
    for method in novelty.METHODS.values():
        strange = method.score(method.fit(learnt, classes, 0), learnt, np.zeros((15, 3)))
        assert np.isfinite(strange).all()


def test_as_many_known_images_are_refused_as_was_said():
    rng = np.random.default_rng(0)
    known, new = rng.normal(size=5000), rng.normal(size=5000)
    for rate in (0.01, 0.05, 0.2):
        assert (novelty.typical(new, known) <= rate).mean() == pytest.approx(rate, abs=0.015)
    p = novelty.typical(np.array([-99.0, 99.0]), known)
    assert p[0] == 1
    assert 0 < p[1] < 0.001


def test_what_is_kept_comes_back_the_same(tmp_path):
    learnt, classes = clouds(20, PLACES[:4], 0)
    distribution, _ = novelty.choose(learnt, classes, learnt, classes, learnt @ LOGITS)
    trust = Confidence(2.0, None, distribution, np.arange(5, dtype=np.float32))
    path = tmp_path / "confidence.npz"
    path.write_bytes(trust.encoded())
    assert trust.encoded() == path.read_bytes()
    arrays = arrays_of(path)
    seen = Seen(learnt @ LOGITS, learnt)
    again = Confidence(
        2.0, None,
        novelty.Distribution(
            distribution.method,
            {name.removeprefix("novelty_"): each for name, each in arrays.items() if name != "known"},
        ),
        arrays["known"],
    )  # fmt: skip
    np.testing.assert_array_equal(trust.say(seen).typical, again.say(seen).typical)


def test_a_file_of_arrays_is_never_unpickled(tmp_path):
    path = tmp_path / "head.npz"
    np.savez(path, weight0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelError, match="holds no arrays"):
        arrays_of(path)
    np.save(path.with_suffix(".npy"), np.arange(3))
    for data in (b"nothing", b"PK\x03\x04 torn", path.with_suffix(".npy").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="holds no arrays"):
            arrays_of(path)
    assert packed({"a": np.arange(3)}) == packed({"a": np.arange(3)})
