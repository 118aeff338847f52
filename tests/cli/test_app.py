"""`stadia app` on the command line: what is refused before a server starts, and what needs a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra app is not installed")

Stadia = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("missing/run",), "no such run or network"),
        (("--host", "0.0.0.0"), "add --token random"),
        (("--token", "short"), "at least 16"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], expected: str, stadia: Stadia) -> None:
    code, _, err = stadia("app", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


def test_the_address_is_printed_with_its_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stadia: Stadia) -> None:
    from stadia.web import server

    def serve(app: Any, host: str, port: int, started: Callable[[str], None]) -> None:
        started(f"http://{host}:{port}/")
        app.state.shared.close()

    monkeypatch.setattr(server, "serve", serve)
    code, out, _ = stadia("app", "--runs", tmp_path, "--host", "0.0.0.0", "--token", "random")
    assert code == 0
    assert out.startswith("page: http://0.0.0.0:7860/?token=")


def test_torch_does_not_delay_the_page(python: Callable[[str], Any]) -> None:
    done = python("import sys, stadia.web.server; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
