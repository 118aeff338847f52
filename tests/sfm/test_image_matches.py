"""Matches of images by their pixels alone: every image takes part, and matches are at the right pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stadia.geometry.image_features import (
    FrameFeatures,
    describe_places,
    find_features,
    match_sift_features,
    multiply_on_one_thread,
)
from stadia.geometry.two_views import find_epipolar_inliers
from stadia.io.image_files import read_rgb, read_rgb_near
from stadia.sfm.image_matches import (
    MARGIN_PX,
    OFFSETS,
    SIMILAR,
    ImageMatches,
    fill_parts,
    find_black_parts,
    match_images,
)
from stadia.sfm.pair_matching import FeatureFiles, list_similar, write_features


def draw_texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (height, width, 3) RGB with detail of several sizes."""
    random, texture = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
    for size in (6, 12, 24):
        noise = random.random((height // size + 2, width // size + 2, 3), np.float32)
        texture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (texture * 85).clip(0, 255).astype(np.uint8)


def make_features(descriptors: NDArray[np.uint8]) -> FrameFeatures:
    count = len(descriptors)
    return FrameFeatures(np.zeros((count, 2), np.float32), descriptors, np.zeros((count, 3), np.uint8))


def test_the_product_on_one_thread_is_exact() -> None:
    random = np.random.default_rng(0)
    for rows, columns in ((1, 1), (50, 40), (203, 97), (0, 40)):
        a, b = (random.integers(0, 256, (count, 130)).astype(np.float32) for count in (rows, columns))
        np.testing.assert_array_equal(multiply_on_one_thread(a, b), (a.astype(int) @ b.T.astype(int)).astype(float))


def test_an_image_without_features_is_like_no_other() -> None:
    random = np.random.default_rng(2)
    frames = [make_features(random.integers(0, 255, (200, 128), np.uint8)) for _ in range(3)]
    places = describe_places([*frames, make_features(np.empty((0, 128), np.uint8))])
    np.testing.assert_array_equal(places[3], 0)
    np.testing.assert_allclose(np.linalg.norm(places[:3], axis=1), 1, atol=1e-6)


def test_matches_are_nearest_neighbors_of_each_other_that_pass_the_ratio_test_in_both_images() -> None:
    random = np.random.default_rng(1)
    first = random.integers(0, 90, (120, 128))
    first[110:] = first[10:20] + random.integers(0, 9, (10, 128))  # ten are nearly there twice
    noise = random.integers(0, 12, (90, 128)) * random.integers(0, 2, (90, 1)) * 4
    second = np.concatenate((first[:90] + noise, first[:2], random.integers(0, 90, (20, 128)))).clip(0, 255)
    distance = np.linalg.norm(first[:, None] - second[None], axis=2)
    wanted = []
    for row in range(len(first)):
        column = int(distance[row].argmin())
        others = np.concatenate((np.delete(distance[row], column), np.delete(distance[:, column], row)))
        if distance[row, column] < 0.8 * others.min() and distance[row, column] <= 0.7 * 512:
            wanted.append((row, column))
    found = match_sift_features(make_features(first.astype(np.uint8)), make_features(second.astype(np.uint8)))
    assert found.tolist() == [list(pair) for pair in wanted]
    assert 30 < len(found) < 80  # those with much noise, and those that are there twice, are left out


def test_right_matches_fit_one_fundamental_matrix_and_random_ones_do_not() -> None:
    random = np.random.default_rng(2)
    points = random.uniform((-4, -3, 4), (4, 3, 12), (200, 3))
    ends = [500 * moved[:, :2] / moved[:, 2:] + 320 for moved in (points, points + np.array([1, 0.1, 0.2]))]
    ends[1][150:] = random.uniform(0, 640, (50, 2))
    inliers = find_epipolar_inliers(ends[0], ends[1], 1.5)
    assert inliers[:150].all()
    assert inliers[150:].sum() < 5
    assert find_epipolar_inliers(random.uniform(0, 640, (30, 2)), random.uniform(0, 640, (30, 2)), 1.5).sum() < 15
    np.testing.assert_array_equal(inliers, find_epipolar_inliers(ends[0], ends[1], 1.5))
    still = random.uniform(0, 640, (40, 2))
    assert find_epipolar_inliers(still, still, 1.5).all()  # a standing camera
    assert not find_epipolar_inliers(still[:7], still[:7], 1.5).any()
    assert not find_epipolar_inliers(np.zeros((30, 2)), np.zeros((30, 2)), 1.5).any()


def test_images_of_one_place_are_found_from_files_and_each_has_few_pairs(tmp_path: Path) -> None:
    texture, files = draw_texture(160, 700), dict[int, Path]()
    for index in range(60):
        shift = 10 * index if index < 50 else 10 * (index - 50)  # the last ten are the first ten again
        image = np.ascontiguousarray(texture[index % 3 : 150 + index % 3, shift : shift + 150])
        files[index] = tmp_path / f"{index}.npz"
        write_features(files[index], find_features(image, image[..., 1].copy(), 200))
    pairs = list_similar(files, 2)
    assert len(pairs) <= 2 * len(files)
    assert {(index, index + 50) for index in range(10)} <= set(pairs)
    places = describe_places(FeatureFiles([files[index] for index in range(60)]))
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1, atol=1e-5)


def test_a_large_jpeg_is_reduced_and_its_pixels_stay_in_place(tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :1001]
    image = np.stack((x % 1001 / 4, y / 4, (x + y) / 8), -1).astype(np.uint8)
    path = tmp_path / "ramp.jpg"
    Image.fromarray(image).save(path, quality=100, subsampling=0)
    small, factor = read_rgb_near(path, 240)
    assert factor == 4
    assert small.shape == (150, 251, 3)
    row, column = 70, 100
    expected = (factor * (np.array([column, row]) + 0.5) - 0.5) / 4
    np.testing.assert_allclose(small[row, column, :2], expected, atol=1.5)
    assert read_rgb_near(path, 600)[1] == 1
    Image.fromarray(image).save(path.with_suffix(".png"))
    whole, factor = read_rgb_near(path.with_suffix(".png"), 240)
    assert factor == 1
    np.testing.assert_array_equal(whole, read_rgb(path.with_suffix(".png")))


SHIFT = 3


@pytest.fixture(scope="module")
def long_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageMatches]:
    """More than 200 small images of a camera that moves along a picture."""
    folder = tmp_path_factory.mktemp("long")
    texture = draw_texture(64, 80 + SHIFT * 210)
    for index in range(210):
        cv2.imwrite(str(folder / f"{index}.png"), texture[:, SHIFT * index : SHIFT * index + 80])
    return folder, match_images(folder, folder / "work")


def test_all_images_are_matched_with_few_pairs_each(long_folder: tuple[Path, ImageMatches]) -> None:
    _, matches = long_folder
    used = {end for pair in matches.pairs for end in (pair.first, pair.second)}
    assert used == set(range(210)) == set(range(len(matches.names)))
    assert len(matches.pairs) <= (len(OFFSETS) + SIMILAR) * 210
    assert matches.is_ordered
    moved = np.concatenate(
        [pair.xy_first - pair.xy_second - (SHIFT * (pair.second - pair.first), 0) for pair in matches.pairs]
    )
    assert np.median(np.abs(moved)) < 0.1


def test_the_same_images_have_the_same_matches(long_folder: tuple[Path, ImageMatches], tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for index in range(0, 40, 4):
        (folder / f"{index}.png").write_bytes((long_folder[0] / f"{index}.png").read_bytes())
    first, second = (match_images(folder, tmp_path / str(workers), workers=workers) for workers in (1, 3))
    for here, there in zip(first.pairs, second.pairs, strict=True):
        assert (here.first, here.second) == (there.first, there.second)
        np.testing.assert_array_equal(here.xy_first, there.xy_first)
        np.testing.assert_array_equal(here.is_held, there.is_held)


def test_images_of_any_size_orientation_and_kind_match_at_the_right_pixels(tmp_path: Path) -> None:
    """Each image is a part of one picture, at another size; the pixels of all matches belong together."""
    picture, folder = draw_texture(900, 1400), tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "b" / "c").mkdir(parents=True)
    parts = {  # name: left, top, width, height in the picture, and size in the file over that
        "a/gray.png": (0, 0, 1000, 700, 0.5),
        "a/portrait.jpg": (300, 0, 500, 900, 1.0),
        "a/turned.jpg": (100, 100, 900, 600, 1.0),
        "b/c/alpha.png": (200, 50, 800, 800, 0.25),
        "b/c/large.jpg": (50, 50, 1300, 800, 2.0),
    }
    for name, (left, top, width, height, scale) in parts.items():
        part = picture[top : top + height, left : left + width]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(part, None, fx=scale, fy=scale, interpolation=method)
        file = Image.fromarray(image)
        if "gray" in name:
            file = file.convert("L")
        if "alpha" in name:
            file.putalpha(255)
        exif = Image.Exif()
        if "turned" in name:
            file, exif[0x0112] = file.transpose(Image.Transpose.ROTATE_90), 6  # the viewer turns it back
        file.save(folder / name, exif=exif)
    matches = match_images(folder, tmp_path / "work")
    assert matches.names == tuple(parts)
    sizes = [(round(width * scale), round(height * scale)) for _, _, width, height, scale in parts.values()]
    assert matches.sizes.tolist() == [list(size) for size in sizes]
    assert {end for pair in matches.pairs for end in (pair.first, pair.second)} == set(range(5))
    for pair in matches.pairs:
        ends = []
        for index, xy in ((pair.first, pair.xy_first), (pair.second, pair.xy_second)):
            left, top, _, _, scale = parts[matches.names[index]]
            ends.append((xy + 0.5) / scale - 0.5 + (left, top))
        assert np.median(np.linalg.norm(ends[0] - ends[1], axis=1)) < 1.0, (pair.first, pair.second)
        assert np.abs(np.median(ends[0] - ends[1], axis=0)).max() < 0.3


def cover(image: NDArray[np.uint8], shift: int) -> NDArray[np.bool_]:
    """Return a mask (H, W) of all outside of a circle, and of a box inside that moves."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    outside = np.hypot(x - image.shape[1] / 2, y - image.shape[0] / 2) > 0.45 * image.shape[0]
    return outside | ((np.abs(x - 150 - shift) < 25) & (np.abs(y - 140) < 40))


@pytest.mark.parametrize("kind", ["black.jpg", "alpha.png"])
def test_a_mask_has_no_features_along_its_edge(kind: str, tmp_path: Path) -> None:
    """The masks stand still or move, and the picture behind them moves by another amount: no match is at their edge."""
    picture, folder = draw_texture(260, 400), tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        image = np.ascontiguousarray(picture[:, 10 * index : 10 * index + 360])
        masked = cover(image, 7 * index)
        file = Image.fromarray(np.where(masked[..., None], 0, image) if kind == "black.jpg" else image)
        if kind == "alpha.png":
            file.putalpha(Image.fromarray(np.where(masked, 0, 255).astype(np.uint8)))
        file.save(folder / f"{index}-{kind}", **({"quality": 85} if kind == "black.jpg" else {}))
    matches = match_images(folder, tmp_path / "work")
    errors = [pair.xy_first - pair.xy_second - (10 * (pair.second - pair.first), 0) for pair in matches.pairs]
    assert sum(map(len, errors)) > 500
    assert (np.abs(np.concatenate(errors)).max(1) > 1.5).mean() < 0.01  # 0.02 with features along the edge
    for pair in matches.pairs:
        for index, xy in ((pair.first, pair.xy_first), (pair.second, pair.xy_second)):
            masked = cover(np.empty((260, 360)), 7 * index)
            x, y = np.rint(xy).astype(int).T
            assert not cv2.dilate(masked.astype(np.uint8), np.ones((5, 5)))[y, x].any()


def test_only_large_even_black_parts_count_as_masked() -> None:
    image = draw_texture(300, 400).clip(20, 255).astype(np.uint8)
    assert not find_black_parts(image).any()
    image[100:104, :] = 0  # a cable
    image[200:212, 300:312] = 0  # a window at night
    assert not find_black_parts(image).any()
    image[:40] = 3  # a shadow
    assert not find_black_parts(image).any()
    image[:40] = 1
    masked = find_black_parts(image)
    first = 40 + MARGIN_PX
    assert masked[:first].all()
    assert not masked[first:].any()
    gray = np.ascontiguousarray(image[..., 1])
    filled = fill_parts(gray, masked)
    np.testing.assert_array_equal(filled[first:], gray[first:])
    assert np.abs(np.diff(filled[: first + 1].astype(int), axis=0)).max() <= np.ptp(gray[first])
    assert (filled[0] == gray[first]).mean() > 0.5
    assert find_black_parts(np.zeros_like(image)).all()
    np.testing.assert_array_equal(fill_parts(gray, np.ones_like(masked)), gray)
