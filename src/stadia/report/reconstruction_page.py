"""Write the page about the result of another program: the verdict in one card, the pair of images that shows it best,
and the rest folded.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.io.atomic_files import write_text
from stadia.report.embedded_images import encode_jpeg
from stadia.report.page_template import PAGE_SCRIPT, POINTS_SCRIPT, embed_scripts, make_environment
from stadia.report.point_cloud_figures import PointCloudFigure

AGREES, CONTRADICTS = (178, 114, 0), (0, 94, 213)
"""BGR colors of matches that agree and that contradict, blue and orange."""

LINES = ((60, 220, 250), (230, 90, 230), (120, 230, 90), (255, 255, 255), (240, 220, 80), (60, 60, 60))
"""BGR colors of epipolar lines: yellow, magenta, green, white, cyan and gray."""

PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 640.0, 420.0, 24.0
MAX_WIDTH = 1100  # largest width of a picture of two images
SIDE = 540  # longer side of each of the two images
MAX_DRAWN = 60  # matches of a picture


@dataclass(frozen=True, slots=True, eq=False)
class PairPicture:
    """Two images with their matches.

    title: names of both images, and how many matches contradict.
    first, second: (H, W, 3) RGB images.
    xy_first, xy_second: (N, 2) pixels of the matches.
    agrees: (N,), whether each match agrees with the result.
    lines: for some matches, their row and the pixels (K, 2) of their epipolar line in the second image.
    """

    title: str
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    xy_first: NDArray[np.float64]
    xy_second: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    lines: Sequence[tuple[int, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class ShownCause:
    """A cause of the error.

    what: the cause.
    fix: how to undo it.
    gain: how much better the matches fit then; "" if it was not measured.
    images: names of its images; empty for all.
    """

    what: str
    fix: str
    gain: str = ""
    images: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ShownPurpose:
    """What a result is good for.

    name: name of the purpose.
    holds: whether it holds; None if it is open.
    reason: the measurement that decides.
    after: whether it holds for the corrected result; None if it is open, or without one.
    """

    name: str
    holds: bool | None
    reason: str
    after: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ReconstructionPage:
    """What the page shows.

    title: name of the result.
    grade: usable, doubtful, unusable or not judged.
    finding: the sentence below it.
    errors: measured errors with their deviations as texts, by name.
    measured_after: whether the errors are those after a wrong convention is undone.
    causes: the causes of the error.
    purposes: what the result is good for.
    details: further lines.
    corrected: a .zip archive of the corrected result; empty without one, or if it is too large for a page.
    corrected_name: its name in the text, such as that of the file.
    pair: two images with the matches and epipolar lines of the result as given, and as corrected if it is.
    positions: (F, 3) positions of the camera, in the order of `rows`.
    rows: the images that have a pose, with name, rotation, position (texts), agree, contradict, share, part.
    others: further pairs of images with contradicting matches.
    cloud: points and cameras in 3D; None without them.
    """

    title: str
    grade: str
    finding: str
    errors: Mapping[str, str]
    measured_after: bool
    causes: Sequence[ShownCause]
    purposes: Sequence[ShownPurpose]
    details: Sequence[str]
    corrected: bytes
    corrected_name: str
    pair: Sequence[PairPicture]
    positions: NDArray[np.float64]
    rows: Sequence[Mapping[str, Any]]
    others: Sequence[PairPicture]
    cloud: PointCloudFigure | None = None

    @property
    def is_finding_first_cause(self) -> bool:
        """Return whether the finding is the first cause, which the page does not repeat."""
        return bool(self.causes) and self.finding.lower() == f"{self.causes[0].what.lower()}."


def write_reconstruction_page(path: Path, page: ReconstructionPage) -> None:
    """Write one self-contained page, which loads nothing.

    path: file to write.
    page: its content.
    """
    shares = [row["share"] for row in page.rows]
    text = (
        make_environment()
        .get_template("reconstruction.html")
        .render(
            page=page,
            corrected=base64.b64encode(page.corrected).decode(),
            dots=place_dots(page.positions, shares, [row["name"] for row in page.rows]),
            plot=(PLOT_WIDTH, PLOT_HEIGHT),
            rows=sorted(page.rows, key=lambda row: -np.nan_to_num(row["share"], nan=-1.0)),
            pair=[(picture.title, encode_jpeg(draw_pair(picture), MAX_WIDTH)) for picture in page.pair],
            others=[(picture.title, encode_jpeg(draw_pair(picture), MAX_WIDTH)) for picture in page.others],
            **embed_scripts([POINTS_SCRIPT, PAGE_SCRIPT] if page.cloud is not None else []),
        )
    )
    write_text(path, text)


def place_dots(
    positions: NDArray[np.float64], shares: Sequence[float], names: Sequence[str]
) -> list[tuple[float, float, str, str]]:
    """Return x, y, class and text of a dot for each camera, seen along the direction of the path's smallest extent.

    positions: (F, 3) camera positions.
    shares: share of contradicting matches of each, NaN if unknown.
    names: their names.
    """
    centered = positions - np.median(positions, 0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:2]
    flat = centered @ axes.T
    span = np.maximum(np.ptp(flat, axis=0), 1e-12)
    scale = min((PLOT_WIDTH - 2 * MARGIN) / span[0], (PLOT_HEIGHT - 2 * MARGIN) / span[1])
    placed = (flat - (flat.min(0) + flat.max(0)) / 2) * scale + (PLOT_WIDTH / 2, PLOT_HEIGHT / 2)
    dots = []
    for (x, y), share, name in zip(placed.tolist(), shares, names, strict=True):
        kind = "unknown" if not np.isfinite(share) else f"share{min(int(5 * share), 4)}"
        text = f"{name}: {share:.0%} of its matches contradict" if np.isfinite(share) else f"{name}: too few matches"
        dots.append((round(x, 1), round(y, 1), kind, text))
    return dots


def draw_pair(picture: PairPicture) -> NDArray[np.uint8]:
    """Draw two images next to each other (H, W, 3) BGR, with matches and epipolar lines.

    A match whose epipolar line is drawn has rings in the color of the line.
    """
    scales = [SIDE / max(image.shape[:2]) for image in (picture.first, picture.second)]
    small = [
        cv2.cvtColor(
            cv2.resize(
                image, (round(image.shape[1] * scale), round(image.shape[0] * scale)), interpolation=cv2.INTER_AREA
            ),
            cv2.COLOR_RGB2BGR,
        )
        for image, scale in zip((picture.first, picture.second), scales, strict=True)
    ]
    gap = 8
    height = max(image.shape[0] for image in small)
    left = small[0].shape[1] + gap
    canvas = np.full((height, left + small[1].shape[1], 3), 255, np.uint8)
    canvas[: small[0].shape[0], : small[0].shape[1]] = small[0]
    second = small[1]
    colors = {row: LINES[number % len(LINES)] for number, (row, _) in enumerate(picture.lines)}
    for row, line in picture.lines:
        inside = (line >= -SIDE).all(1) & (line * scales[1] <= 2 * SIDE).all(1)
        points = np.rint(line[inside] * scales[1]).astype(np.int32)
        cv2.polylines(second, [points[:, None]], isClosed=False, color=colors[row], thickness=2, lineType=cv2.LINE_AA)
    canvas[: second.shape[0], left:] = second
    step = max(len(picture.agrees) // MAX_DRAWN, 1)
    chosen = sorted({*range(0, len(picture.agrees), step), *colors})
    for row in sorted(chosen, key=lambda row: not picture.agrees[row]):
        color = AGREES if picture.agrees[row] else CONTRADICTS
        start = tuple(int(value) for value in np.rint(picture.xy_first[row] * scales[0]))
        end = tuple(int(value) for value in np.rint(picture.xy_second[row] * scales[1] + (left, 0)))
        for place in (start, end):
            cv2.circle(canvas, place, 3, color, -1, cv2.LINE_AA)
            if row in colors:
                cv2.circle(canvas, place, 8, colors[row], 2, cv2.LINE_AA)
    return canvas
