"""Check composite images: splits, labels, backgrounds, foregrounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity

MIN_BACKGROUNDS = 10
"""Effective number in an epoch; 30,000 consecutive images of the published set have 7.5."""

MAX_UNSCORED = 0.2
"""Share of the depth labels outside of the trained and scored range; of the demo roads 6 % are beyond 80 m."""

MAX_PATHS = 10
"""In the evidence."""


class FactorCounts(Protocol):
    """Counts of a factor in each split, and what two of them share (`dataloading.composite_survey.SharedFactor`)."""

    @property
    def name(self) -> str: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def shared(self) -> Sequence[str]: ...


class CompositeSurveyResult(Protocol):
    """Statistics of splits of composite images (`dataloading.composite_survey.CompositeSurvey`, which explains each)."""

    @property
    def images(self) -> Mapping[str, int]: ...
    @property
    def num_checked(self) -> int: ...
    @property
    def factors(self) -> Sequence[FactorCounts]: ...
    @property
    def effective_backgrounds(self) -> float: ...
    @property
    def source(self) -> str: ...
    @property
    def depth_scale(self) -> str: ...
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


def check_composites(survey: CompositeSurveyResult) -> list[Finding]:
    """Return C01 to C09, C14, and D01 of unreadable images; empty where nothing is wrong and depth is exact."""
    factors = {factor.name: factor for factor in survey.factors}
    found = [*_check_shared(survey, factors), *_check_files(survey)]
    if survey.effective_backgrounds < MIN_BACKGROUNDS:
        found.append(
            make_finding(
                "C06",
                Severity.WARN,
                measured=(
                    f"{factors['background'].counts['train']} backgrounds train, as unevenly as"
                    f" {survey.effective_backgrounds:.1f} of equal frequency, in {survey.images['train']} images"
                ),
                expected=f"{MIN_BACKGROUNDS} and more",
            )
        )
    if survey.source != "exact":
        measured = f"depth is of '{survey.source}', {survey.depth_scale}"
        found.append(
            make_finding("C07", Severity.NOTE, measured=measured, expected="exact depth, or a name for its source")
        )
    if survey.alike:
        measured = f"of {survey.num_checked} images depth and mask both have {survey.alike}"
        found.append(make_finding("C08", Severity.STOP, measured=measured, expected="depth that is not the mask"))
    if survey.unscored > MAX_UNSCORED:
        low, high = survey.depths
        outside = f"{survey.unscored:.0%} of the depth labels lie outside of loss.min_depth to loss.max_depth"
        measured = f"{outside}; 99 % lie in {low:.3g} to {high:.3g}"
        found.append(make_finding("C14", Severity.WARN, measured=measured, expected=f"at most {MAX_UNSCORED:.0%}"))
    return sort_findings(found)


def _check_shared(survey: CompositeSurveyResult, factors: Mapping[str, FactorCounts]) -> list[Finding]:
    """Return C01 and C02, with the table of what splits share."""
    table = {
        "splits": {
            "factor": list(factors),
            **{split: [factor.counts.get(split, 0) for factor in factors.values()] for split in survey.images},
            "shared": [len(factor.shared) for factor in factors.values()],
        }
    }

    def report(code: str, severity: Severity, name: str, expected: str) -> Finding:
        shared = factors[name].shared
        measured = (
            f"{len(shared)} {name}{'s' * (len(shared) > 1)} in two of the splits {', '.join(survey.images)}, such as"
            f" {shared[0]}"
        )
        return make_finding(code, severity, measured=measured, expected=expected, evidence=table)

    found = []
    if factors["background"].shared:
        found.append(report("C01", Severity.STOP, "background", "each background in one split"))
    elif factors["world"].shared:
        found.append(report("C01", Severity.WARN, "world", "each recording in one split"))
    for name in ("object", "foreground"):
        if factors[name].shared:
            found.append(report("C02", Severity.STOP, name, "each object in one split"))
            break
    return found


def _check_files(survey: CompositeSurveyResult) -> list[Finding]:
    """Return C03 to C05, C09 and D01."""
    found = []
    if survey.missing:
        measured = (
            f"{len(survey.missing)} path{'s are' if len(survey.missing) > 1 else ' is'} missing:"
            f" {', '.join(survey.missing[:MAX_PATHS])}" + " ..." * (len(survey.missing) > MAX_PATHS)
        )
        evidence = {"missing": {"path": list(survey.missing[:MAX_PATHS])}}
        found.append(
            make_finding(
                "C03", Severity.WARN, measured=measured, expected="every file of the layout", evidence=evidence
            )
        )
    if survey.renamed:
        found.append(
            make_finding("C04", Severity.NOTE, measured="; ".join(survey.renamed), expected="the names of the layout")
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
            measured = f"{len(files)} {what}{'s' * (len(files) > 1)} of those checked, such as {files[0]}: {words[0]}"
            evidence = {"files": {"file": list(files[:MAX_PATHS]), "found": list(words[:MAX_PATHS])}}
            found.append(make_finding(code, severity, measured=measured, expected=expected, fix=fix, evidence=evidence))
    return found
