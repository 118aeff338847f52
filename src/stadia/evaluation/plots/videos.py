"""Write videos that show images next to their inverse depth in colors. This module does not import torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale, Recording
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Listener, PredictedFrame
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.io.atomic_files import atomic_write
from stadia.io.image_io import read_image, write_image
from stadia.io.input_files import join_name

HALF_WIDTH = 960  # largest width of either half: players refuse wide videos
DEFAULT_RATE_HZ = 10.0
MIN_BILINEAR = 2 / 3  # smallest factor for bilinear shrinking; means of areas take five times as long
ENCODING = {"crf": "20", "preset": "ultrafast"}  # the fastest preset of H.264

SCALE_PX, SCALE_SHARE = 36, 0.08  # smallest height of the strip with the color scale, and its share of large images
BAR_SHARE, FONT_PER_PX = 0.35, 0.5 / 36  # height of the bar and font scale, as shares of the strip's height
TICK_SHARES = (1.0, 0.5, 0.25)  # shares of the brightest inverse depth
_MEMORY = 0.9  # smoothing of the color scale over frames, against flicker


def estimate_frame_rate_hz(recording: Recording, every: int = 1) -> float:
    """Return the frame rate of every `every`-th frame, from the median of the first hundred intervals.

    It is 10 if the times are unknown.
    """
    times = [recording.timestamp_s(index) for index in range(0, min(len(recording), 100 * every + 1), every)]
    intervals = np.diff([time for time in times if time is not None])
    is_known = len(intervals) > 0 and np.median(intervals) > 0
    return float(np.clip(1 / np.median(intervals), 1, 240)) if is_known else DEFAULT_RATE_HZ


def _round_to_even(length: float) -> int:
    return max(int(length) // 2 * 2, 2)


def draw_side_by_side(
    image: NDArray[np.uint8], inverse_depth: NDArray[np.float32], top: float, height: int, width: int,
    depth_scale: DepthScale,
) -> NDArray[np.uint8]:  # fmt: skip
    """Draw an image next to its inverse depth, above a strip with the color scale, as RGB (H, W, 3).

    image: (h, w, 3) RGB.
    inverse_depth: (h, w).
    top: inverse depth of the brightest color.
    height, width: size at which the image and the inverse depth are drawn.
    """
    strip_px = find_scale_height(height)
    shown = np.zeros((height + strip_px, 2 * width, 3), np.uint8)
    is_near = min(height / image.shape[0], width / image.shape[1]) >= MIN_BILINEAR
    how = cv2.INTER_LINEAR if is_near else cv2.INTER_AREA
    cv2.resize(image, (width, height), shown[:height, :width], interpolation=how)
    values = cv2.resize(inverse_depth, (width, height), interpolation=cv2.INTER_LINEAR)
    color_inverse_depth(values, top=top, out=shown[:height, width:])
    shown[height:, width:] = draw_color_scale(width, top, depth_scale, strip_px)
    return shown


def find_scale_height(height: int) -> int:
    """Return the height of the color scale below an image of this height. It is even, as H.264 requires."""
    return max(SCALE_PX, 2 * round(SCALE_SHARE * height / 2))


def draw_color_scale(width: int, top: float, depth_scale: DepthScale, height: int = SCALE_PX) -> NDArray[np.uint8]:
    """Draw the color scale of inverse depth from near to far, as RGB (height, width, 3).

    Its labels are metres, or multiples of the nearest depth.

    top: inverse depth of the brightest color.
    """
    strip, margin = np.zeros((height, width, 3), np.uint8), max(width // 40, 1)
    bar, bar_px, font = max(width - 2 * margin, 1), round(BAR_SHARE * height), FONT_PER_PX * height
    thickness = max(round(font), 1)
    strip[2 : 2 + bar_px, margin : margin + bar] = color_inverse_depth(
        np.linspace(1, 0, bar, dtype=np.float32)[None], top=1.0
    )
    if depth_scale.is_affine:
        labels = {1.0: "near", 0.0: "far"}
    else:
        is_metric = depth_scale is DepthScale.METRES
        labels = {share: f"{1 / top / share:.3g} m" if is_metric else f"{1 / share:g}x" for share in TICK_SHARES}
        labels |= {0.0: "far"} if is_metric else {1.0: "near = 1x", 0.0: "far"}
    end = 0
    for share, label in labels.items():
        length = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, font, thickness)[0][0]
        left = min(margin + round((1 - share) * bar), width - length - margin)
        if left >= end:  # The label does not overlap the one before.
            place, color = (left, round(0.85 * height)), (235, 235, 235)
            cv2.putText(strip, label, place, cv2.FONT_HERSHEY_SIMPLEX, font, color, thickness, cv2.LINE_AA)
            end = left + length + round(font * 16)
    return strip


VERDICT_COLORS: Mapping[str, tuple[int, int, int]] = {
    Verdict.UNUSABLE: (255, 120, 110),
    Verdict.DOUBTFUL: (255, 200, 90),
}


def draw_verdict(shown: NDArray[np.uint8], verdict: str) -> None:
    """Write the verdict below the image into a drawing (H, W, 3) of `draw_side_by_side`, in place.

    Examples:
        >>> shown = np.zeros((136, 400, 3), np.uint8)
        >>> draw_verdict(shown, "unusable")
        >>> bool(shown[:100].any()), bool(shown[100:, :200].any())
        (False, True)
    """
    strip_px = next(px for px in range(SCALE_PX, len(shown), 2) if find_scale_height(len(shown) - px) == px)
    font, label = FONT_PER_PX * strip_px, f"depth: {verdict}"
    length = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, font, max(round(font), 1))[0][0]
    font *= min(1.0, 0.9 * shown.shape[1] / 2 / length)
    place, color = (max(shown.shape[1] // 80, 1), len(shown) - round(0.35 * strip_px)), VERDICT_COLORS.get(verdict)
    color = color or (235, 235, 235)
    cv2.putText(shown, label, place, cv2.FONT_HERSHEY_SIMPLEX, font, color, max(round(font), 1), cv2.LINE_AA)


def write_video_verdict(path: Path, verdict: str) -> None:
    """Write the verdict into every frame of a video that `open_side_by_side_video` made."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate_hz = float(stream.average_rate or DEFAULT_RATE_HZ)
        black = np.zeros((stream.height, stream.width, 3), np.uint8)
        label = black.copy()
        draw_verdict(label, verdict)
        planes = cv2.cvtColor(label, cv2.COLOR_RGB2YUV_I420)  # drawn once: frames stay in YUV
        is_label = planes != cv2.cvtColor(black, cv2.COLOR_RGB2YUV_I420)
        with _open_video_file(path, rate_hz, f"depth: {verdict}") as write:
            for frame in container.decode(stream):
                shown = frame.to_ndarray(format="yuv420p")
                np.copyto(shown, planes, where=is_label)
                write(shown)


def write_image_verdict(path: Path, verdict: str) -> None:
    """Write the verdict into an image that `side_by_side_image_writer` made."""
    shown = cv2.cvtColor(read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    draw_verdict(shown, verdict)
    write_image(path, cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))


def _half_size(predicted: PredictedFrame) -> tuple[int, int]:
    height, width = predicted.frame.image.shape[:2]
    shrink = min(1.0, HALF_WIDTH / width)
    return _round_to_even(height * shrink), _round_to_even(width * shrink)


def _near_value(predicted: PredictedFrame) -> float:
    """Return the brightest inverse depth of the drawing: the 95th percentile."""
    return max(float(np.percentile(predicted.inverse_depth, 95)), 1e-9)


def side_by_side_image_writer(path: Path) -> Listener:
    """Return a listener that writes one frame as a PNG."""

    def add(predicted: PredictedFrame) -> None:
        size = _half_size(predicted)
        values = predicted.frame.image, predicted.inverse_depth, _near_value(predicted)
        image = draw_side_by_side(*values, *size, predicted.depth_scale)
        write_image(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    return add


def depth_color_writer(folder: Path) -> Listener:
    """Return a listener that writes each frame's inverse depth in colors, with a color scale, as FOLDER/NAME.jpg."""
    place = str(folder)

    def add(predicted: PredictedFrame) -> None:
        box, (height, width), top = predicted.box, predicted.image_size, _near_value(predicted)
        strip_px = find_scale_height(height)
        shown = np.zeros((height + strip_px, width, 3), np.uint8)
        values = cv2.resize(predicted.inverse_depth, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        color_inverse_depth(values, top=top, out=shown[:height][box.rows, box.columns])
        shown[height:] = draw_color_scale(width, top, predicted.depth_scale, strip_px)
        write_image(join_name(place, f"{predicted.frame.name}.jpg"), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))

    return add


@contextmanager
def open_side_by_side_video(path: Path, rate_hz: float) -> Iterator[Listener]:
    """Open a video, and return a listener that writes every frame to it. The first frame determines the size."""
    size: list[int] = []
    top = 0.0
    with open_video_file(path, rate_hz) as write:

        def add(predicted: PredictedFrame) -> None:
            nonlocal top
            if not size:
                size.extend(_half_size(predicted))
            top = _MEMORY * top + (1 - _MEMORY) * _near_value(predicted) if top else _near_value(predicted)
            values = predicted.frame.image, predicted.inverse_depth, top
            write(draw_side_by_side(*values, size[0], size[1], predicted.depth_scale))

        yield add


@contextmanager
def open_video_file(path: Path, rate_hz: float, *, comment: str = "") -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Open an H.264 mp4, and return a function that writes images (H, W, 3) RGB of one size.

    After an error no file is left.
    """
    with _open_video_file(path, rate_hz, comment) as write_planes:

        def write(image: NDArray[np.uint8]) -> None:
            height, width = _round_to_even(image.shape[0]), _round_to_even(image.shape[1])
            whole = np.ascontiguousarray(image[:height, :width])
            write_planes(cv2.cvtColor(whole, cv2.COLOR_RGB2YUV_I420))  # FFmpeg's conversion takes five times as long

        yield write


@contextmanager
def _open_video_file(path: Path, rate_hz: float, comment: str) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Open an H.264 mp4, and return a function that writes planes of YUV 4:2:0, (3 H / 2, W), of one even size."""
    rate = Fraction(rate_hz).limit_denominator(1000)
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        container.metadata["comment"] = comment
        encoder = container.add_stream("libx264", rate=rate, options=ENCODING)
        encoder.pix_fmt = "yuv420p"
        started = False

        def write(planes: NDArray[np.uint8]) -> None:
            nonlocal started
            if not started:
                encoder.height, encoder.width, started = len(planes) * 2 // 3, planes.shape[1], True
            container.mux(encoder.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))

        yield write
        container.mux(encoder.encode(None))
