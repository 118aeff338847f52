"""Nothing is overwritten that stadia did not write as the same kind of output."""

import errno
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import StadiaError
from stadia.io.atomic_files import atomic_write
from stadia.io.output_files import (
    MARKS,
    PREVIEWED,
    RECORDS,
    check_output_folder,
    check_replaceable,
    fill_new_folder,
    write_marked_png,
)

SAMPLES = {
    "report": b'<!doctype html>\n<meta name="generator" content="stadia-report">',
    "score file": b'{\n  "format": "stadia-scores",\n  "abs_rel": 1}',
    "list of findings": b'{"code": "K03", "severity": "stop"}',
    "camera height": b'{\n  "format": "stadia-camera-height"}',
    "camera": b'{\n  "format": "stadia-camera",\n "K": 1}',
    "map": b'{\n  "format": "stadia-map"}',
    "batch": b'{\n  "every": 1,\n  "format": "stadia-batch"}',
    "comparison": b"<svg><dc:identifier>stadia-comparison</dc:identifier>",
    "drawing of paths": b"<svg><dc:identifier>stadia-paths</dc:identifier>",
    "overview": b"\x89PNG....tEXtSoftware\0stadia-overview",
    "video of activations": bytes(200_000) + b"stadia-activations",
    "exported network": bytes(200_000) + b"format\x12\x0cstadia-depth",
    **{f"preview of {kind}": b"\x89PNG....tEXtSoftware\0stadia-preview-" + kind.encode() for kind in PREVIEWED},
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_an_output_replaces_its_own_kind_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert check_replaceable(path, kind, inputs=()) == path  # a new file
    path.write_bytes(SAMPLES[kind])
    check_replaceable(path, kind, inputs=())
    other = next(name for name in MARKS if name != kind)
    with refuses(StadiaError, where="out", found=other, fix="--force"):
        check_replaceable(path, other, inputs=())
    check_replaceable(path, other, force=True, inputs=())
    for content in (b"years of work", b'{"metrics": {"format": "stadia-scores"}}', b"# Journal\n"):
        path.write_bytes(content)
        with refuses(StadiaError, where="out"):
            check_replaceable(path, kind, inputs=())


def test_an_input_of_the_command_is_never_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "est.txt", tmp_path / "link.txt"
    path.write_text("0 0 0 0 0 0 0 1")
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(StadiaError):
            check_replaceable(output, "score file", force=True, inputs=[None, tmp_path / "absent", path])
    check_replaceable(tmp_path / "scores.json", "score file", force=True, inputs=[path])


def test_of_an_input_folder_earlier_outputs_alone_are_replaced(tmp_path: Path) -> None:
    """`stadia report RUN --out RUN/config.json --force`."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "report.html").write_bytes(SAMPLES["report"])
    with refuses(StadiaError, where="config.json"):
        check_replaceable(tmp_path / "config.json", "report", inputs=[tmp_path], force=True)
    (tmp_path / "empty.html").touch()
    for name in ("report.html", "another.html", "empty.html"):
        check_replaceable(tmp_path / name, "report", inputs=[tmp_path])


def test_of_a_run_its_own_files_alone_are_inputs(tmp_path: Path) -> None:
    """`stadia report RUN --force` where RUN/report.html is something else."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("run.json", "config.json", "checkpoints/last.safetensors", "report.html"):
        (tmp_path / name).write_text("{}")
    for name in ("run.json", "config.json", "checkpoints/last.safetensors"):
        with refuses(StadiaError, where=name, found=tmp_path):
            check_replaceable(tmp_path / name, "report", inputs=[tmp_path], force=True)
    with refuses(StadiaError, where="report.html"):
        check_replaceable(tmp_path / "report.html", "report", inputs=[tmp_path])
    check_replaceable(tmp_path / "report.html", "report", inputs=[tmp_path], force=True)


def test_a_link_is_refused_or_itself_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(SAMPLES["report"])
    (tmp_path / "out").symlink_to("precious")
    with refuses(StadiaError, where="out"):
        check_replaceable(tmp_path / "out", "report", inputs=())
    check_replaceable(tmp_path / "out", "report", force=True, inputs=())
    with atomic_write(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_bytes() == SAMPLES["report"]
    assert not (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_pipe_is_never_replaced(make, tmp_path: Path) -> None:
    make(tmp_path / "out")
    (tmp_path / "file").touch()
    with refuses(StadiaError, where="file"):
        check_replaceable(tmp_path / "file" / "out", "report", inputs=())
    with refuses(StadiaError, where="out"):
        check_replaceable(tmp_path / "out", "report", force=True, inputs=())


def test_a_folder_of_outputs(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new", "findings.jsonl", "list of findings", inputs=())
    assert not (tmp_path / "new").exists()
    folder = tmp_path / "full"
    folder.mkdir()
    check_output_folder(folder, "findings.jsonl", "list of findings", inputs=())
    (folder / "thesis.tex").touch()
    with refuses(StadiaError, where="full"):
        check_output_folder(folder, "findings.jsonl", "list of findings", inputs=())
    (folder / "findings.jsonl").write_text("mine")
    with refuses(StadiaError, where="findings.jsonl"):
        check_output_folder(folder, "findings.jsonl", "list of findings", inputs=())
    (folder / "findings.jsonl").write_bytes(SAMPLES["list of findings"])
    check_output_folder(folder, "findings.jsonl", "list of findings", inputs=())
    (folder / "findings").symlink_to(tmp_path)
    with refuses(StadiaError, where="findings"):
        check_output_folder(folder, "findings.jsonl", "list of findings", inputs=())
    (folder / "findings").unlink()
    (folder / "findings.jsonl").write_text("mine")
    check_output_folder(folder, "findings.jsonl", "list of findings", inputs=(), force=True)


def test_no_input_is_in_a_folder_of_outputs(tmp_path: Path) -> None:
    """`stadia check DATA data.poses=OUT/poses.txt --out OUT --force`."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "poses.txt").write_text("1 0 0 0")
    with refuses(StadiaError, where="out", found="poses.txt"):
        check_output_folder(
            folder, "findings.jsonl", "list of findings", inputs=[folder / "poses.txt", tmp_path], force=True
        )
    check_output_folder(tmp_path / "o", "findings.jsonl", "list of findings", inputs=[folder / "poses.txt", tmp_path])


def test_a_png_is_marked_and_the_same_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    path = tmp_path / "a.png"
    write_marked_png(path, image, "stadia-overview")
    check_replaceable(path, "overview", inputs=())
    assert (cv2.imread(str(path)) == image).all()
    with pytest.raises(StadiaError):
        check_replaceable(path, "comparison", inputs=())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def fill(folder: Path, names: str = "abc") -> None:
    with fill_new_folder(folder) as partial:
        for name in names:
            (partial / name).write_text("new")


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["new", "exists"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "exists":
        (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_folder_is_filled_once(place: Path) -> None:
    fill(place)
    assert list_names(place) == ["a", "b", "c"]
    with refuses(StadiaError, where="out"):
        fill(place)


def test_after_an_error_nothing_is_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, target: Path, rename: Any = Path.rename) -> Path:
        if path.name == "b" or path.name.startswith(".out."):
            raise OSError(errno.EIO, "broken disk", str(path))
        return rename(path, target)

    existed = place.exists()
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((OSError, StadiaError), match="broken disk"):
        fill(place)
    monkeypatch.undo()
    assert place.exists() == existed
    fill(place)


@pytest.mark.slow
def test_a_folder_is_filled_by_one_process(place: Path) -> None:
    with fill_new_folder(place) as folder:
        (folder / "a").touch()
        with refuses(StadiaError, where="out"):
            fill(place)
    assert list_names(place) == ["a"]


@pytest.mark.parametrize("record", RECORDS)
def test_no_command_writes_into_the_folder_of_another_one(record: str, tmp_path: Path) -> None:
    """`stadia check DATA --out RUN` wrote over the findings of a training, also without `--force`."""
    (tmp_path / record).write_bytes(SAMPLES["camera height"])
    own, kind = "camera_height.json", "camera height"
    if record == own:
        (tmp_path / record).write_bytes(SAMPLES["list of findings"])
        own, kind = "findings.jsonl", "list of findings"
    for force in (False, True):
        with refuses(StadiaError, where=tmp_path.name, found=(RECORDS[record], record)):
            check_output_folder(tmp_path, own, kind, inputs=(), force=force)
    for other in ("study.yaml", "sweep.json", "prepared.json"):
        if other != record:
            with refuses(StadiaError, found=RECORDS[record]):
                check_output_folder(tmp_path, other, "study", names=())


def test_the_findings_of_a_run_are_not_those_of_a_data_check(tmp_path: Path) -> None:
    (tmp_path / "findings.jsonl").write_bytes(SAMPLES["list of findings"])
    check_output_folder(tmp_path, "findings.jsonl", "list of findings", inputs=())
    (tmp_path / "run.json").touch()
    with refuses(StadiaError, found="run.json"):
        check_output_folder(tmp_path, "findings.jsonl", "list of findings", inputs=(), force=True)


def test_the_report_of_another_run_is_not_replaced(tmp_path: Path) -> None:
    """`stadia report ONE --out OTHER/report.html`."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
        (tmp_path / name / "report.html").write_bytes(SAMPLES["report"])
    check_replaceable(tmp_path / "one" / "report.html", "report", inputs=[tmp_path / "one"])
    with refuses(StadiaError, where="report.html"):
        check_replaceable(tmp_path / "other" / "report.html", "report", inputs=[tmp_path / "one"], force=True)
