"""Images composed of small backgrounds and cut-outs on disk, and ways to spoil a set of them: C01 to C09, C14, D01."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tests.mutations.mutation import MutationCase

from stadia.judge.finding import Finding, Stage
from stadia.overlay.composites import CompositeSplits, open_composites
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.label_checks import check_composites, survey_composites

RANGE_M = (0.25, 80.0)
Break = Callable[[Path, OverlayDataConfig], OverlayDataConfig]


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
        np.save(
            folder / "depth" / "left" / f"{index:06d}.npy",
            np.linspace(30, 2, 32, dtype=np.float32)[:, None].repeat(32, 1),
        )
    camera = {"K": [[30, 0, 15.5], [0, 30, 15.5], [0, 0, 1]], "height": 32, "width": 32}
    (folder / "recording.json").write_text(
        json.dumps({"cameras": {"left": camera}, "T_right_left": None, "frame_rate_hz": 10})
    )


def composed(folder: Path) -> OverlayDataConfig:
    """Two recordings, one a split, and six cut-outs, four of which train."""
    for seed, name in enumerate(("a", "b")):
        recording(folder / "roads" / name, seed)
    splits = {"format": "stadia", "version": 1, "splits": {"train": ["a"], "val": ["b"]}}
    (folder / "roads" / "dataset.json").write_text(json.dumps(splits))
    for number in range(6):
        cut(folder / "cut" / ("train" if number < 4 else "val") / f"{number}.png", number)
    paths = {"backgrounds": {"path": str(folder / "roads")}, "foregrounds": {"path": str(folder / "cut")}}
    return OverlayDataConfig(samples=40, val_samples=12, height=32, width=32, **paths)


def found(config: OverlayDataConfig, range_m: tuple[float, float] = RANGE_M) -> list[Finding]:
    """What `stadia train overlay` finds of its data before it trains."""
    return check_composites(survey_composites(open_composites(config, seed=0), range_m))


class Swapped:
    """Composed images whose depth is another function of what was composed."""

    def __init__(self, images: Any, depth: Callable[[Any], Any]) -> None:
        self.images, self.label, self.count, self.depth = images, images.label, 40, depth

    def pair(self, number: int) -> Any:
        return self.images.pair(number)

    def composed(self, number: int) -> Any:
        composed_image = self.images.composed(number)
        return replace(composed_image, depth=self.depth(composed_image))

    def facts(self) -> dict[str, Any]:
        return {}


def _with_depth(depth: Callable[[Any], Any]) -> Callable[[Path], list[Finding]]:
    def broken(folder: Path) -> list[Finding]:
        config = composed(folder)
        images = {split: Swapped(images, depth) for split, images in open_composites(config, seed=0).images.items()}
        return check_composites(survey_composites(CompositeSplits(config, images, 0), RANGE_M))  # type: ignore[arg-type]

    return broken


def _copied(source: str, to: str) -> Break:
    def broken(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
        (folder / to).parent.mkdir(parents=True, exist_ok=True)
        (folder / to).write_bytes((folder / source).read_bytes())
        return config

    return broken


def _otherwise_stored(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    """A training cut-out among those held out: mirrored, with another margin, other colors where it is transparent, not
    compressed.
    """
    rgba = cv2.imread(str(folder / "cut" / "train" / "2.png"), cv2.IMREAD_UNCHANGED)
    assert rgba is not None
    rgba[6, 9] = (1, 2, 3, 200)  # so that its mirror image is another
    cv2.imwrite(str(folder / "cut" / "train" / "2.png"), rgba)
    other = np.pad(rgba[2:, ::-1], ((9, 0), (3, 0), (0, 0)))
    other[other[..., 3] == 0] = (9, 9, 9, 0)
    cv2.imwrite(str(folder / "cut" / "val" / "other.png"), other, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    return config


def _two_views(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    for split, seed in (("train", 20), ("val", 21)):
        cut(folder / "cut" / split / "cup" / f"{seed}.png", seed)
    return config


def _one_recording(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    split_by = config.backgrounds.split_by.model_copy(update={"val_share": 0.2})
    backgrounds = config.backgrounds.model_copy(update={"path": str(folder / "roads" / "b"), "split_by": split_by})
    return config.model_copy(update={"backgrounds": backgrounds})


def _few(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    for index in range(5, 12):
        (folder / "roads" / "a" / "left" / f"{index:06d}.png").unlink()
        (folder / "roads" / "a" / "depth" / "left" / f"{index:06d}.npy").unlink()
    return config


def _photograph(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    cv2.imwrite(str(folder / "cut" / "train" / "photo.jpg"), np.full((9, 9, 3), 7, np.uint8))
    return config


def _opaque(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    cv2.imwrite(str(folder / "cut" / "train" / "photo.png"), np.full((9, 9, 3), 7, np.uint8))
    return config


def _cut_off(folder: Path, config: OverlayDataConfig) -> OverlayDataConfig:
    path = folder / "roads" / "a" / "left" / "000004.png"
    path.write_bytes(path.read_bytes()[:-30])
    return config


def _case(name: str, code: str, broken: Break) -> MutationCase:
    return MutationCase(
        name,
        (code,),
        Stage.DATA,
        broken=lambda folder: found(broken(folder, composed(folder))),
        correct=lambda folder: found(composed(folder)),
    )


ROWS = (
    _case("a background of training is held out", "C01", _copied("roads/a/left/000007.png", "roads/b/left/000003.png")),
    _case("backgrounds of one recording on both sides", "C01", _one_recording),
    _case("a cut-out of training is held out", "C02", _copied("cut/train/2.png", "cut/val/other.png")),
    _case("the same, mirrored and stored otherwise", "C02", _otherwise_stored),
    _case("two views of one object on two sides", "C02", _two_views),
    _case("five backgrounds", "C06", _few),
    _case("a JPEG for a cut-out", "C09", _photograph),
    _case("a cut-out without alpha", "C09", _opaque),
    _case("a background that is cut off", "D01", _cut_off),
    MutationCase("depth and mask exchanged", ("C08",), Stage.DATA,
        _with_depth(lambda composed_image: composed_image.mask.astype(np.float32)),
        _with_depth(lambda composed_image: composed_image.depth)),
    MutationCase("depth in [0, 1] for metres", ("C14",), Stage.DATA,
        _with_depth(lambda composed_image: composed_image.depth / 80),
        _with_depth(lambda composed_image: composed_image.depth)),
    MutationCase("a range that ends before the labels do", ("C14",), Stage.DATA,
        broken=lambda folder: found(composed(folder), (0.25, 10.0)), correct=lambda folder: found(composed(folder))),
)  # fmt: skip
