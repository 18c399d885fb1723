"""Layers over an item's picture, and the picture enhanced: against what is stored, and what is refused."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from imagier import images, labels
from imagier.collection import Collection
from imagier.outputs.shown import PALETTE
from imagier.types import SettingError
from imagier.web import make_app
from imagier.workflows import pictures
from imagier.workflows.browse import Browser
from imagier.workflows.run import run

STEPS = [
    {"upscale": {"below": 64}},
    {"segment": {"model": "nuclei", "least": 20}},
    {"crop": {"source": "mask", "keep": "each"}},
    {"embed": {"encoder": "classical"}},
]
API = "http://127.0.0.1/api/v1"
NOISE = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Cells of 8 and of 16 bits, a small picture, ramps, one noisy plain, one that is too long to be drawn on."""
    made = tmp_path_factory.mktemp("pictures")
    cells = cell_image()
    drawn.save(made / "images" / "cells.png", cells)
    drawn.save(made / "images" / "deep.png", cells.astype(np.uint16) * 16)
    drawn.save(made / "images" / "small.png", cells[:60, :50])
    ramp = np.broadcast_to(20000 + np.arange(512) * 2, (96, 512)).astype(np.uint16)
    drawn.save(made / "images" / "ramp16.png", ramp)
    drawn.save(made / "images" / "ramp8.png", (ramp >> 8).astype(np.uint8))
    noise = np.random.default_rng(0).normal(0, NOISE, (80, 80))
    drawn.save(made / "images" / "noisy.png", (120 + noise).clip(0, 255).astype(np.uint8))
    drawn.save(made / "images" / "long.png", np.zeros((8, 4100), np.uint8))
    drawn.save(made / "images" / "colour.png", drawn.picture("disc", 0))
    return made


def cell_image() -> np.ndarray:
    """(160, 200) uint8: bright discs on dark ground."""
    y, x = np.mgrid[:160, :200]
    shown = np.full((160, 200), 12.0)
    for down, across, reach in ((40, 40, 14), (44, 68, 13), (110, 60, 17), (60, 150, 15), (125, 150, 12)):
        shown += 140 / (1 + np.exp(np.hypot(y - down, x - across) - reach))
    return (shown + np.random.default_rng(1).normal(0, 2, shown.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def collection(folder) -> Collection:
    return run(folder / "images", into=folder / "out", pipeline=STEPS, report=False, threads=2)


@pytest.fixture(scope="module")
def client(collection) -> TestClient:
    return TestClient(make_app(collection), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def ids(collection) -> dict[str, str]:
    """Name of a file -> the item that is the whole of it."""
    return {
        row["name"]: row["id"] for row in collection.read(["id", "name", "parent"]).to_pylist() if not row["parent"]
    }


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(data))).astype(int)


def numbers(client: TestClient, item: str, column: str) -> np.ndarray:
    """(h, w): what the coded layer says."""
    answer = client.get(f"{API}/items/{item}/layers/{column}", params={"coded": True})
    assert answer.status_code == 200, answer.text
    rgb = pixels(answer.content)
    assert not rgb[..., 2].any()
    return rgb[..., 0] + 256 * rgb[..., 1]


# ---------------------------------------------------------------- layers


def test_layers_are_told_with_how_many_objects_they_have(client, collection, ids):
    for row in collection.read(["id", "parent", "masks", "objects", "mask"]).to_pylist():
        told = client.get(f"{API}/items/{row['id']}/layers").json()
        if row["parent"] is None:
            assert told == [
                {"column": "masks", "title": "Objects", "kind": "labels", "objects": row["objects"], "of": "object"}
            ] or (row["objects"] == 0 and [each["objects"] for each in told] == [0])
        else:
            assert [(each["column"], each["kind"], each["objects"]) for each in told] == [("mask", "mask", 1)]
    assert client.get(f"{API}/items/{ids['cells.png']}/layers").json()[0]["objects"] >= 4


def test_coded_layers_are_the_stored_numbers_at_full_size(client, collection, ids):
    regions = 0
    for row in collection.read(["id", "name", "parent", "width", "height", "masks", "mask"]).to_pylist():
        if row["name"] == "long.png":
            continue
        if row["parent"] is None:
            made, stored = numbers(client, row["id"], "masks"), pixels(row["masks"])
            assert made.shape == (row["height"], row["width"])
            if made.shape == stored.shape:
                assert (made == stored).all()
            else:  # found in the enlarged image
                assert row["name"] in ("small.png", "colour.png")
                assert stored.shape == (3 * row["height"], 3 * row["width"])
                assert (made == stored[1::3, 1::3]).mean() > 0.9
                assert set(np.unique(made)) <= set(np.unique(stored))
        else:
            made, stored = numbers(client, row["id"], "mask"), pixels(row["mask"]) > 0
            if made.shape == stored.shape:  # else its edges lie within pixels: it was found in the enlarged image
                assert (made == stored).all()
                regions += 1
            else:
                assert row["name"] in ("small.png", "colour.png")
    assert regions >= 8


def test_overlays_are_of_the_pictures_size_and_colour_goes_by_number(client, collection):
    palette = [tuple(int(each[at : at + 2], 16) for at in (1, 3, 5)) for each in PALETTE]
    for row in collection.read(["id", "parent"]).to_pylist():
        column = "masks" if row["parent"] is None else "mask"
        for side in (1024, 40, 7):
            picture = Pillow.open(io.BytesIO(client.get(f"{API}/items/{row['id']}/image?side={side}").content))
            answer = client.get(f"{API}/items/{row['id']}/layers/{column}?side={side}")
            layer = Pillow.open(io.BytesIO(answer.content))
            assert (layer.size, layer.mode) == (picture.size, "RGBA")
            assert answer.headers["content-type"] == "image/png"
    item = next(row["id"] for row in collection.read(["id", "name"]).to_pylist() if row["name"] == "cells.png")
    rgba = pixels(client.get(f"{API}/items/{item}/layers/masks").content)
    found = numbers(client, item, "masks")
    assert (rgba[..., 3][found == 0] == 0).all()
    assert (rgba[..., 3][found > 0] > 0).all()
    for number in range(1, found.max() + 1):
        inside = rgba[found == number]
        filled, outline = (inside[inside[:, 3] == alpha][:, :3] for alpha in (pictures.FILL, pictures.OUTLINE))
        assert (filled == palette[(number - 1) % len(palette)]).all()
        assert len(filled) > 0
        assert len(outline) > 0
        assert outline.sum(1).max() < sum(palette[(number - 1) % len(palette)])


def test_the_editor_has_the_same_colours():
    source = Path(pictures.__file__).parents[1] / "web" / "static" / "easel.js"
    assert tuple(re.findall(r"#[0-9A-F]{6}", source.read_text())) == PALETTE


def test_what_a_person_corrected_is_a_layer(client, collection, ids):
    item = ids["cells.png"]
    inside = np.zeros((160, 200), np.uint8)
    inside[10:50, 20:60] = 255
    labels.correct(collection, item, images.encode(inside, "png"), "ada", "cell")
    try:
        *_, told = client.get(f"{API}/items/{item}/layers").json()
        assert told == {
            "column": "mask_user",
            "title": "Corrected by a person",
            "kind": "mask",
            "objects": 1,
            "of": "cell",
        }
        assert (numbers(client, item, "mask_user") == (inside > 0)).all()
    finally:
        labels.correct(collection, item, None, "ada")
    assert [each["column"] for each in client.get(f"{API}/items/{item}/layers").json()] == ["masks"]
    assert client.get(f"{API}/items/{item}/layers/mask_user").status_code == 404


def test_a_mask_of_a_regions_picture_is_taken(client, collection):
    regions = [row["id"] for row in collection.read(["id", "parent"]).to_pylist() if row["parent"] is not None]
    for item in regions:
        height, width = pixels(client.get(f"{API}/items/{item}/image").content).shape[:2]
        made = np.arange(height * width, dtype=np.uint16).reshape(height, width)
        labels.correct(collection, item, images.encode(made, "png"), "ada")
        assert (numbers(client, item, "mask_user") == made).all()
        labels.correct(collection, item, None, "ada")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), most=st.sampled_from([1, 20, 254, 256, 4000, 65535]), deep=st.booleans())
def test_any_numbers_come_back(client, collection, ids, seed, most, deep):
    item = ids["small.png"]
    made = np.random.default_rng(seed).integers(0, most + 1, (60, 50)).astype(np.uint16)
    given = made if deep or most > 255 else made.astype(np.uint8)
    labels.correct(collection, item, images.encode(given, "png"), "ada")
    try:
        assert (numbers(client, item, "mask_user") == made).all()
        *_, told = client.get(f"{API}/items/{item}/layers").json()
        assert told["objects"] == len(set(made[made > 0].tolist()))
    finally:
        labels.correct(collection, item, None, "ada")


def test_a_columns_bytes_that_are_no_label_image_are_no_layer(collection, tmp_path):
    copy = Collection.open(run_copy(collection, tmp_path))
    items = [row["id"] for row in copy.read(["id"]).to_pylist()]
    grey, colour = (images.encode(np.ones((4, 4, *more), np.uint8), "png") for more in ((), (3,)))
    with copy.writing():
        columns = {"id": items, "plug_marks": [grey] * len(items), "colours": [colour] * len(items)}
        columns["bytes"] = [b"no picture"] * len(items)
        copy.put_columns(copy.state.items, pa.table(columns))
    client = TestClient(make_app(copy), base_url="http://127.0.0.1")
    told = client.get(f"{API}/items/{items[0]}/layers").json()
    assert ("plug_marks", "Plug marks") in [(each["column"], each["title"]) for each in told]
    assert not {"colours", "bytes"} & {each["column"] for each in told}
    assert client.get(f"{API}/items/{items[0]}/layers/bytes").status_code == 404


def run_copy(collection: Collection, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(collection.folder, tmp_path / "copy"))


# ---------------------------------------------------------------- enhanced


def enhanced(client: TestClient, item: str, how: str, **more: int) -> np.ndarray:
    answer = client.get(f"{API}/items/{item}/enhanced", params={"how": how, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return pixels(answer.content)


def test_every_way_answers_for_whole_items_and_regions_and_no_file_changes(client, collection, folder):
    files = sorted((folder / "images").iterdir())
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    rows = collection.read(["id", "name", "parent", "width", "height"]).to_pylist()
    some = [row for row in rows if row["name"] != "long.png"]
    whole = [row for row in some if row["parent"] is None]
    assert len(whole) == 7
    for row in whole + [row for row in some if row["parent"] is not None][:6]:
        for how in pictures.METHODS:
            times = 3 if how == "upscale" else 1
            made = enhanced(client, row["id"], how)
            assert made.shape[:2] == (times * row["height"], times * row["width"])
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == before


def test_a_large_picture_is_brought_to_the_side(client, ids):
    for how in ("contrast", "clahe", "denoise"):
        assert enhanced(client, ids["long.png"], how, side=100).shape[1] == 100


def test_sixteen_bits_keep_their_levels_until_they_are_stretched(client, ids):
    def levels(name: str, how: str) -> int:
        """Greys that as many pixels have as one column: a JPEG's own faint ones are not counted."""
        counts = np.bincount(enhanced(client, ids[name], how).reshape(-1), minlength=256)
        return int((counts > 96).sum())

    for how, most in (("contrast", 150), ("clahe", 60)):
        assert levels("ramp16.png", how) > most
        assert levels("ramp16.png", how) > 3 * levels("ramp8.png", how)
    ramp = np.broadcast_to(20000 + np.arange(512) * 2, (96, 512)).astype(np.uint16)
    assert len(np.unique(pictures.METHODS["contrast"](ramp, 0.0, 65535.0))) > 250
    assert len(np.unique(pictures.METHODS["contrast"]((ramp >> 8).astype(np.uint8), 0.0, 255.0))) == 5


def test_a_page_of_one_value_stays_as_it_is():
    for dtype, value, shown in ((np.uint8, 90, 90), (np.uint16, 32768, 128), (np.float32, 0.5, 128)):
        plain = np.full((20, 30), value, dtype)
        made = pictures.METHODS["contrast"](plain, *images.levels(plain))
        assert made.dtype == np.uint8
        assert np.abs(made.astype(int) - shown).max() <= 1


def test_contrast_by_place_shows_what_is_faint(client, ids):
    own = pixels(client.get(f"{API}/items/{ids['cells.png']}/image").content)
    ground = (slice(0, 20), slice(85, 120))
    assert enhanced(client, ids["cells.png"], "clahe")[ground].std() > 1.3 * own[ground].std()


def test_colour_is_kept_by_what_changes_lightness(client, ids):
    red, green, _ = enhanced(client, ids["colour.png"], "clahe")[20:28, 20:28].reshape(-1, 3).mean(0)
    assert red > green + 60


def test_noise_is_taken_out(client, ids):
    own = pixels(client.get(f"{API}/items/{ids['noisy.png']}/image").content)
    made = enhanced(client, ids["noisy.png"], "denoise")
    assert own.std() > 0.8 * NOISE
    assert made.std() < 0.4 * own.std()
    assert abs(made.mean() - own.mean()) < 2


def test_enlarged_shows_the_same(client, ids):
    own = pixels(client.get(f"{API}/items/{ids['cells.png']}/image").content)
    made = enhanced(client, ids["cells.png"], "upscale")
    small = np.asarray(Pillow.fromarray(made.astype(np.uint8)).resize(own.shape[::-1], Pillow.Resampling.BOX), int)
    assert np.abs(small - own).mean() < 4


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("layers/masks?side=0", 422, "side"),
        ("layers/masks?side=4097", 422, "side"),
        ("layers/mask", 404, "has no layer mask"),
        ("layers/maks", 400, "Did you mean mask"),
        ("layers/thumbnail", 400, "unknown mask"),
        ("layers/embedding?coded=true", 400, "unknown mask"),
        ("enhanced", 422, "how"),
        ("enhanced?how=sharpen", 422, "contrast"),
        ("enhanced?how=clahe&side=9999", 422, "side"),
    ],
)
def test_what_cannot_be_is_said(client, ids, path, status, says):
    answer = client.get(f"{API}/items/{ids['cells.png']}/{path}")
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("path", ["layers", "layers/masks", "layers/masks?coded=true", "enhanced?how=clahe"])
def test_an_item_that_is_not_there_is_said(client, path):
    answer = client.get(f"{API}/items/none/{path}")
    assert (answer.status_code, answer.json()) == (404, {"detail": "there is no item 'none'"})


def test_what_is_too_large_is_said_with_what_to_do(client, ids):
    for path, says in (("layers/masks?coded=true", "up to 4096 a side"), ("enhanced?how=upscale", "up to 512 a side")):
        answer = client.get(f"{API}/items/{ids['long.png']}/{path}")
        assert answer.status_code == 400
        assert "4100 x 8 pixels" in answer.json()["detail"]
        assert says in answer.json()["detail"]
    assert client.get(f"{API}/items/{ids['long.png']}/layers/masks").status_code == 200


def test_a_way_that_is_none_is_said_with_the_nearest(collection, ids):
    with pytest.raises(SettingError, match="Did you mean contrast"):
        pictures.enhanced(Browser(collection), ids["cells.png"], "contrst")  # type: ignore[arg-type]


def test_a_file_that_is_gone_is_said_without_where_it_was(client, folder, ids):
    path = folder / "images" / "noisy.png"
    data = path.read_bytes()
    path.unlink()
    try:
        answer = client.get(f"{API}/items/{ids['noisy.png']}/enhanced?how=contrast")
    finally:
        path.write_bytes(data)
    assert answer.status_code == 409
    assert "gone or has changed" in answer.json()["detail"]
    assert str(folder) not in answer.text


def test_pictures_that_a_client_has_are_not_sent_again(client, ids):
    for path in ("layers/masks", "layers/masks?coded=true", "enhanced?how=contrast"):
        address = f"{API}/items/{ids['cells.png']}/{path}"
        tag = client.get(address).headers["etag"]
        again = client.get(address, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == "private, no-cache"
