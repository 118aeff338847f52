"""Fixes that functions of Python print: a call that prints it, and the call of the fix."""

import socket
from collections.abc import Callable
from functools import partial

from stadia.cli.app import _choose_token
from stadia.web.scene import show_page

Call = Callable[[], object]


class _Stop(Exception):
    """Ends a server once it has started."""


def _serve(port: int) -> None:
    def stop(address: str) -> None:
        raise _Stop

    try:
        show_page("page", "127.0.0.1", port, stop)
    except _Stop:
        return


def _serve_at_a_used_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        _serve(other.getsockname()[1])


CALLS: dict[str, tuple[Call, Call]] = {
    "remove --no-token": (
        partial(_choose_token, None, "0.0.0.0", no_token=True),
        partial(_choose_token, None, "0.0.0.0", no_token=False),
    ),
    "remove --token for a random one": (
        partial(_choose_token, "abc", "localhost", no_token=False),
        partial(_choose_token, None, "localhost", no_token=False),
    ),
    "pass another --port": (_serve_at_a_used_port, partial(_serve, 0)),
}
"""Fix -> the call that prints it, and the call that follows it and then succeeds."""
