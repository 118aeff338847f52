"""The page of one predicted picture or video, which the app shares."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stadia import __version__
from stadia.report.charts import Chart
from stadia.report.embedded_images import EmbeddedImage, encode_jpeg
from stadia.report.page_template import PAGE_SCRIPT, POINTS_SCRIPT, embed_scripts, make_environment, render_charts
from stadia.report.point_cloud_figures import PointCloudFigure
from stadia.report.private_parts import make_hider
from stadia.report.run_files import describe_depth_scale

SHOWN_WIDTH = 1280  # largest width of its pictures


@dataclass(frozen=True, kw_only=True)
class ResultPage:
    """What a page shows about one predicted picture or video.

    images: text and image (H, W, 3) RGB, such as the picture and its depth in colors.
    verdict: word of the verdict, or "" for data.
    word: what stands in its place on top, such as the error of a picture that cannot be judged; "" is the verdict.
    parts: the verdict on each question, in one line.
    lines: lines of the verdict, as `verdict_lines` returns them.
    trust: what users may rely on.
    facts: texts by name, such as network, licence and camera.
    scale_from: source of the metres.
    measured: sentences about what was measured, below the images.
    video: an MP4; b"" for a picture.
    colors, ticks: CSS colors of the color bar from near to far, and (share of its length, label) of its labels; empty
        without a bar.
    cloud: point cloud, or None.
    path: charts of the camera path.
    """

    title: str
    images: Sequence[tuple[str, NDArray[np.uint8]]]
    verdict: str
    lines: Sequence[str]
    trust: str
    facts: Mapping[str, str]
    word: str = ""
    parts: str = ""
    depth_scale: str = ""
    scale_from: str = ""
    measured: Sequence[str] = ()
    video: bytes = b""
    colors: Sequence[str] = ()
    ticks: Sequence[tuple[float, str]] = ()
    cloud: PointCloudFigure | None = None
    path: Sequence[Chart] = ()


def render_result(page: ResultPage) -> str:
    """Return the page as HTML. Text is escaped and contains no path of this machine. The page loads nothing."""
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
            scale=describe_depth_scale(page.depth_scale, page.scale_from) if page.depth_scale else None,
            ticks=sorted(page.ticks),
            path=render_charts(page.path),
            stadia_version=__version__,
            **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if page.cloud is not None else []),
        )
    )


def _embed(image: NDArray[np.uint8]) -> EmbeddedImage:
    return encode_jpeg(image[..., ::-1], SHOWN_WIDTH)
