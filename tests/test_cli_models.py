"""`imagier models`, as typed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import hub_server
import nets
import pytest
from click.testing import CliRunner

from imagier.cli_errors import guarded
from imagier.cli_models import models
from imagier.models import store, zoo
from imagier.types import ModelError
from imagier.workflows import models as work

DOCS = Path(__file__).parent.parent / "docs" / "models.md"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No model here, no network."""
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny(tmp_path):
    """A model that is here."""
    return nets.encoder(store.folder_of("tiny"), tmp_path)


def run(*words):
    return CliRunner().invoke(models, [str(word) for word in words])


def rows(*words):
    result = run(*words)
    assert result.exit_code == 0, result.output
    return {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}


def test_the_list_shows_what_is_known_and_what_is_here(tiny):
    table = rows("list")
    assert list(table) == ["name", *store.built_in(), *zoo.ZOO, "tiny"]
    assert table["name"] == ["task", "here", "precision", "licence", "pinned"]
    assert table["vgg16"] == ["embed", "no", "bsd-3-clause", "pinned"]
    assert table["dinov2-s"] == ["embed", "no", "apache-2.0", "unpinned"]
    assert table["tiny"] == ["embed", "yes", "float32", "mit", "imported"]
    assert table["embed"] == ["embed", "yes", "float32", "Apache-2.0", "ships", "with", "imagier"]


def test_the_list_is_there_for_programs_too(tiny):
    listed = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert list(listed) == [*store.built_in(), *zoo.ZOO, "tiny"]
    assert listed["yolov10n"] == {
        "name": "yolov10n",
        "task": "detect",
        "here": "no",
        "precision": None,
        "licence": "agpl-3.0",
        "pinned": "pinned",
    }


def test_a_damaged_model_does_not_hide_the_others(tiny):
    (tiny.folder / "model.json").write_text("{")
    result = run("list")
    assert result.exit_code == 0
    assert re.search(r"^tiny +damaged", result.stdout, re.M)
    assert str(tiny.folder) in result.stderr


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_show_tells_all_that_was_read_of_a_model(name):
    entry = zoo.ZOO[name]
    said = run("show", name).stdout
    for each in (
        entry.licence,
        entry.cite,
        entry.repo,
        entry.architecture,
        "here: no",
        store.import_command(zoo.ZOO[name]),
    ):
        assert each in said
    assert f"revision: {entry.revision or 'unpinned'}" in said
    told = json.loads(run("show", name, "--json").stdout)
    assert told["sha256"] == (dict(entry.sha256s) or "unpinned")
    assert told["pinned"] in ("pinned", "unpinned")


def test_show_tells_the_card_of_a_model_that_is_here(tiny, tmp_path):
    for named in ("tiny", tiny.folder):
        told = json.loads(run("show", named, "--json").stdout)
        assert told["here"] == str(tiny.folder)
        assert told["card"]["files"]["network"]["sha256"] == tiny.card.files["network"].sha256
    assert tiny.card.files["network"].sha256 in run("show", "tiny").stdout


def test_a_path_that_leads_nowhere_and_a_name_that_is_none(tmp_path):
    for words, told in [
        (("show", "vgg61"), "Did you mean vgg16?"),
        (("export", "vgg16", tmp_path / "to"), "imagier models pull vgg16"),
        (("pull", "vgg61"), "Did you mean vgg16?"),
        (("import", tmp_path / "no.onnx", "--as", "x", "--task", "embed"), "is not there"),
        (("import", tmp_path, "--as", "x"), "is no Model folder"),
        (("import", __file__, "--as", "x"), "--task"),
        (("quantise", "vgg16", "--images", tmp_path, "--as", "small"), "imagier models pull vgg16"),
    ]:
        result = run(*words)
        assert result.exit_code == 1, words
        assert result.stderr.startswith("imagier: "), words
        assert told in result.stderr, words
        assert result.stderr.count("\n") == 1, words


def test_a_model_is_carried_and_taken(tiny, tmp_path, monkeypatch):
    assert run("export", "tiny", tmp_path / "stick").stdout == f"{tmp_path / 'stick'}\n"
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "there"))
    assert rows("list").get("mine") is None
    assert run("import", tmp_path / "stick", "--as", "mine").exit_code == 0
    assert rows("list")["mine"][1] == "yes"
    assert store.find("mine", "embed").keys == tiny.keys
    assert run("where").stdout == f"{tmp_path / 'there'}\n"
    result = run("import", tmp_path / "stick", "--as", "mine", "--size", 8)
    assert (result.exit_code, "no option can" in result.stderr) == (1, True)
    assert run("import", tmp_path / "stick", "--as", "mine", "--task", "detect").exit_code == 1
    assert run("import", tmp_path / "stick", "--as", "mine", "--replace", "--licence", "isc").exit_code == 0
    assert store.find("mine", "embed").card.licence == "isc"


def test_offline_pull_names_the_file_and_the_command():
    for words in (("pull", "vgg16"), ("pull", "vgg16", "--offline")):
        result = run(*words)
        assert result.exit_code == 1
        assert "bring model.safetensors" in result.stderr
        assert store.import_command(zoo.ZOO["vgg16"]) in result.stderr


def test_a_pull_from_end_to_end(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with hub_server.Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.publish("a/tiny", {path.name: path for path in tiny.folder.iterdir()}, licence="agpl-3.0")
        result = run("pull", "hf:a/tiny", "--quiet")
        assert (result.exit_code, "licence: agpl-3.0" in result.stdout) == (1, True)
        assert "--accept-licence" in result.stderr
        result = run("pull", "hf:a/tiny", "--accept-licence", "--quiet")
        assert result.exit_code == 0, result.output
        assert str(store.folder_of("hf:a/tiny")) in result.stdout
        assert "here already" in run("pull", "hf:a/tiny").stdout
    assert rows("list")["hf:a/tiny"] == ["embed", "yes", "float32", "agpl-3.0", "recorded"]


def test_a_model_is_made_int8_by_ones_own_images(tmp_path, monkeypatch):
    if not importlib.util.find_spec("nncf"):  # not imported here: by itself it would tell its maker
        pytest.skip("nncf is not installed")
    import numpy as np
    from PIL import Image

    from imagier.models.importing import import_model

    options = {"task": "embed", "mean": (0.5,) * 3, "std": (0.5,) * 3, "fit": "squash"}
    import_model(nets.network(tmp_path / "net.onnx", height=16, width=16), name="plain", **options)
    folder, draw = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for at in range(30):
        pixels = (draw.random(3) * 255 + draw.normal(0, 20, (24, 24, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
    (folder / "bad.png").write_bytes(b"no image")
    result = run("quantise", "plain", "--images", folder, "--as", "small")
    assert result.exit_code == 0, result.output
    assert "bad.png is left out" in result.stdout
    assert rows("list")["small"][2] == "int8"
    result = run("quantise", "plain", "--images", folder, "--as", "small")
    assert (result.exit_code, "there already" in result.stderr) == (1, True)
    assert run("quantise", "plain", "--images", folder, "--as", "small", "--replace").exit_code == 0
    result = run("quantise", "plain", "--images", folder / "0.png", "--as", "other")
    assert (result.exit_code, "too few" in result.stderr) == (1, True)


def test_options_reach_the_work_as_numbers(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(work, "take", lambda *words, **options: given.update(options) or store.get("tiny"))
    result = run(
        "import", "x", "--as", "y", "--mean", "0.1,0.2,0.3", "--std", "0.5", "--size", "16", "--labels", "l.txt"
    )
    assert result.exit_code == 1  # the work was left out, and there is no model
    assert (given["mean"], given["std"], given["size"]) == ((0.1, 0.2, 0.3), (0.5,), 16)
    assert given["labels"] == Path("l.txt")
    assert run("import", "x", "--as", "y", "--mean", "a").exit_code == 2


def test_every_command_and_option_has_help():
    assert models.help
    for name, command in models.commands.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, f"{name} {parameter.name}"


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(None, 0, ""), (ModelError("no"), 1, "imagier: no\n"), (KeyboardInterrupt(), 130, "imagier: stopped.")],
)
def test_an_error_is_one_message_and_an_exit_code(raised, code, said):
    @click.command()
    @guarded
    def command():
        if raised is not None:
            raise raised

    result = CliRunner().invoke(command)
    assert result.exit_code == code
    assert result.stderr.startswith(said)
    command = click.command("three")(guarded(lambda: 3))
    assert CliRunner().invoke(command).exit_code == 3


def test_the_commands_of_the_page_run_without_a_network(tmp_path):
    found = re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    assert found
    start = "import sys; from imagier.cli_models import models; models(prog_name='imagier models')"
    for line in "".join(found).splitlines():
        words = line.partition("#")[0].split()
        assert words[:2] == ["imagier", "models"], line
        command = [sys.executable, "-c", start, *words[2:]]
        result = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout
        assert "Traceback" not in result.stderr


def test_the_page_names_every_command():
    page = DOCS.read_text(encoding="utf-8")
    for name in models.commands:
        assert f"imagier models {name}" in page
    for name in zoo.ZOO:
        assert f"`{name}`" in page
