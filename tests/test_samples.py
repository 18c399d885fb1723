"""The drawn images: the same bytes for a seed, truth that agrees with the pixels, and files broken as stated."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier import samples
from imagier.samples import KINDS, LABELS, Sample, draw
from imagier.types import SettingError

ALL = [(kind, label) for kind, labels in LABELS.items() for label in labels]
FAULTS = ("scratch", "bent", "color", "crack", "blowhole", "stain")
FAULTY = [(kind, label) for kind, label in ALL if label.split("_")[1] in FAULTS]
SEEDS = range(2)


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    from scipy import ndimage

    wider: np.ndarray = ndimage.binary_dilation(mask, iterations=pixels)
    return wider


def changed(one: Sample, other: Sample) -> np.ndarray:
    """bool (H, W): where two images differ in any channel."""
    differ = one.image != other.image
    differ = differ if differ.ndim == 2 else differ.any(-1)
    return np.asarray(differ)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_sample_and_another_seed_another(kind: str) -> None:
    first, again, other = draw(kind, 5), draw(kind, 5), draw(kind, 5 + len(LABELS[kind]))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.truth == again.truth
    assert (first.mask is None and again.mask is None) or np.array_equal(first.mask, again.mask)
    assert first.label == other.label
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("kind", "label"), ALL)
def test_samples_have_the_stated_shape_depth_and_truth(kind: str, label: str) -> None:
    size = 101
    sample = draw(kind, 11, size=size, label=label)
    assert sample.label == label
    assert sample.image.shape[:2] == (size, size)
    depths = {"cells": (np.uint16,), "gels": (np.uint8, np.uint16)}.get(kind, (np.uint8,))
    assert sample.image.dtype in depths
    assert sample.image.ndim == (2 if kind in ("cells", "gels") else 3)
    assert sample.image.std() > 0
    assert sample.mask is not None
    assert sample.mask.shape == (size, size)
    assert sample.mask.dtype == (np.int32 if kind == "cells" else bool)
    for mask in sample.masks.values():
        assert mask.shape == (size, size)
        assert mask.dtype == bool
    assert json.loads(json.dumps(sample.truth)) == sample.truth


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_go_through_all_labels(kind: str) -> None:
    labels = [draw(kind, seed, size=64).label for seed in range(len(LABELS[kind]))]
    assert sorted(labels) == sorted(LABELS[kind])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**40), label=st.sampled_from(LABELS["cells"]))
def test_cells_count_boxes_and_areas_agree_with_the_label_image(seed: int, label: str) -> None:
    sample = draw("cells", seed, size=128, label=label)
    assert sample.mask is not None
    assert sample.image.max() <= 4095
    count = sample.truth["count"]
    assert set(np.unique(sample.mask)) == set(range(count + 1)) | {0}
    assert len(sample.truth["boxes"]) == len(sample.truth["areas"]) == count
    for number, ((x0, y0, x1, y1), area) in enumerate(
        zip(sample.truth["boxes"], sample.truth["areas"], strict=True), 1
    ):
        own = sample.mask == number
        assert own.sum() == area == own[y0:y1, x0:x1].sum()
        assert own[y0].any()
        assert own[y1 - 1].any()
        assert own[:, x0].any()
        assert own[:, x1 - 1].any()
    assert all(1 <= number <= count for number in sample.truth["mitotic"])
    if label != "cells_mitotic":
        assert sample.truth["mitotic"] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label", LABELS["cells"])
def test_every_nucleus_is_brighter_than_the_empty_field(label: str, seed: int) -> None:
    sample, empty = draw("cells", seed, label=label), draw("cells", seed, label=label, plain=True)
    assert sample.mask is not None
    assert empty.mask is not None
    assert empty.truth["count"] == 0
    assert not empty.mask.any()
    assert sample.truth["count"] >= 5
    assert bool(sample.truth["mitotic"]) == (label == "cells_mitotic")
    gain = sample.image.astype(float) - empty.image
    for number in range(1, sample.truth["count"] + 1):
        assert gain[sample.mask == number].mean() > 20
    far = ~grown(sample.mask > 0, 14)
    assert np.array_equal(sample.image[far], empty.image[far])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "label"), FAULTY)
def test_a_fault_is_where_the_picture_differs_from_its_good_twin(kind: str, label: str, seed: int) -> None:
    sample, twin = draw(kind, seed, label=label), draw(kind, seed, label=label, plain=True)
    assert sample.mask is not None
    assert twin.mask is not None
    assert sample.mask.sum() >= 12
    assert not twin.mask.any()
    assert twin.truth["fault"] == "good"
    differs = changed(sample, twin)
    assert differs[sample.mask].mean() > 0.9
    assert not differs[~grown(sample.mask, 4)].any() or label.endswith("bent")  # a bent part casts another shadow
    shift = np.abs(sample.image.astype(float) - twin.image).max(-1)
    assert shift[sample.mask].mean() > 10
    assert shift[sample.mask].mean() > 4 * shift[~sample.mask].mean()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["washers", "nuts"])
def test_faults_lie_on_the_part(kind: str, seed: int) -> None:
    sample, twin = draw(kind, seed), draw(kind, seed, plain=True)
    assert sample.mask is not None
    assert sample.mask.any() != sample.label.endswith("good")
    assert not (sample.mask & ~(sample.masks["part"] | twin.masks["part"])).any()
    if not sample.label.endswith("bent"):
        assert np.array_equal(sample.masks["part"], twin.masks["part"])
    x0, y0, x1, y1 = sample.truth["part_box"]
    assert min(x0, y0) >= 0
    assert max(x1, y1) <= 192
    area = np.pi * sample.truth["radius"] ** 2
    assert 0.3 * area < twin.masks["part"].sum() < area


@pytest.mark.parametrize("surface", ["woven", "brushed", "granite", "wood"])
def test_each_blowhole_is_a_region_of_its_own(surface: str) -> None:
    from scipy import ndimage

    for seed in range(2):
        sample = draw("textures", seed, label=f"{surface}_blowhole")
        assert ndimage.label(sample.mask)[1] == sample.truth["count"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label", LABELS["gels"])
def test_bands_lie_in_their_boxes_and_show(label: str, seed: int) -> None:
    sample, empty = draw("gels", seed, label=label), draw("gels", seed, label=label, plain=True)
    assert sample.mask is not None
    assert empty.truth["count"] == 0
    assert sample.truth["count"] == len(sample.truth["bands"]) > 0
    assert any(lane["ladder"] for lane in sample.truth["lanes"]) == (label != "gel_blot")
    assert any(lane["smear"] for lane in sample.truth["lanes"]) == (label == "gel_smear")
    boxed = np.zeros_like(sample.mask)
    sign = 1 if sample.truth["bright_bands"] else -1
    gain = sign * (sample.image.astype(float) - empty.image) / np.iinfo(sample.image.dtype).max
    for band in sample.truth["bands"]:
        x0, y0, x1, y1 = band["box"]
        assert x0 <= band["x"] <= x1
        assert y0 - 1 <= band["y"] <= y1 + 1
        boxed[y0:y1, x0:x1] = True
        inside = sample.mask[y0:y1, x0:x1]
        assert inside.any()
        assert gain[y0:y1, x0:x1][inside].mean() > 0.02
    assert not (sample.mask & ~boxed).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label", LABELS["lesions"])
def test_network_and_dots_lie_in_the_lesion_and_show(label: str, seed: int) -> None:
    sample, twin = draw("lesions", seed, label=label), draw("lesions", seed, label=label, plain=True)
    assert sample.mask is not None
    assert np.array_equal(sample.mask, twin.mask)
    assert 0.02 < sample.mask.mean() < 0.7
    assert sample.truth["area"] == sample.mask.sum()
    assert sample.masks["net"].any() == (label == "lesion_net")
    assert sample.masks["dots"].any() == (label == "lesion_dots")
    assert not twin.masks["net"].any()
    assert not twin.masks["dots"].any()
    marked = sample.masks["net"] | sample.masks["dots"]
    assert not (marked & ~sample.mask).any()
    if label != "lesion_plain":
        differs = changed(sample, twin)
        assert differs[marked].mean() > 0.8
        assert not differs[~grown(marked, 12)].any()
    if label == "lesion_dots":
        assert sample.truth["count"] == len(sample.truth["dots"]) > 0
        for x, y, _ in sample.truth["dots"]:
            assert sample.masks["dots"][int(y), int(x)]


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("nut", {}, "nuts"),
        ("nuts", {"label": "nut_bad"}, "nut_scratch"),
        ("nuts", {"size": 8}, "64"),
        ("nuts", {"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_can(kind: str, options: dict[str, object], told: str) -> None:
    wanted: dict[str, Any] = {"seed": 0, **options}
    with pytest.raises(SettingError, match=told):
        draw(kind, **wanted)


def test_written_samples_are_the_same_bytes_and_their_truth_is_beside_them(tmp_path: Path) -> None:
    from PIL import Image
    from tifffile import imread

    one, two = (samples.write(tmp_path / name, per_kind=4, seed=3, size=64) for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)

    truth = json.loads((one / "truth" / "truth.json").read_text(encoding="utf-8"))
    images = {path.relative_to(one / "images").as_posix() for path in (one / "images").rglob("*") if path.is_file()}
    assert set(truth["images"]) == images
    assert len(images) == 4 * len(KINDS)
    for name, entry in truth["images"].items():
        drawn = draw(entry["kind"], entry["seed"], size=64, label=entry["label"])
        assert drawn.truth == entry["truth"]
        assert name.split("/")[0] == entry["kind"]
        assert Path(name).stem.rsplit("_", 1)[0] == entry["label"]
        path = one / "images" / name
        if entry["kind"] == "cells":
            assert np.array_equal(imread(path), drawn.image)
        elif entry["kind"] == "gels":
            assert np.array_equal(np.asarray(Image.open(path)), drawn.image)
        else:
            assert np.abs(np.asarray(Image.open(path)).astype(float) - drawn.image).mean() < 12
        masks = {"mask": drawn.mask, **drawn.masks}
        assert set(entry["masks"]) == {role for role, mask in masks.items() if mask is not None and mask.any()}
        for role, file in entry["masks"].items():
            stored, known = np.asarray(Image.open(one / "truth" / file)), masks[role]
            assert known is not None
            assert np.array_equal(stored, known if entry["kind"] == "cells" else known * 255)


def test_three_groups_are_told_apart_by_plain_features() -> None:
    drawn = samples.three_groups(30, 4)
    assert [sample.label for sample in drawn[:3]] == ["disc", "stripes", "speckle"]
    features = np.array([np.r_[s.image.mean((0, 1)), s.image.std((0, 1))] for s in drawn])
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    groups = np.array([sample.truth["group"] for sample in drawn])
    same = groups[:, None] == groups[None]
    assert distance[same].max() < distance[~same].min()
    assert len({sample.image.tobytes() for sample in drawn}) == 30


def test_noise_is_uniform_and_never_the_same() -> None:
    drawn = samples.noise(6, 1)
    values = np.stack([sample.image for sample in drawn])
    assert values.dtype == np.uint8
    counts = np.bincount(values.ravel(), minlength=256)
    assert np.abs(counts / counts.mean() - 1).max() < 0.2
    assert len({sample.image.tobytes() for sample in drawn}) == 6


def test_faint_structure_is_eight_levels_of_twelve_bits_and_brightness_does_not_tell() -> None:
    drawn = samples.faint(20, 2)
    assert [sample.label for sample in drawn[:2]] == ["flat", "structure"]
    means: dict[str, list[float]] = {"flat": [], "structure": []}
    for sample in drawn:
        assert sample.image.dtype == np.uint16
        assert sample.image.max() <= 4095
        assert sample.mask is not None
        assert sample.mask.any() == (sample.label == "structure")
        means[sample.label].append(float(sample.image.mean()))
        ground = sample.image[~grown(sample.mask, 3)].astype(float)
        assert 0.9 < ground.std() < 2.2
        if sample.mask.any():
            core = ~grown(~sample.mask, 3)
            assert sample.image[core].mean() - ground.mean() == pytest.approx(8, abs=0.3)
    assert max(means["flat"]) > min(means["structure"])
    assert max(means["structure"]) > min(means["flat"])


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("broken")
    return folder, samples.broken(folder, 0)


def test_broken_files_are_those_named(bad: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, wrong = bad
    assert sorted(wrong) == sorted(path.name for path in folder.iterdir())
    assert len(wrong) >= 18
    assert samples.broken(tmp_path, 0) == wrong
    assert all((tmp_path / n).read_bytes() == (folder / n).read_bytes() for n in wrong if readable(folder / n))


def readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def test_no_broken_image_can_be_decoded(bad: tuple[Path, dict[str, str]]) -> None:
    from PIL import Image, UnidentifiedImageError

    folder, wrong = bad
    pictures = [folder / name for name in wrong if readable(folder / name) and not name.endswith((".dcm", ".tif"))]
    assert len(pictures) >= 12
    for path in pictures:
        refused = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
        with pytest.raises(refused), Image.open(path) as image:
            image.load()


def test_the_cut_files_begin_well_and_end_early(bad: tuple[Path, dict[str, str]]) -> None:
    import pydicom
    import tifffile

    folder, _ = bad
    jpeg, png = (folder / "truncated.jpg").read_bytes(), (folder / "truncated.png").read_bytes()
    assert jpeg.startswith(b"\xff\xd8")
    assert not jpeg.endswith(b"\xff\xd9")
    assert png.startswith(b"\x89PNG")
    assert b"IEND" not in png
    with pytest.raises((tifffile.TiffFileError, ValueError, RuntimeError)):
        tifffile.imread(folder / "truncated.tif")
    with pytest.raises((EOFError, ValueError, AttributeError, OSError)):
        _ = pydicom.dcmread(folder / "truncated.dcm").pixel_array


def test_other_broken_files_are_broken_as_stated(bad: tuple[Path, dict[str, str]]) -> None:
    folder, wrong = bad
    assert all((folder / name).stat().st_size == 0 for name, what in wrong.items() if what == "zero bytes")
    assert (folder / "text.jpg").read_text(encoding="utf-8").startswith("This is a note")
    assert (folder / "dangling.png").is_symlink()
    assert not (folder / "dangling.png").exists()
    assert (folder / "directory.png").is_dir()
    content = (folder / "checksum.png").read_bytes()
    place = content.index(b"IDAT")
    length = struct.unpack(">I", content[place - 4 : place])[0]
    stated = struct.unpack(">I", content[place + 4 + length : place + 8 + length])[0]
    assert stated != zlib.crc32(content[place : place + 4 + length])
    if "locked.png" in wrong:
        with pytest.raises(PermissionError):
            (folder / "locked.png").read_bytes()
    else:
        assert os.access(folder, os.R_OK)
        assert not (folder / "locked.png").exists()


def test_the_bomb_is_small_and_valid(bad: tuple[Path, dict[str, str]]) -> None:
    from PIL import Image

    content = (bad[0] / "bomb.png").read_bytes()
    assert len(content) < 1_000_000
    assert struct.unpack(">II", content[16:24]) == (60_000, 60_000)
    with Image.open(io.BytesIO(samples.bomb(4_100, 4_001))) as image:  # the same, of a size that may be decoded
        pixels = np.asarray(image)
    assert pixels.shape == (4_001, 4_100)
    assert not pixels.any()


def test_dicom_comes_back_with_its_tags() -> None:
    import pydicom

    image = samples.faint(1, 0)[0].image
    content = samples.dicom(image, window=(900, 300), rescale=(2, -1024), monochrome1=True)
    read = pydicom.dcmread(io.BytesIO(content))
    assert np.array_equal(read.pixel_array, image)
    assert (read.BitsStored, read.HighBit, read.BitsAllocated) == (12, 11, 16)
    assert read.PhotometricInterpretation == "MONOCHROME1"
    assert (read.WindowCenter, read.WindowWidth, read.RescaleSlope, read.RescaleIntercept) == (900, 300, 2, -1024)
    assert content == samples.dicom(image, window=(900, 300), rescale=(2, -1024), monochrome1=True)
    bare = pydicom.dcmread(io.BytesIO(samples.dicom(image)))
    assert "WindowCenter" not in bare
    assert "RescaleSlope" not in bare
    assert bare.PhotometricInterpretation == "MONOCHROME2"


def test_dicom_holds_frames_and_refuses_other_pixels() -> None:
    import pydicom

    frames = [sample.image for sample in samples.faint(3, 0)]
    read = pydicom.dcmread(io.BytesIO(samples.dicom(frames)))
    assert read.NumberOfFrames == 3
    assert np.array_equal(read.pixel_array, np.stack(frames))
    with pytest.raises(ValueError, match="uint16"):
        samples.dicom(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="12 bits"):
        samples.dicom(np.full((4, 4), 4096, np.uint16))


def test_importing_samples_loads_no_heavy_library() -> None:
    heavy = ("cv2", "scipy", "pydicom", "tifffile", "PIL")
    code = f"import sys, imagier.samples; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
