"""Masks of a road and what stands on it, and ways to spoil them. Each is changed in some frames, and named by H01 to
H05, H16 or H21.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tests.mutations.mutation import MutationCase

from stadia.core.types import LEFT, Camera, Recording
from stadia.data.height_priors import RoadConfig
from stadia.data.mask_files import MaskFiles
from stadia.data.surveys import survey_masks
from stadia.geometry.cameras import intrinsics
from stadia.judge.finding import Finding, Stage
from stadia.judge.recordings.label_checks import check_masks

HEIGHT, WIDTH, FRAMES = 48, 80, 8
Masks = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Change = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Masks | None]


class Drive(Recording):
    """A recording with masks only; its first frame is number 100 of the video."""

    name = "drive"

    def __len__(self) -> int:
        return FRAMES

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """A dark road under a bright sky, and a gray car where the masks have it."""
        picture = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
        picture[HEIGHT // 2 :] = 60
        picture[20:34, 20:36] = 120
        return picture

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return intrinsics(50.0, 50.0, 39.5, 23.5, height=HEIGHT, width=WIDTH)

    def number(self, index: int) -> int:
        return 100 + index


def drive(
    folder: Path, change: Change = lambda semantic, instance: (semantic, instance), *, frames: range = range(FRAMES)
) -> Recording:
    """A road in the lower half with a car on it; `frames` of it are changed, None has no file."""
    for kind in ("semantic", "instance"):
        (folder / kind / "left").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps({7: "road", 26: "car", 28: "bus", 23: "sky"}))
    for index in range(FRAMES):
        semantic, instance = np.full((HEIGHT, WIDTH), 23, np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        semantic[HEIGHT // 2 :] = 7
        semantic[20:34, 20:36], instance[20:34, 20:36] = 26, 4
        written = change(semantic, instance) if index in frames else (semantic, instance)
        for kind, values in zip(("semantic", "instance"), written or (), strict=False):
            cv2.imwrite(str(folder / kind / "left" / f"{100 + index:06d}.png"), values)
    recording = Drive()
    recording.mask_reader = MaskFiles(folder)
    return recording


def check_masks_of(recording: Recording, **config: object) -> list[Finding]:
    return check_masks(survey_masks([recording], RoadConfig(priors="kitti", **config)))


def painted(number: int) -> Change:
    return lambda semantic, instance: (np.full_like(semantic, number), np.zeros_like(instance))


def an_empty_road(semantic: NDArray[np.uint8], instance: NDArray[np.uint8]) -> Masks:
    return np.where(instance > 0, 7, semantic).astype(np.uint8), np.zeros_like(instance)


def a_bus(semantic: NDArray[np.uint8], instance: NDArray[np.uint8]) -> Masks:
    return np.where(instance > 0, 28, semantic).astype(np.uint8), instance


def moved(semantic: NDArray[np.uint8], instance: NDArray[np.uint8]) -> Masks:
    """Lower by 6 of 48 rows, and further to the right by 5 of 80 columns."""
    low, high = (np.pad(mask, ((6, 0), (5, 0)), mode="edge")[:HEIGHT, :WIDTH] for mask in (semantic, instance))
    return low, high


MUTATIONS: dict[str, tuple[Change, range, set[str], str]] = {
    "the camera looks at the sky": (painted(23), range(FRAMES), {"H01", "H02"},
        "8 of 8 frames show no road, such as frame 100"),
    "the road is seen in three frames alone": (painted(23), range(3, FRAMES), {"H01"},
        "5 of 8 frames show no road, such as frame 103"),
    "no objects": (an_empty_road, range(FRAMES), {"H02"},
        "8 of 8 frames show no object of known height (0 objects), such as frame 100"),
    "no mask file": (lambda s, i: None, range(2, 4), {"H03"},
        "masks of 2 of 8 frames cannot be used, such as frame 102: no mask file"),
    "no masks": (lambda s, i: None, range(FRAMES), {"H03"}, "0 of 8 sampled frames have masks: no mask file"),
    "masks of a cropped image": (lambda s, i: (s[:, :60], i[:, :60]), range(5, 6), {"H03"}, "frame 105: "),
    "a class without a prior": (a_bus, range(1, 3), {"H04"}, "2 of class bus, such as in frame 101"),
    "stored mirrored": (lambda s, i: (s[:, ::-1], i[:, ::-1]), range(FRAMES), {"H16"},
        "in 8 of 8 frames"),
    "resized without the crop of the images": (moved, range(FRAMES), {"H21"}, "12% up"),
    "stored upside down": (lambda s, i: (s[::-1], i[::-1]), range(6, FRAMES), {"H05"}, "of frame 106 less than half"),
}  # fmt: skip


def _case(name: str) -> MutationCase:
    change, frames, codes, _ = MUTATIONS[name]
    return MutationCase(
        name,
        tuple(sorted(codes)),
        Stage.DATA,
        broken=lambda folder: check_masks_of(drive(folder, change, frames=frames), objects=("car", "bus")),
        correct=lambda folder: check_masks_of(drive(folder), objects=("car", "bus")),
    )


ROWS = tuple(map(_case, MUTATIONS))
