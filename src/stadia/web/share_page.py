"""Describe a prediction for the page that its user shares."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.files.image_io import read_image
from stadia.files.input_files import read_bytes
from stadia.predict.describe import describe_receipt, verdict_lines
from stadia.predict.outputs import PATH_DRAWING, VIDEO
from stadia.report.report_page import ResultPage, fit_cloud_size, make_point_cloud
from stadia.web.photo import FOV_SOURCES, PhotoCamera, PhotoPrediction, choose_points, color_prediction, describe_bar
from stadia.web.video import MAX_SHARED_BYTES, VideoJob

NO_LICENCE = "none recorded"
_SCALE_OF_NETWORK = "the network's training"

Pixel = tuple[int, int]


def describe_photo(prediction: PhotoPrediction, points: Sequence[Pixel] = ()) -> ResultPage:
    """Return the page of a picture.

    points: two pixels (x, y) with a measured distance, or none.

    Raises GeometryError if a point has no depth.
    """
    image, bar, scale = prediction.image, describe_bar(prediction), prediction.depth_scale
    facts = _describe_network(prediction.network, prediction.licence) | _describe_camera(
        prediction.camera, prediction.K
    )
    facts |= {"Image": f"{image.shape[1]}x{image.shape[0]} pixels"}
    if prediction.relative_error is not None:
        facts["Error of depth"] = f"about {prediction.relative_error:.0%}"
    lines = list(verdict_lines(prediction.checks))
    lines += describe_receipt(prediction.receipt) if prediction.receipt is not None else []
    headline = ""
    images = [("Picture", image), ("Depth, bright is near", color_prediction(prediction))]
    if len(points) == 2:
        found = prediction.measure(*points)
        unit = "m" if bar["unit"] == "m" else "units of depth, not metres"
        length, deviation = _round(found.distance, 3), _round(found.deviation, 2)
        headline = f"Distance of the two points: {length} ± {deviation} {unit}"
        images = [(text, draw_points(shown, points)) for text, shown in images]
    cloud = None
    if not scale.is_affine:
        depth = prediction.depth(*image.shape[:2])
        depth[~choose_points(depth)] = 0
        rows, columns = fit_cloud_size(*image.shape[:2])
        small = cv2.resize(depth, (columns, rows), interpolation=cv2.INTER_NEAREST)
        cloud = make_point_cloud("picture", image, np.asarray(small, np.float32), prediction.K, str(scale))
    return ResultPage(
        title="Depth of a picture",
        images=images,
        colors=bar["colors"],
        ticks=[(share, label) for share, label in bar["labels"]],
        verdict=prediction.checks["verdict"],
        lines=lines,
        trust=prediction.trust,
        depth_scale=str(scale),
        scale_from=_SCALE_OF_NETWORK if prediction.receipt is None else "a known length",
        headline=headline,
        facts=facts,
        cloud=cloud,
    )


def describe_video(job: VideoJob) -> ResultPage:
    """Return the page of a predicted video, with the drawing of its path."""
    about, drawing = job.about, job.predictions / PATH_DRAWING
    images = []
    if drawing.is_file():
        images.append(("Path of the camera", np.asarray(read_image(drawing, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)))
    facts = _describe_network(about["network"], about["licence"])
    facts |= {"Field of view": _describe_fov(about["fov_deg"], about["fov_source"])}
    facts |= {"Frames": f"{len(about['frames'])}, {about['rate_hz']:.3g} a second"}
    return ResultPage(
        title="Depth of a video",
        images=images,
        video=read_bytes(job.predictions / VIDEO, expected="a video", max_bytes=MAX_SHARED_BYTES),
        verdict=about["verdict"],
        lines=[line.strip() for line in about["lines"]],
        trust=about["trust"],
        depth_scale=about["depth_scale"],
        scale_from=_SCALE_OF_NETWORK,
        facts=facts,
    )


def draw_points(image: NDArray[np.uint8], points: Sequence[Pixel]) -> NDArray[np.uint8]:
    """Return a copy of an image (H, W, 3) with a line between two pixels (x, y), white with a black edge.

    Examples:
        >>> draw_points(np.full((9, 9, 3), 100, np.uint8), [(1, 4), (7, 4)])[4, 4].tolist()
        [255, 255, 255]
    """
    drawn, width = image.copy(), max(round(max(image.shape) / 400), 1)
    first, second = points
    for color, thick in (((0, 0, 0), 3 * width), ((255, 255, 255), width)):
        cv2.line(drawn, first, second, color, thick)
        for point in points:
            cv2.circle(drawn, point, 4 * width, color, thick)
    return drawn


def _round(value: float, digits: int) -> str:
    return f"{value:#.{digits}g}".removesuffix(".")


def _describe_network(name: str, licence: str) -> dict[str, str]:
    return {"Network": name, "Licence of the weights": licence or NO_LICENCE}


def _describe_camera(camera: PhotoCamera, K: NDArray[np.float64]) -> dict[str, str]:
    focal, center = (", ".join(f"{value:.5g}" for value in values) for values in (K[[0, 1], [0, 1]], K[:2, 2]))
    return {
        "Field of view": _describe_fov(camera.fov_deg, camera.source),
        "Camera": f"focal lengths {focal}, center {center} pixels",
    }


def _describe_fov(fov_deg: float, source: str) -> str:
    return f"{fov_deg:.1f}° from left to right, {FOV_SOURCES[source]}"
