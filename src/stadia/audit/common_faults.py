"""Find what items of a dataset have in common: a cause in one group, another camera, another unit, the same images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import hypergeom

from stadia.audit.judge_item import ItemCause, ItemVerdict
from stadia.judge.error import Measured

Array = NDArray[np.float64]

MIN_ITEMS = 3
"""Fewest items of a group that have a fault in common."""

MIN_ALIKE = 2
"""Fewest items of a group with one cause, if the group has it in common: another one may have hidden it."""

MIN_SHARE = 0.5
"""Least share of the items of a group that have a cause, if the group has it in common."""

MAX_CHANCE = 1e-3
"""Largest probability that as many items of a group have a cause if it were spread over all items by chance, for all
groups together.
"""

MOST = 0.6
"""Share of the items of a group that agree on a camera or a unit, from which the others differ."""

SAME_K = 1e-3
"""Relative difference of the focal lengths in two files that are one camera's."""

MIN_OTHER_FOCAL = 0.01
"""Least relative difference of a focal length that makes a camera another one."""

SURE = 5.0
"""Standard deviations by which the measured focal length of an item differs from that of its group."""

_FACTORS = {1000.0: "millimetres", 100.0: "centimetres", 39.37: "inches"}
UNITS = {
    **{factor: f"{unit} in place of metres" for factor, unit in _FACTORS.items()},
    **{1 / factor: f"metres in place of {unit}" for factor, unit in _FACTORS.items()},
}
"""Factors of lengths, and the unit that a factor is for in place of that of the other items."""

UNIT_WITHIN = 2.5
"""Factor within which the lengths of one item, over the median of the others, show the factor of a unit."""

MIN_SPREAD = 1.2
"""Least factor by which the distances of scenes scatter."""

MIN_SAME = 3
"""Fewest images that two items share."""

SAME_IMAGES = 0.3
"""Least share of the images of the sample of an item that another one has too."""


@dataclass(frozen=True, kw_only=True)
class CommonFault:
    """A fault that some items share.

    rule: what found it: "cause", "camera", "focal-length", "unit" or "same-images".
    group: the group, such as "day=2024-05-03"; "all items" for the dataset.
    items: names of the items that have the fault.
    of: number of items in the group.
    what: the fault, as a clause.
    fix: what to do, as a clause.
    size: its size with a deviation, as a share or a factor; None without a size.
    """

    rule: str
    group: str
    items: tuple[str, ...]
    of: int
    what: str
    fix: str
    size: Measured | None = None


def find_common_faults(verdicts: Sequence[ItemVerdict]) -> list[CommonFault]:
    """Return the faults that items have in common, those of most items first.

    verdicts: verdicts on all items.
    """
    groups = group_items(verdicts)
    found = [*_find_common_causes(verdicts, groups)]
    for find in (_find_other_cameras, _find_other_focals, _find_other_units):
        found += _keep_largest_groups(find(groups))
    found += _find_same_images(verdicts)
    return sorted(found, key=lambda fault: -len(fault.items))


Groups = Mapping[str, Sequence[ItemVerdict]]
ALL = "all items"


def group_items(verdicts: Sequence[ItemVerdict]) -> dict[str, list[ItemVerdict]]:
    """Return the items of each group of at least MIN_ITEMS, such as "day=2024-05-03", and of "all items"."""
    groups: dict[str, list[ItemVerdict]] = {ALL: list(verdicts)}
    for verdict in verdicts:
        for kind, value in verdict.groups.items():
            groups.setdefault(f"{kind}={value}", []).append(verdict)
    return {name: items for name, items in groups.items() if len(items) >= MIN_ITEMS}


def _keep_largest_groups(faults: Iterator[CommonFault]) -> list[CommonFault]:
    """Return faults without those whose items a fault of a larger group contains."""
    kept = list[CommonFault]()
    for fault in sorted(faults, key=lambda fault: -fault.of):
        if not any(set(fault.items) <= set(other.items) for other in kept):
            kept.append(fault)
    return kept


def average(measured: Sequence[Measured]) -> Measured:
    """Return the mean of measurements, weighted by their deviations.

    Its deviation is that of the scatter if this is larger than the deviations explain.

    Examples:
        >>> average([Measured(1.0, 0.1), Measured(1.2, 0.1)]).show()
        '1.10 ± 0.10'
    """
    values, deviations = np.array(measured, np.float64).reshape(-1, 2).T
    weights = 1 / np.maximum(deviations, 1e-9) ** 2
    mean = float((weights * values).sum() / weights.sum())
    deviation = float(weights.sum() ** -0.5)
    if len(values) > 1:
        scatter = float((weights * (values - mean) ** 2).sum() / (len(values) - 1))
        deviation *= max(scatter, 1.0) ** 0.5
    return Measured(mean, deviation)


# -- causes


def _find_common_causes(verdicts: Sequence[ItemVerdict], groups: Groups) -> Iterator[CommonFault]:
    """Yield the causes that most items of a group have, and few others; of several groups the one with most of them."""
    judged = [verdict for verdict in verdicts if verdict.certainty is not None]
    causes = defaultdict[str, dict[str, ItemCause]](dict)  # by cause and item
    for verdict in judged:
        for cause in verdict.causes:
            causes[cause.what if cause.name == "convention" else cause.name][verdict.item] = cause
    for key, having in causes.items():
        found = list[tuple[str, list[str], int]]()
        for group, members in groups.items():
            names = [verdict.item for verdict in members if verdict.certainty is not None]
            inside = [name for name in names if name in having]
            chance = float(hypergeom.sf(len(inside) - 1, len(judged), len(having), len(names)))
            is_common = len(inside) >= max(MIN_ALIKE, MIN_SHARE * len(names))
            has_all = bool(found) and found[0][0] == ALL and len(inside) == len(having)
            if is_common and (chance <= MAX_CHANCE / len(groups) or group == ALL or has_all):
                found.append((group, inside, len(names)))
        if not found:
            continue
        group, inside, count = min(found, key=lambda one: (-len(one[1]), one[2]))
        chosen = [having[name] for name in inside]
        sizes = [Measured(one.size, one.deviation) for one in chosen if one.size is not None and one.deviation]
        yield CommonFault(
            rule="cause",
            group=group,
            items=tuple(inside),
            of=count,
            what=key if chosen[0].name == "convention" else f"{key}, such as: {chosen[0].what}",
            fix=chosen[0].fix,
            size=average(sizes) if len(sizes) == len(chosen) else None,
        )


# -- cameras


def _list_focals(members: Sequence[ItemVerdict]) -> list[tuple[ItemVerdict, float, Measured]]:
    """Return each item with a measured camera, its given focal length in widths, and the error of it as a share."""
    return [
        (one, one.camera["fx"] / one.camera["width"], Measured(*one.error["focal_share"]))
        for one in members
        if one.camera and "focal_share" in one.error
    ]


def _split_cameras(members: Sequence[ItemVerdict]) -> Iterator[list[tuple[ItemVerdict, float, Measured]]]:
    """Yield the items of a group with images of one shape, which one camera may have."""
    by_shape = defaultdict[float, list](list)
    for entry in _list_focals(members):
        camera = entry[0].camera
        by_shape[round(camera["width"] / camera["height"], 2)].append(entry)
    yield from (entries for entries in by_shape.values() if len(entries) >= MIN_ITEMS)


def _find_other_cameras(groups: Groups) -> Iterator[CommonFault]:
    """Yield items whose file has another focal length than most of the group, if their images contradict it."""
    for group, members in groups.items():
        for entries in _split_cameras(members):
            given = np.array([focal for _, focal, _ in entries])
            usual = _find_most(given, SAME_K)
            if usual is None:
                continue
            others = [entry for entry in entries if abs(entry[1] / usual - 1) > MIN_OTHER_FOCAL]
            wrong = [one for one in others if one[2].is_above(0.0, 2.0) and one[2].value * (one[1] - usual) > 0]
            if not wrong:
                continue
            size = average([error for _, _, error in wrong])
            if not size.is_above(0.0, 3.0):
                continue
            focal = float(np.median([one for _, one, _ in wrong]))
            width = wrong[0][0].camera["width"]
            yield CommonFault(
                rule="camera",
                group=group,
                items=tuple(one.item for one, _, _ in wrong),
                of=len(entries),
                what=f"another K than {len(entries) - len(others)} items of the group have: fx {focal * width:.5g} px "
                f"in place of {usual * width:.5g} px; their images show that it is {size.show(100, '+')} % off",
                fix=f"write fx {usual * width:.5g} px if the camera is the same",
                size=size,
            )


def _find_most(values: Array, within: float) -> float | None:
    """Return the value that at least MOST of the values equal, as a share; None without one."""
    middle = float(np.median(values))
    nearest = float(values[np.abs(values - middle).argmin()])
    return nearest if (np.abs(values / nearest - 1) <= within).mean() >= MOST else None


def _find_other_focals(groups: Groups) -> Iterator[CommonFault]:
    """Yield items with the K of their group whose images show another focal length than those of the others do."""
    for group, members in groups.items():
        for entries in _split_cameras(members):
            usual = _find_most(np.array([focal for _, focal, _ in entries]), SAME_K)
            if usual is None:
                continue
            same = [entry for entry in entries if abs(entry[1] / usual - 1) <= SAME_K]
            shares, deviations = np.array([error for _, _, error in same], np.float64).T
            middle = float(np.median(shares))
            spread = 1.4826 * float(np.median(np.abs(shares - middle)))
            off = np.abs(shares - middle)
            is_other = (off > MIN_OTHER_FOCAL) & (off > SURE * np.hypot(deviations, spread))
            if not is_other.any() or is_other.mean() > 1 - MOST:
                continue
            size = average([Measured(shares[at] - middle, deviations[at]) for at in np.flatnonzero(is_other)])
            yield CommonFault(
                rule="focal-length",
                group=group,
                items=tuple(same[at][0].item for at in np.flatnonzero(is_other)),
                of=len(entries),
                what=f"the K of the group, but images of another focal length: {size.show(100, '+')} % of it",
                fix="calibrate the camera of these items: it was refocused, or exchanged",
                size=size,
            )


# -- units


def _find_other_units(groups: Groups) -> Iterator[CommonFault]:
    """Yield items whose scene is larger or smaller than those of the group by the factor of a unit."""
    for group, members in groups.items():
        depths = {one.item: float(np.log(one.depth)) for one in members if one.depth is not None and one.depth > 0}
        if len(depths) < MIN_ITEMS:
            continue
        middle = float(np.median(list(depths.values())))
        off = {item: depth - middle for item, depth in depths.items()}
        sizes = np.abs(list(off.values()))
        if (sizes <= np.log(UNIT_WITHIN)).mean() < MOST:
            continue
        spread = max(1.4826 * float(np.median(sizes)), np.log(MIN_SPREAD))
        of_unit = defaultdict[float, list[str]](list)
        for item, value in off.items():
            nearest = min(UNITS, key=lambda factor: abs(value - np.log(factor)))
            if abs(value) > SURE * spread and abs(value - np.log(nearest)) <= np.log(UNIT_WITHIN):
                of_unit[nearest].append(item)
        for factor, items in of_unit.items():
            times = float(np.exp(np.mean([off[item] for item in items])))
            yield CommonFault(
                rule="unit",
                group=group,
                items=tuple(items),
                of=len(depths),
                what=f"lengths that are {times:.3g} times as large as in the others: {UNITS[factor]}",
                fix=f"divide the positions by {factor:g}",
                size=Measured(times, times * spread / len(items) ** 0.5),
            )


# -- images


def _find_same_images(verdicts: Sequence[ItemVerdict]) -> Iterator[CommonFault]:
    """Yield items that have images of another item."""
    items_of = defaultdict[str, set[int]](set)
    for number, verdict in enumerate(verdicts):
        for digest in set(verdict.hashes):
            items_of[digest].add(number)
    shared = defaultdict[tuple[int, int], int](int)
    for numbers in items_of.values():
        ordered = sorted(numbers)[:MAX_SHARING]
        for place, first in enumerate(ordered):
            for second in ordered[place + 1 :]:
                shared[first, second] += 1
    joined = list[tuple[int, int]]()
    for pair, count in sorted(shared.items()):
        fewest = min(len(set(verdicts[one].hashes)) for one in pair)
        if count >= MIN_SAME and count >= SAME_IMAGES * fewest:
            joined.append(pair)
    if not joined:
        return
    ends = np.array(joined).T
    graph = coo_matrix((np.ones(len(joined)), tuple(ends)), (len(verdicts), len(verdicts)))
    label = connected_components(graph, directed=False)[1]
    for number in np.unique(label[ends.ravel()]):
        items = tuple(verdicts[at].item for at in np.flatnonzero(label == number).tolist())
        yield CommonFault(
            rule="same-images",
            group=ALL,
            items=items,
            of=len(verdicts),
            what=f"the same images: at least {SAME_IMAGES:.0%} of those that were looked at",
            fix=f"keep one of them, or keep all in one split: {', '.join(items)}",
        )


MAX_SHARING = 20  # items with one image that are compared with each other; an image of one color is in many
