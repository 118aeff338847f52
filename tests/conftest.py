"""Fixtures that every room's tests share."""

import functools
import gc
import math
import os
import pickle
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from filelock import FileLock
from numpy.typing import NDArray

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background jobs so, and they pass it on
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_MARKS = ("exhaustive", "gpu", "real", "slow")
"""Marks of tests that train, map videos or start processes, which may take a minute on a busy machine."""

LONG_TIMEOUT_S = 300
"""Time limit of the tests with these marks. Other tests take less than a second, and have 60 s (pyproject.toml)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="also run the tests marked exhaustive (make test-all)")


def pytest_configure() -> None:
    """Keep the many files of the tests in memory if there is room; train in float32 on every processor."""
    memory = Path("/dev/shm")
    if memory.is_dir() and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > 8 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    os.environ["STADIA_PRECISION"] = "32"  # results do not depend on the processor


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests that are marked as long more time; leave out those marked exhaustive by default."""
    for item in items:
        if item.get_closest_marker("timeout") is None and any(map(item.get_closest_marker, LONG_MARKS)):
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_S))
    if config.getoption("exhaustive"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import what starts threads, in the processes that run tests: the one that only hands them out starts at once."""
    if session.config.getoption("numprocesses", None):
        return
    gc.disable()  # while all is imported: millions of objects, which stay to the end
    import cv2
    import torch

    torch.set_num_threads(1)  # the suite runs one worker a core
    cv2.setNumThreads(1)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported, which is not searched for garbage: that takes a second."""
    gc.freeze()
    gc.enable()


IS_CI = os.environ.get("CI") == "true"
SKIPPED_ON_CI = re.compile(r"GPU|no real samples")
"""Reasons for which a test may be skipped on CI, which installs everything that needs no such hardware or data."""


def read_skip_reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every reason for a skip as the last lines of a run, with the number of tests."""
    skipped = Counter(read_skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in sorted(skipped.items()):
        refused = IS_CI and not SKIPPED_ON_CI.search(reason)
        terminalreporter.write_line(f"{'FAILED: ' * refused}skipped {count}: {reason}", red=refused)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run on CI that skipped a test for any other reason than a GPU or samples that are not there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not IS_CI or reporter is None:
        return
    reasons = map(read_skip_reason, reporter.stats.get("skipped", []))
    if session.exitstatus == pytest.ExitCode.OK and not all(map(SKIPPED_ON_CI.search, reasons)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failed test and its error at once: a run that is stopped prints no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        error = crash.message if crash else report.longreprtext[-2000:]
        print(f"\nFAILED {report.nodeid} ({report.when})\n{error}", file=sys.__stderr__, flush=True)


_collections_before = 0


def pytest_runtest_logfinish() -> None:
    """After a test in which the garbage collector passed over everything, leave out what stays, as modules do."""
    global _collections_before
    if gc.get_stats()[2]["collections"] > _collections_before:
        gc.collect()
        gc.freeze()
        _collections_before = gc.get_stats()[2]["collections"]


@pytest.fixture(scope="session", autouse=True)
def _without_git_and_disk() -> Iterator[None]:
    """Ask git once for the version of the code, which hundreds of runs record, and let no file wait for the disk.

    test_run_folder.py and test_atomic_files.py prove what is recorded, and that files are synced.
    """
    from stadia.training.loop import run_folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "run_git", functools.cache(run_folder.run_git))
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _without_lines_of_slow_machines() -> Iterator[None]:
    """Print no line because a step takes long: tests count lines. tests/cli/test_output.py has a clock of its own."""
    from stadia.cli import output
    from stadia.core import progress, terminal

    with pytest.MonkeyPatch.context() as patch:
        names = (
            (output, "SILENCE_S"),
            (output, "PHASE_S"),
            (output, "PAUSE_S"),
            (progress, "PAUSE_S"),
            (terminal, "MIN_STEP_S"),
        )
        for module, name in names:
            patch.setattr(module, name, math.inf)
        yield


class SiftOnce:
    """SIFT that keeps the features of the last images: most tests check, train on and predict the same few."""

    def __init__(self, sift: Any) -> None:
        @functools.lru_cache(512)
        def detect(data: bytes, shape: tuple[int, ...]) -> Any:
            return sift.detectAndCompute(np.frombuffer(data, np.uint8).reshape(shape), None)

        self._detect = detect

    def detectAndCompute(self, gray: NDArray[np.uint8], mask: None) -> Any:
        return self._detect(gray.tobytes(), gray.shape)


@pytest.fixture(scope="session", autouse=True)
def _detect_features_once() -> Iterator[None]:
    """Detection is most of the time of a check, and a third of that of a small training."""
    import cv2

    class CachingSift:
        @staticmethod
        def create(**options: Any) -> SiftOnce:
            return SiftOnce(make_sift(**options))

    make_sift = cv2.SIFT.create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "SIFT", CachingSift)
        yield


def describe_checked_data(recordings: Any, splits: Any, *, one_camera: Any, seconds: float) -> bytes:
    """Return the recordings as they were opened, and names, sizes and times of their files."""
    if any(not type(recording).__module__.startswith("stadia.") for recording in recordings):
        raise TypeError("a class of a test may read files that it does not list")
    files = {
        path
        for recording in recordings
        for side in recording.sides
        for index in range(len(recording))
        for path in (recording.file(index, side), *recording.depth_files(index, side))
        if path is not None
    }
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files) if path.is_file()]
    frames = {name: [(recording.name, [*indices]) for recording, indices in parts] for name, parts in splits.items()}
    single = [any(recording is other for other in one_camera) for recording in recordings]
    return pickle.dumps((recordings, frames, single, seconds, states))


@pytest.fixture(scope="session", autouse=True)
def _check_equal_data_once() -> Iterator[None]:
    """Most trainings have the same few recordings: each process checks them once, until a file of them changes."""
    from stadia.judge.finding import Finding
    from stadia.training.recipes.base import video_data

    check, found = video_data.run_preflight, dict[bytes, list[Finding]]()

    def check_once(recordings: Any, splits: Any, **options: Any) -> list[Finding]:
        try:
            key = describe_checked_data(recordings, splits, **options)
        except Exception:  # a recording that cannot be read or pickled is checked each time
            return check(recordings, splits, **options)
        if key not in found:
            found[key] = check(recordings, splits, **options)
        return list(found[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_data, "run_preflight", check_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _draw_motions_once() -> Iterator[None]:
    """Each validation of a small training draws its motions, which takes as long as its steps."""
    from stadia.evaluation.plots.motion_chart import draw_motions
    from stadia.training.recipes.base import self_supervised

    drawn = []

    def draw_once(*given: Any) -> NDArray[np.uint8]:
        drawn.extend([] if drawn else [draw_motions(*given)])
        return drawn[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_supervised, "draw_motions", draw_once)
        yield


@pytest.fixture(autouse=True)
def _restore_path_of_modules() -> Iterator[None]:
    """Remove what the command line sets for the processes that it starts: a test's program imports its neighbors."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session")
def build_once(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a folder of the suite by its name; the first process that needs it builds it, and tests only read it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if hasattr(request.config, "workerinput") else base  # of all parallel workers

    def get(name: str, build: Callable[[Path], object]) -> Path:
        folder, built = base / name, base / f"{name}.built"
        with FileLock(base / f"{name}.lock"):
            if not built.exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                built.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def worlds(
    build_once: Callable[[str, Callable[[Path], object]], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """RoadWorld in miniature: a training, a validation and a test world of five stereo pairs, in stadia's layout.

    It is rendered once; each process has a copy.
    """
    from stadia.synthetic.config import ROADWORLD_TINY
    from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

    config = ROADWORLD_TINY.model_copy(update={"frames": 5})
    rendered = build_once("worlds", lambda folder: write_roadworld(config, folder / "tiny", workers=1))
    return shutil.copytree(rendered / "tiny", tmp_path_factory.mktemp("worlds") / "tiny")


@pytest.fixture(scope="session")
def sound(build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The sound inputs of tests/sound.py: data sets, a video, a trained run, predictions."""
    from tests.sound import build, run_in_this_process

    return build_once("sound", lambda folder: build(folder, run_in_this_process))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples; their licenses keep them out of the project, so tests skip where they are absent."""
    folder = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "kitti_odometry").is_dir():
        pytest.skip(f"no real samples in {folder}; set STADIA_REAL_DATA")
    return folder


@pytest.fixture
def stadia(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `stadia WORDS...` in this process: exit code, stdout, stderr."""
    from stadia.cli.main import run as run_command_line

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(ending.value.code or 0), out, err

    return call
