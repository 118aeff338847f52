"""What the commands ask of a trained recipe, as on the command line. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PredictionAsked:
    """`stadia predict CHECKPOINT INPUT`.

    options: how to open `source`, as `recipes.source_config.source_options` gives them.
    every: each n-th frame.  motion: how the path is made.  size: "1216x352", where it is not the training's.
    video, cloud: whether to write them.
    background: of a composed image, the same without what was pasted; or a folder of such.
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

    options: how to open `data`, as `recipes.source_config.source_options` gives them.
    protocol: of depth.  frames: a file that names some.  every: each n-th.  held_out: those that did not train.
    motion: how the path is made.  size: "1216x352", where it is not the training's.  out: None = into the run.
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
        """Of the names of what is written: other frames or another way are other files."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        return frames + "-held-out" * self.held_out + f"-{self.motion}" * (self.motion != "aligned")


@dataclass(frozen=True)
class OdometryAsked:
    """`stadia odometry CHECKPOINT INPUT`.

    options: how to open `source`, as `recipes.source_config.source_options` gives them.
    method: of `stadia.evaluation.FOLLOWERS`.  size: "1216x352", where it is not the training's.  out: None = into the
        run.
    """

    checkpoint: Path
    source: Path
    options: Mapping[str, Any]
    method: str = "refined"
    size: str | None = None
    out: Path | None = None
