"""A data set is rendered into a new or an empty folder, or goes on where it was begun; files of others stay."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.processes import leave_stale_folder
from tests.refusals import refuses

from stadia.core.errors import StadiaError
from stadia.objectpose.table_world import TABLEWORLD
from stadia.overlay.world.foregrounds import CUTOUTS
from stadia.synthetic.config import ROADWORLD_DEMO
from stadia.synthetic.rendering.dataset_files import SceneFormat
from stadia.synthetic.roadworld.roadworld_writer import ROADWORLD

kinds = pytest.mark.parametrize("kind", [ROADWORLD, TABLEWORLD, CUTOUTS], ids=lambda kind: kind.kind)


def write(path: Path, values: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({} if values is None else values))


def begin(kind: SceneFormat, out: Path) -> None:
    scene = out / "train" / "train-00000-mug" if kind is CUTOUTS else out / "train-000"
    write(scene / kind.record, {kind.kind: {}})
    leave_stale_folder(scene.with_name("train-00001"))
    (out / "val").mkdir(exist_ok=True)


def write_preview(kind: SceneFormat, out: Path) -> None:
    kind.write_listing(out, [], ROADWORLD_DEMO, 0, np.zeros((2, 2, 3), np.uint8)).unlink()


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


@kinds
def test_a_preview_is_whole_and_marked_or_not_there(
    kind: SceneFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    replace = os.replace

    def note(source: str, target: str) -> None:
        if Path(target).name == "preview.png":
            written.append(Path(source).read_bytes())
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    write_preview(kind, tmp_path)
    assert len(written) == 1
    assert all(b"stadia-preview" in data for data in written)


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


@pytest.mark.parametrize("name", ["cat/00.png", "cat.png"])
def test_cutouts_are_not_rendered_among_those_of_the_user(name: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / name)
    with refuses(StadiaError, found="train/cat"):
        CUTOUTS.check_folder(tmp_path)
    ROADWORLD.check_folder(tmp_path)  # its scenes are in other folders


@kinds
@pytest.mark.parametrize("name", OTHERS)
def test_files_of_others_are_refused(kind: SceneFormat, name: str, tmp_path: Path) -> None:
    OTHERS[name](kind, tmp_path)
    with pytest.raises(StadiaError):
        kind.check_folder(tmp_path)


Stadia = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", ["roadworld", "tableworld", "foregrounds"])
def test_the_number_of_scenes_is_limited(
    command: str, tmp_path: Path, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = stadia("data", command, "--out", tmp_path / "out", "train=1000000000")
    assert (code, err.count("\n")) == (2, 1)
    assert "train: found 1000000000; expected" in err
    assert "100000" in err
    assert not (tmp_path / "out").exists()
