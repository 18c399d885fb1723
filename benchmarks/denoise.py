"""How well noise is taken out: PSNR and SSIM on a folder of images, every model by the same noise.

    python benchmarks/denoise.py BSD68 --model denoise --model dncnn_25_grey.pth    # names, Model folders, DnCNN's

Images are grey or colour as the model takes them; Gaussian noise of standard deviation 25 is neither rounded nor
clipped, what comes out is rounded to 8 bits, as papers have it; a seed of its own for each image. With --flips each
model's mean over mirror images stands beside. A file that ends in .pth is DnCNN's state dict, 17 layers of 64 channels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from imagier.models import store
from imagier.models.model import Model
from imagier.workflows.evaluate import restorer


def opened(named: str, scratch: Path) -> Model:
    """A model by name, folder, or DnCNN's own file."""
    if not named.endswith(".pth"):
        return store.find(named, "denoise")
    from imagier.models.exporting import export

    return export("dncnn:17x64@grey", state=Path(named), name="dncnn", task="denoise", folder=scratch / "dncnn")


def main() -> None:
    """A line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--noise", default="gaussian:25")
    parser.add_argument("--flips", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for named in given.model:
            model = opened(named, Path(scratch))
            for flips in (False, True) if given.flips else (False,):
                for estimate in (False, True) if model.card.sigma is not None else (False,):
                    how = {"noise": given.noise, "flips": flips, "estimate": estimate}
                    told = restorer(model, images=given.folder, progress=False, **how).told
                    print(
                        f"{given.folder.name} {Path(named).name}: {told['psnr']['mean']:.3f} dB, SSIM "
                        f"{told['ssim']['mean']:.4f} (before {told['psnr_before']['mean']:.2f} dB; {told['images']} "
                        f"images; {told['protocol']})",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
