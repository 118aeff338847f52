"""Score a camera path against a reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import write_json
from stadia.evaluation.io.trajectory_files import Trajectory, associate_trajectories
from stadia.metrics import TRAJECTORY_METRICS
from stadia.metrics.trajectory_metrics import SEGMENT_LENGTHS_M, PathAlignment, align_path, path_length_m

MAX_POSES_DRAWN = 2000


@dataclass(frozen=True, slots=True)
class TrajectoryScore:
    """Errors of a path against its reference.

    metrics: rows of TRAJECTORY_METRICS, None where the path is too short for one.
    scale: factor that the alignment applied to the estimate.
    estimated, reference: (N, 4, 4) camera-to-world, as they were compared.
    notes: remarks for the reader of the numbers.
    """

    metrics: dict[str, float | None]
    alignment: PathAlignment
    scale: float
    estimated: NDArray[np.float64]
    reference: NDArray[np.float64]
    notes: tuple[str, ...]

    @property
    def path_m(self) -> float:
        """Length of the reference, metres."""
        return path_length_m(torch.from_numpy(self.reference))

    @property
    def paths_from_start(self) -> dict[str, NDArray[np.float64]]:
        """Both paths (N, 4, 4) in the frame of the reference's first camera. Worlds have different axes: EuRoC's z
        points up.
        """
        T_start_world = np.linalg.inv(self.reference[0])
        return {"estimated": T_start_world @ self.estimated, "true": T_start_world @ self.reference}

    def summary(self) -> dict[str, Any]:
        """Return the metrics, the alignment and `notes` as one JSON object."""
        setup = {"align": str(self.alignment), "scale": self.scale, "poses": len(self.reference), "path_m": self.path_m}
        return {**self.metrics, **setup, "notes": list(self.notes)}

    def to_json(self) -> dict[str, Any]:
        """Return the content of a score file: the numbers, and both paths from above.

        Paths are (x, z) in metres from the start, of at most MAX_DRAWN poses.
        """
        head = self.summary()
        metrics = {name: head.pop(name) for name in self.metrics}
        step = -(-len(self.reference) // MAX_POSES_DRAWN)
        drawn = {f"path_{name}_m": T[::step, [0, 2], 3].round(3).tolist() for name, T in self.paths_from_start.items()}
        return {**head, "metrics": metrics, **drawn}

    def write(self, path: Path) -> None:
        """Write a score file."""
        write_json(path, self.to_json())


def score_trajectory(
    estimated: Trajectory,
    reference: Trajectory,
    alignment: PathAlignment = PathAlignment.NONE,
    max_difference_s: float = 0.01,
) -> TrajectoryScore:
    """Associate two trajectories, align them and compute the metrics.

    Args:
        estimated, reference: camera-to-world; with times, or row by row.
        alignment: what is fitted to the reference. An estimate up to scale needs scale or sim3.
        max_difference_s: largest time difference of associated poses, seconds.

    Raises DataError where fewer than two poses can be associated, GeometryError where a path cannot be aligned.
    """
    P, Q = associate_trajectories(estimated, reference, max_difference_s)
    if len(P) < 2:
        raise DataError(
            P.name, found="one pose", expected="at least two poses with a reference", fix="check both files"
        )
    notes = [*estimated.notes, *reference.notes]
    if P.times_s is not None and len(P) < min(len(estimated), len(reference)):
        notes.append(
            f"{len(P)} of {min(len(estimated), len(reference))} poses have a partner within {max_difference_s} s"
        )
    truth = torch.from_numpy(Q.T_world_camera)
    fitted = align_path(torch.from_numpy(P.T_world_camera), truth, alignment)
    metrics = {name: TRAJECTORY_METRICS.load(name)(fitted.T_world_camera, truth) for name in TRAJECTORY_METRICS}
    if metrics["t_err_percent"] is None:
        notes.append(
            f"t_err and r_err need a path longer than {SEGMENT_LENGTHS_M[0]} m; the reference has {path_length_m(truth):.1f} m"
        )
    return TrajectoryScore(
        metrics, alignment, fitted.scale, fitted.T_world_camera.numpy(), Q.T_world_camera, tuple(notes)
    )
