"""`stadia doctor`: what works on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from stadia.cli.arguments import JsonOption, flag
from stadia.cli.output import echo

GAPS = 1
"""Exit code if a training misses something."""


def doctor(
    online: Annotated[bool, flag("--online", "Also connect to the Hugging Face hub.")] = False,
    private: Annotated[bool, flag("--private", "Show whole paths; else your home folder is ~.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what works on this machine, with fixes.

    Exits with 1 at a gap.
    """
    from stadia.apps.machine_check import examine_machine

    entries = examine_machine(online=online, private=private)
    gaps = [entry for entry in entries if entry.state == "gap"]
    if as_json:
        echo(json.dumps([entry.to_dict() for entry in entries], indent=2))
    else:
        group = ""
        for entry in entries:
            if entry.group != group:
                group = entry.group
                echo(group)
            mark = {"works": " ", "note": "-", "gap": "!"}[entry.state]
            echo(f" {mark} {entry.name}: {entry.found}")
            if entry.cure:
                echo(f"     Fix: {entry.cure}")
        notes = sum(entry.state == "note" for entry in entries)
        echo(f"{len(gaps)} gaps (!), {notes} notes (-)")
    if gaps:
        raise typer.Exit(GAPS)
