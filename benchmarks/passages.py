"""Draw passages for readers: messages, findings, docstrings, documents and texts of the app.

python benchmarks/passages.py [--seed 0] [--count 10]
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stadia"
MIN_WORDS = 8
RAISED = re.compile(r"(Error|Finding|note|warn|print|echo)", re.IGNORECASE)


def list_docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield ast.get_docstring(node) or ""


def list_messages(path: Path) -> Iterator[str]:
    """Yield the texts of calls that raise or print: f-strings have ... for their fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and RAISED.search(ast.unparse(node.func)):
            fields = {keyword.arg: _read_text(keyword.value) for keyword in node.keywords}
            where = _read_text(node.args[0]) if node.args else ""
            if fields.get("found"):
                fix = f" Fix: {fields['fix']}." if fields.get("fix") else ""
                yield f"{where or '...'}: found {fields['found']}; expected {fields.get('expected') or '...'}.{fix}"
            elif where:
                yield where


def list_findings(path: Path) -> Iterator[str]:
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).values():
        if isinstance(entry, dict) and "title" in entry:
            yield "\n".join(f"{name}: {entry[name]}" for name in ("title", "symptom", "cause", "fix") if name in entry)


def _read_text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def list_paragraphs(path: Path) -> Iterator[str]:
    text = re.sub(r"^ *(```|~~~).*?^ *\1$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    yield from (part.strip() for part in text.split("\n\n") if part[:1] not in "#|!<$")


def list_page_texts(path: Path) -> Iterator[str]:
    """Yield whole sentences: tags within a line are left out, and a label keeps the hint behind its field."""
    text = re.sub(r"</?(code|b|i|em|a|kbd|span|label|input)\b[^>]*>", " ", path.read_text(encoding="utf-8"))
    yield from (" ".join(part.split()) for part in re.findall(r">([^<>{}]+)<", text))


KINDS: dict[str, tuple[Callable[[Path], Iterator[str]], Callable[[], Iterator[Path]]]] = {
    "message": (list_messages, lambda: SOURCE.rglob("*.py")),
    "finding": (list_findings, lambda: (SOURCE / "checks" / "catalog").glob("*.toml")),
    "docstring": (list_docstrings, lambda: SOURCE.rglob("*.py")),
    "document": (list_paragraphs, lambda: (ROOT / "docs").rglob("*.md")),
    "app": (list_page_texts, lambda: (SOURCE / "web").rglob("*.html")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    for kind, (list_texts, find_files) in KINDS.items():
        texts = {
            text
            for path in find_files()
            for text in list_texts(path)
            if len(text.split()) >= MIN_WORDS and not text.startswith("...")
        }
        for text in chance.sample(sorted(texts), min(given.count, len(texts))):
            print(f"[{kind}]\n{text}\n")


if __name__ == "__main__":
    main()
