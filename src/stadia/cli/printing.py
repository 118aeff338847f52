"""Print plain lines, in which text of files may stand, without what a terminal obeys."""

from __future__ import annotations

import typer

from stadia.core.errors import escape_controls


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes. `nl` adds a line end.

    On a terminal that is closed nothing is printed. Raises OutputClosedError where nobody reads a pipe any more.
    """
    try:
        typer.echo(escape_controls(str(text)), err=err, nl=nl)
    except OSError as error:
        from stadia.process.closed_output import handle_output_error

        handle_output_error(error)
