"""Every check is silent on clean data and names each thing that is broken on purpose: on RoadWorld, and on the real
samples.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.combinations import mark_others, mark_repeats
from tests.mutations.recordings import MUTATIONS, SPLIT_MUTATIONS, Alone, Mutation, abilities, clean_splits

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings import CHECKS
from stadia.judge.recordings.frame_checks import DRAWN
from stadia.judge.recordings.preflight_runner import run_preflight

pytestmark = pytest.mark.slow  # its fixtures train or compile

PNG = b"\x89PNG"
REAL = {  # benchmarks/preflight.py measures all MUTATIONS on every real sample
    "every frame twice",
    "K normalized",
    "images halved, K not",
    "right is left",
    "left and right swapped",
    "sign of the baseline",
    "baseline of P3 alone (0.883)",
    "poses inverted",
    "poses of a body (x forward, z up)",
    "poses in centimetres",
    "ground truth zero",
    "millimetres read as 1/256 m, one camera alone",
    "ground truth at half the size of its images",
    "ground truth of whole metres",
    "uint16 not divided by 256",
    "factor 5.4 not undone",
}
REAL_SAMPLES = {
    "kitti_odometry": {"stereo", "poses", "rulers"},
    "kitti_raw": {"poses", "depth", "rulers", "road"},
    "sevenscenes/kitchen": set(),
}
"""Real samples, and the abilities that mutations are tested with there."""

_OPENED: dict[str, Recording] = {}


def without_notes(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is not Severity.NOTE]


def assert_caught(mutation: Mutation, recording: Recording) -> None:
    """The first finding is the mutation's, as severe as it must be, with an image where its code has one."""
    assert mutation.needs <= abilities(recording)
    found = without_notes(run_preflight([mutation.apply(recording)]))
    codes = [finding.code for finding in found]
    assert codes, f"{mutation.name} was not noticed"
    assert codes[0] in mutation.codes, found[0].measured
    assert found[0].image.startswith(PNG) == (codes[0] in DRAWN)
    if not mutation.warns:
        assert any(finding.code in mutation.codes and finding.severity is Severity.STOP for finding in found)


def real(name: str, folder: Path) -> Recording:
    if name not in _OPENED:
        options = {"poses": str(next((folder / name).rglob("lidar_odometry_cam2.txt")))} if name == "kitti_raw" else {}
        _OPENED[name] = read_once(open_recordings(folder / name, **options)[0])
    return _OPENED[name]


def read_once(recording: Recording) -> Recording:
    """Keep the images and the depth of a recording: mutations change copies."""
    recording.image = cache(recording.image)  # type: ignore[method-assign]
    recording.depth_m = cache(recording.depth_m)  # type: ignore[method-assign]
    return recording


def test_every_check_has_a_mutation() -> None:
    assert {mutation.check for mutation in MUTATIONS} == set(CHECKS)


@pytest.mark.parametrize(
    "mutation", mark_repeats(MUTATIONS, lambda mutation: mutation.codes[0]), ids=lambda mutation: mutation.name
)
def test_roadworld_mutation_is_named(mutation: Mutation, recording: Recording) -> None:
    assert_caught(mutation, recording)


def test_clean_roadworld_has_no_findings(roadworld: Path) -> None:
    train, val = open_recordings(roadworld)
    splits = {"train": [(train, range(len(train)))], "val": [(val, range(len(val)))]}
    assert without_notes(run_preflight([train, val], splits)) == []


def test_clean_mono_roadworld_without_poses_has_no_findings(recording: Recording) -> None:
    assert without_notes(run_preflight([Alone(recording)])) == []


@pytest.mark.parametrize(("name", "code", "broken"), SPLIT_MUTATIONS, ids=[name for name, *_ in SPLIT_MUTATIONS])
def test_roadworld_splits_are_named(name: str, code: str, broken, recording: Recording) -> None:
    (found,) = run_preflight([], broken(recording))
    assert found.code == code
    assert found.image.startswith(PNG)


@pytest.mark.real
@pytest.mark.parametrize("sample", mark_others(list(REAL_SAMPLES), ["sevenscenes/kitchen"]))
def test_clean_real_samples_have_no_findings(sample: str, real_data: Path) -> None:
    recording = real(sample, real_data)
    assert without_notes(run_preflight([recording], clean_splits(recording))) == []


@pytest.mark.real
@pytest.mark.parametrize("sample", ["kitti_raw", "sevenscenes/kitchen"])
def test_clean_mono_samples_without_poses_have_no_findings(sample: str, real_data: Path) -> None:
    assert without_notes(run_preflight([Alone(real(sample, real_data))], checks=["ground_truth"])) == []


def choose_real_mutations() -> Iterator[Any]:
    """Yield each mutation with the first real sample that it can be tested on; the suite has one of each sample."""
    samples = set[str]()
    for mutation in (mutation for mutation in MUTATIONS if mutation.name in REAL):
        sample = next(sample for sample, able in REAL_SAMPLES.items() if able and mutation.needs <= able)
        marks = [pytest.mark.exhaustive] * (sample in samples)
        yield pytest.param(sample, mutation, id=f"{sample}-{mutation.name}", marks=marks)
        samples.add(sample)


@pytest.mark.real
@pytest.mark.parametrize(("sample", "mutation"), list(choose_real_mutations()))
def test_real_mutation_is_named(sample: str, mutation: Mutation, real_data: Path) -> None:
    assert_caught(mutation, real(sample, real_data))


@pytest.mark.real
def test_real_splits_are_named(real_data: Path) -> None:
    recording = real("kitti_odometry", real_data)
    for _, code, broken in SPLIT_MUTATIONS:
        assert [finding.code for finding in run_preflight([], broken(recording))] == [code]


@pytest.mark.real
def test_poses_are_not_blamed_for_crooked_ground_truth(real_data: Path) -> None:
    """Motion by a ground truth that explains few matches is not motion: poses are then judged by matches alone."""
    (inverse,) = [mutation for mutation in MUTATIONS if mutation.name == "inverse depth for depth"]
    found = without_notes(run_preflight([inverse.apply(real("kitti_raw", real_data))]))
    assert {finding.code for finding in found} == {"D07"}
