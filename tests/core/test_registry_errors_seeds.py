"""Tables of parts, the error tree, named streams of random numbers."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core import errors
from stadia.core.errors import ConfigError, StadiaError
from stadia.core.registry import Registry
from stadia.core.seeds import derive_seed, make_generator

TABLE = Registry("loss", {"photometric": "json:loads", "smoothness": "json:dumps"})


def test_table_is_a_mapping_that_loads():
    assert list(TABLE) == ["photometric", "smoothness"]
    assert len(TABLE) == 2
    assert TABLE["smoothness"] == "json:dumps"
    assert TABLE.load("photometric")("[1]") == [1]


def test_unknown_part_error_gives_the_nearest_name():
    with refuses(ConfigError, where="loss", found="photometrc", expected="photometric"):
        TABLE.load("photometrc")
    with refuses(ConfigError, where="loss", fix="stadia list"):
        TABLE.check("zzz")


def test_a_known_mistake_is_refused_with_its_reason():
    table = Registry("loss", {"smoothness": "json:dumps"}, refused={"roughness": "it has the wrong sign"})
    assert "roughness" not in table
    assert list(table) == ["smoothness"]
    for ask in (table.check, table.load):
        with refuses(ConfigError, where="loss", found="roughness"):
            ask("roughness")


@pytest.mark.parametrize(
    ("found", "expected", "fix", "message"),
    [
        ("nothing.", "an image.", "copy it again.", "f: found nothing; expected an image. Fix: copy it again."),
        ("x", "a, b, ...", "did you mean 'y'?", "f: found x; expected a, b, ... Fix: did you mean 'y'?"),
        (
            "nothing\n at  all",
            (2, 3),
            "pass one\nof\tboth",
            "f: found nothing at all; expected (2, 3). Fix: pass one of both.",
        ),
        ("f.png", "a file", "write to 'b.png'", "f: found f.png; expected a file. Fix: write to 'b.png'."),
    ],
)
def test_error_format_has_no_doubled_full_stop(found, expected, fix, message):
    assert str(StadiaError("f", found=found, expected=expected, fix=fix)) == message


def test_no_message_holds_what_a_terminal_obeys():
    line = str(StadiaError("a\x1b[31m.txt", found="\x1b]0;title\x07 \u202e", expected="\udcff", fix="\x9b2J"))
    assert line.isprintable()
    assert r"a\x1b[31m.txt" in line
    mistake = errors.ConfigError("'\x1b[2J'", found="no key", expected="a key")
    assert all(r"\x1b[2J" in str(errors.ConfigMistakes(several)) for several in ([mistake], [mistake] * 2))
    assert len(str(StadiaError("a", found="x" * 10**7, expected="y", fix="z"))) < 1100


def test_error_survives_a_process_boundary():
    error = errors.DataError("a.png", found="nothing", expected="an image", fix="look again")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is errors.DataError
    assert str(back) == str(error)
    assert back.fix == error.fix


def test_seeds_are_pinned():
    assert derive_seed(0) == 4246866556266386882
    assert derive_seed(0, "world", 3) == 669053406617185451


def test_streams_are_independent_and_named():
    seeds = [derive_seed(s, *names) for s in (0, 1) for names in ((), ("a",), ("a", 1), ("a", "1b"), ("b",))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)
    np.testing.assert_array_equal(make_generator(3, "x").random(4), make_generator(3, "x").random(4))


# -- parts of users

OPEN_TABLE = Registry("loss", {"photometric": "json:loads"}, entry_points="stadia.tests")


def test_a_part_of_ones_own_is_named_by_module_and_attribute():
    assert OPEN_TABLE.check("json:dumps") == "json:dumps"
    assert OPEN_TABLE.load("json:dumps")({"a": 1}) == '{"a": 1}'
    assert "json:dumps" not in OPEN_TABLE
    with refuses(ConfigError, where="loss", found="json:dumps"):
        TABLE.check("json:dumps")  # a table that is closed


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("nowhere:Loss", ("nowhere", "PYTHONPATH=FOLDER")),
        ("json:dump_s", ("dump_s", "json:dumps")),
        ("broken_part:Loss", ("ZeroDivisionError",)),
        ("string:digits", ("str", "function")),
        ("../evil:Loss", ("loss",)),
    ],
)
def test_a_part_that_cannot_be_imported_is_refused_in_one_line(tmp_path, monkeypatch, name, names):
    (tmp_path / "broken_part.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with refuses(ConfigError, names=names) as caught:
        OPEN_TABLE.load(name)
    assert "\n" not in str(caught.value)


def test_entry_points_that_texts_name_are_those_of_a_table() -> None:
    """Docstrings and documents name the group under which another package registers its parts."""
    root = Path(__file__).parents[2]
    sources = [path.read_text(encoding="utf-8") for path in (root / "src" / "stadia").rglob("*.py")]
    documents = [path.read_text(encoding="utf-8") for path in (root / "docs").rglob("*.md")]
    groups = {group for text in sources for group in re.findall(r'entry_points="(stadia\.\w+)"', text)}
    named = r"entry[ -]points?[^\n]{0,30}\b(stadia\.\w+)"
    assert {group for text in [*sources, *documents] for group in re.findall(named, text)} <= groups
