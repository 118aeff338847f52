"""`stadia doctor`: what works on this machine."""

from __future__ import annotations

import itertools
import json
from typing import Annotated

import typer

from stadia.cli.arguments import JsonOption, flag
from stadia.cli.output import echo

GAPS = 1
"""The command exits with this code if a training misses something."""


EXTRAS, MARKS = "extras", {"note": "-", "gap": "!"}


def doctor(
    online: Annotated[bool, flag("--online", "Also connect to the Hugging Face hub.")] = False,
    private: Annotated[bool, flag("--private", "Show whole paths; else your home folder is ~.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what works on this machine, with fixes. Exits with 1 at a gap."""
    from stadia.apps.machine_check import examine_machine

    entries = examine_machine(online=online, private=private)
    gaps = [entry for entry in entries if entry.state == "gap"]
    if as_json:
        echo(json.dumps([entry.to_dict() for entry in entries], indent=2))
    else:
        for group, members in itertools.groupby(entries, key=lambda entry: entry.group):
            listed = list(members)
            if works := [f"{entry.name} {entry.found}" for entry in listed if entry.state == "works"]:
                echo(f"{group}: {'; '.join(works)}")
            if group == EXTRAS:
                if missing := [entry.name for entry in listed if entry.cure]:
                    echo(f"- not installed: {', '.join(missing)}. Fix: pip install 'stadia[NAME]'")
                continue
            for entry in listed:
                if entry.cure:
                    echo(f"{MARKS[entry.state]} {entry.name}: {entry.found}. Fix: {entry.cure}")
        echo(f"{len(gaps)} gaps (!), {sum(entry.state == 'note' for entry in entries)} notes (-)")
    if gaps:
        raise typer.Exit(GAPS)
