"""inspect: how unlike good parts an image is, whether that is too much, and where.

`anomaly`, the raw score; `verdict`, good or bad, at the rate of good parts that may be taken for bad;
`anomaly_typical`, the share of good parts at least as strange; `bad_probability`, where the model has seen bad ones;
`defects`, how many places are too strange, `defect_share` of the image, and `defect_masks`, a PNG of the image's size
in 16 bits, a number a place. `crop(source="mask")` makes an item of every place. `anomaly_features`, the mean of what
the encoder saw: with the scores it tells, for the receipt of each run, whether the images differ as a whole.
"""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from imagier.models.inspecting import RATE, Rule
from imagier.models.segmenting import Found
from imagier.stages._pixels import eight_bit
from imagier.stages._place import frame
from imagier.stages.segment import packed, regions
from imagier.types import Apply, Columns, NameOrFile, SettingError, Stage, Step

DEFECT = "defect"
"""What a place that is too strange is called."""
UNNAMED = (
    "inspect.model must be given, an inspector's name or Model folder. It is trained by: imagier train inspector "
    "--good DIR --into MODEL (docs/inspection.md); then --set inspect.model=MODEL"
)
"""What is said of a step without a model."""


def make(
    *,
    model: NameOrFile = "",
    rate: float = RATE,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Step:
    """`anomaly`, `verdict`, `anomaly_typical`, `defects`, `defect_share`, `defect_masks`, `anomaly_features`;
    `bad_probability`, where the model has seen bad ones.

    model: an inspector's name, or the path of a Model folder. It must be given.
    rate: of good parts that may be taken for bad.
    engine: what runs its encoder. precision: what that computes in.
    """
    from imagier.models import inspecting
    from imagier.models.store import find

    if not model:
        raise SettingError(UNNAMED)
    found = find(model, "inspect")
    rule = inspecting.rule_of(found, rate)
    encoder, choice = inspecting.chosen(found, engine, precision)

    def load() -> Apply:
        look = inspecting.inspect_by(found, engine=choice.engine, precision=choice.precision)

        def apply(columns: Columns) -> Columns:
            given = eight_bit(columns)
            out: Columns = {name: [] for name in (*_schema(rule).names, "regions")}
            places = zip(look(given), given, *(columns[each] for each in ("width", "height", "box")), strict=True)
            for looked, image, width, height, box in places:
                told = rule.say(looked, *image.shape[:2])
                out["anomaly"].append(told.score)
                out["verdict"].append("bad" if told.bad else "good")
                out["anomaly_typical"].append(told.typical)
                out["defects"].append(int(told.defects.max(initial=0)))
                out["defect_share"].append(float((told.defects > 0).mean()))
                out["defect_masks"].append(packed(told.defects))
                out["anomaly_features"].append(looked.middle)
                if told.probability is not None:
                    out["bad_probability"].append(told.probability)
                numbers, likely = told.defects[:, :, None], rule.likely(told.heat)[:, :, None]
                made = Found(image, (DEFECT,), numbers > 0, numbers, likely)
                out["regions"].append(regions(made, frame(image, width, height, box)))
            return out

        return apply

    def facts(columns: Columns) -> dict[str, Any]:
        scores, verdicts = columns["anomaly"], columns["verdict"]
        away = inspecting.drift(rule.memory, scores, columns["anomaly_features"].mean(axis=0))
        return {**rule.as_dict(), "images": len(scores), "bad": verdicts.count("bad"), "drift": away.as_dict()}

    return Step(
        reads=("image", "black", "white", "width", "height", "box"),
        facts=facts,
        writes=_schema(rule),
        load=load,
        passes=("regions",),
        weights=(*found.keys, *encoder.keys),
        precision=choice.precision,
        pixels=None,  # masks are of the image's own size
    )


def _schema(rule: Rule) -> pa.Schema:
    """What is written: a probability where the model can tell one."""
    fields = [
        pa.field("anomaly", pa.float32()),
        pa.field("verdict", pa.string()),
        pa.field("anomaly_typical", pa.float32()),
        pa.field("defects", pa.int32()),
        pa.field("defect_share", pa.float32()),
        pa.field("defect_masks", pa.binary()),
        pa.field("anomaly_features", pa.list_(pa.float32(), rule.memory.middles.shape[1])),
    ]
    return pa.schema(fields + ([pa.field("bad_probability", pa.float32())] if rule.calibration else []))


INSPECT = Stage(name="inspect", version=1, over="rows", make=make)
"""What is unlike good parts."""
