"""Adapt `base` to nine clips, five minutes each, and score both networks by truth and by what `stadia adapt` measures.

    python experiments/adapt_clips.py OUT [--minutes 5 | --steps 120] [--only walk robot] [--masks-by MODEL]

Clips: KITTI 06 and raw (left camera), 7-Scenes kitchen, EuRoC, a drive of RoadWorld, the walk, and the highway, second
highway and robot clips. Each is a folder of images or a video, as users have them, with the camera if the data state
one. Prints a row each: errors that need no truth before and after, the network that is kept, AbsRel with equal medians
by truth, the number of updates and seconds. OUT gets an image before and after of each clip, and the runs.

`--masks-by` first makes masks of traffic (`stadia masks VIDEO --by MODEL`) and a map that leaves them out.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

# isort: split
import cv2
import map as maps
import numpy as np
import zero_shot
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.data.config import CameraConfig
from stadia.data.frame_preparation import Frame
from stadia.predict.adapt_time import RECORD
from stadia.sfm.frame_stream import open_stream
from stadia.training.adapt import adapt_network
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

CLIPS = ("kitti06", "raw", "kitchen", "euroc", "highway", "walk", "highway2", "robot", "roadworld")
TRUTH = {
    "kitti06": "KITTI 06",
    "raw": "KITTI raw",
    "kitchen": "7-Scenes kitchen",
    "euroc": "EuRoC V1_01",
    "walk": "walk (HoloLens)",
}
SHOWN = 3  # images of a clip


def find_clip(name: str, out: Path) -> maps.Clip:
    """Return a clip as images or a video. Raises ValueError for an unknown name."""
    if name == "roadworld":
        words = [
            "data",
            "roadworld",
            "--preset",
            "demo",
            "--worlds",
            "0,0,1",
            "--seed",
            "7",
            "--out",
            str(out / "worlds"),
        ]
        subprocess.run([sys.executable, "-m", "stadia", *words], check=True, capture_output=True)
        return next(iter(maps.world_clips(out / "worlds")))
    for clip in maps.real_clips():
        if clip.name == name:
            return clip
    raise ValueError(name)


def adapt(clip: maps.Clip, minutes: float | None, steps: int | None, out: Path) -> dict[str, Any]:
    """Return what `stadia adapt` recorded."""
    settings = [] if clip.K is None else [f"data.camera.K={clip.K.tolist()}"]
    started = time.perf_counter()
    try:
        adapted = adapt_network("base", clip.source, minutes=minutes, steps=steps, out=out, settings=settings)
    except StadiaError as error:
        return {"s": round(time.perf_counter() - started), "failed": str(error)}
    record = json.loads((adapted.run / RECORD).read_text())
    return {"s": round(time.perf_counter() - started), **record, "run": str(adapted.run)}


def map_with_masks(clip: maps.Clip, model: Path, out: Path) -> None:
    """Map a clip without the objects that a model finds. An unusable map stops `adapt` later."""
    masks = out / "masks"
    words = ["masks", str(clip.source), "--by", str(model), "--out", str(masks)]
    subprocess.run([sys.executable, "-m", "stadia", *words], check=True, capture_output=True)
    maps.measure(clip, known=clip.K is not None, masks=masks)


def score(clip: maps.Clip, run: str | None, data: Path, out: Path) -> dict[str, Any]:
    """Return AbsRel by truth of `base` and of a run; write what both predict."""
    row: dict[str, Any] = {}
    images = read_shown(clip)
    title, shown = TRUTH.get(clip.name), []
    truths = None
    if title is not None:
        truths = zero_shot.open_sample(next(s for s in zero_shot.SAMPLES if s.title == title), data)
    for when, name in (("base", "base"), ("adapted", run)):
        if name is None:
            continue
        size = images[0].image.shape[:2]
        predictor = load_predictor(
            open_network_checkpoint("base", lambda size=size: size) if name == "base" else Path(name)
        )
        if truths is not None:
            found = zero_shot.score_images(lambda frame, p=predictor: zero_shot.predict_depth(p, frame), truths)
            row |= {f"{when} AbsRel": round(found.scaled, 4), f"{when} metres": round(found.metres, 4)}
        shown.append([paint(zero_shot.predict_depth(predictor, frame)) for frame in images])
    rows = [[shrink(frame.image) for frame in images], *shown]
    cv2.imwrite(str(out / f"{clip.name}.png"), np.vstack([np.hstack(row) for row in rows])[..., ::-1])
    return row


def read_shown(clip: maps.Clip) -> list[Frame]:
    """Return frames spread over a clip."""
    stream = open_stream(clip.source, CameraConfig(), {})
    count = stream.count() or 0
    wanted = [round(count * (i + 0.5) / SHOWN) for i in range(SHOWN)]
    frames = list(stream.select(wanted))
    height, width = frames[0].filmed.shape[:2]
    K = clip.K
    if K is None:
        K = np.array([[0.8 * width, 0, (width - 1) / 2], [0, 0.8 * width, (height - 1) / 2], [0, 0, 1]])
    return [Frame(frame.name, frame.filmed, K) for frame in frames]


def shrink(image: NDArray[np.uint8], width: int = 420) -> NDArray[np.uint8]:
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def paint(depth: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return inverse depth in color, the nearest and farthest 2 % at the ends."""
    inverse = 1 / np.maximum(depth, 1e-6)
    low, high = np.quantile(inverse, (0.02, 0.98))
    gray = (255 * np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    return shrink(np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_TURBO)[..., ::-1], np.uint8))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int, help="updates, in place of minutes")
    parser.add_argument("--only", nargs="+", choices=CLIPS, default=CLIPS)
    parser.add_argument("--masks-by", type=Path, metavar="MODEL")
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    arguments = parser.parse_args()
    for name in arguments.only:
        out = arguments.out / name
        out.mkdir(parents=True, exist_ok=True)
        clip = find_clip(name, out)
        if arguments.masks_by is not None:
            map_with_masks(clip, arguments.masks_by, out)
        row = {"clip": name, **adapt(clip, None if arguments.steps else arguments.minutes, arguments.steps, out)}
        print(json.dumps(row | score(clip, row.get("run"), arguments.data, arguments.out)), flush=True)


if __name__ == "__main__":
    main()
