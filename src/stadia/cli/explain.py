"""`stadia explain`: explain a finding, how it is measured, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer


def explain(
    code: Annotated[
        str | None,
        typer.Argument(help="Code of a finding, such as U01; a letter lists its family.", show_default=False),
    ] = None,
) -> None:
    """Explain a finding: symptom, cause, fix, measurement, origin, and the test that proves it; or
    list all findings.
    """
    from rich.console import Console

    from stadia.core.errors import ConfigError
    from stadia.core.tables import nearest
    from stadia.diagnostics.catalog import CATALOG
    from stadia.diagnostics.catalog.entry import FAMILIES
    from stadia.diagnostics.catalog.traces import TRACES, Trace

    console = Console(highlight=False)
    wanted = (code or "").upper()
    if wanted[1:].isdigit():
        wanted = f"{wanted[0]}{int(wanted[1:]):02d}"  # L5 is L05
    if wanted in CATALOG:
        entry, trace = CATALOG[wanted], TRACES.get(wanted, Trace(""))
        console.print(f"{entry.code} {entry.title}", style="bold", markup=False)
        lines = {"family": f"{FAMILIES[wanted[0]]}, checked at stage '{entry.stage}'"}
        lines |= {name: getattr(entry, name) for name in ("symptom", "cause", "fix", "measured", "seen")}
        lines |= {
            "from": f"{', '.join(trace.lines)} of the specifications" if trace.lines else trace.here,
            "proof": trace.proof,
        }
        for name, text in lines.items():
            console.print(f"  {name + ':':<10}{text}", markup=False, soft_wrap=True)
        return
    listed = [entry for entry in CATALOG.values() if not wanted or entry.code[0] == wanted]
    if not listed:
        close = nearest(wanted, CATALOG)
        fix = f"did you mean {close}? " * bool(close) + "`stadia explain` lists all"
        raise ConfigError("finding", found=f"'{code}'", expected="a code of the catalog", fix=fix)
    for entry in listed:
        console.print(f"{entry.code}  {entry.title}", markup=False, soft_wrap=True)
    console.print(f"{len(listed)} findings", markup=False)
