"""The image sheet."""

from __future__ import annotations

import numpy as np
import pytest

from stadia.training.loggers import compose_image_sheet


def image(value: int, height: int = 20, width: int = 60) -> np.ndarray:
    """Of one color that no label has."""
    return np.full((height, width, 3), (value, 0, 255), np.uint8)


def area(sheet: np.ndarray, value: int) -> int:
    """Pixels of `image(value)` on a sheet."""
    return int((sheet == (value, 0, 255)).all(axis=2).sum())


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_every_image_is_on_the_sheet_whole(count: int) -> None:
    values = [30 + 25 * n for n in range(count)]
    sheet = compose_image_sheet({str(value): image(value) for value in values})
    assert sheet.dtype == np.uint8
    for value in values:
        assert area(sheet, value) == 20 * 60


def test_wide_images_are_stacked_and_tall_ones_stand_side_by_side() -> None:
    wide = compose_image_sheet({str(n): image(90, 20, 200) for n in range(4)})
    tall = compose_image_sheet({str(n): image(90, 200, 20) for n in range(4)})
    assert 0.7 < wide.shape[1] / wide.shape[0] < 3
    assert tall.shape[1] < tall.shape[0]
    assert wide.shape[1] == 208
    assert tall.shape[0] < 2 * 200


def test_a_smaller_image_is_enlarged_and_keeps_its_shape() -> None:
    sheet = compose_image_sheet({"large": image(200), "half": image(100, 10, 30), "narrow": image(50, 10, 10)})
    assert area(sheet, 100) == 20 * 60
    assert area(sheet, 50) == 20 * 20


def test_labels_that_are_wider_than_their_images_do_not_reach_into_others() -> None:
    label = "true inverse depth"
    alone, beside = (
        compose_image_sheet(dict.fromkeys(labels, image(90, 20, 20))) for labels in ((label, "mask"), (label, " "))
    )
    where = np.flatnonzero((beside[:24] > 200).all(axis=2).any(0)).max()
    second = np.flatnonzero((alone[:24] != beside[:24]).any(axis=2).any(0)).min()
    assert where < second
    assert area(alone, 90) == 2 * (6 * 20) ** 2, "enlarged until the label fits"


def test_a_label_is_written_and_the_colors_are_rgb() -> None:
    red = np.zeros((20, 60, 3), np.uint8)
    red[..., 0] = 255
    sheet = compose_image_sheet({"input": red})
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 20 * 60
    assert (sheet[:24] > 200).all(axis=2).any()


def test_arrays_that_are_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8, found \(4, 4\) float64"):
        compose_image_sheet({"depth": np.zeros((4, 4))})
    with pytest.raises(ValueError, match="a sheet needs an image"):
        compose_image_sheet({})
