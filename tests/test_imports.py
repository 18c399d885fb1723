"""Who may know whom, read off the imports; and what must not be loaded just to say hello."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "imagier"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "ray", "numba", "umap", "sklearn", "nicegui", "fastapi", "starlette", "matplotlib", "pandas", "cv2"}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    package = ".".join(["imagier", *path.relative_to(SOURCE).with_suffix("").parts])
    package = package.removesuffix(".__init__")
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: -node.level], base]).rstrip(".")
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def touches(path: Path, *parts: str) -> set[str]:
    return {name for name in imported(path) for part in parts if name == part or name.startswith(part + ".")}


def inside(folder: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(SOURCE).parts[0] == folder]


def test_there_are_files_to_look_at():
    assert len(FILES) > 20
    assert "imagier.collection" in imported(SOURCE / "workflows" / "run.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_imports_the_skins(path):
    if path.name == "cli.py":
        return
    own = "web" in path.parts
    assert not touches(path, "imagier.cli", *(() if own else ("imagier.web",)))


@pytest.mark.parametrize("path", inside("algorithms"), ids=lambda path: path.name)
def test_algorithms_see_arrays_alone(path):
    own = {name for name in imported(path) if name.startswith("imagier.") and not name.startswith("imagier.algorithms")}
    assert not own
    assert not touches(path, "pyarrow", "lance", "pathlib", "PIL", "tifffile", "pydicom")


@pytest.mark.parametrize("path", inside("stages"), ids=lambda path: path.name)
def test_stages_know_no_workflow_and_no_training(path):
    assert not touches(path, "imagier.workflows", "imagier.training", "imagier.outputs", "imagier.collection")


@pytest.mark.parametrize("path", inside("training"), ids=lambda path: path.name)
def test_training_knows_no_stage_and_no_collection(path):
    assert not touches(path, "imagier.stages", "imagier.collection", "imagier.workflows", "imagier.pipeline")


@pytest.mark.parametrize("path", [SOURCE / "collection.py"], ids=lambda path: path.name)
def test_the_collection_knows_no_algorithm(path):
    assert not touches(path, "imagier.algorithms", "imagier.stages", "imagier.workflows", "imagier.models")


@pytest.mark.parametrize("path", inside("outputs"), ids=lambda path: path.name)
def test_outputs_read_and_do_not_compute(path):
    assert not touches(path, "imagier.stages", "imagier.workflows", "imagier.execute", "imagier.models")


@pytest.mark.parametrize("path", [*inside("workflows"), SOURCE / "cli.py"], ids=lambda path: path.name)
def test_pickle_and_eval_are_nowhere(path):
    assert not touches(path, "pickle", "joblib", "dill", "cloudpickle", "shelve")


@pytest.mark.parametrize(
    "code",
    [
        "import imagier",
        "import sys; sys.argv = ['imagier', '--help']\nfrom imagier.cli import main\nmain(standalone_mode=False)",
    ],
    ids=["import", "help"],
)
def test_hello_loads_nothing_heavy(code):
    code += "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.rsplit("LOADED", 1)[1].split())
    assert "imagier" in loaded
    assert not loaded & (HEAVY | {"numpy", "pyarrow", "lance"})
