"""Exporting: what torch gives is what the engines give from the folder that was written, its preprocessing is that of
the architecture's own package, and weights that are not its are one message."""

from __future__ import annotations

import importlib.util
import json
import math
import sys

import drawn
import numpy as np
import pytest

from imagier.models import architectures, engines, exporting, text
from imagier.models.exporting import build, export, module, read_state
from imagier.models.importing import import_model
from imagier.models.model import Input, read_model
from imagier.models.preprocess import prepare
from imagier.types import ModelError, SettingError

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
for package in ("timm", "onnxscript"):
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def vit(folders):
    return export("timm:test_vit", state=None, seed=1, name="vit", task="embed", folder=folders / "vit")


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory):
    """A CLIP of two layers by the name tiny-clip, in open_clip's own list."""
    path = tmp_path_factory.mktemp("configs") / "tiny-clip.json"
    path.write_text(json.dumps(SMALL))
    open_clip.add_model_config(path)
    return "open_clip:tiny-clip"


def pixels(model, n=3, seed=0):
    side = model.card.input.size or (21, 26)
    return np.random.default_rng(seed).integers(0, 256, (n, *side, 3)).astype(np.uint8)


def entered(model, batch):
    """What the network is fed, as the card's docstring says it."""
    spec = model.card.input
    return ((batch / 255 - spec.mean) / spec.std).astype(np.float32).transpose(0, 3, 1, 2)


def by_torch(model, given, role="network"):
    with torch.inference_mode():
        return module(model.card, model.file("weights"), role)(torch.from_numpy(given))[0].numpy()


def both(model, batch, name, role="network"):
    return [
        engines.network(model, role=role, engine=engine, precision="float32")(batch)[name]
        for engine in ("openvino", "onnxruntime")
        if importlib.util.find_spec(engine)
    ]


@pytest.mark.parametrize("architecture", ["timm:test_vit", "timm:test_resnet"])
def test_every_engine_gives_what_torch_gives(folders, vit, architecture):
    model = vit
    if architecture != "timm:test_vit":
        model = export(architecture, state=None, seed=1, name="net", task="embed", folder=folders / "net")
    batch = pixels(model)
    truth = by_torch(model, entered(model, batch))
    assert truth.shape == (3, model.output("embedding").width)
    for given in both(model, batch, "embedding"):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())
    for given in both(model, batch[:1], "embedding"):
        np.testing.assert_allclose(given, truth[:1], atol=2e-4 * np.abs(truth).max())


def test_the_features_are_timm_s_own(vit):
    import timm

    whole = timm.create_model("test_vit", pretrained=False).eval()
    whole.load_state_dict(read_state(vit.file("weights")))
    whole.reset_classifier(0)
    given = entered(vit, pixels(vit))
    with torch.inference_mode():
        truth = whole(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(by_torch(vit, given), truth, atol=1e-5)


def test_random_weights_are_the_seed_s_and_said_to_be_so(folders, vit):
    torch.manual_seed(1)
    truth = build("timm:test_vit").state_dict()
    state = read_state(vit.file("weights"))
    assert state.keys() == truth.keys()
    assert all((state[name] == truth[name]).all() for name in truth)
    assert "random" in vit.card.notes
    assert "seed 1" in vit.card.source
    for how in ({}, {"seed": 1, "state": vit.file("weights")}):
        with pytest.raises(SettingError, match="seed"):
            export("timm:test_vit", **({"state": None} | how), name="x", task="embed", folder=folders / "x")


def test_weights_come_back_as_they_were(vit, tmp_path, monkeypatch):
    """From what a training program wraps around them."""
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    state = read_state(vit.file("weights"))
    wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 7}
    torch.save(wrapped, tmp_path / "weights.pt")
    how = {"task": "embed", "arch": "timm:test_vit"}
    model = import_model(tmp_path / "weights.pt", name="net", licence="mit", source="a page", mean=[0.5] * 3, **how)
    assert model.card.files["weights"] == vit.card.files["weights"]
    assert model.card.files["network"] == vit.card.files["network"]
    assert (model.card.licence, model.card.source, model.card.notes) == ("mit", "a page", "")
    assert (model.card.input.mean, model.card.input.std) == ((0.5,) * 3, vit.card.input.std)
    assert read_model(model.folder).card == model.card
    with pytest.raises(ModelError, match="there already"):
        import_model(vit.file("weights"), name="net", **how)


def test_nothing_but_weights_is_loaded(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(torch.nn.Linear(2, 3), path)
    with pytest.raises(ModelError, match=r"whole\.pth holds no plain weights"):
        read_state(path)
    torch.save([1, 2, 3], path)
    with pytest.raises(ModelError, match="holds a list"):
        read_state(path)
    torch.save({"weight": torch.zeros(2), "name": "x"}, path)
    with pytest.raises(ModelError, match="'name'"):
        read_state(path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense")
    with pytest.raises(ModelError, match="no plain weights"):
        read_state(broken)


def test_weights_of_another_network_are_refused(vit, tmp_path):
    how = {"name": "x", "task": "embed", "folder": tmp_path / "x"}
    with pytest.raises(ModelError, match="not those of timm:test_resnet"):
        export("timm:test_resnet", state=vit.file("weights"), **how)
    with pytest.raises(ModelError, match="not those of carn-m@2"):
        export("carn-m@2", state=vit.file("weights"), **(how | {"task": "upscale"}))
    assert not (tmp_path / "x").exists()


def test_a_classifier_has_as_many_classes_as_its_weights(tmp_path, monkeypatch):
    state = build("timm:test_resnet", classes=3).state_dict()
    torch.save(state, tmp_path / "three.pth")
    how = {"state": tmp_path / "three.pth", "name": "three", "folder": tmp_path / "three"}
    with pytest.raises(SettingError, match=r"--labels.*3 classes"):
        export("timm:test_resnet", task="classify", **how)
    model = export("timm:test_resnet", task="classify", labels=["a", "b", "c"], **how)
    assert (model.card.labels, model.output("logits").width) == (("a", "b", "c"), 3)
    truth = by_torch(model, entered(model, pixels(model)))
    for given in both(model, pixels(model), "logits"):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))
    path = model.file("network")
    encoder = import_model(path, name="pooled", task="embed", arch="timm:test_resnet")  # cut before the last layer
    network = architectures.fitted("timm:test_resnet", state)
    with torch.inference_mode():
        given = torch.from_numpy(entered(model, pixels(model)))
        truth = network.forward_head(network.forward_features(given), pre_logits=True).numpy()
    output = encoder.output("embedding")
    for given in both(encoder, pixels(encoder), output.tensors[0]):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())


def test_a_transformer_can_be_made_for_another_size(vit, tmp_path):
    how = {"name": "small", "task": "embed", "folder": tmp_path / "small"}
    model = export("timm:test_vit", state=vit.file("weights"), size=(96, 96), **how)
    assert (model.card.input.size, model.card.input.resize) == ((96, 96), math.floor(96 / 0.95))
    truth = by_torch(model, entered(model, pixels(model)))
    for given in both(model, pixels(model), "embedding"):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())


PREPARED = ("test_vit", "resnet50", "efficientnet_b0.ra_in1k", "vgg16", "mobilenetv3_small_100", "inception_v3",
            "vit_base_patch16_224.augreg_in21k", "vit_base_patch16_siglip_224")  # fmt: skip


@pytest.mark.parametrize("name", PREPARED)
def test_images_are_prepared_as_timm_does_it(name):
    """timm's own transform on Pillow's image, pixel by pixel; the card's geometry on the array."""
    import timm
    from PIL import Image

    how = architectures.preprocessing(f"timm:{name}")
    config = timm.get_pretrained_cfg(name).to_dict()
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config))
    images = [drawn.picture("disc", 1), np.random.default_rng(0).integers(0, 256, (301, 523, 3)).astype(np.uint8)]
    images += [images[1][:, :90].copy(), images[1][:200].copy()]
    ours, _ = prepare(images, Input(**how))
    for mine, image in zip(ours, images, strict=True):
        truth = theirs(Image.fromarray(image)).numpy()
        truth = np.rint((truth.transpose(1, 2, 0) * how["std"] + how["mean"]) * 255)
        np.testing.assert_array_equal(mine, truth)


@pytest.mark.parametrize("architecture", ["edsr:2x8@2", "edsr:1x4-plain@4"])
def test_an_upscaler_takes_any_size(tmp_path, architecture):
    model = export(architecture, state=None, seed=3, name="up", task="upscale", folder=tmp_path / "up")
    assert model.card.scale == int(architecture[-1])
    for height, width in ((20, 24), (7, 33), (48, 16)):
        batch = np.random.default_rng(height).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
        truth = by_torch(model, entered(model, batch))
        assert truth.shape == (2, 3, height * model.card.scale, width * model.card.scale)
        for given in both(model, batch, "image"):
            np.testing.assert_allclose(given, truth, atol=1e-4)


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    """(architecture, channels, classes, options) -> imported of a state dict, and what torch itself gives."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path / "models"))

    def made(architecture, channels=3, classes=1, **options):
        decoder, encoder = architecture.removeprefix("smp:").split("/")
        torch.manual_seed(2)
        how = {"encoder_weights": None, "in_channels": channels, "classes": classes}
        network = smp.create_model(decoder, encoder_name=encoder, **how).eval()
        torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pth")
        how = {"task": "segment", "arch": architecture, "replace": True} | options
        return import_model(tmp_path / "weights.pth", name="net", **how), network

    return made


def held(model, network, side):
    batch = np.random.default_rng(side[0]).integers(0, 256, (2, *side, len(model.card.input.mean))).astype(np.uint8)
    with torch.inference_mode():
        truth = network(torch.from_numpy(entered(model, batch))).numpy()
    assert truth.shape[2:] == side
    np.testing.assert_array_equal(by_torch(model, entered(model, batch)), truth)
    for given in both(model, batch, "logits"):
        np.testing.assert_allclose(given, truth, atol=1e-4 * max(1, np.abs(truth).max()))


@pytest.mark.slow
def test_a_segmenter_takes_any_size(segmenter):
    model, network = segmenter("smp:unet/resnet34")
    assert (model.card.task, model.card.architecture) == ("segment", "smp:unet/resnet34")
    spec = model.card.input
    assert (spec.size, spec.multiple, spec.fit, spec.colour) == (None, 1, "none", "rgb")
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert "does not say mean, std" in model.card.notes
    assert (model.output("logits").form, model.output("logits").width) == ("logits", 1)
    for side in ((64, 96), (101, 75), (33, 160)):
        held(model, network, side)


@pytest.mark.slow
def test_a_segmenter_s_channels_and_classes_are_those_of_its_weights(segmenter):
    with pytest.raises(SettingError, match="--mean must be given"):
        segmenter("smp:fpn/resnet18", 1, 3)
    how = {"mean": [0.5], "std": [0.25]}
    model, network = segmenter("smp:fpn/resnet18", 1, 3, labels=["ground", "nut", "bolt"], **how)
    assert (model.card.input.colour, model.card.input.multiple, model.output("logits").width) == ("grey", 32, 3)
    assert (model.card.labels, model.card.notes) == (("ground", "nut", "bolt"), "")
    held(model, network, (64, 96))
    with pytest.raises(SettingError, match=r"--labels.*3 classes.*there are 2"):
        segmenter("smp:fpn/resnet18", 1, 3, labels=["a", "b"], **how)
    with pytest.raises(ModelError, match="take 4 channels"):
        segmenter("smp:fpn/resnet18", 4)
    with pytest.raises(ModelError, match="not those of smp:unet/resnet18"):
        import_model(model.file("weights"), name="other", task="segment", arch="smp:unet/resnet18")


def test_a_segmenter_that_cannot_take_any_size_is_made_for_one(segmenter):
    with pytest.raises(SettingError, match="one size alone: --size must be given"):
        segmenter("smp:pspnet/resnet18")
    with pytest.raises(ModelError, match=r"any size \(a segmenter's --size makes it for one\)"):
        segmenter("smp:dpt/tu-vit_tiny_patch16_224", size=None)
    with pytest.raises(SettingError, match="--fit must be given"):
        segmenter("smp:pspnet/resnet18", size=96)
    with pytest.raises(SettingError, match=r"--size cannot be 100 x 100.*multiples of 8"):
        segmenter("smp:pspnet/resnet18", size=100, fit="squash")
    with pytest.raises(SettingError, match="leave out fit"):
        segmenter("smp:pspnet/resnet18", fit="squash")
    model, network = segmenter("smp:pspnet/resnet18", classes=2, size=96, fit="squash")
    assert (model.card.input.size, model.card.input.fit) == ((96, 96), "squash")
    held(model, network, (96, 96))


def test_a_segmenter_on_an_encoder_of_timm_sees_images_as_that_does(segmenter):
    model, network = segmenter("smp:unet/tu-test_resnet")
    import timm

    told = timm.get_pretrained_cfg("test_resnet")
    assert (model.card.input.mean, model.card.input.std) == (told.mean, told.std)
    held(model, network, (64, 96))
    with pytest.raises(SettingError, match="--mean must be given"):
        export("smp:unet/xception", state=None, seed=0, name="x", task="segment", folder=model.folder / "x")


def test_labels_of_what_has_no_classes_are_refused(tmp_path):
    for name, task in (("timm:test_vit", "embed"), ("edsr:1x4@2", "upscale")):
        with pytest.raises(SettingError, match=f"--labels cannot be given to {task}: it goes with classify"):
            export(name, state=None, seed=0, name="x", task=task, folder=tmp_path / "x", labels=["a"])


def test_a_clip_is_an_image_network_a_text_network_and_a_tokenizer(small_clip, tmp_path):
    torch.manual_seed(4)
    state = build(small_clip).state_dict() | {"logit_scale": torch.tensor(3.5)}
    torch.save(state, tmp_path / "clip.pt")
    model = export(small_clip, state=tmp_path / "clip.pt", name="clip", task="embed", folder=tmp_path / "clip")
    assert set(model.card.files) == {"network", "text", "tokenizer", "weights"}
    assert (model.card.text.length, model.card.text.pad) == (77, 0)
    assert model.card.text.temperature == pytest.approx(math.exp(3.5))
    spec = model.card.input
    assert (spec.size, spec.interpolation, spec.fit) == ((48, 48), "bicubic", "crop")
    truth = by_torch(model, entered(model, pixels(model)))
    for given in both(model, pixels(model), "embedding"):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())
    texts = ["a photo of a cat", "", "word " * 100]
    tokens = open_clip.tokenize(texts).numpy()
    np.testing.assert_array_equal(text.tokens(model, texts), tokens)
    truth = by_torch(model, tokens, "text")
    for given in both(model, tokens, "text_embedding", "text"):
        np.testing.assert_allclose(given, truth, atol=2e-4 * np.abs(truth).max())


def test_a_clip_with_another_tokenizer_or_activation_is_refused(small_clip, tmp_path):
    how = {"name": "x", "task": "embed", "folder": tmp_path / "x"}
    with pytest.raises(SettingError, match="tokenizer of its own"):
        export("open_clip:ViT-B-16-SigLIP", state=None, seed=0, **how)
    state = build(small_clip).state_dict() | {"input_resolution": torch.tensor(48)}
    torch.save(state, tmp_path / "openai.pth")
    with pytest.raises(ModelError, match="QuickGELU"):
        export(small_clip, state=tmp_path / "openai.pth", **how)


TEXTS = (
    "a photo of a cat", "", "   ", "A Photo, of\tTWO   dogs!!!\nand 3 cats...", "it's we're I'll don't I'd you've I'm",
    "x" * 500, "word " * 200, "naïve café Zürich", "cafe\u0301", "日本語のテキスト 猫", "Привет мир ЁЖИК", "ΟΔΟΣ ΣΑΣ Σ",
    "İstanbul ı ß ẞ", "emoji 😀👩‍👩‍👧 🏳️‍🌈", "“curly” ‘quotes’ it’s", "ﬁne ﬂow ﬃ ŉ ĳ", "ＦＵＬＬ　ｗｉｄｔｈ ﾊﾝｶｸ ｶﾞ",
    "a&amp;b &lt;tag&gt; &amp;lt; &quot;q&quot;", "<start_of_text> hi <end_of_text>", "a\u00a0b\u2003c\u200bd\u2028e",
    "12345 3.14 ½ ² Ⅷ", "snake_case-kebab/path\\x", "!!!???...,,;;", "\x00\x07abc\x1f\x0bd\x0ce", "مرحبا بالعالم",
    "हिन्दी पाठ", "ไทย", "한국어 텍스트", "\ufeffbom", "''s's foo'sbar", "#tag @user http://x.y/?a=b&c=d", "µ Ω Å",
)  # fmt: skip


def test_the_tokenizer_gives_the_ids_of_open_clip():
    from tokenizers import Tokenizer

    from imagier.models._tokenizer import clip_tokenizer

    made = Tokenizer.from_str(clip_tokenizer(77))
    random = np.random.default_rng(0)
    letters = [
        chr(code) for code in (*range(32, 127), *range(0x100, 0x132), *range(0x391, 0x3A2), *range(0x410, 0x450))
    ]
    texts = [*TEXTS, *("".join(random.choice(letters[:95], size=random.integers(1, 90))) for _ in range(300))]
    texts += [" ".join(random.choice(letters, size=random.integers(1, 40))) for _ in range(100)]
    truth = open_clip.tokenize(texts).numpy()
    given = np.array([each.ids for each in made.encode_batch(texts)])
    different = [text for text, a, b in zip(texts, truth, given, strict=True) if (a != b).any()]
    assert different == []


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet50", "timm:NAME"),
        ("smq:unet/resnet34", "timm:NAME"),
        ("smp:unett/resnet34", "Did you mean unet"),
        ("smp:unet", "unknown smp encoder ''"),
        ("smp:unet/resnet43", "Did you mean resnet34"),
        ("smp:unet/tu-resnet5O", "Did you mean resnet50"),
        ("smp:dpt/resnet34", "cannot be built"),
        ("timm:resnet5O", "Did you mean resnet50"),
        ("timm:resnet50.nothing", "tag 'nothing'"),
        ("open_clip:ViT-B-33", "Did you mean ViT-B-32"),
        ("edsr:16", "edsr:BLOCKSxCHANNELS"),
        ("carn-m@5", "after the @"),
    ],
)
def test_an_architecture_that_does_not_exist_is_refused(tmp_path, name, match):
    task = {"edsr": "upscale", "carn-m": "upscale", "smp": "segment"}.get(
        name.partition(":")[0].partition("@")[0], "embed"
    )
    with pytest.raises(SettingError, match=match):
        export(name, state=None, seed=0, name="x", task=task, folder=tmp_path / "x")


def test_an_architecture_is_there_for_its_own_tasks(tmp_path):
    for name, task in (("timm:test_vit", "detect"), ("carn-m@2", "embed"), ("open_clip:ViT-B-32", "classify")):
        with pytest.raises(SettingError, match=f"not to {task}"):
            export(name, state=None, seed=0, name="x", task=task, folder=tmp_path / "x")


def test_a_package_that_is_missing_is_one_message(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingError, match=r"needs timm: pip install 'imagier\[train\]'"):
        build("timm:resnet50")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SettingError, match=r"needs torch: pip install 'imagier\[train\]'"):
        exporting.read_state(tmp_path / "weights.pth")


@pytest.mark.shared
def test_the_real_carn_is_exported_with_its_weights(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path))
    path = shared / "weights" / "carn_m.pth"
    model = import_model(path, name="carn", task="upscale", arch="carn-m@3", licence="mit")
    assert (model.card.scale, model.card.architecture, model.card.source) == (3, "carn-m@3", "carn_m.pth")
    batch = np.random.default_rng(0).integers(0, 256, (1, 17, 29, 3)).astype(np.uint8)
    truth = by_torch(model, entered(model, batch))
    for given in both(model, batch, "image"):
        np.testing.assert_allclose(given, truth, atol=1e-4)
    with pytest.raises(SettingError, match="leave out"):
        import_model(path, name="b", task="upscale", arch="carn-m@3", size=64)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_100", "test_vit"])
def test_an_encoder_gives_the_maps_that_inspectors_go_by(tmp_path, monkeypatch, name):
    monkeypatch.setenv("IMAGIER_MODELS", str(tmp_path))
    model = export(f"timm:{name}", state=None, name="e", task="embed", folder=tmp_path / "e", seed=0)
    height, width = model.card.input.size
    strides = {"map8": 8, "map16": 16} if name != "test_vit" else {"map16": 16}
    assert set(model.card.outputs) == {"embedding", *strides}
    batch = np.random.default_rng(0).integers(0, 256, (3, height, width, 3)).astype(np.uint8)
    with torch.inference_mode():
        made = module(model.card, model.file("weights"))(torch.from_numpy(entered(model, batch)))
    truth = {each: values.numpy() for each, values in zip(model.card.outputs, made, strict=True)}
    given = engines.network(model, engine="openvino", precision="float32", wanted=tuple(truth))(batch)
    for each, stride in strides.items():
        assert given[each].shape == (3, model.card.outputs[each].width, height // stride, width // stride)
    for each, values in truth.items():
        np.testing.assert_allclose(given[each], values, atol=1e-5)

    # The same network as a file of its own, a classifier, of which nothing says where its maps are.
    labels = tuple("abcdefghij")
    own = export(f"timm:{name}", state=None, name="c", task="classify", folder=tmp_path / "c", seed=0, labels=labels)
    told = {"mean": own.card.input.mean, "std": own.card.input.std, "output": "pooled"}
    taken = import_model(own.file("network"), name="i", task="embed", **told)
    if name == "test_vit":  # whose only map in the file is that of patches, before it has looked at them
        assert set(taken.card.outputs) == {"embedding"}
        return
    network = exporting.module(own.card, own.file("weights")).network
    with torch.inference_mode():
        mapped = architectures._mapped(network, torch.from_numpy(entered(own, batch)), maps=tuple(strides))
    assert list(taken.card.outputs) == ["embedding", *strides]
    tensors = [each.tensors[0] for each in taken.card.outputs.values()]
    for engine in ("openvino", "onnxruntime"):
        given = engines.network(taken, engine=engine, precision="float32", wanted=tuple(tensors))(batch)
        for tensor, values in zip(tensors, mapped, strict=True):
            np.testing.assert_allclose(given[tensor], values.numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "maps"), [("hieradet_small", ("map8", "map16")), ("pit_ti_224", ("map16",))])
def test_maps_are_taken_where_they_lie_as_they_say_and_change_no_embedding(name, maps):
    network = build(f"timm:{name}")
    assert architectures.maps_of(network, (224, 224)) == maps
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32))
    with torch.inference_mode():
        found = architectures._mapped(network, image, maps=maps)[0]
        np.testing.assert_allclose(found.numpy(), architectures._pooled(network, image).numpy(), atol=1e-5)
