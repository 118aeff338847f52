"""All mutations, by family. A new one is a line in the table of its family."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mutations import answers, composed, courses, drives, losses, masks, objects, recordings, starts
from mutations.table import Row

from stadia.core.recording import Recording
from stadia.datasets.open_dataset import open_recordings
from stadia.diagnostics.finding import Finding, Stage
from stadia.diagnostics.preflight.preflight_runner import run_preflight
from stadia.synthetic.roadworld.config import TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld


@cache
def _rendered() -> TemporaryDirectory[str]:
    """A RoadWorld of one world, once a process; the folder goes when it ends."""
    folder = TemporaryDirectory()
    write_roadworld(TINY.model_copy(update={"val": 0, "test": 0}), Path(folder.name) / "world", seed=0)
    return folder


@cache
def roadworld() -> Recording:
    """Six stereo pairs with exact ground truth."""
    return open_recordings(Path(_rendered().name) / "world")[0]


@cache
def _of_sound_recording() -> list[Finding]:
    return run_preflight([roadworld()])


@cache
def _of_sound_splits() -> list[Finding]:
    return run_preflight([], recordings.clean_splits(roadworld()))


def _of_recording(mutation: recordings.Mutation) -> Row:
    def broken(folder: Path) -> list[Finding]:
        return run_preflight([mutation.apply(roadworld())])

    return Row(mutation.name, mutation.codes, Stage.DATA, broken, lambda folder: _of_sound_recording())


def _of_splits(name: str, code: str, apply: Callable[[Recording], recordings.Splits]) -> Row:
    def broken(folder: Path) -> list[Finding]:
        return run_preflight([], apply(roadworld()))

    return Row(name, (code,), Stage.DATA, broken, lambda folder: _of_sound_splits())


ROWS: tuple[Row, ...] = (
    *map(_of_recording, recordings.MUTATIONS),
    *(_of_splits(*one) for one in recordings.SPLIT_MUTATIONS),
    *drives.ROWS,
    *masks.ROWS,
    *objects.ROWS,
    *composed.ROWS,
    *losses.ROWS,
    *starts.ROWS,
    *courses.ROWS,
    *answers.ROWS,
)

ELSEWHERE = {
    "C03": "diagnostics/test_overlay_findings.py",
    "C04": "diagnostics/test_overlay_findings.py",
    "C05": "diagnostics/test_overlay_findings.py",
    "C07": "diagnostics/test_overlay_findings.py",
    "C13": "recipes/test_overlay.py",
    "H06": "recipes/test_metric.py",
    "H07": "recipes/test_metric.py",
    "K07": "diagnostics/test_forms_of_the_rig.py",
    "N01": "diagnostics/test_engine.py",
    "N02": "diagnostics/test_engine.py",
    "T08": "diagnostics/test_watch.py",
    "O04": "diagnostics/test_object_findings.py",
}
"""Codes that need a training, a published layout or a second data set: the test that breaks something and asks for
them.
"""
