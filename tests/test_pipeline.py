"""Pipelines: read from YAML and Python, checked and bound before any work; keys change exactly when they must."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagier.pipeline import Pipeline, check_settings, key_of_pass, key_of_table, parse_setting
from imagier.stages import find_stage, stage_names
from imagier.types import SettingError


def bind(*steps):
    return Pipeline.of(list(steps)).bind()


def refused(*steps) -> str:
    with pytest.raises(SettingError) as caught:
        bind(*steps)
    return str(caught.value)


# ---------------------------------------------------------------- reading


def test_a_step_waits_for_the_setting_that_it_cannot_be_without():
    steps = [
        {"segment": {}, "as": "marks", "unless_without": "model"},
        {"segment": {"model": "nuclei"}},
        {"measure": {"attributes": ["marks_masks", "masks"]}},
    ]
    waiting = Pipeline.of(steps)
    assert [step.name for step in waiting.present()] == ["segment", "measure"]
    assert waiting.present()[1].settings == {"attributes": ["masks"]}  # and not what nobody makes
    whole = waiting.with_settings({"marks.model": "nuclei"})
    assert [step.name for step in whole.present()] == ["marks", "segment", "measure"]
    assert whole.present()[2].settings == {"attributes": ["marks_masks", "masks"]}
    with pytest.raises(SettingError, match=r"marks is left out until marks\.model is given"):
        waiting.with_settings({"marks.threshold": 0.3})
    with pytest.raises(SettingError, match="unknown setting 'modle'"):
        Pipeline.of([{"segment": {}, "unless_without": "modle"}])


def test_the_default_pipeline_binds():
    assert [each.name for each in Pipeline.of(None).bind()] == ["embed", "pca", "reduce", "cluster", "duplicates"]


def test_yaml_and_python_are_the_same(tmp_path, plugs):
    path = tmp_path / "p.yaml"
    path.write_text("- tint: {gain: 2}\n- rank: {direction: down}\n  as: down\n- rank\n")
    listed = Pipeline.of([{"tint": {"gain": 2}}, {"rank": {"direction": "down"}, "as": "down"}, "rank"])
    assert Pipeline.of(path) == Pipeline.of(str(path)) == listed
    assert Pipeline.of(listed) is listed


@pytest.mark.parametrize(
    "text",
    ["", "embed", "{embed: {}}", "- 3", "- [embed]", "- {embed: {}, reduce: {}}", "- {as: x}", "- embed: 3",
     "- {embed: {}, as: A b}", "- {embed: {}, as: ''}", "- {embed: {}, as: 3}", "- {1: {}}", "- {", "- null",
     "- {embed: [1]}",
     "- !!python/object/apply:os.system ['true']"],
)  # fmt: skip
def test_what_is_no_pipeline_is_refused_with_one_message(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(SettingError) as caught:
        Pipeline.of(path)
    assert "p.yaml" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.yaml", tmp_path / "p.yaml", tmp_path):
        with pytest.raises(SettingError, match=r"cannot be read|YAML"):
            Pipeline.of(path)


@pytest.mark.parametrize("given", [3, {"embed": {}}, [], [3], [None]])
def test_python_that_is_no_pipeline_is_refused(given):
    with pytest.raises(SettingError):
        Pipeline.of(given)


def test_what_is_written_reads_back(plugs):
    made = Pipeline.of([{"tint": {"gain": 2.0}, "as": "warm"}, {"rank": {"on": "warm_tint"}}])
    from imagier.pipeline import Named

    back = Pipeline(tuple(Named(**json.loads(json.dumps(each.written))) for each in made.steps))
    assert back == made
    assert [each.key for each in back.bind()] == [each.key for each in made.bind()]


# ---------------------------------------------------------------- names that do not exist


def test_unknown_names_are_told_with_the_nearest(plugs):
    assert "Did you mean tint?" in refused("tnit")
    assert "Did you mean gain?" in refused({"tint": {"gian": 1}})
    assert "Did you mean tint?" in refused("tint", {"rank": {"on": "tnt"}})
    with pytest.raises(SettingError, match="Did you mean tint"):
        Pipeline.of(["tint"]).with_settings({"tin.gain": 1})


def test_a_step_cannot_read_what_only_a_later_one_makes(plugs):
    assert "tint" in refused({"rank": {"on": "tint"}})
    assert "no step before it" in refused("double", "tint")


def test_a_table_step_cannot_read_pixels(plugs):
    assert "image" in refused("tint", {"rank": {"on": "image"}})


def test_row_steps_stand_before_table_steps(plugs):
    assert "image by image" in refused("tint", "rank", "picky")


def test_collisions_are_refused_and_as_puts_them_right(plugs):
    assert "as" in refused("tint", "rank", "rank")
    assert "fine" in refused("picky", "short")
    assert [each.writes.names for each in bind("picky", {"short": {}, "as": "two"})] == [["fine"], ["two_fine"]]
    assert "two steps" in refused("tint", {"picky": {}, "as": "a"}, {"short": {}, "as": "a"})


def test_a_prefix_is_put_before_every_column_it_writes():
    (_, pca) = bind("embed", {"reduce": {"method": "pca"}, "as": "pca"})
    assert pca.writes.names[:3] == ["pca_x", "pca_y", "pca_z"]
    assert all(name.startswith("pca_") for name in pca.writes.names)
    assert bind("embed", {"reduce": {"method": "pca"}, "as": "reduce"})[1].prefix == ""


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a.b=5", 5), ("a.b=0.5", 0.5), ("a.b=[1, 2]", [1, 2]), ("a.b=null", None), ("a.b=x=y", "x=y"), ("a.b=", None),
     ("a.b=true", True), ("a.b = 5", 5), ("a.b='5'", "5"), ("a.b=1e-3", 0.001), ("a.b=2E5", 200000.0)],
)  # fmt: skip
def test_a_setting_is_read_as_a_person_means_it(text, wanted):
    path, value = parse_setting(text)
    assert (path, value) == ("a.b", wanted)
    assert type(value) is type(wanted)


@pytest.mark.parametrize("text", ["", "a.b", "=3", "a.b=[1", "a.b={"])
def test_what_is_no_setting_is_refused(text):
    with pytest.raises(SettingError):
        parse_setting(text)


@pytest.mark.parametrize("path", ["gain", "tint.", ".gain", "tint.gain.more"])
def test_a_setting_needs_its_step(plugs, path):
    with pytest.raises(SettingError):
        Pipeline.of(["tint"]).with_settings({path: 1}).bind()


def test_settings_are_put_over_the_pipelines(plugs):
    made = Pipeline.of([{"tint": {"gain": 2}}]).with_settings({"tint.gain": 3.0, "tint.sleep": 0.1})
    assert made.bind()[0].settings == {"gain": 3.0, "sleep": 0.1}


@pytest.mark.parametrize(
    ("stage", "given"),
    [("tint", {"gain": "2"}), ("tint", {"gain": None}), ("tint", {"gain": [1]}), ("tint", {"gain": True}),
     ("rank", {"direction": "Up"}),
     ("rank", {"least": 1.5}), ("rank", {"least": True}), ("rank", {"on": 3}), ("killer", {"how": None})],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_by_name(plugs, stage, given):
    with pytest.raises(SettingError, match=f"{stage}.{next(iter(given))}"):
        check_settings(find_stage(stage), given, stage)


def test_of_words_to_choose_from_all_are_told():
    with pytest.raises(SettingError) as caught:
        bind({"embed": {"tone": "fulll"}})
    assert "auto" in str(caught.value)
    assert "full" in str(caught.value).replace("fulll", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_no_setting(plugs, value):
    with pytest.raises(SettingError, match="gain"):
        check_settings(find_stage("tint"), {"gain": value}, "tint")


def test_whole_numbers_serve_where_fractions_do(plugs):
    assert check_settings(find_stage("tint"), {"gain": 2}, "tint") == {"gain": 2.0, "sleep": 0.0}
    assert [each.key for each in bind({"tint": {"gain": 2}})] == [each.key for each in bind({"tint": {"gain": 2.0}})]


# ---------------------------------------------------------------- keys


def test_a_key_changes_with_what_it_depends_on_and_with_nothing_else(plugs):
    def keys(*steps):
        return {each.name: each.key for each in bind(*steps)}

    base = keys("tint", "picky", "rank")
    assert base == keys({"tint": {}}, "picky", {"rank": {"direction": "up"}}), "a default given is a default"
    other = keys({"tint": {"gain": 2}}, "picky", "rank")
    assert other["tint"] != base["tint"]
    assert other["rank"] != base["rank"], "what is made from a column that changes changes too"
    assert other["picky"] == base["picky"]
    assert keys("picky", "tint", "rank") == base, "order alone changes no step's key"
    assert keys("tint", "invert", "picky")["picky"] != base["picky"], "other pixels are other results"
    assert keys("halves", "tint")["tint"] != base["tint"]
    named = keys({"tint": {}, "as": "warm"}, {"rank": {"on": "warm_tint"}})
    assert named["warm"] == base["tint"]


def test_the_key_of_a_pass_changes_with_steps_their_names_and_their_order(plugs):
    passes = [["tint", "picky"], ["picky", "tint"], ["tint"], [{"tint": {"gain": 2}}], [{"tint": {}, "as": "warm"}]]
    keys = {key_of_pass(bind(*steps)) for steps in passes}
    assert len(keys) == len(passes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abc", max_size=3), unique=True, min_size=1, max_size=4), st.data())
def test_the_key_of_a_table_changes_with_the_items(ids, data):
    (step,) = Pipeline.of(["embed"]).bind()
    other = data.draw(st.lists(st.text("abc", max_size=3), unique=True, max_size=4))
    same = key_of_table(step, ids, None) == key_of_table(step, other, None)
    assert same == (ids == other)
    assert key_of_table(step, ids, None) != key_of_table(step, ids, "like")


# ---------------------------------------------------------------- plug-ins


def test_plug_ins_are_stages_like_any_other(plugs):
    assert {"tint", "embed"} <= set(stage_names())
    assert find_stage("tint").name == "tint"


@pytest.mark.parametrize(
    ("target", "message"),
    [("nowhere:X", "does not load"), ("plugs:NOWHERE", "does not load"), ("plugs:tint", "no imagier.types.Stage"),
     ("plugs:RANK", "no imagier.types.Stage"), ("broken_plug:X", "does not load")],
)  # fmt: skip
def test_a_plug_in_that_does_not_load_is_one_message(tmp_path, monkeypatch, plugs, target, message):
    info = tmp_path / "site" / "bad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[imagier.stages]\nbadstage = {target}\n")
    (tmp_path / "site" / "broken_plug.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(SettingError, match=message):
        find_stage("badstage")
