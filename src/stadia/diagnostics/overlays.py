"""Findings about composed images, from what was counted in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stadia.diagnostics.catalog import finding, in_order
from stadia.diagnostics.finding import Finding, Severity

FEWEST_BACKGROUNDS = 10
"""In an epoch, evened out; 30,000 consecutive images of the published set have 7.5."""

UNSCORED = 0.2
"""Of the labels of depth, outside of what is trained and scored; of the demo's roads 6 % lie beyond 80 m."""

FIRST = 10
"""Paths that the evidence names."""


class Counted(Protocol):
    """How many of a factor each split has, and which two share (`data.overlay.survey.Factor`)."""

    @property
    def name(self) -> str: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def shared(self) -> Sequence[str]: ...


class Composed(Protocol):
    """What was counted in splits of composed images (`data.overlay.survey.OverlaySurvey`, which explains each)."""

    @property
    def images(self) -> Mapping[str, int]: ...
    @property
    def looked_at(self) -> int: ...
    @property
    def factors(self) -> Sequence[Counted]: ...
    @property
    def effective_backgrounds(self) -> float: ...
    @property
    def source(self) -> str: ...
    @property
    def claim(self) -> str: ...
    @property
    def unreadable(self) -> Sequence[tuple[str, str]]: ...
    @property
    def uncut(self) -> Sequence[tuple[str, str]]: ...
    @property
    def lossy(self) -> Sequence[tuple[str, str]]: ...
    @property
    def alike(self) -> str: ...
    @property
    def missing(self) -> Sequence[str]: ...
    @property
    def renamed(self) -> Sequence[str]: ...
    @property
    def unscored(self) -> float: ...
    @property
    def depths(self) -> tuple[float, float]: ...


def overlay_findings(survey: Composed) -> list[Finding]:
    """C01 to C09, C14, and D01 of images that cannot be read. Empty where all is well and depth is exact."""
    factors = {factor.name: factor for factor in survey.factors}
    found = [*_shared(survey, factors), *_of_files(survey)]
    if survey.effective_backgrounds < FEWEST_BACKGROUNDS:
        found.append(
            finding(
                "C06",
                Severity.WARN,
                measured=(
                    f"{factors['background'].counts['train']} backgrounds train, as unevenly as"
                    f" {survey.effective_backgrounds:.1f} of equal frequency, in {survey.images['train']} images"
                ),
                expected=f"{FEWEST_BACKGROUNDS} and more",
            )
        )
    if survey.source != "exact":
        measured = f"depth is of '{survey.source}', {survey.claim}"
        found.append(
            finding("C07", Severity.NOTE, measured=measured, expected="exact depth, or a name that says what it is")
        )
    if survey.alike:
        measured = f"of {survey.looked_at} images depth and mask both have {survey.alike}"
        found.append(finding("C08", Severity.STOP, measured=measured, expected="depth that is not the mask"))
    if survey.unscored > UNSCORED:
        low, high = survey.depths
        outside = f"{survey.unscored:.0%} of the depth labels lie outside of loss.min_depth to loss.max_depth"
        measured = f"{outside}; 99 % lie in {low:.3g} to {high:.3g}"
        found.append(finding("C14", Severity.WARN, measured=measured, expected=f"at most {UNSCORED:.0%}"))
    return in_order(found)


def _shared(survey: Composed, factors: Mapping[str, Counted]) -> list[Finding]:
    """C01 and C02, with the table of what splits share."""
    table = {
        "splits": {
            "factor": list(factors),
            **{split: [factor.counts.get(split, 0) for factor in factors.values()] for split in survey.images},
            "shared": [len(factor.shared) for factor in factors.values()],
        }
    }

    def told(code: str, severity: Severity, name: str, expected: str) -> Finding:
        shared = factors[name].shared
        measured = (
            f"{len(shared)} {name}{'s' * (len(shared) > 1)} in two of the splits {', '.join(survey.images)}, such as"
            f" {shared[0]}"
        )
        return finding(code, severity, measured=measured, expected=expected, evidence=table)

    found = []
    if factors["background"].shared:
        found.append(told("C01", Severity.STOP, "background", "each background in one split"))
    elif factors["world"].shared:
        found.append(told("C01", Severity.WARN, "world", "each recording in one split"))
    for name in ("object", "foreground"):
        if factors[name].shared:
            found.append(told("C02", Severity.STOP, name, "each object in one split"))
            break
    return found


def _of_files(survey: Composed) -> list[Finding]:
    """C03 to C05, C09 and D01."""
    found = []
    if survey.missing:
        measured = (
            f"{len(survey.missing)} path{'s are' if len(survey.missing) > 1 else ' is'} not there:"
            f" {', '.join(survey.missing[:FIRST])}" + " ..." * (len(survey.missing) > FIRST)
        )
        evidence = {"missing": {"path": list(survey.missing[:FIRST])}}
        found.append(
            finding("C03", Severity.WARN, measured=measured, expected="every file of the layout", evidence=evidence)
        )
    if survey.renamed:
        found.append(
            finding("C04", Severity.NOTE, measured="; ".join(survey.renamed), expected="the names of the layout")
        )
    listed = (
        ("C05", Severity.WARN, survey.lossy, "label", "labels without loss", None),
        ("C09", Severity.STOP, survey.uncut, "foreground", "objects cut out", None),
        (
            "D01",
            Severity.STOP,
            survey.unreadable,
            "image",
            "images that can be read",
            "write or fetch what the evidence names again",
        ),
    )
    for code, severity, faults, what, expected, fix in listed:
        if faults:
            files, words = zip(*faults, strict=True)
            measured = f"{len(files)} {what}{'s' * (len(files) > 1)} of those looked at, such as {files[0]}: {words[0]}"
            evidence = {"files": {"file": list(files[:FIRST]), "found": list(words[:FIRST])}}
            found.append(finding(code, severity, measured=measured, expected=expected, fix=fix, evidence=evidence))
    return found
