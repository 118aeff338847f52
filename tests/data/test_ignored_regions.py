"""The ignored region of a camera: no depth, no masks, no features, no residual there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings
from stadia.io.image_files import read_rgb

OneLine = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, world: Any) -> Path:
    return Path(world.recording(tmp_path / "a", 5))


def test_boxes_are_pixels_of_the_image_and_have_no_depth(folder: Path) -> None:
    whole, cut = open_recordings(folder)[0], open_recordings(folder, ignore=[[0, 80, 160, 96]])[0]
    assert whole.ignored() is None
    region = cut.ignored()
    assert region is not None
    assert region[80:].all()
    assert not region[:80].any()
    before, after = whole.depth_m(1), cut.depth_m(1)
    assert before is not None
    assert after is not None
    assert (before[80:] > 0).any()
    assert not after[80:].any()
    assert np.array_equal(before[:80], after[:80])
    assert np.array_equal(whole.image(1), cut.image(1)), "the network sees the image as it is"
    assert whole.fingerprint() != cut.fingerprint()


def test_a_mask_is_resized_and_a_folder_has_one_for_each_camera(folder: Path, tmp_path: Path) -> None:
    mask = np.zeros((192, 320), np.uint8)
    mask[160:] = 255
    cv2.imwrite(str(tmp_path / "hood.png"), mask)
    region = open_recordings(folder, ignore=str(tmp_path / "hood.png"))[0].ignored()
    assert region is not None
    assert region.shape == (96, 160)
    assert region[80:].all()
    assert not region[:80].any()
    (tmp_path / "masks").mkdir()
    name = open_recordings(folder)[0].name.replace("/", "_")
    cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), mask)
    assert open_recordings(folder, ignore=str(tmp_path / "masks"))[0].ignored() is not None


@pytest.mark.parametrize(
    ("ignore", "words"),
    [
        ([[0, 80, 161, 96]], ("a box inside 160x96", "left, top, right and bottom")),
        ([[0, 0, 160, 95]], ("99%", "at most 90%")),
    ],
)
def test_regions_outside_the_image_or_of_all_of_it_are_refused(
    folder: Path, ignore: Any, words: tuple[str, ...], one_line: OneLine
) -> None:
    with pytest.raises(DataError) as error:
        open_recordings(folder, ignore=ignore)
    one_line(error.value, "data.ignore", *words)


HOOD = np.zeros((96, 160), bool)
HOOD[78:, 20:140] = True


def paint_hood(folder: Path) -> None:
    for number, file in enumerate(sorted((folder / "left").glob("*.png"))):
        image = np.roll(read_rgb(file), 7 * number, axis=1)
        image[HOOD] = (90, 70, 60)
        cv2.imwrite(str(file), image[..., ::-1])


@pytest.mark.slow
def test_check_proposes_a_hood_that_never_moves(stadia: Any, world: Any, tmp_path: Path) -> None:
    """Only where there is one: the mask of `stadia check --out` covers what was painted, and `data.ignore` takes it."""
    folder = Path(world.recording(tmp_path / "a", 14))
    assert "never moves" not in stadia("check", folder, "--only", "borders")[1]
    paint_hood(folder)
    out = tmp_path / "out"
    printed = stadia("check", folder, "--only", "borders", "--out", out)[1]
    assert f"data.ignore={out / 'static'}" in printed
    found = open_recordings(folder, ignore=str(out / "static"))[0].ignored()
    assert found is not None
    assert (found & HOOD).sum() / (found | HOOD).sum() > 0.9
    assert "never moves" not in stadia("check", folder, f"data.ignore={out / 'static'}", "--only", "borders")[1]
