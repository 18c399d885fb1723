"""The same weights, the same images: timm's and open_clip's own code in torch beside imagier's path, from an 8-bit
image to the vector, on every engine.

Features of random weights are near parallel whatever the image, so that their cosine proves little. It is taken of
features centred over the set as well, where different images must fall apart.
"""

from __future__ import annotations

import importlib.util
import shutil

import drawn
import numpy as np
import pytest

from imagier.algorithms.novelty import unit
from imagier.models import engines
from imagier.models.exporting import build, export, read_state
from imagier.models.preprocess import prepare
from imagier.models.text import embed_texts

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]
NETWORKS = (
    "timm:efficientnet_b0",
    "timm:vgg16",
    "timm:resnet50",
    "timm:vit_base_patch16_224",
    "open_clip:ViT-B-32",
)
ENGINES = ("onnxruntime", "openvino")
LEAST = {"float32": 0.9999, "bfloat16": 0.995, "int8": 0.97}
"""The cosine that each precision must reach for each image, centred and not."""
OTHERS = 0.9
"""Below this must the centred features of two different images be."""
PRECISIONS = ("float32",)
PHOTOS = {
    "raccoon/*.jpg": 0.5,  # landscape
    "clothing/test/*/*.jpg": 0.5,  # portrait
    "blood_cells/*.jpg": 0.5,
    "figures/images/*/*.png": 5 / 6,  # smaller than what the network sees
    "metal_nut/*/*.jpg": 0.5,  # square
}
"""Which real images: the one so far down the sorted list."""
TEXTS = ["a photo of a cat", "a blue car", "", "two metal nuts, scratched", "nuclei under a microscope", "word " * 90]


@pytest.fixture(scope="session")
def pictures(shared):
    """8 images as Pillow gives them: real ones of all shapes, and drawn ones."""
    from PIL import Image

    found = []
    for pattern, share in PHOTOS.items():
        paths = sorted((shared / "data").glob(pattern))
        found.append(Image.open(paths[int(len(paths) * share)]).convert("RGB"))
    assert {image.width > image.height for image in found} == {True, False}
    found += [
        Image.fromarray(np.atleast_3d(drawn.picture(kind, 5)).repeat(1, 2)).convert("RGB") for kind in drawn.KINDS
    ]
    return found


@pytest.fixture(scope="session", params=NETWORKS, ids=lambda name: name.partition(":")[2])
def model(request, pictures, tmp_path_factory):
    """A Model folder of random weights. Batch norms are given what training gives them: each channel a threshold of its
    own, and the images' statistics. Else all features of random weights lie along one line."""
    folder = tmp_path_factory.mktemp("parity")
    torch.manual_seed(0)
    network = build(request.param)
    norms = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    how = {"name": "model", "task": "embed", "folder": folder / "model"}
    if not norms:
        yield export(request.param, state=None, seed=0, **how)
    else:
        with torch.no_grad():
            for each in norms:
                each.bias.normal_(0, 0.5)
                each.weight.uniform_(0.5, 1.5)
                each.reset_running_stats()
                each.momentum = None
            network.train()(torch.stack([transform_of(network)(picture) for picture in pictures]))
        torch.save(network.state_dict(), folder / "weights.pt")
        yield export(request.param, state=folder / "weights.pt", **how)
    shutil.rmtree(folder)  # up to a gigabyte


def transform_of(network):
    """timm's own."""
    return timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)


@pytest.fixture(scope="session")
def theirs(model):
    """The packages' own network with these weights, and their own transform."""
    family, _, name = model.card.architecture.partition(":")
    state = read_state(model.file("weights"))
    if family == "timm":
        network = timm.create_model(name, pretrained=False)
        network.load_state_dict(state)
        network.reset_classifier(0)
        return network.eval(), transform_of(network)
    from imagier._quiet import quiet

    with quiet("root"):
        network, _, transform = open_clip.create_model_and_transforms(name, pretrained=None, pretrained_text=False)
    network.load_state_dict(state)
    return network.eval(), transform


@pytest.fixture(scope="session")
def truth(theirs, pictures):
    """(images, width) float32, by torch."""
    network, transform = theirs
    batch = torch.stack([transform(picture) for picture in pictures])
    with torch.inference_mode():
        given = network.encode_image(batch) if hasattr(network, "encode_image") else network(batch)
    return given.numpy()


def ours(model, pictures, engine, precision):
    batch, _ = prepare([np.asarray(picture) for picture in pictures], model.card.input)
    run = engines.network(model, engine=engine, precision=precision)
    return run(batch)[model.output("embedding").tensors[0]]


def cosines(one, other):
    """Of each row with the same row; centred over the set; the greatest of two different rows, centred."""
    middle = other.mean(0)
    centred = unit(one - middle) @ unit(other - middle).T
    apart = centred - 2 * np.eye(len(one))
    return (unit(one) * unit(other)).sum(1), centred.diagonal(), apart.max()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_gives_what_the_package_s_own_code_gives(model, truth, pictures, engine, precision):
    if not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    plain, centred, apart = cosines(ours(model, pictures, engine, precision), truth)
    figures = {"plain": plain.min(), "centred": centred.min(), "different": apart}
    print(model.card.architecture, engine, precision, figures)
    assert plain.min() >= LEAST[precision], figures
    assert centred.min() >= LEAST[precision], figures
    assert apart < OTHERS, figures


@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_s_vector_is_the_package_s_own(model, theirs, engine):
    if model.card.text is None:
        pytest.skip("no text network")
    if not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    with torch.inference_mode():
        wanted = theirs[0].encode_text(open_clip.tokenize(TEXTS)).numpy()
    plain, centred, apart = cosines(embed_texts(model, TEXTS, engine=engine), unit(wanted))
    assert plain.min() >= LEAST["float32"]
    assert centred.min() >= LEAST["float32"]
    assert apart < OTHERS
