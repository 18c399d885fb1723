"""None of the above: each class of BioFors's layout left out of training in turn, and told from the others.

    python benchmarks/refusal.py ../shared/data/figures

For each class left out a head is trained on the others (split by document). Told are the AUROC of the class left out
against known images that were held out, by how strange they are, and how many known ones are refused.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from imagier import images
from imagier.algorithms.confidence import REFUSED
from imagier.algorithms.judging import auroc
from imagier.models.classifying import confidence_of, looker
from imagier.workflows import train
from imagier.workflows.labels import TABLE, import_biofors
from imagier.workflows.segment import read


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--refused", type=float, default=REFUSED)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    areas, refused, count = [], 0, 0
    with tempfile.TemporaryDirectory() as made:
        data, away = Path(made) / "data", Path(made) / "away"
        import_biofors(given.data, data)
        for folder in sorted(each for each in data.iterdir() if each.is_dir()):
            folder.rename(away)
            model = train.classifier(
                labels=train.Labels(data=data),
                groups=f"{data / TABLE}:document",
                into=Path(made) / folder.name,
                settings={"seed": given.seed},
                progress=False,
            )
            test = set(json.loads(model.file("split").read_text())["parts"]["test"])
            known = [path for path in sorted(data.rglob("*.png")) if images.content_hash(path.read_bytes()) in test]
            strange = sorted(away.rglob("*.png"))
            look, trust = looker(model), confidence_of(model)
            seen = look([read(path) for path in known + strange])
            assert trust.distribution is not None
            scores = trust.distribution.strangeness(seen.features, seen.logits / trust.temperature)
            said = trust.say(seen, refused=given.refused).known
            assert said is not None
            areas.append(auroc(scores, np.arange(len(scores)) >= len(known)))
            wrong = ~said[: len(known)]
            refused, count = refused + int(wrong.sum()), count + len(known)
            print(
                f"{folder.name} left out: AUROC {areas[-1]:.3f} by {trust.distribution.method}; refused are "
                f"{(~said[len(known) :]).mean():.3f} of its images, {wrong.mean():.3f} of {len(known)} known ones"
            )
            away.rename(folder)
    print(f"mean AUROC {np.mean(areas):.3f}; known images refused {refused / count:.3f}, stated {given.refused}")


if __name__ == "__main__":
    main()
