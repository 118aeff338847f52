"""List the fixes that the code prints and that have a command, an option or a setting in them."""

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "stadia"
FIELDS = ("fix", "cure")
"""Arguments and fields that hold what a user can do."""

COMMAND = re.compile(
    r"(?<![\w-])--[a-z][a-z-]+"  # an option
    r"|(?<![\w/.'])stadia (?!is|and|does|cannot|reads|layout|that|wrote|again)[a-z{]"
    r"|(?<![\w.:/])[a-z][a-z_]*(?:\.[a-z_]+)*=(?![= ])"  # a setting
    r"|pip install|ffmpeg -"
)
"""What a user can run or pass: a fix without it is a sentence."""

IMPERATIVE = re.compile(r"(?:add|leave|make|pass|remove|run|set|use)\b")
"""How a text starts that is a fix although no argument is called so."""

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


def _read_text(node: ast.expr) -> str:
    """Return the text of an expression, with {} in place of what is known only when it runs."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_read_text(part) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.BinOp(left=left, right=right):
            return _read_text(left) + _read_text(right)
    return "{}"


def _list_texts(node: ast.expr, scopes: Sequence[Scope]) -> Iterator[str]:
    """Yield the texts that an expression may have; names are looked up in the functions around it and in the module."""
    match node:
        case ast.IfExp(body=one, orelse=other):
            yield from _list_texts(one, scopes)
            yield from _list_texts(other, scopes)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _list_texts(value, scopes)
        case ast.Constant() | ast.JoinedStr() | ast.BinOp():
            yield _read_text(node)
            for part in ast.walk(node):
                if isinstance(part, ast.Name | ast.IfExp):
                    yield from _list_texts(part, scopes)
        case ast.Name(id=name):
            for scope in scopes:
                yield from _list_assigned(name, scope)


def _list_assigned(name: str, scope: Scope) -> Iterator[str]:
    """Yield the texts that a function or a module assigns to a name."""
    for statement in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) or statement.value is None:
            continue
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            match target, statement.value:
                case ast.Name(id=found), value if found == name:
                    yield from _list_texts(value, ())
                case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                    for one, value in zip(targets, values, strict=False):
                        if isinstance(one, ast.Name) and one.id == name:
                            yield from _list_texts(value, ())


def _visit(node: ast.AST, scopes: tuple[Scope, ...]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = (*scopes, child) if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else scopes
        if isinstance(child, ast.Call):
            for argument in child.keywords:
                if argument.arg in FIELDS:
                    yield from _list_texts(argument.value, inner)
        if isinstance(child, ast.Assign) and isinstance(target := child.targets[0], ast.Name) and target.id in FIELDS:
            yield from _list_texts(child.value, inner)
        if isinstance(child, ast.Constant | ast.JoinedStr):
            text = _read_text(child)
            if ". Fix: " in text or IMPERATIVE.match(text):
                yield text.rpartition(". Fix: ")[2]
        elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):  # a docstring
            yield from _visit(child, inner)


def _list_catalog(values: object) -> Iterator[str]:
    if isinstance(values, dict):
        for name, value in values.items():
            if name == "fix":
                yield re.sub(r"\{[^}]*\}", "{}", " ".join(value.split()))
            else:
                yield from _list_catalog(value)


def list_fixes(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the fixes of the code and of the catalog -> the files that have them.

    {} is in place of what is known only when the code runs.
    """
    fixes: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for text in _visit(tree, (tree,)):
            fixes.setdefault(" ".join(text.split()), set()).add(path.relative_to(package).as_posix())
    for path in sorted(package.rglob("judge/catalog/*.toml")):
        for text in _list_catalog(tomllib.loads(path.read_text(encoding="utf-8"))):
            fixes.setdefault(text, set()).add(path.relative_to(package).as_posix())
    return fixes


def list_runnable_fixes(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the fixes that name a command, an option or a setting -> the files that have them."""
    return {text: files for text, files in list_fixes(package).items() if COMMAND.search(text)}
