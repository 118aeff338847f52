"""The record of a folder of predictions, predictions.json: what made them, and what they are. Imports no torch."""

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
"""File of a folder of predictions with its record."""

TRAJECTORY = "trajectory.txt"
"""Path of a prediction, as KITTI rows."""

TRAJECTORY_TUM = "trajectory_tum.txt"
"""The same path as TUM rows, where every frame has a time."""


class Provenance(StrictModel):
    """Origin of a set of predictions.

    checkpoint: its file name and step; empty where there is none.
    motion: how its path was estimated, a row of `stadia.evaluation.MOTIONS`.
    requested_size: (height, width) of the network's input, where it is not the training size.
    backend, precision: rows of the tables of `stadia.evaluation.backends`.
    flip: whether maps are averaged with those of the mirrored image.
    steady: whether maps are averaged over neighboring frames by their motion.
    licence: of the published weights that the network is or started from; "" where none is known.
    scale_from: how its metres were measured (`--scale-from`): factor, deviation, residual and verdict of each source;
        None where depth is as the network predicts it.
    camera_origin: where the camera of the images comes from, such as "assumed, ..."; "" where that is not known.
    path_origin: what the path stands on besides `motion`: the map beside a video, and its scale; else "".
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
        """Read it from an opened checkpoint, or from the path of a checkpoint or a run's folder.

        Raises CheckpointError where that is missing or damaged, ConfigError for an unknown motion.
        """
        from stadia.training.checkpoint import open_checkpoint

        opened = open_checkpoint(checkpoint)
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

    trust: what users may rely on, by the depth scale and, where the predictions were checked, by their verdict.
    source, fingerprint: of the recording.
    image_size, network_size: (height, width); None where images differ.
    crop: row of `geometry.numpy_camera.IMAGE_CROPS`, the part of each image that the maps cover.
    precision_cost: of another precision than float32: the median relative difference from float32 on frames of this
        input, and the number of frames; else None.
    trained_on: how many of the entries trained the network; None where that is not known.
    finished: false while predicting, so that an unfinished folder cannot be scored. UNFINISHED has its frames.
    entries: the frames, in order.
    has_frame_numbers: whether their names are frame numbers of a video; false where they are names of image files.
    path: the entries with a pose, one row of trajectory.txt each; empty without a path.
    not_aligned: how many motions of the path no alignment confirms, and are the network's; None without alignment.
    path_ends: where and why the path ends before its last frame, or why there is no path; else empty.
    checks: verdict ("usable", "doubtful", "unusable", "not judged"), findings and measurements of these predictions;
        None where they were not checked.
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
    """Read and validate predictions.json of a folder; None without one. Raise DataError with the file's name."""
    path = Path(folder) / RECORD
    if not path.exists():
        return None
    values = read_json(path)
    try:
        return PredictionsRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise DataError(path, found=problem, expected="a record that stadia wrote", fix="predict again") from error
