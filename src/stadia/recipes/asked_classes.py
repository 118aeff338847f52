"""Check that the classes requested from `stadia camera-height` occur, have heights, and stand on a road."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from stadia.core.errors import DataError
from stadia.data.height_priors import prior_of
from stadia.recipes.camera_height_config import CameraHeightConfig
from stadia.recipes.seen_objects import SeenFrame

MOST_WITHOUT_ROAD = 0.5
"""Maximum share of frames without road, of those whose masks have a road class."""

_NAMED = 5


def check_classes(frames: Sequence[SeenFrame], config: CameraHeightConfig) -> None:
    """Raise DataError if no object is of a requested class with a height; the message lists what occurs instead."""
    counts = _count_classes(frames)
    if any(prior_of(name, config.height_priors) for name in counts):
        return
    bare = [name for name in config.classes if name in counts]
    requested = ", ".join(config.classes or config.height_priors) or "any class"
    there = ", ".join(
        f"{count} of class {name}, as in {_first_frame(frames, name)}" for name, count in counts.most_common(_NAMED)
    )
    without = f"no height of class {', '.join(bare)}" if bare else f"no object of class {requested}"
    is_there = ", and ".join(part for part in (there or "no objects at all", _missing_road(frames)) if part)
    name_another = (
        "request a class that occurs (objects, priors), name it so in the masks' classes.json, or take frames that"
        " show one"
    )
    raise DataError(
        f"objects on the road in {len(frames)} frames",
        found=f"{without}; there are {is_there}",
        expected="objects of a requested class that has a height",
        fix="give its mean_m, spread_m and source in priors, or request another class" if bare else name_another,
    )


def notes_of_frames(frames: Sequence[SeenFrame], config: CameraHeightConfig) -> Iterator[str]:
    """Yield notes about requested classes that are not used, and frames that show no road."""
    counts = _count_classes(frames)
    for name in config.classes:
        if not counts[name]:
            yield f"note: no object of class {name} in any of {len(frames)} frames; it was requested by objects"
        elif prior_of(name, config.height_priors) is None:
            yield (
                f"note: {counts[name]} objects of class {name} are not used, such as in {_first_frame(frames, name)}: "
                "they have no height; give mean_m, spread_m and source in priors, or take the class out of objects"
            )
    if labeled := _missing_road(frames):
        yield f"note: the masks show {labeled}; objects are assumed to stand on one: check the masks' sheet"


def _count_classes(frames: Sequence[SeenFrame]) -> Counter[str]:
    return Counter(one.class_name for frame in frames for one in frame.objects)


def _first_frame(frames: Sequence[SeenFrame], class_name: str) -> str:
    return next(frame.name for frame in frames if any(one.class_name == class_name for one in frame.objects))


def _missing_road(frames: Sequence[SeenFrame]) -> str:
    """Return a phrase if too many frames show no road, else ""."""
    labeled = [frame for frame in frames if frame.road is not None]
    bare = [frame.name for frame in labeled if not frame.road]
    if len(bare) <= MOST_WITHOUT_ROAD * len(labeled):
        return ""
    return f"no road in {len(bare)} of {len(labeled)} frames, such as {bare[0]}"
