"""A finding and its JSON; the catalog behind it, and the page made of it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from stadia.judge.catalog import CATALOG, make_finding, sort_findings
from stadia.judge.finding import Finding, Severity, read_valid_findings, write_findings
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


def test_file_of_findings_comes_back(tmp_path: Path) -> None:
    written = [one(), one("D02", Severity.WARN, ())]
    write_findings(tmp_path / "findings.jsonl", written)
    assert read_valid_findings(tmp_path / "findings.jsonl")[0] == written
    assert len((tmp_path / "findings.jsonl").read_text().splitlines()) == 2


def test_images_stand_beside_the_file_and_are_named_in_the_evidence(tmp_path: Path) -> None:
    seen = replace(one(), image=b"first")
    written = write_findings(tmp_path / "findings.jsonl", [seen, one("D02"), replace(seen, image=b"second")])
    assert [f.evidence.get("image") for f in written] == ["findings/K04-1.png", None, "findings/K04-2.png"]
    assert (tmp_path / "findings" / "K04-2.png").read_bytes() == b"second"
    assert read_valid_findings(tmp_path / "findings.jsonl")[0] == written
    assert "image" not in seen.to_dict()["evidence"]  # a path is told only where there is a file


@pytest.mark.parametrize(
    "line", ["not json", "[1, 2]", '{"code": "K04"}', '{"code": "K04", "severity": "loud", "stage": "data"}']
)
def test_damaged_file_of_findings_names_the_line(line: str, tmp_path: Path) -> None:
    write_findings(tmp_path / "findings.jsonl", [one()])
    with (tmp_path / "findings.jsonl").open("a") as file:
        file.write(line + "\n")
    findings, errors = read_valid_findings(tmp_path / "findings.jsonl")
    assert len(findings) == 1
    assert [error.where.endswith("findings.jsonl:2") for error in errors] == [True]


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


def test_pages_have_every_entry_once_and_link_to_it() -> None:
    pages = write_finding_pages()
    headings = [code for text in pages.values() for code in re.findall(r"^## .* \{ #(\w+) \}$", text, re.MULTILINE)]
    assert headings == [code.lower() for code in CATALOG], "in the order of the families"
    linked = re.findall(r"\(findings/[a-z-]+\.md#(\w+)\)", pages["reference/findings.md"])
    assert linked == headings
