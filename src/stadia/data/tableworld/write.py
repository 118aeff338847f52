"""Write TableWorld as one folder a table, complete or absent, so that an interrupted rendering resumes.

DATASET/dataset.json names the folders of each split and is written last. See docs/tableworld.md for every file.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from stadia.core.files import replacing_folder, write_json
from stadia.data.rendering.dataset import Job, names_by_split, run_all, unfinished
from stadia.data.rendering.files import cores, write_png
from stadia.data.tableworld.presets import CLASSES, TableWorldConfig
from stadia.data.tableworld.preview import write_preview
from stadia.data.tableworld.render import TableRenderer, TableView
from stadia.data.tableworld.table import make_table, table_seed

VERSION = 2  # 2: scene.json lists `images`, before `pictures`
"""Of the tables: raised when a seed no longer gives the same images, so that an old folder is not continued by new
code.
"""


def jobs(config: TableWorldConfig, seed: int) -> list[Job]:
    """List the tables of a data set in order."""
    return [
        Job(f"{split}-{i:05d}", split, i, table_seed(seed, split, i))
        for split, count in config.tables.items()
        for i in range(count)
    ]


def _describe_view(view: TableView) -> dict[str, Any]:
    """Return the entry of an image in scene.json."""
    return {
        "K": view.K.tolist(),
        "height": view.image.shape[0],
        "width": view.image.shape[1],
        "T_world_camera": view.T_world_camera.tolist(),
        "objects": [
            {
                "class": one.placed.shape.kind,
                "quaternion_wxyz": Rotation.from_matrix(one.T_camera_object[:3, :3])
                .as_quat(canonical=True)[[3, 0, 1, 2]]
                .tolist(),
                "t_camera_object_m": one.T_camera_object[:3, 3].tolist(),
                "size_m": one.placed.shape.size_m.tolist(),
                "symmetry": one.symmetry,
                "full_px": one.full_px,
            }
            for one in view.objects
        ],
    }


def _write_view(folder: Path, number: int, view: TableView) -> None:
    name = f"{number:03d}"
    write_png(folder / "image" / f"{name}.png", view.image[..., ::-1])
    write_png(folder / "instance" / f"{name}.png", view.instance)
    np.save(folder / "depth" / f"{name}.npy", view.depth_m)


def _write_table(job: Job, config: TableWorldConfig, out: Path) -> int:
    """Render one table to its folder. Returns its number of images."""
    renderer = TableRenderer(make_table(job.seed, config), config)
    with replacing_folder(out / job.name) as folder:
        for kind in ("image", "instance", "depth"):
            (folder / kind).mkdir()
        views = []
        for number in range(config.views):
            view = renderer.render(number)
            _write_view(folder, number, view)
            views.append(_describe_view(view))
        write_json(folder / "scene.json", {"images": views, "tableworld": job.origin(config, VERSION)})
    return config.views


def write_tableworld(
    config: TableWorldConfig,
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> Path:
    """Render a data set to `out`; tables already there are kept. Returns the path of its dataset.json.

    Args:
        config: what to render.
        seed: of the data set; the same seed gives the same bytes, whatever `workers` is.
        workers: threads that render, a table each; all cores by default.
        advance: called with a number of images as they are finished (or found finished).

    Raises DataError where a folder holds a table made with other settings, StadiaError where it cannot be written.
    """
    out = Path(out)
    every = jobs(config, seed)
    todo = unfinished(
        every, lambda job: out / job.name / "scene.json", "tableworld", lambda job: job.origin(config, VERSION)
    )
    advance(config.views * (len(every) - len(todo)))
    with ThreadPoolExecutor(workers or cores()) as pool:
        run_all(pool, lambda job: _write_table(job, config, out), todo, advance)
    made_from = {"seed": seed, "config": config.model_dump(mode="json")}
    path = out / "dataset.json"
    write_preview(out, [job.name for job in every])
    write_json(
        path,
        {
            "format": "stadia-objects",
            "version": 1,
            "classes": CLASSES,
            "splits": names_by_split(every),
            "tableworld": made_from,
        },
    )
    return path
