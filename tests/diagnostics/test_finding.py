"""A finding and its JSON; the catalog behind it, and the page made of it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from stadia import diagnostics, recipes
from stadia.core.errors import DataError
from stadia.diagnostics import catalog, loss_checks
from stadia.diagnostics.catalog import CATALOG, make_finding, sort_findings
from stadia.diagnostics.catalog.entries import FAMILIES, READINGS, read_tables
from stadia.diagnostics.finding import Finding, Severity, Stage, read_findings, write_findings
from stadia.diagnostics.preflight import (
    frame_checks,
    ground_truth_checks,
    intrinsics_checks,
    parallax_checks,
    pose_checks,
    scale_consistency,
    stereo_checks,
)
from website.findings_pages import write_findings as write_finding_pages

ROOT = Path(__file__).parents[2]


def one(code: str = "K04", severity: Severity = Severity.STOP, where: tuple[str, ...] = ("drive",)) -> Finding:
    return make_finding(
        code, severity, measured="1242 px", expected="640 px", evidence={"fx": 721.5, "frame": [1, 2]}, where=where
    )


def test_json_holds_what_scripts_read_and_comes_back() -> None:
    values = one().to_dict()
    assert {"code", "severity", "stage", "measured", "expected", "cause", "fix"} <= set(values)
    assert (values["severity"], values["stage"]) == ("stop", "data")
    assert Finding.from_dict(values) == one()


def test_the_title_of_the_catalog_is_written_and_comes_back() -> None:
    values = one().to_dict()
    assert list(values)[:2] == ["code", "title"]
    assert values["title"] == CATALOG["K04"].title == Finding.from_dict(values).title
    older = Finding.from_dict({name: value for name, value in values.items() if name != "title"})
    assert (older, older.title) == (one(), "")
    assert "title" not in older.to_dict()


def test_stage_of_an_older_run_is_read() -> None:
    assert Finding.from_dict({**one("L01").to_dict(), "stage": "contract"}).stage is Stage.BEFORE_TRAINING
    values = {**one("L01").to_dict(), "evidence": {"picture": "evidence/a.png"}}
    values["cure"] = values.pop("fix")
    read = Finding.from_dict(values)
    assert (read.fix, read.evidence) == (one("L01").fix, {"image": "evidence/a.png"})


def test_evidence_that_is_no_number_is_null() -> None:
    odd = make_finding(
        "K04",
        Severity.NOTE,
        measured="",
        expected="",
        evidence={"speed": float("nan"), "table": {"a": (1.0, float("inf"))}},
    )
    assert odd.to_dict()["evidence"] == {"speed": None, "table": {"a": [1.0, None]}}


def test_file_of_findings_comes_back(tmp_path: Path) -> None:
    written = [one(), one("D02", Severity.WARN, ())]
    write_findings(tmp_path / "findings.jsonl", written)
    assert read_findings(tmp_path / "findings.jsonl") == written
    assert len((tmp_path / "findings.jsonl").read_text().splitlines()) == 2


def test_images_stand_beside_the_file_and_are_named_in_the_evidence(tmp_path: Path) -> None:
    seen = replace(one(), image=b"first")
    written = write_findings(tmp_path / "findings.jsonl", [seen, one("D02"), replace(seen, image=b"second")])
    assert [f.evidence.get("image") for f in written] == ["findings/K04-1.png", None, "findings/K04-2.png"]
    assert (tmp_path / "findings" / "K04-2.png").read_bytes() == b"second"
    assert read_findings(tmp_path / "findings.jsonl") == written
    assert "image" not in seen.to_dict()["evidence"]  # a path is told only where there is a file


@pytest.mark.parametrize(
    "line", ["not json", "[1, 2]", '{"code": "K04"}', '{"code": "K04", "severity": "loud", "stage": "data"}']
)
def test_damaged_file_of_findings_names_the_line(line: str, tmp_path: Path) -> None:
    write_findings(tmp_path / "findings.jsonl", [one()])
    with (tmp_path / "findings.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"findings\.jsonl:2"):
        read_findings(tmp_path / "findings.jsonl")


def test_cause_and_fix_default_to_the_catalog() -> None:
    assert one().cause == CATALOG["K04"].cause
    assert make_finding("K04", Severity.WARN, measured="", expected="", fix="mend it").fix == "mend it"
    with pytest.raises(KeyError):
        make_finding("K99", Severity.WARN, measured="", expected="")


def test_data_comes_before_intrinsics_before_extrinsics_and_stops_first() -> None:
    codes = [
        ("N01", Severity.NOTE),
        ("E01", Severity.STOP),
        ("K04", Severity.STOP),
        ("K03", Severity.WARN),
        ("D02", Severity.WARN),
    ]
    shown = sort_findings([one(code, severity) for code, severity in codes])
    assert [f.code for f in shown] == ["D02", "K04", "K03", "E01", "N01"]


def test_entries_are_complete() -> None:
    for code, entry in CATALOG.items():
        assert code == entry.code
        assert re.fullmatch("[A-Z][0-9]{2}", code)
        assert code[0] in FAMILIES
        assert all(getattr(entry, field.name) for field in fields(entry))
        assert isinstance(entry.stage, Stage)


def test_codes_of_checks_are_those_of_the_catalog() -> None:
    rooms = (Path(diagnostics.__file__).parent, Path(recipes.__file__).parent)
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py") if path.parent.name != "catalog"]
    without_notes = {code for source in sources for code in re.findall(r'"([A-Z][0-9]{2})"', source)}
    assert without_notes == set(CATALOG)


def test_thresholds_of_the_table_are_those_of_the_checks() -> None:
    used = {
        "frames that repeat an earlier one": (frame_checks.REPEATED_WARN, frame_checks.REPEATED_STOP),
        "neighbors with a flow below 0.1 px": (frame_checks.STATIC_WARN, frame_checks.STATIC_STOP),
        "displacement from frame to frame beyond rotation, px of 320": (parallax_checks.MIN_PARALLAX_PX,),
        "cx / W and cy / H": (*intrinsics_checks.CENTER, intrinsics_checks.MAX_OUTSIDE),
        "(2 cx + 1) / W and (2 cy + 1) / H": (intrinsics_checks.SIZE_ALIKE, intrinsics_checks.SIZE_APART),
        "distance to epipolar lines, over another K": (
            intrinsics_checks.MAX_CORRECT_RATIO,
            intrinsics_checks.MIN_WRONG_RATIO,
        ),
        "fx / W": (*intrinsics_checks.FOCAL_WARN, *intrinsics_checks.FOCAL_STOP),
        "fx by the camera rotation": (intrinsics_checks.ROTATION_WARN, intrinsics_checks.ROTATION_STOP),
        "matches with x_left > x_right": (stereo_checks.MIN_SIGN_SHARE,),
        "distance to the epipolar line, of W": (stereo_checks.EPIPOLAR_WARN_SHARE, stereo_checks.EPIPOLAR_STOP_SHARE),
        "direction of motion, degrees": (pose_checks.DIRECTION_WARN_DEG, pose_checks.DIRECTION_STOP_DEG),
        "poses / rig": (scale_consistency.WARN_FROM, scale_consistency.STOP_FROM),
        "rig / ground truth": (scale_consistency.WARN_FROM, scale_consistency.STOP_FROM),
        "poses / ground truth": (scale_consistency.WARN_FROM_LOOSE, scale_consistency.STOP_FROM_LOOSE),
        "rank correlation with the rig's depth": (scale_consistency.MIN_RANK,),
        "spread against the rig's depth": (scale_consistency.MAX_SPREAD,),
        "near less far against the rig's depth": (scale_consistency.MAX_BEND,),
        "agreeing matches that one motion explains": (
            ground_truth_checks.EXPLAINED_WARN,
            ground_truth_checks.EXPLAINED_STOP,
        ),
        "WIR over that of a flat plane": (ground_truth_checks.FLAT_WARN, ground_truth_checks.FLAT_STOP),
    }
    assert set(used) == {reading.measurement for reading in READINGS}
    for reading in READINGS:
        reported = f"{reading.warns} {reading.stops}"
        numbers = [float(number) / (100 if "%" in reported else 1) for number in re.findall(r"[\d.]+", reported)]
        assert numbers == pytest.approx(used[reading.measurement], abs=0.005), reading.measurement
        assert set(reading.codes.split()) <= set(CATALOG)


def test_pages_have_every_entry_once_and_link_to_it() -> None:
    pages = write_finding_pages()
    headings = [code for text in pages.values() for code in re.findall(r"^## .* \{ #(\w+) \}$", text, re.MULTILINE)]
    assert headings == [code.lower() for code in sorted(CATALOG, key=lambda code: list(FAMILIES).index(code[0]))]
    linked = re.findall(r"\(findings/[a-z-]+\.md#(\w+)\)", pages["reference/findings.md"])
    assert linked == headings


def write_catalog(folder: Path, text: str) -> Path:
    """Copy the catalog, with the file of one family replaced."""
    for path in Path(catalog.__file__).parent.glob("*.toml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "smoothness.toml").write_text(text)
    return folder


ENTRY = """
[R01]
title = "t"
stage = "before_training"
symptom = "s"
cause = "c"
fix = "f"
measured = "above {MIN_COLOR_COST:.0%}"
source = "e"
proof = "tests/mutations/training_starts.py"
here = "h"
"""


def test_thresholds_in_texts_are_those_of_the_code(tmp_path: Path) -> None:
    assert read_tables(write_catalog(tmp_path, ENTRY))["R01"]["measured"] == f"above {loss_checks.MIN_COLOR_COST:.0%}"
    assert not [code for code, entry in CATALOG.items() if "{" in entry.measured]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("R01", "S01", "a code outside of R00 to R99"),
        ('cause = "c"', "", "no cause"),
        ('cause = "c"', 'cause = "c"\ncure = "f"', "unknown cure"),
        ('"before_training"', '"sometime"', "stage 'sometime'"),
        ("MIN_COLOR_COST", "MIN_TASTE", "measured with 'MIN_TASTE'"),
        ('here = "h"', "", "not exactly one of lines and here"),
    ],
)
def test_invalid_entry_is_refused_with_its_file_and_code(old: str, new: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"smoothness\.toml, \[.01\]") as error:
        read_tables(write_catalog(tmp_path, ENTRY.replace(old, new)))
    assert found in str(error.value)
