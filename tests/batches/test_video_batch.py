"""Work on many videos: one that fails stops no other, and what is finished is not done again."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.refusals import refuses

from stadia.batches.video_batch import VideoBatch, VideoResult, attempt, work_on_videos
from stadia.core.errors import DataError, RunError
from stadia.core.progress import no_progress
from stadia.data.video.video_list import VideoEntry


def make_writer(out: Path, entry_error: Exception) -> Callable[[VideoEntry], VideoResult]:
    def write(entry: VideoEntry) -> VideoResult:
        if entry.name == "bad":
            raise entry_error
        (out / entry.name).touch()
        return VideoResult(video=entry.name, state="done", verdict="unusable" if entry.name == "c" else "usable")

    return lambda entry: attempt(entry.name, partial(write, entry))


def find_written(out: Path, name: str) -> VideoResult | None:
    return VideoResult(video=name, state="done", verdict="usable") if (out / name).is_file() else None


def run(out: Path, names: str, error: Exception, option: int = 1) -> tuple[object, list[str]]:
    failures = list[str]()
    batch = VideoBatch[VideoEntry](
        out=str(out),
        described={"option": option},
        make_work=partial(make_writer, out, error),
        find_finished=partial(find_written, out),
        workers=0,
    )
    entries = [VideoEntry(name=name, path=Path(name)) for name in names.split()]
    summary = work_on_videos(batch, entries, no_progress, failures.append)
    return (summary.done, summary.failed, summary.before, summary.unusable), failures


@pytest.mark.parametrize("error", [DataError("bad", found="nothing", expected="a video"), ZeroDivisionError("0")])
def test_a_video_fails_alone_and_the_same_call_resumes(tmp_path: Path, error: Exception) -> None:
    numbers, failures = run(tmp_path, "a bad c", error)
    assert numbers == (2, 1, 0, 1)
    assert [line.split(": ")[:2] for line in failures] == [["failed", "bad"]]
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [(row["video"], row["state"]) for row in rows] == [("a", "done"), ("bad", "failed"), ("c", "done")]
    (tmp_path / "ledger.jsonl").write_text("")  # killed before its lines were written
    (tmp_path / "c").unlink()
    assert run(tmp_path, "a bad c d", error)[0] == (3, 1, 1, 1)
    with refuses(RunError, where="batch.json", found="option"):
        run(tmp_path, "a", error, option=2)
