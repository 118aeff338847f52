"""All mutations, by family. A new one is a line in the table of its family."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutations import (
    composites,
    losses,
    masks,
    objects,
    output_logs,
    recordings,
    split_drives,
    training_logs,
    training_starts,
)
from tests.mutations.mutation import MutationCase

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.judge.finding import Finding, Stage
from stadia.judge.recordings.preflight_runner import run_preflight
from stadia.synthetic.config import ROADWORLD_TINY
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld


@cache
def _rendered() -> TemporaryDirectory[str]:
    """A RoadWorld of one world, once a process; the folder goes when it ends."""
    folder = TemporaryDirectory()
    write_roadworld(ROADWORLD_TINY.model_copy(update={"val": 0, "test": 0}), Path(folder.name) / "world", seed=0)
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


def _of_recording(mutation: recordings.Mutation) -> MutationCase:
    def broken(folder: Path) -> list[Finding]:
        return run_preflight([mutation.apply(roadworld())])

    return MutationCase(mutation.name, mutation.codes, Stage.DATA, broken, lambda folder: _of_sound_recording())


def _of_splits(name: str, code: str, apply: Callable[[Recording], recordings.Splits]) -> MutationCase:
    def broken(folder: Path) -> list[Finding]:
        return run_preflight([], apply(roadworld()))

    return MutationCase(name, (code,), Stage.DATA, broken, lambda folder: _of_sound_splits())


ROWS: tuple[MutationCase, ...] = (
    *map(_of_recording, recordings.MUTATIONS),
    *(_of_splits(*mutation) for mutation in recordings.SPLIT_MUTATIONS),
    *split_drives.ROWS,
    *masks.ROWS,
    *objects.ROWS,
    *composites.ROWS,
    *losses.ROWS,
    *training_starts.ROWS,
    *training_logs.ROWS,
    *output_logs.ROWS,
)

PROVEN_ELSEWHERE = {
    "C03": "overlay/test_label_checks.py",
    "C04": "overlay/test_label_checks.py",
    "C05": "overlay/test_label_checks.py",
    "C07": "overlay/test_label_checks.py",
    "C13": "overlay/test_recipe.py",
    "D19": "judge/recordings/test_frame_checks.py",
    "D17": "judge/recordings/test_check_command.py",
    "D20": "judge/recordings/test_sequence_checks.py",
    "D21": "judge/recordings/test_ground_truth_checks.py",
    "H06": "training/monitors/test_camera_height_monitors.py",
    "H07": "training/recipes/test_metric.py",
    "H20": "training/recipes/test_metric_start.py",
    "K07": "judge/recordings/test_stereo_checks.py",
    "K30": "judge/test_prediction_checks.py",
    "K31": "judge/test_scale_verdict.py",
    "L26": "training/loss_checks/test_added_terms.py",
    "M30": "judge/test_prediction_checks.py",
    "M31": "judge/test_prediction_checks.py",
    "M33": "judge/test_prediction_checks.py",
    "M32": "judge/test_prediction_checks.py",
    "M34": "judge/test_prediction_checks.py",
    "M35": "judge/test_point_measurements.py",
    "M36": "judge/test_point_measurements.py",
    "M37": "judge/test_point_measurements.py",
    "M38": "judge/test_scale_verdict.py",
    "S30": "judge/test_prediction_checks.py",
    "T40": "judge/test_prediction_checks.py",
    "N01": "judge/recordings/test_preflight_runner.py",
    "N02": "judge/recordings/test_preflight_runner.py",
    "T08": "training/monitors/test_training_monitor.py",
    "O04": "objectpose/data/test_object_survey.py",
}
"""Codes that need a training, a published layout or a second dataset, with the test that proves each."""
