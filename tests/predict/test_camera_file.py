"""`stadia camera` writes down a camera that every command then reads, and loses no file."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.formats.photo_lens import read_lens
from stadia.data.open_dataset import open_recordings


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images of 64x48, without metadata."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return folder


def write_exif(path: Path, entries: dict[int, object]) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(entries)
    Image.open(path).save(path, exif=exif)


def test_a_field_of_view_is_written_once_and_read_from_then_on(stadia, photos):
    with refuses(DataError, where="photos"):
        open_recordings(photos, stride=1)
    code, out, err = stadia("camera", photos, "--fov", "90")
    assert (code, err) == (0, "")
    assert out.startswith(f"{photos / 'K.json'}: field of view 90 degrees; 64x48, field of view 90.0 x 73.7 degrees")
    (recording,) = open_recordings(photos, stride=1)
    np.testing.assert_allclose(recording.K(0), [[32, 0, 31.5], [0, 32, 23.5], [0, 0, 1]])
    code, _, err = stadia("camera", photos, "--focal-px", "50")
    assert (code, "(field of view 90 degrees)" in err) == (0, True)
    assert stadia("camera", photos, "--focal-px", "50")[2] == "", "the same again"
    assert json.loads((photos / "K.json").read_text())["K"][0][0] == 50


def test_the_lens_is_read_from_exif(stadia, photos):
    assert stadia("camera", photos)[0] == 2
    write_exif(photos / "0.jpg", {0xA405: 36})
    across_mm = 0.8 * 1872**0.5  # 4:3, of the diagonal of 36x24 mm
    assert read_lens(photos) == (36, pytest.approx(across_mm))
    code, out, err = stadia("camera", photos)
    assert (code, "lens of 36 mm, sensor of 34.6 mm" in out, err) == (0, True, "")
    assert open_recordings(photos, stride=1)[0].K(0)[0, 0] == pytest.approx(36 / across_mm * 64)
    write_exif(photos / "0.jpg", {0x920A: 5.0, 0xA20E: 10.0, 0xA210: 4, 0xA002: 64})
    assert read_lens(photos / "0.jpg") == (5.0, 6.4)
    write_exif(photos / "0.jpg", {0xA405: 0})
    assert read_lens(photos / "0.jpg") is None


def test_the_lens_is_read_from_the_metadata_of_a_video(tmp_path):
    path = tmp_path / "drive.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["com.apple.quicktime.camera.focal_length.35mm_equivalent"] = "26"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for level in (10, 90):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 64, 3), level, np.uint8))))
        container.mux(stream.encode(None))
    assert read_lens(path) == (26, 36)


def test_a_calibration_gives_the_camera_at_the_size_of_the_images(stadia, photos, tmp_path):
    calibration = tmp_path / "cam.yaml"
    calibration.write_text(
        "cam0: {camera_model: pinhole, intrinsics: [100, 100, 63.5, 47.5], resolution: [128, 96],"
        " distortion_coeffs: [0.1, 0, 0, 0]}"
    )
    code, out, err = stadia("camera", photos, "--calibration", calibration)
    assert code == 0
    assert "cam0 of cam.yaml; 64x48" in out
    assert all(words in err for words in ("radial-tangential, 2.1 px", "53.0 px", "128x96 to 64x48"))
    as_filmed = open_recordings(photos, stride=1, camera={"undistort": False})
    np.testing.assert_allclose(as_filmed[0].K(0), [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    assert open_recordings(photos, stride=1)[0].K(0)[0, 0] == pytest.approx(53.0, abs=0.05)
    code, _, err = stadia("camera", photos, "--calibration", calibration, "--camera", "cam7")
    assert (code, "found no camera 'cam7'; expected one of cam0" in err) == (2, True)


@pytest.mark.parametrize(
    ("center", "found"),
    [((31.5, 23.5), ""), ((0, 47), ""), ((80, 20), "(80, 20)"), ((24, 32), "64x48 better as (32, 24)")],
)
def test_a_mixed_up_principal_point_is_refused_and_the_earlier_camera_stays(stadia, photos, tmp_path, center, found):
    calibration = tmp_path / "K.txt"
    good = stadia("camera", photos, "--fov", "60")
    assert good[0] == 0
    calibration.write_text(f"60 0 {center[0]}\n0 60 {center[1]}\n0 0 1\n")
    code, _, err = stadia("camera", photos, "--calibration", calibration)
    assert (code, found in err) == (2 if found else 0, True), err
    kept = open_recordings(photos, stride=1)[0].K(0)
    assert bool(found) == bool(np.isclose(kept[0, 0], 32 / np.tan(np.pi / 6)))
    assert stadia("camera", photos, "--calibration", calibration, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fov", "90", "--focal-px", "5"], "--fov and --focal-px: found used together"),
        (["--camera", "cam0"], "--camera: found no --calibration"),
        ([], "found no camera"),
    ],
)
def test_what_is_refused(stadia, photos, words, found):
    code, _, err = stadia("camera", photos, *words)
    assert (code, found in err) == (2, True), err
    assert not (photos / "K.json").exists()
