"""`stadia explain`: what a finding means."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from stadia.cli.arguments import argument
from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name


def explain(
    code: Annotated[str | None, argument("Code of a finding, such as U01; a letter lists its family.")] = None,
) -> None:
    """Explain a finding by its code. Without a code, lists the families of findings."""
    from stadia.diagnostics.catalog import CATALOG
    from stadia.files.input_files import parse_integer
    from stadia.process.terminal import Terminal

    console = Terminal(highlight=False)
    wanted = (code or "").upper()
    if (number := parse_integer(wanted[1:], most=99)) is not None:
        wanted = f"{wanted[0]}{number:02d}"  # L5 is L05
    if wanted in CATALOG:
        entry = CATALOG[wanted]
        console.print(f"{entry.code} {entry.title}", style="bold", markup=False)
        lines = {"family": f"{entry.family.label}, checked at stage '{entry.stage}'"}
        lines |= {name: getattr(entry, name) for name in ("symptom", "cause", "fix", "measured", "source", "proof")}
        for name, text in ((name, text) for name, text in lines.items() if text):
            console.print(f"  {name + ':':<10}{text}", markup=False, soft_wrap=True)
        return
    if not wanted:
        for family, count in Counter(entry.family for entry in CATALOG.values()).items():
            console.print(f"{family}  {family.label} ({count})", markup=False)
        console.print(f"{len(CATALOG)} findings; `stadia explain LETTER` lists a family", markup=False)
        return
    listed = [entry for entry in CATALOG.values() if entry.family == wanted]
    if not listed:
        close = find_nearest_name(wanted, CATALOG)
        fix = f"did you mean {close}? " * bool(close) + "`stadia explain` lists the families"
        raise ConfigError("finding", found=f"'{code}'", expected="a code of the catalog", fix=fix)
    for entry in listed:
        console.print(f"{entry.code}  {entry.title}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} findings", markup=False)
