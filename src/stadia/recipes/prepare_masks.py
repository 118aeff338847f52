"""Masks of road and objects for a user's own video, frame after frame, resumed where they stopped, with a sheet to look at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import check_writable, inside, read_json, replacing, write_json
from stadia.core.recording import LEFT, Recording, RoadMasks
from stadia.data.coco_masks import CocoMasks
from stadia.data.height_crops import masked_crop
from stadia.data.mask_boxes import mask_boxes
from stadia.data.road_masks import OBJECTS, ROAD, MaskFiles
from stadia.data.sources import open_recordings
from stadia.evaluation.object_drawings import draw_masks
from stadia.evaluation.road_drawings import sheet
from stadia.evaluation.watch import Watch, unwatched
from stadia.models.segmentation import Segmenter, panoptic, tflite
from stadia.models.size_prior import SizePrior, load_size_prior

SHEET, MADE, HEIGHTS = "sheet.png", "prepared.json", "heights.json"
_SHOWN = 12


@dataclass(frozen=True)
class MasksAsked:
    """`stadia prepare SOURCE --masks`.

    by: a TFLite file, a COCO file, a folder of masks, or a network of transformers: its folder, or its name on the hub.
    out: a folder for them; of several recordings one folder in it each.
    options: how to open `source`.  every: each n-th frame.
    heights: a learnt size prior (`models.size_prior`): heights.json says then how high each car is.
    """

    source: Path
    by: str
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    heights: Path | None = None


class MaskMaker(Protocol):
    """classes: names of the numbers.  identity: what was it made by, for the folder's record."""

    @property
    def classes(self) -> Mapping[int, str]: ...

    @property
    def identity(self) -> str: ...

    def make(self, recording: Recording, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None] | None:
        """Classes (H, W), and objects (H, W) if it tells them apart; None for a frame that it does not know."""
        ...


@dataclass(frozen=True)
class BySegmenter:
    """From each picture alone."""

    segmenter: Segmenter

    @property
    def classes(self) -> Mapping[int, str]:
        return self.segmenter.classes

    @property
    def identity(self) -> str:
        return self.segmenter.identity

    def make(self, recording: Recording, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None] | None:
        """By the picture alone; roads and skies have no number."""
        semantic, instance = self.segmenter(recording.image(index))
        if instance is None:
            return semantic, None
        counted = [number for number, name in self.classes.items() if name in OBJECTS]
        return semantic, np.where(np.isin(semantic, counted), instance, 0).astype(np.uint16)


@dataclass(frozen=True)
class ByFiles:
    """From files that another program wrote."""

    reader: CocoMasks | MaskFiles
    name: str

    @property
    def classes(self) -> Mapping[int, str]:
        return self.reader.classes

    @property
    def identity(self) -> str:
        return f"{self.name} {self.reader.fingerprint(LEFT)}"

    def make(self, recording: Recording, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None] | None:
        """From the files, at the picture's size."""
        camera = recording.camera(index)
        masks = self.reader.read(recording.stem(index), LEFT, height=camera.height, width=camera.width)
        return None if masks is None else (masks.semantic, masks.instance)


def mask_maker(by: str) -> MaskMaker:
    """What `--by` names. Raises CheckpointError, DataError where it cannot be used."""
    path = Path(by).expanduser()
    if path.suffix.lower() == ".tflite":
        return BySegmenter(tflite(path))
    if path.suffix.lower() == ".json":
        return ByFiles(CocoMasks(path), path.name)
    if (path / "semantic").is_dir():
        return ByFiles(MaskFiles(path), path.name)
    return BySegmenter(panoptic(by))


def prepare_masks(asked: MasksAsked, watch: Watch = unwatched) -> Iterator[str]:
    """Make the masks of every frame that has none yet; then say what is there, line by line."""
    check_writable(asked.out)
    recordings = open_recordings(asked.source, **dict(asked.options))
    maker = mask_maker(asked.by)
    for recording in recordings:
        folder = asked.out if len(recordings) == 1 else inside(asked.out, recording.name)
        yield from _prepare(recording, folder, maker, asked, watch)


def _prepare(recording: Recording, folder: Path, maker: MaskMaker, asked: MasksAsked, watch: Watch) -> Iterator[str]:
    _begin(folder, {"by": maker.identity, "of": recording.fingerprint()}, maker.classes)
    made = unknown = 0
    indices = range(0, len(recording), asked.every)
    for index in watch(indices, len(indices), f"masks of {recording.name}"):
        done = _file(folder, "semantic", recording.stem(index))
        if done.exists():
            continue
        found = maker.make(recording, index)
        if found is None:
            unknown += 1
            continue
        semantic, instance = found
        if instance is not None:  # first: a frame is done when its classes are there
            _write(_file(folder, "instance", recording.stem(index)), instance)
        _write(done, semantic)
        made += 1
    if unknown == len(indices):
        expected = f"masks of pictures named as {recording.stem(0)}"
        raise DataError(asked.by, found=f"none of {recording.name}'s frames", expected=expected, cure="name them as the pictures are named")
    recording.mask_reader = MaskFiles(folder)
    if asked.heights is not None:
        write_json(folder / HEIGHTS, learnt_heights(recording, indices, load_size_prior(asked.heights), watch))
        recording.mask_reader = MaskFiles(folder)
    yield f"{folder}: masks of {len(indices) - unknown} frames, {made} of them new, by {maker.identity}"
    yield from _say_what_is_there(recording, indices, folder)
    if unknown:
        yield f"note: {unknown} frames have no masks in {asked.by}"


def _begin(folder: Path, made: dict[str, str], classes: Mapping[int, str]) -> None:
    record = folder / MADE
    if record.exists() and (before := read_json(record)) != made:
        different = "other pictures" if before.get("of") != made["of"] else f"masks by {before.get('by')}"
        raise DataError(folder, found=different, expected=f"those of this video by {made['by']}", cure="choose another --out, or remove it")
    if not record.exists():
        write_json(folder / "classes.json", {str(number): name for number, name in classes.items()})
        write_json(record, made)


def _say_what_is_there(recording: Recording, indices: range, folder: Path) -> Iterator[str]:
    """Shares and counts over frames spread over all, and the sheet."""
    chosen = np.unique(np.linspace(0, len(indices) - 1, min(_SHOWN, len(indices))).round().astype(int)).tolist()
    shown = [(indices[at], masks) for at in chosen if (masks := recording.masks(indices[at])) is not None]
    reader = recording.mask_reader
    assert reader is not None
    drawn = [drawn_masks(recording.image(index), masks, reader.classes) for index, masks in shown]
    _write(folder / SHEET, sheet(drawn, columns=3)[..., ::-1])
    road = [number for number, name in reader.classes.items() if name == ROAD]
    share = float(np.median([np.isin(masks.semantic, road).mean() for _, masks in shown]))
    objects = float(np.mean([len(mask_boxes(masks, reader.classes)) for _, masks in shown]))
    yield f"  road: {share:.0%} of a picture; objects: {objects:.1f} in a picture (of {len(shown)} looked at)"
    yield f"  look at {folder / SHEET} before you train"
    if share < 0.01:
        yield "note: hardly any road: is the camera level, and does the model know roads?"


def learnt_heights(recording: Recording, indices: range, prior: SizePrior, watch: Watch = unwatched) -> dict[str, dict[str, list[float]]]:
    """Of every whole car of a recording with masks: mean and spread in metres, by picture and object, as heights.json has them."""
    heights: dict[str, dict[str, list[float]]] = {}
    reader = recording.mask_reader
    for index in watch(indices, len(indices), f"heights of {recording.name}"):
        masks = recording.masks(index)
        if masks is None or reader is None:
            continue
        whole = [one for one in mask_boxes(masks, reader.classes) if one.class_name == "car" and not (one.hidden or one.cut)]
        image = recording.image(index)
        means, spreads = prior.heights_of([masked_crop(image, masks.instance == one.number, prior.side) for one in whole])
        said = zip(whole, means.tolist(), spreads.tolist(), strict=True)
        heights[f"{LEFT}/{recording.stem(index)}"] = {str(one.number): [round(mean, 4), round(spread, 4)] for one, mean, spread in said}
    return heights


def drawn_masks(image: NDArray[np.uint8], masks: RoadMasks, classes: Mapping[int, str]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: the road in one colour, objects in that of their class, outlined; the rest as it is."""
    kinds = [ROAD, *sorted(OBJECTS)]
    number = np.zeros(256, np.int64)
    for value, name in classes.items():
        number[value] = kinds.index(name) + 1 if name in kinds else 0
    kind = number[masks.semantic]
    instance = np.where(kind > 1, masks.instance.astype(np.int64), 0)
    return draw_masks(image, np.where(kind == 1, instance.max(initial=0) + 1, instance), kind)


def _file(folder: Path, kind: str, stem: str) -> Path:
    return inside(folder, f"{kind}/{LEFT}/{stem}.png")


def _write(path: Path, values: NDArray) -> None:
    with replacing(path) as temporary:
        cv2.imwrite(str(temporary), np.ascontiguousarray(values))
