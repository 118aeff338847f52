"""Depth maps on disk: round trips, and whatever else may lie in a folder."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.io.depth_files import (
    describe_normalization,
    describe_stored_unit,
    find_depth_files,
    pair_stacks,
    read_depth_map,
    view_float_bytes,
    write_depth_map,
    write_depth_png,
)


def test_png_and_npz_round_trip(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 90, (9, 11)).astype(np.float32)
    write_depth_png(tmp_path / "a.png", depth)
    np.testing.assert_allclose(read_depth_map(tmp_path / "a.png"), depth, atol=1 / 512 + 1e-9)
    write_depth_map(tmp_path / "a.npz", depth_m=depth, K=np.eye(3))
    np.testing.assert_array_equal(read_depth_map(tmp_path / "a.npz"), depth)


def test_only_depth_counts_where_colors_are_beside_it(tmp_path: Path) -> None:
    for name in ("0.depth.png", "0.color.png", "1.depth.png"):
        write_depth_png(tmp_path / name, np.ones((3, 4), np.float32))
    assert find_depth_files(tmp_path) == {name: tmp_path / f"{name}.depth.png" for name in "01"}


BAD = {
    "bytes.npy": (lambda path: np.save(path, np.ones((3, 4), np.uint8)), "uint8 of shape (3, 4)"),
    "stack.npy": (lambda path: np.save(path, np.ones((9, 3, 4), np.float32)), "maps of several images"),
    "colors.npy": (lambda path: np.save(path, np.ones((3, 4, 3), np.float32)), "shape (3, 4, 3)"),
    "pickled.npy": (lambda path: np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True), "type object"),
    "several.npz": (lambda path: np.savez(path, a=np.ones((3, 4)), b=np.ones((3, 4))), "arrays ['a', 'b']"),
    "text.npz": (lambda path: path.write_text("no archive"), "damaged"),
    "text.png": (lambda path: path.write_text("no image"), "signature"),
    "colors.png": (lambda path: cv2.imwrite(str(path), np.ones((3, 4, 3), np.uint16)), "3 channels"),
    "bits.png": (lambda path: cv2.imwrite(str(path), np.ones((3, 4), np.uint8)), "8-bit"),
    "depth.jpg": (lambda path: cv2.imwrite(str(path), np.ones((3, 4), np.uint8)), "lossy"),
    "depth.exr": (lambda path: path.write_text("?"), "a damaged file"),
    "depth.pfm": (lambda path: path.write_text("Pf 4"), "no PFM header"),
    "depth.tiff": (lambda path: path.write_text("II*"), "a damaged file"),
    "depth.mat": (lambda path: path.write_text("?"), "'.mat'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    write, found = BAD[name]
    write(tmp_path / name)
    with pytest.raises(DataError) as error:
        read_depth_map(tmp_path / name)
    assert name in str(error.value)
    assert found in str(error.value)


@pytest.mark.parametrize(("scale", "type"), [("-0.003922", "<f4"), ("2.5", ">f4")])
def test_the_scale_of_a_pfm_changes_no_depth(scale: str, type: str, tmp_path: Path) -> None:
    depth = np.array([[1.5, 2], [3, 4]])
    path = tmp_path / "depth.pfm"
    path.write_bytes(f"Pf\n2 2\n{scale}\n".encode() + depth[::-1].astype(type).tobytes())  # the last row comes first
    np.testing.assert_array_equal(read_depth_map(path), depth)


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".pfm", ".exr", ".npy"])
def test_maps_of_floats_in_each_format(suffix: str, tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 90, (9, 11)).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    if suffix == ".exr":
        OpenEXR = pytest.importorskip("OpenEXR")
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": depth}).write(str(path))
    elif suffix == ".npy":
        depth = depth.astype(np.float16)
        np.save(path, depth)
    else:
        cv2.imwrite(str(path), depth)
    np.testing.assert_array_equal(read_depth_map(path), depth)
    assert find_depth_files(tmp_path) == {"a": path}


@pytest.mark.parametrize("suffix", [".tiff", ".png", ".npy"])
def test_integers_have_a_factor_and_truth_has_none_at_the_greatest(suffix: str, tmp_path: Path) -> None:
    stored = np.array([[0, 5000, 65535]], np.uint16)
    path = tmp_path / f"a{suffix}"
    np.save(path, stored) if suffix == ".npy" else cv2.imwrite(str(path), stored)
    assert read_depth_map(path, png_per_metre=5000).tolist() == [[0, 1, 13.107]]
    assert read_depth_map(path, png_per_metre=5000, is_truth=True).tolist() == [[0, 1, np.inf]]


def test_maps_for_looking_at_are_told_from_depth() -> None:
    ramp = np.linspace(0, 1, 6000).reshape(60, 100)
    assert describe_normalization(ramp) == "0 to 1"
    assert describe_normalization(ramp * 65535 / 256) == "0 to 65535"
    assert describe_normalization(1 + ramp) is None
    sensor = 1 + 3 * ramp
    sensor[:20], sensor[40:] = 0, 65.535
    assert describe_normalization(sensor, 1000) is None, "holes and saturated pixels"
    rendered = 20 + 30 * ramp
    rendered[:20], rendered[-1, -1] = 0, 65.535
    assert describe_normalization(rendered, 1000) == "0 to 65535", "background and one greatest pixel"


@pytest.mark.parametrize("dtype", ["complex64", "U4", "M8[s]", [("a", "f4")]])
def test_values_that_are_no_numbers(dtype: object, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4), dtype))
    with refuses(DataError, where="a.npy"):
        read_depth_map(tmp_path / "a.npy")


def test_maps_of_a_stack_belong_to_the_names_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.ones((3, 3, 4), np.float32))
    stack = find_depth_files(tmp_path / "all.npy")
    truth = {name: tmp_path / f"{name}.png" for name in ("f10", "f8", "f9")}
    predicted, same, note = pair_stacks(stack, truth)
    assert list(predicted) == ["f8", "f9", "f10"]
    assert same is truth
    assert note.endswith("map 0 to f8, map 2 to f10")
    with refuses(DataError, where="all.npy", found=("3", "4"), expected="2"):
        pair_stacks(stack, {name: truth[name] for name in ("f8", "f9")})
    assert pair_stacks(truth, truth) == (truth, truth, "")


def test_depth_in_24_bits_of_color(tmp_path: Path) -> None:
    depth_m = np.linspace(4, 80, 64 * 48).reshape(64, 48)
    packed = np.rint(depth_m / 1000 * (2**24 - 1)).astype(np.int64)
    colors = np.stack([packed >> 16, (packed >> 8) & 255, packed & 255, np.full_like(packed, 255)], axis=-1)  # BGRA
    cv2.imwrite(str(tmp_path / "a.png"), colors.astype(np.uint8))
    np.testing.assert_allclose(read_depth_map(tmp_path / "a.png"), depth_m, atol=1e-4)
    cv2.imwrite(str(tmp_path / "b.png"), cv2.applyColorMap((depth_m * 3).astype(np.uint8), cv2.COLORMAP_JET))
    with pytest.raises(DataError):
        read_depth_map(tmp_path / "b.png")


def test_floats_in_the_bytes_of_four_channels(tmp_path: Path) -> None:
    depth_m = np.linspace(0.5, 80, 64 * 48, dtype=np.float32).reshape(64, 48)
    cv2.imwrite(str(tmp_path / "a.png"), depth_m.view(np.uint8).reshape(64, 48, 4))
    np.testing.assert_array_equal(read_depth_map(tmp_path / "a.png"), depth_m)
    assert "float32" in describe_stored_unit(tmp_path / "a.png")
    for alpha in (0, 255):
        colors = np.random.default_rng(0).integers(0, 255, (64, 48, 4)).astype(np.uint8)
        colors[..., 3] = alpha
        assert view_float_bytes(colors) is None
