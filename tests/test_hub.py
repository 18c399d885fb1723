"""Pulling: real files from a server on this machine that speaks the hub's protocol (hub_server.py)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hub_server
import nets
import numpy as np
import pytest

from imagier.models import hub, store, zoo
from imagier.models.model import read_model
from imagier.types import ImagierError, ModelError, SettingError
from imagier.workflows import _stated
from imagier.workflows import models as work

TESTS = Path(__file__).parent
REPO = "someone/tiny"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub, and an environment that leads to it: no model here, nothing in the hub's cache."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with hub_server.Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def files(tmp_path):
    """A Model folder's files by name: what a repository that is one holds."""
    model = nets.encoder(tmp_path / "written", tmp_path)
    return {path.name: path for path in model.folder.iterdir()}


def told(pull):
    """What a pull tells, as one text, beside the model."""
    lines = []
    return pull(tell=lines.append, progress=False), "\n".join(lines)


def pull(name=f"hf:{REPO}", **more):
    return work.pull(name, **{"tell": lambda _: None, "progress": False} | more)


def transferred(server):
    return sum(each.sent for each in server.bodies())


# Transfers


def test_a_second_pull_transfers_nothing(server, files):
    commit = server.publish(REPO, files)
    model = pull()
    assert model.folder == store.folder_of(f"hf:{REPO}")
    assert commit in model.card.source
    before = len(server.log)
    assert pull().keys == model.keys
    assert len(server.log) == before


def test_a_model_that_was_deleted_comes_from_the_hubs_cache_again(server, files, tmp_path):
    server.publish(REPO, files)
    keys = pull().keys
    sent = transferred(server)
    assert sent == sum(path.stat().st_size for path in files.values())
    (store.where() / f"hf--{REPO.replace('/', '--')}").rename(tmp_path / "away")
    assert pull().keys == keys
    assert transferred(server) == sent


def test_the_cache_is_the_hubs_own(server, files):
    import huggingface_hub

    commit = server.publish(REPO, files)
    pull()
    sent = transferred(server)
    path = huggingface_hub.hf_hub_download(
        REPO, "network.onnx", revision=commit, cache_dir=hub.cache(), endpoint=server.url
    )
    assert Path(path).read_bytes() == files["network.onnx"].read_bytes()
    assert transferred(server) == sent
    assert hub.cache() == Path(os.environ["HF_HOME"]) / "hub"


def test_a_transfer_that_is_cut_goes_on_where_it_was(server, files, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    content = np.random.default_rng(0).bytes(100_000)
    server.publish(REPO, {"big.bin": content})
    server.cut_after, server.cuts = 30_500, 3
    offer = hub.look(REPO, "main")
    assert hub.fetch(offer, "big.bin", progress=False).read_bytes() == content
    assert [each.start for each in server.bodies()] == [0, 30_000, 60_000, 90_000]


def test_a_transfer_goes_on_after_the_program_was_killed(server, tmp_path):
    content = np.random.default_rng(0).bytes(26_000_000)  # huggingface_hub writes 10 MiB at a time
    commit = server.publish(REPO, {"big.bin": content})
    server.hold_after = 24_000_000
    code = f"from imagier.models import hub; hub.fetch(hub.look({REPO!r}, 'main'), 'big.bin', progress=False)"
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(TESTS.parent / "src")})
    parts = hub.cache() / f"models--{REPO.replace('/', '--')}" / "blobs"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size >= 20_971_520 for path in parts.glob("*.incomplete")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.hold_after = None
    server.log.clear()
    path = hub.fetch(hub.look(REPO, "main"), "big.bin", progress=False)
    assert path.read_bytes() == content
    assert [each.start for each in server.bodies()] == [20_971_520]
    assert hub.recorded(REPO)["big.bin"].revision == commit
    assert not list(parts.glob("*.incomplete"))


def test_what_arrives_damaged_is_thrown_away(server, files):
    server.publish(REPO, files)
    server.wrong = b"not this"
    with pytest.raises(ModelError, match="arrived damaged"):
        pull()
    server.wrong = None
    pull()


def test_a_bar_is_shown_and_can_be_left_out(server, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # huggingface_hub: also where nobody watches
    server.publish(REPO, {"a.bin": b"a" * 5000, "b.bin": b"b" * 5000})
    offer = hub.look(REPO, "main")
    hub.fetch(offer, "a.bin", progress=False)
    assert "a.bin" not in capfd.readouterr().err
    hub.fetch(offer, "b.bin")
    assert "b.bin" in capfd.readouterr().err


def test_nothing_is_told_of_this_machine(server, files):
    server.publish(REPO, files)
    pull()
    assert {
        each.path.split("?")[0] for each in server.log if "/resolve/" not in each.path and "/store/" not in each.path
    } == {f"/api/models/{REPO}/revision/main"}
    for each in server.log:
        assert re.fullmatch(r"imagier/[\d.]+; hf_hub/[\d.]+; python/[\d.]+", each.agent), each


# Pins


def test_the_first_pull_is_recorded(server, files):
    commit = server.publish(REPO, files)
    pull()
    pins = json.loads((store.where() / hub.PINS).read_text())
    assert pins == {
        REPO: {
            name: {"revision": commit, "sha256": hub_server.sha256(path.read_bytes())} for name, path in files.items()
        }
    }


def test_what_was_recorded_is_pulled_though_the_hub_has_newer(server, files):
    commit = server.publish(REPO, files)
    keys = pull().keys
    server.publish(REPO, files | {"network.onnx": b"newer"})
    store.folder_of(f"hf:{REPO}").rename(store.where() / "away")
    model = pull()
    assert (model.keys, commit in model.card.source) == (keys, True)


def test_a_file_that_changed_is_refused_with_both_hashes(server, files, tmp_path):
    commit = server.publish(REPO, files)
    pull()
    store.folder_of(f"hf:{REPO}").rename(store.where() / "away")
    hub.cache().rename(tmp_path / "elsewhere")  # the file is not here any more; the record is
    server.repos[REPO][commit].files["network.onnx"] = b"quite another"
    with pytest.raises(ModelError) as error:
        pull()
    assert hub_server.sha256(b"quite another") in str(error.value)
    assert hub_server.sha256(files["network.onnx"].read_bytes()) in str(error.value)
    assert not store.folder_of(f"hf:{REPO}").exists()


def test_a_history_that_was_written_anew_is_refused_until_it_is_trusted(server, files, tmp_path):
    old = server.publish(REPO, files)
    pull()
    store.folder_of(f"hf:{REPO}").rename(store.where() / "away")
    hub.cache().rename(tmp_path / "elsewhere")
    new = server.publish(REPO, files | {"README.md": b"new"})
    del server.repos[REPO][old]
    with pytest.raises(ModelError, match="--repin"):
        pull()
    assert new in pull(repin=True).card.source
    assert hub.recorded(REPO)["network.onnx"].revision == new


def test_what_a_repository_states_for_another_task_is_left(server, files):
    """Of a classifier that is to embed: labels are no option of that."""
    stated = {"config.json": b'{"id2label": {"0": "a", "1": "b"}}'}
    server.publish(REPO, {"model.onnx": files["network.onnx"].read_bytes(), **stated})
    model = pull(task="embed", how={"size": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}, accept_licence=True)
    assert (model.card.task, model.card.labels) == ("embed", ())


def test_a_new_pin_goes_before_the_tables_commit(server, files, monkeypatch, tmp_path):
    old = server.publish(REPO, files)
    entry = zoo.Entry("tiny", "embed", "onnx", REPO, {"network": ("network.onnx",)}, revision=old, licence="mit")
    how = {"size": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}
    monkeypatch.setitem(zoo.ZOO, "tiny", entry)
    assert old in pull("tiny", how=how).card.source
    other = files["network.onnx"].read_bytes() + b"\x3a\x00"
    new = server.publish(REPO, files | {"network.onnx": other})
    assert new in pull("tiny", how=how, repin=True).card.source
    store.folder_of("tiny").rename(store.where() / "away")
    assert new in pull("tiny", how=how).card.source


@pytest.mark.parametrize("name", ["hf:some/a--b", "hf:a b/c"])
def test_a_name_that_no_repository_can_have_is_refused(server, name):
    with pytest.raises(ImagierError, match="name"):
        pull(name)


def test_a_record_that_cannot_be_written_is_said(server, files, monkeypatch):
    server.publish(REPO, files)
    monkeypatch.setenv("IMAGIER_MODELS", "/proc/nope")
    with pytest.raises(ModelError, match="cannot be written"):
        pull()


def test_a_file_of_ones_own_under_a_name_of_the_table_is_not_called_pinned(server, files):
    how = {"size": 8, "mean": (0, 0, 0), "std": (1, 1, 1)}
    work.take(files["network.onnx"], "vgg16", task="embed", **how)
    assert {row["name"]: row["pinned"] for row in work.listing()}["vgg16"] == "imported"
    assert "imported" in work.describe("vgg16")["pinned"]


@pytest.mark.parametrize("name", ["builtin", "embed", "nuclei", "classical", "lanczos"])
def test_a_name_of_what_ships_is_not_given_away(server, files, name):
    with pytest.raises(SettingError, match="ships with imagier"):
        work.take(files["network.onnx"], name, task="embed", size=8)


def test_a_record_that_cannot_be_read_is_said(server, files):
    server.publish(REPO, files)
    store.where().mkdir()
    for damaged in ("{", "[]", '{"a/b": {"f": {"sha256": "x"}}}'):
        (store.where() / hub.PINS).write_text(damaged)
        with pytest.raises(ModelError, match=re.escape(hub.PINS)):
            pull()


def test_a_hash_of_the_table_goes_before_all(server, files, monkeypatch):
    commit = server.publish(REPO, files)
    entry = zoo.Entry(
        "tiny",
        "embed",
        "onnx",
        REPO,
        {"network": ("network.onnx",)},
        revision=commit,
        sha256s={"network.onnx": "0" * 64},
        licence="mit",
    )
    monkeypatch.setitem(zoo.ZOO, "tiny", entry)
    for repin in (False, True):
        with pytest.raises(ModelError, match="0000"):
            pull("tiny", repin=repin)
    assert "tiny" not in {folder.name for folder in store.folders()}


# Without a network


@pytest.mark.parametrize("by", ["option", "environment"])
def test_offline_without_the_model_says_what_to_bring_and_asks_nobody(server, by, monkeypatch):
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as error:
        pull("vgg16", offline=by == "option")
    message = str(error.value)
    assert "model.safetensors" in message
    assert "imagier models import model.safetensors --as vgg16 --task embed --arch timm:vgg16.tv_in1k" in message
    assert "\n" not in message
    assert server.log == []


@pytest.mark.parametrize(
    ("name", "file", "command"),
    [
        ("timm:resnet18.a1_in1k", "model.safetensors", "--arch timm:resnet18.a1_in1k --licence apache-2.0"),
        ("hf:someone/tiny/onnx/m.onnx", "onnx/m.onnx", "models import m.onnx --as hf:someone/tiny/onnx/m.onnx --task"),
    ],
)
def test_offline_names_the_file_of_what_is_not_in_the_table_too(server, name, file, command):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(ModelError) as error:
        pull(name, offline=True)
    assert f"bring {file} of https://" in str(error.value)
    assert command in str(error.value)


def test_offline_takes_what_the_cache_has(server, files):
    server.publish(REPO, files)
    keys = pull().keys
    store.folder_of(f"hf:{REPO}").rename(store.where() / "away")
    server.log.clear()
    assert pull(offline=True, accept_licence=True).keys == keys
    assert server.log == []


def test_a_hub_that_does_not_answer_is_one_message(server, files, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ModelError, match=r"could not be had from http://127\.0\.0\.1:9.*imagier models import"
    ) as error:
        pull("resnet50")
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_is_done_without_where_the_cache_has_it(server, files, monkeypatch):
    server.publish(REPO, files)
    keys = pull().keys
    store.folder_of(f"hf:{REPO}").rename(store.where() / "away")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model, said = told(lambda **more: work.pull(f"hf:{REPO}", accept_licence=True, **more))
    assert model.keys == keys
    assert "Taken from" in said


@pytest.mark.parametrize("case", ["no repository", "gated", "no hub"])
def test_what_the_hub_refuses_is_said(server, files, case):
    server.publish(REPO, files)
    if case == "gated":
        server.gated.add(REPO)
    if case == "no hub":
        server.repos["a/b"] = {"x": hub_server.Commit({}, None)}
    name = {"no repository": "hf:no/thing", "gated": f"hf:{REPO}", "no hub": "hf:a/b"}[case]
    match = {"no repository": "there is no .*no/thing", "gated": "accept its terms", "no hub": "is .* a hub?"}[case]
    with pytest.raises(ModelError, match=match):
        pull(name)


# Licences


@pytest.mark.parametrize(
    ("licence", "why"),
    [("agpl-3.0", "source"), ("cc-by-nc-4.0", "commercial"), (None, "states none"), ("other", "read it")],
)
def test_a_licence_that_asks_for_more_must_be_accepted(server, files, licence, why):
    server.publish(REPO, files, licence=licence)
    lines = []
    with pytest.raises(ModelError, match=f"{why}.*--accept-licence"):
        work.pull(f"hf:{REPO}", tell=lines.append, progress=False)
    assert any(f"licence: {licence or 'unknown'}" in line for line in lines)
    assert transferred(server) == 0
    assert pull(accept_licence=True).card.licence == (licence or "unknown")


def test_licence_size_and_commit_are_shown_before_the_download(server, files):
    commit = server.publish(REPO, files | {"pad.bin": b"0" * 3_000_000}, licence="mit")
    lines = []

    def tell(line):
        lines.append((line, transferred(server)))

    work.pull(f"hf:{REPO}", tell=tell, progress=False)
    before = "\n".join(line for line, sent in lines if sent == 0)
    for each in ("licence: mit", commit[:12], "3.0 MB", "unpinned"):
        assert each in before


def test_the_hubs_word_counts_beside_the_tables(server, files, monkeypatch):
    server.publish(REPO, files, licence="cc-by-nc-4.0")
    entry = zoo.Entry("tiny", "embed", "onnx", REPO, {"network": ("network.onnx",)}, licence="mit")
    monkeypatch.setitem(zoo.ZOO, "tiny", entry)
    with pytest.raises(ModelError, match=r"mit and cc-by-nc-4\.0"):
        pull("tiny")


def test_agpl_weights_of_the_table_are_the_users_own_choice(server, tmp_path):
    entry = zoo.ZOO["yolov10n"]
    server.publish(entry.repo, {"yolov10n.onnx": b"x"}, licence="agpl-3.0")
    server.repos[entry.repo] = {entry.revision: next(iter(server.repos[entry.repo].values()))}
    with pytest.raises(ModelError, match="--accept-licence"):
        pull("yolov10n")
    with pytest.raises(ModelError, match=entry.sha256s["yolov10n.onnx"]):  # what is served here is another file
        pull("yolov10n", accept_licence=True)


# What a repository may hold


def test_a_repository_without_a_model_is_refused(server):
    server.publish(REPO, {"README.md": b"hello"})
    with pytest.raises(ModelError, match=r"README\.md.*hf:someone/tiny/FILE"):
        pull()


def test_several_networks_ask_which(server, files):
    net = files["network.onnx"]
    server.publish(REPO, {"a.onnx": net, "b.onnx": net})
    with pytest.raises(ModelError, match=f"hf:{REPO}/a.onnx"):
        pull()


def test_an_entry_whose_file_left_says_so(server, files, monkeypatch):
    server.publish(REPO, files)
    entry = zoo.Entry("gone", "embed", "onnx", REPO, {"network": ("other.onnx",)}, licence="mit")
    monkeypatch.setitem(zoo.ZOO, "gone", entry)
    with pytest.raises(ModelError, match=r"has no other\.onnx"):
        pull("gone")


def test_a_model_that_no_repository_is_known_of_says_how_to_import_it(server, monkeypatch):
    entry = zoo.Entry("lost", "embed", "onnx", "", {"network": ("lost.onnx",)}, notes="imagier models import lost.onnx")
    monkeypatch.setitem(zoo.ZOO, "lost", entry)
    with pytest.raises(ModelError, match=r"imagier models import lost\.onnx"):
        pull("lost")


def test_weights_without_torch_are_refused_before_the_download(server, tmp_path, monkeypatch):
    entry = zoo.ZOO["mobilenetv3-small"]
    server.publish(entry.repo, {"model.safetensors": b"x" * 1000})
    monkeypatch.setattr(work.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="imagier\\[train\\]"):
        pull("mobilenetv3-small")
    assert transferred(server) == 0


@pytest.mark.parametrize("name", ["../up", "a b", "", "-x", "hf:a/../b"])
def test_a_name_that_leads_elsewhere_is_refused(server, name):
    with pytest.raises(SettingError, match="cannot be a model's name"):
        pull(name)


def test_a_card_that_leads_elsewhere_is_refused(server, files):
    card = json.loads(files["model.json"].read_text())
    card["files"]["network"]["path"] = "../../../secret"
    server.publish(REPO, files | {"model.json": json.dumps(card).encode()})
    with pytest.raises(ModelError, match="bare name"):
        pull()


def test_another_task_than_the_models_is_refused(server, files):
    server.publish(REPO, files)
    with pytest.raises(SettingError, match="there to embed, not to detect"):
        pull(task="detect")


# Carried


def test_a_model_is_carried_to_a_machine_without_a_network(server, files, tmp_path, monkeypatch):
    server.publish(REPO, files)
    model = pull()
    carried = work.carry(f"hf:{REPO}", tmp_path / "stick").folder
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "other"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.log.clear()
    work.take(carried, "tiny")
    there = store.find("tiny", "embed")
    assert there.folder.parent == tmp_path / "other"
    assert there.keys == model.keys
    assert there.card.name == "tiny"
    assert (there.card.licence, there.card.source) == (model.card.licence, model.card.source)
    assert server.log == []
    assert read_model(there.folder) == there
    with pytest.raises(ImagierError, match="there already"):
        work.take(carried, "tiny")
    assert work.take(carried, "tiny", replace_it=True).keys == model.keys


def test_a_damaged_model_is_not_carried(server, files, tmp_path):
    server.publish(REPO, files)
    path = pull().folder / "network.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is not the file"):
        work.carry(f"hf:{REPO}", tmp_path / "stick")
    assert not (tmp_path / "stick").exists()


def test_a_damaged_model_is_pulled_anew_and_an_imported_one_is_left(server, files, tmp_path):
    server.publish(REPO, files)
    told: list[str] = []
    good = (path := pull().folder / "network.onnx").read_bytes()
    path.write_bytes(good[:-1])
    assert pull(tell=told.append).file("network").read_bytes() == good
    assert "pulled anew" in "\n".join(told)
    card = (path.parent / "model.json").read_bytes()
    (path.parent / "model.json").write_text("{")
    with pytest.raises(ModelError, match="away, and pull again"):
        pull()
    (path.parent / "model.json").write_bytes(card)
    with pytest.raises(SettingError, match="--size"):
        pull(how={"size": 8})

    mine = work.take(
        files["network.onnx"], f"hf:{REPO}", task="embed", replace_it=True, size=8, mean=(0, 0, 0), std=(1, 1, 1)
    )
    path.write_bytes(good[:-1])
    with pytest.raises(ModelError, match="import it with --replace"):
        pull()
    assert mine.folder == path.parent


# Real models


def weights_of(name, path, classes=1000):
    """A network of timm with random weights, as timm lays it on the hub."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=classes).eval()
    save_file(network.state_dict(), path)
    return network


def embedded(named, folder):
    """The vectors of a folder's images, by the stage."""
    from imagier.images import decode
    from imagier.stages.embed import EMBED

    step = EMBED.make(encoder=named, normalise=False, precision="float32")
    images = [decode(path.read_bytes()).image for path in sorted(folder.iterdir())]
    columns = {"image": images, "black": [0.0] * len(images), "white": [255.0] * len(images)}
    return step.load()(columns)["embedding"]


def seen_by_torch(network, folder):
    """The same by timm's own transform and torch."""
    import timm
    import torch
    from PIL import Image

    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())])
    with torch.no_grad():
        return network.forward_head(network.forward_features(batch), pre_logits=True).numpy()


def test_weights_of_timm_become_a_model_that_embeds_as_timm_does(server, images, tmp_path, monkeypatch):
    network = weights_of("test_resnet.r160_in1k", tmp_path / "model.safetensors")
    commit = server.publish("timm/test_resnet.r160_in1k", {"model.safetensors": tmp_path / "model.safetensors"})
    model = pull("timm:test_resnet")
    assert (model.card.architecture, model.card.licence) == ("timm:test_resnet.r160_in1k", "apache-2.0")
    assert commit in model.card.source
    assert {"network", "weights"} <= set(model.card.files)
    assert read_model(model.folder) == store.find("timm:test_resnet", "embed") == model
    vectors, theirs = embedded("timm:test_resnet", images), seen_by_torch(network, images)
    assert vectors.shape == theirs.shape == (12, model.card.outputs["embedding"].width)
    assert np.abs(vectors - theirs).max() < 1e-3 * np.abs(theirs).max()
    carried = work.carry("timm:test_resnet", tmp_path / "stick")
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "there"))
    assert work.take(carried.folder, "mine").keys == model.keys
    assert np.array_equal(embedded("mine", images), vectors)


def test_weights_of_anybody_are_built_by_the_config_beside_them(server, images, tmp_path):
    network = weights_of("test_resnet.r160_in1k", tmp_path / "model.safetensors", classes=3)
    network.pretrained_cfg = network.pretrained_cfg | {"mean": (0.2, 0.3, 0.4), "input_size": (3, 96, 96)}
    seen = {key: network.pretrained_cfg[key] for key in _stated.SEEN}
    told = json.dumps({"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": seen}).encode()
    server.publish(REPO, {"model.safetensors": tmp_path / "model.safetensors", "config.json": told})
    spec = pull().card.input
    assert (spec.size, spec.resize, spec.mean) == ((96, 96), 101, (0.2, 0.3, 0.4))
    vectors, theirs = embedded(f"hf:{REPO}", images), seen_by_torch(network, images)
    assert np.abs(vectors - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_a_ready_network_is_taken_with_what_lies_beside_it(server, images, tmp_path):
    net = nets.network(tmp_path / "net.onnx", height=16, width=16)
    size = {"height": 16, "width": 16}
    told = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3, "size": size}
    server.publish(REPO, {"onnx/model.onnx": net, "preprocessor_config.json": json.dumps(told).encode()})
    with pytest.raises(SettingError, match="--task"):
        pull()
    spec = pull(task="embed").card.input
    assert (spec.size, spec.fit, spec.interpolation) == ((16, 16), "squash", "bicubic")
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.25,) * 3)
    assert embedded(f"hf:{REPO}", images).shape == (12, 5)
    other = pull(f"hf:{REPO}/onnx/model.onnx", task="embed", how={"std": (1.0,) * 3})
    assert (other.card.input.mean, other.card.input.std) == ((0.5,) * 3, (1.0,) * 3)


def test_a_state_dict_becomes_an_upscaler_without_being_unpickled(server, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from dataclasses import replace

    from imagier.models.architectures import build

    entry = replace(zoo.ZOO["edsr-x2"], architecture="edsr:2x8-plain@2", sha256s={}, revision="")
    monkeypatch.setitem(zoo.ZOO, "edsr-x2", entry)
    state = {f"module.{name}": value for name, value in build("edsr:2x8-plain@2").state_dict().items()}
    torch.save(state, tmp_path / "state.pt")
    server.publish(entry.repo, {"pytorch_model_2x.pt": tmp_path / "state.pt"})
    model = pull("edsr-x2")
    assert (model.card.task, model.card.scale, model.card.licence) == ("upscale", 2, "apache-2.0")
    assert model.file("weights").suffix == ".safetensors"

    torch.save({"state_dict": Boom()}, tmp_path / "state.pt")
    server.publish(entry.repo, {"pytorch_model_2x.pt": tmp_path / "state.pt"})
    before = read_model(model.folder)
    with pytest.raises(ImagierError):
        pull("edsr-x2", repin=True)
    assert not Path(Boom.path).exists()
    assert read_model(model.folder) == before


class Boom:
    """What a hostile file would do when it is unpickled."""

    path = "boom"

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def shaped(path, outputs, side=640):
    """A network that takes a square image and gives outputs of the shapes that a detector's have."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0)]
    nodes.append(helper.make_node("ReduceMax", ["mean"], ["one"], axes=[1], keepdims=1))
    constants = []
    for name, shape in outputs.items():
        constants.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Expand", ["one", f"{name}_shape"], [name]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    start = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])
    model = helper.make_model(
        helper.make_graph(nodes, "shaped", [start], ends, constants), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    save(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "outputs", "fit"),
    [
        ("yolov10n", {"output0": [1, 300, 6]}, "pad"),
        ("yolox-s", {"output": [1, 8400, 85]}, "pad"),
        ("rtdetr", {"logits": [1, 300, 80], "pred_boxes": [1, 300, 4]}, "squash"),
    ],
)
def test_detectors_of_the_list_need_no_options(server, tmp_path, monkeypatch, name, outputs, fit):
    from dataclasses import replace

    entry = replace(zoo.ZOO[name], sha256s={}, revision="")
    monkeypatch.setitem(zoo.ZOO, name, entry)
    net = shaped(tmp_path / "net.onnx", outputs)
    beside = (
        {"config.json": b'{"id2label": null}', "preprocessor_config.json": b"{}"} if "config" in entry.files else {}
    )
    server.publish(entry.repo, {entry.files["network"][0]: net} | beside, licence=entry.licence)
    card = pull(name, accept_licence=True).card
    assert (card.task, card.input.size, card.input.fit) == ("detect", (640, 640), fit)
    assert card.input.colour == ("bgr" if name == "yolox-s" else "rgb")
    assert card.input.std == pytest.approx((1 / 255 if name == "yolox-s" else 1,) * 3)
    assert card.outputs["detections"].form == entry.how["form"]
    assert card.outputs["detections"].tensors == tuple(outputs)
    assert card.labels == zoo.COCO
    assert card.licence == entry.licence
    by_hand = work.take(net, name, replace_it=True).card
    assert (by_hand.input, by_hand.outputs, by_hand.labels) == (card.input, card.outputs, card.labels)
    assert by_hand.licence == "unknown"


@pytest.mark.shared
def test_a_detector_of_the_list_is_pulled_from_the_name_alone(server, shared):
    server.publish("Heliosoph/yolox-onnx", {"yolox_nano.onnx": shared / "weights" / "yolox_nano.onnx"})
    card = pull("yolox-nano").card
    assert (card.task, card.input.colour, card.input.fit, card.input.size) == ("detect", "bgr", "pad", (416, 416))
    assert card.outputs["detections"].form == "yolox"
    assert card.labels == zoo.COCO
    assert work.pinned(zoo.ZOO["yolox-nano"]) == "recorded"


@pytest.mark.shared
def test_a_quantised_network_is_pulled_by_its_file(server, shared):
    name = "mobilenet_v2_1.0_224_quant.tflite"
    server.publish(REPO, {"README.md": b"", name: shared / "weights" / name})
    card = pull(f"hf:{REPO}/{name}", task="embed").card
    assert (card.precision, card.input.size) == ("int8", (224, 224))


@pytest.mark.shared
def test_a_file_that_was_brought_is_imported_by_the_command_that_was_told(tmp_path, monkeypatch, shared):
    from click.testing import CliRunner

    from imagier.cli_models import models

    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(shared / "weights")
    command = store.import_command(zoo.ZOO["yolox-nano"]).split()
    result = CliRunner().invoke(models, command[2:])
    assert result.exit_code == 0, result.output
    assert store.find("yolox-nano", "detect").card.labels == zoo.COCO


# What files beside a network say


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            {"size": 224, "fit": "crop", "resize": 256},
        ),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, {"size": 224, "resize": 256}),
        ({"size": {"height": 640, "width": 640}, "do_pad": False}, {"size": 640, "fit": "squash"}),
        ({"size": {"height": 640, "width": 640}, "do_pad": True}, {"size": None}),
        ({"size": 224}, {"size": None}),
        ({"size": {"longest_edge": 1333, "shortest_edge": 800}}, {"size": None, "fit": None}),
        ({"resample": 1}, {"interpolation": "lanczos"}),
        ({"resample": 0}, {"interpolation": None}),
        ({"do_normalize": False}, {"mean": (0, 0, 0), "std": (1, 1, 1)}),
        ({"do_normalize": False, "do_rescale": False}, {"mean": (0, 0, 0), "std": (1 / 255,) * 3}),
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, {"mean": (0.5,) * 3, "std": (0.25,) * 3}),
        (
            {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3},
            {"mean": (0.5,) * 3, "std": (0.2,) * 3},
        ),
        ({}, {"mean": None, "std": None, "size": None}),
    ],
)
def test_a_preprocessor_config_says_how_pixels_are_fed(tmp_path, told, expected):
    (tmp_path / "p.json").write_text(json.dumps(told))
    found = _stated.options(None, tmp_path / "p.json")
    for key, value in expected.items():
        assert found.get(key) == (pytest.approx(value) if isinstance(value, tuple) else value)


def test_a_config_says_the_classes_in_order(tmp_path):
    config = tmp_path / "config.json"
    for named, expected in [
        ({"0": "cat", "1": "dog"}, ("cat", "dog")),
        ({"1": "cat", "2": "dog"}, None),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),
        (None, None),
    ]:
        config.write_text(json.dumps({"id2label": named}))
        assert _stated.options(config, None).get("labels") == expected
    config.write_text("[]")
    with pytest.raises(ModelError, match="no object"):
        _stated.options(config, None)


def test_a_config_says_what_weights_are_of(tmp_path):
    timm, open_clip = pytest.importorskip("timm"), pytest.importorskip("open_clip")
    config, clip = tmp_path / "config.json", tmp_path / "open_clip_config.json"
    clip.write_text(json.dumps({"model_cfg": open_clip.get_model_config("ViT-B-16"), "preprocess_cfg": {}}))
    assert _stated.weights(clip) == {"arch": "open_clip:ViT-B-16"}
    known = timm.get_pretrained_cfg("vgg16.tv_in1k").to_dict()
    seen = {key: known[key] for key in ("tag", "mean", "std", "input_size", "crop_pct", "interpolation")}
    config.write_text(json.dumps({"architecture": "vgg16", "pretrained_cfg": seen}))
    assert _stated.weights(config) == {"arch": "timm:vgg16.tv_in1k"}
    config.write_text(json.dumps({"architecture": "vgg16", "pretrained_cfg": seen | {"mean": [0.1] * 3}}))
    assert _stated.weights(config) == {
        "arch": "timm:vgg16",
        "size": 224,
        "mean": (0.1,) * 3,
        "std": known["std"],
        "interpolation": "bilinear",
        "fit": "crop",
        "resize": 256,
    }
    for told, match in [
        ({"architecture": "vgg16", "pretrained_cfg": {"mean": [0.1] * 3}}, "does not say input_size"),
        ({"architecture": "vgg16", "pretrained_cfg": seen | {"crop_mode": "border"}}, "not supported"),
        ({"architecture": "vgg16", "model_args": {"img_size": 64}}, "other arguments"),
        ({"architecture": "vgg61"}, "Did you mean vgg"),
        ({"model_type": "bert"}, "names no architecture"),
    ]:
        config.write_text(json.dumps(told))
        with pytest.raises(ModelError, match=match):
            _stated.weights(config)
