"""Write the page of one predicted picture or video: one self-contained file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia import __version__
from stadia.report.metric_labels import describe_depth_scale
from stadia.report.report_images import MAX_CLOUD_PIXELS, EmbeddedImage, PointCloudFigure, encode_jpeg, pack_point_cloud
from stadia.report.report_page import PAGE_SCRIPT, POINTS_SCRIPT, embed_scripts, make_environment, make_hider

SHOWN_WIDTH = 1280
"""Largest width of its pictures."""

_COUNTS = 65535  # of depth in 16 bits


@dataclass(frozen=True, kw_only=True)
class ResultPage:
    """What a page shows of one predicted picture or video.

    images: (text, (H, W, 3) RGB), such as the picture and its depth in colors.
    video: an MP4; b"" for a picture.
    colors, ticks: CSS colors of the bar from far to near, and (share of its length, label); empty without a bar.
    verdict: its word.  lines: of the verdict, as `verdict_lines`.  trust: what users may rely on.
    scale_from: source of its metres.  headline: a line above the images.
    facts: (name, text), such as network, licence and camera.  cloud: points, or None.
    """

    title: str
    images: Sequence[tuple[str, NDArray[np.uint8]]]
    verdict: str
    lines: Sequence[str]
    trust: str
    depth_scale: str
    facts: Mapping[str, str]
    scale_from: str = ""
    headline: str = ""
    video: bytes = b""
    colors: Sequence[str] = ()
    ticks: Sequence[tuple[float, str]] = ()
    cloud: PointCloudFigure | None = None


def render_result(page: ResultPage) -> str:
    """Return the page as HTML. Text is escaped and has no path of this machine; the page loads nothing.

    Examples:
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> shown = ResultPage(
        ...     title="Depth of a picture", images=[("Picture", image)], verdict="usable", lines=[], trust="<b>",
        ...     depth_scale="metres", facts={"Network": "base"},
        ... )
        >>> "&lt;b&gt;" in render_result(shown)
        True
    """
    hide = make_hider()
    lines = [hide(line.strip()) for line in page.lines if not line.startswith("predictions: ")]
    skipped = [line.removeprefix("not checked: ") for line in lines if line.startswith("not checked: ")]
    return (
        make_environment()
        .get_template("result.html")
        .render(
            page=replace(page, trust=hide(page.trust), facts={name: hide(text) for name, text in page.facts.items()}),
            images=[(text, _embed(image)) for text, image in page.images],
            video=base64.b64encode(page.video).decode(),
            findings=[line for line in lines if not line.startswith("not checked: ")],
            skipped=skipped,
            scale=describe_depth_scale(page.depth_scale, page.scale_from),
            ticks=sorted(page.ticks),
            stadia_version=__version__,
            **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if page.cloud is not None else []),
        )
    )


def _embed(image: NDArray[np.uint8]) -> EmbeddedImage:
    return encode_jpeg(image[..., ::-1], SHOWN_WIDTH)


def fit_cloud_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the same shape with at most MAX_CLOUD_PIXELS pixels.

    Examples:
        >>> fit_cloud_size(720, 1280)
        (192, 341)
    """
    factor = min(1.0, math.sqrt(MAX_CLOUD_PIXELS / (height * width)))
    return max(int(height * factor), 1), max(int(width * factor), 1)


def make_point_cloud(
    name: str, image: NDArray[np.uint8], depth: NDArray[np.float32], K: NDArray[np.float64], depth_scale: str
) -> PointCloudFigure | None:
    """Return the points of a picture for its page; None without depth.

    image: (H, W, 3) RGB. depth: (h, w) of `fit_cloud_size`, 0 = none. K: (3, 3) of the picture.
    """
    if not depth.any():
        return None
    (height, width), (rows, columns) = image.shape[:2], depth.shape
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    per_count = float(depth.max()) / _COUNTS
    counts = np.clip(np.rint(depth / per_count), 0, _COUNTS).astype(np.uint16)
    across, down = columns / width, rows / height
    center = (K[0, 2] + 0.5) * across - 0.5, (K[1, 2] + 0.5) * down - 0.5
    camera = (K[0, 0] * across, K[1, 1] * down, *center)
    return pack_point_cloud(name, name, counts, np.asarray(small, np.uint8), camera, per_count, depth_scale)
