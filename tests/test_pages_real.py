"""The pages on real images, as a person uses them: micrographs, lesions, parts on a line, figures of papers."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections import Counter
from mimetypes import guess_type
from pathlib import Path

import browsing
import cv2
import numpy as np
import pytest
from browsing import shoot
from playwright.sync_api import Browser, Locator, Page, expect
from test_pages import around, heading, tiles

from imagier import images, labels, samples
from imagier.collection import Collection
from imagier.models import about
from imagier.models.model import read_model
from imagier.workflows import _corrected, browse
from imagier.workflows.run import run

pytestmark = pytest.mark.shared

HEARD = """() => {
    const send = window.fetch;
    window.fetch = (where, how) => {
        if (how?.method === "PUT") window.sent = how.body.arrayBuffer().then((held) => [...new Uint8Array(held)]);
        return send(where, how);
    };
}"""
"""Keeps what a page sends: of blobs the browser's driver tells nothing."""
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
NUCLEI = ("000", "005", "006", "010", "019", "022", "029", "034")


@pytest.fixture(scope="module")
def chromium():
    with browsing.browser(*CAMERA) as opened:
        yield opened


def copied(paths: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy(path, folder)
    return folder


def seen(part: Locator) -> np.ndarray:
    """What is on the screen, (h, w, 3) int16."""
    return images.decode(part.screenshot()).image[:, :, :3].astype(np.int16)


def loaded(picture: Locator) -> None:
    """Waits until a picture's own pixels are there."""
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("each => each.naturalWidth") > 0


def fetched(page: Page, picture: Locator) -> np.ndarray:
    """The pixels of a picture on the page, transparency and all, as the server gives them."""
    return cv2.imdecode(np.frombuffer(page.request.get(picture.evaluate("each => each.src")).body(), np.uint8), -1)


def dropped(page: Page, *files: tuple[str, bytes]) -> None:
    """Files let fall where they belong."""
    sent = [[name, b64encode(data).decode(), guess_type(name)[0] or ""] for name, data in files]
    held = page.evaluate_handle(
        """sent => {
            const held = new DataTransfer();
            for (const [name, data, type] of sent) {
                held.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name, { type }));
            }
            return held;
        }""",
        sent,
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": held})


def row(table: Locator, name: str) -> str:
    """What a table says of something."""
    return (
        table.get_by_role("row")
        .filter(has=table.page.get_by_role("rowheader", name=name, exact=True))
        .locator("td")
        .inner_text()
    )


def said(value: float) -> str:
    """A number as the pages say it: four digits, and all before the point."""
    whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if whole else np.format_float_positional(float(f"{value:.4g}"), trim="-")


# ---------------------------------------------------------------- cells


@pytest.fixture(scope="module")
def cells_made(shared, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    copied([shared / "data" / "nuclei" / "images" / f"{name}.png" for name in NUCLEI], folder / "images")
    run(folder / "images", into=folder / "nuclei", preset="cells", report=False, threads=2)
    return folder / "nuclei"


@pytest.fixture(scope="module")
def cells(cells_made) -> Collection:
    return Collection.open(cells_made)


@pytest.fixture(scope="module")
def at_cells(cells):
    with browsing.served(cells.folder) as address:
        yield address


def whole(collection: Collection, name: str) -> dict:
    rows = collection.read(["id", "name", "parent", "objects", "coverage"]).to_pylist()
    return next(each for each in rows if each["name"] == name and each["parent"] is None)


def test_cells_are_filtered_by_kind_and_area(chromium: Browser, cells, at_cells):
    table = cells.read(["parent", "area_px2", "name"]).to_pylist()
    areas = sorted(each["area_px2"] for each in table if each["parent"] is not None)
    with browsing.page(chromium, at_cells) as page:
        page.goto("/")
        heading(page, f"{len(table)} items")
        side = page.get_by_role("complementary", name="Filters")
        side.get_by_role("group", name="detection", exact=True).get_by_text("object").click()
        heading(page, f"{len(areas)} items of {len(table)}")
        side.get_by_label("Filter by another column").select_option("area_px2")
        side.get_by_label("area_px2 from").fill("200")
        side.get_by_label("area_px2 from").press("Enter")
        side.get_by_label("area_px2 to").fill("600")
        side.get_by_label("area_px2 to").press("Enter")
        fit = [area for area in areas if 200 <= area <= 600]
        assert 0 < len(fit) < len(areas)
        heading(page, f"{len(fit)} items of {len(table)}")
        page.get_by_label("Sort by").select_option("area_px2")
        page.get_by_role("button", name="smallest first").click()
        expect(tiles(page).first).to_have_accessible_name(re.compile(rf"area_px2 {fit[-1]:.0f}"))
        loaded(tiles(page).first.locator("img"))
        shoot(page, "real-cells-gallery")
        tiles(page).first.click()
        heading(page, re.compile("· region"))
        facts = page.get_by_role("region", name="Measures")
        assert row(facts, "area px2") == said(fit[-1])
        shoot(page, "real-cells-region")
        page.get_by_role("link", name="The whole image").click()
        heading(page, re.compile(r"^\d+\.png$"))


def test_cells_on_the_map(chromium: Browser, cells, at_cells):
    regions = sum(each is not None for each in cells.read(["parent"])["parent"].to_pylist())
    with browsing.page(chromium, at_cells) as page:
        page.goto("/map")
        expect(page.get_by_text(re.compile(r"\d+ items[.;]"))).to_be_visible()
        page.get_by_label("Colour by").select_option("area_px2")
        around(page)
        expect(page.get_by_role("heading", name=re.compile(rf"^{regions} items$"))).to_be_visible()
        loaded(tiles(page).first.locator("img"))
        shoot(page, "real-cells-map")


def test_a_mask_lies_over_its_cells(chromium: Browser, cells, at_cells):
    one = whole(cells, "006.png")
    mask = images.decode(browse.Browser(cells).mask(one["id"], "masks")).image
    with browsing.page(chromium, at_cells) as page:
        page.goto(f"/items/{one['id']}")
        heading(page, "006.png")
        group = page.get_by_role("group", name="What is laid over it")
        box = group.get_by_role("checkbox", name=re.compile("Objects"))
        expect(box).to_be_checked()
        layer = page.locator(".compare-all img[src*='/layers/']")
        loaded(layer)
        loaded(page.locator(".compare-under"))
        np.testing.assert_array_equal(fetched(page, layer)[:, :, 3] > 0, mask > 0)
        expect(layer).to_have_css("opacity", "0.45")
        regions = page.get_by_role("region", name="Regions")
        expect(regions.get_by_role("heading", name=f"{one['objects']} regions cut out of it")).to_be_visible()
        expect(tiles(page)).to_have_count(one["objects"])
        shoot(page, "real-cells-item")
        assert row(page.get_by_role("region", name="Measures"), "objects") == str(one["objects"])
        # What the layer changes of the screen is where the mask is.
        under = page.locator(".compare-under")
        with_it = seen(under)
        box.uncheck()
        expect(layer).to_have_count(0)
        without = seen(under)
        changed = np.abs(with_it - without).max(axis=2) > 5
        inside = contained(mask, *changed.shape)
        assert (changed & inside).sum() / inside.sum() > 0.9
        assert (changed & ~inside).sum() / changed.sum() < 0.1
        box.check()
        loaded(layer)
        page.get_by_label("Opacity of what is laid over it").fill("1")
        expect(layer).to_have_css("opacity", "1")
        assert np.abs(seen(under) - without)[inside].mean() > np.abs(with_it - without)[inside].mean()


def contained(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where a mask is in a room of this size that it is fitted into, in the middle: (height, width) bool."""
    scale = min(height / mask.shape[0], width / mask.shape[1])
    high, wide = (round(side * scale) for side in mask.shape)
    top, left = (height - high) // 2, (width - wide) // 2
    made = np.zeros((height, width), bool)
    fitted = cv2.resize((mask > 0).astype(np.uint8), (wide, high), interpolation=cv2.INTER_NEAREST)
    made[top : top + high, left : left + wide] = fitted > 0
    return made


class Easel:
    """The editor's picture: where a pixel of the image lies on the screen, and the mouse there."""

    def __init__(self, page: Page, width: int, height: int):
        box = page.locator("canvas").bounding_box()
        assert box is not None
        self.page = page
        self.scale = min((box["width"] - 24) / width, (box["height"] - 24) / height)
        self.left = box["x"] + (box["width"] - width * self.scale) / 2
        self.top = box["y"] + (box["height"] - height * self.scale) / 2

    def drag(self, *points: tuple[float, float]) -> None:
        """Through these pixels, x and y."""
        places = [(self.left + (x + 0.5) * self.scale, self.top + (y + 0.5) * self.scale) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for each in places[1:]:
            self.page.mouse.move(*each, steps=4)
        self.page.mouse.up()


def test_a_brushed_mask_is_a_layer_and_what_the_next_training_reads(chromium: Browser, cells_made, tmp_path):
    """From the model's own mask: a new object, one erased; saved, seen, and learnt from by a training from the page."""
    shutil.copytree(cells_made.parent, tmp_path / "c")
    cells = Collection.open(tmp_path / "c" / cells_made.name)
    one = whole(cells, "006.png")
    found = images.decode(browse.Browser(cells).mask(one["id"], "masks")).image
    height, width = found.shape
    far = cv2.distanceTransform(
        cv2.copyMakeBorder((found == 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5
    )[1:-1, 1:-1]
    y, x = (int(each) for each in np.unravel_index(far.argmax(), far.shape))
    size = Counter(found[found > 0].tolist())
    gone = min(size, key=lambda each: size[each])  # the smallest object is erased
    ys, xs = (each.tolist() for each in np.nonzero(found == gone))
    assert far.max() > 14
    with browsing.served(cells.folder) as address, browsing.page(chromium, address) as page:
        page.goto("/?where=name~.png&where=detection=&sort=name")
        heading(page, re.compile(f"^{len(NUCLEI)} items of"))
        page.get_by_role("option", name=re.compile(r"^006\.png")).click()
        heading(page, "006.png")
        page.get_by_role("link", name="Correct its mask").click()
        heading(page, "Mask of 006.png")
        expect(page.get_by_role("heading", name=f"{len(size)} objects")).to_be_visible()
        easel = Easel(page, width, height)
        page.get_by_role("button", name="New object").click()
        easel.drag((x - 6, y), (x + 6, y), (x, y + 5), (x, y - 5))
        expect(page.get_by_role("heading", name=f"{len(size) + 1} objects")).to_be_visible()
        expect(page.get_by_text("Not saved")).to_be_visible()
        page.get_by_role("button", name="Eraser").click()
        page.get_by_label("Size of the brush in pixels").fill("9")
        rubbed = [place for row_y in range(min(ys), max(ys) + 1, 3) for place in ((min(xs), row_y), (max(xs), row_y))]
        easel.drag(*rubbed)
        expect(page.get_by_role("heading", name=f"{len(size)} objects")).to_be_visible()
        shoot(page, "real-mask-brushed")
        page.evaluate(HEARD)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The next training of a segmenter from this collection reads it")).to_be_visible()
        brushed = images.decode(bytes(page.evaluate("() => window.sent"))).image
        assert brushed[y, x] == max(size) + 1
        assert gone not in brushed
        others = [each for each in size if each != gone]
        for each in others:  # all others are as they were, but for what the eraser touched
            assert (brushed == each).sum() >= 0.7 * size[each]
        page.get_by_role("link", name="← Item").click()
        layer = page.locator(".compare-all img[src*='/layers/mask_user']")
        expect(page.get_by_role("checkbox", name=re.compile("Corrected by a person"))).to_be_checked()
        loaded(layer)
        np.testing.assert_array_equal(fetched(page, layer)[:, :, 3] > 0, brushed > 0)
        shoot(page, "real-mask-corrected")
        for name in ("010.png", "019.png"):  # these are right as the model has them
            page.goto("/?where=detection=&sort=name")
            page.get_by_role("option", name=re.compile(f"^{re.escape(name)}")).click()
            heading(page, name)
            page.get_by_role("link", name="Correct its mask").click()
            heading(page, f"Mask of {name}")
            page.get_by_role("button", name="Save").click()
            expect(page.get_by_text("The next training of a segmenter from this collection reads it")).to_be_visible()
        page.goto("/label")
        expect(page.get_by_text("3 corrected masks.")).to_be_visible()
        page.get_by_role("combobox", name=re.compile("^What")).select_option("segmenter")
        page.get_by_label("Epochs").fill("1")
        page.get_by_label("Name", exact=True).fill("my-nuclei")
        page.get_by_role("button", name="Train", exact=True).click()
        job = page.get_by_role("article", name="train segmenter my-nuclei")
        expect(job.get_by_text("at work")).to_be_visible()
        shoot(page, "real-segmenter-at-work")
        expect(job.get_by_text("done", exact=True)).to_be_visible(timeout=180_000)
        expect(page.get_by_role("status")).to_contain_text("The segmenter my-nuclei is there now")
        shoot(page, "real-segmenter-trained")
        page.get_by_role("link", name="try it").click()
        expect(page.get_by_role("checkbox", name=re.compile("my-nuclei"))).to_be_visible()
    standing = labels.current(cells)[labels.MASK]
    kept = labels.mask_path(cells, standing[one["id"]].value)
    np.testing.assert_array_equal(images.decode(kept.read_bytes()).image, brushed)
    # What was learnt from: those masks by their hashes, and of the one that was brushed the truth is what was sent.
    work = cells.folder / "models" / "my-nuclei.training"
    assert json.loads((work / "labels.json").read_text()) == {item: each.value for item, each in standing.items()}
    paths, truth = _corrected.read(cells.folder).truth(work / "items")
    path = next(each for each in paths if each.stem == one["id"])
    np.testing.assert_array_equal(images.decode(path.read_bytes()).image, cells.pixels(one["id"]))
    np.testing.assert_array_equal(truth.draw[path](height, width).inside[:, :, 0], brushed > 0)
    assert read_model(cells.folder / "models" / "my-nuclei").card.labels == ("object",)


# ---------------------------------------------------------------- lesions


@pytest.fixture(scope="module")
def at_lesions(shared, lesion_models, tmp_path_factory):
    """Six lesions, run by the preset; served with the models, for others to be tried."""
    folder = tmp_path_factory.mktemp("lesions-served")
    segmenter, head = lesion_models
    paths = sorted((shared / "data" / "ph2" / "images").iterdir())[4:10]
    settings = {"segment.model": str(segmenter), "classify.model": str(head)}
    run(copied(paths, folder / "images"), into=folder / "skin", preset="lesions", settings=settings, report=False)
    with browsing.served(folder / "skin", "--preset", "lesions", "--model", segmenter, "--model", head) as address:
        yield address


def test_a_lesion_is_dropped_seen_told_and_given_out(chromium: Browser, at_lesions, shared):
    path = sorted((shared / "data" / "ph2" / "images").iterdir())[0]
    pixels = images.read(path).image
    files = [
        (path.name, path.read_bytes()),
        ("deep.tif", images.encode(pixels.astype(np.uint16) * 257, "tiff")),
        ("scan.dcm", samples.dicom(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 16)),
    ]
    with browsing.page(chromium, at_lesions) as page:
        page.goto("/try")
        expect(page.get_by_label("What for")).to_have_value("lesions")
        dropped(page, *files)
        expect(page.get_by_role("heading", name="3 images")).to_be_visible()
        notice = page.get_by_role("note").filter(has_text="Not a diagnosis")
        expect(notice.first).to_be_visible()
        shown = {}
        for name, _ in files:
            shown[name] = told(page, name)
            page.get_by_role("heading", name=name).evaluate("each => each.scrollIntoView()")
            shoot(page, f"real-lesion-{Path(name).suffix[1:]}")
        with page.expect_download() as saved:
            page.get_by_role("link", name="Download all (ZIP)").click()
        given = Path(saved.value.path()).read_bytes()
        page.get_by_role("button", name="Leave no trace").click()
        expect(page.get_by_role("heading", name="3 images")).to_have_count(0)
    with zipfile.ZipFile(io.BytesIO(given)) as packed:
        result = json.loads(packed.read("result.json"))
        rows = list(csv.DictReader(io.StringIO(packed.read("items.csv").decode())))
        masks = {Path(name).stem: packed.read(name) for name in packed.namelist() if name.startswith("masks/")}
    told_of = {each["name"]: each for each in result["images"]}
    assert result["notice"] == "Not a diagnosis."
    for name, on_screen in shown.items():
        _, lesion = told_of[name]["items"]
        assert on_screen["label"] == lesion["label"]
        assert on_screen["confidence"] == f"{100 * lesion['confidence']:.1f} %"
        assert on_screen["set"] == (", ".join(lesion["label_set"]) or "none")
        assert on_screen["do"].endswith(lesion["recommendation"])
        assert on_screen["area"] == f"{said(lesion['area_px2'])} px²"
        bars = [f"{100 * share:.1f} %" for share in lesion["ranked_confidence"]]
        titles = [about.read("skin-lesions")[0].labels[label].title for label in lesion["ranked"]]
        assert on_screen["bars"] == list(zip(titles, bars, strict=True))
        np.testing.assert_array_equal(on_screen["mask"], images.decode(masks[Path(name).stem]).image > 0)
        line = next(each for each in rows if each["id"] == lesion["id"])
        assert line["label"] == lesion["label"]
        assert line["recommendation"] == lesion["recommendation"]
        assert said(float(line["area_px2"])) == said(lesion["area_px2"])
    assert shown[path.name]["label"] == shown["deep.tif"]["label"]


def told(page: Page, name: str) -> dict:
    """What the page says of one image that was tried."""
    article = page.get_by_role("article").filter(has=page.get_by_role("heading", name=name))
    article.scroll_into_view_if_needed()
    plain, under, layer = (
        article.locator("img").nth(0),
        article.locator(".laid img").nth(0),
        article.locator(".laid img").nth(1),
    )
    for each in (plain, under, layer):
        loaded(each)
    expect(layer).to_have_css("opacity", "0.5")
    expect(article.locator("figcaption").nth(1)).to_have_text("Objects")
    what = article.get_by_role("region", name="Classification")
    told = re.fullmatch(r"(.+) (\S+) ([\d.]+ %)", what.locator(".told-big").inner_text().strip())
    title, label, confidence = told.groups()
    titles = about.read("skin-lesions")[0].labels
    assert title == titles[label].title  # in words, and the label that files bear
    article.get_by_role("region", name="Measures").get_by_role("row").last.scroll_into_view_if_needed()
    expect(layer).to_be_in_viewport()  # the picture stays beside what is told of it
    bars = what.get_by_role("list", name="Probabilities").get_by_role("listitem")
    expect(bars).to_have_count(7)
    return {
        "label": label,
        "confidence": confidence,
        "set": what.get_by_text("Prediction set").locator("strong").inner_text(),
        "do": what.locator(".told-do").inner_text(),
        "area": row(article.get_by_role("region", name="Measures"), "area"),
        "bars": [
            (bars.nth(at).locator(".bars-name").inner_text(), bars.nth(at).locator(".bars-number").inner_text())
            for at in range(7)
        ],
        "mask": fetched(page, layer)[:, :, 3] > 0,
    }


def test_a_picture_of_the_camera_is_put_through(chromium: Browser, at_lesions):
    with browsing.page(chromium, at_lesions) as page:
        page.goto("/try")
        page.get_by_role("button", name="Use the camera").click()
        video = page.get_by_label("What the camera sees")
        expect(video).to_be_visible()
        expect(video).not_to_have_js_property("videoWidth", 0)
        shoot(page, "real-camera")
        page.get_by_role("button", name="Take the picture").click()
        expect(page.get_by_role("heading", name="1 image")).to_be_visible()
        article = page.get_by_role("article").filter(has_text="camera-")
        loaded(article.locator("img").first)
        expect(article.get_by_role("alert")).to_have_count(0)
        expect(video).not_to_be_visible()
        shoot(page, "real-camera-taken")


def test_lesions_in_the_gallery_by_what_they_are(chromium: Browser, at_lesions):
    with browsing.page(chromium, at_lesions) as page:
        page.goto("/?where=detection!=&sort=-confidence")
        heading(page, re.compile(r"^\d+ items of"))
        tiles(page).first.click()
        what = page.get_by_role("region", name="Classification")
        expect(what.get_by_role("list", name="Probabilities").get_by_role("listitem")).to_have_count(7)
        loaded(page.locator(".compare-under"))
        shoot(page, "real-lesion-item")


# ---------------------------------------------------------------- inspection


@pytest.fixture(scope="module")
def line(shared, tmp_path_factory) -> tuple[Path, Path]:
    """Tiles as they come off a line, inspected; and the inspector, that has seen 40 free ones."""
    folder = tmp_path_factory.mktemp("line")
    tile = shared / "data" / "magnetic_tile" / "images"
    good = copied(sorted((tile / "free").iterdir())[:40], folder / "good")
    words = ["train", "inspector", "--good", good, "--into", folder / "tiles-inspector", "--quiet"]
    subprocess.run([sys.executable, "-m", "imagier.cli", *map(str, words)], check=True, capture_output=True)
    for kind, some in (("free", slice(50, 58)), ("break", slice(10, 17)), ("fray", slice(2, 5))):
        copied(sorted((tile / kind).iterdir())[some], folder / "line" / kind)
    settings = {"inspect.model": str(folder / "tiles-inspector")}
    run(folder / "line", into=folder / "tiles", preset="inspection", settings=settings, report=False, threads=2)
    return folder / "tiles", folder / "tiles-inspector"


def test_bad_tiles_are_found_seen_and_a_new_one_is_judged(chromium: Browser, line, shared):
    folder, model = line
    table = Collection.open(folder).read(["id", "name", "verdict", "anomaly", "parent", "defects"]).to_pylist()
    bad = [each for each in table if each["verdict"] == "bad"]
    assert len(bad) >= 4
    assert not any(each["name"].startswith("free/") for each in bad)
    with (
        browsing.served(folder, "--preset", "inspection", "--model", model) as address,
        browsing.page(chromium, address) as page,
    ):
        page.goto("/")
        heading(page, f"{len(table)} items")
        side = page.get_by_role("complementary", name="Filters")
        side.get_by_role("group", name="verdict").get_by_text("bad").click()
        heading(page, f"{len(bad)} items of {len(table)}")
        page.get_by_label("Sort by").select_option("anomaly")
        page.get_by_role("button", name="smallest first").click()
        worst = max(bad, key=lambda each: each["anomaly"])
        expect(tiles(page).first).to_have_accessible_name(re.compile(f"^{worst['name']}"))
        loaded(tiles(page).first.locator("img"))
        shoot(page, "real-tiles-gallery")
        tiles(page).first.click()
        heading(page, worst["name"].split("/")[-1])
        verdict = page.get_by_role("region", name="Inspection")
        expect(verdict.get_by_text("bad", exact=True)).to_be_visible()
        assert row(verdict, "Strangeness") == said(worst["anomaly"])
        assert row(verdict, "Places") == str(worst["defects"])
        expect(page.get_by_role("checkbox", name=re.compile("Defects"))).to_be_checked()
        layer = page.locator(".compare-all img[src*='/layers/']")
        loaded(layer)
        assert 0 < (fetched(page, layer)[:, :, 3] > 0).mean() < 0.5
        shoot(page, "real-tiles-item")
        page.get_by_role("checkbox", name="Defects").uncheck()
        page.get_by_role("checkbox", name="Heat").check()
        expect(layer).to_have_attribute("src", re.compile("heat"))
        loaded(layer)
        shoot(page, "real-tiles-heat")
        # Heat is no mask to begin with, not even where nothing else lies over a tile.
        good = next(each for each in table if each["verdict"] == "good")
        for one, objects in ((worst, worst["defects"]), (good, 0)):
            page.goto(f"/items/{one['id']}/mask")
            expect(page.get_by_role("heading", name=re.compile(rf"^{objects} objects?$"))).to_be_visible()
            expect(page.get_by_label("Start again from").locator("option").filter(has_text="Heat")).to_have_count(0)
        page.goto("/try")
        tile = shared / "data" / "magnetic_tile" / "images"
        new = [tile / "break" / "001.jpg", tile / "free" / "045.jpg"]
        dropped(page, *((f"{each.parent.name}-{each.name}", each.read_bytes()) for each in new))
        expect(page.get_by_role("heading", name="2 images")).to_be_visible()
        for each, wanted in zip(new, ("bad", "good"), strict=True):
            article = page.get_by_role("article").filter(has_text=f"{each.parent.name}-{each.name}")
            said_of = article.get_by_role("region", name="Inspection").first
            expect(said_of.get_by_text(wanted, exact=True)).to_be_visible()
        article = page.get_by_role("article").filter(has_text="break-001.jpg")
        loaded(article.locator(".laid img").nth(1))
        expect(article.get_by_text("Defects", exact=True)).to_be_visible()
        page.get_by_role("heading", name="break-001.jpg").evaluate("each => each.scrollIntoView()")
        shoot(page, "real-tiles-tried")


# ---------------------------------------------------------------- figures


@pytest.fixture(scope="module")
def figures_made(shared, tmp_path_factory) -> Path:
    """15 figures of each of four kinds, each kind in a folder."""
    folder, data = tmp_path_factory.mktemp("figures"), shared / "data" / "figures"
    kinds: dict[str, list[Path]] = {}
    for document, files in json.loads((data / "classification.json").read_text()).items():
        for name, kind in files.items():
            kinds.setdefault(kind.replace("/", " or "), []).append(data / "images" / document / name)
    for kind, paths in kinds.items():
        copied(paths[:15], folder / "images" / kind)
    settings = {"embed.encoder": "builtin"}
    run(folder / "images", into=folder / "papers", preset="parts", settings=settings, report=False, threads=2)
    return folder


@pytest.fixture(scope="module")
def at_figures(figures_made):
    with browsing.served(figures_made / "papers") as address:
        yield address


def test_groups_of_figures_are_seen_and_named(chromium: Browser, at_figures, figures_made):
    groups = Counter(Collection.open(figures_made / "papers").read(["kmeans_group"])["kmeans_group"].to_pylist())
    with browsing.page(chromium, at_figures) as page:
        page.goto("/")
        heading(page, "60 items")
        cards = page.get_by_role("region", name=re.compile("^Groups of"))
        expect(cards.get_by_role("button", name=re.compile("^Show"))).to_have_count(len(groups))
        loaded(cards.locator("img").first)
        shoot(page, "real-figures-gallery")
        page.get_by_label("Name of group 0").fill("scans")
        page.get_by_label("Name of group 0").press("Enter")
        page.get_by_role("button", name=re.compile("^Show scans")).click()
        heading(page, f"{groups[0]} items of 60")
        for at in range(min(4, groups[0])):
            loaded(tiles(page).nth(at).locator("img"))
        shoot(page, "real-figures-group")


def test_a_lasso_on_figures_and_the_grid_follows(chromium: Browser, at_figures):
    with browsing.page(chromium, at_figures) as page:
        page.goto("/map")
        expect(page.get_by_text("60 items.")).to_be_visible()
        page.get_by_label("Colour by").select_option("label_folder")
        around(page, 0.25)
        side = page.get_by_role("complementary", name="What is selected")
        head = side.get_by_role("heading", level=2)
        expect(head).to_have_text(re.compile(r"^\d+ items$"))
        few = int(head.inner_text().split()[0])
        assert 0 < few < 60
        expect(tiles(page).first).to_have_attribute("aria-setsize", str(few))
        loaded(tiles(page).first.locator("img"))
        shoot(page, "real-figures-map")
        around(page)
        expect(head).to_have_text("60 items")
        expect(tiles(page).first).to_have_attribute("aria-setsize", "60")
        legend = page.get_by_role("group", name="Values of label folder")
        for other in ("Microscopy", "Radiology", "NoneOfTheAbove"):
            legend.get_by_role("button", name=other).click()
        around(page)
        expect(head).to_have_text("15 items")
        expect(tiles(page).first).to_have_accessible_name(re.compile("^Blot or Gel/"))


def test_the_same_figure_is_found_first(chromium: Browser, at_figures, figures_made):
    path = sorted((figures_made / "images" / "Radiology").iterdir())[3]
    with browsing.page(chromium, at_figures) as page:
        page.goto("/search")
        dropped(page, (path.name, path.read_bytes()))
        expect(page.get_by_role("heading", name=re.compile(f"hits of 60 items for {path.name}"))).to_be_visible()
        first = page.get_by_role("figure").first
        expect(first).to_contain_text(path.name)
        expect(first).to_contain_text("1.00")
        expect(first.get_by_role("img")).to_have_attribute("alt", re.compile("^Radiology/"))
        loaded(first.get_by_role("img"))
        loaded(page.get_by_role("img", name="What was searched with"))
        shoot(page, "real-figures-search")


def test_figures_are_laid_out_and_taken_back(chromium: Browser, figures_made, tmp_path):
    shutil.copytree(figures_made, tmp_path / "figures")
    folder = tmp_path / "figures" / "papers"
    before = {each: each.read_bytes() for each in (tmp_path / "figures" / "images").rglob("*.png")}
    with browsing.served(folder) as address, browsing.page(chromium, address) as page:
        page.goto("/organise")
        page.get_by_label("A folder for each").select_option("label_folder")
        page.get_by_role("button", name="Plan", exact=True).click()
        expect(page.get_by_role("heading", name="60 files into 4 folders")).to_be_visible()
        first = page.get_by_role("listitem").filter(has_text="Radiology")
        first.locator("summary").click()
        loaded(first.locator("img").first)
        shoot(page, "real-figures-plan")
        page.get_by_role("button", name="Do it").click()
        expect(page.get_by_text("60 files laid out now.")).to_be_visible()
        made = sorted(each.name for each in (folder / "organised").iterdir() if each.is_dir())
        assert made == ["Blot or Gel", "Microscopy", "NoneOfTheAbove", "Radiology"]
        assert len(list((folder / "organised" / "Radiology").iterdir())) == 15
        page.get_by_role("button", name="Take all back").click()
        expect(page.get_by_text("laid out now")).to_have_count(0)
    assert not list((folder / "organised").rglob("*.png"))
    assert before == {each: each.read_bytes() for each in (tmp_path / "figures" / "images").rglob("*.png")}
