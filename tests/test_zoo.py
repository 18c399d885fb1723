"""The zoo's table: nothing in it that is not known elsewhere, and names that say what to do."""

import re

import pytest

from imagier.models import store, zoo
from imagier.types import ModelError

EMBED = (
    "efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 vgg16 resnet50 vit-b-16 vit-s-16"
)
SMALL = "mobilenetv3-large mobilenetv3-small dinov2-s clip-vit-b-32 clip-vit-b-16"
OTHER = "edsr-x2 edsr-x3 edsr-x4 yolov10n yolov10s yolox-nano yolox-s rtdetr"
NAMES = f"{EMBED} {SMALL} {OTHER}".split()

ENTRIES = list(zoo.ZOO.values())
BY_TIMM = [each for each in ENTRIES if each.architecture.startswith("timm:")]
BY_CLIP = [each for each in ENTRIES if each.architecture.startswith("open_clip:")]


def named(entry):
    return entry.name


def test_the_zoo_has_the_names_that_were_promised():
    assert list(zoo.ZOO) == NAMES


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_every_entry_says_where_it_was_read(entry):
    assert entry.cite
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo) or (not entry.repo and "imagier models import" in entry.notes)
    assert entry.licence != "unknown"
    assert re.fullmatch("|[0-9a-f]{40}", entry.revision)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in entry.sha256s.values())
    names = {name for each in entry.files.values() for name in each}
    assert set(entry.sha256s) <= names
    assert {"weights", "network"} & set(entry.files)


@pytest.mark.parametrize("entry", [each for each in ENTRIES if each.revision], ids=named)
def test_a_revision_is_one_that_its_page_shows(entry):
    shown = re.findall("[0-9a-f]{40}", entry.cite)
    assert entry.revision in shown


@pytest.mark.parametrize("entry", BY_TIMM, ids=named)
def test_what_timm_lists_is_what_timm_says(entry):
    timm = pytest.importorskip("timm")
    name = entry.architecture.removeprefix("timm:")
    assert timm.is_model(name.partition(".")[0])
    assert name in timm.list_pretrained(name.partition(".")[0] + ".*")
    config = timm.get_pretrained_cfg(name)
    assert (entry.repo, entry.licence) == (config.hf_hub_id, config.license)
    assert not config.hf_hub_filename


@pytest.mark.parametrize("entry", BY_CLIP, ids=named)
def test_what_open_clip_lists_is_what_open_clip_says(entry):
    open_clip = pytest.importorskip("open_clip")
    from open_clip.pretrained import _get_safe_alternatives, get_pretrained_cfg

    name = entry.architecture.removeprefix("open_clip:")
    assert name in open_clip.list_models()
    tags = open_clip.list_pretrained_tags_by_model(name)
    configs = {tag: get_pretrained_cfg(name, tag) for tag in tags}
    (tag,) = [tag for tag, config in configs.items() if config.get("hf_hub", "").rstrip("/") == entry.repo]
    assert tag in entry.cite or tag.replace("_", "-") in entry.cite
    assert not configs[tag].get("quick_gelu"), "the architecture of that name has another activation"
    last = entry.files["weights"][-1]
    assert entry.files["weights"] == (*_get_safe_alternatives(last), last)


@pytest.mark.parametrize("entry", [each for each in ENTRIES if "weights" in each.files], ids=named)
def test_what_lies_there_as_weights_can_be_exported(entry):
    from imagier.models.architectures import ports

    assert "network" in ports(entry.architecture, entry.task)


@pytest.mark.parametrize("entry", [each for each in ENTRIES if each.architecture.startswith("edsr")], ids=named)
def test_the_upscalers_are_networks_of_ours(entry):
    from imagier.models.networks import split

    assert f"-x{split(entry.architecture)[2]}" in entry.name
    assert f"_{split(entry.architecture)[2]}x." in entry.files["weights"][0]


def test_the_labels_are_those_of_torchvision():
    meta = pytest.importorskip("torchvision.models._meta")
    assert tuple(each for each in meta._COCO_CATEGORIES if each not in ("__background__", "N/A")) == zoo.COCO


def test_licences_that_ask_for_more_are_told_apart():
    assert [each.name for each in ENTRIES if each.agpl] == ["yolov10n", "yolov10s"]
    assert [each.name for each in ENTRIES if not each.free] == ["yolov10n", "yolov10s"]
    assert not zoo.Entry("x", "embed", "onnx", "a/b").free
    assert not zoo.Entry("x", "embed", "onnx", "a/b", licence="cc-by-nc-4.0").free


def test_a_name_of_timm_gives_an_entry_by_timms_own_list():
    pytest.importorskip("timm")
    entry = zoo.entry("timm:resnet18")
    assert (entry.repo, entry.licence) == ("timm/resnet18.a1_in1k", "apache-2.0")
    assert entry.architecture == "timm:resnet18.a1_in1k"
    assert entry.cite.startswith("timm ")
    assert zoo.entry("timm:resnet50.fb_swsl_ig1b_ft_in1k").licence == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vgg61", "Did you mean vgg16"),
        ("timm:resnet81", "Did you mean resnet"),
        ("timm:resnet50.a1_in2k", "Did you mean a1_in1k"),
        ("hf:laion", "hf:OWNER/REPO"),
    ],
)
def test_a_name_that_is_none_is_told_with_the_nearest(name, told):
    with pytest.raises(ModelError, match=re.escape(told)):
        zoo.entry(name)


def test_a_name_of_the_hub_gives_an_entry_without_asking_it():
    assert zoo.entry("hf:a/b").repo == "a/b"
    assert zoo.entry("hf:a/b/onnx/model.onnx").files == {"network": ("onnx/model.onnx",)}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_not_here_says_how_it_gets_here(name, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path))
    entry = zoo.ZOO[name]
    with pytest.raises(ModelError) as error:
        store.find(name, entry.task)
    told = str(error.value)
    assert f"imagier models pull {name}" in told
    assert entry.licence in told
    assert f"imagier models import {next(iter(entry.files.values()))[0].split('/')[-1]} --as {name}" in told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet5", "Did you mean resnet50?"),
        ("mnv", "Did you mean mnv2?"),
        ("timm:vit_tiny_patch16_224", "imagier models pull timm:vit_tiny_patch16_224"),
        ("hf:a/b", "imagier models export hf:a/b DIR"),
        ("nowhere/net.onnx", "is not there"),
        ("w.safetensors", "--arch"),
        ("folder", "no Model folder"),
    ],
)
def test_what_cannot_be_found_says_why(name, told, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mnv2").mkdir(parents=True)
    (tmp_path / "models" / "mnv2" / "model.json").write_text("{}")
    (tmp_path / "w.safetensors").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=re.escape(told)):
        store.find(name, "embed")
