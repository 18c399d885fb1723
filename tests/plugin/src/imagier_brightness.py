"""A stage in one file: the mean brightness of each image, in [0, 1]."""

import numpy as np
import pyarrow as pa

from imagier.types import Apply, Columns, SettingError, Stage, Step


def make(*, gamma: float = 1.0) -> Step:
    """`brightness`: float32 in [0, 1]. gamma: the exponent that pixels are raised to first."""
    if gamma <= 0:
        raise SettingError(f"brightness.gamma cannot be {gamma}: it must be above 0")

    def load() -> Apply:
        def apply(columns: Columns) -> Columns:
            tops = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
            means = [((image / tops[str(image.dtype)]) ** gamma).mean() for image in columns["image"]]
            return {"brightness": np.array(means, np.float32)}

        return apply

    return Step(reads=("image",), writes=pa.schema([pa.field("brightness", pa.float32())]), load=load, pixels=64)


BRIGHTNESS = Stage("brightness", 1, "rows", make)
