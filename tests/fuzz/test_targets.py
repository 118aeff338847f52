"""Nearly right files never break a parser; STADIA_FUZZ_EXAMPLES=10000 looks longer than the suite does."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.fuzz.inputs import list_seeds, make_inputs
from tests.fuzz.targets import CORPUS, TARGETS, BrokenPromiseError, check_target, prepare_target

EXAMPLES = int(os.environ.get("STADIA_FUZZ_EXAMPLES", "30"))
MAX_CORPUS_BYTES = 300_000
REFUSED = {"dataset_json", "objects_json", "split"}
"""Targets whose seeds name what is not beside them."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with what stands beside a target's input."""
    name = request.getfixturevalue("name")
    inner = tmp_path / "of" / "target"  # other tests look for data sets below the folder of all tests
    inner.mkdir(parents=True)
    prepare_target(name, inner)
    with contextlib.suppress(BrokenPromiseError):  # imports take seconds
        check_target(name, list_seeds(name)[0], inner)
    return inner


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_file_of_the_corpus_is_read_or_refused(name: str, folder: Path) -> None:
    for path in sorted((CORPUS / name).glob("*")):
        is_accepted = check_target(name, path.read_bytes(), folder)
        assert is_accepted or path.name.startswith("crash-") or name in REFUSED, path


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nearly_right_files_are_read_or_refused(name: str, folder: Path) -> None:
    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(data=make_inputs(name))
    def check(data: bytes) -> None:
        check_target(name, data, folder)

    check()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_files_beside_an_input_can_be_written_again(name: str, tmp_path: Path) -> None:
    """The search does so where it starts a process again."""
    prepare_target(name, tmp_path)
    first = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    prepare_target(name, tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == first


def test_the_corpus_is_small_and_of_known_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS_BYTES


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2J", "x" * 10_000])
def test_an_error_that_is_no_line_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import targets

    class Unprintable(targets.StadiaError):
        def __str__(self) -> str:
            return text

    def read(path: Path) -> None:
        raise Unprintable(path, found="a", expected="b", fix="c")

    monkeypatch.setitem(TARGETS, "json", targets.Target("a.json", read))
    with pytest.raises(BrokenPromiseError):
        check_target("json", b"", tmp_path)
