"""Every error in the source has the shape `FILE-or-key: found X; expected Y.[ Fix: Z.]`, and its parts can be read.

Texts are read from the source. `{...}` stands for a value that is known only when the program runs.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.source_trees import list_nodes

pytestmark = pytest.mark.slow  # reads every file of the package

SOURCE = Path(__file__).parents[1] / "src" / "stadia"
PARTS = ("found", "expected", "fix")
UNKNOWN = "{...}"
EMPTY_WORDS = re.compile(r"(given|nothing|none|unset|wrong|invalid|both)")
"""A part that is one of these words alone has no information, except as the end of "found none; expected depth"."""
EMPTY_FIX = re.compile(r"(correct|mend|repair|fix) (it|them|one of (them|both)|the \w+)( or remove it)?")
"""A `fix` that repeats that something is wrong; `expected` has it already."""
SPEAKING = re.compile(r"\b(says?|said|tells?|told|believes?|knows?)\b")
"""Verbs that a file or program cannot do."""


@dataclass(frozen=True)
class Message:
    """A StadiaError that is made at a place. A part has several texts where its source chooses between them."""

    where: str
    parts: dict[str, list[str]]


def read_texts(node: ast.expr) -> list[str]:
    """Return the texts that an expression can have."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.JoinedStr():
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else UNKNOWN for part in node.values)]
        case ast.IfExp():
            return [*read_texts(node.body), *read_texts(node.orelse)]
        case ast.BinOp(op=ast.Add()):
            return [left + right for left in read_texts(node.left) for right in read_texts(node.right)]
        case _:
            return [UNKNOWN]


def find_messages(path: Path) -> Iterator[Message]:
    """Yield the errors of a file."""
    for node in list_nodes(path):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if keywords.keys() >= {"found", "expected"}:
                parts = {part: read_texts(keywords[part]) for part in PARTS if part in keywords}
                yield Message(f"{path.name}:{node.lineno}", parts)


def check(message: Message) -> None:
    """Raise AssertionError unless each part of an error is a phrase that names something."""
    for part, texts in message.parts.items():
        for text in texts:
            assert text.strip(), f"{message}: '{part}' is empty"
            assert not SPEAKING.search(text), f"{message}: '{text}' lets software speak"
            if part in ("found", "expected"):
                assert not text.endswith((".", ";", ",")), f"{message}: '{part}' ends with punctuation"
                assert not text.startswith(("found ", "expected ")), f"{message}: the word is printed twice"
            if part == "fix":
                assert not re.match(r"[A-Z][a-z]+\b", text), f"{message}: 'fix' continues a line"
                assert not EMPTY_FIX.fullmatch(text), f"{message}: '{text}' is no action, leave it out"
    pairs = [(found, expected) for found in message.parts["found"] for expected in message.parts["expected"]]
    for found, expected in pairs:
        are_empty = all(EMPTY_WORDS.fullmatch(text) for text in (found, expected))
        assert not are_empty, f"{message}: found '{found}', expected '{expected}'"
        assert found not in ("given", "wrong", "invalid"), f"{message}: names nothing that was found"


def test_each_part_of_an_error_is_a_phrase() -> None:
    messages = [message for path in sorted(SOURCE.rglob("*.py")) for message in find_messages(path)]
    assert len(messages) > 300
    for message in messages:
        check(message)


def test_a_bad_message_is_noticed(tmp_path: Path) -> None:
    for parts in (
        'found="given", expected="nothing", fix="remove it"',
        'found="x.", expected="y", fix="remove it"',
        'found=f"what {name} says", expected="y", fix="remove it"',
        'found="x", expected="y" if z else "", fix="remove it"',
        'found="x", expected="y", fix="Remove it"',
        'found="x", expected="y", fix="correct the file"',
    ):
        path = tmp_path / f"{len(parts)}.py"
        path.write_text(f'raise E("key", {parts})')
        (message,) = find_messages(path)
        with pytest.raises(AssertionError):
            check(message)
