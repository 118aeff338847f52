"""Kept findings are those of a check, and are used only where nothing changed that they follow from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations.mutated_recording import Mutated

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))

from rendered_world import World
from rendered_world import _own_cache as _own_cache
from rendered_world import world as world

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.formats.stadia_folder import FolderRecording
from stadia.datasets.frame_store import FrameStore, StoredRecording
from stadia.datasets.open_dataset import open_recordings
from stadia.datasets.recordings import CroppedRecording, FrameRange, ImageRecording, Intrinsics
from stadia.datasets.shards.shard_source import ShardRequest, shard_dataset
from stadia.diagnostics import findings_cache
from stadia.diagnostics.finding import Finding, Severity, Stage
from stadia.diagnostics.findings_cache import FindingsCache, KeptFindings, NoFingerprintError, fingerprint_data
from stadia.diagnostics.not_checked import report_incomplete
from stadia.diagnostics.preflight import frame_checks, preflight_runner
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.files import input_files, paths

LONG_AGO_S = 1.6e9


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file of the program, as old as this process requires."""
    file = tmp_path / "source" / "check.py"
    file.parent.mkdir()
    file.write_text("LIMIT = 1\n")
    monkeypatch.setattr(findings_cache, "PACKAGE", file.parent)
    monkeypatch.setattr(findings_cache, "find_start_s", lambda: float("inf"))
    monkeypatch.setattr(findings_cache, "MIN_AGE_S", -3600.0)  # the files of a test are new
    return file


@pytest.fixture
def folder(tmp_path: Path, world: World) -> Path:
    """One stereo recording of five frames with depth, poses and times, in the stadia layout."""
    recording = world.recording(tmp_path / "data" / "drive")
    os.utime(recording / "left" / "000000.png", (LONG_AGO_S, LONG_AGO_S))
    return recording


# -- The fingerprint.


def fingerprint(recordings: list[Recording], held_out: int = 1, one_camera: tuple[Recording, ...] = ()) -> str:
    """The digest of recordings that train, without their last frames, which validate."""
    ends = {recording: len(recording) - held_out for recording in recordings}
    splits = {
        "train": [(recording, range(end)) for recording, end in ends.items()],
        "val": [(recording, range(end, len(recording))) for recording, end in ends.items()],
    }
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
    "an image of the other side": lambda folder: (folder / "right" / "000000.png").touch(),
    "an image with its old time": lambda folder: put_byte(folder / "left" / "000000.png", b"IDAT", b"IDAS"),
    "a map of depth": lambda folder: (folder / "depth" / "left" / "000002.npy").touch(),
    "a byte of the calibration": lambda folder: put_byte(folder / "recording.json", b"120.0", b"120.1"),
    "a byte of the poses": lambda folder: put_byte(folder / "poses.txt", b"0.2", b"0.3"),
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
    monkeypatch.setattr(findings_cache.np, "__version__", "0.0")
    found.append(fingerprint(recordings))
    assert len(set(found)) == 4


def test_the_program_is_all_of_stadia(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the package counts, the tables of thresholds too."""
    monkeypatch.undo()
    read: list[Path] = []
    monkeypatch.setattr(findings_cache, "find_start_s", lambda: float("inf"))
    load = findings_cache.read_bytes
    monkeypatch.setattr(findings_cache, "read_bytes", lambda path, **limit: read.append(path) or load(path, **limit))
    fingerprint(open_recordings(folder))
    package = Path(findings_cache.__file__).parents[1]
    names = {str(path.relative_to(package)) for path in read}
    assert {"diagnostics/preflight/frame_checks.py", "diagnostics/catalog/data.toml", "core/recording.py"} <= names
    assert len(names) > 300


def test_code_that_was_changed_while_the_process_runs_has_no_fingerprint(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may have imported the code that was there before."""
    monkeypatch.setattr(findings_cache, "find_start_s", lambda: source.stat().st_mtime - 1)
    with pytest.raises(NoFingerprintError, match="changed while this process runs"):
        fingerprint(open_recordings(folder))


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
    create = findings_cache._StateHash
    monkeypatch.setattr(findings_cache, "_StateHash", lambda until: state.append(create(until)) or state[-1])
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


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["stadia", "kitti_odometry", "crop"])
def test_every_file_that_the_checks_read_is_in_the_fingerprint(
    tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    root = tmp_path / "data"
    write = world.kitti_odometry if layout == "kitti_odometry" else world.recording
    recordings = open_recordings(write(root))
    if layout == "crop":
        recordings = [CroppedRecording(recordings[0], "none")]
    assert list_unlisted_files(recordings, root, monkeypatch) == set()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "options"),
    [
        ("kitti_raw", {}),
        pytest.param("kitti_raw", {"ground_truth": "velodyne_raw"}, marks=pytest.mark.exhaustive),
        ("kitti_odometry", {}),
        pytest.param("sevenscenes", {}, marks=pytest.mark.exhaustive),
        pytest.param("euroc", {}, marks=pytest.mark.exhaustive),
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


def test_shards_are_known_by_their_files_and_content(folder: Path, tmp_path: Path, world: World) -> None:
    """Also after copies of a store were made, and not where a shard was changed."""
    shards, url = tmp_path / "shards", "memory://fingerprint"
    for target in (str(shards), url):
        list(shard_dataset(ShardRequest(source=folder, url=target)))
    found, found_in_store = (fingerprint(open_recordings(Path(place))) for place in (shards, url))
    assert fingerprint(open_recordings(shards)) == found != found_in_store
    recordings = open_recordings(Path(url))
    recordings[0].image(0)
    assert fingerprint(recordings) == fingerprint(open_recordings(Path(url))) == found_in_store
    time.sleep(0.02)
    (shards / "shards" / "00000.bin").touch()
    assert fingerprint(open_recordings(shards)) != found


@pytest.mark.slow
def test_another_process_has_the_same_fingerprint(folder: Path, source: Path) -> None:
    program = f"""
from pathlib import Path
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics import findings_cache
findings_cache.PACKAGE = Path({str(source.parent)!r})
findings_cache.find_start_s = lambda: float("inf")
recordings = open_recordings(Path({str(folder)!r}))
print(findings_cache.fingerprint_data(recordings, {{"train": [(recordings[0], range(5))]}}, ()).digest)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (recording,) = open_recordings(folder)
    here = fingerprint_data([recording], {"train": [(recording, range(5))]}, ())
    assert done.stdout.strip() == here.digest


# -- The cache.

NOTE = Finding("N01", Severity.NOTE, Stage.DATA, "poses: none", "e", "c", "f")
WARN = Finding("D02", Severity.WARN, Stage.DATA, "m", "e", "c", "f", {"share": 0.1 + 0.2, "frame": [1, 2]}, ("a", "b"))
SHOWN = replace(WARN, code="E01", severity=Severity.STOP, image=bytes(range(256)))


@dataclass
class Checks:
    """Checks that find what they are given, counted, over a cache of their own."""

    cache: FindingsCache
    lines: list[str]
    found: list[Finding] = field(default_factory=lambda: [SHOWN, WARN, NOTE])
    count: int = 0
    during: Callable[[], object] = lambda: None

    def run(self, *given: Any, **options: Any) -> list[Finding]:
        self.count += 1
        self.during()
        return list(self.found)

    def find(self, recordings: list[Recording], *, check_again: bool = False) -> list[Finding]:
        splits = {"train": [(recording, range(len(recording))) for recording in recordings]}
        cache = replace(self.cache, check_again=check_again)
        return cache.find(self.run, recordings, splits, seconds=20, one_camera=())

    @property
    def entries(self) -> list[Path]:
        return sorted(self.cache.folder.iterdir())


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    (tmp_path / "findings").mkdir()
    lines: list[str] = []
    return Checks(FindingsCache(tmp_path / "findings", lines.append), lines)


def test_kept_findings_equal_fresh_ones(checks: Checks, folder: Path) -> None:
    """Also their order and their images."""
    fresh, reused = (checks.find(open_recordings(folder)) for _ in range(2))
    assert checks.count == 1
    assert reused == fresh == checks.found
    assert [finding.image for finding in reused] == [finding.image for finding in fresh]


def test_findings_of_real_checks_are_kept_as_they_are(checks: Checks, folder: Path) -> None:
    """Broken data, whose findings have numbers, tables and images."""
    about = json.loads((folder / "recording.json").read_text())
    for camera in about["cameras"].values():
        camera["K"][0][0] *= 0.5
        camera["K"][1][1] *= 0.5
    (folder / "recording.json").write_text(json.dumps(about))
    (folder / "left" / "000003.png").write_bytes((folder / "left" / "000002.png").read_bytes())
    (recording,) = open_recordings(folder)
    splits = {"train": [(recording, range(4))], "val": [(recording, [4])]}

    def find() -> list[Finding]:
        return checks.cache.find(run_preflight, [recording], splits, seconds=20, one_camera=())

    fresh, reused = find(), find()
    assert len(checks.lines) == 1
    assert [finding.to_dict() for finding in fresh] == [finding.to_dict() for finding in reused]
    assert [finding.image for finding in fresh] == [finding.image for finding in reused]
    assert any(finding.image for finding in reused)
    assert any(finding.severity is Severity.STOP for finding in reused)


def test_the_line_has_the_age_the_count_and_the_option(checks: Checks, folder: Path) -> None:
    checks.find(recordings := open_recordings(folder))
    assert checks.lines == []
    checks.find(recordings)
    (line,) = checks.lines
    expected = r"note: the data were checked \d seconds? ago, and nothing changed since: 2 findings; "
    assert re.fullmatch(expected + r"--check-again \(in Python check_again=True\) checks them again", line)
    (entry,) = checks.entries
    checks.cache.write(entry.stem, KeptFindings([NOTE], time.time() - 200))
    checks.find(recordings)
    assert "checked 3 minutes ago, and nothing changed since: no findings;" in checks.lines[-1]


def test_changed_data_are_checked_again(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    time.sleep(0.02)
    (folder / "right" / "000002.png").touch()
    checks.found = [NOTE]
    assert checks.find(open_recordings(folder)) == [NOTE]
    assert (checks.count, checks.lines) == (2, [])


def test_check_again_replaces_what_was_kept(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    checks.found = [NOTE]
    assert checks.find(open_recordings(folder), check_again=True) == [NOTE]
    assert checks.find(open_recordings(folder)) == [NOTE]
    assert checks.count == 2


def test_data_without_a_fingerprint_are_checked_each_time(checks: Checks, folder: Path) -> None:
    (recording,) = open_recordings(folder)
    for _ in range(2):
        checks.find([Mutated(recording)])
    assert checks.count == 2
    assert checks.entries == []


@pytest.mark.parametrize("code", ["D01", "D17"])
def test_unreadable_data_are_checked_each_time(checks: Checks, folder: Path, code: str) -> None:
    checks.found = [WARN, replace(NOTE, code=code)]
    for _ in range(2):
        checks.find(open_recordings(folder))
    assert checks.count == 2


def test_findings_of_a_sample_are_used_again_for_an_hour(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of a study check the data once; tomorrow another sample fits into the time."""
    checks.found = [WARN, replace(NOTE, code="N02")]
    assert checks.find(open_recordings(folder)) == checks.find(open_recordings(folder)) == checks.found
    assert checks.count == 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    checks.find(open_recordings(folder))
    assert checks.count == 2


def test_an_incomplete_check_removes_what_was_kept(checks: Checks, folder: Path) -> None:
    checks.find(open_recordings(folder))
    assert len(checks.entries) == 1
    checks.during = lambda: report_incomplete("frames: out of time")
    checks.find(open_recordings(folder), check_again=True)
    assert checks.entries == []


def fail(*given: object) -> Any:
    raise MemoryError


def fail_to_read(*given: object) -> Any:
    raise DataError("000001.npy", found="a file that cannot be read", expected="depth", fix="try again")


FAULTS: dict[str, tuple[object, str, object]] = {
    "cut short": (frame_checks, "MAX_FRAME_SECONDS", -1.0),
    "a check that failed": (preflight_runner.CHECKS, "load", lambda name: fail),
    "an image that was not drawn": (preflight_runner, "draw_finding", fail),
    "a file that fails for a moment": (FolderRecording, "depth_m", fail_to_read),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_incomplete_checks_are_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "an image that was not drawn":  # of two frames that are the same
        (folder / "left" / "000003.png").write_bytes((folder / "left" / "000002.png").read_bytes())
    (recording,) = open_recordings(folder)
    splits = {"train": [(recording, range(3))], "val": [(recording, range(3, 5))]}
    with monkeypatch.context() as patch:
        patch.setattr(*FAULTS[fault])
        checks.cache.find(run_preflight, [recording], splits, seconds=20, one_camera=())
    assert checks.entries == []
    checks.cache.find(run_preflight, [recording], splits, seconds=20, one_camera=())
    assert len(checks.entries) == 1, "without the fault, the findings are kept"


def test_data_that_change_during_the_check_are_not_kept(checks: Checks, folder: Path) -> None:
    def change() -> None:
        time.sleep(0.02)
        (folder / "left" / "000001.png").touch()

    checks.during = change
    checks.find(open_recordings(folder))
    assert checks.entries == []


def test_data_that_changed_just_before_are_not_kept(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may change twice within one step of a file system's clock."""
    monkeypatch.setattr(findings_cache, "MIN_AGE_S", 3600.0)
    checks.find(open_recordings(folder))
    assert checks.entries == []


@pytest.mark.parametrize("content", ["", '{"checked_s": 0, "findings": [{}]}'])
def test_a_damaged_file_is_written_again(checks: Checks, folder: Path, content: str) -> None:
    recordings = open_recordings(folder)
    fresh = checks.find(recordings)
    (entry,) = checks.entries
    entry.write_text(content, encoding="utf-8")
    assert [checks.find(recordings) for _ in range(2)] == [fresh, fresh]
    assert checks.count == 2


def test_findings_that_are_too_large_to_be_read_are_not_written(
    checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_cache, "MAX_ENTRY_BYTES", 100)
    assert [checks.find(open_recordings(folder)) for _ in range(2)] == [checks.found] * 2
    assert (checks.count, checks.entries) == (2, [])


def test_the_oldest_files_are_removed(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file makes it new."""
    monkeypatch.setattr(findings_cache, "MAX_ENTRIES", 3)
    kept = KeptFindings([WARN], 0.0)
    for age, name in ((50, "a"), (40, "b"), (30, "c")):
        checks.cache.write(name * 64, kept)
        os.utime(checks.cache.folder / f"{name * 64}.json", (time.time() - age,) * 2)
    assert checks.cache.read("a" * 64) == kept
    checks.cache.write("d" * 64, kept)
    assert [path.stem[0] for path in checks.entries] == ["a", "c", "d"]


def test_a_full_disk_hinders_no_training(checks: Checks, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(findings_cache, "write_text", fill_disk)
    assert checks.find(open_recordings(folder)) == checks.found


def test_the_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/core/test_numba_jit.py proves the rules of private folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(findings_cache, "find_private_folder", paths.find_private_folder)
    cache = FindingsCache.open(print)
    assert cache is not None
    assert cache.folder == tmp_path / "cache" / "stadia" / "findings"
    if os.name != "nt":
        assert cache.folder.stat().st_mode & 0o777 == 0o700
        cache.folder.chmod(0o750)
        assert FindingsCache.open(print) is None
