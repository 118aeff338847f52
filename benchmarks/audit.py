"""Audit a dataset with known faults: items of real recordings, one of five disturbed in 12 ways.

    python benchmarks/audit.py --out DIR [--items 60] [--workers 2] [--engines local ray dask]

An item is a window of a recording with right poses, under new names, in another world, and at another size of its
images. One of five is disturbed. An interrupted run resumes, because the audit does. A fault is found if the item is
doubtful or worse and its cause is named; a right item is accused if a cause is named, and excluded if it is bad.

A group of common faults has three to five items with one kind of fault, and one right item for each three of them; it
is named if `find_common_faults` gives its cause for the group.

The items are judged in random order, so that each tenth of the run has disturbed ones, and its rate and memory can be
compared. Of several engines, the first judges all items. The others judge the first ENGINE_ITEMS, and their verdicts
are compared with its own.
"""

# mypy: disable-error-code="misc, no-untyped-call, no-untyped-def, var-annotated"

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from disturbed_results import (
    Disturbed,
    Recording,
    adjust_by_colmap,
    bend_lens,
    copy_images,
    drift,
    lengthen_focal,
    make_reconstruction,
    measure_extent,
    move_center,
    move_world,
    prepare,
    replace_poses,
    resize_K,
    squeeze,
    stretch,
    swap,
    turn_each,
)
from harness import REAL_DATA, make_parser, print_table
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.audit.audit_files import describe_row
from stadia.audit.common_faults import find_common_faults
from stadia.audit.judge_item import ItemVerdict, JudgeOptions
from stadia.audit.run_audit import AuditRequest, run_audit
from stadia.batches.ledger import LEDGER
from stadia.core.progress import no_progress
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import read_rgb
from stadia.io.image_io import write_image
from stadia.io.records.json_scenes import write_transforms
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.sfm.image_matches import ImageMatches, list_image_files

Array = NDArray[np.float64]

SEED = 0
FAULTY_EVERY = 5
"""One of so many items of a recording is disturbed."""

RECORDINGS = ("statue", "rig", "chair", "walk", "kitchen", "desk")
UNSURE = ("kitchen",)
"""Recordings that are left out by default: COLMAP's focal length of the kitchen differs from the nominal one by 9 %."""

ADJUSTED = ("kitchen", "desk")
"""Recordings whose poses are those of sensors, adjusted by COLMAP to SIFT matches of all pairs."""

COUNTS = (13, 24)
"""Least and largest number of images of an item."""

SMALL_COUNTS, SMALL_SIDE_PX = (8, 12), 320
"""The same of a small item, and the longer side of its images."""

GROUPS = 50

ENGINE_ITEMS = 60
"""Number of items that other engines judge too."""

SAMPLE_EVERY_S = 5.0
"""Seconds between two looks at the ledger and at the memory of all processes."""


@dataclass(frozen=True)
class Source:
    """A recording with right cameras and poses: its reconstruction, rows in the order of the files."""

    name: str
    truth: Reconstruction
    files: tuple[Path, ...]


def read_given(name: str) -> tuple[Reconstruction, list[Path]]:
    """Return the poses and K of a recording as its sensors gave them, and its images."""
    if name == "kitchen":
        files = sorted((REAL_DATA / "sevenscenes" / "kitchen").rglob("*.color.*"))[::2]
        texts = [file.with_name(file.name.split(".color")[0] + ".pose.txt") for file in files]
        T, K = np.array([np.loadtxt(text) for text in texts]), np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
    else:
        files = sorted((REAL_DATA / "tum_fr2_desk" / "images").iterdir(), key=lambda file: float(file.stem))
        listed = read_reconstruction(REAL_DATA / "trajectories" / "fr2_desk_groundtruth.txt")
        assert listed.times_s is not None
        nearest = [int(np.abs(listed.times_s - float(file.stem)).argmin()) for file in files]
        T, K = listed.T_world_camera[nearest], np.array([[520.9, 0, 325.1], [0, 521.0, 249.7], [0, 0, 1]])
    height, width = read_rgb(files[0]).shape[:2]
    return make_reconstruction([file.name for file in files], T, K, (width, height)), files


def adjust_given(name: str, folder: Path) -> tuple[Reconstruction, Path]:
    """Return the poses of sensors after COLMAP's adjustment, and a folder of images; both are kept in a folder."""
    kept, images = folder / "truth.npz", folder / "images"
    if not kept.is_file():
        given, files = read_given(name)
        images.mkdir(parents=True, exist_ok=True)
        named = replace(given, names=tuple(copy_images(files, images)))
        with tempfile.TemporaryDirectory() as temporary:
            made = adjust_by_colmap(named, images, Path(temporary) / "matches.db")
        np.savez(kept, names=made.names, T=made.T_camera_world, K=made.K, lens=made.distortion, sizes=made.sizes)
    arrays = np.load(kept)
    truth = Reconstruction(tuple(arrays["names"].tolist()), arrays["T"], arrays["K"], arrays["lens"], arrays["sizes"])
    return truth, images


def open_source(name: str, work: Path) -> Source:
    """Return a recording; what is computed is kept in the folder `work`."""
    truth, images = adjust_given(name, work / name) if name in ADJUSTED else prepare(name, work / name)
    files = list_image_files(images)
    rows = {Path(given).name: row for row, given in enumerate(truth.names)}
    found = [file for file in files if file.name in rows]
    return Source(name, truth.rows([rows[file.name] for file in found]), tuple(found))


# -- faults


def turn_some(recording: Recording, count: float, random: np.random.Generator) -> Disturbed:
    """Turn some images by 5 to 20 degrees."""
    T = recording.truth.T_world_camera.copy()
    turned = np.sort(random.choice(len(T), int(count), replace=False))
    for row in turned:
        axis = random.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(random.uniform(5, 20)) * axis / np.linalg.norm(axis))
        T[row, :3, :3] = T[row, :3, :3] @ turn.as_matrix()
    return Disturbed(replace_poses(recording.truth, T), None, tuple(recording.truth.names[row] for row in turned))


def shift(recording: Recording, count: float, random: np.random.Generator) -> Disturbed:
    """Give each image the pose of the one `count` before it."""
    return Disturbed(
        replace(recording.truth, T_camera_world=np.roll(recording.truth.T_camera_world, int(count), axis=0))
    )


def invert(recording: Recording, number: float, random: np.random.Generator) -> Disturbed:
    """Write world-to-camera poses, or camera axes of OpenGL, where others are expected."""
    T = recording.truth.T_world_camera
    changed = invert_pose(T) if number == 0 else T @ np.diag([1.0, -1.0, -1.0, 1.0])
    return Disturbed(replace_poses(recording.truth, changed))


FAULTS: Mapping[str, tuple[tuple[str, ...], tuple[float, ...], Any]] = {
    "focal-length": (("focal-length", "convention"), (1.03, 0.93, 1.15, 0.85, 1.3), lengthen_focal),
    "aspect": (("aspect",), (1.03, 1.06, 0.9, 1.15, 1.3), squeeze),
    "lens": (("lens",), (4, 6, 9, 12, 15), bend_lens),
    "principal-point": (("principal-point",), (20, 30, 40, 60, 100), move_center),
    "size-of-k": (("size-of-k", "convention", "focal-length"), (0.5, 2, 0.75, 1.5, 1.25), resize_K),
    "rotation-noise": (("rotation-noise",), (0.2, 0.4, 0.7, 1, 2), turn_each),
    "drift": (("drift",), (2, 3, 5, 10, 15), drift),
    "stretched-axis": (("stretched-axis",), (1.08, 1.15, 1.3, 1.2, 1.1), stretch),
    "swapped-images": (("swapped-images", "wrong-images"), (0.2, 0.3, 0.4, 0.5, 0.25), swap),
    "wrong-images": (("wrong-images",), (1, 2, 1, 3, 2), turn_some),
    "shifted-list": (("shifted-list",), (1, 2, 3, 1, 2), shift),
    "convention": (("convention",), (0, 1, 0, 1, 0), invert),
}
"""Causes of which one is to be named, sizes from subtle to plain, and the function that makes the fault."""

OF_FILES = ("convention",)
"""Faults of the poses as they are written. They come after the change of the world, the others before it."""


@dataclass(frozen=True)
class Item:
    """An item to make: name, recording, kind of fault ("" for a right one) and its size."""

    name: str
    source: str
    fault: str
    size: float
    number: int


def list_made(count: int, recordings: Sequence[str]) -> list[Item]:
    """Return items that take turns in the recordings. With 300 items of five, each kind of fault has each size once.

    A round of the recordings has one disturbed item, of another recording than in the round before.
    """
    kinds = list(FAULTS)
    made, fault = list[Item](), 0
    for number in range(count):
        turn, place = divmod(number, len(recordings))
        kind, size = "", 0.0
        if (place + turn) % FAULTY_EVERY == FAULTY_EVERY - 1:
            kind = kinds[fault % len(kinds)]
            sizes = FAULTS[kind][1]
            size = sizes[fault // len(kinds) % len(sizes)]
            fault += 1
        made.append(Item(f"{recordings[place]}/{number:04d}", recordings[place], kind, size, number))
    return made


def make_item(item: Item, source: Source, folder: Path, is_small: bool) -> None:
    """Write the images and transforms.json of an item."""
    fewest, most = SMALL_COUNTS if is_small else COUNTS
    for attempt in range(20):
        random = np.random.default_rng((SEED, item.number, attempt))
        count = min(int(random.integers(fewest, most + 1)), len(source.files))
        start = int(random.integers(len(source.files) - count + 1))
        chosen = range(start, start + count)
        names = [f"{index:05d}.jpg" for index in range(count)]
        truth = replace(
            source.truth.rows(chosen), names=tuple(names), times_s=None, times_ns=None, frames=None, notes=()
        )
        if item.fault in OF_FILES:
            truth = move_world(truth, random)
        disturbed = Disturbed(truth)
        if item.fault:
            blank = ImageMatches(tuple(names), truth.sizes, [], None, is_ordered=True)
            disturbed = FAULTS[item.fault][2](Recording(source.name, truth, blank, True), item.size, random)
        if disturbed is not None:
            break
    else:
        raise ValueError(f"{item.name}: {source.name} cannot show {item.fault}")
    result = disturbed.result if item.fault in OF_FILES else move_world(disturbed.result, random)
    factor = float(random.choice((1.0, 0.8)))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index, name in zip(chosen, names, strict=True):
        image = read_rgb(source.files[index])
        factor = SMALL_SIDE_PX / max(image.shape[:2]) if is_small else factor
        height, width = (round(side * factor) for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if factor != 1 else image
        write_image(folder / "images" / name, small[..., ::-1])
    listed = tuple(f"images/{name}" for name in names)
    write_transforms(replace(result, names=listed, format="transforms", depth=None), folder / "transforms.json")
    assert measure_extent(result.T_world_camera) > 0


def make_data_set(items: Sequence[Item], folder: Path, work: Path, is_small: bool) -> Path:
    """Write the items that are not there yet, and return a list of all in random order."""
    missing = [item for item in items if not (folder / item.name / "transforms.json").is_file()]
    sources = {name: open_source(name, work) for name in {item.source for item in missing}}
    for item in missing:
        make_item(item, sources[item.source], folder / item.name, is_small)
    rows = [
        f"{items[row].name},{items[row].name}/transforms.json,{items[row].name}/images\n"
        for row in np.random.default_rng(SEED).permutation(len(items))
    ]
    listed = folder / "items.csv"
    listed.write_text("name,result,images\n" + "".join(rows))
    return listed


# -- rate, memory and engines


@contextlib.contextmanager
def sample_run(ledger: Path) -> Iterator[list[tuple[float, int, float]]]:
    """Collect seconds, items of a ledger, and MB of this process and its children while the block runs."""
    samples, ended, started_s = list[tuple[float, int, float]](), threading.Event(), time.perf_counter()

    def sample() -> None:
        while not ended.wait(SAMPLE_EVERY_S):
            used = 0
            for process in (own := psutil.Process(), *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    used += process.memory_info().rss
            lines = ledger.read_bytes().count(b"\n") if ledger.is_file() else 0
            samples.append((time.perf_counter() - started_s, lines, used / 1e6))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def print_tenths(samples: Sequence[tuple[float, int, float]], ledger: Path) -> None:
    """Print items a second, processor time of an item and the largest memory in each tenth of a run."""
    if len(samples) < 20:
        return
    seconds = np.array([json.loads(line)["seconds"] for line in ledger.read_text().splitlines()])
    parts = np.array_split(np.array([(0.0, samples[0][1], 0.0), *samples]), 10)
    ends = [part[-1] for part in parts]
    begins = [parts[0][0], *ends[:-1]]
    for number, (part, begin, end) in enumerate(zip(parts, begins, ends, strict=True), 1):
        rate, spent = (end[1] - begin[1]) / (end[0] - begin[0]), seconds[int(begin[1]) : int(end[1])].mean()
        print(f"tenth {number}: {rate:.2f} items a second, {spent:.2f} s an item, {part[:, 2].max():.0f} MB")


def compare_engine(engine: str, listed: Path, out: Path, judge: JudgeOptions, known: Mapping[str, ItemVerdict]) -> None:
    """Judge the first items by another engine, and print how many rows of audit.csv differ but for the seconds."""
    few = listed.with_name(f"first-{ENGINE_ITEMS}.csv")
    few.write_text("".join(listed.read_text().splitlines(keepends=True)[: ENGINE_ITEMS + 1]))
    audit = run_audit(AuditRequest(dataset=few, out=out, judge=judge, workers=3, engine=engine), no_progress)
    rows = [
        {**describe_row(one, ()), "seconds": 0.0} != {**describe_row(known[one.item], ()), "seconds": 0.0}
        for one in audit.verdicts
    ]
    names = [one.item for one, differs in zip(audit.verdicts, rows, strict=True) if differs]
    print(f"{engine}, three workers: {len(names)} of {len(rows)} rows of the table differ {names}")


# -- scores


def list_scores(items: Sequence[Item], verdicts: Mapping[str, ItemVerdict]) -> Iterator[dict[str, object]]:
    """Yield a line for each kind of fault: items found, with the right cause first, and with it at any place."""
    for kind in [*FAULTS, "all"]:
        chosen = [item for item in items if item.fault and kind in (item.fault, "all")]
        if not chosen:
            continue
        named = [[cause.name for cause in verdicts[item.name].causes] for item in chosen]
        pairs = list(zip(chosen, named, strict=True))
        yield {
            "fault": kind,
            "items": len(chosen),
            "cause named": sum(bool(set(names) & set(FAULTS[item.fault][0])) for item, names in pairs),
            "named first": sum(bool(names) and names[0] in FAULTS[item.fault][0] for item, names in pairs),
            "any cause": sum(bool(names) for _, names in pairs),
            "bad": sum(verdicts[item.name].is_bad for item in chosen),
        }


def score_groups(items: Sequence[Item], verdicts: Mapping[str, ItemVerdict]) -> tuple[int, int]:
    """Return how many groups of common faults are named, and how many were made."""
    random = np.random.default_rng(SEED)
    right = [verdicts[item.name] for item in items if not item.fault]
    named = made = 0
    kinds = [kind for kind in FAULTS if sum(item.fault == kind for item in items) >= 3]
    while kinds and made < GROUPS:
        kind = kinds[made % len(kinds)]
        faulty = [verdicts[item.name] for item in items if item.fault == kind]
        count = int(random.integers(3, len(faulty) + 1))
        chosen = [faulty[row] for row in random.permutation(len(faulty))[:count]]
        chosen += [right[row] for row in random.permutation(len(right))[: count // 3]]
        own = {verdict.item for verdict in chosen}
        others = [verdict.model_copy(update={"groups": {"day": "1"}}) for verdict in right if verdict.item not in own]
        group = [verdict.model_copy(update={"groups": {"day": "2"}}) for verdict in chosen]
        found = find_common_faults([*others, *group])
        named += any(
            fault.rule == "cause"
            and fault.group == "day=2"
            and any((cause.name in FAULTS[kind][0] and cause.what in fault.what) or cause.name in fault.what
                    for verdict in group for cause in verdict.causes)
            for fault in found
        )  # fmt: skip
        made += 1
    return named, made


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the dataset and its audit")
    parser.add_argument("--items", type=int, default=300, help="number of items")
    parser.add_argument("--recordings", nargs="*", default=[name for name in RECORDINGS if name not in UNSURE])
    parser.add_argument("--small", action="store_true", help="8 to 12 images of 320 pixels an item")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=["local"], help="engines; the first judges all items")
    parser.add_argument("--certainty", type=float, default=0.9)
    options = parser.parse_args()
    items = list_made(options.items, options.recordings)
    kind = f"{'small-' if options.small else ''}{options.items}"
    data, work = options.out / f"data-{kind}", options.out / "work"
    listed = make_data_set(items, data, work, options.small)
    started_s = time.perf_counter()
    judge = JudgeOptions(certainty=options.certainty)
    out = options.out / f"audit-{kind}"
    engine, *others = options.engines
    request = AuditRequest(dataset=listed, out=out, judge=judge, workers=options.workers, engine=engine)
    with sample_run(out / LEDGER) as samples:
        audit = run_audit(request, no_progress)
    print_tenths(samples, out / LEDGER)
    verdicts = {verdict.item: verdict for verdict in audit.verdicts if verdict.item.split("/")[0] in options.recordings}
    print_table(list(list_scores(items, verdicts)))
    right = [verdicts[item.name] for item in items if not item.fault]
    accused = [verdict for verdict in right if verdict.causes]
    print(f"\nright items: a cause named in {len(accused)} of {len(right)}, bad {sum(one.is_bad for one in right)}")
    for name in options.recordings:
        own = [one for one in right if one.item.startswith(name)]
        causes = [cause.name for one in own for cause in one.causes]
        print(f"  {name}: {sum(bool(one.causes) for one in own)} of {len(own)}: {', '.join(sorted(set(causes)))}")
    for item in items:
        names = [cause.name for cause in verdicts[item.name].causes]
        if item.fault and not set(names) & set(FAULTS[item.fault][0]):
            print(f"  missed: {item.name} {item.fault} {item.size:g}: {names} {verdicts[item.name].reason}")
    named, made = score_groups(items, verdicts)
    print(f"groups of common faults: {named} of {made} named")
    seconds = np.array([verdict.seconds for verdict in verdicts.values()])
    images = np.array([verdict.images for verdict in verdicts.values()])
    of_16 = float(np.median(seconds[images <= 16])) if (images <= 16).any() else float("nan")
    print(f"processor: {seconds.mean():.1f} s an item, {of_16:.1f} s one of 16 images")
    print(f"{time.perf_counter() - started_s:.0f} s in all")
    for other in others:
        compare_engine(other, listed, options.out / f"audit-{kind}-{other}", judge, verdicts)
    (options.out / f"scores-{kind}.json").write_text(
        json.dumps({"scores": list(list_scores(items, verdicts)), "accused": len(accused), "right": len(right)})
    )


if __name__ == "__main__":
    main()
