"""upscale: what is small is enlarged in its own depth, the rest passes untouched; and the figures of papers."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imagier.algorithms.fidelity import reduced, y_psnr
from imagier.models.model import Card, Input, Model, Output, to_write, write_model
from imagier.models.restoring import OVERLAP
from imagier.stages.upscale import UPSCALE
from imagier.types import Columns, ImageError, ModelError, SettingError

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "upscale.py"


def bench():
    spec = importlib.util.spec_from_file_location("benchmark_upscale", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repeating(
    folder: Path,
    *,
    scale: int = 3,
    gains: tuple[float, ...] = (1.0, 1.0, 1.0),
    layout: str = "nchw",
    side: int | str = "s",
    stride: int = 1,
    dtype: str = "float32",
    **spec,
) -> Model:
    """A network that repeats each pixel `scale` × `scale` times, each channel times its gain.

    It takes no other size than `side`, where that is a number, and only multiples of `stride`.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    channels = len(gains)
    kernel = np.zeros((channels * scale**2, channels, 1, 1), np.float32)
    for channel, gain in enumerate(gains):
        kernel[channel * scale**2 : (channel + 1) * scale**2, channel] = gain
    nodes = [
        helper.make_node("SpaceToDepth", ["x"], ["deep"], blocksize=stride),
        helper.make_node("DepthToSpace", ["deep"], ["flat"], blocksize=stride),
        helper.make_node("Conv", ["flat", "w"], ["many"]),
        helper.make_node("DepthToSpace", ["many"], ["y"], blocksize=scale, mode="CRD"),
    ]
    shapes = [["n", channels, side, side], ["n", channels, None, None]]
    if layout == "nhwc":
        nodes = [
            helper.make_node("Transpose", ["in"], ["x"], perm=[0, 3, 1, 2]),
            *nodes,
            helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1]),
        ]
        shapes = [[n, h, w, c] for n, c, h, w in shapes]
    if side == "s":
        shapes[0] = [f"side{at}" if each == "s" else each for at, each in enumerate(shapes[0])]
    first, last = nodes[0].input[0], nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "repeating",
        [helper.make_tensor_value_info(first, TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(kernel, "w")],
    )
    file = folder.parent / f"{folder.name}.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    size = None if side == "s" else (side, side)
    grey = {"colour": "grey", "mean": (0.0,), "std": (1.0,)} if channels == 1 else {}
    card = Card(
        name=folder.name,
        task="upscale",
        architecture="onnx",
        input=Input(fit="none", layout=layout, size=size, multiple=stride, dtype=dtype, **grey, **spec),
        outputs={"image": Output(tensors=(last,), form="image")},
        scale=scale,
        files=to_write(network="network.onnx"),
    )
    return write_model(folder, card, {"network": file})


def drawn(height: int, width: int, dtype: str = "uint8", *, colour: bool = True, low: float = 0.0, high: float = 1.0):
    rng = np.random.default_rng(height * 1000 + width)
    values = rng.uniform(low, high, (height, width, 3) if colour else (height, width))
    return values.astype(np.float32) if dtype == "float32" else np.rint(values * np.iinfo(dtype).max).astype(dtype)


def columns(*images: np.ndarray, sides: tuple[tuple[int, int], ...] = ()) -> Columns:
    """What a pass hands over; `sides` are widths and heights of the originals, where they are others."""
    from imagier.images import levels

    sides = sides or tuple((image.shape[1], image.shape[0]) for image in images)
    black, white = zip(*map(levels, images), strict=True)
    return {
        "image": list(images),
        "width": [width for width, _ in sides],
        "height": [height for _, height in sides],
        "black": list(black),
        "white": list(white),
    }


def repeated(image: np.ndarray, scale: int = 3) -> np.ndarray:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.fixture(scope="module")
def nearest(tmp_path_factory) -> str:
    """The path of a model whose result is known to the pixel."""
    return str(repeating(tmp_path_factory.mktemp("models") / "nearest").folder)


def test_small_images_are_enlarged_and_the_others_are_the_very_same(nearest):
    images = [drawn(20, 30), drawn(128, 200), drawn(127, 500), drawn(300, 127, colour=False), drawn(128, 128)]
    out = UPSCALE.make(model=nearest).load()(columns(*images))
    assert out["upscaled"].tolist() == [3, 1, 3, 3, 1]
    assert out["upscaled"].dtype == np.int8
    for at, (image, factor) in enumerate(zip(images, out["upscaled"], strict=True)):
        assert np.array_equal(out["image"][at], repeated(image, factor))
        assert (out["image"][at] is image) == (factor == 1)


def test_the_originals_size_decides_and_not_that_of_the_pixels_in_hand(nearest):
    shrunk, grown = drawn(60, 90), drawn(300, 300)  # by the decoder from 480 × 720; by a step before, from 100 × 100
    out = UPSCALE.make(model=nearest).load()(columns(shrunk, grown, sides=((720, 480), (100, 100))))
    assert out["upscaled"].tolist() == [1, 3]
    assert out["image"][1].shape == (900, 900, 3)
    assert UPSCALE.make(model=nearest, below=77).pixels == 77


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_depth_and_colour_stay_as_they_were(nearest, dtype, colour):
    image = drawn(21, 34, dtype, colour=colour)
    (made,) = UPSCALE.make(model=nearest).load()(columns(image))["image"]
    assert (made.dtype, made.shape) == (image.dtype, repeated(image).shape)
    if dtype == "float32":
        assert np.allclose(made, repeated(image), atol=1e-6)
    else:
        assert np.array_equal(made, repeated(image))


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint16", 0.305, 0.32), ("uint16", 0, 0.002), ("float32", 0.5, 0.5001)]
)
def test_faint_structure_goes_through_with_all_its_levels(nearest, dtype, low, high):
    image = drawn(24, 24, dtype, low=low, high=high)
    image[0, 0] = 0.9 if dtype == "float32" else 60000  # far beyond `white`, and not clipped to it
    (made,) = UPSCALE.make(model=nearest).load()(columns(image))["image"]
    assert len(np.unique(image)) > 100
    assert np.abs(made.astype(float) - repeated(image)).max() <= (1e-6 if dtype == "float32" else 0)


def test_what_a_network_gives_beyond_the_range_is_clipped(tmp_path):
    model = repeating(tmp_path / "loud", gains=(2.0, 2.0, 2.0))
    work = UPSCALE.make(model=str(model.folder)).load()
    for dtype, top in (("uint8", 255), ("uint16", 65535), ("float32", 1)):
        image = drawn(9, 9, dtype)
        row = columns(image) | {"black": [0.0], "white": [float(top)]}
        made = work(row)["image"][0]
        assert made.dtype == image.dtype
        assert np.allclose(made, repeated((image.astype(float) * 2).clip(0, top)), atol=1e-6 * top)


def test_larger_images_go_in_tiles_and_give_the_same(nearest):
    image = drawn(300, 517)
    whole, tiles = (UPSCALE.make(model=nearest, below=1000, tile=tile).load() for tile in (1024, 2 * OVERLAP + 3))
    assert np.array_equal(whole(columns(image))["image"][0], repeated(image))
    assert np.array_equal(tiles(columns(image))["image"][0], repeated(image))


@pytest.mark.parametrize(
    ("how", "gains"),
    [
        ({"colour": "bgr", "gains": (0.25, 1.0, 1.0)}, (1.0, 1.0, 0.25)),
        ({"gains": (0.5,)}, (0.5, 0.5, 0.5)),
        ({"layout": "nhwc", "gains": (0.5, 1.0, 1.0)}, (0.5, 1.0, 1.0)),
        ({"side": 32, "gains": (1.0, 0.5, 1.0)}, (1.0, 0.5, 1.0)),
        ({"stride": 8, "scale": 2}, (1.0, 1.0, 1.0)),
        ({"scale": 4}, (1.0, 1.0, 1.0)),
    ],
    ids=["bgr", "grey", "nhwc", "fixed", "multiple", "x4"],
)
def test_a_card_is_followed_to_the_letter(tmp_path, how, gains):
    model = repeating(tmp_path / "m", **how)
    work = UPSCALE.make(model=str(model.folder), below=200).load()
    for image in (drawn(20, 50), drawn(101, 133), drawn(3, 1)):
        out = work(columns(image))
        factor = how.get("scale", 3)
        assert out["upscaled"].tolist() == [factor]
        wanted = repeated(image * np.array(gains), factor)
        assert np.abs(out["image"][0] - wanted).max() <= 0.5 + 1e-3


def test_lanczos_needs_no_weights_and_no_network_settings():
    step = UPSCALE.make(model="lanczos")
    assert step.weights == ()
    y, x = np.mgrid[:40, :50]
    wave = 0.5 + 0.2 * np.sin(x / 3) + 0.2 * np.cos(y / 4)
    fine_y, fine_x = (np.mgrid[: 40 * 3, : 50 * 3] + 0.5) / 3 - 0.5
    wanted = 0.5 + 0.2 * np.sin(fine_x / 3) + 0.2 * np.cos(fine_y / 4)
    for dtype, top in (("uint8", 255), ("uint16", 65535), ("float32", 1)):
        image = (wave * top).astype(dtype)
        out = step.load()(columns(image, drawn(300, 300)))
        assert out["upscaled"].tolist() == [3, 1]
        assert out["image"][0].dtype == image.dtype
        assert np.abs(out["image"][0] / top - wanted)[12:-12, 12:-12].max() < 0.01
    sharp = np.zeros((20, 20), np.float32)
    sharp[:, 10:] = 1  # the kernel overshoots here
    (made,) = step.load()(columns(sharp))["image"]
    assert (made.min(), made.max()) == (0, 1)
    for name, value in (("tile", 256), ("engine", "openvino")):
        with pytest.raises(SettingError, match=f"'lanczos' takes no setting '{name}'"):
            UPSCALE.make(model="lanczos", **{name: value})


def test_settings_that_do_not_fit_are_refused_before_any_work(nearest, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path))
    with pytest.raises(SettingError, match=r"upscale\.below cannot be 0"):
        UPSCALE.make(model=nearest, below=0)
    for tile in (2 * OVERLAP, 5000):
        with pytest.raises(SettingError, match=f"upscale.tile cannot be {tile}"):
            UPSCALE.make(model=nearest, tile=tile)
    with pytest.raises(ModelError, match="imagier models pull edsr-x3"):
        UPSCALE.make(model="edsr-x3")
    fixed = repeating(tmp_path / "fixed", side=48)
    with pytest.raises(SettingError, match=r"takes \(48, 48\) pixels"):
        UPSCALE.make(model=str(fixed.folder), tile=96)
    assert UPSCALE.make(model=str(fixed.folder), tile=48)
    eight = repeating(tmp_path / "eight", dtype="uint8")
    with pytest.raises(SettingError, match="takes 8-bit pixels"):
        UPSCALE.make(model=str(eight.folder))


def test_the_weights_and_the_way_they_are_used_are_in_the_key(tmp_path):
    one = repeating(tmp_path / "one")
    other = repeating(tmp_path / "other", gains=(1.0, 1.0, 0.5))
    steps = [UPSCALE.make(model=str(model.folder)) for model in (one, other)]
    assert steps[0].weights == one.keys != steps[1].weights
    assert {step.precision for step in steps} == {"float32"}


def test_an_image_that_would_become_too_large_fails_with_its_reason(nearest, monkeypatch):
    monkeypatch.setattr("imagier.images.PIXEL_LIMIT", 9 * 100 * 100)
    work = UPSCALE.make(model=nearest).load()
    assert work(columns(drawn(100, 100)))["upscaled"].tolist() == [3]
    with pytest.raises(ImageError, match="101 x 100 pixels, enlarged ×3, are more than 90,000"):
        work(columns(drawn(100, 101)))


def test_threads_give_what_one_thread_gives(nearest):
    work = UPSCALE.make(model=nearest).load()
    rows = [columns(drawn(20 + at, 30, "uint16")) for at in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for row, out in zip(rows, pool.map(work, rows), strict=True):
            assert np.array_equal(out["image"][0], repeated(row["image"][0]))


def test_a_run_enlarges_what_is_small_and_counts_it(nearest, tmp_path):
    import imagier
    from imagier import images

    (tmp_path / "in").mkdir()
    for at, side in enumerate((40, 60, 150, 400)):
        (tmp_path / "in" / f"{at}.png").write_bytes(images.encode(drawn(side, side + 9), "png"))
    pipeline = [{"upscale": {"model": nearest}}, "embed"]
    collection = imagier.run(tmp_path / "in", into=tmp_path / "out", pipeline=pipeline, report=False)
    rows = collection.read(["width", "height", "upscaled"]).to_pylist()
    assert sorted((row["height"], row["upscaled"]) for row in rows) == [(40, 3), (60, 3), (150, 1), (400, 1)]
    assert collection.receipt("upscale").settings["model"] == nearest


# ---------------------------------------------------------------- what papers publish


@pytest.mark.shared
def test_imresize_gives_the_bicubic_figures_of_papers(shared):
    """Set5 ×3: 30.39 dB, as the papers' tables have it for MATLAB's imresize both ways."""
    measured = bench()

    def bicubic(image: np.ndarray) -> np.ndarray:
        return reduced(image, image.shape[0] * 3, image.shape[1] * 3)

    assert np.mean(measured.measure(shared / "data" / "restoration" / "Set5", bicubic, 3)) == pytest.approx(
        30.39, abs=0.01
    )


@pytest.fixture(scope="module")
def carn_m(shared, tmp_path_factory) -> str:
    """CARN-M ×3 with its authors' weights, as a Model folder."""
    pytest.importorskip("torch")
    from imagier.models.exporting import export

    weights, folder = shared / "weights" / "carn_m.pth", tmp_path_factory.mktemp("models") / "carn-m"
    return str(export("carn-m@3", state=weights, name="carn-m", task="upscale", folder=folder).folder)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "published"), [("Set5", 33.99), pytest.param("Set14", 30.08, marks=pytest.mark.slow)])
def test_carn_m_reaches_its_published_figures(shared, carn_m, name, published):
    measured = bench()
    enlarge, scale = measured.stage(carn_m)
    found = measured.measure(shared / "data" / "restoration" / name, enlarge, scale)
    assert np.mean(found) == pytest.approx(published, abs=0.2)


@pytest.mark.shared
def test_tiles_differ_by_one_step_of_8_bits_at_most(shared, carn_m):
    assert bench().seams(shared / "data" / "restoration" / "Set5", carn_m, 2 * OVERLAP + 40) <= 1


@pytest.mark.shared
def test_a_faint_12_bit_image_is_enlarged_as_well_as_a_bright_one(shared, carn_m):
    measured = bench()
    work = UPSCALE.make(model=carn_m).load()
    whole, reduced = measured.pair(shared / "data" / "restoration" / "Set5" / "002.png", 3)
    bright = work(columns(reduced))["image"][0]
    faint = work(columns(reduced.astype(np.uint16) * 4 + 3000))["image"][0]  # 1,020 levels of 65,536
    back = np.rint((faint.astype(float) - 3000) / 4).clip(0, 255).astype(np.uint8)
    assert y_psnr(whole, back, 3) == pytest.approx(y_psnr(whole, bright, 3), abs=0.05)
