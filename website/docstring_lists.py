"""Show the fields that a docstring explains, `name: text` a line, as a list; an extension of griffe."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMES = r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*"
FIELD = re.compile(rf"(?P<names>{NAMES}): (?P<text>\S.*)")
SECTIONS = {"Args", "Returns", "Raises", "Yields", "Examples", "Example", "Source", "Data", "Command", "Measured"}
"""What a line of a docstring may begin with that is no field."""


def list_fields(text: str) -> str:
    """Return a docstring whose paragraphs of fields are lists.

    A paragraph is one of fields if its first line explains one. Two fields on a line are parted where two spaces are.
    """
    return "\n\n".join(map(_list_paragraph, text.split("\n\n")))


def _list_paragraph(paragraph: str) -> str:
    first = FIELD.match(paragraph)
    if first is None or first["names"] in SECTIONS or paragraph.startswith(("Args", "Returns", "Examples")):
        return paragraph
    items: list[str] = []
    for line in paragraph.split("\n"):
        for part in re.split(rf"  (?={NAMES}: )", line):
            found = FIELD.match(part)
            if found and found["names"] not in SECTIONS:
                items.append(f"- `{found['names']}`: {found['text']}")
            else:
                items.append(f"  {part.strip()}")
    return "\n".join(items)


class FieldLists(griffe.Extension):  # type: ignore[misc]
    """Apply `list_fields` to every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = list_fields(obj.docstring.value)
