"""Protocols: crops to the pixel, caps, scales refused, and a page that cannot drift from the table."""

import math
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ProtocolError
from stadia.core.types import DepthScale
from stadia.evaluation.protocols import CROPS, PROTOCOLS, Alignment, Protocol
from stadia.geometry.cameras import crop_window
from stadia.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocols.md"

BOXES = {  # rows and columns, by hand: floor(fraction * size)
    ("garg", 375, 1242): ((153, 371), (44, 1197)),
    ("garg", 370, 1226): ((151, 366), (44, 1181)),
    ("garg", 376, 1241): ((153, 372), (44, 1196)),
    ("eigen", 375, 1242): ((124, 342), (44, 1197)),
    ("garg", 370, 1224): ((151, 366), (43, 1180)),
    ("garg", 374, 1238): ((152, 370), (44, 1193)),
    ("eigen", 370, 1224): ((122, 337), (43, 1180)),
    ("eigen", 370, 1226): ((122, 337), (44, 1181)),
    ("eigen", 374, 1238): ((124, 341), (44, 1193)),
    ("eigen", 376, 1241): ((124, 343), (44, 1196)),
    ("nyu", 480, 640): ((45, 471), (41, 601)),
    ("none", 375, 1242): ((0, 375), (0, 1242)),
}


@pytest.mark.parametrize(("crop", "height", "width"), BOXES)
def test_crops_to_the_pixel(crop: str, height: int, width: int) -> None:
    rows, columns = CROPS[crop].box(height, width)
    assert ((rows.start, rows.stop), (columns.start, columns.stop)) == BOXES[crop, height, width]


@pytest.mark.parametrize(("height", "width"), [(375, 1242), (370, 1224), (370, 1226), (374, 1238), (376, 1241)])
@pytest.mark.parametrize("crop", ["garg", "eigen"])
def test_what_is_scored_of_kitti_lies_inside_the_kb_crop(crop: str, height: int, width: int) -> None:
    rows, columns = CROPS[crop].box(height, width)
    window = crop_window("kb", height, width)
    assert window.rows.start <= rows.start < rows.stop <= window.rows.stop
    assert window.columns.start <= columns.start < columns.stop <= window.columns.stop


def test_the_mask_is_crop_and_cap() -> None:
    true_m = np.full((375, 1242), 10.0)
    mask = PROTOCOLS["kitti-eigen"].mask(true_m)
    assert mask[153:371, 44:1197].all()
    assert mask.sum() == (371 - 153) * (1197 - 44)
    true_m[200, 300:304] = 0.0, 80.0, 79.999, 1e-3
    assert PROTOCOLS["kitti-eigen"].mask(true_m)[200, 299:305].tolist() == [True, False, False, True, False, True]
    assert PROTOCOLS["kitti-eigen-improved"].mask(true_m)[200, 299:305].tolist() == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]


def test_what_each_depth_scale_leaves_open() -> None:
    for protocol in PROTOCOLS.values():
        if protocol.name in ("metric", "kitti-benchmark"):
            assert dict(protocol.alignments) == {DepthScale.METRES: Alignment.NONE}
            continue
        assert protocol.alignment(DepthScale.METRES) is (
            Alignment.MEDIAN if protocol.name == "relative" else Alignment.NONE
        )
        assert protocol.alignment(DepthScale.UP_TO_SCALE) is Alignment.MEDIAN
        assert protocol.alignment(DepthScale.AFFINE_INVERSE) is Alignment.SCALE_SHIFT


@pytest.mark.parametrize("depth_scale", [DepthScale.UP_TO_SCALE, DepthScale.AFFINE_INVERSE])
def test_metric_refuses_what_are_no_metres(depth_scale: DepthScale) -> None:
    with refuses(ProtocolError, where="metric", found=depth_scale):
        PROTOCOLS["metric"].alignment(depth_scale)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_protocol_is_sound(protocol: Protocol) -> None:
    assert protocol.crop in CROPS
    assert 0 <= protocol.scored_m[0] < protocol.scored_m[1]
    assert 0 < protocol.clamp_m[0] < protocol.clamp_m[1] < math.inf
    assert protocol.source
    assert protocol.ground_truth
    assert protocol.metrics
    assert set(protocol.metrics) <= set(METRICS)


def _row(protocol: Protocol) -> str:
    """The table row that docs/reference/protocols.md must hold."""
    near, far = protocol.scored_m
    cap = f"{near:g} to {far:g} m" if math.isfinite(far) else "all"
    clamp = f"{protocol.clamp_m[0]:g} to {protocol.clamp_m[1]:g} m"
    fitted = [str(protocol.alignments.get(depth_scale, "refused")) for depth_scale in DepthScale]
    images = str(protocol.images or "any")
    cells = (f"`{protocol.name}`", protocol.crop, cap, clamp, *fitted, images, protocol.ground_truth, protocol.source)
    return f"| {' | '.join(cells)} |"


def test_the_page_holds_every_row_and_no_other() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| protocol |"))
    table = [line for line in lines[start + 2 : start + 2 + len(PROTOCOLS) + 1] if line.startswith("|")]
    assert table == [_row(protocol) for protocol in PROTOCOLS.values()]
