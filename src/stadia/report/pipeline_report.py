"""Report a judged result to a pipeline: JUnit XML for any server, and annotations for GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from stadia.core.errors import clean_text
from stadia.io.atomic_files import open_atomic


class Outcome(StrEnum):
    """The outcome of a case; NOTED does not change the exit code."""

    PASSED = "passed"
    FAILED = "failed"
    OPEN = "not measurable"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class PipelineCase:
    """One judged question.

    name: what was judged, such as "good for splats".
    outcome: its outcome.
    message: the measurement, in one line.
    details: the cure and the images that it concerns; may have several lines.
    """

    name: str
    outcome: Outcome
    message: str
    details: str = ""


_ELEMENTS = {Outcome.FAILED: "failure", Outcome.OPEN: "error", Outcome.NOTED: "skipped"}
_COUNTS = {Outcome.FAILED: "failures", Outcome.OPEN: "errors", Outcome.NOTED: "skipped"}


def write_junit(path: Path, title: str, cases: Sequence[PipelineCase]) -> None:
    """Write cases as JUnit XML. Control characters, which XML cannot contain, are written as escapes.

    path: the file.
    title: name of the suite, such as the path of the result.
    cases: the test cases. Those that are not measurable are errors, and those that are noted are skipped.

    Source: the XML that Ant's JUnit task writes, which Jenkins, GitLab and pytest follow.
    """
    counts = {name: str(sum(case.outcome is outcome for case in cases)) for outcome, name in _COUNTS.items()}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": clean_text(f"stadia check {title}"), "tests": str(len(cases)), **counts}
    )
    for case in cases:
        about = {"classname": clean_text(title), "name": clean_text(case.name)}
        element = ElementTree.SubElement(suite, "testcase", about)
        if case.outcome in _ELEMENTS:
            found = ElementTree.SubElement(element, _ELEMENTS[case.outcome], {"message": clean_text(case.message)})
            found.text = clean_text(case.details)
        else:
            ElementTree.SubElement(element, "system-out").text = clean_text(case.message)
    ElementTree.indent(root)
    with open_atomic(path) as stream:
        ElementTree.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)
        stream.write(b"\n")


_COMMANDS = {Outcome.FAILED: "error", Outcome.OPEN: "error", Outcome.NOTED: "warning", Outcome.PASSED: "notice"}


def list_annotations(title: str, cases: Sequence[PipelineCase]) -> Iterator[str]:
    """Yield a line for each case, which GitHub shows next to the result.

    title: the path of the result in the repository.
    cases: the cases.

    Source: GitHub Actions, "Workflow commands", and `escapeData` and `escapeProperty` of actions/toolkit.

    Examples:
        >>> list(list_annotations("a,b.json", [PipelineCase("good for splats", Outcome.FAILED, "50% off")]))
        ['::error file=a%2Cb.json,title=good for splats::50%25 off']
    """
    for case in cases:
        file, name = (_escape_property(text) for text in (title, case.name))
        message = "\n".join(text for text in (case.message, case.details) if text)
        yield f"::{_COMMANDS[case.outcome]} file={file},title={name}::{_escape_data(message)}"


def _escape_data(text: str) -> str:
    return clean_text(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
