"""The plots: valid pictures that are not blank, for every pipeline, and no file of anyone else touched."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_collection import drawn_jpeg, fake, knee_facts
from PIL import Image

from imagier.outputs import plots, plots_figures, plots_sheets, shown
from imagier.outputs.plots import write_plots
from imagier.types import ImagierError


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels, where the test is not about them."""
    monkeypatch.setattr(plots_figures, "DPI", 60)


def check(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert 100 <= min(picture.size) <= max(picture.size) <= 8000
        assert np.asarray(picture.convert("L"), dtype=float).std() > 2


def pixels(figure: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plots_figures.png(figure))).convert("RGB"))


def has_colour(image: np.ndarray, colour: str) -> bool:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image.astype(int) - rgb).max(axis=2) <= 3).any())


def test_the_default_pipeline_gives_every_plot(tmp_path: Path) -> None:
    written = write_plots(fake(tmp_path, n=60, groups=3))
    assert {path.name for path in written} == {
        "map_2d.png",
        "map_3d.png",
        "map_2d_pca.png",
        "map_3d_pca.png",
        "explained_variance_pca.png",
        "choice_of_k.png",
        "cluster_sizes.png",
        "cohesion.png",
        "contact_sheet_noise.png",
        "contact_sheet_000.png",
        "contact_sheet_001.png",
        "contact_sheet_002.png",
    }
    assert {path.parent for path in written} == {tmp_path / "plots"}
    for path in written:
        check(path)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize(
    "made",
    [
        {"n": 0, "copies": 0},
        {"n": 1, "groups": 1, "noise": 0, "unplaced": 0, "maps": ("",)},
        {"n": 1, "unplaced": 1},
        {"n": 2, "groups": 1, "noise": 0, "unplaced": 0, "maps": ("",)},
        {"n": 12, "noise": 1.0, "maps": ("",)},
        {"n": 12, "maps": ("",), "clusterings": ()},
        {"n": 12, "maps": ()},
        {"n": 12, "maps": (), "clusterings": ()},
        {"n": 30, "groups": 2, "flat": True, "maps": ("",)},
        {"n": 30, "groups": 2, "maps": ("tsne_",), "clusterings": ("night_",), "good": False},
        {"n": 10, "groups": 1, "noise": 0, "points": np.ones((10, 3)), "maps": ("",)},
    ],
    ids=str,
)
def test_every_pipeline_can_be_plotted(tmp_path: Path, made: dict[str, Any]) -> None:
    for path in write_plots(fake(tmp_path, **made)):
        check(path)


@pytest.mark.usefixtures("coarse")
def test_many_groups_get_a_colour_scale_and_many_items_small_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots_figures, "PANELS", 5)
    plan = dict(plots._plots(fake(tmp_path, n=2000, groups=33, maps=("",))))
    assert sum("contact" in name for name in plan) == 34
    for name in ("map_2d.png", "map_3d.png", "cluster_sizes.png", "cohesion.png"):
        (tmp_path / name).write_bytes(plan[name]())
        check(tmp_path / name)


def test_names_tell_maps_and_clusterings_apart(tmp_path: Path) -> None:
    names = set(dict(plots._plots(fake(tmp_path, n=20, groups=2, clusterings=("", "night_")))))
    assert {"map_2d_by_night.png", "k_distance_night.png", "contact_sheet_night_001.png"} <= names


def test_a_flat_map_has_no_plot_in_three_dimensions(tmp_path: Path) -> None:
    names = set(dict(plots._plots(fake(tmp_path, n=10, flat=True, maps=("",)))))
    assert "map_2d.png" in names
    assert "map_3d.png" not in names


@pytest.mark.usefixtures("coarse")
def test_stale_plots_go_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "plots"
    few = {"n": 12, "noise": 0, "maps": (), "clusterings": ("night_",)}
    write_plots(fake(tmp_path, groups=4, **few), folder)
    (folder / "mine.png").write_bytes(b"mine")
    (folder / "contact_sheet_night_077.png").write_bytes(b"mine too")
    (tmp_path / "outside.png").write_bytes(b"outside")
    listed = json.loads((folder / plots.LIST).read_text())
    (folder / plots.LIST).write_text(json.dumps([*listed, "../outside.png", "mine.txt", 3]))
    written = write_plots(fake(tmp_path, groups=2, **few), folder)
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in written} | {"mine.png", "contact_sheet_night_077.png", plots.LIST}
    assert (tmp_path / "outside.png").read_bytes() == b"outside"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(ImagierError, match="cannot be written"):
        write_plots(fake(tmp_path, n=2))


def test_the_chosen_k_is_marked(tmp_path: Path) -> None:
    choice = {"k": [2, 3, 4], "silhouette": [0.1, 0.5, 0.2], "silhouette_k": 3, "chosen": 3, "why": "So."}
    assert has_colour(pixels(plots_figures.choice_of_k(choice)), plots_figures.LIGHT.accent)
    assert not has_colour(
        pixels(plots_figures.choice_of_k({**choice, "chosen": None, "silhouette_k": None})), plots_figures.LIGHT.accent
    )


@pytest.mark.parametrize("position", [90, None])
def test_the_knee_is_drawn_with_or_without_a_position(position: int | None) -> None:
    assert pixels(plots_figures.k_distance({**knee_facts(), "position": position})).std() > 2


def test_text_with_signs_that_mean_something_to_a_plotter_is_drawn_as_it_is() -> None:
    choice = {"k": [2, 3], "silhouette": [0.1, 0.2], "chosen": 3, "why": r"Costs $5 and \alpha_{ % $ of all."}
    assert pixels(plots_figures.choice_of_k(choice)).std() > 2


def test_density_of_equal_or_few_distances_does_not_fail() -> None:
    groups = np.array([0] * 5 + [1, 1] + [2] + [3] * 4)
    distances = np.array([0.5] * 5 + [0.1, 0.2] + [0.3] + [0.1, 0.1, 0.1, np.nan])
    assert pixels(plots_figures.cohesion(distances, groups, [])).std() > 2


def test_groups_have_their_own_colours_and_noise_is_grey() -> None:
    palette = shown.group_colours([-1, 0, 5, 9, -2])
    assert palette[-1] == shown.GREY
    assert len({palette[g] for g in (0, 5, 9)} | {shown.GREY}) == 4
    for n in (0, 1, 20, 21, 100):
        for dark in (False, True):
            made = shown.colours(n, dark=dark)
            assert len(set(made)) == n
            assert all(len(colour) == 7 for colour in made)
    image = pixels(plots_figures.map_2d(np.random.default_rng(0).normal(size=(40, 3)), np.zeros(40, int), "abc", "t"))
    assert image.shape[1] > 1000


def test_dark_figures_are_dark() -> None:
    choice = {"k": [2, 3], "silhouette": [0.1, 0.2], "chosen": 3}
    assert pixels(plots_figures.choice_of_k(choice, plots_figures.DARK)).mean() < 60


def test_a_contact_sheet_keeps_aspect_ratios_and_bounds_its_pictures() -> None:
    wide = plots_sheets.contact_sheet([drawn_jpeg(1, (160, 20)), None, drawn_jpeg(2, (8, 8))], "A title", "below")
    picture = np.asarray(Image.open(io.BytesIO(wide)))
    assert picture.std() > 5
    top = plots_sheets.MARGIN + 78
    tile = picture[top : top + plots_sheets.TILE, plots_sheets.MARGIN : plots_sheets.MARGIN + plots_sheets.TILE]
    assert (tile[:8] == [241, 243, 245]).all()  # above a wide picture is the tile's ground
    assert plots_sheets.chosen([5, 6], list(range(200)))[:2] == [5, 6]
    assert len(set(plots_sheets.chosen([5, 6], list(range(200))))) == plots_sheets.MOST
    assert plots_sheets.chosen([2], [2, 1, 0]) == [2, 1, 0]


def test_a_title_that_is_too_long_is_cut_not_clipped() -> None:
    sheet = Image.open(io.BytesIO(plots_sheets.contact_sheet([drawn_jpeg(0)], "long " * 100, "words " * 300)))
    right = np.asarray(sheet)[:, -plots_sheets.MARGIN :]
    assert (right == 255).all()
