"""The scene in 3D that grows while the path of a video is searched."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.web.conftest import make_network

from stadia.io.image_io import write_image
from stadia.web.first_scene import FirstScene, grow_scene
from stadia.web.photo import PhotoCamera, fov_deg_from_focal


def write_frames(folder: Path, count: int) -> list[Path]:
    """Write frames of a wall at 1 m; each camera is 6 of 102 pixels of its focal length to the right."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 128 + 6 * count), np.uint8)
    pattern = cv2.normalize(cv2.GaussianBlur(noise, None, 2.0), None, 0, 255, cv2.NORM_MINMAX)
    files = [folder / f"{number:06d}.png" for number in range(count)]
    for number, file in enumerate(files):
        image = np.zeros((96, 128, 3), np.uint8)
        image[..., 1] = pattern[:, 6 * number : 6 * number + 128]
        image[..., 2] = 255
        write_image(file, image)
    return files


def test_the_scene_grows_along_the_path(tmp_path: Path) -> None:
    files = write_frames(tmp_path, 10)
    camera = PhotoCamera(fov_deg_from_focal(0.8), "you")
    scenes = list(grow_scene(make_network("metres"), camera, files, 10.0))
    grown = [scene for scene in scenes if scene is not None]
    assert len(scenes) == 10
    assert [len(scene.poses) for scene in grown] == [2, 4, 8, 10]
    for number, T in enumerate(grown[-1].poses):
        np.testing.assert_allclose(T[:3, 3], (number * 6 / 102.4, 0, 0), atol=0.06)
    assert np.median(grown[-1].points[:, 2]) == pytest.approx(1.0, rel=0.03)
    assert np.ptp(grown[-1].points[:, 0]) > np.ptp(grown[0].points[:, 0]) + 0.3
    count = len(grown[-1].points)
    assert len(grown[-1].to_bytes()) == 15 * count


def test_the_scene_ends_where_the_motion_is_unknown(tmp_path: Path) -> None:
    """At a cut, and at a frame that cannot be read: the work on the video goes on."""
    files = write_frames(tmp_path, 8)
    write_image(files[5], np.full((96, 128, 3), 90, np.uint8))
    camera = PhotoCamera(fov_deg_from_focal(0.8), "you")
    last = [scene for scene in grow_scene(make_network("metres"), camera, files, 10.0) if scene is not None][-1]
    assert isinstance(last, FirstScene)
    assert len(last.poses) == 4
    files[2].write_bytes(b"no picture")
    assert len(list(grow_scene(make_network("metres"), camera, files, 10.0))) == 2
    assert list(grow_scene(make_network("affine-inverse"), camera, files, 10.0)) == []
