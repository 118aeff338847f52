"""What a network says of its uncertainty reaches the disk beside depth; of a network that says none nothing does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stadia.core.types import Camera, DepthScale, PredictedMaps
from stadia.evaluation.frame_preparation import Frame
from stadia.evaluation.io.depth_files import list_arrays
from stadia.evaluation.io.predictions_record import Provenance
from stadia.evaluation.predict_frames import predict_to_folder

MADE_BY = Provenance(recipe="none", config_hash="0", motion="network")


class DepthAlone:
    """Says 1 m everywhere."""

    depth_scale, height, width, crop = DepthScale.METRES, 4, 6, "none"

    def inverse_depth(self, image: torch.Tensor, camera: Camera) -> torch.Tensor:
        return torch.ones(len(image), 1, 4, 6)

    def T_next_now(self, *_: object) -> None:
        return None


class Doubtful(DepthAlone):
    """And is asked once: doubts rise to the right."""

    def inverse_depth(self, image: torch.Tensor, camera: Camera) -> torch.Tensor:
        raise AssertionError("a second pass of the network")

    def maps(self, image: torch.Tensor, camera: Camera) -> PredictedMaps:
        doubts = torch.arange(-3.0, 3).expand(len(image), 1, 4, 6)
        return PredictedMaps(torch.ones(len(image), 1, 4, 6), log_uncertainty=doubts)


def frames() -> list[Frame]:
    return [Frame(name, np.zeros((8, 12, 3), np.uint8), np.diag([10.0, 10, 1])) for name in ("a", "b")]


def test_uncertainty_is_written_beside_depth(tmp_path: Path) -> None:
    predictions = predict_to_folder(Doubtful(), frames(), tmp_path / "out", MADE_BY, source="none")
    log_uncertainty = predictions.log_uncertainty("b")
    assert log_uncertainty is not None
    assert log_uncertainty.tolist() == [[-3, -2, -1, 0, 1, 2]] * 4
    assert (predictions.read("b") == 1).all()
    assert set(list_arrays(predictions.files["b"])) == {"depth_m", "K", "log_uncertainty"}
