"""The stages, one file each. A third party adds one by an entry point of the group `imagier.stages`."""

from __future__ import annotations

from importlib.metadata import entry_points

from imagier.stages.classify import CLASSIFY
from imagier.stages.cluster import CLUSTER
from imagier.stages.crop import CROP
from imagier.stages.denoise import DENOISE
from imagier.stages.duplicates import DUPLICATES
from imagier.stages.embed import EMBED
from imagier.stages.inspect import INSPECT
from imagier.stages.measure import MEASURE
from imagier.stages.reduce import REDUCE
from imagier.stages.segment import SEGMENT
from imagier.stages.upscale import UPSCALE
from imagier.types import SettingError, Stage, nearest

BUILT_IN = (DENOISE, UPSCALE, SEGMENT, CROP, MEASURE, EMBED, CLASSIFY, INSPECT, REDUCE, CLUSTER, DUPLICATES)


def stage_names() -> list[str]:
    """The names of all stages there are, those of installed plug-ins among them."""
    return sorted({stage.name for stage in BUILT_IN} | set(entry_points(group="imagier.stages").names))


def find_stage(name: str) -> Stage:
    """The stage of this name. Raises SettingError where there is none, or where a plug-in does not load."""
    for stage in BUILT_IN:
        if stage.name == name:
            return stage
    for entry in entry_points(group="imagier.stages", name=name):
        try:
            found = entry.load()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise SettingError(f"the plug-in stage {name!r} ({entry.value}) does not load: {why}") from error
        if not isinstance(found, Stage) or found.name != name:
            raise SettingError(f"the plug-in stage {name!r} ({entry.value}) is no imagier.types.Stage of that name")
        return found
    raise SettingError(nearest("stage", name, stage_names()))
