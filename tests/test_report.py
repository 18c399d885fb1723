"""The report and the map: one file that fetches nothing, names as text, and pages for every pipeline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_collection import drawn_jpeg, fake

from imagier.outputs import map3d, pages, plots_figures, report
from imagier.types import ImagierError

HOSTILE = [
    "<script>alert(1)</script>/a.png",
    '"><img src=x onerror=alert(1)>/b.png',
    "</script><script>alert(2)//c.png",
    "{{ 7 * 7 }}/d.png",
    "é 日本 & <b>/e.png",
    "javascript:alert(3)/f.png",
]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots of fewer pixels: these tests are not about them."""
    monkeypatch.setattr(plots_figures, "DPI", 40)


class Page(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def data(self) -> dict[str, Any]:
        """What the map is given."""
        at = next(i for i, (_, attrs) in enumerate(self.elements) if attrs.get("id") == "map-data")
        assert self.elements[at][0] == "script"
        texts = [text for tag, text in self.texts if tag == "script" and text.startswith("{")]
        return dict(json.loads(texts[0]))


def check(html: str) -> Page:
    """A page that loads nothing, runs nothing but its own script, and is put together well."""
    page = Page(html)
    for tag, attrs in page.elements:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "srcset", "href", "action", "poster", "data"):
            if value := attrs.get(name):
                assert value.startswith(("data:image/", "#")), (tag, name, value[:60])
        if tag == "img" and "src" in attrs:
            assert attrs.get("alt") is not None
    assert not re.search(r"url\(|@import|https?://", re.sub(r"<script type=.*?</script>", "", html, flags=re.S))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        if (target := attrs.get("href") or "").startswith("#"):
            assert target[1:] in ids
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a) or ""
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert "script-src 'unsafe-inline'" not in policy
    return page


def test_the_report_tells_what_was_found(tmp_path: Path) -> None:
    path = report.write_report(fake(tmp_path, n=40, groups=4))
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    check(html)
    for text in ("4 groups, well apart.", "Elbow and silhouette agree", "broken/bad.jpg", "the file is no image"):
        assert text in html
    for text in (
        "Near-duplicates",
        "Davies–Bouldin",
        "0.88",
        "encoder: classical",
        "cohesion <b>0.80</b>",
        "high quality",
        "kind1",
    ):
        assert text in html
    assert html.count('<article class="card">') == 5  # four groups and the noise


def test_a_poor_clustering_is_said_first(tmp_path: Path) -> None:
    html = report.report_html(fake(tmp_path, n=40, good=False))
    assert html.index("no good clustering found") < html.index("<main>")
    assert 'class="verdict poor"' in html


@pytest.mark.parametrize(
    "made",
    [
        {"n": 0, "copies": 0, "failed": ()},
        {"n": 1, "groups": 1, "noise": 0, "unplaced": 0},
        {"n": 1, "unplaced": 1},
        {"n": 12, "noise": 1.0},
        {"n": 12, "clusterings": ()},
        {"n": 12, "maps": ()},
        {"n": 12, "maps": (), "clusterings": ()},
        {"n": 30, "flat": True},
        {"n": 30, "maps": ("pca_", "", "tsne_"), "clusterings": ("", "night_")},
        {"n": 200, "groups": 70, "maps": ("",)},
        {"n": 10, "points": np.ones((10, 3)), "groups": 1, "noise": 0},
    ],
    ids=str,
)
def test_every_pipeline_has_a_report_and_a_map(tmp_path: Path, made: dict[str, Any]) -> None:
    collection = fake(tmp_path, **made)
    check(report.report_html(collection))
    check(map3d.write_map(collection).read_text(encoding="utf-8"))


def test_facts_that_are_missing_leave_gaps_not_errors(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=12)
    for each in collection.receipts().values():
        each.facts.clear()
    check(report.report_html(collection))
    one = fake(tmp_path, n=12, groups=2).receipts()["cluster"].facts
    assert one["groups"]
    collection.receipts()["cluster"].facts["groups"] = [{"group": 0, "size": 12, "cohesion": None, "quality": None}]
    check(report.report_html(collection))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    collection = fake(tmp_path, n=6, names=HOSTILE, failed=[(HOSTILE[0], HOSTILE[1])], copies=0, unplaced=0)
    html = report.report_html(collection)
    page = check(html)
    assert "alert(1)</script>" not in html
    assert "49" not in re.findall(r"<span>([^<]*)/d.png", html)
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    assert sorted(page.data()["names"]) == sorted(collection.read()["name"].to_pylist())
    alts = {attrs.get("alt") for tag, attrs in page.elements if tag == "img"}
    assert HOSTILE[1] in alts


def test_the_map_holds_every_placed_item_within_its_cube(tmp_path: Path) -> None:
    data = check(map3d.write_map(fake(tmp_path, n=50, unplaced=5)).read_text()).data()
    assert len(data["names"]) == 45
    assert [each["name"] for each in data["maps"]] == ["UMAP", "PCA (pca)"]
    assert [each["name"] for each in data["schemes"]] == ["group", "quality", "folder"]
    points = np.array([data["maps"][0][axis] for axis in "xyz"])
    assert np.abs(points).max() == pytest.approx(1, abs=1e-3)
    for scheme in data["schemes"]:
        assert sum(entry["items"] for entry in scheme["legend"]) == 45
        assert max(scheme["codes"]) < len(scheme["legend"])
    assert all(data["thumbnails"])


def test_a_flat_map_is_marked_as_one(tmp_path: Path) -> None:
    data = check(map3d.write_map(fake(tmp_path, n=20, flat=True)).read_text(encoding="utf-8")).data()
    assert all(each["flat"] for each in data["maps"])


def test_many_items_bound_the_size_of_the_page_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map3d, "BYTES", 50_000)
    monkeypatch.setattr(map3d, "PICTURES", 30)
    monkeypatch.setattr(map3d, "POINTS", 80)
    big = [drawn_jpeg(i, (160, 160)) for i in range(10)]
    html = map3d.write_map(fake(tmp_path, n=100, thumbnails=big, unplaced=0)).read_text()
    data = check(html).data()
    assert len(data["names"]) == 80
    assert sum(each is not None for each in data["thumbnails"]) == 30
    assert "80 of 100 items are shown" in html
    assert "30 of them carry a picture" in html


def test_a_group_without_a_card_stands_in_the_table(tmp_path: Path) -> None:
    html = report.report_html(fake(tmp_path, n=400, groups=70, maps=()))
    assert html.count('<article class="card">') == report.CARDS + 1
    assert "60 largest have a card" in html
    assert '<th scope="row">69</th>' in html


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImagierError, match="cannot be written"):
        report.write_report(fake(tmp_path, n=2), tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.414, "0.41"), (-0.2, "-0.20"), (812.5, "812"), (12345.0, "12,345")],
)
def test_scores_are_written_to_be_read(value: float | None, text: str) -> None:
    assert pages.score(value) == text
