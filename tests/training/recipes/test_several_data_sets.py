"""Several data sets in one training: each opened by its own keys, all of them listed, checked, recorded and scored."""

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.refusals import refuses

from stadia import training
from stadia.core.config import resolve_config
from stadia.core.errors import RunError
from stadia.core.types import DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.io.metrics_table import read_rows
from stadia.io.run_facts import RecipeFacts
from stadia.predict.training_overlap import TrainingOverlap
from stadia.training.recipes.base.video_data import MultiVideoData
from stadia.training.recipes.selfsup.config import SelfsupConfig
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

pytestmark = pytest.mark.slow  # its fixtures train or compile


def changed(config: SelfsupConfig, *overrides: str) -> SelfsupConfig:
    return resolve_config(SelfsupConfig, config.model_dump(mode="json"), overrides)


@pytest.fixture
def two(small: SelfsupConfig, worlds: Path, tmp_path: Path) -> SelfsupConfig:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(worlds, elsewhere)
    other = (
        f"data.extra_datasets.mono.path={elsewhere}",
        "data.extra_datasets.mono.width=64",
        "data.extra_datasets.mono.stereo=false",
    )
    return changed(small, "data.name=pair", *other, "training.batch_size=1")


def opened(config: SelfsupConfig) -> tuple[SelfsupConfig, MultiVideoData, str]:
    output = io.StringIO()
    settled, data = SelfsupRecipe.prepare(config, Console(file=output, width=500))
    assert isinstance(data, MultiVideoData)
    return settled, data, output.getvalue()


def test_each_data_set_has_its_own_size_and_sources_and_none_is_left_out(two: SelfsupConfig) -> None:
    settled, data, told = opened(two)
    seen = {(batch.meta[0].data, batch.inputs.image.shape[-1], batch.source_names) for batch in data.train}
    assert seen == {("pair", 96, ("-1", "+1", "stereo")), ("mono", 64, ("-1", "+1"))}
    assert data.val is not None
    assert [batch.meta[0].data for batch in data.val] == ["pair"] * 3 + ["mono"] * 3
    assert (settled.data.stereo, settled.data.extra_datasets["mono"].stereo) == (True, False)
    assert "dataset pair: 3 samples train, 3 validate, 96x32, stereo, 3 of 6 batches an epoch" in told
    assert "dataset mono: 3 samples train, 3 validate, 64x32, one camera, 3 of 6 batches an epoch" in told
    assert "mono has no stereo pairs" in told
    assert {len(recordings) for recordings in data.recordings.values()} == {2}, "checks see all"


def test_depth_is_in_metres_where_every_data_set_has_a_baseline(two: SelfsupConfig) -> None:
    partly = SelfsupRecipe(changed(two, "data.stereo=true"))
    assert partly.depth_scale is DepthScale.UP_TO_SCALE
    assert partly.run_metadata == RecipeFacts(
        depth_scale="up-to-scale", own={"init_depth_m": 12.0, "without_scale": ["mono"]}
    )
    both = SelfsupRecipe(changed(two, "data.stereo=true", "data.extra_datasets.mono.stereo=true"))
    assert both.depth_scale is DepthScale.METRES
    assert both.run_metadata.scale_from == "the baselines of the stereo pairs of pair, mono"


def test_the_data_of_all_are_in_run_json_and_a_run_goes_on_wherever_they_have_gone_unless_they_changed(
    two: SelfsupConfig, tmp_path: Path
) -> None:
    two = changed(two, "training.validate_every=2")
    run = training.train(two, out=tmp_path / "runs")
    facts = run.facts.data
    assert facts["name"] == "pair"
    assert facts["extra_datasets"]["mono"]["path"] == two.data.extra_datasets["mono"].path
    assert [*facts["fingerprints"]] == ["tiny/train-000", "tiny/val-000"]
    assert [*facts["extra_datasets"]["mono"]["fingerprints"]] == ["elsewhere/train-000", "elsewhere/val-000"]
    last = {
        name: float(value)
        for name, value in read_rows(run.metrics_csv)[-1].items()
        if value and name.startswith("val/")
    }
    for score in ("abs_rel", "residual"):
        assert math.isclose(last[f"val/{score}"], (last[f"val/pair/{score}"] + last[f"val/mono/{score}"]) / 2)
    assert {"val/pair/motion_scale", "val/mono/motion_scale"} <= last.keys()
    assert {path.stem[:8] for path in (run.folder / "scores").glob("*.json")} == {"val-mono", "val-pair"}
    recorded = run.facts
    elsewhere = facts | {"train_frames": {"nothing": []}, "train_images": {}, "train_sessions": []}
    run.update_facts(lambda recorded: replace(recorded, data=elsewhere))
    (train,) = open_recordings(two.data.extra_datasets["mono"].path, split="train")
    overlap = TrainingOverlap.find(run.folder, [train])
    assert overlap.count({train.name: range(5)}) == 5, "by the second data set's facts"
    run.update_facts(lambda changed: recorded)

    moved = tmp_path / "another disk" / "elsewhere"
    moved.parent.mkdir()
    shutil.move(two.data.extra_datasets["mono"].path, moved)
    there = changed(two, f"data.extra_datasets.mono.path={json.dumps(str(moved))}")
    training.train(there, resume=run.folder)
    with refuses(RunError, found=("data.extra_datasets.mono.epochs", "1.0", "->", "2.0")):
        training.train(changed(there, "data.extra_datasets.mono.epochs=2"), resume=run.folder)
    picture = moved / "train-000" / "left" / "000001.png"
    picture.write_bytes(picture.read_bytes() + b" ")
    with pytest.raises(RunError):
        training.train(there, resume=run.folder)
