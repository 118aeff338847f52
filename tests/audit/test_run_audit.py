"""An audit of a small dataset: verdicts, resume, tables and exit codes."""

import contextlib
import csv
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.audit.rooms import find_poses, write_scene
from tests.refusals import refuses

from stadia.audit.audit_files import BADGE, EXCLUDE, TABLE
from stadia.audit.image_sample import ImageSample
from stadia.audit.item_images import open_item
from stadia.audit.items import list_items
from stadia.audit.judge_item import ItemVerdict, JudgeOptions, judge_item
from stadia.audit.run_audit import AuditRequest, call_webhook, check_webhook, run_audit, watch_audit
from stadia.audit.show_audit import PAGE, compare_audits
from stadia.batches.ledger import LEDGER, open_ledger
from stadia.cli.main import run
from stadia.core.errors import ConfigError, DataError, RunError
from stadia.geometry.poses import invert_pose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two right scenes, one with inverted poses, one with a focal length of 1.1 times, and a damaged one."""
    folder = tmp_path_factory.mktemp("dataset")
    write_scene(folder / "right-1", 1)
    write_scene(folder / "right-2", 2)
    write_scene(folder / "inverted", 3, poses=invert_pose(find_poses()))
    write_scene(folder / "longer", 4, focal=1.1)
    damaged = write_scene(folder / "damaged", 5)
    for file in (damaged / "images").iterdir():
        file.write_bytes(b"no image")
    return folder


def test_an_audit_names_what_is_wrong_and_resumes(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    audit = run_audit(AuditRequest(dataset=dataset, out=out, workers=0))
    verdicts = {verdict.item: verdict for verdict in audit.verdicts}
    for name in ("right-1", "right-2"):
        assert (verdicts[name].is_bad, verdicts[name].causes) == (False, ())
    inverted = verdicts["inverted"]
    assert (inverted.is_bad, inverted.causes[0].name) == (True, "convention")
    assert "inverted" in inverted.causes[0].what
    longer = verdicts["longer"].causes[0]
    assert longer.name == "focal-length"
    assert longer.size == pytest.approx(0.1, abs=0.015)
    assert verdicts["damaged"].state == "failed"
    assert (out / EXCLUDE).read_text().splitlines()[1:] == ["damaged", "inverted"]
    with (out / TABLE).open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["item"] for row in rows[:2]] == ["inverted", "damaged"], "the worst first"
    for row in rows:
        written = [row[name] for name in row if name.endswith(("_deg", "_share", "_px", "_deviation"))]
        assert all(float(value) == float(f"{float(value):.4g}") for value in written if value)
    assert {path.stem[:-9] for path in (out / "proof").iterdir()} == {"inverted", "longer"}
    assert "3 of 5 good" in (out / BADGE).read_text()
    page = (out / PAGE).read_text()
    assert page.count("<img ") == 2
    assert page.index("inverted") < page.index("longer") < page.index("right-1")

    lines = (out / LEDGER).read_text().splitlines()
    (out / LEDGER).write_text("\n".join([*lines[:3], lines[3][:40]]))  # killed while a line was written
    again = run_audit(AuditRequest(dataset=dataset, out=out, workers=0))
    assert again.before == sum(json.loads(line)["state"] == "done" for line in lines[:3])
    assert [one.model_dump(exclude={"seconds"}) for one in again.verdicts] == [
        one.model_dump(exclude={"seconds"}) for one in audit.verdicts
    ]
    with refuses(RunError, where="audit.json", found="certainty"):
        run_audit(AuditRequest(dataset=dataset, out=out, judge=JudgeOptions(certainty=0.99), workers=0))


def test_a_later_audit_lists_the_grades_that_changed(dataset: Path, tmp_path: Path) -> None:
    before, now = ItemVerdict(item="right-1", grade="usable"), ItemVerdict(item="right-1", grade="doubtful")
    others = [ItemVerdict(item="a", grade="usable"), ItemVerdict(item="b", grade="usable")]
    with contextlib.ExitStack() as held:
        about = {"record": "audit.json", "kind": "audit", "name_field": "item"}
        ledger = open_ledger(str(tmp_path), held, ItemVerdict, described={"format": "stadia-audit"}, **about)
        for verdict in (before, *others):
            ledger.add(verdict)
    changed = compare_audits(tmp_path, [now, others[0], ItemVerdict(item="c", grade="unusable")])
    assert changed == [("c", "new", "unusable"), ("right-1", "usable", "doubtful"), ("b", "usable", "gone")]
    with refuses(DataError, found="audit.json"):
        compare_audits(dataset, [])


def test_photos_of_several_shapes_are_judged(tmp_path: Path) -> None:
    """Their K belongs to their sizes; the one that was cropped is named."""
    scene = write_scene(tmp_path / "scene", 7)
    for index in (0, 5, 8):  # also among the frames by which two cameras in turns are searched
        file = scene / "images" / f"{index:06d}.png"
        cv2.imwrite(str(file), cv2.imread(str(file))[20:-20])
    (item,) = list_items(scene)
    verdict = judge_item(item, JudgeOptions())
    assert (verdict.state, verdict.reason) == ("done", "")
    assert verdict.frames == ("sizes: 3 of 12 images have another shape than most",)


def test_a_watched_folder_is_judged_as_it_fills(tmp_path: Path) -> None:
    """An item that still changes waits; one that was judged is not judged again."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_scene(folder / "first", 1)
    coming = write_scene(folder / "second", 2)
    later_s = time.time() + 3600
    os.utime(coming / "poses.txt", (later_s, later_s))  # is being written
    watched = watch_audit(AuditRequest(dataset=folder, out=tmp_path / "out", workers=0), pause_s=0.01, settled_s=0)
    assert [verdict.item for verdict in next(watched).verdicts] == ["first"]
    os.utime(coming / "poses.txt", (1, 1))
    found = next(watched)
    assert ([verdict.item for verdict in found.verdicts], found.before) == (["first", "second"], 1)


def test_new_verdicts_are_posted_to_this_machine_only(dataset: Path, tmp_path: Path) -> None:
    """The audit goes on without a receiver."""
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204 if self.path == "/new?robot=1" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    request = AuditRequest(dataset=dataset / "right-1", out=tmp_path / "out", workers=0)
    found = next(watch_audit(request, settled_s=0))
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert call_webhook(f"{url}/new?robot=1", found) == ""
        assert call_webhook(url, found) == f"{url} returned 500"
        server.shutdown()
        thread.join()
    path, body = received[0]
    assert (path, body["items"], [one["item"] for one in body["judged"]]) == ("/new?robot=1", 1, ["right-1"])
    assert "does not answer" in call_webhook(url, found)
    for elsewhere in ("http://example.com/new", "https://127.0.0.1/new", "http://127.0.0.1.example.com", "new"):
        with refuses(ConfigError, where="--webhook", found=elsewhere):
            check_webhook(elsewhere)


@pytest.mark.parametrize("ending", ["\u00fc", " new", "\r\nHost: x"])
def test_an_address_that_no_request_can_hold_is_refused(ending: str) -> None:
    with refuses(ConfigError, where="--webhook", expected="an http address of this machine"):
        check_webhook(f"http://127.0.0.1:8000/{ending}")


def test_a_recording_that_still_changes_waits_alone(tmp_path: Path) -> None:
    """Those next to it in a known dataset are judged."""
    for name in ("seq-01", "seq-02"):
        (tmp_path / "kitchen" / name).mkdir(parents=True)
        for index in range(3):
            (tmp_path / "kitchen" / name / f"frame-{index:06d}.color.png").touch()
            (tmp_path / "kitchen" / name / f"frame-{index:06d}.pose.txt").touch()
    later_s = time.time() + 3600
    os.utime(tmp_path / "kitchen" / "seq-02" / "frame-000002.color.png", (later_s, later_s))
    request = AuditRequest(dataset=tmp_path / "kitchen", out=tmp_path / "out", workers=0)
    watched = watch_audit(request, pause_s=0.01, settled_s=0)
    assert [verdict.item for verdict in next(watched).verdicts] == ["kitchen/seq-01"]


def test_exit_codes_follow_the_share_of_bad_items(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", str(dataset), "--out", str(tmp_path / "out"), "--workers", "0", "--max-bad"]
    for share, code in (("10%", 1), ("40%", 0), ("2", 2)):
        with pytest.raises(SystemExit) as ended:
            run([*words, share])
        assert ended.value.code == code, share
    assert "inverted is unusable" in capsys.readouterr().out


def test_a_sample_of_many_images_spans_them_and_finds_a_shift_by_one(tmp_path: Path) -> None:
    """A list that is shifted by one image is shifted by a fraction of the distance of the images in the sample."""
    true = find_poses(80, shake=0.7)
    scene = write_scene(tmp_path / "scene", 6, true=true, poses=np.roll(true, 1, axis=0))
    (item,) = list_items(scene)
    images, _ = open_item(item)
    chosen = ImageSample(images, tmp_path).choose(range(80), 16)
    assert len(chosen) == 16
    assert set(np.diff(chosen)) != {1}
    assert chosen[-1] - chosen[0] > 40
    verdict = judge_item(item, JudgeOptions(max_images=16))
    assert verdict.causes[0].name == "shifted-list"
    assert abs(verdict.causes[0].size or 0) == 1
