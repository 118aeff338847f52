"""Check composite images before training: what the splits share, files, and labels."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.image_files import hash_file
from stadia.judge.catalog import make_finding, sort_findings
from stadia.judge.finding import Finding, Severity
from stadia.judge.recordings.label_checks import MAX_LISTED_FILES, list_columns
from stadia.overlay.composites import CompositeSplits
from stadia.overlay.config import OverlayDataConfig
from stadia.overlay.world.composer import CompositeComposer, CompositePair, CompositeSource, placement_size_range
from stadia.overlay.world.composite_files import CompositeFiles
from stadia.overlay.world.foregrounds import check_foregrounds, hash_visible_pixels
from stadia.overlay.world.published_layout import LayoutScan, PublishedComposites

SHARED_FACTORS = ("background", "world", "foreground", "object", "position")
CHECKED_IMAGES = 40  # images of each split that are composed or read, and foregrounds that are opened
DEPTHS = 4096  # labels of each image, about, that are held against the range that is scored


@dataclass(frozen=True, slots=True)
class SharedFactor:
    """Describe what the splits have in common in one respect.

    name: the respect: "background" image, "world" (recording) of the background, "foreground" image, "object" of the
        foreground, or "position" on the grid.
    counts: number of different values in each split, such as of different backgrounds.
    shared: names of values that occur in more than one split.
    """

    name: str
    counts: Mapping[str, int]
    shared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompositeSurvey:
    """The result of a survey of composite images. Files are listed with their fault.

    num_checked: number of images that were read.
    factors: what the splits share.
    effective_backgrounds: exp of the entropy of the backgrounds in an epoch.
    alike: the statistics of depth and mask if they are equal, otherwise "".
    renamed: folders with other names than the layout's.
    unscored: share of the depth labels outside the scored range.
    depths: range that contains 99 % of the depth labels.
    """

    images: Mapping[str, int]
    num_checked: int
    factors: tuple[SharedFactor, ...]
    effective_backgrounds: float
    source: str
    depth_scale: str
    unreadable: tuple[tuple[str, str], ...] = ()
    uncut: tuple[tuple[str, str], ...] = ()
    lossy: tuple[tuple[str, str], ...] = ()
    alike: str = ""
    missing: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    unscored: float = 0.0
    depths: tuple[float, float] = (0.0, 0.0)
    pasted: str = ""

    def lines(self) -> list[str]:
        """Return the lines of a table: one for each factor, the number of backgrounds, and the source of the depth."""
        splits = list(self.images)
        widths = [max(8, len(split) + 2) for split in splits]
        head = " " * 12 + "".join(f"{split:>{w}}" for split, w in zip(splits, widths, strict=True)) + "  shared"
        rows = []
        for factor in self.factors:
            counts = "".join(f"{factor.counts[split]:>{w}}" for split, w in zip(splits, widths, strict=True))
            rows.append(f"{factor.name:12}{counts}{len(factor.shared):>8}")
        counted = ", ".join(f"{count} of '{split}'" for split, count in self.images.items())
        what = f"images: {counted}; backgrounds of an epoch, evened out: {self.effective_backgrounds:.1f}"
        return [head, *rows, what, f"depth: {self.source}, {self.depth_scale}", *([self.pasted] if self.pasted else [])]


def survey_composites(overlays: CompositeSplits, scored: tuple[float, float] = (0.0, math.inf)) -> CompositeSurvey:
    """Survey the names of all images, and the content of some that are spread evenly.

    scored: open range of the depth labels that are scored.
    """
    images = overlays.images
    counts_of = {split: overlays.count_images(split) for split in images}
    kept = {split: _identify_parts(source, counts_of[split]) for split, source in images.items()}
    unreadable, lossy = list[tuple[str, str]](), list[tuple[str, str]]()
    statistics, labels = list[tuple[float, ...]](), list[NDArray[np.float32]]()
    num_checked = 0
    for split, source in images.items():
        sampled = np.linspace(0, counts_of[split] - 1, min(CHECKED_IMAGES, counts_of[split]))
        for number in np.unique(sampled.round().astype(int)).tolist():
            num_checked += 1
            try:
                image = source.composed(number)
            except DataError as error:
                unreadable.append((error.where, f"{error.found}, expected {error.expected}"))
                continue
            depth, mask = image.depth, image.mask.astype(np.float64)
            if isinstance(source, PublishedComposites):
                raw = source.raw_mask(number)
                mask = raw / 255
                lossy += _list_lossy_labels(raw, *source.label_files(number))
            statistics.append((float(depth.mean()), float(depth.std()), float(mask.mean()), float(mask.std())))
            known = depth[depth > 0]
            labels.append(known[:: max(known.size // DEPTHS, 1)])
    composers = (source for source in images.values() if isinstance(source, CompositeComposer))
    checked = [check_foregrounds(composer.foregrounds, CHECKED_IMAGES) for composer in composers]
    uncut = [fault for faults, _ in checked for fault in faults]
    return CompositeSurvey(
        images=counts_of,
        num_checked=num_checked,
        factors=tuple(_compare_splits(name, {s: parts[name] for s, parts in kept.items()}) for name in SHARED_FACTORS),
        effective_backgrounds=_count_effective_backgrounds(images["train"], counts_of["train"]),
        source=overlays.label.source,
        depth_scale=overlays.label.depth_scale.value,
        unreadable=tuple(fault for fault in dict.fromkeys(unreadable) if fault not in uncut),
        uncut=tuple(dict.fromkeys(uncut)),
        lossy=tuple(lossy),
        alike=_describe_equal_statistics(statistics),
        missing=overlays.scan.missing if overlays.scan else (),
        renamed=_describe_renamed_folders(overlays.scan),
        pasted=_describe_pasted_sizes(overlays.config, max(longest for _, longest in checked)) if checked else "",
        **_measure_depth_range(labels, scored),
    )


def _list_lossy_labels(raw_mask: NDArray[np.uint8], depth_file: Path, mask_file: Path) -> list[tuple[str, str]]:
    found = []
    if soft := float(((raw_mask > 0) & (raw_mask < 255)).mean()):
        found.append((_shorten_path(mask_file), f"a mask with values between 0 and 255 at {soft:.1%} of its pixels"))
    if depth_file.suffix.lower() != ".png":
        found.append((_shorten_path(depth_file), "depth as a JPEG of 8 bits"))
    return found


def _measure_depth_range(labels: Sequence[NDArray[np.float32]], scored: tuple[float, float]) -> dict[str, Any]:
    depths = np.concatenate([*labels, np.zeros(0, np.float32)])
    if not depths.size:
        return {}
    low, high = np.quantile(depths, (0.005, 0.995)).tolist()
    return {"unscored": float(((depths <= scored[0]) | (depths >= scored[1])).mean()), "depths": (low, high)}


def _shorten_path(file: Path) -> str:
    return "/".join(file.parts[-4:])


def _describe_equal_statistics(statistics: Sequence[tuple[float, ...]]) -> str:
    if not statistics:
        return ""
    depth, mask = np.array(statistics).mean(0).reshape(2, 2)
    is_equal = depth.any() and np.allclose(depth, mask, rtol=1e-6, atol=1e-9)
    return f"mean {depth[0]:.6g}, deviation {depth[1]:.6g}" if is_equal else ""


def _identify_parts(images: CompositeSource, count: int) -> dict[str, dict[str, str]]:
    if isinstance(images, CompositeComposer):
        backgrounds = {
            (hash_file(background.file) if background.file else background.name): background.name
            for background in images.backgrounds
        }
        worlds = {background.recording.session: background.recording.session for background in images.backgrounds}
        hashed = [*zip(hash_visible_pixels(images.foregrounds), images.foregrounds, strict=True)]
        foregrounds = {digest: foreground.name for digest, foreground in hashed}
        # An object alone in a file, "001.png", shares no more than a number with another folder's.
        objects = {
            (digest if foreground.name == foreground.object else foreground.object): foreground.object
            for digest, foreground in hashed
        }
        positions = {position: position for n in range(count) if (position := str(images.pair(n).position)) != "-1"}
        found = (backgrounds, worlds, foregrounds, objects, positions)
        return dict(zip(SHARED_FACTORS, found, strict=True))
    pairs = [images.pair(number) for number in range(images.count or count)]
    names = {
        name: {value: value for pair in pairs if (value := str(getattr(pair, name))) != "-1"} for name in SHARED_FACTORS
    }
    return names | _identify_by_content(images, pairs) if isinstance(images, CompositeFiles) else names


def _identify_by_content(images: CompositeFiles, pairs: Sequence[CompositePair]) -> dict[str, dict[str, str]]:
    files = {images.background_file(number): pair.background for number, pair in enumerate(pairs)}
    shown = {pair.foreground: pair.object for pair in pairs}
    hashes = {name: images.visible_hashes.get(name, name) for name in shown}
    return {
        "background": {(hash_file(file) if file.is_file() else name): name for file, name in files.items()},
        "foreground": {hashes[name]: name for name in shown},
        "object": {(hashes[name] if name == item else item): item for name, item in shown.items()},
    }


def _compare_splits(name: str, splits: Mapping[str, Mapping[str, str]]) -> SharedFactor:
    shared: dict[str, None] = {}
    for first, second in combinations(splits.values(), 2):
        for key in [key for key in first if key in second]:
            shared[first[key] if first[key] == second[key] else f"{first[key]} (there {second[key]})"] = None
    return SharedFactor(name, {split: len(names) for split, names in splits.items()}, tuple(shared))


def _count_effective_backgrounds(images: CompositeSource, count: int) -> float:
    counts = np.array(list(Counter(images.pair(number).background for number in range(count)).values()), float)
    shares = counts / counts.sum()
    return math.exp(float(-(shares * np.log(shares)).sum()))


def _describe_pasted_sizes(config: OverlayDataConfig, longest: int) -> str:
    least, most = (share * min(config.height, config.width) for share in placement_size_range(config.placement))
    return f"cut-outs: files of up to {longest} pixels, pasted {least:.0f} to {most:.0f} pixels long"


def _describe_renamed_folders(scan: LayoutScan | None) -> tuple[str, ...]:
    if scan is None:
        return ()
    renamed = [f"{count} folders '{name}' for 'mask'" for name, count in scan.masks.items() if name != "mask"]
    if scan.beyond:
        renamed.append(f"{scan.beyond} folders fg_101 and on, which have no index and are left out")
    return tuple(renamed)


MIN_BACKGROUNDS = 10  # effective number in an epoch; 30,000 consecutive images of the published set have 7.5
MAX_UNSCORED = 0.2  # share of the depth labels outside of the trained and scored range


def check_composites(survey: CompositeSurvey) -> list[Finding]:
    """Return the findings (faults) of composite images, the most severe first; empty if nothing is wrong.

    They are about names that splits share, too few backgrounds, unreadable or lossy files, and labels of depth and
    mask.

    survey: what `survey_composites` found.
    """
    factors = {factor.name: factor for factor in survey.factors}
    findings = [*_check_shared(survey, factors), *_check_composite_files(survey), *_check_composite_labels(survey)]
    if survey.effective_backgrounds < MIN_BACKGROUNDS:
        measured = f"{factors['background'].counts['train']} backgrounds in {survey.images['train']} training images, "
        measured += f"worth {survey.effective_backgrounds:.1f} of equal frequency"
        findings.append(make_finding("C06", Severity.WARN, measured, f"{MIN_BACKGROUNDS} and more"))
    return sort_findings(findings)


def _check_shared(survey: CompositeSurvey, factors: Mapping[str, SharedFactor]) -> Iterator[Finding]:
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
    if survey.source != "exact":
        measured = f"depth is of '{survey.source}', {survey.depth_scale}"
        yield make_finding("C07", Severity.NOTE, measured, "exact depth, or a name for its source")
    if survey.alike:
        measured = f"depth and mask of {survey.num_checked} images both have {survey.alike}"
        yield make_finding("C08", Severity.STOP, measured, "depth that is not the mask")
    if survey.unscored > MAX_UNSCORED:
        low, high = survey.depths
        measured = f"{survey.unscored:.0%} of the depth labels are outside loss.min_depth to loss.max_depth; "
        measured += f"99 % are in {low:.3g} to {high:.3g}"
        yield make_finding("C14", Severity.WARN, measured, f"at most {MAX_UNSCORED:.0%}")


def _check_composite_files(survey: CompositeSurvey) -> Iterator[Finding]:
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
