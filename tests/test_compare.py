"""Clusterings side by side: figures against hand counts and receipts, the truth, the suspects, and where they go."""

from __future__ import annotations

import json
from pathlib import Path

import drawn
import numpy as np
import pyarrow as pa
import pytest
from fake_collection import FakeCollection, fake
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plots import check as check_picture
from test_report import HOSTILE
from test_report import check as check_page

from imagier.algorithms import agreement, scores
from imagier.collection import Collection
from imagier.outputs import plots_compare, plots_figures, report
from imagier.outputs.plots import write_plots
from imagier.types import CollectionError, SettingError
from imagier.workflows import compare as work
from imagier.workflows._compare_text import lines
from imagier.workflows.compare import compare, refresh, save, write
from imagier.workflows.run import run

STEPS = [
    {"embed": {"encoder": "classical"}},
    {"reduce": {"method": "pca", "components": 8}, "as": "pca"},
    {"cluster": {"method": "dbscan", "on": "pca_components", "min_samples": 3}, "as": "dbscan"},
    {"cluster": {"k": 3}, "as": "kmeans"},
]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots of fewer pixels: these tests are not about them."""
    monkeypatch.setattr(plots_figures, "DPI", 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """30 drawn pictures of three kinds, and one that is like none of them."""
    images = drawn.fill(tmp_path_factory.mktemp("compare") / "images", each=10)
    rng = np.random.default_rng(0)
    drawn.save(images / "disc_99.png", rng.integers(0, 255, (48, 48, 3), np.uint8))
    return images


@pytest.fixture(scope="module")
def two(folder) -> Collection:
    """A collection with two clusterings."""
    return run(folder, into=folder.parent / "out", pipeline=STEPS, report=False, threads=2)


def column(collection: Collection, name: str) -> np.ndarray:
    return np.array(collection.read([name])[name].to_pylist())


# ---------------------------------------------------------------- the figures


def test_agreement_by_hand():
    labels, truth = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 1, 0])
    found = agreement.agreement(labels, truth)
    assert found.items == 6
    assert found.purity == pytest.approx((2 + 2 + 1) / 6)
    # Pairs together in both: 1 (0,1) and 1 (3,4). In groups: 3 + 1; in truth: 3 + 3; all: 15.
    assert found.ari == pytest.approx((2 - 4 * 6 / 15) / ((4 + 6) / 2 - 4 * 6 / 15))
    entropy = {"labels": -sum(p * np.log(p) for p in (3 / 6, 2 / 6, 1 / 6)), "truth": np.log(2)}
    cells = [(2 / 6, 3 / 6, 1 / 2), (1 / 6, 3 / 6, 1 / 2), (2 / 6, 2 / 6, 1 / 2), (1 / 6, 1 / 6, 1 / 2)]
    mutual = sum(p * np.log(p / (row * col)) for p, row, col in cells)
    assert found.nmi == pytest.approx(mutual / ((entropy["labels"] + entropy["truth"]) / 2))


def test_without_two_true_values_there_is_no_index():
    assert agreement.agreement(np.array([0, 1]), np.array([3, 3])) == agreement.Agreement(2, None, None, 1.0)
    assert agreement.agreement(np.zeros(0, int), np.zeros(0, int)) == agreement.Agreement(0, None, None, None)


LABELS = st.lists(st.integers(-1, 3), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(LABELS, st.randoms(use_true_random=False))
def test_purity_is_the_share_of_each_groups_commonest_value(labels, random):
    truth = [random.randint(0, 2) for _ in labels]
    groups = {g: [t for own, t in zip(labels, truth, strict=True) if own == g] for g in labels}
    expected = sum(max(map(values.count, values)) for values in groups.values()) / len(labels)
    assert agreement.purity(np.array(labels), np.array(truth)) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(0, 2**32 - 1))
def test_the_nearest_centroid_leaves_the_item_itself_out(labels, seed):
    labels = np.array(labels)
    points = np.random.default_rng(seed).normal(0, 3, (len(labels), 4))
    expected = []
    for row, own in enumerate(labels):
        away = []
        for group in set(labels[labels >= 0].tolist()):
            members = (labels == group) & ((np.arange(len(labels)) != row) | (own != group))
            if members.any():
                away.append(np.linalg.norm(points[row] - points[members].mean(axis=0)))
        expected.append(min(away, default=np.nan))
    np.testing.assert_allclose(agreement.nearest_centroid(points, labels), expected, atol=1e-9)


def test_suspects_are_far_in_every_clustering():
    n = 40
    one, other = np.linspace(0, 1, n), np.linspace(1, 0, n)
    one[7] = other[7] = 0.99
    other[8] = np.nan  # unknown there: what the first says of it counts
    one[8] = 0.995
    one[9] = other[9] = np.nan
    found = agreement.farthest([one, other])
    assert found.tolist()[:2] == [8, 7]
    assert len(found) == (n - 1) // agreement.SHARE_SUSPECTS
    assert len(agreement.farthest([np.linspace(0, 1, 1000)])) == agreement.MOST_SUSPECTS
    np.testing.assert_allclose(agreement.quantiles(np.array([3.0, np.nan, 1, 1, 9])), [2 / 3, np.nan, 1 / 6, 1 / 6, 1])


def test_groups_that_explain_a_score():
    labels = np.array([0, 0, 1, 1, -1, -1])
    assert agreement.explained(labels, np.array([1.0, 1, 5, 5, 3, 3])) == 1
    values = np.array([1.0, 3, 5, 7, 2, 4])
    within = 1 - (2 + 2 + 2) / 3 / np.var(values, ddof=1)
    assert agreement.explained(labels, values) == pytest.approx(within)
    assert agreement.explained(np.arange(6), values) is None
    assert agreement.explained(labels, np.full(6, 2.0)) is None
    rng = np.random.default_rng(0)  # groups that say nothing explain nothing, however many there are
    drawn_so = [agreement.explained(rng.integers(0, 20, 60), rng.normal(size=60)) for _ in range(400)]
    assert abs(np.mean(drawn_so)) < 0.02


# ---------------------------------------------------------------- a collection


def test_what_the_receipts_hold_is_read_off_them(two):
    made = compare(two)
    assert [each.name for each in made.clusterings] == ["dbscan", "kmeans"]
    for each in made.clusterings:
        facts = two.receipt(each.name).facts
        assert each.groups == len(facts["groups"])
        assert each.noise == pytest.approx(facts["noise"], abs=1e-6)
        assert each.silhouette == facts["scores"]["space"]["silhouette"]
        assert each.common["silhouette"] == facts["scores"]["embedding"]["silhouette"]
        assert each.stability == facts["stability"]["ari"]
        sizes, cohesion = zip(*[(group["size"], group["cohesion"]) for group in facts["groups"]], strict=True)
        assert each.cohesion == pytest.approx(np.average(cohesion, weights=sizes))
        assert (each.items, each.absent, each.placed) == (31, 0, False)
    kmeans = made.clusterings[1]
    assert kmeans.on == [made.space["column"]] == ["embedding"]
    assert kmeans.common == {"silhouette": kmeans.silhouette, "cohesion": kmeans.cohesion}


def test_all_are_measured_in_one_space(two):
    dbscan = compare(two).clusterings[0]
    points, labels = np.stack(column(two, "embedding")), column(two, "dbscan_group")
    inside = labels >= 0
    own = [np.linalg.norm(points[labels == g] - points[labels == g].mean(0), axis=1) for g in set(labels[inside])]
    spread = np.linalg.norm(points - points.mean(0), axis=1).mean()
    assert dbscan.common["cohesion"] == pytest.approx(np.concatenate(own).mean() / spread, rel=1e-4)
    measured = scores.silhouettes(points, labels, 0).mean
    assert dbscan.common["silhouette"] == pytest.approx(measured, abs=1e-5)


def test_a_clustering_scored_elsewhere_is_scored_again_in_the_common_space(folder, tmp_path):
    other = {"cluster": {"k": 3, "on": "pca_components", "embedding": "pca_components"}, "as": "other"}
    made = run(folder, into=tmp_path / "out", pipeline=[*STEPS, other], report=False)
    found = compare(made)
    assert found.space["column"] == "embedding"
    third = found.clusterings[2]
    labels = column(made, "other_group")
    measured = scores.silhouettes(np.stack(column(made, "embedding")), labels, 0).mean
    assert third.common["silhouette"] == pytest.approx(measured)
    assert third.common["silhouette"] != third.silhouette


def test_the_folders_are_the_truth_where_they_can_be(two):
    made = compare(two)
    assert made.truth["column"] == "label_folder"
    assert (made.truth["values"], made.truth["items"], made.asked) == (3, 31, None)
    truth, labels = column(two, "label_folder"), column(two, "dbscan_group")
    assert (labels == -1).any()
    (every, grouped) = (made.clusterings[0].truth[which] for which in ("all", "grouped"))
    assert (every.items, grouped.items) == (31, int((labels >= 0).sum()))
    number = np.unique(truth, return_inverse=True)[1]
    assert every == agreement.agreement(labels, number)
    assert grouped == agreement.agreement(labels[labels >= 0], number[labels >= 0])
    assert grouped.ari == pytest.approx(1)
    counts = made.clusterings[0].counts
    for group, row in zip(counts["groups"], counts["table"], strict=True):
        expected = [int(((labels == group) & (truth == value)).sum()) for value in counts["values"]]
        assert row == expected
    assert counts["groups"][-1] == -1


def test_any_column_of_names_or_numbers_can_be_the_truth(two):
    made = compare(two, truth="dbscan_group")
    assert made.asked == "dbscan_group"
    assert made.clusterings[0].truth["all"].ari == made.clusterings[0].truth["all"].nmi == pytest.approx(1)
    assert made.clusterings[1].truth["all"].ari == pytest.approx(made.agreement["all"][0][1])
    assert compare(two, truth="folder").clusterings == compare(two).clusterings


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        ("label_foldr", "label_folder"),
        ("embedding", "it holds"),
        ("dbscan_distance", "it holds float"),
        ("path", "31 different values for 31 of 31 items"),
        ("width", "1 different values"),
    ],
)
def test_a_truth_that_cannot_serve_is_refused(two, truth, told):
    with pytest.raises(SettingError, match=told):
        compare(two, truth=truth)


def test_without_names_there_is_no_truth_and_no_figure_of_it(tmp_path):
    images = tmp_path / "images"
    for at in range(12):
        drawn.save(images / f"{at}.png", drawn.picture(drawn.KINDS[at % 3], at))
    made = run(images, into=tmp_path / "out", pipeline=STEPS, report=False)
    found = compare(made)
    assert found.truth is None
    assert "0 different values" in found.why
    assert all(each.truth is None and each.counts is None for each in found.clusterings)
    assert "purity" not in "\n".join(lines(found))


def test_two_clusterings_agree_as_much_as_they_do(two):
    pairs = compare(two).agreement
    labels = [column(two, f"{name}_group") for name in ("dbscan", "kmeans")]
    grouped = labels[0] >= 0
    assert pairs["all"][0][1] == pairs["all"][1][0] == pytest.approx(scores.adjusted_rand(*labels))
    assert pairs["grouped"][0][1] == pytest.approx(scores.adjusted_rand(labels[0][grouped], labels[1][grouped]))
    assert pairs["all"][0][0] == 1


def test_the_picture_that_is_like_no_other_is_the_first_suspect(two):
    first = compare(two).suspects[0]
    assert first.path.endswith("disc_99.png")
    assert first.quantile == 1
    assert first.quantiles == {"dbscan": 1.0, "kmeans": 1.0}
    assert "100 % of the items, in every clustering; noise in dbscan" in first.reason


def test_one_clustering_stands_alone(folder, tmp_path):
    made = run(folder, into=tmp_path / "out", pipeline=[STEPS[0], STEPS[3]], report=False)
    found = compare(made)
    assert found.agreement is None
    assert len(found.clusterings) == 1
    assert found.clusterings[0].truth["all"].purity > 0.9
    assert ", in kmeans" in found.suspects[0].reason
    assert "agreement (ARI)" not in "\n".join(lines(found))


def test_all_noise_has_no_centroid_and_no_suspects_of_its_own(folder, tmp_path):
    steps = [STEPS[0], {"cluster": {"method": "dbscan", "eps": 1e-6}}]
    made = run(folder, into=tmp_path / "out", pipeline=steps, report=False)
    found = compare(made)
    (only,) = found.clusterings
    assert (only.groups, only.noise, only.silhouette, only.cohesion) == (0, 1.0, None, None)
    assert only.common == {"silhouette": None, "cohesion": None}
    assert only.truth["grouped"].items == 0
    assert found.suspects == []
    save(made, found)
    check_page(report.report_html(made))
    check_picture(write_plots(made, only=[plots_compare.PLOT])[0])


def test_without_a_clustering_there_is_nothing_to_compare(folder, tmp_path):
    made = run(folder, into=tmp_path / "out", pipeline=["embed"], report=False)
    with pytest.raises(CollectionError, match="no clustering"):
        compare(made)
    assert refresh(made) is None


def test_placed_items_are_measured_themselves(two, tmp_path):
    images = drawn.fill(tmp_path / "more", each=3, side=40)
    made = run(images, into=tmp_path / "out", like=two.folder, report=False)
    found = compare(made)
    assert all(each.placed and each.items == 9 for each in found.clusterings)
    labels = column(made, "kmeans_group")
    measured = scores.silhouettes(np.stack(column(made, "embedding")), labels, 0).mean
    assert found.clusterings[1].common["silhouette"] == pytest.approx(measured)
    assert found.clusterings[1].silhouette == compare(two).clusterings[1].silhouette
    assert "placed in" in "\n".join(lines(found))


# ---------------------------------------------------------------- where it goes


def test_what_is_kept_is_what_was_found(two, tmp_path):
    made = compare(two)
    path = save(two, made, tmp_path / "there.json")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept == made.to_json()
    assert kept["format"] == plots_compare.FORMAT
    assert kept["clusterings"][0]["truth"]["all"]["ari"] == pytest.approx(
        made.clusterings[0].truth["all"].ari, abs=1e-6
    )


def test_it_is_written_as_json_plot_and_a_section_of_the_report(two):
    made = compare(two)
    written = write(two, made)
    assert [path.name for path in written] == ["compare.json", "compare.png", "report.html"]
    check_picture(written[1])
    html = written[2].read_text(encoding="utf-8")
    check_page(html)
    assert '<section id="compared">' in html
    assert f"{made.suspects[0].quantile * 100:.0f} % of the items" in html
    page = html[html.index('<section id="compared">') :]
    assert page.index("disc_99.png") < page.index("</section>")


def test_an_old_comparison_is_not_shown(two, tmp_path):
    save(two, compare(two))
    path = two.folder / plots_compare.NAME
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"version": "before"}))
    assert plots_compare.facts_of(two) is None
    assert 'id="compared"' not in report.report_html(two)
    path.write_text("{")
    with pytest.raises(CollectionError, match=r"compare\.json cannot be read.*Delete it"):
        report.report_html(two)
    path.unlink()


def test_a_run_compares_its_clusterings_before_it_publishes(folder, tmp_path):
    made = run(folder, into=tmp_path / "out", pipeline=STEPS)
    assert plots_compare.facts_of(made)["truth"]["column"] == "label_folder"
    check_picture(made.folder / "plots" / "compare.png")
    assert '<section id="compared">' in (made.folder / "report.html").read_text(encoding="utf-8")


def test_the_truth_that_was_asked_for_stays_as_long_as_it_can(folder, tmp_path):
    how = {"into": tmp_path / "out", "report": False}
    made = run(folder, pipeline=STEPS, **how)
    save(made, compare(made, truth="kmeans_group"))
    made = run(settings={"kmeans.k": 4}, **how)
    assert plots_compare.facts_of(made) is None
    assert refresh(made).truth["column"] == "kmeans_group"
    assert plots_compare.facts_of(made)["clusterings"][1]["groups"] == 4
    made = run(pipeline=[STEPS[0], {"cluster": {"k": 3}}], **how)  # that column is gone
    assert refresh(made).truth["column"] == "label_folder"
    made = run(pipeline=["embed"], **how)
    assert refresh(made) is None
    assert not (made.folder / plots_compare.NAME).exists()


def test_one_clustering_is_compared_when_it_is_asked_for_alone(folder, tmp_path):
    made = run(folder, into=tmp_path / "out", pipeline=[STEPS[0], STEPS[3]], report=False)
    assert refresh(made) is None
    assert not (made.folder / plots_compare.NAME).exists()
    save(made, compare(made))
    assert refresh(made) is not None


def test_the_lines_are_aligned(two):
    told = lines(compare(two))
    assert told[0].startswith("31 items; the truth is label_folder: 3 different values")
    header = next(line for line in told if line.startswith("clustering"))
    rows = [line for line in told if line.startswith(("dbscan  ", "kmeans  "))][:2]
    for word in ("groups", "noise", "stability", "purity"):
        end = header.index(word) + len(word)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in rows), word


def test_the_command_prints_writes_and_refuses(two, tmp_path):
    from click.testing import CliRunner

    from imagier.cli import main

    result = CliRunner().invoke(main, ["compare", str(two.folder), "--json", str(tmp_path / "c.json")])
    assert result.exit_code == 0, result.output
    assert "kmeans" in result.output
    assert json.loads((tmp_path / "c.json").read_text())["items"] == 31
    result = CliRunner().invoke(main, ["compare", str(two.folder), "--truth", "label_foldr"])
    assert result.exit_code == 1
    assert "label_folder" in result.output


# ---------------------------------------------------------------- pages and plots of any facts


class Versioned(FakeCollection):
    """A fake with what comparing needs besides."""

    version = "1"

    def __len__(self) -> int:
        return self._items.num_rows


def faked(folder: Path, **how) -> Versioned:
    made = fake(folder, **how)
    return Versioned(folder, made._items, made._files, list(made.receipts().values()))


@pytest.mark.parametrize(
    "how",
    [
        {"n": 1, "groups": 1, "noise": 0, "unplaced": 0, "copies": 0},
        {"n": 12, "noise": 1.0},
        {"n": 40, "groups": 4, "clusterings": tuple(f"a{at}_" for at in range(9))},
        {"n": 400, "groups": 70, "maps": (), "clusterings": ("", "b_")},
        {"n": 30, "names": [f"{'long ' * 20}{i % 14}/{i}.jpg" for i in range(30)], "clusterings": ("", "b_")},
    ],
    ids=["one item", "noise", "nine clusterings", "many groups", "long names"],
)
def test_any_comparison_can_be_drawn(tmp_path, how):
    collection = faked(tmp_path, **how)
    save(collection, compare(collection))
    check_picture(write_plots(collection, only=[plots_compare.PLOT])[0])
    facts = plots_compare.facts_of(collection)
    assert (plots_compare.panels(facts) == 0) == (how["n"] == 1)
    if plots_compare.panels(facts):
        assert plots_figures.png(plots_compare.matrices(facts, plots_figures.DARK))


def test_one_item_has_its_section(tmp_path):
    collection = faked(tmp_path, n=1, groups=1, noise=0, unplaced=0, copies=0, maps=())
    save(collection, compare(collection))
    html = report.report_html(collection)
    check_page(html)
    assert '<section id="compared">' in html


def test_many_groups_and_values_are_summed_up(tmp_path):
    names = [f"kind{i % 60:02}/{i:05}.jpg" for i in range(400)]
    made = compare(faked(tmp_path, n=400, groups=70, names=names, noise=0))
    (only,) = made.clusterings
    assert len(only.counts["groups"]) == len(only.counts["values"]) == work.MOST
    assert only.counts["groups"][-1] is None
    assert only.counts["values"][-1] is None
    assert np.sum(only.counts["table"]) == only.truth["all"].items == 399


def test_hostile_names_stay_text(tmp_path):
    names = [name for name in HOSTILE for _ in range(3)]
    names = [f"{name.rpartition('/')[0]}/{at}.png" for at, name in enumerate(names)]
    collection = faked(tmp_path, n=18, names=names, copies=0, unplaced=0, maps=(), clusterings=("", "b_"))
    save(collection, compare(collection))
    check_picture(write_plots(collection, only=[plots_compare.PLOT])[0])
    html = report.report_html(collection)
    check_page(html)
    assert "alert(1)</script>" not in html


def test_items_without_a_vector_are_left_out(tmp_path):
    collection = faked(tmp_path, n=40, unplaced=5)
    made = compare(collection)
    assert (made.items, made.space["items"]) == (40, 35)
    assert (made.clusterings[0].items, made.clusterings[0].absent) == (35, 5)
    assert made.truth["items"] == 35
    assert "of 35 items" in made.why
    gone = set(collection._items["id"].to_pylist()[-5:])
    assert not gone & {each.id for each in made.suspects}


def test_true_values_that_are_missing_are_left_out(tmp_path):
    collection = faked(tmp_path, n=40, unplaced=0)
    said = pa.array([None if at % 4 == 0 else f"kind {at % 2}" for at in range(40)], pa.string())
    at = collection._items.schema.get_field_index("label_user")
    collection._items = collection._items.set_column(at, "label_user", said)
    made = compare(collection, truth="label_user")
    assert made.truth["items"] == made.clusterings[0].truth["all"].items == 30


# ---------------------------------------------------------------- real images


@pytest.mark.shared
def test_real_parts_against_their_folders(shared, tmp_path):
    steps = [
        {"embed": {}},
        {"reduce": {"method": "pca"}, "as": "pca"},
        {"cluster": {"method": "dbscan", "on": "pca_components"}, "as": "dbscan"},
        {"cluster": {"method": "kmeans", "on": "pca_components"}, "as": "kmeans"},
    ]
    made = run(shared / "data" / "metal_nut", into=tmp_path / "out", pipeline=steps, report=False)
    found = compare(made)
    dbscan, kmeans = found.clusterings
    assert found.truth["values"] == 5
    assert min(kmeans.truth["all"].nmi, dbscan.truth["all"].nmi) > 0.4
    flip = kmeans.counts["values"].index("flip")
    pure = [row for row in kmeans.counts["table"] if row[flip] and sum(row) == row[flip]]
    assert sum(row[flip] for row in pure) >= 20  # the flipped ones lie apart from all others
