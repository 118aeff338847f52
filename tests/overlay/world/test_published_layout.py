"""The published layout of 400,000 images: its index, its splits, and what of it is missing or named otherwise."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.overlay.composites import open_composites
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.label_checks import survey_composites
from stadia.overlay.world.published_layout import (
    FOREGROUND_COUNT,
    PLACEMENT_COUNT,
    PublishedComposites,
    scan_published_layout,
    split_published_layout,
)


def test_an_index_names_background_foreground_and_place() -> None:
    for index, pair in ((299_999, ("bg75", "fg_100", 39)), (300_000, ("bg76", "fg_1", 0)), (0, ("bg1", "fg_1", 0))):
        one = PublishedComposites(Path(), [index], "train").pair(0)
        assert (one.background, one.foreground, one.position) == pair


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backgrounds, three foregrounds, all 40 places; masks as `mask` in the first folder alone, as published."""
    root = tmp_path_factory.mktemp("published")
    random = np.random.default_rng(0)
    for background in (1, 2):
        behind = cv2.resize(random.integers(0, 255, (4, 4, 3), np.uint8), (48, 48))
        write(root / "bg" / f"bg{background}.jpg", behind)
        for foreground in (1, 2, 3):
            folder = root / f"bg{background}" / f"fg_{foreground}"
            for file in range(1, PLACEMENT_COUNT + 1):
                mask = np.zeros((48, 48), np.uint8)
                cv2.circle(mask, (8 + file % 30, 20), 6, 255, -1)
                write(folder / "overlay" / f"{file}.jpg", np.where(mask[..., None] > 0, 20, behind))
                write(
                    folder / "depth" / f"{file}.jpg",
                    np.where(mask > 0, 90, np.linspace(20, 200, 48)[:, None]).astype(np.uint8),
                )
                write(folder / ("mask" if (background, foreground) == (1, 1) else "mask_") / f"{file}.jpg", mask)
    return root


@pytest.mark.slow
def test_both_names_of_mask_folders_are_read(layout: Path) -> None:
    found = scan_published_layout(layout)
    assert len(found.whole) == 2 * 3 * 40
    assert found.masks == {"mask": 1, "mask_": 5}
    images = PublishedComposites(layout, found.whole, "train")
    seen = set()
    for number in range(images.count):
        one = images.composed(number)
        seen.add((one.pair.background, one.pair.object, one.pair.position))
        file = one.pair.position + 1
        assert one.mask[20, 8 + file % 30]
        assert 0.25 < one.depth[20, 8 + file % 30] < 0.45
        assert 80 < one.mask.sum() < 150, "cut at one half"
    assert len(seen) == 240
    assert images.label.depth_scale is DepthScale.UP_TO_SCALE
    assert images.label.source.startswith("teacher: DenseDepth")


def test_splits_share_neither_background_nor_foreground(layout: Path) -> None:
    parts = split_published_layout(scan_published_layout(layout), 0.4)
    for divisor in (FOREGROUND_COUNT * PLACEMENT_COUNT, PLACEMENT_COUNT):
        train, val = (set((parts[split] // divisor % FOREGROUND_COUNT).tolist()) for split in ("train", "val"))
        assert train
        assert val
        assert not train & val
    whole = split_published_layout(scan_of(np.arange(400_000)), 0.25)
    assert (len(whole["train"]), len(whole["val"])) == (75 * 75 * 40, 25 * 25 * 40)


def test_the_published_split_begins_its_test_at_image_300001() -> None:
    parts = split_published_layout(scan_of(np.arange(400_000)), 0.25, "published")
    assert (parts["train"][0], parts["train"][-1]) == (0, 299_999)
    assert (parts["val"][0], parts["val"][-1]) == (300_000, 399_999)
    with refuses(DataError, where="data.val_rule=published", found="val", expected="bg75"):
        split_published_layout(scan_of(np.arange(1000)), 0.25, "published")


def scan_of(indices: np.ndarray):
    from stadia.overlay.world.published_layout import LayoutScan

    return LayoutScan(tuple(range(1, 101)), indices, (), {}, 0)


@pytest.mark.slow
def test_published_layout_opens_by_path_and_its_survey_lists_lossy_storage(layout: Path) -> None:
    opened = open_composites(OverlayDataConfig(path=str(layout), val_share=0.4, height=32, width=32), seed=0)
    assert opened.samples("train")[0].inputs.background.shape == (1, 3, 32, 32)
    seen = survey_composites(opened)
    assert any("between 0 and 255" in fault for _, fault in seen.lossy)
    assert any("depth as a JPEG" in fault for _, fault in seen.lossy)
    assert seen.renamed == ("5 folders 'mask_' for 'mask'",)
    assert {factor.name: len(factor.shared) for factor in seen.factors} == {
        "background": 0,
        "world": 0,
        "foreground": 0,
        "object": 0,
        "position": 40,
    }
