"""Objects rendered to be pasted: alpha is coverage, color is the object's alone, the same seed gives the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import DataError
from stadia.overlay.config import CutoutConfig
from stadia.overlay.world.foregrounds import (
    CUTOUTS,
    open_cutout_renderer,
    open_foregrounds,
    render_cutout,
    write_cutouts,
)

SMALL = CutoutConfig(train=2, val=1, test=1, views=2, side=32, supersampling=3)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_set_is_written_whole_continued_and_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    path = write_cutouts(SMALL, tmp_path / "a", seed=1, workers=1)
    about = json.loads(path.read_text())
    assert about["license"] == "CC0-1.0"
    assert [len(about["splits"][split]) for split in ("train", "val", "test")] == [2, 1, 1]
    write_cutouts(SMALL, tmp_path / "b", seed=1, workers=3)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    write_cutouts(SMALL, tmp_path / "a", seed=1)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    with pytest.raises(DataError):
        write_cutouts(SMALL, tmp_path / "a", seed=2)
    found = open_foregrounds(tmp_path / "a", 0.2)
    assert [len(found[split]) for split in ("train", "val", "test")] == [4, 2, 2]
    assert len({one.object for one in found["train"]}) == 2


def test_no_two_splits_draw_the_same_object() -> None:
    seeds = [job.seed for job in CUTOUTS.list_jobs(Path(), CutoutConfig(), 0)]
    assert len(set(seeds)) == len(seeds) == 320


def test_alpha_is_coverage_and_color_is_the_objects_alone(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"side": 48})
    for seed in range(3):
        rgba = render_cutout(open_cutout_renderer(seed, config), 0)
        alpha = rgba[..., 3]
        assert set(np.unique(alpha)) <= set(np.rint(255 * np.arange(10) / 9).astype(int)), "of 9 samples"
        assert (alpha == 255).sum() > 100
        assert not alpha[[0, -1]].any(), "it fits into the image"
        assert not rgba[alpha == 0].any()
        # Darkened by the black around it, an edge of few samples would be far darker than the same object's inside.
        edge, inside = rgba[(alpha > 0) & (alpha < 80), :3].mean(), rgba[alpha == 255, :3].mean()
        assert edge > 0.55 * inside
