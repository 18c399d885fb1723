"""Defects of metal nuts learnt from boxes: a segmenter is shown filled boxes as if they were masks.

    python benchmarks/weak_masks.py ../shared/data/metal_nut --work work

Images of bent, scratched and coloured nuts with the boxes of these defects, and good ones, which have none; not of
flipped nuts, where the whole part is the defect. Told are, of the images held out, how many have what was found overlap
the union of their boxes by an IoU of 0.3 or more, by kind, and how many good ones are flagged. Stopped at any time, the
same command goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path

from imagier.models.model import read_model
from imagier.models.segmenting import Cleaning
from imagier.workflows import evaluate, train

KINDS = ("bent", "color", "scratch", "good")
SETTINGS = {"split": "50:10:40", "epochs": 80, "patience": 80, "batch": 8}
"""Some 40 images to learn from: more times through them, and as many held out."""
ENOUGH = 0.3


def laid_out(data: Path, into: Path) -> Path:
    """The images, without the flipped ones, and a COCO file of their defects' boxes as polygons. Returns that file."""
    from PIL import Image

    images, outlines = [], []
    boxes = json.loads((data / "boxes.json").read_text())
    for kind in KINDS:
        (into / "images" / kind).mkdir(parents=True, exist_ok=True)
        for path in sorted((data / kind).iterdir()):
            shutil.copyfile(path, into / "images" / kind / path.name)
            width, height = Image.open(path).size
            name = f"{kind}/{path.name}"
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
            for each in boxes.get(name, []):
                if each["kind"] in KINDS:
                    x, y, w, h = each["cxcywh"]
                    left, right = (x - w / 2) * width, (x + w / 2) * width
                    top, bottom = (y - h / 2) * height, (y + h / 2) * height
                    outline = [left, top, right, top, right, bottom, left, bottom]
                    of = {"id": len(outlines) + 1, "image_id": len(images), "category_id": 1}
                    outlines.append(of | {"segmentation": [outline]})
    coco = into / "boxes.json"
    coco.write_text(
        json.dumps({"images": images, "annotations": outlines, "categories": [{"id": 1, "name": "defect"}]})
    )
    return coco


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--least", type=int, default=0, help="pixels of the smallest defect")
    given = parser.parse_args()
    masks = train.Masks(coco=laid_out(given.data, given.work))
    images, into = given.work / "images", given.work / f"model-{given.seed}"
    if not into.exists():
        settings = SETTINGS | {"seed": given.seed}
        train.segmenter(images=images, masks=masks, into=into, config="defects", settings=settings, unmasked=True)
    how = Cleaning(threshold=given.threshold, least=given.least)
    judged = evaluate.segmenter(read_model(into), images=images, masks=masks, part="test", how=how, unmasked=True)
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for each in judged.classes["defect"]:
        kind = each.path.parent.name
        by_kind[kind].append(each.counts["found"] > 0 if kind == "good" else each.measures["iou"] >= ENOUGH)
    defective = [hit for kind in KINDS[:-1] for hit in by_kind[kind]]
    for kind, hits in [("defects", defective), *by_kind.items()]:
        print(f"{kind}: {sum(hits)} of {len(hits)} {'flagged' if kind == 'good' else f'with IoU >= {ENOUGH}'}")


if __name__ == "__main__":
    main()
