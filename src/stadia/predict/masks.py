"""Make masks of the road and of objects for your own video (resumable), with a sheet of pictures to check them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import LEFT, Camera, Recording, RoadMasks
from stadia.data.formats.kitti_objects import list_box_splits
from stadia.data.frame_selection import spread_indices
from stadia.data.mask_files import (
    MASKS_RECORD,
    MAX_CLASS,
    OBJECT_CLASSES,
    ROAD,
    CocoMasks,
    MaskFiles,
    hash_frames,
    select_classes,
)
from stadia.data.mask_objects import crop_object, find_mask_boxes
from stadia.data.open_dataset import detect_format, open_recordings
from stadia.evaluation.plots.colormaps import color_categories
from stadia.evaluation.plots.image_sheets import draw_image_sheet, draw_masks
from stadia.geometry.cameras import Intrinsics, centered_K
from stadia.io.atomic_files import write_json
from stadia.io.image_files import list_images, read_rgb, read_stored_labels, read_upright_size
from stadia.io.image_io import write_image
from stadia.io.input_files import check_path_exists, check_writable, expand_home, read_json, read_lines, safe_join
from stadia.io.output_files import ANOTHER_OUT, ANOTHER_OUT_OR_REMOVE, check_output_folder
from stadia.io.video_decoding import hash_source
from stadia.predict import TRAIN_FLOOR
from stadia.predict.onnx_masks import load_onnx_segmenter
from stadia.predict.tiled_masks import Segmenter, load_tflite_model

SHEET = "sheet.png"
RECORD = MASKS_RECORD
HEIGHTS = "heights.json"
CLASSES = "classes.json"
WRITTEN = (CLASSES, "semantic", "instance", SHEET, HEIGHTS)
"""Names of the files and folders that belong to a folder of masks; with these but without its record, the folder
belongs to another program.
"""

_SHEET_IMAGES = 12
_MIN_HEIGHT_PX = 20  # smallest height of an object in the image that can give the camera's height
_ANY_FOCAL_PX = 1000.0  # masks do not depend on the camera
_REMOVED = (110, 110, 110)
COLOR_GROUPS = (
    (ROAD,),
    ("car",),
    ("truck", "van", "bus"),
    ("person", "pedestrian", "sitting person", "person_sitting", "rider", "cyclist"),
    ("bicycle", "motorcycle"),
    ("train", "tram"),
)
"""Groups of class names that share one color in the sheet of pictures."""


@dataclass(frozen=True, kw_only=True)
class MasksRequest:
    """The arguments of `stadia masks SOURCE`.

    source: the video, images or dataset.
    by: what makes the masks: a TFLite or ONNX file, annotations of COCO, labelme, VIA, CVAT, Supervisely or Label
        Studio, a folder of masks, or a transformers network.
    out: folder of the masks, with one folder in it for each of several recordings.
    options: options for opening the source.
    every: take each n-th frame.
    heights: file of a network that predicts object heights; the height of each car is then written to heights.json.
        None writes none.
    road_by: like `by`, but only for the road; None takes the road from `by`.
    """

    source: Path
    by: str
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    heights: Path | None = None
    road_by: str | None = None


CITYSCAPES_SUFFIXES = ("_gtFine_labelIds", "_gtFine_labelTrainIds", "_gtFine_instanceIds", "_gtCoarse_labelIds")

Masks = tuple[NDArray[np.uint8], NDArray[np.uint16] | None]
"""Class numbers (H, W), and object numbers (H, W) or None."""


@dataclass(frozen=True)
class MaskMaker:
    """Something that makes masks: a network, or masks of another program.

    classes: name of each class number.
    identity: name and hash that the folder's record contains.
    make: returns the masks of a recording's frame, or None.
    kind: what it finds, in words.
    """

    classes: Mapping[int, str]
    identity: str
    make: Callable[[Recording, int], Masks | None]
    kind: str = "masks of another program"


_YOLO_LINE = re.compile(r"\d+(?:\s+(?:0(?:\.\d+)?|1(?:\.0*)?|0?\.\d+)){4,}\s*$")
"""A line of YOLO's labels: a class, and shares of the image."""


def _has_yolo_labels(folder: Path) -> bool:
    files = sorted(folder.glob("*.txt"))[:8]
    lines = (read_lines(path, expected="labels of YOLO")[:1] for path in files)
    return any(_YOLO_LINE.match(line) for first in lines for line in first)


def create_mask_maker(by: str) -> MaskMaker:
    """Open what the option `--by` names.

    Raises CheckpointError or DataError if it cannot be opened.
    """
    path = expand_home(by)
    is_other = (path / "semantic").is_dir() or (path / "config.json").is_file() or any(path.glob("*.png"))
    is_labelme = path.is_dir() and not is_other and any(path.glob("*.json"))
    if path.is_dir() and not is_other and not is_labelme and _has_yolo_labels(path):
        fix = "export COCO from the annotation program, or write a PNG of class numbers for each image"
        raise DataError(path, found="labels of YOLO, as shares of the image", expected="masks in pixels", fix=fix)
    is_coco = path.suffix.lower() in (".json", ".xml") or is_labelme
    if is_coco or (path / "semantic").is_dir() or _is_flat_folder(path):
        reader = CocoMasks(path) if is_coco else MaskFiles(path)
        return MaskMaker(reader.classes, f"{path.name} {reader.fingerprint(LEFT)}", partial(_read_masks, reader))
    if path.suffix.lower() == ".onnx":
        network = load_onnx_segmenter(path)
        return MaskMaker(network.classes, network.identity, partial(_segment, network), network.kind)
    is_tflite = path.suffix.lower() == ".tflite"
    segmenter = load_tflite_model(path) if is_tflite else TRAIN_FLOOR.load("load_panoptic_model")(by)
    kind = f"classes of pixels, {len(segmenter.classes)} names"
    return MaskMaker(segmenter.classes, segmenter.identity, partial(_segment, segmenter), kind)


def _is_flat_folder(path: Path) -> bool:
    """Return whether a folder has PNG masks named like the images. Raises DataError if classes.json is missing."""
    if not path.is_dir() or (path / "config.json").is_file() or not any(path.glob("*.png")):
        return False
    first = min(path.glob("*.png"))
    colors = read_stored_labels(first)
    if colors.ndim == 3 and np.ptp(colors[..., :3], axis=2).any():
        fix = (
            "write the number of the class to each pixel. In panoptic PNGs of COCO, R + 256 G + 65536 B is the id of a"
        )
        fix += " segment in their JSON; the colors of CamVid, Mapillary and ADE20K are listed with the dataset"
        raise DataError(first, found="a mask in colors", expected="one channel of class numbers", fix=fix)
    if colors.dtype == np.uint16 and (most := int(colors.max())) > MAX_CLASS:
        found = f"numbers up to {most}, which are a class and an object in one number"
        fix = "write the classes as 8 bits: value // 1000 of KITTI MOTS and Cityscapes' instanceIds, value // 256 of"
        fix += " Mapillary Vistas"
        raise DataError(first, found=found, expected=f"class numbers up to {MAX_CLASS}", fix=fix)
    if not (path / "classes.json").is_file():
        found, fix = "PNG masks without names of their classes", "add it"
        if (suffix := next((end for end in CITYSCAPES_SUFFIXES if first.stem.endswith(end)), "")) != "":
            found = f"masks of Cityscapes ({suffix})"
            fix = f"add it, and name the masks as the images: {first.name.replace(suffix, '_leftImg8bit')}"
        expected = 'classes.json with a name for each number, {"1": "road", "2": "car"}'
        raise DataError(path, found=found, expected=expected, fix=fix)
    return True


def combine_makers(objects: MaskMaker, road: MaskMaker) -> MaskMaker:
    """Combine the objects of one mask maker with the road of another one; objects cover the road.

    objects: makes the masks of objects; a road in its masks is dropped.
    road: makes the mask of the road.

    Raises DataError if `road` has no class "road".
    """
    names = [name.lower() for name in road.classes.values()]
    if ROAD not in names:
        expected, fix = f"a class {ROAD}", "pass a network or masks that have one"
        raise DataError("--road-by", found=", ".join(names) or "no class", expected=expected, fix=fix)
    classes = {number: name for number, name in objects.classes.items() if name.lower() != ROAD}
    free = [number for number in range(1, 256) if number not in objects.classes]
    if len(free) < 2:
        found, fix = f"{len(classes)} classes of --by", "use a network with fewer classes"
        raise DataError("--by", found=found, expected="at most 253", fix=fix)
    road_class, nothing = free[:2]
    covering = [number for number, name in classes.items() if name.lower() in OBJECT_CLASSES]

    def make(recording: Recording, index: int) -> Masks | None:
        first, second = objects.make(recording, index), road.make(recording, index)
        if first is None or second is None:
            return None
        (semantic, instance), shown = first, select_classes(second[0], road.classes, {ROAD})
        known = np.where(np.isin(semantic, list(classes)), semantic, np.uint8(nothing))
        is_covered = np.isin(semantic, covering)
        return np.where(shown & ~is_covered, np.uint8(road_class), known), instance

    return MaskMaker({**classes, road_class: ROAD}, f"{objects.identity} with the road of {road.identity}", make)


def _read_masks(reader: CocoMasks | MaskFiles, recording: Recording, index: int) -> Masks | None:
    camera = recording.camera(index)
    masks = reader.read(recording.stem(index), LEFT, height=camera.height, width=camera.width)
    return None if masks is None else (masks.semantic, masks.instance)


def _segment(segmenter: Segmenter, recording: Recording, index: int) -> Masks:
    semantic, instance = segmenter(recording.image(index))
    if instance is None:
        return semantic, None
    counted = [number for number, name in segmenter.classes.items() if name in OBJECT_CLASSES]
    return semantic, np.where(np.isin(semantic, counted), instance, 0).astype(np.uint16)


def prepare_masks(request: MasksRequest, track: TrackProgress = no_progress) -> list[str]:
    """Open what makes masks, and write those of every frame that has none; return lines of text about them."""
    check_writable(request.out)
    check_path_exists(request.source)
    return write_masks(open_mask_maker(request), request, track)


def open_mask_maker(request: MasksRequest) -> MaskMaker:
    """Open what makes the masks of a request.

    Raises CheckpointError or DataError if it cannot be opened.
    """
    maker = create_mask_maker(request.by)
    return maker if request.road_by is None else combine_makers(maker, create_mask_maker(request.road_by))


def write_masks(maker: MaskMaker, request: MasksRequest, track: TrackProgress = no_progress) -> list[str]:
    """Write the masks of every frame that has none; return lines of text about them.

    maker: makes the masks.
    request: the arguments.
    track: shows progress.
    """
    recordings = _open(request)
    lines = []
    for recording in recordings:
        folder = request.out if len(recordings) == 1 else safe_join(request.out, recording.name)
        lines += _prepare(recording, folder, maker, request, track)
    return lines


class MixedImages(Recording):
    """Images of any sizes as a recording; only masks can be made of it, since its camera is made up."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name, self.files = name, files

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return read_rgb(self.files[index])

    def camera(self, index: int, side: str = LEFT) -> Camera:
        height, width = read_upright_size(self.files[index])
        return Intrinsics(centered_K(_ANY_FOCAL_PX, height, width), height, width).make_camera(0)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.files[index]

    def fingerprint(self) -> str:
        return hash_source(self.files[0].parent)


def _open(request: MasksRequest) -> Sequence[Recording]:
    """Open images of KITTI's objects, a folder of images of several sizes, or what `open_recordings` opens."""
    path = expand_home(request.source)
    splits = [path / split / "image_2" for split in list_box_splits(path)]
    folders = {folder.parent.name: folder for folder in splits if folder.is_dir()}
    if not folders and path.is_dir() and detect_format(path, request.options.get("format", "auto")) == "video":
        sizes = {read_upright_size(file) for file in list_images(path)}
        folders = {path.resolve().name: path} if len(sizes) > 1 else {}
    if folders:
        return [MixedImages(name, list_images(folder)) for name, folder in folders.items()]
    return open_recordings(request.source, **_without_camera(request))


def _without_camera(request: MasksRequest) -> dict[str, Any]:
    options = dict(request.options)
    if detect_format(expand_home(request.source), options.get("format", "auto")) == "video":
        options["camera"] = {"focal_px": _ANY_FOCAL_PX}
    return options


def _prepare(
    recording: Recording, folder: Path, maker: MaskMaker, request: MasksRequest, track: TrackProgress
) -> list[str]:
    record = {"by": maker.identity, "of": recording.fingerprint(), "source": hash_frames(recording)}
    _check_folder(folder, record)
    prior = None if request.heights is None else TRAIN_FLOOR.load("load_size_prior")(request.heights)
    made = unknown = 0
    indices = range(0, len(recording), request.every)
    for index in track(indices, len(indices), f"masks of {recording.name}"):
        done = _file(folder, "semantic", recording.stem(index))
        if done.exists():
            continue
        found = maker.make(recording, index)
        if found is None:
            unknown += 1
            continue
        semantic, instance = found
        if not (folder / RECORD).exists():
            write_json(folder / RECORD, record)
        if not (folder / CLASSES).exists():
            write_json(folder / CLASSES, {str(number): name for number, name in maker.classes.items()})
        if instance is not None:  # first: a frame is done when its classes are there
            write_image(_file(folder, "instance", recording.stem(index)), instance)
        write_image(done, semantic)
        made += 1
    if unknown == len(indices):
        missing, expected = f"no mask of {recording.name}", f"names as {recording.stem(0)}"
        raise DataError(request.by, found=missing, expected=expected, fix="give masks the names of the images")
    recording.mask_reader = MaskFiles(folder)
    if prior is not None:
        write_json(folder / HEIGHTS, estimate_car_heights(recording, indices, prior, track))
        recording.mask_reader = MaskFiles(folder)
    lines = [f"{folder}: masks of {len(indices) - unknown} frames, {made} new, by {maker.identity}"]
    lines.append(f"  found: {maker.kind}")
    selection = getattr(recording, "selection", None)
    if selection is not None and selection.total > len(selection.kept):
        lines.append(f"note: {selection}; a training uses the same frames (data.stride=1 keeps all)")
    lines += _summarize_masks(recording, indices, folder)
    return lines + [f"note: {unknown} frames have no masks in {request.by}"] * bool(unknown)


def _check_folder(folder: Path, made: dict[str, str]) -> None:
    check_output_folder(folder, RECORD, "set of masks", names=WRITTEN, fix=ANOTHER_OUT)
    before = read_json(folder / RECORD) if (folder / RECORD).exists() else made
    before = before if isinstance(before, dict) else {}
    if any(before.get(key) != made[key] for key in ("by", "of")):
        found = "other images" if before.get("of") != made["of"] else f"masks by {before.get('by')}"
        expected = f"masks of this video by {made['by']}"
        raise DataError(folder, found=found, expected=expected, fix=ANOTHER_OUT_OR_REMOVE)


def _summarize_masks(recording: Recording, indices: range, folder: Path) -> list[str]:
    chosen = spread_indices(len(indices), _SHEET_IMAGES)
    shown = [(indices[at], masks) for at in chosen if (masks := recording.masks(indices[at])) is not None]
    reader = recording.mask_reader
    assert reader is not None
    drawn = {
        recording.stem(index): draw_road_masks(recording.image(index), masks, reader.classes) for index, masks in shown
    }
    write_image(folder / SHEET, draw_image_sheet(drawn, _colors(reader.classes), columns=3)[..., ::-1])
    road = [number for number, name in reader.classes.items() if name == ROAD]
    share = float(np.median([np.isin(masks.semantic, road).mean() for _, masks in shown]))
    boxes = [find_mask_boxes(masks, reader.classes) for _, masks in shown]
    whole_px = [box.box_px for of_image in boxes for box in of_image if not (box.hidden or box.cut)]
    usable = sum(bottom - top >= _MIN_HEIGHT_PX for _, top, _, bottom in whole_px) / len(shown)
    mean = sum(map(len, boxes)) / len(shown)
    lines = [
        f"  {share:.0%} road and {mean:.1f} objects on average, {usable:.1f} whole and {_MIN_HEIGHT_PX} px high",
        f"check {folder / SHEET} before training",
    ]
    return lines + ["note: hardly any road: does the network have a road class?"] * (share < 0.01)


def estimate_car_heights(
    recording: Recording, indices: range, prior: Any, track: TrackProgress = no_progress
) -> dict[str, dict[str, list[float]]]:
    """Estimate the height of every fully visible car by a network.

    recording: a recording with masks.
    indices: the frames.
    prior: the network.
    track: shows progress.

    Returns, for each image by its name and each object by its number, the expected height and its standard deviation,
    metres.
    """
    heights: dict[str, dict[str, list[float]]] = {}
    reader = recording.mask_reader
    for index in track(indices, len(indices), f"heights of {recording.name}"):
        masks = recording.masks(index)
        if masks is None or reader is None:
            continue
        cars = [box for box in find_mask_boxes(masks, reader.classes) if box.class_name == "car"]
        whole = [car.number for car in cars if not (car.hidden or car.cut)]
        image = recording.image(index)
        crops = [crop_object(image, masks.instance == number, prior.side) for number in whole]
        means, spreads = prior.predict_heights(crops)
        rows = zip(whole, means.tolist(), spreads.tolist(), strict=True)
        heights[f"{LEFT}/{recording.stem(index)}"] = {
            str(number): [round(mean, 4), round(spread, 4)] for number, mean, spread in rows
        }
    return heights


def draw_road_masks(image: NDArray[np.uint8], masks: RoadMasks, classes: Mapping[int, str]) -> NDArray[np.uint8]:
    """Draw masks over an image: one color for the road, one for each kind of object, gray for objects without a number.

    image: (H, W, 3) uint8 RGB.
    masks: the masks of the image.
    classes: name of each class number.
    """
    number = np.zeros(256, np.int64)
    for value, name in classes.items():
        number[value] = next((at for at, names in enumerate(COLOR_GROUPS, start=1) if name in names), 0)
    kind = number[masks.semantic]
    instance = np.where(kind > 1, masks.instance.astype(np.int64), 0)
    removed = (kind > 1) & (instance == 0)
    shown = np.where(removed[..., None], (0.45 * image + 0.55 * np.array(_REMOVED)).astype(np.uint8), image)
    return draw_masks(shown, np.where(kind == 1, instance.max(initial=0) + 1, instance), kind)


def _colors(classes: Mapping[int, str]) -> list[tuple[str, tuple[int, int, int]]]:
    palette = [(int(r), int(g), int(b)) for r, g, b in color_categories(np.arange(len(COLOR_GROUPS))[None], 7)[0]]
    held = [", ".join(name for name in names if name in classes.values()) for names in COLOR_GROUPS]
    entries = [(words, color) for words, color in zip(held, palette, strict=True) if words]
    others = [("removed: objects without instances", _REMOVED), ("no color: another class, or none", (255, 255, 255))]
    return entries + others


def _file(folder: Path, kind: str, stem: str) -> Path:
    return safe_join(folder, f"{kind}/{LEFT}/{stem}.png")
