"""Draw a video: the horizon by the depth's road, a reference horizon, and accepted and rejected objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import Recording
from stadia.data.mask_files import ROAD, select_classes
from stadia.evaluation.plots.videos import open_video_file
from stadia.geometry.ground.horizon import horizon_from_normal
from stadia.geometry.ground.road_plane import erode_mask, road_pixel_heights
from stadia.scale.camera_height.road_horizon import find_edge_horizon

Image = NDArray[np.uint8]

RATE_HZ = 10.0
BY_DEPTH, REFERENCE = (255, 160, 0), (255, 255, 255)
ACCEPTED, REJECTED = (60, 220, 60), (240, 60, 60)
MIN_KNOWN = 0.5  # share of road pixels with true depth, for a horizon by it


def draw_line(image: Image, horizon: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    """Draw a horizon into an image (H, W, 3) RGB; nothing for NaN or a vertical line.

    image: changed in place.
    horizon: (3,) line a x + b y + c = 0, pixels.
    color: RGB.

    Examples:
        >>> image = np.zeros((9, 9, 3), np.uint8)
        >>> draw_line(image, np.array([0.0, -1, 4]), (255, 0, 0))
        >>> int(image[:, 4, 0].argmax())
        4
    """
    if not np.isfinite(horizon).all() or abs(horizon[1]) < 1e-6:
        return
    width = image.shape[1]
    rows = -(horizon[0] * np.array([0, width - 1]) + horizon[2]) / horizon[1]
    left, right = rows.clip(-10 * width, 10 * width).round().astype(int).tolist()
    cv2.line(image, (0, left), (width - 1, right), color, max(1, round(width / 600)), cv2.LINE_AA)


def find_reference(recording: Recording, index: int) -> tuple[NDArray[np.float64], str]:
    """Return a horizon line (3,) to compare with, and its name: by true depth if there is any, else by straight image
    edges.
    """
    camera, depth_m, masks = recording.camera(index), recording.depth_m(index), recording.masks(index)
    reader = recording.mask_reader
    if depth_m is not None and masks is not None and reader is not None:
        road = erode_mask(select_classes(masks.semantic, reader.classes, {ROAD})[None, None])
        known = road & (depth_m > 0)
        if int(known.sum()) > MIN_KNOWN * max(int(road.sum()), 1):
            plane = road_pixel_heights(depth_m.astype(np.float64)[None, None], camera, known).plane
            return horizon_from_normal(plane[0, :3], camera), "true depth"
    return find_edge_horizon(recording.image(index), camera), "edges of the image"


@dataclass(frozen=True, eq=False)
class HorizonView:
    """One image of the video.

    recording, index: the image.
    normal: (3,) normal of the depth's road in the camera's axes; NaN without a road.
    boxes: (N, 4) left, top, right, bottom of the objects, pixels.
    accepted: (N,) bool, whether each object was used.
    """

    recording: Recording
    index: int
    normal: NDArray[np.float64]
    boxes: NDArray[np.float64]
    accepted: NDArray[np.bool_]


def draw_view(view: HorizonView) -> Image:
    """Return the image (H, W, 3) RGB with both horizons, the objects, and a line of text for each horizon."""
    image = view.recording.image(view.index).copy()
    horizon = horizon_from_normal(view.normal, view.recording.camera(view.index))
    reference, name = find_reference(view.recording, view.index)
    draw_line(image, reference, REFERENCE)
    draw_line(image, horizon, BY_DEPTH)
    thickness = max(1, round(image.shape[1] / 600))
    for (left, top, right, bottom), is_accepted in zip(
        view.boxes.round().astype(int).tolist(), view.accepted, strict=True
    ):
        color = ACCEPTED if is_accepted else REJECTED
        cv2.rectangle(image, (left, top), (right, bottom), color, thickness)
    font = max(0.3, image.shape[1] / 1600)
    for row, (text, color) in enumerate(((f"horizon by {name}", REFERENCE), ("horizon by depth", BY_DEPTH)), start=1):
        place = (4, round(row * 26 * font) + 2)
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, font, color, thickness, cv2.LINE_AA)
    return image


def write_horizon_video(path: Path, views: Sequence[HorizonView], track: TrackProgress = no_progress) -> None:
    """Write an mp4 video of the views that have the image size of the first one.

    track: shows the progress.
    """
    size = views[0].recording.camera(views[0].index)
    with open_video_file(path, RATE_HZ) as write:
        for view in track(views, len(views), "drawing horizons"):
            camera = view.recording.camera(view.index)
            if (camera.height, camera.width) == (size.height, size.width):
                write(draw_view(view))
