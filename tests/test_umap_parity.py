"""The UMAP here is umap-learn's: the same graph to the number, and maps that keep neighbours as well as its own."""

import json
import subprocess
import sys

import pytest

BESIDE = """
import json, warnings
warnings.simplefilter("ignore")  # umap-learn's, not ours
import numpy as np, umap
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from imagier.algorithms import reduction
from imagier.algorithms import umap as ours
from imagier.algorithms.neighbours import nearest

points = load_digits().data[:600].astype(np.float32)
k = 15
index, distances = nearest(points, points, k)
theirs, *_ = umap.umap_.fuzzy_simplicial_set(
    points, k, np.random.RandomState(0), "euclidean", knn_indices=index, knn_dists=distances
)
own = np.flatnonzero(index[:, 0] == np.arange(len(points)))
graph = ours.fuzzy_graph(index[:, 1:], distances[:, 1:])
maps = {
    "theirs": umap.UMAP(n_components=3, random_state=0, n_jobs=1).fit_transform(points),
    "ours": reduction.umap_map(points, dimensions=3, neighbours=k, min_distance=0.1, seed=0).places,
}
print(json.dumps({
    "first is itself": len(own) / len(points),
    "graph": float(abs(theirs - graph).max()),
    **{name: float(trustworthiness(points, places, n_neighbors=10)) for name, places in maps.items()},
}))
"""


@pytest.mark.slow
def test_the_graph_is_umap_learns_and_the_map_is_as_trustworthy():
    result = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["first is itself"] == 1
    assert found["graph"] < 1e-4
    assert found["ours"] > found["theirs"] - 0.005
