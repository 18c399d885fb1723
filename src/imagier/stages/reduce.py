"""reduce: the items' vectors become a few numbers each: principal components, or a map that keeps neighbours together.

A vector column is taken as it is. Number columns, which have units of their own, are each brought to mean 0 and
standard deviation 1 first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from imagier.stages._choice import chosen
from imagier.stages._points import named, points_of
from imagier.types import Columns, Fitted, SettingError, Stage, Step

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class _Reduced:
    """What a method made of points (n, d)."""

    places: np.ndarray
    """(n, dimensions) float32, or fewer columns where the points have no more."""
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    components: np.ndarray | None = None
    """(n, m) float32: PCA's own column, m at most the `components` asked for."""


def pca(points: np.ndarray, dimensions: int, seed: int, *, components: int = 50, whiten: bool = False) -> _Reduced:
    """Principal components; `seed` changes nothing, for there is no chance in it."""
    from imagier.algorithms import reduction

    found = reduction.principal_components(points, max(components, dimensions))
    axes = found.axes / np.sqrt(found.variance)[:, None] if whiten else found.axes
    values = reduction.project(points, found.mean, axes)
    ratios = found.ratios[:components]
    facts = {
        "components": len(ratios),
        "explained_variance": [float(ratio) for ratio in ratios],
        "explained_variance_total": float(ratios.sum()),
        "whiten": whiten,
    }
    return _Reduced(values[:, :dimensions], facts, {"mean": found.mean, "axes": axes}, values[:, :components])


def tsne(
    points: np.ndarray, dimensions: int, seed: int, *, perplexity: float = 30.0, exaggeration: float = 1.0
) -> _Reduced:
    """t-SNE. Perplexity is about the number of neighbours that count, and is lowered to a third of what there are."""
    from imagier.algorithms import reduction

    used = min(perplexity, (len(points) - 1) / 3)
    made = reduction.tsne_map(points, dimensions=dimensions, perplexity=used, exaggeration=exaggeration, seed=seed)
    facts = {"perplexity": used, "exaggeration": exaggeration, "kl_divergence": made.divergence}
    return _map_of(points, made.places, facts, seed)


def umap(
    points: np.ndarray, dimensions: int, seed: int, *, neighbours: int = 15, min_distance: float = 0.1
) -> _Reduced:
    """UMAP. More neighbours show the whole, fewer the detail; a smaller `min_distance` packs groups tighter."""
    from imagier.algorithms import reduction

    made = reduction.umap_map(
        points, dimensions=dimensions, neighbours=neighbours, min_distance=min_distance, seed=seed
    )
    facts = {"neighbours": made.neighbours, "min_distance": min_distance}
    return _map_of(points, made.places, facts, seed)


def _map_of(points: np.ndarray, places: np.ndarray, facts: dict[str, Any], seed: int) -> _Reduced:
    from imagier.algorithms import reduction

    trust = reduction.trustworthiness(points, places, seed=seed)
    return _Reduced(places, NO_MAP | facts | {"trustworthiness": trust}, {"points": points, "places": places})


NO_MAP: dict[str, Any] = dict.fromkeys(
    ("components", "explained_variance", "explained_variance_total", "trustworthiness")
)
"""What a map has no value of, or has none of where it is no map."""


METHODS: dict[str, Callable[..., _Reduced]] = {"pca": pca, "tsne": tsne, "umap": umap}

RANGES = {
    "components": (1, 4096),
    "perplexity": (1, 1000),
    "exaggeration": (1, 100),
    "neighbours": (2, 1000),
    "min_distance": (0, 1),
}
"""The least and the greatest value of a setting."""


def make(
    *,
    method: Literal["pca", "tsne", "umap"] = "umap",
    on: str | list[str] = "embedding",
    dimensions: Literal[2, 3] = 3,
    seed: int = 0,
    components: int | None = None,
    whiten: bool | None = None,
    perplexity: float | None = None,
    exaggeration: float | None = None,
    neighbours: int | None = None,
    min_distance: float | None = None,
) -> Step:
    """`x`, `y`, `z`: the item's place on the map, z being 0 in two dimensions; for pca also `components`, the vector.

    on: a column of vectors, or columns of numbers, which are then each brought to mean 0 and standard deviation 1.
    seed: the same one gives the same map; pca needs none.

    For pca alone: components (how many to keep: 50), whiten (each to standard deviation 1: false).
    For tsne alone: perplexity (30), exaggeration (1).
    For umap alone: neighbours (of each item, itself counted: 15), min_distance (between items on the map: 0.1).
    """
    given = {
        "components": components,
        "whiten": whiten,
        "perplexity": perplexity,
        "exaggeration": exaggeration,
        "neighbours": neighbours,
        "min_distance": min_distance,
    }
    settings = chosen(METHODS, method, given)
    for name, (least, greatest) in RANGES.items():
        if name in settings and not least <= settings[name] <= greatest:
            raise SettingError(f"reduce.{name} cannot be {settings[name]}: it takes {least} to {greatest}")
    if not 0 <= seed < 2**32:
        raise SettingError(f"reduce.seed cannot be {seed}: it takes 0 to {2**32 - 1}")
    names = named(on, "reduce")
    fields = [pa.field(axis, pa.float32()) for axis in AXES]
    if method == "pca":
        fields.append(pa.field("components", pa.list_(pa.float32(), settings["components"])))
    width = settings.get("components")
    return Step(
        reads=names,
        writes=pa.schema(fields),
        load=lambda: partial(_fit, names=names, method=method, dimensions=dimensions, seed=seed, settings=settings),
        place=partial(_place, names=names, dimensions=dimensions, width=width),
        warm=WARM.get(method),
    )


def _fit(
    columns: Columns, *, names: tuple[str, ...], method: str, dimensions: int, seed: int, settings: dict[str, Any]
) -> Fitted:
    from imagier.algorithms import reduction

    own = points_of(columns, names, "reduce")
    points = own.values
    facts = {"method": method, "on": list(names), "dimensions": dimensions, "items": len(points), "note": None}
    if method != "pca" and reduction.is_flat(points):
        few = len(points) < reduction.FEWEST
        why = f"{len(points)} items are too few for {method}" if few else "all items are copies of one"
        facts["note"] = f"{why}: laid out by principal components"
        places = _padded(pca(points, dimensions, seed).places, dimensions)
        made = _Reduced(places, NO_MAP | dict.fromkeys(settings), {"points": points, "places": places})
    else:
        made = METHODS[method](points, dimensions, seed, **settings)
    arrays = made.arrays | {"centre": own.centre, "spread": own.spread}
    return Fitted(_columns(made.places, made.components, settings.get("components")), facts | made.facts, arrays)


def _place(columns: Columns, fitted: Fitted, *, names: tuple[str, ...], dimensions: int, width: int | None) -> Fitted:
    """pca: the same projection. tsne, umap: among the places of the 5 nearest fitted items, on a copy exactly.

    The facts are those of the fitted map; `items` counts the new ones, `fitted_items` those that it was made of.
    """
    from imagier.algorithms import reduction

    kept = fitted.arrays
    points = points_of(columns, names, "reduce", (kept["centre"], kept["spread"])).values
    facts = fitted.facts | {"items": len(points), "fitted_items": fitted.facts["items"]}
    if width is None:
        return Fitted(_columns(reduction.place_among(points, kept["points"], kept["places"]), None, None), facts)
    values = reduction.project(points, kept["mean"], kept["axes"])
    return Fitted(_columns(values[:, :dimensions], values[:, :width], width), facts)


def _columns(places: np.ndarray, components: np.ndarray | None, width: int | None) -> Columns:
    places = _padded(places, len(AXES))
    made: Columns = {axis: places[:, at].copy() for at, axis in enumerate(AXES)}
    if components is not None and width is not None:
        made["components"] = _padded(components, width)
    return made


def _padded(values: np.ndarray, width: int) -> np.ndarray:
    """Values (n, m) with zeros after them: (n, width) float32."""
    padded = np.zeros((len(values), width), np.float32)
    padded[:, : values.shape[1]] = values
    return padded


def _warm_tsne() -> None:
    import openTSNE.affinity  # noqa: F401
    import sklearn.manifold  # noqa: F401


def _warm_umap() -> None:
    import scipy.optimize
    import scipy.sparse  # noqa: F401
    import sklearn.manifold  # noqa: F401

    from imagier.algorithms.umap import compiled_descent

    compiled_descent()


WARM: dict[str, Callable[[], None]] = {"tsne": _warm_tsne, "umap": _warm_umap}

REDUCE = Stage(name="reduce", version=1, over="table", make=make)
