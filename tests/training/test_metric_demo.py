"""The demo of metres from one camera: two trainings in small, what is scored of both, and the image of it."""

from pathlib import Path

import numpy as np
import pytest

from stadia.data.open_dataset import open_recordings
from stadia.io.depth_files import write_depth_map
from stadia.training import demo
from stadia.training.demo import TRUE_CAMERA_M, score_predictions

pytestmark = pytest.mark.slow  # its fixtures train or compile

STEPS = ("training.max_steps=2", "training.batch_size=2", "training.workers=0", "training.threads=1",
         "data.height=32", "data.width=96", "road.min_object_share=0.0005", "model.network.encoder=test_efficientnet",
         "model.network.decoder_channels=[4,4,8,8,8]",
         "loss.pyramid=1")  # fmt: skip


@pytest.fixture
def cached(worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(demo, "render_worlds", lambda console: worlds)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return worlds


def test_depth_of_half_the_size_is_wrong_in_metres_and_right_by_medians(worlds: Path, tmp_path: Path) -> None:
    recordings = open_recordings(worlds, split="test")
    for recording in recordings:
        for index in range(len(recording)):
            true_m = recording.depth_m(index)
            assert true_m is not None
            far = np.where(true_m > 0, true_m, 500).astype(np.float32)
            write_depth_map(tmp_path / recording.name / "depth" / f"{recording.stem(index)}.npz", depth=far / 2)
    found = score_predictions(tmp_path, recordings)
    assert found.as_metres.metrics["abs_rel"] == pytest.approx(0.5, abs=0.01)
    assert found.median_scaled.metrics["abs_rel"] == pytest.approx(0, abs=0.01)
    assert found.as_metres.scale_ratio_median == pytest.approx(2)
    assert found.camera_m == pytest.approx(TRUE_CAMERA_M / 2, rel=0.01)
