"""Check that a data set passes the checks, and train three steps on it."""

from pathlib import Path
from typing import Any

from stadia.data.open_dataset import sample_recordings
from stadia.io.metrics_table import read_rows
from stadia.judge.recordings.preflight_runner import run_preflight

SMALL = (
    *("data.height=64", "data.width=96", "model.network.encoder=test_efficientnet"),
    *("model.pose_encoder=test_efficientnet", "model.pretrained=false", "model.network.decoder_channels=[4,4,8,8,8]"),
    *("training.max_epochs=null", "training.max_steps=3", "training.batch_size=2", "training.workers=0"),
    *("training.threads=1", 'training.loggers=["csv"]', "data.split_by.val_share=0", "data.split_by.gap=0"),
)


def check_three_steps(path: Path, runs: Path, **options: Any) -> None:
    """No check stops a training, and selfsup trains three steps."""
    from stadia import training
    from stadia.training import recipes

    findings = run_preflight(sample_recordings(path, **options), {}, seconds=20)
    assert [finding for finding in findings if finding.severity == "stop"] == []
    config = recipes.configure("selfsup", SMALL, data={"path": str(path), **options})
    run = training.train(config, out=runs, on_stop="halt")
    assert [row["step"] for row in read_rows(run.metrics_csv)][-1] in (3, "3")
