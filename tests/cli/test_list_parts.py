"""`stadia list` lists every table, a line a part."""

import pytest

from stadia.cli.list_parts import PART_KINDS, list_rows, read_first_line


@pytest.mark.slow
def test_every_part_has_a_line():
    for kind in PART_KINDS:
        rows = list(list_rows(kind))
        assert rows, kind
        if kind != "encoders":
            assert all(line for _, line in rows), kind


def test_filter(stadia):
    code, out, _ = stadia("list", "optimizers", "--filter", "w")
    assert code == 0
    assert "adamw" in out
    assert "sgd" not in out


@pytest.mark.slow
def test_overview_names_every_kind(stadia):
    code, out, _ = stadia("list")
    assert code == 0
    for kind in PART_KINDS:
        assert kind in out
    assert len(out.splitlines()) <= 20


@pytest.mark.slow
def test_a_kind_is_listed_with_those_that_end_in_its_name(stadia):
    code, out, _ = stadia("list", "losses")
    assert code == 0
    assert [line for line in out.splitlines() if line[0] != " "] == [
        "losses",
        "sparse-depth-losses",
        "overlay-losses",
        "rotation-losses",
    ]
    assert "silog_pooled" in out


@pytest.mark.slow
def test_lines_are_read_without_importing(python):
    done = python(
        "import sys; sys.modules['torch'] = None; from stadia.cli.list_parts import list_rows;"
        " print(dict(list_rows('optimizers'))['sgd'])"
    )
    assert (done.returncode, done.stdout.strip()) == (0, read_first_line("stadia.training.loop.recipe:sgd"))
    assert "Gradient descent" in done.stdout
