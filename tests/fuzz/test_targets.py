"""No file of the corpus breaks its parser; `make fuzz` searches for files that do."""

import contextlib
from pathlib import Path

import pytest
from tests.fuzz.targets import CORPUS, TARGETS, BrokenPromiseError, Target, check_target, prepare_target

from stadia.core.errors import StadiaError

MAX_CORPUS_BYTES = 300_000
REFUSED = {"dataset_json", "objects_json", "split"}
"""Targets whose seeds name what is not beside them."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_file_of_the_corpus_is_read_or_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "of" / "target"  # other tests look for data sets below the folder of all tests
    folder.mkdir(parents=True)
    prepare_target(name, folder)
    files = sorted((CORPUS / name).glob("*"))
    with contextlib.suppress(BrokenPromiseError):  # imports take seconds
        check_target(name, files[-1].read_bytes(), folder)
    for path in files:
        is_accepted = check_target(name, path.read_bytes(), folder)
        assert is_accepted or path.name.startswith("crash-") or name in REFUSED, path


def test_the_corpus_is_small_and_of_known_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS_BYTES


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2J", "x" * 10_000])
def test_an_error_that_is_no_line_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class UnprintableError(StadiaError):
        def __str__(self) -> str:
            return text

    def read(path: Path) -> None:
        raise UnprintableError(path, found="a", expected="b", fix="c")

    monkeypatch.setitem(TARGETS, "json", Target("a.json", read))
    with pytest.raises(BrokenPromiseError):
        check_target("json", b"", tmp_path)
