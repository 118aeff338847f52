"""Every error in the source has the shape `FILE-or-key: found X; expected Y. Fix: Z.`, and its parts can be read."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from tests.messages import PARTS, SOURCE, UNKNOWN, Message, find_messages, list_messages
from tests.source_trees import list_nodes

pytestmark = pytest.mark.slow  # reads every file of the package

EMPTY_WORDS = re.compile(r"(given|nothing|none|unset|wrong|invalid|both)")
"""A part that is one of these words alone has no information, except as the end of "found none; expected depth"."""
SPEAKING = re.compile(r"\b(says?|said|tells?|told|believes?|knows?)\b")
"""Verbs that a file or program cannot do."""


@functools.cache
def read_messages() -> list[Message]:
    return list_messages()


def read_errors() -> list[Message]:
    return [message for message in read_messages() if message.kind == "error"]


def test_the_messages_are_found() -> None:
    """Hundreds of errors, of nearly every package, and lines that are printed."""
    assert len(read_errors()) > 450
    places = {message.where.partition("/")[0] for message in read_errors()}
    assert places >= {"apps", "cli", "core", "datasets", "recipes"}
    assert {message.kind for message in read_messages()} >= {"error", "line", "print", "echo", "warning"}


def check(message: Message) -> None:
    """Raise AssertionError unless each part of an error is a phrase that names something."""
    for part in PARTS:
        for text in message.parts[part]:
            assert text.strip(), f"{message}: '{part}' is empty"
            assert not SPEAKING.search(text), f"{message}: '{text}' lets software speak"
            if part in ("found", "expected"):
                assert not text.endswith((".", ";", ",")), f"{message}: '{part}' ends with punctuation"
                assert not text.startswith(("found ", "expected ")), f"{message}: the word is printed twice"
            if part == "fix":
                assert not re.match(r"[A-Z][a-z]+\b", text), f"{message}: 'fix' continues a line"
    pairs = [(found, expected) for found in message.parts["found"] for expected in message.parts["expected"]]
    for found, expected in pairs:
        empty = [bool(EMPTY_WORDS.fullmatch(text)) for text in (found, expected)]
        assert not all(empty), f"{message}: found '{found}', expected '{expected}'"
        assert found not in ("given", "wrong", "invalid"), f"{message}: names nothing that was found"


def test_each_part_of_an_error_is_a_phrase() -> None:
    for message in read_errors():
        check(message)


def test_errors_are_made_with_all_parts() -> None:
    """No StadiaError is made from one text, which could have any shape."""
    classes = {"StadiaError"}
    nodes = {path: list_nodes(path) for path in sorted(SOURCE.rglob("*.py"))}
    defined = [node for each in nodes.values() for node in each if isinstance(node, ast.ClassDef)]
    for _ in range(3):  # classes of classes
        classes |= {node.name for node in defined if {getattr(base, "id", "") for base in node.bases} & classes}
    mistakes = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, each in nodes.items()
        for node in each
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in classes - {"ConfigMistakes"}
        and not {"found", "expected", "fix"} <= {one.arg for one in node.keywords}
        and all(one.arg for one in node.keywords)  # `**parts` has them
    ]
    assert mistakes == []


def test_a_bad_message_is_noticed(tmp_path, monkeypatch) -> None:
    error = 'raise E("key", found=found, expected="nothing", fix=fix)'
    source = f'def f():\n    found, fix = "given", "Remove it"\n    {error}\n'
    (tmp_path / "bad.py").write_text(source)
    monkeypatch.setattr("tests.messages.SOURCE", tmp_path)
    (message,) = find_messages(tmp_path / "bad.py")
    assert str(message) == "bad.py:3 key: found given; expected nothing. Fix: Remove it."
    with pytest.raises(AssertionError, match=r"continues a line|expected 'nothing'"):
        check(message)
    assert UNKNOWN not in str(message)
