"""A folder of predictions: what it claims, what made it, and its maps.

```
OUT/predictions.json   claim, recipe, hash of the config, the images' size, every entry
OUT/depth/STEM.npz     float32 at the network's size, under the name of its claim; K of that size; log_uncertainty where
it is said OUT/depth/STEM.png     uint16 / 256 at the image's size (not for inverse depth up to scale and shift)
OUT/trajectory.txt     camera-to-world, KITTI rows, one for each frame of `path`, where the recipe has motion
```

Predictions of another program are a folder of maps without predictions.json; they are taken as metres unless said
otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stadia.core.config import StrictModel
from stadia.core.errors import DataError, ProtocolError
from stadia.core.files import read_json, write_json
from stadia.core.types import Claim
from stadia.evaluation import MOTIONS
from stadia.evaluation.depth_files import PNG_PER_METRE, arrays_in, depth_files, read_map

RECORD = "predictions.json"
MAP_KEY: Mapping[Claim, str] = {
    Claim.METRES: "depth_m",
    Claim.UP_TO_SCALE: "depth",
    Claim.AFFINE_INVERSE: "inverse_depth",
}
"""What a map is called in its .npz: a name with a unit only where there is one."""

UNCERTAINTY_KEY = "log_uncertainty"
"""Of a map beside it in its .npz: log Sigma of the photometric residual, larger where depth is trusted less."""

IN_WORDS: Mapping[Claim, str] = {
    Claim.METRES: "metres: depth and translation carry their unit, for images like those of the training",
    Claim.UP_TO_SCALE: "up to scale: no metres; ratios of depths hold within an image, one unknown factor is left",
    Claim.AFFINE_INVERSE: (
        "inverse depth up to scale and shift: no metres and no ratios; the order of near and far holds"
    ),
}
"""What a user may trust, said wherever predictions are written or scored."""


class Provenance(StrictModel):
    """What made a set of predictions.

    checkpoint: its file's name and step; empty where there is none.
    motion: how its path was made, of `stadia.evaluation.MOTIONS`.
    asked_size: (height, width) of what the network was shown, where it is not the training's.
    """

    recipe: str
    config_hash: str
    checkpoint: str = ""
    motion: str = "aligned"
    asked_size: tuple[int, int] | None = None

    @classmethod
    def of(cls, checkpoint: Path, motion: str = "aligned", asked_size: tuple[int, int] | None = None) -> Provenance:
        """Of a checkpoint or a run's folder. Raises CheckpointError where it is missing or damaged, ConfigError for an
        unknown motion.
        """
        from stadia.training.checkpoints import Checkpoint  # brings torch, which scoring maps from disk does without

        opened = Checkpoint.open(Path(checkpoint))
        text = json.dumps(opened.header.config, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(
            recipe=opened.header.recipe,
            config_hash=digest,
            checkpoint=f"{opened.path.name}, step {opened.header.step}",
            motion=MOTIONS.check(motion),
            asked_size=asked_size,
        )


class PredictionsRecord(StrictModel):
    """predictions.json.

    source, fingerprint: the recording's.  image_size, network_size: (height, width); None where images differ.
    asked_size: as network_size, where it is not the training's; else None.
    crop: of `geometry.crops.IMAGE_CROPS`, the part of each image that the maps show.
    finished: false while predicting, so that a folder left half-way cannot be scored.  entries: the frames, in order.
    path: the entries with a pose, a row of trajectory.txt each; empty where there is no path.
    path_ends: where and why the path stops before its last frame, or why there is none of several frames; else empty.
    """

    format: Literal["stadia-predictions"] = "stadia-predictions"
    version: Literal[1] = 1
    claim: Claim
    trust: str
    recipe: str
    config_hash: str
    checkpoint: str
    motion: str = "aligned"
    asked_size: tuple[int, int] | None = None
    source: str
    fingerprint: str = ""
    image_size: tuple[int, int] | None = None
    network_size: tuple[int, int] | None
    crop: str = "none"
    path: tuple[str, ...] = ()
    path_ends: str = ""
    finished: bool = False
    entries: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Write predictions.json, whole or not at all."""
        write_json(Path(folder) / RECORD, self.model_dump(mode="json"))


def read_record(folder: Path) -> PredictionsRecord | None:
    """predictions.json of a folder, validated; None where there is none. Raises DataError naming the file."""
    path = Path(folder) / RECORD
    if not path.exists():
        return None
    try:
        return PredictionsRecord.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise DataError(path, found=problem, expected="a record that stadia wrote", fix="predict again") from error


@dataclass(frozen=True, slots=True)
class Predictions:
    """Maps by stem, what they claim, and what of the images they show. `record` is None for those of another program."""

    folder: Path
    files: Mapping[str, Path]
    claim: Claim
    record: PredictionsRecord | None
    crop: str = "none"

    @classmethod
    def open(cls, folder: Path, claim: Claim | None = None, crop: str | None = None) -> Predictions:
        """Open a folder of ours or of any other program.

        Args:
            folder: with predictions.json, or just maps.
            claim: of predictions without predictions.json; by default metres.
            crop: of `geometry.crops.IMAGE_CROPS`, of predictions without predictions.json; by default none, never
                guessed.

        Raises DataError where the folder is empty, unfinished, or lacks an entry; ProtocolError where `claim` or `crop`
        contradicts it.
        """
        folder = Path(folder)
        if folder.name == "depth" and (folder.resolve().parent / RECORD).exists():
            folder = folder.resolve().parent  # the claim stands there: maps alone would be taken as metres
        files, record = depth_files(folder), read_record(folder)
        if record is None:
            return cls(folder, files, claim or Claim.METRES, None, crop or "none")
        for what, asked, found in (("claim", claim, record.claim), ("crop", crop, record.crop)):
            if asked not in (None, found):
                raise ProtocolError(
                    folder / RECORD,
                    found=f"the {what} {found}",
                    expected=f"{asked}, as asked for",
                    fix=f"leave --{what} out",
                )
        if not record.finished:
            raise DataError(
                Path(folder) / RECORD,
                found="an unfinished prediction",
                expected="all entries",
                fix="remove it and predict again",
            )
        if missing := [name for name in record.entries if name not in files]:
            raise DataError(
                folder,
                found=f"no map for {len(missing)} of {len(record.entries)} entries, the first '{missing[0]}'",
                expected="every entry of predictions.json",
                fix="predict again",
            )
        return cls(folder, {name: files[name] for name in record.entries}, record.claim, record, record.crop)

    def read(self, name: str, *, png_per_metre: float = PNG_PER_METRE) -> NDArray[np.floating]:
        """(h, w): depth in metres, depth up to scale, or inverse depth, by the claim. png_per_metre: of PNG of another
        program.
        """
        unit = png_per_metre if self.record is None else PNG_PER_METRE
        return read_map(self.files[name], key=MAP_KEY[self.claim], png_per_metre=unit)

    def log_uncertainty(self, name: str) -> NDArray[np.floating] | None:
        """(h, w) as the depth of this entry; None where its network says none. Raises DataError as `read_map`."""
        path = self.files[name]
        return read_map(path, key=UNCERTAINTY_KEY) if UNCERTAINTY_KEY in arrays_in(path) else None

    def check_made_by(self, provenance: Provenance, fingerprint: str, entries: Sequence[str]) -> None:
        """Raises ProtocolError where these are predictions of another checkpoint or config, of other images, or of
        other frames.
        """
        record = self.record
        found = {} if record is None else record.model_dump(include={*Provenance.model_fields, "fingerprint"})
        expected = {**provenance.model_dump(), "fingerprint": fingerprint}
        if record is None or found != expected or list(record.entries) != list(entries):
            differing = [key for key, value in expected.items() if found.get(key) != value] or ["entries"]
            raise ProtocolError(
                Path(self.folder) / RECORD,
                found=f"predictions with another {' and '.join(differing)}",
                expected="those of this checkpoint and these images, or none",
                fix="choose another --out, or remove the folder",
            )
