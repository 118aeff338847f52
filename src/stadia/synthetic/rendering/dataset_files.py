"""Files of rendered datasets: scenes that resume after an interruption, PNG files and contact sheets."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.seeds import derive_seed
from stadia.io.atomic_files import write_json
from stadia.io.input_files import read_json
from stadia.io.output_files import ANOTHER_OUT_OR_REMOVE
from stadia.synthetic.config import SPLITS, SceneCounts

PREVIEW = "preview.png"
LISTINGS = ("dataset.json", "foregrounds.json")

Item = TypeVar("Item")
Result = TypeVar("Result")
ConfigT = TypeVar("ConfigT", bound=SceneCounts)
Image = NDArray[np.uint8]


def count_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- A dataset is one folder a scene, complete or absent, so that an interrupted rendering resumes.


@dataclass(frozen=True, slots=True)
class SceneJob:
    """One scene that is to be rendered into a folder."""

    folder: Path
    split: str
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class SceneFormat:
    """The files of one kind of rendered dataset.

    Each scene is a folder that is complete or absent, so rendering can resume.

    kind, version: kind and version of the dataset; seeds are derived from them.
    record: name of a scene's JSON file, which is written last.
    listing: name of the dataset's JSON file with the scenes of each split, which is written last.
    header: further entries of the listing.
    name_scene: function from split, index and seed to the folder of a scene.
    is_split_by_folders: whether scenes are in SPLIT/NAME instead of NAME.
    """

    kind: str
    version: int
    record: str
    listing: str
    header: Mapping[str, Any]
    name_scene: Callable[[str, int, int], str]
    is_split_by_folders: bool = False

    def check_folder(self, out: Path) -> None:
        """Raise StadiaError if the listing or the preview would replace a file of another dataset or of the user."""
        from stadia.io.output_files import check_foreign_folder

        check_foreign_folder(out, *LISTINGS)
        listing, preview = out / self.listing, out / PREVIEW
        if listing.is_file():
            values = read_json(listing)
            others = [] if isinstance(values, dict) and self.kind in values else [self.listing]
        else:
            others = [name for name in LISTINGS if os.path.lexists(out / name)]
            others += [PREVIEW] if os.path.lexists(preview) and not self._is_preview(preview) else []
            others += self._list_foreign(out) if self.is_split_by_folders else []
        if others:
            found, expected = f"{others[0]}, of something else", f"a new folder, or one with a {self.kind}"
            raise StadiaError(out, found=found, expected=expected, fix="choose another --out: nothing is overwritten")

    def check_listing(self, out: Path, config_class: type[SceneCounts]) -> None:
        """Raise DataError if the listing differs from the one that stadia wrote for its seed and configuration."""
        path = out / self.listing
        if not path.is_file():
            return
        old = read_json(path)
        try:
            seed, config = int(old[self.kind]["seed"]), config_class.model_validate(old[self.kind]["config"])
            new = self._make_listing(self.list_jobs(out, config, seed), config, seed)
            new[self.kind] = {"seed": seed, "config": old[self.kind]["config"]}  # an earlier version had fewer keys
            is_own = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
        except (KeyError, TypeError, ValueError):
            is_own = False
        if not is_own:
            found, expected = "another list of scenes than stadia wrote", "the one that it wrote"
            raise DataError(path, found=found, expected=expected, fix=ANOTHER_OUT_OR_REMOVE)

    def _make_listing(self, jobs: Sequence[SceneJob], config: SceneCounts, seed: int) -> dict[str, Any]:
        splits = {split: [job.folder.name for job in jobs if job.split == split] for split in SPLITS}
        made_from = {"seed": seed, "config": config.model_dump(mode="json")}
        return {**self.header, "splits": splits, self.kind: made_from}

    def _is_preview(self, path: Path) -> bool:
        from stadia.io.output_files import is_own_file

        return is_own_file(path, f"preview of {self.kind}")

    def _list_foreign(self, out: Path) -> list[str]:
        entries = (entry for split in SPLITS if (out / split).is_dir() for entry in sorted((out / split).iterdir()))
        foreign = (entry for entry in entries if not entry.name.startswith(".") and not (entry / self.record).is_file())
        return [str(entry.relative_to(out)) for entry in foreign]

    def list_jobs(self, out: Path, config: SceneCounts, seed: int) -> list[SceneJob]:
        """Return the scenes of all splits, in order."""
        places = ((split, index) for split, count in config.counts.items() for index in range(count))
        seeds = ((*place, derive_seed(seed, self.kind, *place)) for place in places)
        return [SceneJob(out / self.name_scene(*place_and_seed), *place_and_seed) for place_and_seed in seeds]

    def origin(self, job: SceneJob, config: SceneCounts) -> dict[str, Any]:
        """Return the values that determine the images of a scene: version, split, index, seed and settings.

        Scenes with equal values have equal images.

        job: the scene.
        config: configuration of the dataset.
        """
        settings = config.model_dump(mode="json", exclude=set(SPLITS))
        place = {"split": job.split, "index": job.index, "seed": job.seed}
        return {"version": self.version, **place, "config": settings}

    def find_unfinished(self, jobs: Iterable[SceneJob], config: SceneCounts) -> list[SceneJob]:
        """Return the jobs whose scenes are not finished; see `is_finished`."""
        return [job for job in jobs if not is_finished(job.folder / self.record, self.kind, self.origin(job, config))]

    def write_listing(self, out: Path, jobs: list[SceneJob], config: SceneCounts, seed: int, preview: Image) -> Path:
        """Write preview.png and the listing of all scenes, and return the path of the listing.

        A preview.png that the user put there is kept.
        """
        if not os.path.lexists(out / PREVIEW) or self._is_preview(out / PREVIEW):
            write_contact_sheet(out / PREVIEW, preview, f"stadia-preview-{self.kind}")
        write_json(out / self.listing, self._make_listing(jobs, config, seed))
        return out / self.listing


@dataclass(frozen=True, slots=True)
class SceneWriter(Generic[ConfigT]):
    """Renders one kind of dataset.

    write: renders and writes a scene.
    draw: draws the preview of all scene folders.
    images: returns the number of images in each scene.
    """

    format: SceneFormat
    write: Callable[[ConfigT, SceneJob], object]
    draw: Callable[[list[Path]], Image]
    images: Callable[[ConfigT], int]

    def __call__(
        self,
        config: ConfigT,
        out: Path,
        *,
        seed: int = 0,
        workers: int | None = None,
        advance: Callable[[int], None] = lambda images: None,
    ) -> Path:
        """Write the scenes that are not finished, a thread each, then preview and list. Returns the list's path.

        The same seed gives the same bytes for any number of `workers`.

        advance: called with numbers of finished images.

        Raises DataError for a folder with a scene of other settings, StadiaError if scenes cannot be written.
        """
        form, images = self.format, self.images(config)
        jobs = form.list_jobs(Path(out), config, seed)
        form.check_folder(Path(out))
        todo = form.find_unfinished(jobs, config)
        form.check_listing(Path(out), type(config))
        advance(images * (len(jobs) - len(todo)))
        with ThreadPoolExecutor(workers or count_cores()) as pool:
            run_jobs(pool, partial(self.write, config), todo, lambda _: advance(images))
        return form.write_listing(Path(out), jobs, config, seed, self.draw([job.folder for job in jobs]))


def is_finished(record: Path, key: str, origin: dict[str, Any]) -> bool:
    """Return whether a scene has already been rendered completely with the wanted settings.

    record: JSON file of the scene, which is written last.
    key: entry of the file that contains its settings.
    origin: the wanted settings, see `SceneFormat.origin`.

    Raises DataError if the scene was rendered with other settings.
    """
    if not record.parent.exists():
        return False
    if not os.path.lexists(record):
        found, expected = f"a folder without {record.name}", "a new folder, or a finished scene"
        raise DataError(record.parent, found=found, expected=expected, fix=ANOTHER_OUT_OR_REMOVE)
    found = read_json(record)
    if not isinstance(found, dict) or found.get(key) != origin:
        fix = ANOTHER_OUT_OR_REMOVE
        raise DataError(record.parent, found="one that was made with other settings", expected="the same ones", fix=fix)
    return True


def run_jobs(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], done: Callable[[Result], object]
) -> None:
    """Run `work` for each item on a pool of threads. `done` receives each result.

    When the function returns, no thread is still writing.
    """
    futures = [pool.submit(work, item) for item in items]
    try:
        for future in as_completed(futures):
            done(future.result())
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


# -- PNG files and contact sheets. OpenCV is imported when the first is drawn: `stadia --help` needs SPLITS only.


def write_png(path: Path, image: NDArray) -> None:
    """Write an image losslessly, (H, W) or (H, W, 3) in the order BGR as in OpenCV."""
    import cv2

    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(
            path,
            found=f"{image.dtype} {image.shape}",
            expected="an image",
            fix="report this error with the command that you ran",
        )
    path.write_bytes(data.tobytes())


def colorize_depth(depth_m: NDArray[np.float32], near_m: float, far_m: float) -> Image:
    """Return depth (H, W) in metres as colors (H, W, 3) RGB on a logarithmic scale: near is bright, unknown is black.

    near_m, far_m: depths of the brightest and of the darkest color.

    Examples:
        >>> colorize_depth(np.array([[1.0, 10.0]], np.float32), 1.0, 10.0).shape
        (1, 2, 3)
    """
    import cv2

    share = np.log(np.clip(depth_m, near_m, far_m) / near_m) / np.log(far_m / near_m)
    image = cv2.applyColorMap((255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(depth_m[..., None] > 0, image, 0).astype(np.uint8)


def draw_caption(text: str, width: int) -> Image:
    """Return a white bar (18, W, 3) with a line of text, at least as wide as the text."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    bar = np.full((18, max(width, int(cv2.getTextSize(text, *font, 1)[0][0]) + 4), 3), 255, np.uint8)
    return np.asarray(cv2.putText(bar, text, (2, 13), *font, (40, 40, 40), 1, cv2.LINE_AA), np.uint8)


def stack_tiles(tiles: list[Image], columns: int) -> Image:
    """Join tiles (H, W, 3) of one size row by row. Missing tiles of the last row are black.

    Examples:
        >>> stack_tiles([np.zeros((2, 3, 3), np.uint8)] * 3, columns=2).shape
        (4, 6, 3)
    """
    missing = -len(tiles) % columns
    tiles = tiles + [np.zeros_like(tiles[0])] * missing
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def write_contact_sheet(path: Path, sheet: Image, mark: str) -> Path:
    """Write a contact sheet (H, W, 3) RGB as a PNG with the mark of its kind, and return its path."""
    from stadia.io.output_files import write_marked_png

    write_marked_png(path, sheet[..., ::-1], mark)
    return path
