"""Who may use the server: other pages, other host names, other machines; and that the page loads nothing else."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser, encode, make_picture

from stadia.core.errors import ConfigError
from stadia.web.guards import CSRF_HEADER
from stadia.web.server import SHARED_FOLDER, STATIC, make_app
from stadia.web.sessions import MAX_SESSIONS


@pytest.mark.slow
def test_a_request_of_another_page_is_refused(browser: Browser) -> None:
    picture = encode(make_picture())
    assert browser.client.post("/api/photos", content=picture).status_code == 403
    assert browser.upload(picture).status_code == 200
    foreign = browser.post("/api/photos", content=picture, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    own = browser.post("/api/photos", content=picture, headers={"origin": "http://127.0.0.1"})
    assert own.status_code == 200


def test_another_host_name_is_refused(app: Any) -> None:
    """A name of somebody's domain may lead to this machine (DNS rebinding)."""
    with TestClient(app, base_url="http://evil.example") as client:
        assert client.get("/").status_code == 421


def test_a_server_with_a_token_shows_nothing_without_it() -> None:
    token = "a-token-of-the-test-suite"
    with TestClient(make_app([], token=token), base_url="http://stadia.example") as client:
        for path in ("/", "/static/main.js", "/api/session", "/?token=wrong"):
            assert client.get(path).status_code == 401
        assert "<h1>" in client.get("/", headers={"accept": "text/html"}).text, "a person reads a sentence"
        assert client.get(f"/?token={token}", follow_redirects=True).status_code == 200
        assert client.get("/api/session").json()["networks"] == []
        cookies = [cookie for cookie in client.cookies.jar if cookie.name.startswith("stadia")]
        assert len(cookies) == 2
        assert all(cookie.has_nonstandard_attr("HttpOnly") for cookie in cookies)
        assert all(cookie.get_nonstandard_attr("SameSite") == "lax" for cookie in cookies)


def test_a_public_page_lets_strangers_predict_and_nothing_else() -> None:
    app = make_app(["metres"], public_host="stadia.example")
    with TestClient(app, base_url="https://stadia.example") as client:
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        assert "; Secure" in client.get("/").headers["set-cookie"]
        session = client.get("/api/session").json()
        assert session["is_public"]
        csrf = {CSRF_HEADER: session["csrf"]}
        assert client.get("/api/runs").status_code == 422
        training = {"name": "drive", "preset": "selfsup", "minutes": 10}
        assert client.post("/api/trainings", json=training, headers=csrf).status_code == 422
        refused = client.post("/api/networks/base/download", headers=csrf)
        assert (refused.status_code, "public page" in refused.json()["error"]) == (422, True)
    with pytest.raises(ConfigError, match="public page"):
        app.state.shared.check_private("adapt")


@pytest.mark.slow
def test_other_pages_and_requests_without_a_cookie_end_no_session(app: Any) -> None:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.get("/")
        session = app.state.shared.sessions.find(client.cookies.get("stadia_session_80"))
        session.photos["a"] = object()
        foreign = {"sec-fetch-site": "cross-site"}
        for _ in range(3 * MAX_SESSIONS):
            client.cookies.clear()
            assert "set-cookie" not in client.get("/", headers=foreign).headers
            client.get("/")
        assert app.state.shared.sessions.find(session.key) is session


@pytest.mark.parametrize("name", ["host", "origin"])
def test_an_address_that_is_none_is_refused(browser: Browser, name: str) -> None:
    reply = browser.client.get("/api/session", headers={name: "[" if name == "host" else "http://["})
    assert reply.status_code == 400


def test_the_page_names_no_other_host() -> None:
    """What it loads is in the package; its policy refuses the rest."""
    for path in [*STATIC.glob("*.*"), *SHARED_FOLDER.glob("*.*")]:
        text = path.read_text(encoding="utf-8", errors="replace")
        hosts = set(re.findall(r"(?:https?:)?//([\w-]+\.[\w.-]+)", text)) - {"www.w3.org"}
        assert not hosts, f"{path.name}: {hosts}"


def test_every_reply_has_the_policy(browser: Browser) -> None:
    for path in ("/", "/static/main.js", "/api/nothing", "/api/session"):
        policy = browser.client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/shared/../report_page.py"])
def test_files_outside_of_the_page_are_not_served(browser: Browser, path: str) -> None:
    assert browser.client.get(path).status_code == 404
