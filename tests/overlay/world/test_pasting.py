"""Pasting a cut-out: its color, its mask, its depth, what stands before it, and where it goes."""

import numpy as np

from stadia.overlay.config import PlacementConfig
from stadia.overlay.world.composer import (
    GRID_SIZES,
    OCCLUDER_DEPTH_RATIO,
    POSITIONS,
    draw_placement,
    make_grid_placement,
    paste_cutout,
)
from stadia.overlay.world.foregrounds import premultiply_alpha, resize_cutout

H, W = 40, 60
ROAD = np.repeat(np.linspace(42, 3, H, dtype=np.float32)[:, None], W, 1)  # lower is nearer, as of a road


def solid(height: int, width: int, rgb: tuple[int, int, int], alpha: int = 255) -> np.ndarray:
    return premultiply_alpha(np.dstack([np.full((height, width), v, np.uint8) for v in (*rgb, alpha)]))


def wall(gray: int = 100) -> np.ndarray:
    return np.full((H, W, 3), gray, np.uint8)


def test_alpha_blends_both_images_and_the_mask_starts_at_half() -> None:
    for alpha in (1, 64, 127, 128, 200, 255):
        rgba = np.full((8, 6, 4), (200, 40, 0, alpha), np.uint8)
        rgba[-1] = (200, 40, 0, 255)  # what it stands on
        pasted = paste_cutout(wall(), ROAD, premultiply_alpha(rgba), 10, 20)
        a = alpha / 255
        assert np.abs(pasted.image[12, 22] - ((1 - a) * 100 + a * np.array([200, 40, 0]))).max() <= 0.51
        assert pasted.mask[12, 22] == (alpha >= 128)
    assert (pasted.image[0] == 100).all()


def test_a_resized_cutout_has_no_fringe_of_its_transparent_pixels() -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., 1] = 255  # bright green where nothing is seen
    rgba[8:56, 8:56] = (255, 0, 0, 255)
    small = resize_cutout(premultiply_alpha(rgba), 7, 7)
    assert small[..., 1].max() == 0, "a straight mean would bleed green into the edge"
    straight = small[..., 0][small[..., 3] > 0] / small[..., 3][small[..., 3] > 0]
    assert np.allclose(straight, 1, atol=1e-5)
    assert resize_cutout(premultiply_alpha(rgba), 96, 96).shape == (96, 96, 4)
    assert premultiply_alpha(rgba).shape == (48, 48, 4), "the empty margin is cut off"


def test_a_cutout_has_the_depth_of_the_ground_under_its_foot() -> None:
    pasted = paste_cutout(wall(), ROAD, solid(10, 6, (255, 0, 0)), 15, 20)
    assert pasted.mask.sum() == 60
    assert np.unique(pasted.depth[pasted.mask]).tolist() == [ROAD[24, 0]], "its lowest row is 24"
    assert (pasted.depth[~pasted.mask] == ROAD[~pasted.mask]).all()
    assert pasted.depth.dtype == np.float32


def test_nearer_background_occludes_and_missing_depth_is_behind() -> None:
    depth = ROAD.copy()
    depth[:, 20:22] = 2.0  # a post before it
    depth[:, 26] = ROAD[24, 0] * (OCCLUDER_DEPTH_RATIO + 0.01)  # as near as it is, within its thickness
    depth[:15, 27] = 0  # sky
    pasted = paste_cutout(wall(), depth, solid(14, 8, (255, 0, 0)), 11, 20)
    assert not pasted.mask[:, 20:22].any()
    assert (pasted.image[:, 20:22] == 100).all()
    assert (pasted.depth[:, 20:22] == 2).all()
    assert pasted.mask[11:25, 26].all()
    assert pasted.mask[11:25, 27].all()
    assert pasted.share == 6 / 8


def test_the_grid_has_40_places_smaller_is_higher_and_all_are_inside() -> None:
    places = [make_grid_placement(number) for number in range(POSITIONS)]
    assert len({(p.size, p.foot, p.across, p.flipped) for p in places}) == 40
    boxes = [p.box((30, 20), (150, 150)) for p in places]
    assert sorted({height for _, _, height, _ in boxes}) == [60, 70, 80, 90]
    for row in range(3):
        near, far = boxes[5 * row], boxes[5 * row + 5]
        assert near[0] + near[2] > far[0] + far[2], "nearer stands lower"
        assert near[2] > far[2]
    anywhere = PlacementConfig(size=(0.1, 1.0), foot=(0.0, 1.0))
    drawn = [draw_placement(anywhere, np.random.default_rng(seed)) for seed in range(50)]
    for cutout in ((30, 20), (20, 90), (7, 300)):
        for place in [*places, *drawn]:
            top, left, height, width = place.box(cutout, (64, 96))
            assert top >= 0
            assert left >= 0
            assert top + height <= 64
            assert left + width <= 96
    assert draw_placement(PlacementConfig(rule="grid"), np.random.default_rng(0)).size in GRID_SIZES
    sizes = [draw_placement(PlacementConfig(size=(0.4, 0.5)), np.random.default_rng(seed)).size for seed in range(99)]
    assert 0.4 <= min(sizes) < 0.41
    assert 0.49 < max(sizes) <= 0.5
