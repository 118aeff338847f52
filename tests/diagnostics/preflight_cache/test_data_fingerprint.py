"""A fingerprint changes with everything that findings follow from, and there is none where this is unknown."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations.mutated_recording import Mutated

from stadia.core.recording import Recording
from stadia.datasets.frame_store import FrameStore, StoredRecording
from stadia.datasets.open_dataset import open_recordings
from stadia.datasets.recordings import CroppedRecording, FrameRange, ImageRecording, Intrinsics
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.diagnostics.preflight_cache import data_fingerprint
from stadia.diagnostics.preflight_cache.data_fingerprint import NoFingerprintError, fingerprint_data
from stadia.files import input_files

pytestmark = pytest.mark.usefixtures("source")

Opened = Callable[[], list[Recording]]


def fingerprint(recordings: list[Recording], held_out: int = 1, one_camera: tuple[Recording, ...] = ()) -> str:
    """The digest of recordings that train, without their last frames, which validate."""
    parts = [(one, range(len(one) - held_out), range(len(one) - held_out, len(one))) for one in recordings]
    splits = {"train": [(one, train) for one, train, _ in parts], "val": [(one, val) for one, _, val in parts]}
    return fingerprint_data(recordings, splits, one_camera).digest


def put_byte(path: Path, before: bytes, after: bytes) -> None:
    """Change a file in place: its size and its times stay."""
    status, content = path.stat(), path.read_bytes()
    assert len(before) == len(after)
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_equal_data_have_one_fingerprint(folder: Path) -> None:
    assert fingerprint(open_recordings(folder)) == fingerprint(open_recordings(folder))


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image with another time": lambda folder: (folder / "left" / "000003.png").touch(),
    "an image of the other side": lambda folder: (folder / "right" / "000000.png").touch(),
    "an image with its old time": lambda folder: put_byte(folder / "left" / "000000.png", b"IDAT", b"IDAS"),
    "a map of depth": lambda folder: (folder / "depth" / "left" / "000002.npy").touch(),
    "depth that goes": lambda folder: (folder / "depth" / "left" / "000002.npy").unlink(),
    "a byte of the calibration": lambda folder: put_byte(folder / "recording.json", b"120.0", b"120.1"),
    "a byte of the poses": lambda folder: put_byte(folder / "poses.txt", b"0.2", b"0.3"),
    "no poses": lambda folder: (folder / "poses.txt").unlink(),
    "times": lambda folder: (folder / "times.txt").write_text("0\n1\n2\n3\n4\n"),
    "an image with another name": lambda folder: [
        (folder / side / "000004.png").rename(folder / side / "000005.png") for side in ("left", "right")
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_changes_the_fingerprint(folder: Path, change: str) -> None:
    before = fingerprint(open_recordings(folder))
    time.sleep(0.02)  # a step of the file system's clock
    CHANGES[change](folder)
    assert fingerprint(open_recordings(folder)) != before


def test_depth_that_comes_changes_the_fingerprint(tmp_path: Path, world: Any) -> None:
    """Also as a PNG, and as a JPEG, which is refused."""
    folder = world.recording(tmp_path / "drive", depth=False)
    found = {fingerprint(open_recordings(folder))}
    (folder / "depth" / "left").mkdir(parents=True)
    assert {fingerprint(open_recordings(folder))} == found, "an empty folder is no depth"
    for suffix in ("npy", "png", "jpg", "jpeg"):
        (folder / "depth" / "left" / f"000001.{suffix}").touch()
        found.add(fingerprint(open_recordings(folder)))
    assert len(found) == 5


def test_frames_splits_cameras_and_crops_change_the_fingerprint(folder: Path) -> None:
    (whole,) = open_recordings(folder)
    (other,) = open_recordings(folder)
    found = [
        fingerprint([whole]),
        fingerprint([whole], held_out=2),
        fingerprint([whole], one_camera=(whole,)),
        fingerprint([whole, other]),
        fingerprint([FrameRange(whole, 0, 4)]),
        fingerprint([FrameRange(whole, 1, 5)]),
        fingerprint([FrameRange(whole, 0, 5)]),
        fingerprint([CroppedRecording(whole, "none")]),
        fingerprint_data([whole], {}, ()).digest,
        fingerprint_data([whole], {"val": [(whole, range(5))]}, ()).digest,
        fingerprint_data([whole], {"train": [(whole, range(5))]}, ()).digest,
        fingerprint_data([whole], {"train": [(whole, [0, 2, 1])]}, ()).digest,
    ]
    assert len(set(found)) == len(found)
    assert fingerprint([other]) == found[0]
    other.mount = "another car"
    assert fingerprint([other]) != found[0]


def test_another_program_changes_the_fingerprint(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = open_recordings(folder)
    found = [fingerprint(recordings)]
    source.write_text("LIMIT = 2\n")
    found.append(fingerprint(recordings))
    (source.parent / "catalog.toml").write_text("")
    found.append(fingerprint(recordings))
    monkeypatch.setattr(data_fingerprint.np, "__version__", "0.0")
    found.append(fingerprint(recordings))
    assert len(set(found)) == 4


def test_the_program_is_all_of_stadia(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the package counts, the tables of thresholds too."""
    monkeypatch.undo()
    read: list[Path] = []
    monkeypatch.setattr(data_fingerprint, "find_start_s", lambda: float("inf"))
    load = data_fingerprint.read_bytes
    monkeypatch.setattr(data_fingerprint, "read_bytes", lambda path, **limit: read.append(path) or load(path, **limit))
    fingerprint(open_recordings(folder))
    package = Path(data_fingerprint.__file__).parents[2]
    names = {str(path.relative_to(package)) for path in read}
    assert {"diagnostics/preflight/frame_checks.py", "diagnostics/catalog/data.toml", "core/recording.py"} <= names
    assert len(names) > 300


def test_code_that_was_changed_while_the_process_runs_has_no_fingerprint(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may have imported the code that was there before."""
    monkeypatch.setattr(data_fingerprint, "find_start_s", lambda: source.stat().st_mtime - 1)
    with pytest.raises(NoFingerprintError, match="changed while this process runs"):
        fingerprint(open_recordings(folder))


def test_a_fork_is_as_old_as_the_code_that_it_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that was changed after the import and before the fork is not what the fork runs."""
    monkeypatch.undo()
    monkeypatch.setattr(data_fingerprint.psutil.Process, "create_time", lambda process: float("inf"))  # a new fork
    assert data_fingerprint.find_start_s() < time.time()


class OwnDepth(ImageRecording):
    """A class of stadia's by its module, which reads depth from files that it does not list."""

    __module__ = "stadia.datasets.own"

    def depth_m(self, index: int, side: str = "left") -> None:
        return None


def test_classes_of_users_and_unknown_values_have_no_fingerprint(folder: Path) -> None:
    (recording,) = open_recordings(folder)
    with pytest.raises(NoFingerprintError, match=r"Mutated"):
        fingerprint([Mutated(recording)])
    with pytest.raises(NoFingerprintError, match=r"Mutated"):
        fingerprint([FrameRange(Mutated(recording), 0, 3)])
    own = OwnDepth(name="own", images=recording.images, intrinsics=recording.intrinsics)
    with pytest.raises(NoFingerprintError, match="does not list the files of its depth"):
        fingerprint([own])
    with pytest.raises(NoFingerprintError, match="a recording of its own"):
        fingerprint_data([], {"train": [(recording, range(5))]}, ())
    recording.image = lambda index, side="left": np.zeros((96, 160, 3), np.uint8)
    with pytest.raises(NoFingerprintError, match="function"):
        fingerprint([recording])


def test_a_slow_file_system_has_no_fingerprint(folder: Path) -> None:
    with pytest.raises(NoFingerprintError, match="slow file system"):
        fingerprint_data(open_recordings(folder), {}, (), seconds=-1)


def list_unlisted_files(recordings: list[Recording], root: Path, monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The files below a folder that the checks open or look for, and that the fingerprint leaves out."""
    state: list[Any] = []
    create = data_fingerprint._StateHash
    monkeypatch.setattr(data_fingerprint, "_StateHash", lambda until: state.append(create(until)) or state[-1])
    fingerprint(recordings)
    used: set[Path] = set()

    def note(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *given, **options: used.add(Path(path)) or original(path, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(input_files, "_check_status", note(input_files._check_status))
        for name in ("exists", "is_file", "stat", "open"):
            patch.setattr(Path, name, note(getattr(Path, name)))
        half = len(recordings[0]) // 2
        splits = {"train": [(recordings[0], range(half))], "val": [(recordings[0], range(half, 2 * half))]}
        assert run_preflight(recordings, splits)
    below = {path for path in used if path.is_relative_to(root) and not path.is_dir()}
    assert below, "the checks read files"
    return below - state[0]._files.keys()


@pytest.mark.parametrize("layout", ["stadia", "kitti_odometry", "crop", "range"])
def test_every_file_that_the_checks_read_is_in_the_fingerprint(
    tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    root = tmp_path / "data"
    write = world.kitti_odometry if layout == "kitti_odometry" else world.recording
    recordings = open_recordings(write(root))
    if layout == "crop":
        recordings = [CroppedRecording(recordings[0], "none")]
    if layout == "range":
        recordings = [FrameRange(recordings[0], 0, 4)]
    assert list_unlisted_files(recordings, root, monkeypatch) == set()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "options"),
    [
        ("kitti_raw", {}),
        ("kitti_raw", {"ground_truth": "lidar"}),
        ("kitti_raw", {"ground_truth": "velodyne_raw"}),
        ("kitti_odometry", {}),
        ("sevenscenes", {}),
        ("euroc", {}),
    ],
)
def test_every_file_of_real_layouts_is_in_the_fingerprint(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, sample: str, options: dict[str, str]
) -> None:
    """Eight frames have files of every kind that the checks read of all."""
    recordings = [FrameRange(whole, 0, 8) for whole in open_recordings(real_data / sample, **options)]
    assert list_unlisted_files(recordings, real_data, monkeypatch) == set()


def test_a_video_is_known_by_its_store(tmp_path: Path) -> None:
    """Also after a frame was read, which maps the file."""
    stored = tmp_path / "video.rgb"
    stored.write_bytes(bytes(2 * 3 * 4 * 6))
    intrinsics = {"left": Intrinsics(np.eye(3), 4, 6)}

    def make() -> StoredRecording:
        return StoredRecording(name="v", intrinsics=intrinsics, store=FrameStore(stored, 4, 6), content="abc")

    before = make()
    found = fingerprint([before])
    before.image(0)
    assert fingerprint([before]) == fingerprint([make()]) == found
    time.sleep(0.02)
    stored.touch()
    assert fingerprint([make()]) != found


@pytest.mark.slow
def test_another_process_has_the_same_fingerprint(folder: Path, source: Path) -> None:
    program = f"""
from pathlib import Path
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.preflight_cache import data_fingerprint
data_fingerprint.PACKAGE = Path({str(source.parent)!r})
data_fingerprint.find_start_s = lambda: float("inf")
recordings = open_recordings(Path({str(folder)!r}))
print(data_fingerprint.fingerprint_data(recordings, {{"train": [(recordings[0], range(5))]}}, ()).digest)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (recording,) = open_recordings(folder)
    here = fingerprint_data([recording], {"train": [(recording, range(5))]}, ())
    assert done.stdout.strip() == here.digest
