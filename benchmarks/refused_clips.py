"""Measure how long `stadia map` takes to name clips that cannot be mapped, and one that can.

    python benchmarks/refused_clips.py [--only turn zoom] [--before SRC] [--frames 40] [--json FILE]

The clips show a textured room at 640x360: `turn` turns in place, `zoom` changes its focal length by 2.2, `short` shakes
by 4 cm at 3 m and more, and `moves` goes along an arc. Printed are processor seconds of the whole command, and what it
found. `--before` is the folder `src` of another version, which maps the same clips in turns. For both, the camera
paths of a clip that can be mapped are compared.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from harness import Row, TexturedRoom, make_parser, measure_command, print_table, write_results
from numpy.typing import NDArray

from stadia.data.video.video_map import read_map
from stadia.io.kept_rates import describe_processor

HEIGHT, WIDTH = 360, 640


def find_pose(x: float = 0, y: float = 0, *, yaw: float = 0, pitch: float = 0) -> NDArray[np.float64]:
    """Return T_camera_world (4, 4) of a camera at (x, y) in metres that is turned by two angles in radians."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([pitch, yaw, 0.0]))[0]
    T[:3, 3] = -T[:3, :3] @ [x, y, 3.0]
    return T


def draw_clip(name: str, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the images (HEIGHT, WIDTH) of a clip."""
    room = TexturedRoom(HEIGHT, WIDTH)
    focal_px = room.K[0, 0]
    for number in range(count):
        share = number / count
        if name == "turn":
            T = find_pose(yaw=0.6 * np.sin(2 * np.pi * share), pitch=0.07 * np.sin(4 * np.pi * share))
        elif name == "zoom":
            room.K[(0, 1), (0, 1)] = focal_px * (1 + 1.2 * share)
            T = find_pose(yaw=0.02 * np.sin(number / 3), pitch=0.015 * np.cos(number / 4))
        elif name == "short":
            x, y = 0.04 * np.sin(number / 5), 0.03 * np.cos(number / 4)
            T = find_pose(x, y, yaw=0.06 * np.sin(number / 4), pitch=0.05 * np.cos(number / 3))
        else:
            T = room.find_pose(share)
        yield room.draw(T)


def write_clip(folder: Path, name: str, count: int) -> Path:
    """Write the images of a clip into FOLDER/NAME."""
    clip = folder / name
    clip.mkdir()
    for number, image in enumerate(draw_clip(name, count)):
        cv2.imwrite(str(clip / f"{number:04d}.png"), image)
    return clip


def map_clip(clip: Path, out: Path, source: str) -> tuple[Row, NDArray[np.float64] | None]:
    """Map a clip by the version in a folder `src`; return its row, and the path (N, 4, 4) or None."""
    environment = {"PYTHONPATH": source, "STADIA_CACHE": str(out.with_suffix(".cache"))} if source else {}
    environment |= {"STADIA_CACHE": str(out.with_suffix(".cache"))}
    run = measure_command(sys.executable, "-m", "stadia", "map", clip, "--out", out, environment=environment)
    text = run.errors + run.output
    line = next((line for line in text.splitlines() if "found " in line or "verdict:" in line), "")
    found = line.partition("found ")[2] or line
    row: Row = {
        "clip": clip.name,
        "version": "before" if source else "now",
        "processor_s": run.cpu_s,
        "found": found.partition(";")[0][:80],
    }
    return row, read_map(out).poses if run.exit_code == 0 else None


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", nargs="+", default=["turn", "zoom", "short", "moves"])
    parser.add_argument("--before", default="")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    processor = describe_processor()
    print(f"{processor['name']}, {processor['cores']} cores")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            clip = write_clip(Path(folder), name, arguments.frames)
            paths = []
            for number, source in enumerate(filter(None, ["now", arguments.before])):
                row, path = map_clip(clip, Path(folder, f"{name}-{number}"), "" if source == "now" else source)
                rows.append(row)
                paths += [] if path is None else [path]
            if len(paths) == 2:
                print(f"{name}: paths are identical: {np.array_equal(paths[0], paths[1], equal_nan=True)}")
    print_table(rows)
    if arguments.json:
        write_results(arguments.json, rows, processor=processor)


if __name__ == "__main__":
    main()
