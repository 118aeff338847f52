"""Make the pictures of the documentation: `make gallery`, or with `--tiny` small ones in a minute, as CI does.

Each picture is a function that draws into a folder with the program's own commands. The page of the gallery lists them.

    python -m website.gallery --run runs/<date>-demo     # also what needs a trained demo
    python -m website.gallery --tiny --out FOLDER
    python -m website.gallery --only findings
    python -m website.gallery --only walk --walk deep-video-mvs/sample-data/hololens-dataset/000  # a clone, MIT
    python -m website.gallery --only adapted --walk WALK --adapted runs/<date>-adapt  # after `stadia adapt WALK/images`
    python -m website.gallery --only objectpose --objectpose runs/<date>-objectpose
    python -m website.gallery --only compare  # needs Chromium
    python -m website.gallery --only app --run runs/<date>-demo  # needs Chromium
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from website import app_screenshots

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images"
MAX_ANIMATION_BYTES = 2_000_000
NEAREST_M = 5.0  # drawn brightest

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """What a picture is drawn from.

    run: a folder of a trained demo; objectpose: one of a trained `objectpose`.
    walk: the recording 000 of the HoloLens data of github.com/ardaduz/deep-video-mvs, with images, depth, poses and K.
    adapted: a run of `stadia adapt` on images of the walk.
    work: for data.
    """

    out: Path
    work: Path
    run: Path | None
    tiny: bool
    objectpose: Path | None = None
    walk: Path | None = None
    adapted: Path | None = None


def call(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command of stadia and return its output; raise with its error output if it fails."""
    line = [sys.executable, "-P", "-m", "stadia", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise RuntimeError(f"stadia {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


# -- The picture of the README

CABINET, ENDS = "00000", ((226, 166), (500, 226))
"""A photo of the walk, and two points of the top of its cabinet in pixels (x, y)."""
WRONG = range(80, 160)
"""The images of the walk whose poses get the camera axes of OpenGL."""
PAIR = 4, 8
"""Two of them, of which matches are drawn."""
MATCHES = 7
YELLOW, ORANGE, WHITE = (255, 221, 51), (255, 120, 20), (255, 255, 255)


def draw_walk(job: Job) -> str | None:
    """A photo of an office, its depth with a measured length, and matches against wrong and repaired poses."""
    if job.walk is None:
        return None
    import stadia
    from stadia.evaluation.plots.colormaps import color_inverse_depth

    K, poses = np.loadtxt(job.walk / "K.txt"), np.loadtxt(job.walk / "poses.txt").reshape(-1, 4, 4)
    photo = next((job.walk / "images").glob(f"{CABINET}.*"))
    prediction = stadia.open_network("base").predict(photo, K=K)
    measured = prediction.distance(*ENDS)
    true_depth = cv2.imread(str(job.walk / "depth" / f"{CABINET}.png"), cv2.IMREAD_UNCHANGED) / 1000
    windows = [true_depth[y - 4 : y + 5, x - 4 : x + 5] for x, y in ENDS]
    ends = [
        np.linalg.solve(K, (*end, 1)) * np.median(window[window > 0]) for end, window in zip(ENDS, windows, strict=True)
    ]
    text = f"{measured.distance:.2f} ± {measured.deviation:.2f} m"
    print(f"length on the cabinet: {text}; the HoloLens measured {np.linalg.norm(ends[0] - ends[1]):.2f} m")
    tiles = [Image.open(photo).convert("RGB"), Image.fromarray(color_inverse_depth(1 / prediction.depth_m))]
    for tile in tiles:
        pen = ImageDraw.Draw(tile)
        pen.line(ENDS, WHITE, 4)
        for x, y in ENDS:
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), WHITE)
    label(tiles[0], text, (ENDS[0][0] + 30, ENDS[0][1] - 40))
    near, far = np.percentile(prediction.depth_m, [2, 98])
    label(tiles[1], f"bright {near:.1f} m, dark {far:.1f} m")

    images = sorted((job.walk / "images").iterdir())
    (job.work / "part").mkdir()
    for index in WRONG:
        shutil.copy(images[index], job.work / "part")
    right = poses[WRONG.start : WRONG.stop]
    np.savetxt(job.work / "office.txt", (right @ np.diag([1.0, -1, -1, 1]))[:, :3].reshape(-1, 12))
    words = ("--images", job.work / "part", "--camera", job.walk / "K.txt", "--fix", job.work / "fixed.txt")
    print(call("check", job.work / "office.txt", *words, codes=(0, 1)))
    pair = [images[WRONG.start + row] for row in PAIR]
    for title, path in (("wrong axes", job.work / "office.txt"), ("after --fix", job.work / "fixed.txt")):
        tile, off_px = draw_lines(pair, np.loadtxt(path).reshape(-1, 3, 4)[list(PAIR)], K)
        label(tile, f"{title}: matches are {off_px:.{0 if off_px > 3 else 1}f} px off their lines")
        tiles.append(tile)
    width, height = tiles[0].size
    sheet = Image.new("RGB", (2 * width + 8, 2 * height + 8), WHITE)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % 2 * (width + 8), number // 2 * (height + 8)))
    sheet.save(job.work / "walk.png")
    return _keep(job, job.work / "walk.png", "walk.jpg")


def label(tile: Image.Image, text: str, place: tuple[int, int] = (10, 10)) -> None:
    """Write a text in white on black, its upper left corner at `place` in pixels (x, y)."""
    import matplotlib

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), 18)
    pen = ImageDraw.Draw(tile)
    left, top, right, bottom = pen.textbbox(place, text, font)
    pen.rectangle((left - 6, top - 5, right + 6, bottom + 5), (0, 0, 0))
    pen.text(place, text, WHITE, font)


def draw_lines(
    pair: list[Path], T_world_camera: NDArray[np.float64], K: NDArray[np.float64]
) -> tuple[Image.Image, float]:
    """Draw matches of two images in the second one, with the lines on which its pose says that they lie.

    Returns the drawing, and the median distance of all matches from their lines in pixels.
    """
    grays = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in pair]
    (first, of_first), (second, of_second) = (cv2.SIFT_create(2000).detectAndCompute(gray, None) for gray in grays)
    found = cv2.BFMatcher().knnMatch(of_first, of_second, k=2)
    found = [one for one, other in found if one.distance < 0.75 * other.distance]
    points = np.array([[first[one.queryIdx].pt, second[one.trainIdx].pt] for one in found])
    inside = cv2.findFundamentalMat(points[:, 0], points[:, 1], cv2.USAC_MAGSAC, 1.0, 0.9999, 10_000)[1].ravel() > 0
    points = points[inside]
    T = [np.vstack([pose, [0, 0, 0, 1]]) for pose in T_world_camera]
    to_second = np.linalg.inv(T[1]) @ T[0]
    x, y, z = to_second[:3, 3]
    E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ to_second[:3, :3]
    F = np.linalg.inv(K).T @ E @ np.linalg.inv(K)
    lines = np.concatenate([points[:, 0], np.ones((len(points), 1))], axis=1) @ F.T
    lines /= np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    off = (lines[:, :2] * points[:, 1]).sum(axis=1) + lines[:, 2]
    tile = Image.open(pair[1]).convert("RGB")
    pen, drawn = ImageDraw.Draw(tile), list[NDArray[np.float64]]()
    for (_, place), line, distance in zip(points, lines, off, strict=True):
        if len(drawn) == MATCHES or any(np.linalg.norm(place - one) < 70 for one in drawn):
            continue
        drawn.append(place)
        along, foot = 1000 * np.array([-line[1], line[0]]), place - distance * line[:2]
        pen.line((*(foot - along), *(foot + along)), YELLOW, 3)
        pen.line((*place, *foot), ORANGE, 3)
        pen.ellipse((*(place - 6), *(place + 6)), ORANGE, WHITE)
    return tile, float(np.median(np.abs(off)))


def draw_walk_map(job: Job) -> str | None:
    """Points and path of the walk from above, by `stadia map` on every second image; some minutes."""
    if job.walk is None:
        return None
    (job.work / "half").mkdir()
    for path in sorted((job.walk / "images").iterdir())[::2]:
        shutil.copy(path, job.work / "half")
    camera = f"data.camera.K_file={job.walk / 'K.txt'}"
    print(call("map", job.work / "half", camera, "--out", job.work / "walk.map"))
    Image.fromarray(draw_from_above(job.work / "walk.map")).save(job.work / "walk-map.png")
    return _keep(job, job.work / "walk-map.png", "walk-map.jpg")


def draw_from_above(folder: Path, width: int = 1000) -> Pixels:
    """Draw points and path of a map, seen along the direction in which the path extends least."""
    with np.load(folder / "points.npz") as file:
        points, colors = file["points"], file["colors"]
    path = np.loadtxt(folder / "trajectory.txt")[:, [-9, -5, -1]]
    axes = np.linalg.svd(path - path.mean(axis=0), full_matrices=False)[2][:2]
    flat, line = points @ axes.T, path @ axes.T
    low, high = np.percentile(flat, [3, 97], axis=0)
    low, high = np.minimum(low, line.min(axis=0)), np.maximum(high, line.max(axis=0))
    scale = 0.94 * width / (high[0] - low[0])
    canvas = np.full((round((high[1] - low[1]) * scale / 0.94), width, 3), 18, np.uint8)
    corner = (low + high) / 2 - np.array([width, canvas.shape[0]]) / 2 / scale
    for place, color in zip((flat - corner) * scale, colors, strict=True):
        cv2.circle(canvas, np.round(place).astype(int).tolist(), 2, color.tolist(), -1, cv2.LINE_AA)
    drawn = np.round((line - corner) * scale * 16).astype(np.int32)
    cv2.polylines(canvas, [drawn], False, (255, 176, 59), 3, cv2.LINE_AA, shift=4)
    return canvas


# -- Depth before and after a training run


def draw_adapted(job: Job) -> str | None:
    """An image of the walk, its depth by `base`, and by the network that `stadia adapt` made of it."""
    if job.walk is None or job.adapted is None:
        return None
    K = np.loadtxt(job.walk / "K.txt")
    frames = [
        (_read_rgb(next((job.walk / "images").glob(f"{path.stem}.*"))), _read_millimetres(path), K)
        for path in sorted((job.walk / "depth").iterdir())
    ]
    return draw_before_and_after(job, frames, job.adapted, "adapted.jpg")


def draw_before_and_after(job: Job, frames: list[tuple[Pixels, Any, Any]], run: Path, name: str) -> str:
    """Draw an image, its depth by `base` and by a run, and true depth; of `frames`, the one nearest to the mean errors.

    frames: image (H, W, 3), true depth (H, W) in metres with 0 = unknown, and K of each.
    """
    import stadia
    from stadia.evaluation.plots.colormaps import color_inverse_depth

    networks = [stadia.open_network("base"), stadia.open_network(run)]
    rows = []
    for image, true_depth, K in frames:
        is_known = (true_depth > 0) & (true_depth < 80)
        depths, errors = [], []
        for network in networks:
            depth = network.predict(image, K=K).depth
            depth = depth * np.median(true_depth[is_known]) / np.median(depth[is_known])
            depths.append(depth)
            errors.append(float(np.mean(np.abs(depth - true_depth)[is_known] / true_depth[is_known])))
        rows.append((errors, depths))
    means = np.mean([errors for errors, _ in rows], axis=0)
    print(f"scaled AbsRel of {len(rows)} images: {means[0]:.3f} before, {means[1]:.3f} after")
    chosen = int(np.argmin([np.abs(np.log(errors / means)).sum() for errors, _ in rows]))
    (image, true_depth, _), (errors, depths) = frames[chosen], rows[chosen]
    top = float(1 / np.percentile(true_depth[true_depth > 0], 2))
    true_inverse = np.where(true_depth > 0, 1 / np.maximum(true_depth, 1e-3), 0)
    tiles = [image, *(color_inverse_depth(1 / depth, top=top) for depth in depths)]
    tiles.append(color_inverse_depth(true_inverse, top=top))
    texts = ["image", f"before: error {errors[0]:.0%}", f"after: error {errors[1]:.0%}", "true depth"]
    sheet = Image.new("RGB", (2 * image.shape[1] + 8, 2 * image.shape[0] + 8), WHITE)
    for number, (pixels, text) in enumerate(zip(tiles, texts, strict=True)):
        tile = Image.fromarray(np.asarray(pixels, np.uint8))
        label(tile, text)
        sheet.paste(tile, (number % 2 * (image.shape[1] + 8), number // 2 * (image.shape[0] + 8)))
    sheet.save(job.work / "pair.png")
    return _keep(job, job.work / "pair.png", name)


def _read_rgb(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def _read_millimetres(path: Path) -> NDArray[Any]:
    return np.asarray(Image.open(path), np.float32) / 1000


# -- The animation of the demo


def draw_path(predicted: NDArray[Any], true: NDArray[Any], count: int, side: int) -> Pixels:
    """Draw the first `count` positions of a path from above on a square canvas, forward up, over the whole true one.

    predicted, true: (N, 2) metres, right and forward.
    """
    every = np.concatenate([predicted, true])
    scale = 0.84 * side / max(float(np.ptp(every, axis=0).max()), 1e-6)
    middle = (every.min(axis=0) + every.max(axis=0)) / 2

    def place(points: NDArray[Any]) -> NDArray[np.int32]:
        x, z = ((points - middle) * scale).T
        return np.round(np.stack([side / 2 + x, side / 2 - z], axis=1) * 16).astype(np.int32)

    canvas = np.full((side, side, 3), 18, np.uint8)
    cv2.polylines(canvas, [place(true)], False, (90, 90, 90), 2, cv2.LINE_AA, shift=4)
    cv2.polylines(canvas, [place(predicted[:count])], False, (255, 176, 59), 3, cv2.LINE_AA, shift=4)
    x, y = place(predicted[count - 1 : count])[0]
    cv2.circle(canvas, (int(x), int(y)), 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    for text, color, row in (("predicted path", (255, 176, 59), 20), ("true path", (150, 150, 150), 38)):
        cv2.putText(canvas, text, (10, row), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
    return canvas


def animate_demo(job: Job) -> str | None:
    """A road, its predicted depth, and the predicted path of the camera."""
    if job.run is None:
        return None
    from stadia.data.open_dataset import open_recordings
    from stadia.evaluation.plots.colormaps import color_inverse_depth

    worlds = json.loads((job.run / "config.json").read_text())["data"]["path"]
    width, frames = (320, []) if job.tiny else (448, [])
    for recording in open_recordings(worlds, split="test")[: 1 if job.tiny else 3]:
        folder = job.run / "predictions" / "test" / recording.name
        rows = np.loadtxt(folder / "trajectory.txt").reshape(-1, 3, 4)
        true = np.stack([recording.T_world_camera(frame) for frame in range(len(recording))])
        true = np.linalg.inv(true[0]) @ true
        for frame in range(len(recording)):
            with np.load(folder / "depth" / f"{frame:06d}.npz") as file:
                inverse = 1 / file["depth_m"]
            image = recording.image(frame)
            size = width, round(width * image.shape[0] / image.shape[1])
            depth = color_inverse_depth(cv2.resize(inverse, size), top=1 / NEAREST_M)
            tiles = np.vstack([cv2.resize(image, size, interpolation=cv2.INTER_AREA), depth])
            path = draw_path(rows[:, [0, 2], 3], true[:, [0, 2], 3], frame + 1, tiles.shape[0])
            frames.append(Image.fromarray(np.hstack([tiles, path])))
    target = job.out / "demo.webp"
    for quality in (80, 65, 50, 35):
        frames[0].save(target, save_all=True, append_images=frames[1:], duration=100, loop=0, quality=quality, method=4)
        if target.stat().st_size < MAX_ANIMATION_BYTES:
            break
    return target.name


# -- The worlds and the inputs of the recipes


def draw_roadworld(job: Job) -> str:
    """RoadWorld: left images beside their depth, normals and classes."""
    folder = job.work / "road"
    size = ("frames=6", "height=64", "width=160") if job.tiny else ("frames=12", "height=192", "width=640")
    call("data", "roadworld", "--preset", "tiny", "--out", folder, *size)
    return _keep(job, folder / "preview.png", "roadworld.jpg")


def draw_tableworld(job: Job) -> str:
    """TableWorld: objects on tables with boxes, axes and masks."""
    folder = job.work / "table"
    counts = ("train=4", "val=2", "test=2") if job.tiny else ("train=12", "val=2", "test=2")
    call("data", "tableworld", "--preset", "tiny", "--out", folder, *counts)
    return _keep(job, folder / "preview.png", "tableworld.jpg")


def draw_composites(job: Job) -> str:
    """Composite images: background, image, depth and mask."""
    sheet = job.work / "sheet.png"
    small = () if not job.tiny else ("foregrounds.rendered.train=2",)
    call("data", "overlay", "--sheet", sheet, *small)
    return _keep(job, sheet, "gallery-overlay.jpg")


# -- Findings


def draw_findings(job: Job) -> str:
    """A finding: the right image of a broken rig, warped with both signs of the baseline (E01)."""
    folder = job.work / "broken"
    call("data", "roadworld", "--preset", "tiny", "--out", folder, *(("--worlds", "1,0,0") if job.tiny else ()))
    for path in folder.glob("*/recording.json"):
        recording = json.loads(path.read_text())
        recording["T_right_left"][0][3] *= -1
        path.write_text(json.dumps(recording))
    found = job.work / "findings"
    call("check", folder, "--out", found, codes=(0, 1))
    image = min((p for p in found.rglob("*.png") if "E01" in p.name), default=min(found.rglob("*.png")))
    return _keep(job, image, "gallery-finding.jpg")


# -- A training and its report


def draw_training(job: Job) -> str | None:
    """An image sheet of a training: input, depth, warped sources, residual and winners."""
    if job.run is None:
        return None
    sheets = sorted((job.run / "images").glob("step-*.png"))
    return _keep(job, sheets[-1], "gallery-sheet.jpg") if sheets else None


def draw_objectpose(job: Job) -> str | None:
    """Objects found by a trained `objectpose` on tables with shapes that never trained: boxes, axes and masks."""
    if job.objectpose is None:
        return None
    tables, found = job.work / "tables", job.work / "found"
    call("data", "tableworld", "--preset", "tiny", "--out", tables, "train=2", "val=2", "test=3", "--seed", 11)
    call("predict", job.objectpose, tables, "--out", found, "data.split=test")
    drawn = [cv2.imread(str(path)) for path in sorted(found.rglob("drawn/*.png"))]
    large = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for image in drawn[:6]]
    rows = [np.hstack(large[start : start + 3]) for start in range(0, len(large), 3)]
    sheet = job.work / "objectpose.png"
    cv2.imwrite(str(sheet), np.vstack(rows))
    return _keep(job, sheet, "gallery-objectpose.jpg")


def draw_app(job: Job) -> str | None:
    """The pages of `stadia app` and the report of a run, on a screen and on a phone."""
    if job.run is None or app_screenshots.find_chromium() is None:
        return None
    report = job.work / "report.html"
    call("report", job.run, "--out", report)
    with app_screenshots.serve_app(job.run.absolute()) as address:
        shots = app_screenshots.photograph(address, job.run, report, job.work)
    app_screenshots.join_shots(shots["wide"][:1], 1, 1000, 830, job.out / "app.webp")
    for kind, columns, width, height in (("wide", 2, 640, 500), ("phone", 4, 300, 650)):
        app_screenshots.join_shots(shots[kind], columns, width, height, job.out / f"gallery-app-{kind}.webp")
    app_screenshots.join_shots(shots["shared"], 1, 1000, 1210, job.out / "gallery-app-shared.webp")
    return "app.webp, gallery-app-wide.webp, gallery-app-phone.webp, gallery-app-shared.webp"


def draw_comparison(job: Job) -> str | None:
    """The page of `stadia compare` for a rendered road: the network of the package, true depth, and blurred depth."""
    if app_screenshots.find_chromium() is None:
        return None
    worlds, road = job.work / "worlds", job.work / "road"
    call(
        "data",
        "roadworld",
        "--preset",
        "tiny",
        "--out",
        worlds,
        "--worlds",
        "1,0,0",
        "frames=40",
        "height=192",
        "width=640",
    )
    (world,) = worlds.glob("*/recording.json")
    np.savetxt(job.work / "K.txt", json.loads(world.read_text())["cameras"]["left"]["K"])
    (world.parent / "left").rename(road)
    true, blurred = (job.work / name for name in ("true-depth", "blurred-depth"))
    (world.parent / "depth" / "left").rename(true)
    blurred.mkdir()
    for path in sorted(true.iterdir()):
        depth = np.load(path).astype(np.float32)
        np.save(blurred / path.name, 1 / cv2.blur(1 / np.where(depth > 0, depth, 1e3), (48, 48)))
    camera = f"data.camera.K_file={job.work / 'K.txt'}"
    call("map", road, camera)
    call("compare", "base", true, blurred, road, camera, "--out", job.out / "compare.html", "--force")
    shot = app_screenshots.photograph_file(job.out / "compare.html", job.work / "compare.png")
    app_screenshots.join_shots([shot], 1, 1000, 1400, job.out / "gallery-compare.webp")
    return "compare.html, gallery-compare.webp"


def _keep(job: Job, path: Path, name: str) -> str:
    """Write an image as JPEG of at most 1600 pixels a side into the gallery; return its name."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((1600, 1600))
        small.save(job.out / name, quality=85)
    return name


PICTURES: dict[str, Callable[[Job], str | None]] = {
    "walk": draw_walk,
    "walk-map": draw_walk_map,
    "adapted": draw_adapted,
    "animation": animate_demo,
    "sheet": draw_training,
    "objectpose": draw_objectpose,
    "app": draw_app,
    "compare": draw_comparison,
    "roadworld": draw_roadworld,
    "tableworld": draw_tableworld,
    "overlay": draw_composites,
    "findings": draw_findings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--run", type=Path, help="a run of `stadia demo`, for the pictures of a training")
    parser.add_argument("--objectpose", type=Path, help="a run of `stadia train objectpose`")
    parser.add_argument("--walk", type=Path, help="sample-data/hololens-dataset/000 of ardaduz/deep-video-mvs")
    parser.add_argument("--adapted", type=Path, help="a run of `stadia adapt` on images of the walk")
    parser.add_argument("--only", choices=PICTURES, action="append")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="stadia-gallery-"))
    try:
        inputs = {name: getattr(arguments, name) for name in ("run", "objectpose", "walk", "adapted")}
        job = Job(out=arguments.out, work=work, tiny=arguments.tiny, **inputs)
        for name in arguments.only or PICTURES:
            started = time.monotonic()
            made = PICTURES[name](job)
            missing = "left out: needs --run, --objectpose, --walk or --adapted"
            print(f"{name:10} {made or missing} ({time.monotonic() - started:.1f} s)")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
