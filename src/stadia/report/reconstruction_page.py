"""Write the page about the result of another program: its path, its images, and matches that contradict it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.io.atomic_files import write_text
from stadia.report.embedded_images import encode_jpeg
from stadia.report.page_template import embed_scripts, make_environment

AGREES, CONTRADICTS, LINE = (178, 114, 0), (0, 94, 213), (60, 200, 230)
"""BGR colors of matches that agree and that contradict, blue and orange, and of epipolar lines."""

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


def write_reconstruction_page(
    path: Path,
    *,
    title: str,
    grade: str,
    summary: str,
    lines: Sequence[str],
    positions: NDArray[np.float64],
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[PairPicture],
) -> None:
    """Write one self-contained page.

    path: file to write.
    title: name of the result.
    grade: usable, doubtful, unusable or not judged.
    summary: a sentence below it.
    lines: the measured error, its causes and the purposes.
    positions: (F, 3) positions of the camera, in the order of `rows`.
    rows: the images that have a pose, with name, rotation, position (texts), agree, contradict, share, part.
    pictures: pairs of images with most contradicting matches.
    """
    shares = [row["share"] for row in rows]
    page = make_environment().get_template("reconstruction.html")
    text = page.render(
        title=title,
        grade=grade,
        summary=summary,
        lines=lines,
        dots=place_dots(positions, shares, [row["name"] for row in rows]),
        plot=(PLOT_WIDTH, PLOT_HEIGHT),
        rows=sorted(rows, key=lambda row: -np.nan_to_num(row["share"], nan=-1.0)),
        pictures=[(picture.title, encode_jpeg(draw_pair(picture), MAX_WIDTH)) for picture in pictures],
        script_hash=embed_scripts([])["script_hash"],
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
    """Draw two images next to each other (H, W, 3) BGR, with matches and epipolar lines."""
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
    for _, line in picture.lines:
        inside = (line >= -SIDE).all(1) & (line * scales[1] <= 2 * SIDE).all(1)
        points = np.rint(line[inside] * scales[1]).astype(np.int32)
        cv2.polylines(second, [points[:, None]], isClosed=False, color=LINE, thickness=1, lineType=cv2.LINE_AA)
    canvas[: second.shape[0], left:] = second
    marked = {row for row, _ in picture.lines}
    step = max(len(picture.agrees) // MAX_DRAWN, 1)
    chosen = sorted({*range(0, len(picture.agrees), step), *marked})
    for row in sorted(chosen, key=lambda row: not picture.agrees[row]):
        color = AGREES if picture.agrees[row] else CONTRADICTS
        start = tuple(int(value) for value in np.rint(picture.xy_first[row] * scales[0]))
        end = tuple(int(value) for value in np.rint(picture.xy_second[row] * scales[1] + (left, 0)))
        if row in marked:
            cv2.line(canvas, start, end, color, 1, cv2.LINE_AA)
        for place in (start, end):
            cv2.circle(canvas, place, 4 if row in marked else 3, color, -1, cv2.LINE_AA)
    return canvas
