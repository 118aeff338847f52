"""JUnit XML and annotations of GitHub hold any text, and nothing in a name becomes a command."""

from pathlib import Path
from xml.etree import ElementTree

from stadia.report.pipeline_report import Outcome, PipelineCase, list_annotations, write_junit

HOSTILE = "a<b>&\"'\x00\x1b[31m\ud800]]>\r\n::set-output name=x::1 %0A,:ü.jpg"
CASES = [
    PipelineCase("good for navigation", Outcome.PASSED, "rotation .1 ± .02 degrees"),
    PipelineCase(f"cause: {HOSTILE}", Outcome.FAILED, HOSTILE, f"exchange their poses\n{HOSTILE}"),
    PipelineCase("good for mesh", Outcome.OPEN, "lengths cannot be measured"),
    PipelineCase("good for splats", Outcome.NOTED, "points in the images"),
]


def test_junit_is_well_formed_and_counts_its_cases(tmp_path: Path) -> None:
    write_junit(tmp_path / "stadia.xml", HOSTILE, CASES)
    (suite,) = ElementTree.parse(tmp_path / "stadia.xml").getroot()
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert [[child.tag for child in case] for case in suite] == [["system-out"], ["failure"], ["error"], ["skipped"]]
    shown = str(suite[1].get("name"))
    assert all(part in shown for part in ("a<b>&\"'", "\\x00", "\\ud800"))


def test_each_annotation_is_one_command() -> None:
    lines = list(list_annotations(HOSTILE, CASES))
    assert len(lines) == len(CASES)
    for line, command in zip(lines, ("notice", "error", "error", "warning"), strict=True):
        assert line.startswith(f"::{command} file=")
        assert line.splitlines() == [line]
        properties = line.removeprefix(f"::{command} ").partition("::")[0]
        assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "title"]


def test_annotations_give_percent_signs_back() -> None:
    (line,) = list_annotations("a", [PipelineCase("b", Outcome.NOTED, "50% %0A")])
    assert line.endswith("::50%25 %250A")
