"""Print plain lines, in which text of files may stand, without what a terminal obeys."""

from __future__ import annotations

import errno

import typer

from stadia.core.errors import escape_controls


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes. `nl` adds a line end.

    On a terminal that is closed nothing is printed.
    """
    try:
        typer.echo(escape_controls(str(text)), err=err, nl=nl)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        from stadia.core.quick_stop import leave_closed_output

        leave_closed_output()
