"""Read masks of road and objects from files of a recording, and clean them (docs/how-to/metric.md).

FOLDER/semantic/SIDE/STEM.png contains class numbers, and classes.json their names. Two further files are optional:
instance/SIDE/STEM.png with object numbers, 0 without an object, and heights.json with mean and spread ({"left/000000":
{"3": [1.52, 0.08]}}). Without a folder semantic, FOLDER/STEM.png contains class numbers.
"""

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import Recording, RoadMasks
from stadia.data.height_priors import CLASS_ALIASES, PRIORS, RoadConfig
from stadia.data.mask_objects import Window, find_windows, split_instances
from stadia.io.image_files import encode_name, read_label_png
from stadia.io.input_files import (
    MAX_TEXT_BYTES,
    expand_home,
    name_parser_errors,
    open_input,
    read_bytes,
    read_json,
    read_text,
    safe_join,
    stream_json_lists,
)
from stadia.io.typed_json import FileEntry, read_typed_json, validate_content
from stadia.io.video_decoding import hash_source

Numbers = NDArray[np.int32]
ROAD = "road"
MASKS_RECORD = "prepared.json"
MAKE_MASKS = "make them: stadia masks VIDEO --out MASKS"  # for an error of masks that are missing
# Classes that are split into objects if there are no object numbers.
OBJECT_CLASSES = frozenset({*PRIORS["kitti"], *CLASS_ALIASES, "bus", "bicycle", "motorcycle"})
GROUND_CLASSES = frozenset({ROAD, "sidewalk", "terrain", "parking", "ground"})  # Objects stand on these classes.
# Classes that COCO and panoptic masks number too, but which are neither objects nor occluders.
STUFF_CLASSES = GROUND_CLASSES | {"sky", "building"}
MAX_CLASS = 255  # masks are stored with one byte per pixel
MIN_ROAD_SHARE = 0.01  # share of an image that shows the road
SHAPE_TOLERANCE = 0.02  # relative difference of the aspect ratios of mask and image
_MAX_RUN_BITS = 40  # longest run length of a compressed mask
MAX_COCO_BYTES = 1 << 29  # instances_train2017.json has 450 MB
_LAYOUT = "the layout of masks"
_COCO = "COCO's instances: images, categories, annotations"
_ANNOTATIONS = f"{_COCO}; or polygons of labelme, VIA, CVAT, Supervisely or Label Studio"
_COCO_FIX = (
    "export COCO from the annotation program; of a list of results, add the keys images and categories; convert a"
    " panoptic file by panopticapi"
)


class MaskFiles:
    """The masks in a folder with the layout that this module describes.

    folder: the folder.

    Raises DataError if classes.json is missing or has invalid classes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        names: dict[int, str] = self._parse(dict[int, str], "classes.json")
        self.classes: Mapping[int, str] = {number: name.strip().lower() for number, name in names.items()}
        _check_classes(self.folder / "classes.json", self.classes)

    @classmethod
    def open_beside(cls, recording: Path) -> "MaskFiles | None":
        """Open the masks that belong to a recording, in its folder masks/ or in the folder itself; None without masks.

        recording: folder of the recording.
        """
        found = next((folder for folder in (recording / "masks", recording) if (folder / "semantic").is_dir()), None)
        return None if found is None else cls(found)

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks of an image resized to `height` x `width`; None if the image has none.

        stem: name of the image file without its suffix.
        side: "left" or "right".

        Raises DataError for a damaged mask, a different aspect ratio, or class numbers above 255.
        """
        path = self._file("semantic", side, stem)
        if not path.exists():
            return None
        semantic = _resize_checked(path, read_label_png(path), height, width)
        _check_classes(path, [int(semantic.max(initial=0))])
        instance_file = self._file("instance", side, stem)
        if instance_file.exists():
            instance = _resize_checked(instance_file, read_label_png(instance_file), height, width)
        else:
            instance = _split_classes(semantic, self.classes)
        return remove_stuff(RoadMasks(semantic.astype(np.uint8), instance.astype(np.uint16)), self.classes)

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return the known heights of an image's objects, mean and standard deviation in metres, by object number."""
        return self._heights.get(f"{side}/{stem}", {})

    def fingerprint(self, side: str) -> str:
        """Return a hash of the masks of one side ("left" or "right"): of the names, sizes and times of their files."""
        digest = hashlib.blake2b(digest_size=16)
        for kind in ("semantic", "instance"):
            folder = self.folder if self._is_flat and kind == "semantic" else self.folder / kind / side
            for path in sorted(folder.glob("*.png")):
                state = path.stat()
                digest.update(encode_name(f"{kind}/{path.name}:{state.st_size}:{state.st_mtime_ns}\n"))
        for name in ("classes.json", "heights.json"):
            path = self.folder / name
            exists = path.exists()
            digest.update(read_bytes(path, expected=_LAYOUT, max_bytes=MAX_TEXT_BYTES) if exists else b"-")
        return digest.hexdigest()

    @cached_property
    def _heights(self) -> dict[str, dict[int, tuple[float, float]]]:
        kind, exists = dict[str, dict[int, tuple[float, float]]], (self.folder / "heights.json").exists()
        return self._parse(kind, "heights.json") if exists else {}

    @cached_property
    def _is_flat(self) -> bool:
        return not (self.folder / "semantic").is_dir()

    def _file(self, kind: str, side: str, stem: str) -> Path:
        if self._is_flat and kind == "semantic":
            return safe_join(self.folder, f"{stem}.png")
        return safe_join(self.folder, f"{kind}/{side}/{stem}.png")

    def _parse(self, kind: Any, name: str) -> Any:
        return read_typed_json(self.folder / name, kind, expected=_LAYOUT, fix="see docs/how-to/metric.md")


def attach_masks(recordings: Sequence[Recording], folder: Path) -> None:
    """Attach masks to each recording that has none: from FOLDER/NAME, or FOLDER if there is only one recording.

    recordings: changed in place.
    folder: the folder.

    Raises DataError if no recording gets masks, or masks belong to another video.
    """
    bare = [recording for recording in recordings if recording.mask_reader is None]
    for recording in bare:
        places = [folder / recording.name, folder / Path(recording.name).name, *[folder] * (len(recordings) == 1)]
        found = next((place for place in places if (place / "semantic").is_dir()), None)
        if found is not None:
            check_masks_of(found, hash_frames(recording))
        recording.mask_reader = None if found is None else MaskFiles(found)
    if bare and all(recording.mask_reader is None for recording in bare):
        own = "" if len(recordings) == 1 else f"a folder {bare[0].name} with "
        missing = f"no masks of {bare[0].name}"
        raise DataError(folder, found=missing, expected=f"{own}semantic/left/ in it", fix=MAKE_MASKS)


def hash_frames(recording: Recording) -> str:
    """Return a hash of the frames of a user's video or folder of images; "" for recordings of datasets.

    It does not depend on the camera.
    """
    file = recording.file(0) if recording.has_stride and len(recording) else None
    return recording.video_hash if file is None else hash_source(file.parent)


def check_masks_of(folder: Path, content: str) -> None:
    """Raise DataError if `stadia masks` made the masks in a folder for a different video.

    folder: folder of masks.
    content: hash of the recording's frames, the result of `hash_frames`.
    """
    path = folder / MASKS_RECORD
    made = read_json(path) if path.is_file() else None
    of = made.get("source") if isinstance(made, dict) else None
    if of and content and of != content:
        raise DataError(folder, found="masks of another video", expected="masks of this video", fix=MAKE_MASKS)


def _check_classes(path: Path, numbers: Iterable[int]) -> None:
    if wrong := [number for number in numbers if not 0 <= number <= MAX_CLASS]:
        fix = "renumber the classes in classes.json and in the masks"
        raise DataError(path, found=f"class number {wrong[0]}", expected=f"0 to {MAX_CLASS}", fix=fix)


def _resize_checked(path: Path, numbers: Numbers, height: int, width: int) -> Numbers:
    _check_shape(path, numbers.shape[0], numbers.shape[1], height, width)
    return resize_labels(numbers, height, width)


def _check_shape(what: object, mask_height: int, mask_width: int, height: int, width: int) -> None:
    if abs(mask_width * height / (mask_height * width) - 1) > SHAPE_TOLERANCE:
        fix = "make the masks for the whole images, upright as these are shown, neither cropped nor stretched"
        expected = f"the shape of the {width}x{height} image"
        raise DataError(what, found=f"a mask of {mask_width}x{mask_height}", expected=expected, fix=fix)


def resize_labels(numbers: Numbers, height: int, width: int) -> Numbers:
    """Resize a map of class or object numbers (h, w) to (height, width) by the nearest pixel.

    Examples:
        >>> resize_labels(np.array([[0, 1], [2, 3]], np.int32), 4, 4)[0].tolist()
        [0, 0, 1, 1]
    """
    if numbers.shape == (height, width):
        return numbers
    return cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def select_classes(
    semantic: NDArray[np.integer], classes: Mapping[int, str], names: Collection[str]
) -> NDArray[np.bool_]:
    """Return a mask (H, W) that is true for pixels whose class has one of the names.

    semantic: (H, W) class numbers.
    classes: names of the classes by number.
    """
    return np.isin(semantic, [number for number, name in classes.items() if name in names])


def has_road(semantic: NDArray[np.integer], classes: Mapping[int, str]) -> bool:
    """Return whether more than 1 % (MIN_ROAD_SHARE) of an image is road.

    semantic: (H, W) class numbers.
    classes: names of the classes by number.
    """
    return bool(select_classes(semantic, classes, {ROAD}).mean() > MIN_ROAD_SHARE)


def remove_stuff(masks: RoadMasks, classes: Mapping[int, str]) -> RoadMasks:
    """Return masks without the pixels of ground, sky and buildings (`STUFF_CLASSES`).

    masks: class and object numbers of an image.
    classes: names of the classes by number.
    """
    is_stuff = select_classes(masks.semantic, classes, STUFF_CLASSES)
    return RoadMasks(masks.semantic, np.where(is_stuff, 0, masks.instance).astype(np.uint16))


def resize_masks(masks: RoadMasks, height: int, width: int) -> RoadMasks:
    """Resize the class numbers and object numbers of an image to (height, width), without mixing numbers."""
    semantic, instance = (
        resize_labels(labels.astype(np.int32), height, width) for labels in (masks.semantic, masks.instance)
    )
    return RoadMasks(semantic.astype(np.uint8), instance.astype(np.uint16))


def _split_classes(semantic: Numbers, classes: Mapping[int, str]) -> Numbers:
    """Split the classes of objects into objects; 0 if no single object is found."""
    ground = select_classes(semantic, classes, GROUND_CLASSES)
    instance, count = np.zeros(semantic.shape, np.int32), 0
    for number in (number for number, name in classes.items() if name in OBJECT_CLASSES):
        for window, mask in split_instances(semantic == number, ground):
            count += 1
            shown = instance[window]
            shown[mask & (shown == 0)] = count
    return instance


def clean_masks(masks: RoadMasks, config: RoadConfig) -> RoadMasks:
    """Return masks with the measurable objects only: the largest connected component of each, with its commonest class.

    Objects that are too small or too occluded get number 0. Objects at the image border stay, because mirrored and
    zoomed samples have different borders.

    masks: class and object numbers of an image.
    config: limits of size and occlusion.
    """
    semantic, instance = masks.semantic.copy(), np.zeros_like(masks.instance)
    least, windows = config.min_object_share * semantic.size, find_windows(masks.instance)
    for number, window in windows.items():
        mask = (masks.instance[window] == number).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
        piece = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        if np.count_nonzero(piece) >= least:
            instance[window][piece] = number
            semantic[window][piece] = np.bincount(semantic[window][piece]).argmax()
    kept = [int(number) for number in np.unique(instance) if number]
    hidden = [number for number in kept if measure_occlusion(masks.instance, number, windows) > config.max_occlusion]
    instance[np.isin(instance, hidden)] = 0
    return RoadMasks(semantic, instance)


def measure_occlusion(instance: NDArray[np.uint16], number: int, windows: Mapping[int, Window] | None = None) -> float:
    """Return the share of an object's outline that touches nearer objects, from 0 to 1.

    An object counts as nearer if its lowest pixel is lower in the image.

    instance: (H, W) object numbers.
    number: number of the object.
    windows: window of each object (rows, columns), if already known.
    """
    windows = find_windows(instance) if windows is None else windows
    rows, columns = windows[number]
    shown = instance[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1]
    mask = (shown == number).astype(np.uint8)
    outline = shown[(cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0) & (mask == 0)]
    nearer = [neighbor for neighbor in np.unique(outline) if neighbor and windows[int(neighbor)][0].stop > rows.stop]
    return float(np.isin(outline, nearer).mean()) if len(outline) else 0.0


def make_road_rectangle(shares: tuple[float, float, float, float], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask (H, W) bool that assumes the road in a fixed rectangle of the image (VADepth).

    shares: left, top, right and bottom of the rectangle as shares of the image's width and height.
    size: (H, W) of the mask.
    """
    left, top, right, bottom = shares
    road = np.zeros(size[:2], bool)
    road[int(top * size[0]) : int(bottom * size[0]), int(left * size[1]) : int(right * size[1])] = True
    return road


def find_edge_objects(instance: NDArray[np.integer], margin: int) -> NDArray[np.integer]:
    """Return the numbers (K,) of the objects that are within `margin` pixels of the border.

    instance: (H, W) object numbers.
    """
    if margin < 1:
        return instance[:0, 0]
    edges = instance[:margin], instance[-margin:], instance[:, :margin], instance[:, -margin:]
    edge = np.concatenate([part.ravel() for part in edges])
    return np.unique(edge[edge > 0])


class _CocoImage(FileEntry):
    id: int
    file_name: str
    height: int | None = Field(default=None, ge=1, le=1 << 15)  # VIA writes no size
    width: int | None = Field(default=None, ge=1, le=1 << 15)


class _Category(FileEntry):
    id: int
    name: str


class _Runs(FileEntry):
    counts: list[Annotated[int, Field(ge=0, le=1 << 30)]] | str
    size: tuple[int, int]


class _Annotation(FileEntry):
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _Runs


_COCO_LISTS: Mapping[str, type[FileEntry]] = {"images": _CocoImage, "categories": _Category, "annotations": _Annotation}


@dataclass(frozen=True, slots=True)
class _Shape:
    """An annotation as arrays, which take little memory; `lengths` of polygons, None for runs."""

    category_id: int
    numbers: NDArray[np.float64] | NDArray[np.int64] | str
    lengths: NDArray[np.int64] | None
    size: tuple[int, int]

    @classmethod
    def pack(cls, annotation: _Annotation) -> "_Shape":
        shape = annotation.segmentation
        if isinstance(shape, _Runs):
            counts = shape.counts if isinstance(shape.counts, str) else np.array(shape.counts, np.int64)
            return cls(annotation.category_id, counts, None, shape.size)
        numbers = np.fromiter(chain.from_iterable(shape), np.float64)
        return cls(annotation.category_id, numbers, np.array([len(polygon) for polygon in shape], np.int64), (0, 0))


Polygons = list[tuple[str, list[float]]]
"""Label of each object, and x, y of its corners."""

_HEAD_BYTES = 1 << 16  # The first bytes of a JSON file show the program that wrote it.
_PROGRAM_KEYS = (b'"shapes"', b'"regions"', b'"_via_', b'"classTitle"', b'"original_width"')
_UPLOAD = re.compile(r"[0-9a-f]+-")  # Label Studio puts this in front of the names of images.


def _list_polygons(path: Path) -> Iterator[tuple[str, Any, Any, Polygons]]:
    """Yield name, width, height and objects of each image that was annotated with labelme, VIA, CVAT, Supervisely
    or Label Studio.

    path: a file of labelme or Supervisely for an image, or a folder of them; JSON of VIA or Label Studio;
        CVAT's XML. Other files yield nothing.
    """
    if path.suffix.lower() == ".xml":
        text = read_text(path, expected=_ANNOTATIONS, max_bytes=MAX_COCO_BYTES)
        for image in ElementTree.fromstring(text if "<!" not in text.replace("<!--", "") else "<none/>").iter("image"):
            yield image.get("name", ""), image.get("width"), image.get("height"), list(_list_cvat_objects(image))
        return
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        with open_input(file, expected=_COCO, max_bytes=MAX_COCO_BYTES) as stream:
            head = stream.read(_HEAD_BYTES)
        if not any(key in head for key in _PROGRAM_KEYS):
            continue
        content = read_json(file, expected=_ANNOTATIONS, max_bytes=MAX_COCO_BYTES)
        if isinstance(content, dict) and "shapes" in content:
            objects = [(str(one.get("label")), _find_corners(one.get("points", ()))) for one in content["shapes"]]
            yield content.get("imagePath") or file.stem, content.get("imageWidth"), content.get("imageHeight"), objects
        elif isinstance(content, dict) and "objects" in content:  # Supervisely's NAME.jpg.json
            size = content.get("size", {})
            objects = [(str(one.get("classTitle")), _find_exterior(file, one)) for one in content["objects"]]
            yield file.stem, size.get("width"), size.get("height"), objects
        elif isinstance(content, list):
            for task in content:
                yield _read_label_studio(file, task)
        elif isinstance(content, dict):
            for image in content.get("_via_img_metadata", content).values():
                regions = image.get("regions", ()) if isinstance(image, dict) else ()
                regions = regions.values() if isinstance(regions, dict) else regions
                yield str(image.get("filename")), None, None, [_read_via_object(region) for region in regions]


def _list_cvat_objects(image: ElementTree.Element) -> Iterator[tuple[str, list[float]]]:
    for one in image:
        sides = [one.get(key) for key in ("xtl", "ytl", "xbr", "ybr")]
        if one.tag == "box":
            yield one.get("label", ""), _find_corners([sides[:2], sides[2:]])
        elif one.tag == "polygon":
            yield one.get("label", ""), _find_corners([pair.split(",") for pair in one.get("points", "").split(";")])


def _find_exterior(path: Path, one: Mapping[str, Any]) -> list[float]:
    if one.get("geometryType") == "bitmap":
        raise DataError(path, found="bitmaps of Supervisely", expected=_ANNOTATIONS, fix="export it as COCO")
    return _find_corners(one.get("points", {}).get("exterior", ()))


def _read_label_studio(path: Path, task: Mapping[str, Any]) -> tuple[str, Any, Any, Polygons]:
    """Return name, width, height and objects of a task, whose corners are percents of the sides."""
    results = [result for annotation in task.get("annotations", ()) for result in annotation.get("result", ())]
    objects, size = Polygons(), (None, None)
    for result in results:
        value, size = result.get("value", {}), (result.get("original_width"), result.get("original_height"))
        if "rle" in value:
            raise DataError(path, found="brushes of Label Studio", expected=_ANNOTATIONS, fix="export it as COCO")
        points = [(x / 100 * size[0], y / 100 * size[1]) for x, y in value.get("points", ())]
        objects.append((str(next(iter(value.get("polygonlabels", ())), "object")), _find_corners(points)))
    image = Path(str(next(iter(task.get("data", {}).values()), ""))).name
    return _UPLOAD.sub("", image, count=1), *size, objects


def _read_via_object(region: Mapping[str, Any]) -> tuple[str, list[float]]:
    shape, names = region.get("shape_attributes", {}), region.get("region_attributes", {})
    label = next((str(value) for value in names.values() if isinstance(value, str) and value), "object")
    if "width" in shape:
        x, y = shape["x"], shape["y"]
        return label, _find_corners([(x, y), (x + shape["width"], y + shape["height"])])
    return label, _find_corners(zip(shape.get("all_points_x", ()), shape.get("all_points_y", ()), strict=False))


def _find_corners(points: Iterable[Sequence[Any]]) -> list[float]:
    """Return x, y of a polygon's corners; of a rectangle, which has two points, of all four. Lines have none."""
    values = [float(value) for point in points for value in point[:2]]
    if len(values) == 4:
        left, top, right, bottom = values
        return [left, top, right, top, right, bottom, left, bottom]
    return values if len(values) >= 6 else []


def _convert_annotations(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the annotations of other programs as the entries of a COCO file's lists."""
    numbers = dict[str, int]()
    for image_id, (name, width, height, objects) in enumerate(_list_polygons(path)):
        yield "images", {"id": image_id, "file_name": name.replace("\\", "/"), "width": width, "height": height}
        for label, corners in objects:
            if corners:
                category = numbers.setdefault(label, len(numbers) + 1)
                yield "annotations", {"image_id": image_id, "category_id": category, "segmentation": [corners]}
    yield from (("categories", {"id": number, "name": name}) for name, number in numbers.items())


class CocoMasks:
    """Masks of left images from a COCO file (cocodataset.org/#format-data), matched by the names of the images.

    path: the COCO file; or annotations that `_list_polygons` reads.

    Raises DataError for a damaged file or more than 255 categories.
    """

    def __init__(self, path: Path) -> None:
        self.path = expand_home(path)
        self._images: dict[str, _CocoImage] = {}
        self._of_image: dict[int, list[_Shape]] = defaultdict(list)
        categories = list[_Category]()
        with name_parser_errors(self.path, expected=_ANNOTATIONS):
            entries = list(_convert_annotations(self.path))
        if not entries and self.path.suffix.lower() != ".json":
            raise DataError(self.path, found="no annotated image", expected=_ANNOTATIONS, fix=_COCO_FIX)
        for name, content in entries or stream_json_lists(
            self.path, _COCO_LISTS, expected=_COCO, max_bytes=MAX_COCO_BYTES, fix=_COCO_FIX
        ):
            where = f"{self.path}: {name}"
            entry = validate_content(where, content, _COCO_LISTS[name], expected=_COCO, fix=_COCO_FIX)
            if isinstance(entry, _CocoImage):
                self._images[Path(entry.file_name).stem] = entry
            elif isinstance(entry, _Category):
                categories.append(entry)
            else:
                self._of_image[entry.image_id].append(_Shape.pack(entry))
        if len(categories) > 255:
            raise DataError(
                self.path,
                found=f"{len(categories)} categories",
                expected="at most 255",
                fix="remove categories that you do not use from the file",
            )
        self._number = {category.id: number for number, category in enumerate(categories, start=1)}
        self.classes: Mapping[int, str] = {
            self._number[category.id]: category.name.strip().lower() for category in categories
        }

    def read(self, stem: str, side: str, *, height: int, width: int) -> RoadMasks | None:
        """Return the masks of an image resized to `height` x `width`; None if the file does not contain the image.

        stem: name of the image file without its suffix.
        side: only "left" has masks.

        Raises DataError for a damaged mask or a different aspect ratio.
        """
        image = self._images.get(stem)
        if image is None or side != "left":
            return None
        what = f"{self.path}: {image.file_name}"
        size = (height if image.height is None else image.height, width if image.width is None else image.width)
        _check_shape(what, *size, height, width)
        shapes = self._of_image[image.id]
        semantic, instance = np.zeros(size, np.uint8), np.zeros(size, np.uint16)
        areas = [int(np.count_nonzero(_decode_mask(shape, size, what))) for shape in shapes]
        for number, index in enumerate(np.argsort(np.negative(areas), kind="stable"), start=1):
            mask = _decode_mask(shapes[index], size, what)  # again, because all masks together need gigabytes
            semantic[mask], instance[mask] = self._find_class(shapes[index], what), number
        return resize_masks(remove_stuff(RoadMasks(semantic, instance), self.classes), height, width)

    def heights_m(self, stem: str, side: str) -> Mapping[int, tuple[float, float]]:
        """Return an empty mapping, because COCO contains no heights."""
        return {}

    def fingerprint(self, side: str) -> str:
        """Return a hash of the COCO file, which is the same for both sides."""
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted(self.path.glob("*.json")) if self.path.is_dir() else [self.path]:
            with open_input(path, expected=_COCO, max_bytes=MAX_COCO_BYTES) as stream:
                while part := stream.read(1 << 20):
                    digest.update(part)
        return digest.hexdigest()

    def _find_class(self, annotation: _Shape, what: str) -> int:
        if annotation.category_id not in self._number:
            found = f"category_id {annotation.category_id}"
            raise DataError(what, found=found, expected="one of its categories", fix="export the file again")
        return self._number[annotation.category_id]


def _decode_mask(shape: _Shape, size: tuple[int, int], what: str) -> NDArray[np.bool_]:
    height, width = size
    if shape.lengths is None:
        runs = decode_run_lengths(shape.numbers) if isinstance(shape.numbers, str) else shape.numbers.tolist()
        if shape.size != size or min(runs, default=0) < 0 or sum(runs) != height * width:
            found = f"runs of {min(sum(runs), 1 << 62)} pixels, size {shape.size}"
            raise DataError(what, found=found, expected=f"runs of {size[1]}x{size[0]}", fix="export the file again")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    mask = np.zeros(size, np.uint8)
    for points in np.split(np.asarray(shape.numbers), np.cumsum(shape.lengths)[:-1]) if len(shape.lengths) else ():
        if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all() or np.abs(points).max() > 1 << 16:
            found, expected = f"a polygon of {len(points)} numbers", "x, y of 3 points or more"
            raise DataError(what, found=found, expected=expected, fix="export the file again")
        corners = ((points.reshape(-1, 2) - 0.5) * 16).round().astype(np.int32)  # COCO counts from a pixel's corner
        cv2.fillPoly(mask, [corners], 1, shift=4)
    return mask > 0


def decode_run_lengths(text: str) -> list[int]:
    """Decode COCO's compressed run lengths, which start with background.

    Each letter has 5 digits and a continuation bit. From the third run on, a value is added to the run before the last.
    Invalid text gives lengths that do not fit the image.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        digit = ord(letter) - 48
        if shift > _MAX_RUN_BITS:
            return [-1]
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            if digit & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


REJECTED = ("disagrees with the others", "stands above the horizon")
"""Judgements of `stadia camera-height` that exclude an object from a training.

The training itself checks the image border, size and occlusion of objects.
"""


class _Object(FileEntry):
    """An object of an estimate from the horizon."""

    frame: str
    number: int = 0
    verdict: str


class _Measured(FileEntry):
    """An object of an estimate from depth."""

    number: int = 0
    metres_over_unit: float | None = None
    accepted: bool


class _Frame(FileEntry):
    recording: str
    frame: str
    objects: list[_Measured]


class _HeightFile(FileEntry):
    format: str = Field(pattern="^stadia-camera-height$")
    each: list[_Object] = Field(default_factory=list)
    frames: list[_Frame] | int = 0


@lru_cache(maxsize=4)
def read_rejected_objects(path: str) -> Mapping[str, frozenset[int]]:
    """Return the numbers of the objects that `stadia camera-height` rejected, by "RECORDING/STEM" of their image.

    path: the camera_height.json that it wrote.

    Raises DataError for a damaged file, or if its objects have no numbers.
    """
    file = expand_home(path)
    read: _HeightFile = read_typed_json(
        file,
        _HeightFile,
        expected="camera_height.json of `stadia camera-height --out`",
        fix="pass that file as road.verdicts",
    )
    rejected: dict[str, set[int]] = {}
    judged = [(one.frame, one.number, one.verdict in REJECTED) for one in read.each]
    for frame in read.frames if isinstance(read.frames, list) else []:
        name = f"{frame.recording}/{Path(frame.frame).name}"
        judged += [(name, one.number, not one.accepted and one.metres_over_unit is not None) for one in frame.objects]
    if judged and not any(number for _, number, _ in judged):
        fix = f"{MAKE_MASKS}; then run stadia camera-height with masks=MASKS"
        raise DataError(file, found="objects without numbers", expected="objects of masks", fix=fix)
    for name, number, is_rejected in judged:
        if is_rejected and number:
            rejected.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in rejected.items()}
