"""Findings about composed pictures: silence on good sets, and each code on a set broken in just that way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.data.overlay.config import OverlayDataConfig
from stadia.data.overlay.sources import Overlays, open_overlays
from stadia.data.overlay.survey import OverlaySurvey, survey
from stadia.diagnostics.overlays import FEWEST_BACKGROUNDS, overlay_findings


def cut(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgba = np.zeros((24, 16, 4), np.uint8)
    rgba[4:20, 4:12] = (*np.random.default_rng(seed).integers(0, 255, 3), 255)
    assert cv2.imwrite(str(path), rgba)


def recording(folder: Path, seed: int, frames: int = 12) -> None:
    """Frames of noise over a road, with depth."""
    random = np.random.default_rng(seed)
    (folder / "left").mkdir(parents=True)
    (folder / "depth" / "left").mkdir(parents=True)
    for index in range(frames):
        cv2.imwrite(str(folder / "left" / f"{index:06d}.png"), random.integers(0, 255, (32, 32, 3), np.uint8))
        np.save(folder / "depth" / "left" / f"{index:06d}.npy", np.linspace(30, 2, 32, dtype=np.float32)[:, None].repeat(32, 1))
    camera = {"K": [[30, 0, 15.5], [0, 30, 15.5], [0, 0, 1]], "height": 32, "width": 32}
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}, "T_right_left": None, "frame_rate_hz": 10}))


@pytest.fixture
def good(tmp_path: Path) -> OverlayDataConfig:
    for seed, name in enumerate(("a", "b")):
        recording(tmp_path / "roads" / name, seed)
    (tmp_path / "roads" / "dataset.json").write_text(
        json.dumps({"format": "stadia", "version": 1, "splits": {"train": ["a"], "val": ["b"]}})
    )
    for number in range(6):
        cut(tmp_path / "cut" / ("train" if number < 4 else "val") / f"{number}.png", number)
    paths = {"backgrounds": {"path": str(tmp_path / "roads")}, "foregrounds": {"path": str(tmp_path / "cut")}}
    return OverlayDataConfig(samples=40, val_samples=12, height=32, width=32, **paths)


def seen(config: OverlayDataConfig) -> OverlaySurvey:
    return survey(open_overlays(config, seed=0))


def codes(one: OverlaySurvey) -> list[tuple[str, str]]:
    return [(finding.code, str(finding.severity)) for finding in overlay_findings(one)]


def test_a_good_set_is_silent_and_its_table_says_what_it_has(good) -> None:
    one = seen(good)
    assert codes(one) == []
    lines = one.lines()
    assert lines[0].split() == ["train", "val", "shared"]
    assert lines[1].split() == ["background", "12", "12", "0"]
    assert lines[4].split() == ["object", "4", "2", "0"]
    assert "evened out: 11.9" in lines[6]
    assert lines[7] == "depth: exact, metres"


def test_a_background_on_both_sides_stops_and_a_recording_warns(good, tmp_path: Path) -> None:
    copy = tmp_path / "roads" / "b" / "left" / "000003.png"
    copy.write_bytes((tmp_path / "roads" / "a" / "left" / "000007.png").read_bytes())
    (found,) = overlay_findings(seen(good))
    assert (found.code, found.severity) == ("C01", "stop")
    assert "1 background in two of the splits train, val, such as roads/a/left/000007" in found.measured
    assert found.evidence["splits"]["shared"][0] == 1
    alone = good.backgrounds.model_copy(
        update={"path": str(tmp_path / "roads" / "a"), "split_by": good.backgrounds.split_by.model_copy(update={"val_share": 0.2})}
    )
    assert ("C01", "warn") in codes(seen(good.model_copy(update={"backgrounds": alone})))


def test_an_object_on_both_sides_stops_under_any_name(good, tmp_path: Path) -> None:
    (tmp_path / "cut" / "val" / "other.png").write_bytes((tmp_path / "cut" / "train" / "2.png").read_bytes())
    (found,) = overlay_findings(seen(good))
    assert (found.code, found.severity) == ("C02", "stop")
    assert "1 object in two of the splits train, val, such as 2" in found.measured
    rgba = cv2.imread(str(tmp_path / "cut" / "train" / "2.png"), cv2.IMREAD_UNCHANGED)
    rgba[6, 9] = (1, 2, 3, 200)  # so that its mirror image is another
    cv2.imwrite(str(tmp_path / "cut" / "train" / "2.png"), rgba)
    assert codes(seen(good)) == [], "not the same any more"
    otherwise = np.pad(rgba[2:, ::-1], ((9, 0), (3, 0), (0, 0)))
    otherwise[otherwise[..., 3] == 0] = (9, 9, 9, 0)
    cv2.imwrite(str(tmp_path / "cut" / "val" / "other.png"), otherwise, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    (found,) = overlay_findings(seen(good))
    assert found.code == "C02", "mirrored, with another margin, and stored otherwise"
    (tmp_path / "cut" / "val" / "other.png").unlink()
    cut(tmp_path / "cut" / "val" / "0.png", 99)
    assert codes(seen(good)) == [], "a file of the same number shows another object"
    for split, seed in (("train", 20), ("val", 21)):
        cut(tmp_path / "cut" / split / "cup" / f"{seed}.png", seed)
    (found,) = overlay_findings(seen(good))
    assert "such as cup" in found.measured, "two views of one object"


def test_few_backgrounds_warn(good) -> None:
    assert FEWEST_BACKGROUNDS == 10
    (found,) = overlay_findings(replace(seen(good), effective_backgrounds=7.5))
    assert (found.code, found.severity) == ("C06", "warn")
    assert "12 backgrounds train, as unevenly as 7.5" in found.measured


def test_foregrounds_that_cannot_be_pasted_stop(good, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "cut" / "train" / "photo.jpg"), np.full((9, 9, 3), 7, np.uint8))
    (found,) = overlay_findings(seen(good))
    assert (found.code, found.severity) == ("C09", "stop")
    assert "photo.jpg: a JPEG, which has no alpha channel" in found.measured


def test_a_background_that_cannot_be_read_stops(good, tmp_path: Path) -> None:
    path = tmp_path / "roads" / "a" / "left" / "000004.png"
    path.write_bytes(path.read_bytes()[:-30])
    (found,) = overlay_findings(seen(good))
    assert (found.code, found.severity) == ("D01", "stop")
    assert "000004.png" in found.measured


class Swapped:
    """Pictures whose depth is their mask."""

    def __init__(self, pictures) -> None:
        self.pictures, self.label, self.count = pictures, pictures.label, 40

    def pair(self, number: int):
        return self.pictures.pair(number)

    def composed(self, number: int):
        one = self.pictures.composed(number)
        return replace(one, depth=one.mask.astype(np.float32))

    def facts(self) -> dict:
        return {}


def test_depth_that_is_the_mask_stops(good) -> None:
    opened = open_overlays(good, seed=0)
    swapped = {split: Swapped(one) for split, one in opened.pictures.items()}
    found = overlay_findings(survey(Overlays(good, swapped, 0)))  # type: ignore[arg-type]
    assert [(one.code, str(one.severity)) for one in found] == [("C08", "stop")]


def test_labels_outside_of_what_counts_are_told(good) -> None:
    """Of a road of 2 to 30 m: metres fit, and a range for [0, 1] does not."""
    opened = open_overlays(good, seed=0)
    assert overlay_findings(survey(opened, (0.25, 80.0))) == []
    assert survey(opened).unscored == 0
    (found,) = overlay_findings(survey(opened, (0.25, 10.0)))
    assert (found.code, found.severity) == ("C14", "warn")
    depths = np.concatenate([opened.pictures[split].composed(n).depth.ravel() for split in ("train", "val") for n in range(12)])
    assert f"{(depths >= 10).mean():.0%}"[0] == found.measured[0]
    assert "99 % lie in 2 to " in found.measured


def test_a_layout_stored_otherwise_is_told(good) -> None:
    one = replace(
        seen(good),
        source="teacher: DenseDepth",
        claim="up-to-scale",
        lossy=(("bg1/fg_1/mask_/3.jpg", "a mask with values between 0 and 255 at 7.0% of its pixels"),),
        missing=tuple(f"bg1/fg_1/depth/{number}.jpg" for number in range(1, 13)),
        renamed=("99 folders 'mask_' for 'mask'",),
    )
    assert codes(one) == [("C03", "warn"), ("C05", "warn"), ("C04", "note"), ("C07", "note")]
    missing = next(found for found in overlay_findings(one) if found.code == "C03")
    assert len(missing.evidence["missing"]["path"]) == 10
    assert "12 paths are not there: bg1/fg_1/depth/1.jpg" in missing.measured
    assert "10.jpg ..." in missing.measured
