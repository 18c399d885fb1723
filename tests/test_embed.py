"""embed: what an encoder is handed is exact, what it gives is kept as it is, and a wrong file is one message."""

from __future__ import annotations

import importlib.util
import shutil
import tracemalloc

import drawn
import numpy as np
import pytest
from drawn import plain, save, save_pages
from nets import WEIGHTS, network
from onnx import TensorProto

from imagier.models.importing import import_model
from imagier.models.store import find
from imagier.pipeline import Pipeline
from imagier.stages.embed import make
from imagier.types import ImagierError, SettingError
from imagier.workflows.models import carry
from imagier.workflows.run import run
from imagier.workflows.summary import last_run

ENGINES = ("openvino", "onnxruntime")

pytestmark = pytest.mark.usefixtures("float32")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def columns(*images, black=None, white=None):
    tops = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
    return {
        "image": list(images),
        "black": [0.0 if black is None else black] * len(images),
        "white": [tops[str(image.dtype)] if white is None else white for image in images],
    }


def embed(step, *images, **more) -> np.ndarray:
    return step.load()(columns(*images, **more))["embedding"]


def vector(rgb, mean=MEAN, std=STD) -> np.ndarray:
    """What the tiny network gives for an image whose mean colour is `rgb`."""
    return WEIGHTS @ ((np.float32(rgb) / 255 - mean) / std)


def unit(values) -> np.ndarray:
    return values / np.linalg.norm(values)


@pytest.fixture(params=ENGINES)
def engine(request):
    if not importlib.util.find_spec(request.param):  # imported by itself, openvino would tell of it
        pytest.skip(f"{request.param} is not installed")
    return request.param


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_exact_numbers_on_either_engine(tmp_path, engine, batch):
    step = make(encoder=str(network(tmp_path / "n.onnx", batch=batch)), engine=engine)
    colours = [(10, 200, 30), (0, 0, 0), (255, 255, 255), (1, 2, 3), (9, 9, 9)]
    made = embed(step, *(plain(colour, 8) for colour in colours))
    assert made.dtype == np.float32
    assert made.shape == (5, 5)
    np.testing.assert_allclose(made, [unit(vector(colour)) for colour in colours], atol=1e-5)


def test_lengths_are_kept_when_asked_and_mean_and_std_are_used(tmp_path, engine):
    path = str(network(tmp_path / "n.onnx"))
    step = make(encoder=path, engine=engine, normalise=False, mean=[0, 0.5, 1], std=[1, 2, 0.5])
    wanted = vector((10, 200, 30), np.float32([0, 0.5, 1]), np.float32([1, 2, 0.5]))
    np.testing.assert_allclose(embed(step, plain((10, 200, 30), 8)), [wanted], atol=1e-5)


def test_channels_are_rgb_and_grey_is_three_times_the_same(tmp_path, engine):
    step = make(
        encoder=str(network(tmp_path / "n.onnx")), engine=engine, normalise=False, mean=[0, 0, 0], std=[1, 1, 1]
    )
    made = embed(step, plain((255, 0, 0), 8), plain((77, 77, 77), 8)[..., 0])
    np.testing.assert_allclose(made, [WEIGHTS @ [1, 0, 0], WEIGHTS @ np.full(3, 77 / 255)], atol=1e-5)


def test_the_short_side_is_resized_and_the_centre_cut_out(tmp_path, engine):
    """40 x 16: halved to 20 x 8, of which columns 6 to 13 are looked at: the original's 12 to 27, and 2 more each side
    that the filter reaches."""
    image = np.zeros((16, 40, 3), np.uint8)
    image[:, 10:30] = (200, 100, 50)
    step = make(
        encoder=str(network(tmp_path / "n.onnx")), engine=engine, normalise=False, mean=[0, 0, 0], std=[1, 1, 1]
    )
    for each in (image, image.transpose(1, 0, 2).copy()):
        np.testing.assert_allclose(embed(step, each), [WEIGHTS @ (np.float32([200, 100, 50]) / 255)], atol=1e-5)


def test_a_small_image_is_grown(tmp_path):
    step = make(encoder=str(network(tmp_path / "n.onnx")))
    np.testing.assert_allclose(embed(step, plain((10, 200, 30), 1)), [unit(vector((10, 200, 30)))], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 20_000, 3), (20_000, 1, 3)])
def test_a_thread_of_an_image_is_not_blown_up(tmp_path, shape):
    """One pixel high and 20,000 wide: only the middle is to be grown, not the whole of it."""
    step = make(encoder=str(network(tmp_path / "n.onnx", height=64, width=64)))
    apply, image = step.load(), np.full(shape, 9, np.uint8)
    tracemalloc.start()
    made = apply({"image": [image], "black": [0.0], "white": [255.0]})["embedding"]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.shape == (1, 5)
    assert most < 5_000_000  # the whole, 64 by 1,280,000 pixels, would be 246 million bytes


def test_maps_are_averaged_over_their_area(tmp_path, engine):
    step = make(encoder=str(network(tmp_path / "n.onnx", "map")), engine=engine)
    np.testing.assert_allclose(embed(step, plain((10, 200, 30), 8)), [unit(vector((10, 200, 30)))], atol=1e-5)


def test_of_several_outputs_one_must_be_chosen(tmp_path, engine):
    path = str(network(tmp_path / "n.onnx", "both"))
    with pytest.raises(SettingError, match=r"several outputs.*m.*v"):
        make(encoder=path, engine=engine)
    with pytest.raises(SettingError, match=r"Did you mean|There are"):
        make(encoder=path, engine=engine, output="vv")
    made = [embed(make(encoder=path, engine=engine, output=name), plain((1, 99, 30), 8)) for name in "mv"]
    np.testing.assert_allclose(*made, atol=1e-5)


def test_a_free_size_must_be_given_and_a_fixed_one_kept(tmp_path, engine):
    free = str(network(tmp_path / "free.onnx", height="h", width="w"))
    with pytest.raises(SettingError, match=r"embed\.size"):
        make(encoder=free, engine=engine)
    assert make(encoder=free, engine=engine, size=16).pixels == 16
    fixed = str(network(tmp_path / "fixed.onnx"))
    assert make(encoder=fixed, engine=engine, size=8).pixels == 8
    with pytest.raises(SettingError, match="8"):
        make(encoder=fixed, engine=engine, size=16)


# ---------------------------------------------------------------- depth


def test_deep_images_come_to_8_bits_by_their_own_levels_or_by_the_whole_range(tmp_path):
    path = str(network(tmp_path / "n.onnx"))
    how = {"encoder": path, "normalise": False, "mean": [0, 0, 0], "std": [1, 1, 1]}
    image = np.full((8, 8), 1500, np.uint16)
    auto = embed(make(**how), image, black=1000, white=2000)
    np.testing.assert_allclose(auto, [WEIGHTS @ np.full(3, 128 / 255)], atol=1e-5)
    full = embed(make(**how, tone="full"), image, black=1000, white=2000)
    np.testing.assert_allclose(full, [WEIGHTS @ np.full(3, round(1500 / 65535 * 255) / 255)], atol=1e-5)
    unit_range = embed(make(**how, tone="full"), np.full((8, 8), 0.5, np.float32), black=0.4, white=0.6)
    np.testing.assert_allclose(unit_range, [WEIGHTS @ np.full(3, 128 / 255)], atol=1e-5)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "how",
    [{"channels": 4}, {"channels": 1}, {"inputs": 2}, {"kind": "tokens"}, {"height": 8, "width": 16},
     {"dtype": TensorProto.UINT8}],
    ids=lambda how: "-".join(map(str, how.values())),
)  # fmt: skip
def test_a_network_that_is_no_encoder_is_refused_before_any_work(tmp_path, engine, how):
    try:
        path = network(tmp_path / "n.onnx", **how)
    except ValueError:
        pytest.skip("no such network can be written")
    with pytest.raises(SettingError, match=r"n\.onnx"):
        make(encoder=str(path), engine=engine)


def test_a_half_precision_input_gives_the_numbers_or_is_refused(tmp_path, engine):
    path = network(tmp_path / "n.onnx", dtype=TensorProto.FLOAT16)
    try:
        step = make(encoder=str(path), engine=engine)
    except SettingError:
        return
    np.testing.assert_allclose(embed(step, plain((10, 200, 30), 8)), [unit(vector((10, 200, 30)))], atol=2e-3)


@pytest.mark.parametrize(
    "given",
    [{"size": 0}, {"size": -8}, {"mean": [0, 0]}, {"std": [1, 1]}, {"std": [1, 0, 1]}, {"std": [1, 1, float("nan")]},
     {"mean": [float("nan"), 0, 0]}, {"std": [float("inf"), 1, 1]}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(tmp_path, given):
    path = network(tmp_path / "n.onnx", height="h", width="w")
    with pytest.raises(SettingError):
        make(**{"encoder": str(path), "size": 8, **given})


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("clasical", "Did you mean classical"),
        ("", "empty"),
        ("resnet50", "imagier models pull resnet50"),
        ("nowhere.onnx", r"nowhere\.onnx is not there"),
        ("folder.onnx", r"folder\.onnx is no Model folder"),
    ],
)
def test_an_encoder_that_is_none_is_refused(tmp_path, monkeypatch, encoder, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ImagierError, match=message):
        make(encoder=encoder)


@pytest.mark.parametrize("name", ["mine", "mine.onnx", "hf:someone/tiny/m.onnx"])
def test_a_models_name_may_end_like_a_file_and_nothing_hides_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    file = network(tmp_path / "n.onnx")
    how = {"task": "embed", "mean": (0, 0, 0), "std": (1, 1, 1)}
    here = import_model(file, name=name, **how)
    monkeypatch.chdir(tmp_path)
    if "/" not in name:
        carry(name, tmp_path / name)  # a folder of that name lies about, and is another's
        assert find(name, "embed").folder == here.folder
        assert find(f"./{name}", "embed").folder == tmp_path / name
    assert make(encoder=name).weights == here.keys


def test_settings_of_the_other_kind_are_refused():
    for given in ({"size": 8}, {"normalise": True}, {"engine": "openvino"}, {"mean": [0.0, 0, 0]}):
        with pytest.raises(SettingError, match=next(iter(given))):
            make(encoder="classical", **given)


# ---------------------------------------------------------------- in a run


def test_a_run_with_an_onnx_file(tmp_path, engine):
    images = tmp_path / "images"
    for at in range(20):
        save(images / f"{at:02}.png", plain((at * 10, 5, 250 - at), 16))
    save_pages(images / "stack.tif", [plain((1, 2, 3), 16), plain((200, 2, 3), 16), plain((3, 200, 9), 16)])
    path = network(tmp_path / "n.onnx", batch=4)
    made = run(
        images, into=tmp_path / "out", pipeline=[{"embed": {"encoder": str(path), "engine": engine}}], report=False
    )
    assert [row["reason"] for row in made.files().to_pylist() if row["reason"]] == []
    assert len(made) == 23
    for row in made.read(["name", "page", "embedding"]).to_pylist():
        if row["name"] != "stack.tif":
            at = int(row["name"][:2])
            np.testing.assert_allclose(row["embedding"], unit(vector((at * 10, 5, 250 - at))), atol=1e-5)


def test_what_is_no_number_fails_the_file_and_not_the_collection(tmp_path, engine):
    images = tmp_path / "images"
    for at in range(6):
        save(images / f"light_{at}.png", plain((255 - at, 255 - 5 * at, 250)))
    save(images / "black.png", plain((0, 0, 0)))
    path = network(tmp_path / "n.onnx", "log")
    how = {"encoder": str(path), "normalise": False, "mean": [0.0] * 3, "std": [1.0] * 3, "engine": engine}
    steps = [{"embed": how}, {"reduce": {"method": "pca"}, "as": "pca"}]
    made = run(images, into=tmp_path / "out", pipeline=steps, report=False)
    failed = {row["name"]: row["reason"] for row in made.files().to_pylist() if row["outcome"] == "failed"}
    assert list(failed) == ["black.png"]
    assert np.isfinite(made.read(["embedding"])["embedding"].combine_chunks().flatten().to_numpy()).all()


def test_the_key_follows_the_weights_and_not_the_place(tmp_path):
    one = network(tmp_path / "one.onnx")
    key = Pipeline.of([{"embed": {"encoder": str(one)}}]).bind()[0]
    (tmp_path / "deep").mkdir()
    two = shutil.copy(one, tmp_path / "deep" / "two.onnx")
    assert Pipeline.of([{"embed": {"encoder": str(two)}}]).bind()[0].step.weights == key.step.weights
    network(tmp_path / "one.onnx", "map")
    assert Pipeline.of([{"embed": {"encoder": str(one)}}]).bind()[0].key != key.key


def test_a_collection_made_with_a_relative_path_can_be_brought_up_to_date_from_elsewhere(tmp_path, monkeypatch):
    images = drawn.fill(tmp_path / "images", each=1)
    network(tmp_path / "n.onnx")
    monkeypatch.chdir(tmp_path)
    run("images", into="out", pipeline=[{"embed": {"encoder": "n.onnx"}}], report=False)
    monkeypatch.chdir(images)
    made = run(into=tmp_path / "out", report=False)
    assert last_run(made).decoded == 0


def test_classical_tells_the_kinds_apart(tmp_path):
    step = make()
    kinds = [embed(step, *(drawn.picture(kind, seed) for seed in range(4))) for kind in drawn.KINDS]
    assert {each.shape for each in kinds} == {(4, step.writes.field("embedding").type.list_size)}
    centres = [each.mean(0) for each in kinds]
    for at, each in enumerate(kinds):
        for one in each:
            assert np.argmin([np.linalg.norm(one - centre) for centre in centres]) == at


def test_an_image_handed_over_stays_as_it_was():
    image = drawn.picture("disc", 1)
    before = image.copy()
    embed(make(), image)
    assert (image == before).all()


def test_half_the_room_when_asked(tmp_path):
    path = str(network(tmp_path / "n.onnx"))
    drawn.fill(tmp_path / "images")
    whole, half = (
        run(
            tmp_path / "images",
            into=tmp_path / storage,
            report=False,
            settings={"embed.encoder": path, "embed.storage": storage},
        )
        for storage in ("float32", "float16")
    )
    a, b = (np.stack(each.read(["embedding"])["embedding"].to_numpy()) for each in (whole, half))
    assert (a.dtype, b.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(a.astype(np.float16), b)
    assert half.receipts()["cluster"].items == 12
