"""List the fixes that the code prints and that have a command, an option or a setting in them."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "stadia"
FIELDS = ("fix", "cure")
"""Arguments and fields that hold what a user can do."""

COMMAND = re.compile(
    r"(?<![\w-])--[a-z][a-z-]+"  # an option
    r"|(?<![\w/.'])stadia (?!is|and|does|cannot|reads|layout|that|wrote|again|version)[a-z{]"
    r"|(?<![\w.:/])[a-z][a-z_]*(?:\.[a-z_]+)*=(?![= ])"  # a setting
    r"|pip install|ffmpeg -|python -c"
)
"""What a user can run or pass: a fix without it is a sentence."""

LOOK = re.compile(r"(?:^|(?<=[;,:.] ))(?:or )?look at (?:(?!, (?:or|then) )[^;])*")
"""What a user looks at, which changes nothing: the names in it need no trial."""

CONSTANT = re.compile(r"\b_?[A-Z][A-Z0-9_]+\b")
"""The name of a constant."""

IMPORT = re.compile(r"^ *from (stadia[\w.]*) import (?:\(([^)]*)\)|(.*))$", re.MULTILINE)
"""Imports of a module: where from, and names."""

Constants = Mapping[str, str]
"""Name -> text."""

NAME = re.compile(r"--[a-z][a-z-]+")
"""An option alone, which is put into another text."""

IMPERATIVE = re.compile(r"(?:add|leave|make|pass|remove|restore|run|set|use)\b")
"""How a text starts that is a fix although no argument is called so."""

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


def _read_text(node: ast.expr, known: Constants) -> str:
    """Return the text of an expression, with {} in place of what is known only when it runs."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_read_text(part, known) for part in parts)
        case ast.FormattedValue(value=value) if isinstance(value, ast.Name):
            return known.get(value.id, "{}")
        case ast.Name(id=name):
            return known.get(name, "{}")
        case ast.BinOp(left=left, right=right):
            return _read_text(left, known) + _read_text(right, known)
    return "{}"


def _list_texts(node: ast.expr, scopes: Sequence[Scope], known: Constants) -> Iterator[str]:
    """Yield the texts that an expression may have; names are looked up in the functions around it and in the module."""
    match node:
        case ast.IfExp(body=one, orelse=other):
            yield from _list_texts(one, scopes, known)
            yield from _list_texts(other, scopes, known)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _list_texts(value, scopes, known)
        case ast.Constant() | ast.JoinedStr() | ast.BinOp():
            yield _read_text(node, known)
            for part in ast.walk(node):
                if isinstance(part, ast.IfExp) or (isinstance(part, ast.Name) and part.id not in known):
                    yield from _list_texts(part, scopes, known)
        case ast.Name(id=name) if name in known:
            yield known[name]
        case ast.Name(id=name):
            for scope in scopes:
                yield from _list_assigned(name, scope, known)


def _list_assigned(name: str, scope: Scope, known: Constants) -> Iterator[str]:
    """Yield the texts that a function or a module assigns to a name."""
    for statement in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign) or statement.value is None:
            continue
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            match target, statement.value:
                case ast.Name(id=found), value if found == name:
                    yield from _list_texts(value, (), known)
                case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                    for one, value in zip(targets, values, strict=False):
                        if isinstance(one, ast.Name) and one.id == name:
                            yield from _list_texts(value, (), known)


def _visit(node: ast.AST, scopes: tuple[Scope, ...], known: Constants) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = (*scopes, child) if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else scopes
        if isinstance(child, ast.Call):
            for argument in child.keywords:
                if argument.arg in FIELDS:
                    yield from _list_texts(argument.value, inner, known)
        if isinstance(child, ast.Assign) and isinstance(target := child.targets[0], ast.Name) and target.id in FIELDS:
            yield from _list_texts(child.value, inner, known)
        if isinstance(child, ast.Constant | ast.JoinedStr):
            text = _read_text(child, known)
            if ". Fix: " in text or IMPERATIVE.match(text):
                yield text.rpartition(". Fix: ")[2]
        elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):  # a docstring
            yield from _visit(child, inner, known)


class _Module:
    """A module of the package, with the constants that it has or imports."""

    def __init__(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(source)
        self.imports = [(found[1], CONSTANT.findall(found[2] or found[3])) for found in IMPORT.finditer(source)]
        self.known: dict[str, str] | None = None

    def read_constants(self, modules: Mapping[str, "_Module"]) -> Constants:
        """Return the text of each constant of this module, and of those that it imports."""
        if self.known is not None:
            return self.known
        known = self.known = dict[str, str]()
        for other, names in self.imports:
            if names and other in modules:
                theirs = modules[other].read_constants(modules)
                known |= {name: theirs[name] for name in names if name in theirs}
        for statement in self.tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if CONSTANT.fullmatch(name):
                    text = _read_text(value, known)
                    known |= {} if "{}" in text else {name: text}
        return known


def _list_catalog(values: object) -> Iterator[str]:
    """Yield each part of the fixes of a catalog: they are lists of what helps."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name == "fix":
                yield from re.sub(r"\{[^}]*\}", "{}", " ".join(value.split())).split("; ")
            else:
                yield from _list_catalog(value)


@cache
def list_fixes(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the fixes of the code and of the catalog -> the files that have them.

    {} is in place of what is known only when the code runs.
    """
    fixes: dict[str, set[str]] = {}
    paths = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)): path
        for path in sorted(package.rglob("*.py"))
    }
    modules = {name: _Module(path) for name, path in paths.items()}
    for name, path in paths.items():
        module = modules[name]
        for text in _visit(module.tree, (module.tree,), module.read_constants(modules)):
            fixes.setdefault(" ".join(text.split()), set()).add(path.relative_to(package).as_posix())
    for path in sorted(package.rglob("judge/catalog/*.toml")):
        for text in _list_catalog(tomllib.loads(path.read_text(encoding="utf-8"))):
            fixes.setdefault(text, set()).add(path.relative_to(package).as_posix())
    return fixes


def list_runnable_fixes(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return the fixes that name a command, an option or a setting -> the files that have them."""
    return {
        text: files
        for text, files in list_fixes(package).items()
        if COMMAND.search(LOOK.sub("", text)) and not NAME.fullmatch(text)
    }
