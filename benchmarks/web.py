"""How fast a served collection of many items answers, and in how much memory.

    python benchmarks/web.py [--items 100000]

The items' columns are drawn at random, their thumbnails are 200 drawn ones in turn; a server of its own serves them.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from imagier import images, samples
from imagier.collection import FILES, ITEMS, Collection, State

PAGE = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    count = parser.parse_args().items
    with tempfile.TemporaryDirectory() as folder:
        made = drawn(Path(folder) / "out", count)
        command = [sys.executable, "-m", "imagier.cli", "serve", str(made), "--port", "0"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            found = re.search(r":(\d+)/", process.stdout.readline())
            assert found is not None
            try:
                print(f"{count} items; it answers after {time.perf_counter() - start:.2f} s")
                measure(int(found[1]), count, psutil.Process(process.pid))
            finally:
                process.terminate()


def drawn(folder: Path, count: int) -> Path:
    """A collection of so many items, without its pass."""
    rng = np.random.default_rng(0)
    small = [
        images.encode(images.thumbnail(samples.draw("nuts", seed, size=176, label="nut_good").image), "jpeg", 85)
        for seed in range(200)
    ]
    ids = [hashlib.sha256(str(at).encode()).hexdigest() for at in range(count)]
    own = {
        "id": ids, "file": ids, "page": [0] * count, "parent": [None] * count, "box": [None] * count,
        "width": [256] * count, "height": [256] * count, "depth": ["uint8"] * count, "black": [0.0] * count,
        "white": [255.0] * count, "pixel_size_um": [None] * count,
        "thumbnail": [small[at % len(small)] for at in range(count)], "phash": [0] * count,
    }  # fmt: skip
    measured = {
        "group": pa.array(rng.integers(-1, 12, count), pa.int32()),
        "quality": pa.array(rng.choice(["high", "medium", "low"], count).tolist(), pa.string()),
        "verdict": pa.array(rng.choice(["good", "bad"], count, p=[0.95, 0.05]).tolist(), pa.string()),
        **{name: pa.array(rng.normal(size=count), pa.float32()) for name in ("x", "y", "z", "anomaly", "confidence")},
    }
    vectors = pa.array(rng.normal(size=count * 64).astype(np.float32))
    measured["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, 64)
    table = pa.table([pa.array(own[field.name], field.type) for field in ITEMS] + list(measured.values()),
                     names=[*ITEMS.names, *measured])  # fmt: skip
    names = [f"line{at % 40}/part_{at:06d}.png" for at in range(count)]
    files = pa.table(
        [
            [f"images/{name}" for name in names], ["images"] * count, names, [1] * count, [1] * count, ids,
            ["ok"] * count, [None] * count, [1] * count, ["key"] * count,
        ],
        schema=FILES,
    )  # fmt: skip
    collection = Collection.create(folder)
    with collection.writing():
        for at in range(0, count, 10_000):
            collection.append_items("items-drawn.lance", table.slice(at, 10_000))
        collection.put_files(files)
        collection.put_in_force(State(), "items-drawn.lance")
    return folder


def measure(port: int, count: int, process: psutil.Process) -> None:
    """Pages, filtered and sorted, at random places; their thumbnails."""
    rng = np.random.default_rng(1)
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

        def get(path: str) -> bytes:
            connection.request("GET", f"/api/v1{path}")
            answer = connection.getresponse()
            assert answer.status == 200, path
            return answer.read()

        start = time.perf_counter()
        page = json.loads(get(f"/items?limit={PAGE}"))["items"]
        print(f"first page: {time.perf_counter() - start:.2f} s")
        kinds = (
            "",
            "&sort=-anomaly",
            "&where=verdict=bad",
            "&where=group=3&sort=name",
            "&where=name~99",
            "&sort=quality,-x",
        )
        for kind in kinds:
            times = []
            for _ in range(15):
                start = time.perf_counter()
                get(f"/items?limit={PAGE}&offset={rng.integers(count // 100)}{kind}")
                times.append(time.perf_counter() - start)
            print(
                f"a page{' of ' + kind[1:] if kind else ''}: {np.median(times):.3f} s, the slowest {max(times):.3f} s"
            )
        times = []
        for each in page:
            start = time.perf_counter()
            get(f"/items/{each['id']}/thumbnail")
            times.append(time.perf_counter() - start)
        print(f"a thumbnail: {np.median(times) * 1000:.1f} ms; {PAGE} of them {sum(times):.2f} s")
    print(f"memory: {process.memory_info().rss / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
