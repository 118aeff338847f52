"""Tables with things on them, rendered small, and ways to spoil their labels and files: O01 to O05, D01."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tests.mutations.mutation import MutationCase

from stadia.judge.finding import Finding, Stage
from stadia.objectpose.config import TABLEWORLD_TINY
from stadia.objectpose.data.object_folder import ObjectFolder
from stadia.objectpose.label_checks import check_object_labels, survey_objects
from stadia.objectpose.table_world import write_tableworld

Entry = dict[str, Any]
SIZES = {"train": 8, "val": 3, "test": 0, "views": 2, "height": 64, "width": 80, "supersampling": 1}


@cache
def _rendered() -> TemporaryDirectory[str]:
    """Once a process; the folder goes when it ends."""
    folder = TemporaryDirectory()
    write_tableworld(TABLEWORLD_TINY.model_copy(update=SIZES), Path(folder.name) / "tiny", workers=1)
    return folder


def tables(folder: Path) -> Path:
    """A copy, every object of which is seen, and every class in training."""
    copy = Path(copytree(Path(_rendered().name) / "tiny", folder / "tiny"))
    _each_image(copy, _without_what_is_hidden)
    classes = {
        entry["class"]
        for scene in copy.glob("train-*/scene.json")
        for p in json.loads(scene.read_text())["images"]
        for entry in p["objects"]
    }
    _each_image(
        copy,
        lambda objects, instance: _kept(objects, instance, [entry["class"] in classes for entry in objects]),
        "val",
    )
    return copy


def found(dataset: Path) -> list[Finding]:
    """What `stadia train objectpose` finds of its data before it trains."""
    return check_object_labels({split: survey_objects(ObjectFolder.open(dataset, split)) for split in ("train", "val")})


Instance = NDArray[np.uint8]
Change = Callable[[list[Entry], Instance], tuple[list[Entry], Instance]]


def _each_image(dataset: Path, change: Change, splits: str = "*") -> None:
    """The objects of every image, and its map of which pixel is whose (from 1), become others."""
    for path in sorted(dataset.glob(f"{splits}-*/scene.json")):
        scene = json.loads(path.read_text())
        for number, image in enumerate(scene["images"]):
            file = path.parent / "instance" / f"{number:03d}.png"
            image["objects"], instance = change(image["objects"], cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
            cv2.imwrite(str(file), instance)
        path.write_text(json.dumps(scene))


def _kept(objects: list[Entry], instance: Instance, stays: list[bool]) -> tuple[list[Entry], Instance]:
    """Those that stay, numbered anew; the pixels of others are nobody's."""
    numbers = np.zeros(len(objects) + 1, np.uint8)
    numbers[1:][stays] = np.arange(1, sum(stays) + 1)
    return [entry for entry, stay in zip(objects, stays, strict=True) if stay], numbers[instance]


def _without_what_is_hidden(objects: list[Entry], instance: Instance) -> tuple[list[Entry], Instance]:
    return _kept(objects, instance, [bool((instance == place).any()) for place in range(1, len(objects) + 1)])


def _labels(change: Callable[[Entry], dict[str, Any]]) -> Change:
    return lambda objects, instance: ([entry | change(entry) for entry in objects], instance)


def _times(key: str, factor: float) -> Change:
    return _labels(lambda entry: {key: [value * factor for value in entry[key]]})


def _xyzw(entry: Entry) -> dict[str, Any]:
    w, *xyz = entry["quaternion_wxyz"]
    return {"quaternion_wxyz": [*xyz, w]}


def _reversed(objects: list[Entry], instance: Instance) -> tuple[list[Entry], Instance]:
    """Poses and sizes of the objects in reverse; masks as they are."""
    poses = [{key: entry[key] for key in ("quaternion_wxyz", "t_camera_object_m", "size_m")} for entry in objects]
    return [entry | pose for entry, pose in zip(objects, reversed(poses), strict=True)], instance


def _first_hidden(objects: list[Entry], instance: Instance) -> tuple[list[Entry], Instance]:
    return objects, np.where(instance == 1, 0, instance).astype(np.uint8)


def _nothing(objects: list[Entry], instance: Instance) -> tuple[list[Entry], Instance]:
    return [], np.zeros_like(instance)


def _without(name: str) -> Change:
    return lambda objects, instance: _kept(objects, instance, [entry["class"] != name for entry in objects])


def _case(name: str, code: str, change: Change, splits: str = "*") -> MutationCase:
    def broken(folder: Path) -> list[Finding]:
        dataset = tables(folder)
        _each_image(dataset, change, splits)
        return found(dataset)

    return MutationCase(name, (code,), Stage.DATA, broken, correct=lambda folder: found(tables(folder)))


def _spoiled(name: str, spoil: Callable[[Path], object]) -> MutationCase:
    def broken(folder: Path) -> list[Finding]:
        dataset = tables(folder)
        spoil(next(iter(sorted(dataset.glob("train-*/image/000.png")))))
        return found(dataset)

    return MutationCase(name, ("D01",), Stage.DATA, broken, correct=lambda folder: found(tables(folder)))


ROWS = (
    _case("labeled objects that no pixel shows", "O01", _first_hidden),
    _case("no object in training", "O02", _nothing, "train"),
    _case("a class that is held out alone", "O03", _without("can"), "train"),
    _case("quaternions x, y, z, w", "O05", _labels(_xyzw)),
    _case("objects numbered in reverse", "O05", _reversed, "train"),
    _case("half the size for the size", "O05", _times("size_m", 0.5)),
    _case("sizes of another unit", "O05", _times("size_m", 2.5)),
    _case("translations of another scale", "O05", _times("t_camera_object_m", 1.6)),
    _spoiled("an image that is gone", Path.unlink),
    _spoiled("an image that is cut off", lambda file: file.write_bytes(file.read_bytes()[:-40])),
    _spoiled("a text for an image", lambda file: file.write_text("a table")),
)
