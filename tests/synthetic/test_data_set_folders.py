"""A data set is rendered into a new or an empty folder, or goes on where it was begun; files of others stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stadia.core.errors import StadiaError
from stadia.synthetic.rendering.dataset_files import SceneFormat
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


@kinds
def test_what_was_begun_or_finished_goes_on(kind: SceneFormat, tmp_path: Path) -> None:
    out = tmp_path / "data"
    kind.check_folder(out)
    out.mkdir()
    kind.check_folder(out)
    begin(kind, out)
    kind.check_folder(out)
    write(out / "preview.png")  # it is written before the list
    kind.check_folder(out)
    write(out / kind.listing, {kind.kind: {}})
    write(out / "notes.txt")
    kind.check_folder(out)


OTHERS: dict[str, Callable[[SceneFormat, Path], None]] = {
    "a list of the user": lambda kind, out: write(out / kind.listing, {"my": "data"}),
    "a list of values": lambda kind, out: write(out / kind.listing, []),
    "another kind": lambda kind, out: write(out / kind.listing, {"format": "stadia", "other": {}}),
    "a preview": lambda kind, out: write(out / "preview.png"),
    "a file": lambda kind, out: write(out / "thesis.txt"),
    "a folder of that name": lambda kind, out: write(out / "train-000" / "notes.txt"),
    "a file beside scenes": lambda kind, out: (begin(kind, out), write(out / "thesis.txt"))[0],
}


@kinds
@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others_are_refused(kind: SceneFormat, name: str, tmp_path: Path) -> None:
    OTHERS[name](kind, tmp_path)
    with pytest.raises(StadiaError, match=r"nothing is overwritten"):
        kind.check_folder(tmp_path)
