"""The pages as a person uses them: a real server, a real browser, real collections."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import zipfile
from pathlib import Path

import browsing
import drawn
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import shoot
from playwright.sync_api import Browser, Page, expect

from imagier import samples
from imagier.collection import Collection
from imagier.workflows.run import run

PAGES = ["/", "/map", "/search", "/try", "/label", "/jobs", "/organise"]
PARTS = [
    {"embed": {}},
    {"reduce": {"method": "pca", "components": 8}, "as": "pca"},
    {"reduce": {"method": "umap", "on": "pca_components"}},
    {"cluster": {"k": 3, "on": "pca_components"}},
    {"duplicates": {}},
]


@pytest.fixture(scope="module")
def chromium():
    with browsing.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """36 drawn nuts, gels and lesions, mapped and grouped, and one file that is no image."""
    folder = tmp_path_factory.mktemp("pages")
    for kind in ("nuts", "gels", "lesions"):
        for seed in range(12):
            drawn.save(folder / "images" / kind / f"{kind}_{seed:02d}.png", samples.draw(kind, seed, size=96).image)
    (folder / "images" / "nuts" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    run(folder / "images", into=folder / "parts", pipeline=PARTS, report=False, threads=1)
    return folder


@pytest.fixture
def parts(made, tmp_path) -> Collection:
    """A copy of those for one test: a collection and its images move together."""
    shutil.copytree(made, tmp_path / "made")
    return Collection.open(tmp_path / "made" / "parts")


@pytest.fixture
def look(chromium: Browser, parts):
    """A page on the drawn parts."""
    with browsing.served(parts.folder) as address, browsing.page(chromium, address) as page:
        yield page


def heading(page: Page, says: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(says)


def tiles(page: Page):
    return page.get_by_role("option").filter(has=page.locator("img"))


# ---------------------------------------------------------------- gallery


def test_gallery_filters_sorts_and_opens(look):
    look.goto("/")
    heading(look, "36 items")
    expect(tiles(look).first).to_be_visible()
    side = look.get_by_role("complementary", name="Filters")
    side.get_by_role("group", name="label folder").get_by_text("gels").click()
    heading(look, "12 items of 36")
    for at in range(12):
        expect(tiles(look).nth(at)).to_have_accessible_name(re.compile("^gels/"))
    side.get_by_role("group", name="label folder").get_by_text("nuts").click()
    heading(look, "24 items of 36")
    side.get_by_role("searchbox").fill("_03")
    side.get_by_role("searchbox").press("Enter")
    heading(look, "2 items of 36")
    look.reload()  # what is looked at is in the address
    heading(look, "2 items of 36")
    look.get_by_role("button", name="Clear", exact=True).click()
    heading(look, "36 items")
    look.get_by_label("Sort by").select_option("name")
    expect(tiles(look).first).to_have_accessible_name(re.compile("gels_00"))
    look.get_by_role("button", name="smallest first").click()
    expect(tiles(look).first).to_have_accessible_name(re.compile("nuts_11"))
    shoot(look, "gallery")
    tiles(look).first.click()
    heading(look, "nuts_11.png")


def test_gallery_ranges_and_what_fits_nothing(look):
    look.goto("/")
    side = look.get_by_role("complementary", name="Filters")
    side.get_by_label("Filter by another column").select_option("distance")
    side.get_by_label("distance from").fill("1000")
    side.get_by_label("distance from").press("Enter")
    expect(look.get_by_role("heading", name="No item fits")).to_be_visible()
    shoot(look, "gallery-nothing-fits")
    side.get_by_label("distance from").fill("0")
    side.get_by_label("distance from").press("Enter")
    heading(look, re.compile("^36 items"))


def test_files_that_failed_say_why(look):
    look.goto("/")
    look.get_by_role("button", name="1 file failed").click()
    dialog = look.get_by_role("dialog")
    expect(dialog.get_by_text("broken.png")).to_be_visible()
    shoot(look, "gallery-failed")
    look.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_a_group_gets_a_name_that_stays(look):
    look.goto("/")
    look.get_by_label("Name of group 1").fill("odd ones")
    look.get_by_label("Name of group 1").press("Enter")
    expect(look.get_by_role("group", name="group", exact=True).get_by_text("odd ones")).to_be_visible()
    look.reload()
    expect(look.get_by_label("Name of group 1")).to_have_value("odd ones")
    look.get_by_role("button", name="Show odd ones").click()
    heading(look, "12 items of 36")


def test_labels_by_keyboard_and_undone(look, parts):
    look.goto("/?where=label_folder=gels&sort=name")
    heading(look, "12 items of 36")
    grid = look.get_by_role("listbox")
    grid.focus()
    for key in ("ArrowRight", " ", "ArrowRight", " ", "ArrowRight", " "):
        grid.press(key)
    bar = look.get_by_role("region", name="Selection")
    expect(bar.get_by_text("3 items selected")).to_be_visible()
    bar.get_by_label("Label", exact=True).fill("western")
    bar.get_by_role("button", name="Assign").click()
    expect(tiles(look).nth(2)).to_have_accessible_name(re.compile("labelled western"))
    shoot(look, "gallery-labelled")
    grid.focus()
    grid.press("Control+a")
    expect(bar.get_by_text("12 items selected")).to_be_visible()
    grid.press("1")  # the commonest label
    expect(bar.get_by_text("12 items labelled western")).to_be_visible()
    assert parts.read(["label_user"])["label_user"].to_pylist().count("western") == 12
    grid.press("u")
    expect(bar.get_by_text("undone: 12 items as before")).to_be_visible()
    assert parts.read(["label_user"])["label_user"].to_pylist().count("western") == 3
    grid.press("Escape")
    expect(bar.get_by_role("button", name="Clear selection")).to_have_count(0)


# ---------------------------------------------------------------- map


def around(page: Page, share: float = 0.49) -> None:
    """A lasso around the whole map, or its left part."""
    box = page.locator("canvas").bounding_box()
    assert box is not None
    left, top, right, bottom = (
        box["x"] + 4,
        box["y"] + 4,
        box["x"] + 2 * share * box["width"],
        box["y"] + box["height"] - 4,
    )
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 8)):
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


def test_lasso_label_train_predict_and_undo(look, parts):
    """What is drawn around on the map becomes a label, a head learns it, and tells it of every item."""
    look.goto("/map")
    expect(look.get_by_text("36 items.")).to_be_visible()
    bar = look.get_by_role("region", name="Selection")
    for kind in ("gels", "nuts", "lesions"):
        look.get_by_label("Colour by").select_option("label_folder")
        legend = look.get_by_role("group", name="Values of label folder")
        for other in {"gels", "nuts", "lesions"} - {kind}:
            legend.get_by_role("button", name=other).click()  # hidden: a lasso takes what is seen
        around(look)
        expect(look.get_by_role("heading", name="12 items")).to_be_visible()
        expect(tiles(look).first).to_have_accessible_name(re.compile(f"^{kind}/"))
        if kind == "nuts":
            shoot(look, "map-lasso")
        bar.get_by_label("Label", exact=True).fill(f"is {kind}")
        bar.get_by_role("button", name="Assign").click()
        expect(bar.get_by_text(f"12 items labelled is {kind}")).to_be_visible()
        for other in {"gels", "nuts", "lesions"} - {kind}:
            legend.get_by_role("button", name=other).click()
    look.goto("/label")
    look.get_by_label("Name", exact=True).fill("kinds")
    look.get_by_role("button", name="Train", exact=True).click()
    expect(
        look.get_by_role("article", name="train head kinds by label_user").get_by_text("done", exact=True)
    ).to_be_visible()
    expect(look.get_by_role("table", name="Confusion")).to_be_visible()
    look.get_by_label("Judged on").select_option("")
    expect(look.get_by_text("36 items. In brackets")).to_be_visible()
    expect(look.get_by_role("listitem").filter(has_text="Accuracy").first).to_be_visible()
    shoot(look, "label-trained")
    look.get_by_role("button", name="Put it to use").click()
    expect(look.get_by_role("article", name="classify by kinds").get_by_text("done", exact=True)).to_be_visible()
    told = parts.read(["name", "label", "label_user", "confidence"]).to_pylist()
    right = [row["label"] == f"is {row['name'].split('/')[0]}" for row in told]
    assert sum(right) >= 33, told
    look.goto(f"/?where=label={told[0]['label'].replace(' ', '%20')}")
    heading(look, re.compile(r"^1\d items of 36"))
    # A label is changed, another head learns that, and what is told changes; undone, it is told as before.
    before = {row["name"]: row["label"] for row in told}
    look.goto("/?where=label_folder=nuts")
    heading(look, "12 items of 36")
    look.get_by_role("button", name="Select all").click()
    bar.get_by_label("Label", exact=True).fill("is lesions")
    bar.get_by_role("button", name="Assign").click()
    expect(bar.get_by_text("12 items labelled is lesions")).to_be_visible()
    retrain(look, "kinds-2")
    now = {row["name"]: row["label"] for row in parts.read(["name", "label"]).to_pylist()}
    assert sum(now[name] == "is lesions" for name in now if name.startswith("nuts/")) >= 10
    assert now != before
    look.get_by_role("button", name="Undo my last").click()
    expect(look.get_by_text("undone: 12 items as before")).to_be_visible()
    retrain(look, "kinds-3")
    again = {row["name"]: row["label"] for row in parts.read(["name", "label"]).to_pylist()}
    assert sum(again[name] == before[name] for name in before) >= 34


def retrain(page: Page, name: str) -> None:
    page.goto("/label")
    expect(page.get_by_label("Model")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_label("Model")).to_have_value(name)
    page.get_by_role("button", name="Put it to use").click()
    expect(page.get_by_role("article", name=f"classify by {name}").get_by_text("done", exact=True)).to_be_visible()


def test_map_in_three_dimensions_and_by_number(look):
    look.goto("/map")
    expect(look.get_by_text("36 items.")).to_be_visible()
    look.get_by_role("button", name="3-D").click()
    look.get_by_label("Colour by").select_option("distance")
    canvas = look.locator("canvas")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+", "+"):
        canvas.press(key)
    look.get_by_role("button", name="Turn").click()
    box = canvas.bounding_box()
    look.mouse.move(box["x"] + 200, box["y"] + 200)
    look.mouse.down()
    look.mouse.move(box["x"] + 320, box["y"] + 240, steps=6)
    look.mouse.up()
    canvas.press("0")
    look.get_by_role("button", name="Lasso").click()
    around(look)
    expect(look.get_by_role("heading", name="36 items")).to_be_visible()
    shoot(look, "map-3d")


def test_a_point_shows_its_picture_and_opens(look, parts):
    look.goto("/map")
    expect(look.get_by_text("36 items.")).to_be_visible()
    rows = parts.read(["name", "x", "y"]).to_pylist()
    xs, ys = ([row[axis] for row in rows] for axis in "xy")
    lone = max(
        rows, key=lambda row: min(math.dist((row["x"], row["y"]), (o["x"], o["y"])) for o in rows if o is not row)
    )
    box = look.locator("canvas").bounding_box()
    # The whole map fits, a unit as wide as it is tall, with a rim.
    scale = 0.92 * min(box["width"] / (max(xs) - min(xs)), box["height"] / (max(ys) - min(ys)))
    x = box["x"] + box["width"] / 2 + (lone["x"] - (max(xs) + min(xs)) / 2) * scale
    y = box["y"] + box["height"] / 2 - (lone["y"] - (max(ys) + min(ys)) / 2) * scale
    look.mouse.move(x - 3, y)
    look.mouse.move(x, y)
    expect(look.locator(".mapped-card b")).to_have_text(lone["name"])
    expect(look.locator(".mapped-card img")).to_be_visible()
    look.mouse.click(x, y)
    heading(look, lone["name"].split("/")[-1])


# ---------------------------------------------------------------- item


def test_an_item_is_seen_beside_its_views(look):
    look.goto("/?where=name~nuts_03")
    tiles(look).first.click()
    heading(look, "nuts_03.png")
    nearest = look.get_by_role("region", name="Most like it").get_by_role("link")
    expect(nearest).to_have_count(12)
    look.get_by_label("Beside it").select_option("clahe")
    slider = look.get_by_role("slider", name="How much of each picture")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "54")
    expect(look.get_by_text("local contrast (CLAHE) …")).to_have_count(0)
    look.get_by_label("Label", exact=True).fill("hexagonal")
    look.get_by_role("button", name="Save").click()
    expect(look.get_by_text("Saved as hexagonal")).to_be_visible()
    look.get_by_role("region", name="Provenance").get_by_text("cluster").first.click()
    expect(look.get_by_role("region", name="Provenance").get_by_role("cell", name="kmeans")).to_be_visible()
    shoot(look, "item")
    nearest.first.click()
    expect(look.get_by_role("heading", level=1)).not_to_have_text("nuts_03.png")


# ---------------------------------------------------------------- search


def test_search_by_an_image_and_by_more_like_this(look, parts):
    look.goto("/search")
    sent = parts.folder.parent / "images" / "gels" / "gels_05.png"
    with look.expect_file_chooser() as chosen:
        look.get_by_role("button", name="Choose a file").click()
    chosen.value.set_files(sent)
    expect(look.get_by_role("heading", name=re.compile("hits of 36 items for gels_05.png"))).to_be_visible()
    first = look.get_by_role("figure").first
    expect(first).to_contain_text("gels_05.png")
    expect(first).to_contain_text("1.00")
    shoot(look, "search")
    look.get_by_role("button", name="More like this").nth(3).click()
    expect(look.get_by_role("heading", name=re.compile("hits of 36 items for gels_05.png"))).to_have_count(0)
    expect(look.get_by_role("heading", name=re.compile("hits of 36 items for gels"))).to_be_visible()


def test_search_in_words_says_what_it_needs(look):
    look.goto("/search")
    look.get_by_role("searchbox").fill("a red car")
    look.get_by_role("button", name="Search", exact=True).click()
    expect(look.get_by_role("alert")).to_contain_text("CLIP")


# ---------------------------------------------------------------- jobs, folders


def test_a_job_is_seen_stopped_gone_on_with_and_outlives_the_page(chromium, tmp_path):
    images = tmp_path / "images"
    drawn.save(images / "0.png", samples.draw("cells", 0, size=384).image)
    steps = [{"denoise": {}}, {"segment": {"model": "nuclei", "split": True}}, {"embed": {"encoder": "classical"}}]
    collection = run(images, into=tmp_path / "cells", pipeline=steps, report=False, threads=1)
    for seed in range(1, 120):
        drawn.save(images / f"{seed}.png", samples.draw("cells", seed, size=384).image)
    with browsing.served(collection.folder) as address, browsing.page(chromium, address) as page:
        page.goto("/jobs")
        expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        page.get_by_role("button", name="Start").click()
        job = page.get_by_role("article", name="run")
        expect(job.get_by_text("at work")).to_be_visible()
        page.reload()
        expect(job.get_by_text(re.compile("of 1(19|20)"))).to_be_visible()
        shoot(page, "jobs-at-work")
        job.get_by_role("button", name="Stop").click()
        expect(job.get_by_text("stopped", exact=True)).to_be_visible()
        assert len(Collection.open(collection.folder)) < 120
    with browsing.served(collection.folder) as address, browsing.page(chromium, address) as page:
        page.goto("/jobs")
        job = page.get_by_role("article", name="run")
        job.get_by_role("button", name="Go on").click()
        expect(job.get_by_text("done", exact=True)).to_be_visible(timeout=240_000)
        job.get_by_role("button", name="More").click()
        expect(job.get_by_text("results:")).to_be_visible()
        shoot(page, "jobs-done")
        page.goto("/")
        heading(page, "120 items")


def test_folders_are_planned_made_and_taken_back(look, parts):
    look.goto("/organise")
    look.get_by_label("A folder for each").select_option("label_folder")
    look.get_by_role("button", name="Plan", exact=True).click()
    expect(look.get_by_role("heading", name="36 files into 3 folders")).to_be_visible()
    look.get_by_role("listitem").filter(has_text="gels").locator("summary").click()
    expect(look.get_by_role("listitem").filter(has_text="gels").get_by_role("link")).to_have_count(8)
    shoot(look, "organise-plan")
    assert not (parts.folder / "organised").exists()
    look.get_by_role("button", name="Do it").click()
    expect(look.get_by_text("36 files laid out now.")).to_be_visible()
    assert len(list((parts.folder / "organised" / "gels").iterdir())) == 12
    shoot(look, "organise-done")
    look.get_by_role("button", name="Take all back").click()
    expect(look.get_by_text("laid out now")).to_have_count(0)
    assert not (parts.folder / "organised" / "gels").exists()


# ---------------------------------------------------------------- one's own images


def test_ones_own_images_are_tried_kept_and_gone(chromium, parts, tmp_path):
    new = drawn.save(tmp_path / "new" / "mine.png", samples.draw("gels", 77, size=96).image)
    bad = tmp_path / "new" / "page.html"
    bad.write_text("<script>alert(1)</script>")
    with browsing.served(parts.folder) as address, browsing.page(chromium, address) as page:
        page.goto("/try")
        give(page, new, bad)
        expect(page.get_by_role("heading", name="2 images · 1 could not be used")).to_be_visible()
        expect(page.get_by_role("article").filter(has_text="page.html").get_by_role("alert")).to_be_visible()
        shoot(page, "try")
        page.get_by_role("button", name="Add to the collection").click()
        expect(page.get_by_text("They are the collection's now")).to_be_visible()
        page.get_by_role("link", name="a job").click()
        expect(page.get_by_role("article").get_by_text("done", exact=True)).to_be_visible()
        page.goto("/?where=name~mine")
        heading(page, "1 item of 37")
        page.goto("/try")
        page.get_by_role("button", name="Leave no trace").click()
        expect(page.get_by_role("heading", name="2 images")).to_have_count(0)
        shoot(page, "try-gone")


def give(page: Page, *files: Path) -> None:
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Choose files").click()
    chosen.value.set_files(list(files))


def test_an_empty_collection_is_opened_for_images_to_drop(chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with browsing.served() as address, browsing.page(chromium, address) as page:
        page.goto("/")
        expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
        shoot(page, "empty")
        page.get_by_role("link", name="Try some images").click()
        give(page, drawn.save(tmp_path / "one.png", samples.draw("nuts", 3, size=96).image))
        expect(page.get_by_role("heading", name="1 image")).to_be_visible()
        page.goto("/map")
        expect(page.get_by_role("alert")).to_contain_text("no map")
    left = list((tmp_path / "data").rglob("collection.json"))
    assert not left  # nothing was kept: it has gone again


# ---------------------------------------------------------------- who may look, and how it looks


def test_a_token_is_asked_for_once(chromium, parts):
    with browsing.served(parts.folder, "--token", "open sesame") as address, browsing.page(chromium, address) as page:
        page.goto("/map")
        expect(page.get_by_label("Token")).to_be_visible()
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        page.get_by_label("Token").fill("open sesame")
        shoot(page, "sign-in")
        page.get_by_role("button", name="Open").click()
        heading(page, "36 items")
        expect(tiles(page).first).to_be_visible()
        kept = page.context.cookies()[0]
        assert kept["httpOnly"]
        assert kept["sameSite"] == "Strict"
        assert "sesame" not in kept["value"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_no_serious_barrier_on_any_page(chromium, parts, dark, phone):
    item = parts.read(["id", "name"]).to_pylist()[0]["id"]
    ways = [*PAGES, f"/items/{item}", f"/items/{item}/mask"]
    with (
        browsing.served(parts.folder) as address,
        browsing.page(chromium, address, dark=dark, phone=phone) as page,
    ):
        for way in ways:
            page.goto(way)
            expect(page.get_by_role("main")).to_be_visible()
            page.wait_for_timeout(1500)
            name = way.split("/")[-1] if "items" not in way else ("mask" if way.endswith("mask") else "item")
            shoot(page, f"{'phone' if phone else 'wide'}-{'dark' if dark else 'light'}-{name or 'gallery'}")
            found = Axe().run(page).response["violations"]
            grave = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not grave, json.dumps(
                [[each["id"], [node["html"][:200] for node in each["nodes"][:4]]] for each in grave], indent=1
            )
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{way} is wider than the screen by {wide} pixels"


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_an_export_is_taken_away(look, parts):
    look.goto("/jobs")
    for format, name, inside in (("csv", "items.csv", b"nuts_03.png"), ("json", "items.json", b"nuts_03.png")):
        look.get_by_role("combobox", name="What").select_option("export")
        look.get_by_role("combobox", name="Format").select_option(format)
        look.get_by_role("button", name="Start").click()
        job = look.get_by_role("article", name=f"export to {format}")
        with look.expect_download() as taken:
            job.get_by_role("link", name="Download").click()
        assert taken.value.suggested_filename == name
        assert inside in Path(taken.value.path()).read_bytes()


# ---------------------------------------------------------------- what a person might be surprised by


def test_what_is_chosen_is_what_is_seen(look):
    look.goto("/?where=label_folder=gels")
    heading(look, "12 items of 36")
    look.get_by_role("button", name="Select all").click()
    bar = look.get_by_role("region", name="Selection")
    expect(bar.get_by_text("12 items selected")).to_be_visible()
    side = look.get_by_role("complementary", name="Filters")
    side.get_by_role("group", name="label folder").get_by_text("nuts").click()
    heading(look, "24 items of 36")
    expect(bar).to_have_count(0)
    look.go_back()
    heading(look, "12 items of 36")
    expect(side.get_by_role("checkbox", name="nuts")).not_to_be_checked()


def test_an_order_that_is_gone_can_be_left(look):
    look.goto("/?sort=blah")
    expect(look.get_by_role("alert")).to_contain_text("unknown column 'blah'")
    look.get_by_role("button", name="Clear filters and order").click()
    heading(look, "36 items")


def test_a_page_outlives_its_server(chromium, parts):
    """What was typed stays, what fails is said, and it goes on when the server is there again."""
    with browsing.served(parts.folder) as address, browsing.page(chromium, address, offline=True) as page:
        page.goto("/label")
        page.get_by_label("Name", exact=True).fill("half-typed")
        page.goto("/map")
        expect(page.get_by_text("36 items.")).to_be_visible()
        page.context.set_offline(True)
        page.get_by_label("Colour by").select_option("distance")
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.wait_for_timeout(9000)  # longer than any patience of the frame's
        page.context.set_offline(False)
        page.get_by_label("Colour by").select_option("label_folder")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("group", name="Values of label folder")).to_be_visible()
        assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_a_class_of_too_few_is_said_and_the_figures_stay(look):
    look.goto("/")
    grid = look.get_by_role("listbox")
    expect(tiles(look).first).to_be_visible()
    bar = look.get_by_role("region", name="Selection")
    for kind in ("gels", "nuts", "lesions"):
        look.goto(f"/?where=label_folder={kind}")
        heading(look, "12 items of 36")
        look.get_by_role("button", name="Select all").click()
        bar.get_by_label("Label", exact=True).fill(kind)
        bar.get_by_role("button", name="Assign").click()
        expect(bar.get_by_text(f"12 items labelled {kind}")).to_be_visible()
    look.goto("/label")
    look.get_by_label("Name", exact=True).fill("kinds")
    look.get_by_role("button", name="Train", exact=True).click()
    expect(look.get_by_role("table", name="Confusion")).to_be_visible()
    look.goto("/?where=name~nuts_03")
    heading(look, "1 item of 36")
    grid.focus()
    grid.press("ArrowRight")
    grid.press(" ")
    bar.get_by_label("Label", exact=True).fill("lonely | odd")
    bar.get_by_role("button", name="Assign").click()
    expect(bar.get_by_text("1 item labelled lonely | odd")).to_be_visible()
    look.goto("/label")
    look.get_by_label("Judged on").select_option("")
    expect(look.get_by_text("35 items, and 1 left out whose label it does not know")).to_be_visible()
    look.get_by_role("button", name="Train", exact=True).click()
    expect(look.get_by_role("alert")).to_contain_text("the class 'lonely | odd' has 1 images: 4 or more are needed")
    look.get_by_role("link", name="lonely | odd").click()
    heading(look, "1 item of 36")


def test_a_page_that_is_not_there_leads_back(look):
    look.goto("/nowhere")
    look.get_by_role("link", name="To the gallery").click()
    heading(look, "36 items")
