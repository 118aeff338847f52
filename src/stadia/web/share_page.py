"""Describe a prediction for the page that its user shares."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stadia.core.verdict import Verdict
from stadia.geometry.cameras import centered_K, focal_px_from_fov
from stadia.io.input_files import read_bytes
from stadia.metrics.trajectory_metrics import find_jumps
from stadia.predict.describe import verdict_lines
from stadia.predict.run import CLOUD, VIDEO
from stadia.report.path_charts import draw_positions
from stadia.report.point_cloud_figures import (
    PointCloudFigure,
    SceneCamera,
    add_marks,
    fit_cloud_size,
    frame_scene,
    make_point_cloud,
    pack_scene,
)
from stadia.report.result_page import ResultPage
from stadia.web.forms import drop_commands
from stadia.web.measuring import Measured, MeasuredForm, MeasureForm
from stadia.web.photo import (
    FOV_SOURCES,
    PhotoCamera,
    PhotoPrediction,
    choose_points,
    color_prediction,
    describe_bar,
    describe_scale,
)
from stadia.web.video import MAX_SHARED_BYTES, VideoJob, find_centers, measure_frame, read_cloud, read_poses

MAX_SHARED_POINTS, MAX_SHARED_CAMERAS = 120_000, 12
"""Most cameras in the 3D view of a shared page of a video (MAX_SHARED_POINTS: most points)."""

LABEL_HEIGHTS = 28
"""Longest side of an image over the height of the labels in it."""

PATH_COLOR = (240, 228, 66)

NO_LICENCE = "none recorded"
_SCALE_OF_NETWORK = "the network's training"

Pixel = tuple[int, int]


def describe_photo(prediction: PhotoPrediction, items: Sequence[MeasureForm] = ()) -> ResultPage:
    """Return the content of the shared page of a picture.

    prediction: the prediction.
    items: what was measured.

    Raises GeometryError if a pixel has no depth.
    """
    image, bar, scale = prediction.image, describe_bar(prediction), prediction.depth_scale
    facts = _describe_network(prediction.network, prediction.licence) | _describe_camera(
        prediction.camera, prediction.K
    )
    facts |= {"Image": f"{image.shape[1]}x{image.shape[0]} pixels"}
    is_judged = prediction.checks["verdict"] != Verdict.NOT_JUDGED
    judged = [
        line for line in drop_commands(verdict_lines(prediction.checks)) if is_judged or Verdict.NOT_JUDGED not in line
    ]
    lines = [*judged, *describe_scale(prediction.receipt)]
    measured = [prediction.measure(form) for form in items]
    images = [("Picture", image), ("Depth, bright is near", color_prediction(prediction))]
    shapes = [(form.kind, form.points, found.label) for form, found in zip(items, measured, strict=True)]
    images = [(text, draw_shapes(shown, shapes)) for text, shown in images]
    cloud = None
    if not scale.is_affine:
        depth = prediction.depth(*image.shape[:2])
        depth[~choose_points(depth)] = 0
        rows, columns = fit_cloud_size(*image.shape[:2])
        small = cv2.resize(depth, (columns, rows), interpolation=cv2.INTER_NEAREST)
        cloud = make_point_cloud("picture", image, np.asarray(small, np.float32), prediction.K, str(scale))
        if cloud is not None:
            cloud = add_marks(cloud, [_close_area(one) for one in measured])
    return ResultPage(
        title="Depth of a picture",
        images=images,
        colors=bar["colors"],
        ticks=[(share, label) for share, label in bar["labels"]],
        verdict=prediction.checks["verdict"],
        word="" if is_judged else describe_word(prediction.trust.short),
        lines=lines,
        trust=prediction.trust.text,
        depth_scale=str(scale),
        scale_from=_SCALE_OF_NETWORK if prediction.receipt is None else "a known length",
        measured=[found.describe() for found in measured],
        facts=facts,
        cloud=cloud,
    )


def describe_word(short: str) -> str:
    """Return the error of a picture as the word on top of its page.

    Examples:
        >>> describe_word("± 31 %")
        'Depth ± 31 %'
    """
    return f"Depth {short}" if short.startswith("±") else short


def describe_video(job: VideoJob, form: MeasuredForm | None = None) -> ResultPage:
    """Return the content of the shared page of a predicted video, with a drawing of its camera trajectory.

    job: the predicted video.
    form: what was measured in its frames, and in 3D; each length is a line of the 3D view.

    Raises GeometryError if a pixel has no depth.
    """
    form = form or MeasuredForm()
    found = [measure_frame(job, item) for item in form.items]
    measured = [f"Frame {(item.frame or 0) + 1}: {one.describe()}" for item, one in zip(form.items, found, strict=True)]
    measured += [describe_length(job, np.array(points)) for points in form.lengths]
    marks = [_close_area(one) for one in found]
    marks += [(np.array(points), _measure_length(job, np.array(points)).label) for points in form.lengths]
    about = job.about
    unit = "m" if about["depth_scale"] == "metres" else "relative"
    positions = find_centers(read_poses(job.predictions).values())
    facts = _describe_network(about["network"], about["licence"])
    facts |= {"Field of view": _describe_fov(about["fov_deg"], about["fov_source"])}
    facts |= {"Frames": f"{len(about['frames'])}, {about['rate_hz']:.3g} a second"}
    return ResultPage(
        title="Depth of a video",
        images=(),
        path=draw_positions(positions, unit, find_jumps(positions)) if len(positions) > 1 else (),
        measured=measured,
        video=read_bytes(job.predictions / VIDEO, expected="a video", max_bytes=MAX_SHARED_BYTES),
        verdict=about["verdict"],
        word=about.get("headline", ""),
        parts=about.get("parts", ""),
        lines=[about["path_text"], *(line.strip() for line in about["lines"])],
        trust=about["trust"],
        cloud=add_marks(_pack_video(job), marks) if (job.predictions / CLOUD).is_file() else None,
        depth_scale=about["depth_scale"],
        scale_from=_SCALE_OF_NETWORK,
        facts=facts,
    )


def describe_length(job: VideoJob, points: NDArray[np.float64]) -> str:
    """Return a sentence about the distance of two points (2, 3) that were chosen in the 3D view of a video."""
    found = _measure_length(job, points)
    return f"Distance in 3D {found.label}" + ("" if found.unit else " (relative, not metres)")


def _measure_length(job: VideoJob, points: NDArray[np.float64]) -> Measured:
    about, value = job.about, float(np.linalg.norm(points[1] - points[0]))
    error, unit = about["relative_error"], "m" if about["depth_scale"] == "metres" else ""
    return Measured("length", value, value * (error or 0.0), points, unit, about["has_network_error"])


def _close_area(found: Measured) -> tuple[NDArray[np.float64], str]:
    """Return the points of a measurement in 3D, the first one again at the end of an area, and its label."""
    return np.concatenate([found.points, found.points[:1]]) if found.kind == "area" else found.points, found.label


def _pack_video(job: VideoJob) -> PointCloudFigure:
    points, colors = read_cloud(job.predictions / CLOUD)
    every, poses = max(len(points) // MAX_SHARED_POINTS, 1), list(read_poses(job.predictions).values())
    shown = poses[:: max(len(poses) // MAX_SHARED_CAMERAS, 1)]
    height, width = 1, job.about["aspect"]
    K = centered_K(focal_px_from_fov(job.about["fov_deg"], width), height, width)
    unit = "m" if job.about["depth_scale"] == "metres" else "units of depth"
    cameras = [SceneCamera(K, height, width, T) for T in shown]
    centers = find_centers(poses)
    after = [row + 1 for row in find_jumps(centers)] if len(poses) > 1 else []
    lines = [(part, PATH_COLOR) for part in np.split(centers, after)]
    grain = job.about.get("grain", 0.0) * math.sqrt(every)
    center, radius = frame_scene(points, centers) if len(poses) > 1 else ((0.0, 0.0, 0.0), 0.0)
    return pack_scene(
        points[::every],
        colors[::every],
        unit,
        lines=lines,
        cameras=cameras,
        center=center,
        radius=radius,
        grain=grain,
        opening=poses[0] if radius else None,
    )


def draw_shapes(image: NDArray[np.uint8], shapes: Sequence[tuple[str, Sequence[Pixel], str]]) -> NDArray[np.uint8]:
    """Return a copy of an image (H, W, 3) with lines through pixels (x, y), white with a black edge, and their labels,
    black on white.

    shapes: kind, pixels and label of each; the line of an area is closed.

    Examples:
        >>> draw_shapes(np.full((9, 9, 3), 100, np.uint8), [("length", [(1, 4), (7, 4)], "")])[4, 4].tolist()
        [255, 255, 255]
    """
    drawn, width = image.copy(), max(round(max(image.shape) / 400), 1)
    for color, thick in (((0, 0, 0), 3 * width), ((255, 255, 255), width)):
        for kind, points, _ in shapes:
            cv2.polylines(drawn, [np.array(points, np.int32)], kind == "area", color, thick)
            for point in points:
                cv2.circle(drawn, point, 4 * width, color, thick)
    canvas, height = Image.fromarray(drawn), max(max(image.shape) / LABEL_HEIGHTS, 10)
    drawing, font, pad = ImageDraw.Draw(canvas), ImageFont.load_default(height), height / 3
    side = 10 * width  # of the boxes along lines, which labels leave free
    ends = [np.asarray(points, float) for _, points, _ in shapes]
    along = [np.linspace(a, b, 5) for points in ends for a, b in zip(points, np.roll(points, -1, 0), strict=True)]
    taken = [(float(x), float(y), float(side), float(side)) for x, y in np.concatenate([np.empty((0, 2)), *along])]
    for kind, points, label in shapes:
        x, y = np.mean(points, 0)
        left, top, right, bottom = drawing.textbbox((0, 0), label, font=font, anchor="mm")
        wide, tall = right - left + 2 * pad, bottom - top + 2 * pad
        if not label:
            continue
        if kind == "length":  # below its line, which stays visible
            y += tall / 2 + 5 * max(image.shape) / 400
        x = min(max(x, wide / 2), max(canvas.width - wide / 2, wide / 2))
        y = _find_free_row((x, y), (wide, tall), canvas.height, taken)
        taken.append((x, y, wide, tall))
        box = x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
        drawing.rounded_rectangle(box, pad, fill=(255, 255, 255))
        drawing.text((x, y), label, font=font, anchor="mm", fill=(0, 0, 0))
    return np.array(canvas)


def _find_free_row(
    place: tuple[float, float],
    size: tuple[float, float],
    height: int,
    taken: Sequence[tuple[float, float, float, float]],
) -> float:
    """Return the middle row, nearest to a place, at which a label covers none of those (x, y, width, height) before."""
    (x, y), (width, tall) = place, size
    step = tall / 4

    def is_free(row: float) -> bool:
        is_inside = tall / 2 <= row <= height - tall / 2
        return is_inside and all(
            abs(x - a) >= (width + c) / 2 or abs(row - b) >= (tall + d) / 2 for a, b, c, d in taken
        )

    rows = (y + sign * count * step for count in range(int(height / step) + 1) for sign in (1, -1))
    return next((row for row in rows if is_free(row)), y)


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
