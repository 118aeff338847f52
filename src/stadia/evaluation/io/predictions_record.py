"""The record of a folder of predictions, predictions.json. This module does not import torch."""

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

    checkpoint: file name and step of the checkpoint.
    motion: row of `stadia.evaluation.MOTIONS` that predicted the motions.
    requested_size: (height, width) of the network's input, if it differs from the training size.
    backend, precision: rows of the tables of `stadia.evaluation.backends`.
    flip, steady: whether maps are averaged with those of the mirrored image, and over neighboring frames.
    licence: licence of the published weights.
    scale_from: how the metres were measured (`--scale-from`); None for depth as the network predicts it.
    camera_origin: where the camera comes from, such as "assumed, ...".
    path_origin: what else determines the path: the map of a video, and its scale.
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
        """Return the provenance of predictions by a checkpoint or by the checkpoint of a run's folder.

        Raises CheckpointError for a wrong checkpoint, and ConfigError for an unknown motion.
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
    """Content of predictions.json: the provenance and the properties of predictions.

    trust: what users may rely on.
    source, fingerprint: name and fingerprint of the recording.
    image_size, network_size: (height, width) of the images and of the network's input; None if they differ between
        images.
    crop: row of `geometry.numpy_camera.IMAGE_CROPS` that the maps cover.
    precision_cost: median relative difference from float32 on frames of this input, and the number of these frames.
    trained_on: number of entries that trained the network; None if unknown.
    finished: false while predicting. An unfinished folder cannot be scored.
    entries: names of the frames, in order.
    has_frame_numbers: whether the names are frame numbers of a video.
    path: names of the entries with a pose. trajectory.txt has one row for each.
    not_aligned: number of motions that no alignment confirms; None without alignment.
    path_ends: why the path ends before the last frame, or is missing.
    checks: verdict, findings and measurements; None if the predictions were not checked.
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
    """Return the content of predictions.json in a folder, or None if there is none.

    Raises DataError if it is damaged.
    """
    path = Path(folder) / RECORD
    if not path.exists():
        return None
    return parse_record(path, read_json(path))


def parse_record(path: object, values: Any) -> PredictionsRecord:
    """Return the record with these JSON values. Raises DataError if they are invalid.

    path: path of the file, for messages.
    """
    try:
        return PredictionsRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise DataError(path, found=problem, expected="a record that stadia wrote", fix="predict again") from error
