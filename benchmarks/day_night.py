"""Compare the day with the night of real fixed cameras: does `stadia rig check` measure, and does it accuse?

    python benchmarks/day_night.py --data FOLDER [--seed 0]

FOLDER has a folder of images for each fixed camera of benchmarks/rigs.csv, with its id as the name: the files of `path`
in the repository at the commit. Each camera stays, as far as its publishers know. A construction site is pinned by the
images of a day, and checked with those of the next night, and of the next day. Of the other cameras, single images are
compared: a day with each night (darker than NIGHT_LEVELS), and with the next day. Then nights are turned by .2 to 2
degrees or zoomed by 1 to 4 %, and the change of the measurement is compared with it.
"""

# mypy: disable-error-code="var-annotated, misc, arg-type"

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from fixed_cameras import Image, draw_turn, make_photo_view
from harness import make_parser

from stadia.geometry.poses import so3_exp, so3_log
from stadia.judge.rigs.fixed_cameras import ViewChange, make_background, measure_view
from stadia.judge.rigs.pinned_rig import CameraVerdict, PinnedCamera, judge_camera

LISTED = Path(__file__).with_name("rigs.csv")
SITE, UNUSED = "vegas", "panorama"
DAY_HOURS, NIGHT_HOURS = range(17, 23), range(6, 11)
"""Hours, UTC, of the day and of the next night of the construction site in Las Vegas."""

NIGHT_LEVELS = 70.0
"""Mean gray level below which an image of the other cameras is one of a night."""

TURNS_DEG, ZOOMS = (0.2, 0.5, 1.0, 2.0), (0.01, 0.04)


@dataclass(frozen=True)
class ViewPair:
    """Frames of a fixed camera at two times.

    name: name of the camera and of the times.
    first, second: frames.
    is_night: whether the second frames are of a night, and the first ones of a day.
    """

    name: str
    first: Sequence[Image]
    second: Sequence[Image]
    is_night: bool


def read(path: Path) -> Image:
    """Return an image as RGB."""
    image = cv2.imread(str(path))
    assert image is not None, path
    return np.asarray(image[:, :, ::-1], np.uint8)


def list_site(folder: Path) -> Iterator[ViewPair]:
    """Yield each day of the construction site with the next night, and with the next day."""
    of_hour: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(folder.glob("20*.jpg")):
        of_hour.setdefault((path.name[:10], int(path.name[11:13])), []).append(path)
    dates = sorted({date for date, _ in of_hour})
    days, nights = (
        [[path for hour in hours for path in of_hour.get((date, hour), [])] for date in dates]
        for hours in (DAY_HOURS, NIGHT_HOURS)
    )
    for number, date in enumerate(dates[:-1]):
        day, night, next_day = (spread(one) for one in (days[number], nights[number + 1], days[number + 1]))
        if day and night:
            yield ViewPair(f"{SITE} {date}", day, night, is_night=True)
        if day and next_day:
            yield ViewPair(f"{SITE} {date}", day, next_day, is_night=False)


def spread(paths: Sequence[Path], count: int = 15) -> list[Image]:
    """Return at most 15 images, spread evenly, as `stadia rig pin` takes them of a recording."""
    rows = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)) if paths else []
    return [read(paths[row]) for row in rows]


def list_webcam(folder: Path) -> Iterator[ViewPair]:
    """Yield a day of a camera with the next day, and each night with a day before or after it."""
    images = {path.stem: read(path) for path in sorted(folder.iterdir())}
    names = list(images)
    is_dark = [float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()) < NIGHT_LEVELS for image in images.values()]
    days = [row for row, dark in enumerate(is_dark) if not dark]
    for row, name in enumerate(names):
        others = [day for day in days if day > row] or days[-2:-1]
        near = min(days, key=lambda day: abs(day - row)) if is_dark[row] else others[0]
        if near != row:
            first = images[names[near]]
            yield ViewPair(f"{folder.name} {names[near]} {name}", [first], [images[name]], is_night=is_dark[row])


def judge(pair: ViewPair, turn: np.ndarray | None = None, zoom: float = 1.0) -> CameraVerdict:
    """Pin the inner part of the first frames, and judge that of the second frames, turned and zoomed."""
    R = np.eye(3) if turn is None else turn
    first, second = (
        [make_photo_view("", frame).render(*motion) for frame in frames]
        for frames, motion in ((pair.first, (np.eye(3), 1.0)), (pair.second, (R, zoom)))
    )
    K = make_photo_view("", pair.first[0]).K
    return judge_camera(PinnedCamera(pair.name, make_background(first), K, True), make_background(second))


def compare_with_edges(pair: ViewPair, change: ViewChange) -> list[float]:
    """Return how far the turn and the zoom by features are from those by edges alone, in deviations."""
    inner = [make_photo_view("", frames[0]) for frames in (pair.first, pair.second)]
    backgrounds = [
        make_background([make_photo_view("", frame).render(np.eye(3), 1.0) for frame in frames])
        for frames in (pair.first, pair.second)
    ]
    by_edges = measure_view(*backgrounds, inner[0].K, only_edges=True)
    if by_edges.rotation_deg is None or change.rotation_deg is None or by_edges.zoom_share is None:
        return [float("inf")]
    assert change.zoom_share is not None
    numbers = zip((*by_edges.rotation_deg, by_edges.zoom_share), (*change.rotation_deg, change.zoom_share), strict=True)
    return [abs(one.value - two.value) / float(np.hypot(one.deviation, two.deviation)) for one, two in numbers]


def main() -> None:
    """Judge, disturb and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nights", type=int, default=100, help="nights that are disturbed")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with LISTED.open() as lines:
        ids = [row["id"] for row in csv.DictReader(lines) if row["kind"] == "fixed camera" and row["id"] != UNUSED]
    pairs = list[ViewPair]()
    for name in ids:
        pairs += (list_site if name == SITE else list_webcam)(given.data / name)
    measured, covered = {True: list[bool](), False: list[bool]()}, 0
    differences = list[float]()
    accused, nights = list[str](), list[tuple[ViewPair, CameraVerdict]]()
    for pair in pairs:
        verdict = judge(pair)
        change, causes = verdict.change, [cause.name for cause in verdict.causes if cause.name != "exposure"]
        measured[pair.is_night].append(not change.reason)
        moved = [cause for cause in causes if cause not in ("covered", "refocused")]
        covered += "covered" in causes
        if moved and not change.is_by_edges:
            differences += compare_with_edges(pair, change)
        accused += [f"{pair.name}: {moved}"] * bool(moved)
        shown = change.reason or f"{change.shift_px and change.shift_px.show()} px, {change.matches}"
        print(f"{pair.name:50} {'night' if pair.is_night else 'day':6} {shown} {causes}", flush=True)
        if pair.is_night and not change.reason:
            nights.append((pair, verdict))
    random = np.random.default_rng(given.seed)
    named, ratios, lost = list[bool](), list[float](), 0
    for number, (pair, before) in enumerate(nights[: given.nights]):
        is_zoom = number % 3 == 2
        size = (ZOOMS if is_zoom else TURNS_DEG)[number // 3 % (2 if is_zoom else 4)]
        turn, zoom = (np.eye(3), 1 + size) if is_zoom else (draw_turn(random, size), 1.0)
        verdict = judge(pair, turn, zoom)
        change, first = verdict.change, before.change
        if change.rotation_deg is None or first.rotation_deg is None or change.zoom_share is None:
            lost += 1
            print(f"{pair.name}: {size} not measured: {change.reason}", flush=True)
            continue
        now, then = (
            so3_exp(np.radians([one.value for one in made])) for made in (change.rotation_deg, first.rotation_deg)
        )
        errors = np.degrees(so3_log(turn.T @ then.T @ now)) if not is_zoom else np.zeros(0)
        ratios += [abs(error) / one.deviation for error, one in zip(errors, change.rotation_deg, strict=False)]
        if is_zoom and first.zoom_share is not None:
            ratios.append(abs(change.zoom_share.value - first.zoom_share.value - size) / change.zoom_share.deviation)
        names = [cause.name for cause in verdict.causes]
        named.append(("zoomed" if is_zoom else "moved") in names)
        print(f"{pair.name}: {size} {np.round(errors, 3).tolist()} {names}", flush=True)
    for is_night, title in ((True, "nights"), (False, "days")):
        print(f"{title}: measured {sum(measured[is_night])} of {len(measured[is_night])}")
    print(f"reported as moved {len(accused)} of {len(pairs)}; as covered {covered}", *accused, sep="\n  ")
    agree = np.mean(np.array(differences) < 2) if differences else 1.0
    print(f"these moves by features and by edges: within two deviations {agree:.0%} of {len(differences)} numbers")
    print(f"disturbed nights: named {sum(named)} of {len(named)}, not measured {lost}")
    print(f"within two deviations: {np.mean(np.array(ratios) < 2):.0%} of {len(ratios)} numbers")


if __name__ == "__main__":
    main()
