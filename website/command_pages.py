"""Write the pages of the command line from the program itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from website.markdown_text import code, escape, table

INTRODUCTION = """\
# Command line

Every command prints its help with `--help`. A mistake is one line, `FILE-or-key: found X; expected
Y. Fix: Z.`, and exit code 2. `--traceback`, anywhere on the line, also shows where it was raised.
Most commands take configuration keys as `KEY=VALUE`: [configuration](configuration/index.md).
"""


def write_commands() -> dict[str, str]:
    """Return the text of each page by its path below docs/."""
    import typer

    from stadia.cli.main import app

    commands = dict(_collect(typer.main.get_command(app), ""))
    rows = [
        (f"[`stadia {name}`](command-line/{_slug(name)}.md)", escape(_paragraphs(one)[0]))
        for name, one in commands.items()
    ]
    pages = {"reference/command-line.md": "\n".join((INTRODUCTION, table(("command", "what it does"), rows), ""))}
    return pages | {
        f"reference/command-line/{_slug(name)}.md": _write_command(name, one) for name, one in commands.items()
    }


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _collect(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, inner in getattr(command, "commands", {}).items():
        yield from _collect(inner, f"{name} {word}".strip())
    if not getattr(command, "commands", {}):
        yield name, command


def _paragraphs(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\b", "").partition("\f")[0]
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]


def _write_command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["stadia", name, *(_usage(one) for one in arguments), "[OPTIONS]"])
    parts = [f"# stadia {name}", *map(escape, _paragraphs(command)), f"```text\n{usage}\n```"]
    if arguments:
        rows = [(code(_metavar(one)), escape(one.help or "")) for one in arguments]
        parts.append(f"## Arguments\n\n{table(('argument', 'meaning'), rows)}")
    rows = [(_names(one), escape(one.help or ""), code(_default(one))) for one in options]
    parts.append(f"## Options\n\n{table(('option', 'meaning', 'default'), rows)}")
    return "\n\n".join(parts) + "\n"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _usage(argument: Any) -> str:
    word = _metavar(argument) + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar or _name_value(option)}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _name_value(option: Any) -> str:
    """Return PATH, NUMBER or TEXT for an option. Older versions of typer use click's types."""
    if (descriptor := getattr(option, "type_descriptor", None)) is None:
        return str(option.type.name).upper()
    members = get_args(descriptor.annotation) or (descriptor.annotation,)
    kind = next(member for member in members if member is not type(None))
    return {"Path": "PATH", "int": "NUMBER", "float": "NUMBER"}.get(getattr(kind, "__name__", ""), "TEXT")


def _default(option: Any) -> str:
    default = option.default
    if default is None or callable(default) or default is False or default == () or default == "" or option.is_flag:
        return ""
    return str(getattr(default, "value", default))
