"""Options of the commands that run a trained recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PredictionAsked:
    """`stadia predict CHECKPOINT INPUT`.

    options: how to open `source`, from `recipes.source_config.source_options`.
    every: each n-th frame.
    motion: method of the trajectory.
    size: "1216x352", if it is not the training's.
    video, cloud: whether to write them.
    background: of a composite image, the same image without the foreground; or a folder of such images.
    """

    checkpoint: Path
    source: Path
    options: Mapping[str, Any]
    out: Path
    every: int = 1
    motion: str = "aligned"
    size: str | None = None
    video: bool = True
    cloud: bool = True
    background: Path | None = None


@dataclass(frozen=True)
class EvaluationAsked:
    """`stadia evaluate CHECKPOINT DATA`.

    options: how to open `data`, from `recipes.source_config.source_options`.
    protocol: of depth.
    frames: file with a frame list.
    every: each n-th frame.
    held_out: only frames that did not train.
    motion: method of the trajectory.
    size: "1216x352", if it is not the training's.
    out: None = into the run.
    """

    checkpoint: Path
    data: Path
    options: Mapping[str, Any]
    protocol: str = "metric"
    frames: Path | None = None
    every: int = 1
    held_out: bool = False
    motion: str = "aligned"
    size: str | None = None
    out: Path | None = None

    @property
    def suffix(self) -> str:
        """Return the suffix of output names: other frames or another method give other files."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        return frames + "-held-out" * self.held_out + f"-{self.motion}" * (self.motion != "aligned")


@dataclass(frozen=True)
class OdometryAsked:
    """`stadia odometry CHECKPOINT INPUT`.

    options: how to open `source`, from `recipes.source_config.source_options`.
    method: of `stadia.evaluation.FOLLOWERS`.
    size: "1216x352", if it is not the training's.
    out: None = into the run.
    """

    checkpoint: Path
    source: Path
    options: Mapping[str, Any]
    method: str = "refined"
    size: str | None = None
    out: Path | None = None
