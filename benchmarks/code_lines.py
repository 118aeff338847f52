"""Count the lines of code of the package, without blank lines, comments and docstrings.

python benchmarks/code_lines.py [FOLDER]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def count_code_lines(source: str) -> int:
    """Return the number of lines of `source` that hold code.

    A docstring is any string that stands alone as a statement, which includes the text below a constant or a field.
    """
    docstring_lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstring_lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code_lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            code_lines.update(range(token.start[0], token.end[0] + 1))
    return len(code_lines - docstring_lines)


def main() -> None:
    """Print the lines of code of every package below the given folder, and their sum."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "src" / "stadia"
    lines_of: Counter[str] = Counter()
    for path in sorted(folder.rglob("*.py")):
        lines_of[path.relative_to(folder).parts[0]] += count_code_lines(path.read_text(encoding="utf-8"))
    for package, lines in lines_of.most_common():
        print(f"{lines:7,d}  {package}")
    print(f"{sum(lines_of.values()):7,d}  lines of code without blank lines, comments and docstrings")


if __name__ == "__main__":
    main()
