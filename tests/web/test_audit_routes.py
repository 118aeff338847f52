"""The pages of audits and of checks of rigs in the folders of the server: their list, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import Browser, make_picture

from stadia.report.audit_page import AuditPage, ShownGroup, ShownItem, write_audit_page
from stadia.report.embedded_images import encode_jpeg
from stadia.report.reconstruction_page import ShownCause, ShownPurpose
from stadia.report.rig_page import RigPage, ShownCamera, write_rig_page
from stadia.web.server import make_app

FAULT = "the poses have the camera axes of OpenGL (x right, y up, z backward)"


def write_audit(folder: Path) -> Path:
    """Write the folder of an audit of twelve items, of which three are bad."""
    folder.mkdir()
    grades = ["unusable"] * 3 + ["doubtful"] * 2 + ["usable"] * 7
    faults = [FAULT] * 3 + ["the focal length is 2.0% too long"] * 2 + [""] * 7
    names = [f"campus/scene-{number:02}" for number in range(12)]
    picture = encode_jpeg(make_picture(120, 320), 640)
    page = AuditPage(
        title="campus",
        grade="unusable",
        word="3 of 12 items are bad",
        finding="5 items have a fault. 1 fault is common to several items.",
        tiles={"usable": "7", "doubtful": "2", "unusable": "3", "processor": "8.1 s an item"},
        common=[("camera left", "3 of 6 items", FAULT, "turn the camera axes")],
        items=[ShownItem(name=names[0], grade="unusable", what=[FAULT], fix="turn the camera axes", picture=picture)],
        groups={"camera": [ShownGroup(name="left", count=6, grades={"unusable": 3, "usable": 3})]},
        histograms={"Error of the focal length, %": [0.1, 0.2, 0.1, 2.0, 2.1, 0.3]},
        changes=[(names[4], "usable", "doubtful")],
        columns=("item", "grade", "certainty", "faults", "images", "focal length, %", "rotation, °", "position, %"),
        rows=[
            [name, grade, "0.99", fault, "20 of 80", "2.0 ± 0.1", "0.64 ± 0.05", ""]
            for name, grade, fault in zip(names, grades, faults, strict=True)
        ],
        left_out=0,
    )
    write_audit_page(folder / "audit.html", page)
    (folder / "exclude.txt").write_text("# items that are bad\n" + "".join(f"{name}\n" for name in names[:3]))
    return folder


def write_rig(folder: Path) -> Path:
    """Write the folder of a check of a rig of two cameras, of which one turned."""
    folder.mkdir()
    gate = ShownCamera(
        name="gate",
        grade="doubtful",
        causes=[ShownCause("the camera turned by 0.781 ± 0.002 degrees, 7.14 ± 0.02 px", "turn it back")],
        measured={"turned": "up +0.199 ± 0.002, right -0.749 ± 0.002, clockwise +0.100 ± 0.007 degrees"},
        purposes=[ShownPurpose("points=2px", False, "displacement of the image 7.1 ± 0.02 px, at most 2")],
        picture=encode_jpeg(make_picture(240, 640), 1000),
    )
    yard = ShownCamera(name="yard", grade="not judged", measured={}, reason="too few matches")
    finding = "2 of 3 cameras have a new recording. Without one: roof."
    page = RigPage(title="entrance", grade="doubtful", finding=finding, cameras=[gate, yard])
    write_rig_page(folder / "rig-check.html", page)
    (folder / "rig-check.json").write_text(json.dumps({"grade": "doubtful", "cameras": [{}, {}], "missing": ["roof"]}))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_audit(folder / "audit-campus")
    write_rig(folder / "rig-june")
    (folder / "other").mkdir()
    return folder


@pytest.fixture
def browser(root: Path) -> Iterator[Browser]:
    with TestClient(make_app([], data=root), base_url="http://127.0.0.1") as client:
        yield Browser(client)


def test_audits_and_rigs_are_listed_with_their_pages(browser: Browser, root: Path) -> None:
    pages = {one["name"]: one for one in browser.client.get("/api/pages").json()["pages"]}
    assert {name: (one["kind"], one["about"]) for name, one in pages.items()} == {
        "audit-campus": ("audit", "3 bad items"),
        "rig-june": ("rig", "doubtful, 2 cameras"),
    }
    reply = browser.client.get("/api/pages/audit-campus")
    assert reply.content == (root / "audit-campus" / "audit.html").read_bytes()
    assert "sandbox" in reply.headers["content-security-policy"]
    (root / "rig-june" / "rig-check.json").write_text("[]")
    assert "cannot be read" in str(browser.client.get("/api/pages").json())


@pytest.mark.parametrize("name", ["other", "..", "%2e%2e", "none"])
def test_other_folders_are_no_pages(browser: Browser, name: str) -> None:
    assert browser.client.get(f"/api/pages/{name}").status_code in (404, 422)


def test_links_out_of_the_folder_and_strangers_see_nothing(root: Path, tmp_path: Path) -> None:
    secret = write_audit(tmp_path / "secret")
    (root / "linked").symlink_to(secret)
    with TestClient(make_app([], data=root), base_url="http://127.0.0.1") as client:
        names = [one["name"] for one in Browser(client).client.get("/api/pages").json()["pages"]]
        assert sorted(names) == ["audit-campus", "rig-june"]
    with TestClient(make_app([], data=root, public_host="127.0.0.1"), base_url="http://127.0.0.1") as client:
        reply: Any = Browser(client).client.get("/api/pages")
        assert reply.status_code != 200 or reply.json() == {"pages": []}
