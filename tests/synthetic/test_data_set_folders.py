"""A data set is rendered into a new or an empty folder, or goes on where it was begun; files of others stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stadia.core.errors import StadiaError
from stadia.synthetic.rendering.dataset_files import SceneFormat
from stadia.synthetic.roadworld.config import DEMO
from stadia.synthetic.roadworld.roadworld_writer import ROADWORLD
from stadia.synthetic.tableworld.tableworld_writer import CUTOUTS, TABLEWORLD

kinds = pytest.mark.parametrize("kind", [ROADWORLD, TABLEWORLD, CUTOUTS], ids=lambda kind: kind.kind)


def write(path: Path, values: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({} if values is None else values))


def begin(kind: SceneFormat, out: Path) -> None:
    """Write a scene, and what a killed rendering of another one leaves."""
    scene = out / "train" / "train-00000-mug" if kind is CUTOUTS else out / "train-000"
    write(scene / kind.record, {kind.kind: {}})
    write(scene.with_name(".train-00001.partial") / "left.png")
    (out / "val").mkdir(exist_ok=True)


def write_preview(kind: SceneFormat, out: Path) -> None:
    """Write a preview without the list that follows."""
    kind.write_listing(out, [], DEMO, 0, np.zeros((2, 2, 3), np.uint8)).unlink()


@kinds
def test_what_was_begun_or_finished_goes_on(kind: SceneFormat, tmp_path: Path) -> None:
    out = tmp_path / "data"
    kind.check_folder(out)
    out.mkdir()
    kind.check_folder(out)
    begin(kind, out)
    write(out / "notes.txt")
    (out / "lost+found").mkdir(mode=0)  # of the root of a disk
    kind.check_folder(out)
    write_preview(kind, out)  # before the list
    kind.check_folder(out)
    write(out / kind.listing, {kind.kind: {}})
    kind.check_folder(out)


OTHERS: dict[str, Callable[[SceneFormat, Path], None]] = {
    "a list of the user": lambda kind, out: write(out / kind.listing, {"my": "data"}),
    "a list of values": lambda kind, out: write(out / kind.listing, []),
    "another kind": lambda kind, out: write(out / kind.listing, {"format": "stadia", "other": {}}),
    "a preview": lambda kind, out: write(out / "preview.png"),
    "a preview beside scenes": lambda kind, out: (begin(kind, out), write(out / "preview.png"))[0],
    "a preview of another kind": lambda kind, out: write_preview(ROADWORLD if kind is CUTOUTS else CUTOUTS, out),
    "a link as preview": lambda kind, out: (out / "preview.png").symlink_to("elsewhere"),
    "another list": lambda kind, out: write(out / (ROADWORLD if kind is CUTOUTS else CUTOUTS).listing),
}


@kinds
@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others_are_refused(kind: SceneFormat, name: str, tmp_path: Path) -> None:
    OTHERS[name](kind, tmp_path)
    with pytest.raises(StadiaError, match=r"nothing is overwritten"):
        kind.check_folder(tmp_path)
