"""How fast a served collection of many items answers, how its pages feel in a browser, and in how much memory.

    python benchmarks/web.py [--items 100000]

The items' columns are drawn at random, their thumbnails are 200 drawn ones in turn; a server of its own serves them.
The browser is Debian's Chromium, which draws in software where there is no graphics card.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import shutil
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
from imagier.collection import FILES, ITEMS, Collection, Receipt, State

PAGE = 60
JUMP = """async share => {
  const grid = document.querySelector(".grid");
  grid.scrollTop = share * grid.scrollHeight;
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
"""Elsewhere in the gallery, and until that is drawn, pictures or not."""


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
                look(f"http://127.0.0.1:{found[1]}", psutil.Process(process.pid))
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
        steps = tuple({"stage": each, "settings": {}, "name": each} for each in ("reduce", "cluster"))
        collection.put_in_force(State(steps=steps), "items-drawn.lance")
        groups = [
            {"group": group, "size": count // 13, "cohesion": 0.5, "quality": "high", "central": ids[group : group + 4]}
            for group in range(-1, 12)
        ]
        for stage, writes, facts in (
            ("reduce", ["x", "y", "z"], {"method": "umap"}),
            ("cluster", ["group", "quality"], {"method": "kmeans", "groups": groups}),
        ):
            collection.save_receipt(
                Receipt(stage, stage, 1, {}, "key", [], writes, "float32", [], count, 0, 0.0, "2026-01-01", facts)
            )
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


def look(address: str, process: psutil.Process) -> None:
    """The gallery and the map, until what is asked for is on the screen."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    tiles = "[...document.querySelectorAll('.tile img')]"
    seen = f"() => !document.querySelector('.tile.waits') && {tiles}.length > 20"
    seen += f" && {tiles}.every(each => each.complete && each.naturalWidth)"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = chromium.new_page(viewport={"width": 1360, "height": 860})
        for when in ("in a browser just started", "again"):
            start = time.perf_counter()
            page.goto(f"{address}/")
            page.wait_for_function(seen)
            print(f"gallery: all pictures of the first screen {when}: {time.perf_counter() - start:.2f} s")
        times = []
        for share in np.random.default_rng(2).uniform(0, 1, 15):
            start = time.perf_counter()
            page.evaluate(JUMP, share)
            page.wait_for_function(seen)
            times.append(time.perf_counter() - start)
        print(
            f"gallery: a screen elsewhere, pictures and all: {np.median(times):.2f} s, the slowest {max(times):.2f} s"
        )
        start = time.perf_counter()
        page.goto(f"{address}/map")
        page.get_by_text("items.", exact=False).last.wait_for()
        page.wait_for_function("() => /^UMAP.*items/.test(document.querySelector('.mapped-note').textContent)")
        print(f"map: drawn after {time.perf_counter() - start:.2f} s")
        page.get_by_role("button", name="3-D").click()
        page.get_by_role("button", name="Turn").click()
        box = page.locator("canvas").bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.evaluate(
            "() => { window.frames_ = 0; const tick = () => { frames_++; requestAnimationFrame(tick) }; tick() }"
        )
        page.mouse.move(*middle)
        page.mouse.down()
        before, start = page.evaluate("frames_"), time.perf_counter()
        while time.perf_counter() - start < 3:
            page.mouse.move(middle[0] + 200 * np.sin(time.perf_counter()), middle[1])
        rate = (page.evaluate("frames_") - before) / (time.perf_counter() - start)
        page.mouse.up()
        print(f"map: {rate:.0f} frames a second while it is turned")
        page.get_by_role("button", name="Lasso").click()
        start = time.perf_counter()
        page.mouse.move(middle[0] - 150, middle[1] - 150)
        page.mouse.down()
        for dx, dy in ((150, -150), (150, 150), (-150, 150)):
            page.mouse.move(middle[0] + dx, middle[1] + dy)
        page.mouse.up()
        page.locator(".mapped-side .tile img").first.wait_for()
        chosen = page.locator(".mapped-side h2").first.inner_text()
        print(f"map: a lasso around {chosen}: {time.perf_counter() - start:.2f} s until the first are beside it")
        chromium.close()
    print(f"memory: {process.memory_info().rss / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
