"""Write plain text and tables as Markdown, and formulas as MathML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

CODE = re.compile(r"(^```.*?^```|^~~~.*?^~~~|``.*?``|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
"""Fenced blocks and code spans, in which nothing is changed."""
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\w$])", re.DOTALL)


def escape(text: str) -> str:
    """Return plain text as one line of Markdown; code spans stay as they are."""
    return _outside_code(" ".join(text.split()), lambda part: re.sub(r"([<*\[\]$])", _escape_character, part))


def _escape_character(match: re.Match[str]) -> str:
    return "&lt;" if match[1] == "<" else f"\\{match[1]}"


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = CODE.split(text)
    parts[::2] = [change(part) for part in parts[::2]]
    return "".join(parts)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table. The cells are Markdown; bars in them are escaped."""
    names = list(head)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") or " " for cell in line) + " |" for line in (names, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:]])


def code(text: str) -> str:
    """Return text as a code span, empty for empty text."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text.strip() else ""


def render_formulas(text: str) -> str:
    """Return Markdown whose `$...$` and `$$...$$` are MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    def replace(match: re.Match[str]) -> str:
        if match["block"]:
            return f'<div class="formula">{convert(match["block"].strip(), display="block")}</div>'
        return f"<span>{convert(match['inline'])}</span>"  # a line that begins with <math is a block

    return _outside_code(text, lambda part: FORMULA.sub(replace, part))
