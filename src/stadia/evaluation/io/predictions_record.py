"""The record of a folder of predictions, predictions.json. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from stadia.core.config import StrictModel
from stadia.core.errors import DataError
from stadia.core.types import DepthScale
from stadia.evaluation import MOTIONS
from stadia.files.atomic_files import write_json
from stadia.files.json_files import read_json

if TYPE_CHECKING:
    from stadia.training.checkpoint import Checkpoint

RECORD = "predictions.json"
TRAJECTORY = "trajectory.txt"  # path of a prediction, as KITTI rows
TRAJECTORY_TUM = "trajectory_tum.txt"  # the same path as TUM rows, if every frame has a time


class Provenance(StrictModel):
    """Origin of a set of predictions.

    checkpoint: its file name and step.  motion: a row of `stadia.evaluation.MOTIONS`.
    requested_size: (height, width) of the network's input, if it is not the training size.
    backend, precision: rows of the tables of `stadia.evaluation.backends`.
    flip, steady: whether maps are averaged with the mirrored image's, and over neighboring frames.
    licence: of the published weights.
    scale_from: how its metres were measured (`--scale-from`); None for depth as the network predicts it.
    camera_origin: where the camera comes from, such as "assumed, ...".
    path_origin: what the path uses besides `motion`: the map of a video, and its scale.
    """

    recipe: str
    config_hash: str
    checkpoint: str = ""
    motion: str = "aligned"
    requested_size: tuple[int, int] | None = None
    backend: str = "torch"
    precision: str = "float32"
    flip: bool = False
    steady: bool = False
    licence: str = ""
    scale_from: dict[str, Any] | None = None
    camera_origin: str = ""
    path_origin: str = ""

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint | Path, motion: str = "aligned", requested_size: tuple[int, int] | None = None
    ) -> Provenance:
        """Read it from a checkpoint or a run's folder. Raises CheckpointError, or ConfigError for an unknown motion."""
        from stadia.training.checkpoint import open_checkpoint

        opened = open_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
        text = json.dumps(opened.header.config, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(
            recipe=opened.header.recipe,
            config_hash=digest,
            checkpoint=opened.title,
            licence=opened.licence,
            motion=MOTIONS.check(motion),
            requested_size=requested_size,
        )


class PredictionsRecord(Provenance):
    """Content of predictions.json: the provenance of predictions, and what they are.

    trust: what users may rely on.  source, fingerprint: of the recording.
    image_size, network_size: (height, width); None if images differ.
    crop: row of `geometry.numpy_camera.IMAGE_CROPS` that the maps cover.
    precision_cost: median relative difference from float32 on frames of this input, and the number of frames.
    trained_on: number of entries that trained the network; None if unknown.
    finished: false while predicting; an unfinished folder cannot be scored.
    entries: the frames, in order.  has_frame_numbers: whether their names are frame numbers of a video.
    path: the entries with a pose, one row of trajectory.txt each.
    not_aligned: number of motions that no alignment confirms; None without alignment.
    path_ends: why the path ends before its last frame, or is missing.
    checks: verdict, findings and measurements; None if predictions were not checked.
    """

    format: Literal["stadia-predictions"] = "stadia-predictions"
    version: Literal[1] = 1
    depth_scale: DepthScale
    trust: str
    precision_cost: dict[str, float] | None = None
    source: str
    fingerprint: str = ""
    image_size: tuple[int, int] | None = None
    network_size: tuple[int, int] | None
    crop: str = "none"
    path: tuple[str, ...] = ()
    path_ends: str = ""
    checks: dict[str, Any] | None = None
    trained_on: int | None = None
    finished: bool = False
    entries: tuple[str, ...] = ()
    has_frame_numbers: bool = False
    not_aligned: int | None = None

    def write(self, folder: Path) -> None:
        """Write predictions.json atomically."""
        write_json(Path(folder) / RECORD, self.model_dump(mode="json"))


def read_record(folder: Path) -> PredictionsRecord | None:
    """Read predictions.json of a folder; None without one. Raises DataError."""
    path = Path(folder) / RECORD
    if not path.exists():
        return None
    return parse_record(path, read_json(path))


def parse_record(path: object, values: Any) -> PredictionsRecord:
    """Return the record of predictions from its JSON; `path` is for messages. Raises DataError."""
    try:
        return PredictionsRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise DataError(path, found=problem, expected="a record that stadia wrote", fix="predict again") from error
