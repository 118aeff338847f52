"""Nothing is overwritten that stadia did not write as the same kind of output."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia.core.errors import DataError, StadiaError
from stadia.core.files import atomic_write
from stadia.core.output_files import MARKS, PREVIEWED, check_output_folder, check_replaceable, mark_png_file

SAMPLES = {
    "report": b'<!doctype html>\n<meta name="generator" content="stadia-report">',
    "journal": b"<!-- stadia-journal -->\n# Journal",
    "score file": b'{\n  "format": "stadia-scores",\n  "abs_rel": 1}',
    "list of findings": b'{"code": "K03", "severity": "stop"}',
    "camera height": b'{\n  "format": "stadia-camera-height"}',
    "camera": b'{\n  "format": "stadia-camera",\n "K": 1}',
    "comparison": b"<svg><dc:identifier>stadia-comparison</dc:identifier>",
    "drawing of paths": b"<svg><dc:identifier>stadia-paths</dc:identifier>",
    "overview": b"\x89PNG....tEXtSoftware\0stadia-overview",
    "video of activations": bytes(200_000) + b"stadia-activations",
    "exported network": bytes(200_000) + b"format\x12\x0cstadia-depth",
    **{f"preview of {kind}": b"\x89PNG....tEXtSoftware\0stadia-preview-" + kind.encode() for kind in PREVIEWED},
}


def test_each_kind_has_a_mark() -> None:
    assert set(SAMPLES) == set(MARKS)


@pytest.mark.parametrize("kind", SAMPLES)
def test_an_output_replaces_its_own_kind_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    check_replaceable(path, kind, inputs=())  # a new file
    path.write_bytes(SAMPLES[kind])
    check_replaceable(path, kind, inputs=())
    other = next(name for name in MARKS if name != kind)
    with pytest.raises(StadiaError, match=f"out: found something there already, and no {other}.*--force"):
        check_replaceable(path, other, inputs=())
    check_replaceable(path, other, force=True, inputs=())


@pytest.mark.parametrize("content", [b"years of work", b'{"metrics": {"format": "stadia-scores"}}', b"# Journal\n"])
@pytest.mark.parametrize("kind", MARKS)
def test_another_file_is_kept(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(StadiaError, match="mine: found something there already"):
        check_replaceable(path, kind, inputs=())


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    check_replaceable(tmp_path / "out", "report", inputs=())


def test_an_input_of_the_command_is_never_replaced(tmp_path: Path) -> None:
    path, link = tmp_path / "est.txt", tmp_path / "link.txt"
    path.write_text("0 0 0 0 0 0 0 1")
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(StadiaError, match="found an input of this command"):
            check_replaceable(output, "score file", force=True, inputs=[None, tmp_path / "absent", path])
    check_replaceable(tmp_path / "scores.json", "score file", force=True, inputs=[path])


def test_of_an_input_folder_earlier_outputs_alone_are_replaced(tmp_path: Path) -> None:
    """`stadia report RUN --out RUN/config.json --force`."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "report.html").write_bytes(SAMPLES["report"])
    with pytest.raises(StadiaError, match=r"config\.json: found an input of this command"):
        check_replaceable(tmp_path / "config.json", "report", inputs=[tmp_path], force=True)
    for name in ("report.html", "another.html"):
        check_replaceable(tmp_path / name, "report", inputs=[tmp_path])


def test_a_link_is_refused_or_itself_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(SAMPLES["report"])
    (tmp_path / "out").symlink_to("precious")
    with pytest.raises(StadiaError, match="out: found a symbolic link"):
        check_replaceable(tmp_path / "out", "report", inputs=())
    check_replaceable(tmp_path / "out", "report", force=True, inputs=())
    with atomic_write(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_bytes() == SAMPLES["report"]
    assert not (tmp_path / "out").is_symlink()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_pipe_is_never_replaced(make, tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(StadiaError, match=r"out: found (a folder|no regular file)"):
        check_replaceable(tmp_path / "out", "report", force=True, inputs=())


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StadiaError, match="a file where a folder should be"):
        check_replaceable(tmp_path / "file" / "out", "report", inputs=())


def test_a_folder_of_outputs(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new", "findings.jsonl", "list of findings")
    assert not (tmp_path / "new").exists()
    folder = tmp_path / "full"
    folder.mkdir()
    check_output_folder(folder, "findings.jsonl", "list of findings")
    (folder / "thesis.tex").touch()
    with pytest.raises(StadiaError, match="full: found files in it, and no list of findings"):
        check_output_folder(folder, "findings.jsonl", "list of findings")
    (folder / "findings.jsonl").write_text("mine")
    with pytest.raises(StadiaError, match=r"findings\.jsonl: found something there already"):
        check_output_folder(folder, "findings.jsonl", "list of findings")
    (folder / "findings.jsonl").write_bytes(SAMPLES["list of findings"])
    check_output_folder(folder, "findings.jsonl", "list of findings")
    (folder / "findings.jsonl").write_text("mine")
    check_output_folder(folder, "findings.jsonl", "list of findings", force=True)


def test_a_folder_of_findings_with_a_link_inside_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "findings.jsonl").write_bytes(SAMPLES["list of findings"])
    check_output_folder(tmp_path / "out", "findings.jsonl", "list of findings")
    (tmp_path / "out" / "findings").symlink_to(tmp_path)
    with pytest.raises(StadiaError, match="findings: found a symbolic link"):
        check_output_folder(tmp_path / "out", "findings.jsonl", "list of findings")


def test_a_png_is_marked_and_the_same_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    mark_png_file(path, "stadia-overview")
    check_replaceable(path, "overview", inputs=())
    assert (cv2.imread(str(path)) == image).all()
    with pytest.raises(StadiaError):
        check_replaceable(path, "comparison", inputs=())
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    mark_png_file(tmp_path / "a.jpg", "stadia-overview")
    assert (tmp_path / "a.jpg").read_bytes() == b"\xff\xd8"
    with pytest.raises(DataError):
        mark_png_file(tmp_path / "none.png", "stadia-overview")


def test_an_archive_is_recognized_by_its_description(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/data", bytes(100_000))
        archive.writestr("model/extra/stadia.json", "{}")
    check_replaceable(tmp_path / "model.pt2", "exported network", inputs=())
