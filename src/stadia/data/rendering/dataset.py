"""Render datasets as one folder a scene, complete or absent, so that an interrupted rendering resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stadia.core.config import StrictModel
from stadia.core.errors import DataError
from stadia.core.files import read_json
from stadia.data.rendering.presets import SPLITS

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Job:
    """One scene to be rendered. name: its folder."""

    name: str
    split: str
    index: int
    seed: int

    def origin(self, config: StrictModel, version: int) -> dict[str, Any]:
        """Return what the scene is made from: equal origins mean equal images.

        The number of scenes is not part of it.
        """
        settings = config.model_dump(mode="json", exclude=set(SPLITS))
        return {"version": version, "split": self.split, "index": self.index, "seed": self.seed, "config": settings}


def finished(record: Path, key: str, origin: dict[str, Any]) -> bool:
    """Return whether a scene exists with this origin. Raises DataError where the folder holds another one."""
    if not record.parent.exists():
        return False
    found = read_json(record)
    if not isinstance(found, dict) or found.get(key) != origin:
        fix = "choose another --out, or delete it"
        raise DataError(record.parent, found="one that was made with other settings", expected="the same ones", fix=fix)
    return True


def unfinished(
    jobs: Iterable[Job], record: Callable[[Job], Path], key: str, origin: Callable[[Job], dict[str, Any]]
) -> list[Job]:
    """Return the jobs without a finished scene, see `finished`."""
    return [job for job in jobs if not finished(record(job), key, origin(job))]


def names_by_split(jobs: Iterable[Job]) -> dict[str, list[str]]:
    """Return the folders of each split in order."""
    every = list(jobs)
    return {split: [job.name for job in every if job.split == split] for split in SPLITS}


def run_all(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], done: Callable[[Result], object]
) -> None:
    """Run `work` for each item on the threads of a pool; `done` gets each result as it completes.

    When this returns or raises, none of them still works: nothing is written behind an error's back.
    """
    futures = [pool.submit(work, item) for item in items]
    try:
        for future in as_completed(futures):
            done(future.result())
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
