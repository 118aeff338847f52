"""Whether what `stadia camera-height` was asked to measure by is in the images at all: classes with known heights, on a
road.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stadia.core.errors import DataError
from stadia.data.height_priors import prior_of
from stadia.recipes.camera_height_config import CameraHeightConfig
from stadia.recipes.seen_objects import SeenFrame

MOST_WITHOUT_ROAD = 0.5
"""Of the frames whose masks know a road."""

_NAMED = 5


def check_classes(frames: Sequence[SeenFrame], config: CameraHeightConfig) -> None:
    """Raise DataError where no object is of a class that was asked for and has a height, naming what there is instead."""
    seen = _seen(frames)
    if any(prior_of(name, config.height_priors) for name in seen):
        return
    bare = [name for name in config.classes if name in seen]
    asked = ", ".join(config.classes or config.height_priors) or "any class"
    there = ", ".join(
        f"{count} of class {name}, as in {_first(frames, name)}" for name, count in seen.most_common(_NAMED)
    )
    without = f"no height of class {', '.join(bare)}" if bare else f"no object of class {asked}"
    is_there = ", and ".join(part for part in (there or "no objects at all", _of_road(frames)) if part)
    name_another = (
        "ask for a class that is there (objects, priors), name it so in the masks' classes.json, or take frames that"
        " show one"
    )
    raise DataError(
        f"objects on the road in {len(frames)} frames",
        found=f"{without}; there are {is_there}",
        expected="objects of a class that is asked for and has a height",
        fix="give its mean_m, spread_m and source in priors, or ask for another" if bare else name_another,
    )


def notes_of_frames(frames: Sequence[SeenFrame], config: CameraHeightConfig) -> Iterator[str]:
    """What was asked for and says nothing, and frames that show no road for it to stand on."""
    seen = _seen(frames)
    for name in config.classes:
        if not seen[name]:
            yield f"note: no object of class {name} in any of {len(frames)} frames; it was asked for by objects"
        elif prior_of(name, config.height_priors) is None:
            yield (
                f"note: {seen[name]} objects of class {name} say nothing, such as in {_first(frames, name)}: they have"
                " no height; give mean_m, spread_m and source in priors, or take the class out of objects"
            )
    if told := _of_road(frames):
        yield f"note: the masks show {told}; objects are taken to stand on one: look at the masks' sheet"


def _seen(frames: Sequence[SeenFrame]) -> Counter[str]:
    return Counter(one.class_name for frame in frames for one in frame.objects)


def _first(frames: Sequence[SeenFrame], class_name: str) -> str:
    return next(frame.name for frame in frames if any(one.class_name == class_name for one in frame.objects))


def _of_road(frames: Sequence[SeenFrame]) -> str:
    """In words, where too many frames show none."""
    told = [frame for frame in frames if frame.road is not None]
    bare = [frame.name for frame in told if not frame.road]
    if len(bare) <= MOST_WITHOUT_ROAD * len(told):
        return ""
    return f"no road in {len(bare)} of {len(told)} frames, such as {bare[0]}"
