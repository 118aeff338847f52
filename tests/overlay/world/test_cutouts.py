"""Objects rendered to be pasted: alpha is coverage, color is the object's alone, the same seed gives the same bytes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.io.image_files import read_rgba
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


@pytest.mark.slow
def test_objects_of_an_earlier_seed_are_left_out_and_those_of_the_user_are_not(tmp_path: Path) -> None:
    """Their names hold the object, so both are in the folder; the list names the last ones."""
    names = [{job.folder for job in CUTOUTS.list_jobs(tmp_path, SMALL, seed)} for seed in range(40)]
    for seed in (0, next(seed for seed in range(1, 40) if not names[0] & names[seed])):
        write_cutouts(SMALL, tmp_path, seed=seed)
    listed = json.loads((tmp_path / "foregrounds.json").read_text())["splits"]["train"]
    rendered = sorted(folder.name for folder in (tmp_path / "train").iterdir())
    assert set(listed) < set(rendered), "the seeds give other objects"
    shutil.copytree(tmp_path / "train" / listed[0], tmp_path / "train" / "mine")
    (tmp_path / "train" / "mine" / "object.json").unlink()
    found = {one.object for one in open_foregrounds(tmp_path, 0.2)["train"]}
    assert found == {*listed, "mine"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "found"), [(["gone-1"], "'gone-1' of train, which is not there"), ([], "no object of train")]
)
def test_a_list_that_does_not_fit_its_folder_is_named(names: list[str], found: str, tmp_path: Path) -> None:
    write_cutouts(SMALL, tmp_path, seed=3)
    listing = tmp_path / "foregrounds.json"
    values = json.loads(listing.read_text())
    values["splits"]["train"] = names
    listing.write_text(json.dumps(values))
    with refuses(DataError, where="foregrounds.json", found=found):
        open_foregrounds(tmp_path, 0.2)


@pytest.mark.slow
def test_written_cutouts_can_be_pasted(tmp_path: Path) -> None:
    write_cutouts(SMALL, tmp_path, seed=3)
    for one in open_foregrounds(tmp_path, 0.2)["train"]:
        assert read_rgba(one.file).shape == (32, 32, 4)
        assert max(one.cutout(16).shape[:2]) == 16
