"""Changed files that stadia reads back, files of others where a command writes, and networks that name code."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks.campaign.harness import Case
from tests.data.mapped_images import write_images, write_map

Change = Callable[[Path], None]
_VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 10**12, 1e308, [1e308] * 4, [[0] * 4] * 3)
_GLPN = {"model_type": "glpn", "depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4}
_NETWORKS: dict[str, dict[str, Any]] = {
    "kernel": {"_attn_implementation": "evil/code"},
    "timm-hub": {"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:a/b"}},
    "timm-folder": {"backbone_config": {"model_type": "timm_backbone", "backbone": "local-dir:/etc"}},
    "layers": {"depths": [10**6] * 4},
    "many-layers": {"depths": [10**5] * 4},
    "no-strides": {"strides": [0] * 4},
    "patch": {"patch_sizes": [-14, 3, 3, 3]},
}


def _write_map(folder: Path, change: Change) -> None:
    write_images(folder / "room")
    write_map(folder / "room.map")
    change(folder / "room.map")


def _change_array(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    arrays = dict(np.load(folder / "points.npz"))
    arrays[name] = change(arrays[name])
    np.savez(folder / "points.npz", **{key: array for key, array in arrays.items() if array is not None})


def _change_record(folder: Path, group: str, key: str, value: Any) -> None:
    record = json.loads((folder / "map.json").read_text())
    inside = record if not group else record[group][0] if group == "frames" else record[group]
    inside[key] = value
    (folder / "map.json").write_text(json.dumps(record))


def list_tampered_maps() -> Iterator[Case]:
    """Yield a check of images for each changed array and value of their map."""
    line = ["check", "room", "data.camera.focal_px=40", "data.poses=map"]
    ways: dict[str, Callable[[Any], Any]] = {
        "missing": lambda array: None,
        "short": lambda array: array[:-1],
        "empty": lambda array: array[:0],
        "scalar": lambda array: np.array(3),
        "large": lambda array: np.full_like(array, 10**6),
        "negative": lambda array: np.full_like(array, -5),
        "nan": lambda array: array * np.nan,
    }
    for name in ("points", "relative_deviation", "track_length", "frames", "observed"):
        for way, change in ways.items():
            then = partial(_change_array, name=name, change=change)
            yield Case(f"map/{name}-{way}", partial(_write_map, change=then), line, accepted=True)
    keys = {"": ("frames", "camera", "road"), "camera": ("focal_px", "center_px", "distortion", "height")}
    keys |= {"frames": ("index", "name", "T_world_camera")}
    for group, names in keys.items():
        for name in names:
            for number, value in enumerate(_VALUES):
                then = partial(_change_record, group=group, key=name, value=value)
                yield Case(f"map/{group}-{name}-{number}", partial(_write_map, change=then), line, accepted=True)


def _write_network(folder: Path, changes: dict[str, Any]) -> None:
    (folder / "network").mkdir()
    (folder / "network" / "config.json").write_text(json.dumps({**_GLPN, **changes}))
    (folder / "network" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    cv2.imwrite(str(folder / "a.png"), np.zeros((64, 96, 3), np.uint8))


def _write_others(folder: Path, name: str, *, is_link: bool) -> None:
    write_images(folder / "room")
    path = folder / "out" / name
    path.parent.mkdir(parents=True)
    (folder / "mine").write_text("years of work")
    path.symlink_to(folder / "mine") if is_link else path.write_text('{"format": "my own"}')


def list_holes(sound: Path) -> Iterator[Case]:
    """Yield tampered maps, networks that name code or fill the memory, and outputs in the way of others' files."""
    yield from list_tampered_maps()
    for name, changes in _NETWORKS.items():
        write = partial(_write_network, changes=changes)
        yield Case(f"network/{name}", write, ["predict", "network", "a.png", "--out", "out"])
    lines = {
        "map room --out out": ("map.json", "points.npz", "colmap/cameras.txt"),
        "data shard room out data.camera.focal_px=40": ("shards/00000.bin", "recordings/000000.json", "shards.json"),
        "check room data.camera.focal_px=40 --out out": ("findings.jsonl", "map.json", "batch.json"),
    }
    for line, names in lines.items():
        for name in names:
            for is_link in (False, True):
                write = partial(_write_others, name=name, is_link=is_link)
                what = f"{'link' if is_link else 'file'}-{name.replace('/', '-')}"
                yield Case(f"others/{line.split()[0]}-{what}", write, line.split())
    if hasattr(os, "mkfifo"):
        line = ["import", "a.pt", "--as", "midas", "--out", "b.safetensors"]
        yield Case("pipe/import", lambda folder: os.mkfifo(folder / "a.pt"), line)
