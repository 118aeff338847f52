"""`stadia app` on the command line: what is refused before a server starts, and what needs a token."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stadia.cli.app import has_desktop

pytest.importorskip("starlette", reason="the extra app is not installed")

Stadia = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "names_token"),
    [((), True), (("--host", "0.0.0.0"), True), (("--token", "a&b=c#d, 16 letters"), True), (("--no-token",), False)],
)
def test_the_printed_address_opens_the_page_and_no_other_does(
    words: tuple[str, ...], names_token: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stadia: Stadia
) -> None:
    testclient = pytest.importorskip("starlette.testclient", reason="httpx is not installed")
    from stadia.web import server

    served: list[Any] = []

    def serve(app: Any, host: str, port: int, started: Callable[[str], None]) -> None:
        started("http://127.0.0.1:7860/")
        served.append(app)

    monkeypatch.setattr(server, "serve", serve)
    code, out, _ = stadia("app", "--runs", tmp_path, *words)
    page = out.splitlines()[0].removeprefix("page: ")
    opened = [
        testclient.TestClient(served[0], base_url="http://127.0.0.1:7860").get(address).status_code
        for address in ("/", page.removeprefix("http://127.0.0.1:7860"))
    ]
    served[0].state.shared.close()
    assert code == 0
    assert ("?token=" in page) is names_token
    assert opened == [401 if names_token else 200, 200]


@pytest.mark.slow
def test_no_heavy_library_delays_the_page(python: Callable[[str], Any]) -> None:
    heavy = ("torch", "numpy", "cv2", "av", "pydantic", "scipy")
    done = python(f"import sys, stadia.web.server; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("missing", ["", "terminal", "screen", "person"])
def test_the_browser_opens_for_a_person_at_the_screen(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: missing != "terminal"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    if missing != "screen":
        monkeypatch.setenv("DISPLAY", ":0")
    if missing == "person":
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 22")
    assert has_desktop() == (not missing)
