"""search: by image, text and item, held to colours whose vectors are known and to comparing all by brute force."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
import tiny_clip
from drawn import BLUE, GREEN, RED, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.collection import ITEMS, Collection
from imagier.outputs.hits import write_hits
from imagier.types import CollectionError, ImageError, ModelError, SettingError, SourceError
from imagier.workflows import _nearest
from imagier.workflows.run import run
from imagier.workflows.search import search

SHADES = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": (200, 210, 10)}


def shade(name: str, at: int) -> np.ndarray:
    """A picture of a colour, each a little different, large enough that its JPEG is decoded at half size."""
    image = plain(SHADES[name], 96).astype(int)
    image[:, : 4 + 3 * at] += 25 * (at + 1)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Three pictures of each colour, of several formats."""
    folder = tmp_path_factory.mktemp("images")
    for name in SHADES:
        for at, suffix in enumerate(("png", "jpg", "bmp")):
            drawn.save(folder / name / f"{at}.{suffix}", shade(name, at))
    return folder


@pytest.fixture(scope="module")
def made(clip, colours, tmp_path_factory) -> Collection:
    steps = [{"embed": {"encoder": str(clip.folder)}}]
    return run(colours, into=tmp_path_factory.mktemp("out") / "c", pipeline=steps, report=False, threads=1)


def folders(result) -> list[str]:
    return [Path(path).parent.name for path in result.hits["path"].to_pylist()]


def brute(collection: Collection, query, on: str = "embedding") -> list[tuple[str, float]]:
    """Every item that has a vector, by its cosine, in float64."""
    rows = collection.read(["id", on]).drop_null()
    vectors = np.array(rows[on].to_pylist(), np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = np.asarray(query, np.float64)
    scores = vectors @ (query / np.linalg.norm(query))
    pairs = zip(rows["id"].to_pylist(), scores.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


# ---------------------------------------------------------------- by text


@pytest.mark.parametrize("name", SHADES)
def test_a_text_finds_what_it_names(made, name):
    result = search(made, text=f"a photo of a {name} car", n=3)
    assert folders(result) == [name] * 3
    truth = brute(made, tiny_clip.WORDS[name])[:3]
    assert np.allclose(result.hits["score"].to_pylist(), [score for _, score in truth], atol=1e-6)
    assert result.hits["rank"].to_pylist() == [1, 2, 3]
    assert result.query == f"the text 'a photo of a {name} car'"
    assert (result.exact, result.recall, result.items, result.note) == (True, 1.0, 12, None)


def test_text_is_refused_where_the_vectors_know_none(images, tmp_path):
    made = run(images, into=tmp_path / "out", pipeline=["embed"], report=False, threads=1)
    with pytest.raises(ModelError, match=r"made by builtin, which knows images alone.*CLIP.*embed\.encoder="):
        search(made, text="red")


def test_text_is_refused_for_a_model_of_images_alone(colours, tmp_path):
    sees = tiny_clip.write(tmp_path / "sees", text=False)
    steps = [{"embed": {"encoder": str(sees.folder)}}]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    with pytest.raises(ModelError, match="knows images alone"):
        search(made, text="red")
    assert search(made, image=colours / "red" / "0.png", n=1).hits["score"][0].as_py() == pytest.approx(1, abs=1e-6)


def test_text_is_refused_on_what_no_text_goes_through(images, tmp_path):
    steps = ["embed", {"reduce": {"method": "pca"}, "as": "pca"}]
    made = run(images, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    with pytest.raises(SettingError, match=r"made by reduce.*another column"):
        search(made, text="red", on="pca_components")


def test_an_empty_text_is_refused(made):
    with pytest.raises(SettingError, match="empty"):
        search(made, text=" ")


# ---------------------------------------------------------------- by image


@pytest.mark.parametrize("name", ["red/0.png", "green/1.jpg", "blue/2.bmp"])
def test_an_image_of_the_collection_finds_itself_first(made, colours, name):
    result = search(made, image=colours / name, n=3)
    assert result.hits["path"][0].as_py() == str(colours / name)
    assert result.hits["score"][0].as_py() == pytest.approx(1, abs=1e-6)
    assert folders(result) == [Path(name).parent.name] * 3
    assert result.query == f"the image {colours / name}"


def test_nothing_is_stored_by_a_search(made, colours):
    def there():
        return sorted((str(path), path.stat().st_mtime_ns) for path in made.folder.rglob("*") if path.is_file())

    before, version = there(), made.version
    search(made, image=colours / "red" / "0.png")
    search(made, text="red")
    search(made, like=str(colours / "red" / "0.png"))
    assert (there(), made.version) == (before, version)


def test_a_deep_image_and_another_format_serve(made, tmp_path):
    deep = drawn.save_pages(tmp_path / "deep.tif", [shade("blue", 1).astype(np.uint16) * 257])
    assert folders(search(made, image=deep, n=3)) == ["blue"] * 3
    gif = drawn.save(tmp_path / "a.gif", shade("green", 1))
    assert folders(search(made, image=gif, n=3)) == ["green"] * 3


def test_the_first_page_of_several_is_used_and_said(made, tmp_path):
    pages = drawn.save_pages(tmp_path / "p.tif", [shade("red", 0), shade("blue", 0)])
    result = search(made, image=pages, n=3)
    assert folders(result) == ["red"] * 3
    assert result.query == f"the image {pages}, page 1 of 2"


def test_files_that_cannot_be_used_are_told_with_their_path(made, tmp_path):
    with pytest.raises(SourceError, match=r"nowhere\.png cannot be read"):
        search(made, image=tmp_path / "nowhere.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    with pytest.raises(ImageError, match=r"broken\.png: "):
        search(made, image=broken)


def test_a_step_that_raises_is_told_with_the_file(images, tmp_path, monkeypatch):
    pipeline = [{"embed": {"encoder": "classical"}}]
    made = run(images, into=tmp_path / "out", pipeline=pipeline, report=False, threads=1)

    def describe(_):
        raise ValueError("no discs, please")

    monkeypatch.setattr("imagier.algorithms.classical.describe", describe)
    with pytest.raises(ImageError, match=r"disc_0\.png cannot be put through .*: ValueError: no discs"):
        search(made, image=images / "disc_0.png")


@pytest.mark.usefixtures("plugs")
def test_a_step_that_the_vectors_do_not_need_is_not_done(tmp_path):
    drawn.save(tmp_path / "images" / "a.png", plain(RED))
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=["picky", "tint"], report=False, threads=1)
    green = drawn.save(tmp_path / "green.png", plain(GREEN))  # picky would raise over it
    assert search(made, image=green, on="tint").hits.num_rows == 1


@pytest.mark.usefixtures("plugs")
def test_the_steps_before_the_vectors_are_done_to_the_query_too(tmp_path):
    drawn.save(tmp_path / "images" / "r.png", plain(RED))
    drawn.save(tmp_path / "images" / "b.png", plain(BLUE))
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=["invert", "tint"], report=False, threads=1)
    hit = search(made, image=tmp_path / "images" / "r.png", on="tint", n=1).hits.to_pylist()[0]
    assert Path(hit["path"]).name == "r.png"
    assert hit["score"] == pytest.approx(1, abs=1e-6)


def test_another_model_under_the_same_name_is_told(colours, tmp_path):
    changed = tiny_clip.write(tmp_path / "clip")
    steps = [{"embed": {"encoder": str(changed.folder)}}]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    tiny_clip.write(tmp_path / "clip", gain=(1, 0.5, 1), replace=True)
    with pytest.raises(CollectionError, match="no longer the one that made the embedding"):
        search(made, text="red")
    with pytest.raises(CollectionError, match="no longer, those that made its embedding"):
        search(made, image=colours / "red" / "0.png")
    assert search(made, like=str(colours / "red" / "0.png")).hits.num_rows == 11
    run(into=made.folder, report=False, threads=1)
    assert folders(search(made, text="red", n=3)) == ["red"] * 3


# ---------------------------------------------------------------- by item


def test_like_an_item_gives_the_nearest_others(made, colours):
    rows = made.read(["id", "path", "embedding"]).to_pylist()
    row = next(row for row in rows if row["path"] == str(colours / "blue" / "1.jpg"))
    by_id, by_prefix, by_path = (
        search(made, like=like, n=5) for like in (row["id"], row["id"][:16], colours / "blue" / "1.jpg")
    )
    truth = [(item, score) for item, score in brute(made, row["embedding"]) if item != row["id"]][:5]
    assert by_id.hits["id"].to_pylist() == [item for item, _ in truth]
    assert np.allclose(by_id.hits["score"].to_pylist(), [score for _, score in truth], atol=1e-6)
    assert by_id.hits.equals(by_prefix.hits)
    assert by_id.hits.equals(by_path.hits)
    assert by_id.query == by_path.query == f"the item {row['id']}"
    assert folders(by_id)[:2] == ["blue", "blue"]


def test_a_relative_path_is_found_too(made, colours, monkeypatch):
    monkeypatch.chdir(colours / "red")
    assert search(made, like="0.png", n=2).hits.equals(search(made, like=colours / "red" / "0.png", n=2).hits)


def test_what_is_no_item_is_told(made):
    for like in ("nowhere.png", "zzz", "", "0" * 64):
        with pytest.raises(SettingError, match="neither the id of an item"):
            search(made, like=like)


def test_a_beginning_of_several_ids_is_told(made, tmp_path):
    many = stored(tmp_path / "many", np.eye(3, dtype=np.float32))
    with pytest.raises(SettingError, match="3 items have an id that begins with 000"):
        search(many, like="000")


def test_a_file_that_failed_is_told(clip, tmp_path):
    drawn.save(tmp_path / "images" / "a.png", plain(RED))
    (tmp_path / "images" / "bad.png").write_bytes(b"no")
    steps = [{"embed": {"encoder": str(clip.folder)}}]
    made = run(tmp_path / "images", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    with pytest.raises(SettingError, match=r"bad\.png failed when it was read"):
        search(made, like=tmp_path / "images" / "bad.png")


# ---------------------------------------------------------------- regions and items without vectors


@pytest.fixture(scope="module")
def cut(clip, tmp_path_factory, plug_path):
    """Images of two halves, of which the right one is a column wider; their wholes have no vector."""
    import importlib
    import os
    import sys

    folder = tmp_path_factory.mktemp("halved")
    for at, (left, right) in enumerate((("red", "blue"), ("green", "red"), ("blue", "green"))):
        image = np.hstack([plain(SHADES[left], 32), plain(SHADES[right], 33)[:32]])
        image[::2] += np.uint8(5 * at)  # no two halves of one colour
        drawn.save(folder / "images" / f"{left}_{right}.png", image)
    before = sys.path.copy()
    sys.path[:0] = plug_path.split(os.pathsep)
    importlib.invalidate_caches()
    steps = ["halves", {"embed": {"encoder": str(clip.folder)}}]
    made = run(folder / "images", into=folder / "out", pipeline=steps, report=False, threads=1)
    yield made, folder / "images"
    sys.path[:] = before


@pytest.mark.usefixtures("plugs")
def test_regions_are_found_and_wholes_without_a_vector_are_left_out(cut):
    made, _ = cut
    result = search(made, text="red", n=50)
    assert result.items == result.hits.num_rows == 6
    first = result.hits.slice(0, 2).to_pylist()
    assert {(Path(hit["path"]).name, hit["box"][0]) for hit in first} == {("red_blue.png", 0), ("green_red.png", 32)}
    wholes = set(made.read(["id"], where="parent is null")["id"].to_pylist())
    assert {hit["parent"] for hit in result.hits.to_pylist()} == wholes


@pytest.mark.usefixtures("plugs")
def test_a_query_that_is_cut_speaks_through_its_largest_region(cut):
    made, images = cut
    result = search(made, image=images / "red_blue.png", n=2)
    assert result.query.endswith("red_blue.png (the largest of 2 regions cut out of it: 32.0, 0.0, 65.0, 32.0)")
    hit = result.hits.to_pylist()[0]
    assert (Path(hit["path"]).name, hit["box"][0]) == ("red_blue.png", 32)
    assert hit["score"] == pytest.approx(1, abs=1e-6)

    whole = search(made, like=images / "red_blue.png", n=50)
    assert "the largest of 2 regions" in whole.query
    assert whole.hits.num_rows == 5
    assert hit["id"] not in whole.hits["id"].to_pylist()
    assert whole.hits.equals(search(made, like=hit["parent"], n=50).hits)
    assert whole.hits.equals(search(made, like=hit["id"], n=50).hits)
    assert search(made, like=hit["id"]).query == f"the item {hit['id']}"


@pytest.mark.usefixtures("plugs")
def test_an_image_in_which_nothing_is_found_is_told(cut, tmp_path):
    made, _ = cut
    blue = drawn.save(tmp_path / "blue.png", plain(BLUE))  # out of a plain blue image `halves` cuts nothing
    with pytest.raises(ImageError, match=r"blue\.png: the collection's steps found nothing in it"):
        search(made, image=blue)


def test_an_item_without_a_vector_is_told(tmp_path):
    made = stored(tmp_path / "c", np.eye(3, dtype=np.float32), null=[1])
    with pytest.raises(SettingError, match="has no embedding, nor has a region of it"):
        search(made, like=f"{1:064d}")
    assert search(made, like=f"{0:064d}").hits["id"].to_pylist() == [f"{2:064d}"]


# ---------------------------------------------------------------- settings and columns


def test_one_thing_to_search_with_is_asked_for(made):
    with pytest.raises(SettingError, match="none was named"):
        search(made)
    with pytest.raises(SettingError, match="text and like were named"):
        search(made, text="red", like="a")
    with pytest.raises(SettingError, match="n cannot be 0"):
        search(made, text="red", n=0)


def test_a_column_that_holds_no_vectors_is_told(made):
    with pytest.raises(SettingError, match="'other' is not there; vectors are in: embedding"):
        search(made, text="red", on="other")
    with pytest.raises(SettingError, match="'box' holds no vectors"):
        search(made, text="red", on="box")


def test_a_collection_without_items_is_told(tmp_path):
    with pytest.raises(CollectionError, match="has no items yet"):
        search(Collection.create(tmp_path / "empty"), text="red")
    with pytest.raises(CollectionError, match="holds no collection"):
        search(tmp_path / "nowhere", text="red")


def test_several_embeddings_are_told_apart_by_their_column(clip, colours, tmp_path):
    steps = ["embed", {"embed": {"encoder": str(clip.folder)}, "as": "clip"}]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    assert folders(search(made, text="green", on="clip_embedding", n=3)) == ["green"] * 3
    for on in ("embedding", "clip_embedding"):
        result = search(made, image=colours / "red" / "1.jpg", on=on)
        assert result.hits["path"][0].as_py() == str(colours / "red" / "1.jpg")
        assert result.hits["score"][0].as_py() == pytest.approx(1, abs=1e-6)
    with pytest.raises(ModelError, match="made by builtin"):
        search(made, text="green")


def test_vectors_made_over_the_whole_table_serve_an_item_and_no_image(images, tmp_path):
    steps = ["embed", {"reduce": {"method": "pca", "components": 4}, "as": "pca"}]
    made = run(images, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    ids = made.read(["id"])["id"].to_pylist()
    assert search(made, like=ids[0], on="pca_components", n=3).hits.num_rows == 3
    with pytest.raises(SettingError, match="made over the whole table"):
        search(made, image=images / "disc_0.png", on="pca_components")


def test_vectors_of_any_length_and_of_half_precision_serve(clip, colours, tmp_path):
    steps = [{"embed": {"encoder": str(clip.folder), "normalise": False, "storage": "float16"}}]
    made = run(colours, into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    result = search(made, text="yellow", n=12)
    assert [pytest.approx(score, abs=1e-5) for _, score in brute(made, [1, 1, 0])] == result.hits["score"].to_pylist()
    assert folders(result)[:3] == ["yellow"] * 3


def test_the_result_is_json_and_stands_in_order(made):
    told = json.loads(json.dumps(search(made.folder, text="red", n=4).as_dict()))
    assert list(told) == ["query", "items", "exact", "recall", "hits"]
    assert list(told["hits"][0]) == ["rank", "score", "id", "path", "paths", "page", "parent", "box"]
    scores = [hit["score"] for hit in told["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_the_lines_for_people_say_what_was_found_and_how(made, colours, monkeypatch):
    result = search(made, text="red", n=3)
    *hits, last = result.lines()
    assert [line.split()[0] for line in hits] == ["1", "2", "3"]
    assert all(str(colours / "red") in line for line in hits)
    assert last == "like the text 'red': 3 of 12 items, all compared"
    monkeypatch.chdir(colours)
    assert result.lines()[0].split()[3].startswith("red/")
    told = replace(result, exact=False, recall=0.9876, note="slow").lines()
    assert told[-2].endswith("by an index that finds 98.8% of the 20 nearest")
    assert told[-1] == "slow"


@pytest.mark.usefixtures("plugs")
def test_the_lines_name_pages_and_regions(cut, tmp_path, clip):
    made, _ = cut
    assert search(made, text="red", n=1).lines()[0].endswith(("region 0 0 32 32", "region 32 0 65 32"))
    (tmp_path / "in").mkdir()
    drawn.save_pages(tmp_path / "in" / "p.tif", [plain(RED), plain(BLUE)])
    steps = [{"embed": {"encoder": str(clip.folder)}}]
    paged = run(tmp_path / "in", into=tmp_path / "out", pipeline=steps, report=False, threads=1)
    assert search(paged, text="blue", n=1).lines()[0].endswith("p.tif, page 2")


# ---------------------------------------------------------------- the page of pictures


def test_the_page_shows_every_hit_and_fetches_nothing(made, tmp_path):
    result = search(made, text="red <b>", n=4)
    page = write_hits(made, result.hits, result.query, tmp_path / "hits.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 4
    assert "red &lt;b&gt;" in page
    assert "<b>'" not in page
    for hit in result.hits.to_pylist():
        assert f"{hit['score']:.3f}" in page
        assert hit["path"] in page
    assert "default-src &#39;none&#39;" in page
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)


@pytest.mark.usefixtures("plugs")
def test_the_page_names_regions_and_says_where_it_stops(cut, tmp_path, monkeypatch):
    made, _ = cut
    result = search(made, text="red", n=50)
    monkeypatch.setattr("imagier.outputs.hits.MOST", 2)
    page = write_hits(made, result.hits, result.query, tmp_path / "hits.html").read_text()
    assert "region 32, 0, 65, 32" in page
    assert page.count("<li>") == 2
    assert "6 items" in page
    assert "the first 2 are shown" in page
    empty = write_hits(made, result.hits.slice(0, 0), result.query, tmp_path / "none.html").read_text()
    assert "Nothing was found" in empty


# ---------------------------------------------------------------- many items


def stored(folder: Path, vectors: np.ndarray, null: tuple[int, ...] | list[int] = ()) -> Collection:
    """A collection of these vectors, put there without images."""
    made = Collection.create(folder)
    with made.writing():
        add(made, vectors, 0, null)
        made.put_in_force(made.state, "items-drawn.lance")
    return made


def add(made: Collection, vectors: np.ndarray, first: int, null: tuple[int, ...] | list[int] = ()) -> None:
    n, width = vectors.shape
    ids = [f"{first + at:064d}" for at in range(n)]
    empty = {field.name: pa.nulls(n, field.type) for field in ITEMS}
    mask = np.isin(np.arange(n), list(null))
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    kept = pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(mask))
    columns = empty | {"id": pa.array(ids), "file": pa.array(ids), "page": pa.array([0] * n, pa.int32())}
    schema = pa.schema([*ITEMS, pa.field("embedding", pa.list_(pa.float32(), width))])
    made.append_items("items-drawn.lance", pa.table([*columns.values(), kept], schema))


def random_vectors(n: int, width: int = 12, seed: int = 0) -> np.ndarray:
    """Vectors of any length, about thirty centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, width))
    drawn_ = centres[rng.integers(0, 30, n)] + rng.normal(size=(n, width)) * 0.7
    return (drawn_ * rng.uniform(0.1, 10, (n, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Collection:
    return stored(tmp_path_factory.mktemp("many") / "c", random_vectors(1500), null=range(0, 1500, 10))


def like_each(collection: Collection, items: range, n: int = 20, **more):
    return [search(collection, like=f"{at:064d}", n=n, **more) for at in items]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 40), st.integers(1, 9), st.integers(0, 3), st.integers(0, 99)
)
def test_comparing_all_is_what_brute_force_gives(n, width, k, block, queries, seed):
    """Whatever the block: vectors, equal and zero ones among them, in a table that gives them by blocks."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (n, width)).astype(np.float32)
    asked = rng.normal(size=(queries, width)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    ids = [f"{at:03d}" for at in rng.permutation(n)]

    class Table:
        def scanner(self, columns, batch_size):
            flat = pa.array(vectors.ravel())
            whole = pa.table({"id": ids, "v": pa.FixedSizeListArray.from_arrays(flat, width)})
            made = type("Scanner", (), {})()
            made.to_batches = lambda: whole.select(columns).to_batches(max_chunksize=block)
            return made

    found, items = _nearest.exact(Table(), "v", asked, k)
    assert items == n
    assert len(found) == queries
    lengths = np.linalg.norm(vectors, axis=1)
    for query, each in zip(asked, found, strict=True):
        truth = np.sort(vectors @ query / np.where(lengths > 0, lengths, 1))[::-1][:k]
        assert np.allclose(each.scores, truth, atol=1e-6)
        assert len(set(each.ids)) == len(each.ids) == min(k, n)
        at = [ids.index(item) for item in each.ids]
        assert np.allclose(vectors[at] @ query / np.where(lengths[at] > 0, lengths[at], 1), each.scores, atol=1e-6)


def test_more_neighbours_than_a_block_holds_are_all_found(many, monkeypatch):
    monkeypatch.setattr(_nearest, "BLOCK", 64)
    result = search(many, like=f"{1:064d}", n=5000)
    assert result.items == 1350
    assert result.hits.num_rows == 1349
    truth = [score for _, score in brute(many, many.read(["embedding"])["embedding"][1].as_py())][1:]
    assert np.allclose(result.hits["score"].to_pylist(), truth, atol=1e-6)


@pytest.fixture
def small_cells(monkeypatch):
    """An index of many cells over few items, of which too few are looked through at first."""
    monkeypatch.setattr(_nearest, "CELL", 50)
    monkeypatch.setattr(_nearest, "PROBES", 1)


@pytest.mark.usefixtures("small_cells")
def test_above_the_threshold_the_index_serves_and_its_recall_is_stated(tmp_path):
    made = stored(tmp_path / "c", random_vectors(1500), null=range(0, 1500, 10))
    truth = like_each(made, range(1, 90, 20))
    assert all(result.exact for result in truth)
    assert not (made.folder / "search").exists()
    found = like_each(made, range(1, 90, 20), exact_below=1000)
    told = json.loads((made.folder / "search" / "embedding.json").read_text())
    assert (told["items"], told["cells"], told["among"], told["queries"]) == (1350, 30, 20, 100)
    assert 1 <= told["probes"] <= 30
    assert _nearest.WANTED <= told["recall"] <= 1
    for one, other in zip(found, truth, strict=True):
        assert (one.exact, one.recall, one.items, one.note) == (False, told["recall"], 1350, None)
        assert one.hits.num_rows == 20
        theirs = dict(zip(*(other.hits[name].to_pylist() for name in ("id", "score")), strict=True))
        mine = dict(zip(*(one.hits[name].to_pylist() for name in ("id", "score")), strict=True))
        assert len(mine.keys() & theirs.keys()) >= 15
        assert all(mine[item] == pytest.approx(theirs[item], abs=1e-6) for item in mine.keys() & theirs.keys())


@pytest.mark.usefixtures("small_cells")
def test_the_stated_recall_is_the_share_that_is_found(tmp_path, monkeypatch):
    """Of a bar so low that one cell is enough, with every item as a query, counted here by brute force."""
    monkeypatch.setattr(_nearest, "WANTED", 0.0)
    monkeypatch.setattr(_nearest, "SAMPLE", 400)
    made = stored(tmp_path / "c", vectors := random_vectors(400))
    recall = search(made, like=f"{0:064d}", n=1, exact_below=1).recall
    table = made.table(made.state.items)
    index = _nearest.standing(made, table, "embedding")
    assert index is not None
    assert (index.probes, index.queries, index.recall) == (1, 400, recall)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit.T) + 9 * -np.eye(400), axis=1)[:, :21]
    shares = []
    for at, query in enumerate(unit):
        found = {int(item) for item in _nearest.through(table, index, query, 21).ids}
        assert near[at, 0] == at
        shares.append(len(found & set(near[at, 1:].tolist())) / 20)
    assert 0.2 < recall < 0.98
    assert np.mean(shares) == pytest.approx(recall, abs=0.01)


def test_the_index_is_built_once_and_again_when_items_come_or_go(tmp_path):
    made = stored(tmp_path / "c", random_vectors(300))
    path = made.folder / "search" / "embedding.json"

    def asked(**more):
        result = search(made, like=f"{3:064d}", exact_below=100, **more)
        assert not result.exact
        return result, json.loads(path.read_text())

    _, first = asked()
    version = made.version
    assert asked()[1] == first
    assert made.version == version

    with made.writing():  # another column is no reason
        ids = made.read(["id"])["id"]
        made.put_columns("items-drawn.lance", pa.table({"id": ids, "rank": pa.array(range(len(ids)))}))
    assert asked()[1] == first

    near = made.read(["embedding"], where=f"id = '{3:064d}'")["embedding"][0].as_py()
    with made.writing():
        add(made, np.array([near, near], np.float32) * 2, 900)
    result, second = asked(n=2)
    assert result.hits["id"].to_pylist() == [f"{at:064d}" for at in (900, 901)]
    assert second["rows"] != first["rows"]
    assert second["items"] == 302

    with made.writing():
        made.drop_items("items-drawn.lance", [f"{900:064d}"])
    result, third = asked(n=1)
    assert result.hits["id"].to_pylist() == [f"{901:064d}"]
    assert third["rows"] not in (first["rows"], second["rows"])
    assert third["items"] == 301


def test_while_another_writes_all_are_compared_and_nobody_waits(tmp_path):
    made = stored(tmp_path / "c", random_vectors(300))
    writing, done = threading.Event(), threading.Event()

    def write():
        with Collection.open(made.folder).writing():
            writing.set()
            done.wait(30)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert writing.wait(30)
        result = search(made, like=f"{3:064d}", exact_below=100)
    finally:
        done.set()
        thread.join()
    assert (result.exact, result.recall) == (True, 1.0)
    assert result.note is not None
    assert "being written by another" in result.note
    assert result.as_dict()["note"] == result.note
    assert not (made.folder / "search").exists()
    later = search(made, like=f"{3:064d}", exact_below=100)
    assert (later.exact, later.note) == (False, None)


def test_a_reader_that_was_there_before_the_index_reads_on(tmp_path):
    made = stored(tmp_path / "c", random_vectors(300))
    table = made.table("items-drawn.lance")
    search(made, like=f"{3:064d}", exact_below=100)
    assert table.to_table(columns=["id"]).num_rows == 300


def test_many_neighbours_are_found_by_comparing_all(tmp_path):
    made = stored(tmp_path / "c", random_vectors(300))
    result = search(made, like=f"{3:064d}", n=250, exact_below=100)
    assert result.exact
    assert result.hits.num_rows == 250


def test_a_threshold_that_is_reached_by_items_without_vectors_alone(tmp_path):
    made = stored(tmp_path / "c", random_vectors(40), null=range(2, 40))
    result = search(made, like=f"{0:064d}", exact_below=10)
    assert result.hits["id"].to_pylist() == [f"{1:064d}"]
    assert result.items == 2


def test_where_no_item_has_a_vector_nothing_is_found(clip, tmp_path):
    made = stored(tmp_path / "c", np.eye(3, dtype=np.float32), null=range(3))
    answer = _nearest.nearest(made, "embedding", np.float32([1, 0, 0]), 5, exact_below=1)
    assert (answer.found.ids, answer.items, answer.recall) == ([], 0, None)
    assert answer.note is not None
    assert "no item of" in answer.note


def test_a_note_of_the_index_that_is_damaged_is_one_message(tmp_path):
    made = stored(tmp_path / "c", random_vectors(300))
    search(made, like=f"{3:064d}", exact_below=100)
    (made.folder / "search" / "embedding.json").write_text("{")
    with pytest.raises(CollectionError, match=r"embedding\.json cannot be read.*Delete it"):
        search(made, like=f"{3:064d}", exact_below=100)


def test_an_item_that_leaves_meanwhile_is_no_hit(many, monkeypatch):
    query = search(many, like=f"{1:064d}", n=3)
    gone = query.hits["id"][0].as_py()
    whole = _nearest.exact

    def with_one_gone(*args):
        found, items = whole(*args)
        ids = [item if item != gone else "f" * 64 for item in found[0].ids]
        return [replace(found[0], ids=ids)], items

    monkeypatch.setattr(_nearest, "exact", with_one_gone)
    again = search(many, like=f"{1:064d}", n=3).hits
    assert again["id"].to_pylist() == query.hits["id"].to_pylist()[1:]
    assert again["rank"].to_pylist() == [1, 2]


# ---------------------------------------------------------------- real images


@pytest.mark.shared
def test_the_first_ten_hits_of_real_figures_are_mostly_of_their_kind(shared, tmp_path):
    made = run(shared / "data" / "figures" / "images", into=tmp_path / "out", pipeline=["embed"], report=False)
    told = json.loads((shared / "data" / "figures" / "classification.json").read_text())
    root = shared / "data" / "figures" / "images"
    labels = {str(root / folder / name): label for folder, of in told.items() for name, label in of.items()}
    assert set(made.read(["path"])["path"].to_pylist()) == set(labels)
    kinds = list(labels.values())
    share = {kind: (kinds.count(kind) - 1) / (len(kinds) - 1) for kind in kinds}
    right, chance = [], []
    for path in sorted(labels)[::20]:
        found = search(made, image=path, n=11).hits["path"].to_pylist()
        assert found[0] == path
        right.append(np.mean([labels[other] == labels[path] for other in found[1:]]))
        chance.append(share[labels[path]])
    print(f"precision of the first 10: {np.mean(right):.3f}, by chance {np.mean(chance):.3f}, {len(right)} queries")
    assert np.mean(right) > np.mean(chance) + 0.3
