"""D20: black frames, a feed that froze, cuts and two cameras in turns are named with their frames.

A camera that stops or waits is none of them.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.sequence_checks import WatchedFrame, check_sequence

Image = NDArray[np.uint8]


class Frames:
    """A recording of images in memory.

    numbers: the number of each in its video.
    """

    def __init__(self, images: Sequence[Image], numbers: Sequence[int] | None = None) -> None:
        self.images = list(images)
        self.numbers = list(range(len(images))) if numbers is None else list(numbers)

    def image(self, index: int) -> Image:
        return self.images[index]

    def number(self, index: int) -> int:
        return self.numbers[index]


def film(count: int = 16, seed: int = 0, steps: Sequence[float] | NDArray[np.float64] = ()) -> list[Image]:
    """Return frames (120, 160, 3) of a camera that moves over a wall with texture, by 3 px a frame or by `steps`."""
    rng = np.random.default_rng(seed)
    wall = cv2.resize(rng.integers(0, 255, (30, 130), dtype=np.uint8), (1600, 360), interpolation=cv2.INTER_CUBIC)
    places = np.cumsum(steps if len(steps) else np.full(count, 3.0))
    return [np.repeat(wall[100:220, int(x) : int(x) + 160, None], 3, 2) for x in places]


def find(images: Sequence[Image], numbers: Sequence[int] | None = None) -> list[Finding]:
    watched = [WatchedFrame(index, np.asarray(image[..., 0])) for index, image in enumerate(images)]
    return list(check_sequence(Frames(images, numbers), [watched]))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [np.full(16, 3.0), np.linspace(8, 0, 16), np.r_[np.linspace(8, 0, 10), np.zeros(6)]])
def test_a_camera_that_moves_stops_or_waits_is_one_sequence(steps: NDArray[np.float64]) -> None:
    assert find(film(steps=steps)) == []
    waits = np.r_[np.linspace(6, 0, 8), np.zeros(5), np.linspace(0, 6, 8)]
    assert find(film(steps=waits)) == []


def test_black_frames_are_named() -> None:
    images = film()
    for index in (0, 1, 2, 9):
        images[index] = np.full_like(images[index], 3)
    (finding,) = find(images)
    assert finding.code == "D20"
    assert "frames 0 to 2, 9 of 16 are black" in finding.measured
    assert "drop" not in finding.fix


def test_a_feed_that_froze_is_named() -> None:
    images = film()
    frozen = [*images[:6], *[images[5]] * 4, *images[10:]]
    (finding,) = find(frozen)
    assert "frames 6 to 9 repeat" in finding.measured
    kept = [*range(6), *range(10, 16)]
    (finding,) = find([images[index] for index in kept], kept)
    assert "frames 6 to 9 repeat" in finding.measured, "a video leaves out frames without motion"


def test_a_cut_is_named() -> None:
    (finding,) = find([*film(8), *film(8, seed=7)])
    assert "a cut in front of frame 8" in finding.measured
    assert "data.frames=[0,8]" in finding.fix


def test_two_cameras_in_turns_are_named() -> None:
    images = [image for pair in zip(film(8), film(8, seed=7), strict=True) for image in pair]
    (finding,) = find(images)
    assert "frames 0, 2, 4 " in finding.measured
    assert finding.severity is Severity.STOP
    assert "data.stride=2" in finding.fix
    assert find(images[::2]) == [], "the fix"


def test_unrelated_images_are_not_two_cameras() -> None:
    assert find([film(1, seed=seed)[0] for seed in range(12)]) == []
