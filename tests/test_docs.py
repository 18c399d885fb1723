"""The commands and the Python of the guide and the README are run, in order, as a newcomer would."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks that are to be run."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [(language, text) for language, text in found if not text.startswith("make ")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        *(ROOT / "docs" / f"{name}.md" for name in ("guide", "models", "encoder", "training", "inspection", "web")),
        ROOT / "README.md",
    ],
    ids=lambda page: page.name,
)
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    assert blocks(page)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for language, text in blocks(page):
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        env = os.environ | {"PATH": path, "IMAGIER_MODELS": str(tmp_path / "models")}
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr


def test_every_command_and_option_has_help():
    from imagier.cli import main

    inner = {
        f"{name} {sub}": each
        for name in ("models", "presets", "train")
        for sub, each in main.commands[name].commands.items()
    }
    for name, command in (main.commands | inner).items():
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, f"{name} {parameter.name}"


def test_every_command_is_in_the_guide():
    from imagier.cli import main

    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name in main.commands:
        assert f"imagier {name}" in guide, name


def test_the_stage_in_the_contributors_page_is_the_one_that_is_tested():
    (shown,) = [text for language, text in blocks(ROOT / "CONTRIBUTING.md") if language == "python"]
    tested = (ROOT / "tests" / "plugin" / "src" / "imagier_brightness.py").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(shown)) == ast.dump(ast.Module(ast.parse(tested).body[1:], []))
