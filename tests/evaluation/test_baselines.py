"""The mask that a difference of images says, and its threshold."""

from __future__ import annotations

import numpy as np

from stadia.evaluation.baselines import find_best_threshold, max_channel_difference


def test_the_largest_channel_counts_whichever_is_brighter() -> None:
    image, background = np.full((2, 3, 3), 100, np.uint8), np.full((2, 3, 3), 100, np.uint8)
    image[0, 0] = (90, 100, 130)
    image[1, 2] = (0, 100, 100)
    assert max_channel_difference(image, background).tolist() == [[30, 0, 0], [0, 0, 100]]


def test_the_threshold_is_the_one_of_best_iou_by_brute_force() -> None:
    random = np.random.default_rng(0)
    masks = [random.random((8, 9)) < 0.3 for _ in range(4)]
    differs = [np.clip(random.normal(20 + 50 * mask, 25), 0, 255).astype(np.uint8) for mask in masks]

    def iou(t: int) -> float:
        said = [d > t for d in differs]
        return sum((s & m).sum() for s, m in zip(said, masks, strict=True)) / sum(
            (s | m).sum() for s, m in zip(said, masks, strict=True)
        )

    assert find_best_threshold(zip(differs, masks, strict=True)) == max(range(255), key=iou) > 0


def test_no_image_and_no_mask_have_a_threshold_too() -> None:
    assert find_best_threshold([]) == 0
    assert find_best_threshold([(np.zeros((2, 2), np.uint8), np.zeros((2, 2), bool))]) == 0
