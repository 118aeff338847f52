"""Make masks of many videos in processes: `stadia masks LIST --workers 4`. The same command resumes.

OUT/NAME/sheet.png, which is written last, marks a video as done.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from stadia.batches.video_batch import BatchSummary, VideoBatch, VideoResult, attempt, work_on_videos
from stadia.core.errors import mask_values
from stadia.core.progress import TrackProgress
from stadia.data.video.video_list import VideoEntry, read_entries
from stadia.io.input_files import expand_home, make_absolute, safe_join
from stadia.predict.masks import RECORD, SHEET, MaskMaker, MasksRequest, open_mask_maker, write_masks


def mask_videos(
    request: MasksRequest, track: TrackProgress, on_failure: Callable[[str], None], *, workers: int, engine: str
) -> BatchSummary:
    """Make masks of every video of a list that is not done yet; videos that failed before are tried again.

    request: the arguments; its source is a folder, glob or list of videos.
    track: shows progress.
    on_failure: called with a line of text for each failed video.
    workers: number of processes; 0 works in this process.
    engine: what runs the processes, see `stadia.batches.engines.run_items`.

    Raises DataError for a wrong list, RunError if the output folder belongs to another batch.
    """
    request = replace(request, out=make_absolute(request.out))
    described = {
        "command": "masks",
        "by": request.by,
        "road_by": request.road_by,
        "every": request.every,
        "heights": request.heights,
        "options": dict(request.options),
    }
    batch = VideoBatch[VideoEntry](
        out=str(request.out),
        described=mask_values(described),
        make_work=partial(make_masker, request),
        find_finished=partial(find_masks, request.out),
        workers=workers,
        engine=engine,
    )
    return work_on_videos(batch, read_entries(expand_home(request.source)), track, on_failure)


def make_masker(request: MasksRequest) -> Callable[[VideoEntry], VideoResult]:
    """Return the function that makes the masks of a video of a batch; the network is opened once."""
    maker = open_mask_maker(request)
    return lambda entry: attempt(entry.name, partial(_mask_entry, request, maker, entry))


def _mask_entry(request: MasksRequest, maker: MaskMaker, entry: VideoEntry) -> VideoResult:
    if (done := find_masks(request.out, entry.name)) is not None:
        return done
    write_masks(maker, replace(request, source=entry.path, out=safe_join(request.out, entry.name)))
    found = find_masks(request.out, entry.name)
    assert found is not None
    return found


def find_masks(out: Path, name: str) -> VideoResult | None:
    """Return the result of a video whose masks are complete in the folder of a batch; None for others.

    out: folder of the batch.
    name: name of the video.
    """
    folder = safe_join(out, name)
    if not (folder / RECORD).is_file() or not (folder / SHEET).is_file():
        return None
    return VideoResult(video=name, state="done", frames=sum(1 for _ in (folder / "semantic").rglob("*.png")))
