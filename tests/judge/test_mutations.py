"""Every mutation of the table is named by its code at its stage, and what it breaks is silent before; see
benchmarks/mutation_table.py.

Those of recordings are tested in preflight/test_recording_mutations.py, of a RoadWorld and of the real samples.
"""

from pathlib import Path

import pytest
from tests.combinations import mark_repeats
from tests.mutations import recordings
from tests.mutations.all_mutations import PROVEN_ELSEWHERE, ROWS
from tests.mutations.mutation import MutationCase, Outcome, run_mutation

from stadia.judge.catalog import CATALOG
from stadia.judge.finding import Finding, Severity, Stage

OF_RECORDINGS = {mutation.name for mutation in recordings.MUTATIONS}


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    mark_repeats([row for row in ROWS if row.name not in OF_RECORDINGS], lambda row: row.codes[0]),
    ids=lambda row: row.name,
)
def test_a_mutation_is_named(row: MutationCase, tmp_path: Path) -> None:
    result = run_mutation(row, tmp_path)
    assert result.outcome is Outcome.CAUGHT, result.reported


def test_every_code_has_a_mutation_or_another_proof() -> None:
    of_rows = {code for row in ROWS for code in row.codes}
    assert not of_rows & PROVEN_ELSEWHERE.keys()
    assert of_rows | PROVEN_ELSEWHERE.keys() == CATALOG.keys()
    root = Path(__file__).parents[1]
    for code, file in PROVEN_ELSEWHERE.items():
        assert f'"{code}"' in (root / file).read_text(), f"{file} does not ask for {code}"


def test_mutation_names_are_unique() -> None:
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)


FOUND = Finding("D03", Severity.WARN, Stage.DATA, "measured", "expected", "cause", "fix")


@pytest.mark.parametrize(
    ("broken", "correct", "outcome"),
    [
        ([FOUND], [], Outcome.CAUGHT),
        ([], [], Outcome.MISSED),
        ([FOUND], [FOUND], Outcome.ALARM),
        ([Finding("D04", Severity.STOP, Stage.DATA, "m", "e", "c", "c"), FOUND], [], Outcome.ANOTHER),
        ([Finding("D03", Severity.WARN, Stage.TRAINING, "m", "e", "c", "c")], [], Outcome.ANOTHER),
        ([Finding("N01", Severity.NOTE, Stage.DATA, "m", "e", "c", "c")], [], Outcome.MISSED),
    ],
)
def test_outcome_of_a_mutation(broken: list[Finding], correct: list[Finding], outcome: Outcome, tmp_path: Path) -> None:
    row = MutationCase("made up", ("D03",), Stage.DATA, lambda folder: broken, lambda folder: correct)
    assert run_mutation(row, tmp_path).outcome is outcome
