"""Networks that public weights fit: names, arithmetic, and the same numbers on every engine."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from imagier.models import networks
from imagier.types import ModelError, SettingError

torch = pytest.importorskip("torch")
DIV2K = (0.4488, 0.4371, 0.4040)


def random_state(architecture: str, seed: int = 0) -> dict:
    """The weights of an untrained network, by a seed."""
    torch.manual_seed(seed)
    return {name: value.clone() for name, value in networks.build(architecture).state_dict().items()}


def loaded(architecture: str, state: dict):
    network = networks.build(architecture)
    network.load_state_dict(state)
    return network


def given(network, image):
    with torch.no_grad():
        return network(image).numpy()


def convolved(image, state, name, groups=1):
    weight = state[f"{name}.weight"]
    return torch.conv2d(image, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=groups)


def by_authors(state: dict, image, blocks: int, scale: int, share: float, *, mean: bool = True):
    """EDSR's forward in the words of a checkpoint's names, as its authors' code has it; pixels on 0 to 255."""
    image = convolved(image, state, "sub_mean") if mean else image
    first = features = convolved(image, state, "head.0")
    for at in range(blocks):
        inner = torch.relu(convolved(features, state, f"body.{at}.body.0"))
        features = features + share * convolved(inner, state, f"body.{at}.body.2")
    features = first + convolved(features, state, f"body.{blocks}")
    for at in [0, 2] if scale == 4 else [0]:
        features = torch.pixel_shuffle(convolved(features, state, f"tail.0.{at}"), 2 if scale == 4 else scale)
    image = convolved(features, state, "tail.1")
    return convolved(image, state, "add_mean") if mean else image


def in_basicsr(state: dict, blocks: int) -> dict:
    """A state dict under BasicSR's names."""
    renamed = {}
    for name, value in state.items():
        if name.startswith(("sub_mean", "add_mean")):
            continue
        new = re.sub(r"^head\.0\.", "conv_first.", name)
        new = re.sub(rf"^body\.{blocks}\.", "conv_after_body.", new)
        new = re.sub(r"^(body\.\d+)\.body\.0\.", r"\1.conv1.", new)
        new = re.sub(r"^(body\.\d+)\.body\.2\.", r"\1.conv2.", new)
        new = re.sub(r"^tail\.0\.", "upsample.", new)
        renamed[re.sub(r"^tail\.1\.", "conv_last.", new)] = value
    return renamed


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_has_the_names_of_its_authors_checkpoints(scale):
    names = set(networks.build(f"edsr:16x64@{scale}").state_dict())
    layers = {"head.0", "body.16", "tail.0.0", "tail.1", "sub_mean", "add_mean"} | (
        {"tail.0.2"} if scale == 4 else set()
    )
    layers |= {f"body.{at}.body.{layer}" for at in range(16) for layer in (0, 2)}
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize(("width", "share"), [(8, 1.0), (256, 0.1)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_gives_what_its_authors_code_gives(scale, width, share):
    architecture = f"edsr:2x{width}@{scale}"
    state = random_state(architecture)
    image = torch.rand(2, 3, 7, 5)
    wanted = by_authors(state, image * 255, 2, scale, share) / 255
    assert np.abs(given(loaded(architecture, state), image) - wanted.numpy()).max() < 1e-5


def test_edsr_wrapped_and_with_module_before_its_names_is_the_same():
    state, image = random_state("edsr:3x8@3"), torch.rand(1, 3, 6, 6)
    wanted = given(loaded("edsr:3x8@3", state), image)
    for other in (
        {f"module.{name}": value for name, value in state.items()},
        {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 7},
        {"params": in_basicsr(state, 3)},
        {"params_ema": in_basicsr(state, 3)},
    ):
        assert np.array_equal(given(loaded("edsr:3x8@3", other), image), wanted)


def test_edsr_of_a_checkpoint_on_0_to_1_is_run_on_0_to_1():
    state = random_state("edsr:1x8@2")
    state["sub_mean.bias"], state["add_mean.bias"] = -torch.tensor(DIV2K), torch.tensor(DIV2K)
    image = torch.rand(1, 3, 6, 6)
    wanted = by_authors(state, image, 1, 2, 1.0).numpy()
    assert np.abs(given(loaded("edsr:1x8@2", state), image) - wanted).max() < 1e-6


def test_plain_edsr_is_run_on_0_to_1_without_a_mean_and_with_whole_residuals():
    state, image = random_state("edsr:1x256@2"), torch.rand(1, 3, 6, 6)
    wanted = by_authors(state, image, 1, 2, 1.0, mean=False).numpy()
    assert "sub_mean.bias" in state
    assert np.abs(given(loaded("edsr:1x256-plain@2", state), image) - wanted).max() < 1e-6


def test_weights_of_another_edsr_are_refused_by_its_name():
    state = random_state("edsr:3x8@2")
    for asked in ("edsr:3x8@3", "edsr:2x8@2", "edsr:4x8@2", "edsr:3x16@2"):
        with pytest.raises(ModelError, match=re.escape(f"not those of {asked}")) as caught:
            loaded(asked, state)
        assert "They are those of edsr:3x8@2" in str(caught.value)
    with pytest.raises(ModelError, match=r"'head.0.weight' is missing"):
        loaded("edsr:3x8@2", {"conv.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="'more' is too much"):
        loaded("edsr:3x8@2", state | {"more": torch.zeros(1)})


@pytest.mark.parametrize(
    "name",
    ["edsr", "edsr:16", "edsr:0x8@2", "edsr:16x64@5", "edsr:16x64@", "carn-m@1", "carn-m:16@2", "vdsr@3", "carn"],
)
def test_an_architecture_that_is_none_is_refused(name):
    with pytest.raises(SettingError, match=re.escape(repr(name))):
        networks.build(name)


def test_an_architecture_is_described_without_torch():
    assert networks.describe("edsr:16x64") == networks.describe("edsr:16x64@3")
    assert [networks.describe(f"carn-m@{scale}")[2] for scale in (2, 3, 4)] == [2, 3, 4]
    spec, outputs, _ = networks.describe("carn-m")
    assert (spec.size, spec.fit, spec.mean, spec.std) == (None, "none", (0, 0, 0), (1, 1, 1))
    assert outputs["image"].form == "image"
    code = (
        "import sys; from imagier.models import networks as n; n.describe('carn-m'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("architecture", ["edsr:2x8@3", "edsr:2x8-plain@4", "carn-m@3"])
def test_engines_give_what_torch_gives_at_any_size(architecture, tmp_path):
    import onnxruntime

    from imagier.models.engines import openvino
    from imagier.models.exporting import export

    network = loaded(architecture, random_state(architecture))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    kept = {"name": "m", "task": "upscale", "folder": tmp_path / "m"}
    model = export(architecture, state=tmp_path / "weights.pth", **kept)
    path, scale = model.file("network"), model.card.scale
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    compiled = openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for shape in ((1, 3, 5, 7), (3, 3, 33, 18), (1, 3, 1, 1), (2, 3, 17, 23)):
        image = torch.rand(shape)
        wanted = given(network, image)
        assert wanted.shape == (shape[0], 3, shape[2] * scale, shape[3] * scale)
        assert np.abs(session.run(None, {"pixels": image.numpy()})[0] - wanted).max() < 1e-4
        assert np.abs(compiled(image.numpy())[0] - wanted).max() < 1e-4


@pytest.mark.shared
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_carn_m_takes_its_authors_weights_to_the_last(shared, scale):
    state = torch.load(shared / "weights" / "carn_m.pth", map_location="cpu", weights_only=True)
    network = loaded(f"carn-m@{scale}", state)
    assert set(network.state_dict()) == set(state)
    ramp = torch.linspace(0.2, 0.8, 40).expand(1, 3, 40, 40)  # a trained network leaves it a ramp
    enlarged = given(network, ramp)[0, :, 20 * scale, 5 * scale : -5 * scale]
    wanted = np.interp((np.arange(40 * scale) + 0.5) / scale - 0.5, np.arange(40), ramp[0, 0, 0].numpy())
    assert np.abs(enlarged - wanted[5 * scale : -5 * scale]).max() < 0.01
    with pytest.raises(ModelError, match=r"not those of carn-m@3: 'exit.bias' is missing"):
        loaded("carn-m@3", {name: value for name, value in state.items() if name != "exit.bias"})
