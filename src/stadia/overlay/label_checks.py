"""Check composites before training: what splits share, files, and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.label_checks import MAX_LISTED_FILES, list_columns
from stadia.overlay.data.composite_survey import CompositeSurvey, SharedFactor

MIN_BACKGROUNDS = 10  # effective number in an epoch; 30,000 consecutive images of the published set have 7.5

MAX_UNSCORED = 0.2
"""Share of the depth labels outside of the trained and scored range; of the demo roads 6 % are beyond 80 m."""


def check_composites(survey: CompositeSurvey) -> list[Finding]:
    """Return C01 to C09, C14, and D01 of unreadable images; empty where nothing is wrong and depth is exact."""
    factors = {factor.name: factor for factor in survey.factors}
    findings = [*_check_shared(survey, factors), *_check_composite_files(survey), *_check_composite_labels(survey)]
    if survey.effective_backgrounds < MIN_BACKGROUNDS:
        measured = f"{factors['background'].counts['train']} backgrounds train, as unevenly as "
        measured += f"{survey.effective_backgrounds:.1f} of equal frequency, in {survey.images['train']} images"
        findings.append(make_finding("C06", Severity.WARN, measured, f"{MIN_BACKGROUNDS} and more"))
    return sort_findings(findings)


def _check_shared(survey: CompositeSurvey, factors: Mapping[str, SharedFactor]) -> Iterator[Finding]:
    """Yield C01 and C02, with the table of what splits share."""
    table = {
        "factor": list(factors),
        **{split: [factor.counts.get(split, 0) for factor in factors.values()] for split in survey.images},
        "shared": [len(factor.shared) for factor in factors.values()],
    }

    def report(code: str, severity: Severity, name: str, expected: str) -> Finding:
        shared = factors[name].shared
        measured = f"{len(shared)} {name}{'s' * (len(shared) > 1)} in two of "
        measured += f"the splits {', '.join(survey.images)}, such as {shared[0]}"
        return make_finding(code, severity, measured, expected, evidence={"splits": table})

    if factors["background"].shared:
        yield report("C01", Severity.STOP, "background", "each background in one split")
    elif factors["world"].shared:
        yield report("C01", Severity.WARN, "world", "each recording in one split")
    if name := next((kind for kind in ("object", "foreground") if factors[kind].shared), ""):
        yield report("C02", Severity.STOP, name, "each object in one split")


def _check_composite_labels(survey: CompositeSurvey) -> Iterator[Finding]:
    """Yield C07, C08 and C14: depth of another source, equal to the mask, or outside of the scored range."""
    if survey.source != "exact":
        measured = f"depth is of '{survey.source}', {survey.depth_scale}"
        yield make_finding("C07", Severity.NOTE, measured, "exact depth, or a name for its source")
    if survey.alike:
        measured = f"of {survey.num_checked} images depth and mask both have {survey.alike}"
        yield make_finding("C08", Severity.STOP, measured, "depth that is not the mask")
    if survey.unscored > MAX_UNSCORED:
        low, high = survey.depths
        measured = f"{survey.unscored:.0%} of the depth labels lie outside of "
        measured += f"loss.min_depth to loss.max_depth; 99 % lie in {low:.3g} to {high:.3g}"
        yield make_finding("C14", Severity.WARN, measured, f"at most {MAX_UNSCORED:.0%}")


def _check_composite_files(survey: CompositeSurvey) -> Iterator[Finding]:
    """Yield C03 to C05, C09 and D01: missing and renamed files, and files that do not hold what they should."""
    if survey.missing:
        paths = list(survey.missing[:MAX_LISTED_FILES])
        are = "paths are" if len(survey.missing) > 1 else "path is"
        more = " ..." if len(survey.missing) > MAX_LISTED_FILES else ""
        measured = f"{len(survey.missing)} {are} missing: {', '.join(paths)}{more}"
        evidence = {"missing": {"path": paths}}
        yield make_finding("C03", Severity.WARN, measured, "every file of the layout", evidence=evidence)
    if survey.renamed:
        yield make_finding("C04", Severity.NOTE, "; ".join(survey.renamed), "the names of the layout")
    for code, severity, faults, what, expected, case in (
        ("C05", Severity.WARN, survey.lossy, "label", "labels without loss", ""),
        ("C09", Severity.STOP, survey.uncut, "foreground", "objects cut out", ""),
        ("D01", Severity.STOP, survey.unreadable, "image", "images that can be read", "composites"),
    ):
        if faults:
            (file, fault), *_ = faults
            measured = f"{len(faults)} {what}{'s' * (len(faults) > 1)} of those checked, such as {file}: {fault}"
            evidence = {"files": list_columns(("file", "found"), faults)}
            yield make_finding(code, severity, measured, expected, case=case, evidence=evidence)
