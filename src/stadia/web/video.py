"""Map and predict the frames of an uploaded video in a folder of its session: depth, trajectory, points, a video."""

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, GeometryError, StadiaError
from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict, find_worst
from stadia.data.frame_preparation import Frame
from stadia.data.frame_selection import FrameSelector, spread_indices
from stadia.data.video.video_map import find_map
from stadia.evaluation.depth_fusion import (
    DepthView,
    fit_scales,
    fuse_views,
    keep_confirmed,
    make_view,
    scale_views,
    shrink_view,
)
from stadia.evaluation.point_clouds import EDGE_RATIO, encode_glb, write_point_cloud
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.textured_mesh import MAX_VIEWS, encode_textured_glb
from stadia.geometry.sky import find_far_sky
from stadia.io.image_files import read_rgb
from stadia.io.input_files import read_bytes, read_json
from stadia.io.records.read import read_kitti_trajectory
from stadia.io.records.trajectory import TRAJECTORY, TRAJECTORY_DRAWING, TRAJECTORY_TUM
from stadia.judge.questions import Question
from stadia.metrics.trajectory_metrics import find_jumps
from stadia.predict.adapt_time import RECORD, estimate_least_minutes
from stadia.predict.describe import describe_headline, describe_parts, prediction_lines
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions
from stadia.predict.run import CLOUD, DEPTH_COLOR, VIDEO, find_expected_error
from stadia.report.point_cloud_figures import frame_scene
from stadia.scale.depth_deviations import DepthDeviations
from stadia.web.first_scene import FirstScene
from stadia.web.forms import describe_error, drop_commands
from stadia.web.measuring import Measured, MeasureForm, find_ground, measure
from stadia.web.photo import (
    FOV_SOURCES,
    LengthForm,
    PhotoCamera,
    choose_points,
    describe_scale,
    describe_trust,
    fov_deg_from_focal,
)
from stadia.web.progress import PLAN, estimate_left_s, estimate_share
from stadia.web.trainings import STADIA, name_camera, read_last_line

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_VIDEO_FRAMES = 300
"""Most frames of a video that are predicted; with the camera trajectory they take about a minute."""

MAX_VIDEO_SIDE = 960
"""Longest side of a decoded frame, pixels."""

DEFAULT_RATE_HZ = 10.0
"""Frame rate of a video that states none."""

MAX_SHARED_BYTES = 64 << 20
"""Largest video in a page to share, bytes."""

MAX_CLOUD_BYTES = 64 << 20
CLOUD_GLB, MESH_GLB, MAX_MESH_VERTICES = "cloud.glb", "mesh.glb", 600_000

VIDEO_DOWNLOADS: Mapping[str, str] = {
    VIDEO: "video/mp4",
    TRAJECTORY: "text/plain",
    TRAJECTORY_TUM: "text/plain",
    TRAJECTORY_DRAWING: "image/png",
    CLOUD: "application/octet-stream",
    CLOUD_GLB: "model/gltf-binary",
    MESH_GLB: "model/gltf-binary",
    "predictions.json": "application/json",
}
"""Files of a predicted video that users can download, with their media types; a network may not give all of them."""

FUSED_VIEWS, FUSED_SIDE = 40, 320
"""Most frames whose depth is fused into points (FUSED_SIDE: longest side of their depth, pixels)."""

GROUND_FRAMES, SAME_GROUND_DEG, SAME_GROUND = 9, 8.0, 0.3
"""Number of frames in which the ground is searched (SAME_GROUND_DEG: largest angle between two planes of one ground;
SAME_GROUND: largest relative difference of the camera's height over them).
"""

MIN_PLACED = 0.8
"""Share of the frames that the path of a usable video has at least."""

TAIL_BYTES = 2000
"""Last bytes of a command's messages that are searched for its progress."""

_COUNTED = r"(?:(?P<done>\d+)(?: of (?P<total>\d+))?(?:, |$))?(?:\d+ s so far)?(?:, about \d+ s left)?"
_PROGRESS = re.compile(rf"(?P<what>[^:]+?)(?: \.\.\.|: {_COUNTED})")

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])


_NO_SCENE = object()


class CancelledError(Exception):
    """The user cancelled the video, or its session ended."""


@dataclass
class VideoJob:
    """The work on one video of a session.

    folder: folder for its frames and predictions.
    name: name of the file on the user's computer; "" if unknown.
    state: "waiting", "decoding", "mapping", "adapting", "predicting", "done", "failed" or "cancelled"; of dropped files
        also "open", for more files, and "checking".
    what: what is counted, in the words of the process that counts; "" for frames.
    done, total: number of finished items, and of all items, of what is counted since `began`.
    began: when counting began, on the clock `time.monotonic`, seconds.
    started: when the work began, on the same clock.
    plan: the states of this work, in order.
    share: share of the whole work that is done, which never becomes smaller.
    repetition: how often it counted the same before.
    error: one line of text; "" without an error.
    preview: depth of the first frame in colors, as JPEG; empty before it is predicted.
    scene: the scene while the path is searched; None without depth.
    scene_version: how often the scene was replaced.
    process: the process that maps or adapts; None if none runs.
    skips_map: whether the user skipped the map.
    mapped: camera, rate and number of its frames once they are mapped; else None.
    network: index of the network that predicted it.
    known: lengths that set its scale.
    other: key of the video whose frames this one predicts by another network; "" for an upload.
    about: what the page shows once the job is done.
    store: stores the predicted job on disk.
    is_stored: whether its folder is a result on disk, which stays until the user deletes it.
    """

    folder: Path
    name: str = ""
    state: str = "waiting"
    what: str = ""
    done: int = 0
    total: int = 0
    began: float = 0.0
    started: float = field(default_factory=time.monotonic)
    plan: Sequence[str] = PLAN
    share: float = 0.0
    repetition: int = 0
    error: str = ""
    preview: bytes = b""
    scene: FirstScene | None = None
    scene_version: int = 0
    process: subprocess.Popen[bytes] | None = None
    skips_map: bool = False
    mapped: "MappedFrames | None" = None
    network: int = 0
    known: tuple[LengthForm, ...] = ()
    other: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    store: Callable[[], None] = lambda: None
    is_stored: bool = False

    @property
    def is_model(self) -> bool:
        """Return whether the frames are photos of one scene, which become one model."""
        return re.fullmatch(r"\d+ photos", self.name) is not None

    @property
    def frames(self) -> Path:
        """Return the folder of its frames."""
        return self.folder / "frames"

    @property
    def predictions(self) -> Path:
        """Return the folder of its predictions."""
        return self.folder / "predictions"

    def close(self) -> None:
        """Cancel the job, and remove its files, unless they are a stored result."""
        if self.state not in ("done", "failed"):
            self.state = "cancelled"
        if self.process is not None:
            self.process.kill()
        if not self.is_stored:
            shutil.rmtree(self.folder, ignore_errors=True)

    def fail(self, error: str) -> None:
        """End the job with an error, and remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.state, self.error = "failed", error

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
        """Yield the items and count them for the progress; stop if the job is cancelled."""
        self.count_from("", count or 0)
        for item in items:
            self.go_on(self.state)
            yield item
            self.done += 1

    def count_from(self, what: str, total: int) -> None:
        """Begin to count `total` items of `what`; 0 if their number is unknown."""
        self.repetition = self.repetition + 1 if what.partition(",")[0] == self.what.partition(",")[0] else 0
        self.what, self.done, self.total, self.began = what, 0, total, time.monotonic()

    def start_over(self, plan: Sequence[str]) -> None:
        """Begin further work with these states."""
        self.started, self.plan, self.share = time.monotonic(), plan, 0.0

    def show_scene(self, scene: FirstScene) -> None:
        """Replace the scene that the page shows while it works."""
        self.scene = scene
        self.scene_version += 1

    def skip_map(self) -> None:
        """End the process that maps; the path then uses predicted depth."""
        if self.state == "mapping":
            self.skips_map = True
            if self.process is not None:
                self.process.kill()

    def go_on(self, state: str) -> None:
        """Set the state.

        Raises CancelledError if the job was cancelled.
        """
        if self.state == "cancelled":
            raise CancelledError
        self.state = state

    def describe(self) -> dict[str, Any]:
        """Return the progress of the job, and its result once it is done, as JSON."""
        part, age_s = self.done / self.total if self.total else 0.0, time.monotonic() - self.started
        self.share = max(self.share, estimate_share(self.plan, self.state, self.what, part, self.repetition))
        counted = {"what": self.what, "done": self.done, "total": self.total, "share": self.share}
        step = self.plan.index(self.state) + 1 if self.state in self.plan else 0
        progress = {"state": self.state, **counted, "step": step, "steps": len(self.plan)}
        progress |= {"age_s": age_s, "left_s": estimate_left_s(self.share, age_s)}
        placed = 0 if self.scene is None else len(self.scene.poses)
        has_preview = {"has_preview": bool(self.preview), "scene_version": self.scene_version, "scene_frames": placed}
        shown = {"error": self.error, **has_preview, "other": self.other, "name": self.name}
        return {**progress, **shown, **self.about}


@dataclass(frozen=True)
class MappedFrames:
    """The frames of a video after mapping.

    camera: their camera.
    rate_hz: frame rate.
    count: number of frames.
    path_text: what the page shows about the origin of their camera trajectory.
    """

    camera: PhotoCamera
    rate_hz: float
    count: int
    path_text: str = ""


@dataclass(frozen=True)
class UploadedFrames:
    """The frames 000000.jpg and so on in a folder; frames with enough motion are marked for the camera trajectory."""

    folder: Path
    camera: PhotoCamera
    rate_hz: float
    count: int

    def __iter__(self) -> Iterator[Frame]:
        chooser = FrameSelector("auto", lists_kept=False)
        for number in range(self.count):
            image = read_rgb(self.folder / f"{number:06d}.jpg")
            K = self.camera.make_K(*image.shape[:2])
            yield Frame(f"{number:06d}", image, K, number / self.rate_hz, 1, chooser.keep(image, number))


def run_command(
    job: VideoJob, words: Sequence[str], seconds: float = 0.0, meanwhile: Iterator[FirstScene | None] | None = None
) -> str:
    """Run a command of stadia for a job; its cache is removed with the job.

    job: the job, whose process it becomes.
    words: the words of the command.
    seconds: expected duration, which the progress of the job shows.
    meanwhile: scenes to make and show while the command runs.

    Returns the last line of its errors for the page; "" if it succeeds.

    Raises CancelledError if the job is cancelled.
    """
    job.repetition = 0
    scenes = iter(()) if meanwhile is None else meanwhile
    env = {**os.environ, "STADIA_CACHE": str(job.folder / "cache"), "STADIA_PROGRESS_S": "0.5"}
    null = subprocess.DEVNULL
    job.count_from("", round(seconds))
    with tempfile.TemporaryFile() as errors:
        job.process = subprocess.Popen([*STADIA, *words], stdin=null, stdout=null, stderr=errors, env=env)
        job.go_on(job.state)  # it may have been cancelled meanwhile: its process is ended
        while job.process.poll() is None:
            if (scene := next(scenes, _NO_SCENE)) is _NO_SCENE:
                time.sleep(0.1)
            elif isinstance(scene, FirstScene):
                job.show_scene(scene)
            if seconds:
                job.done = min(round(time.monotonic() - job.began), job.total)
            elif (counted := read_progress(os.pread(errors.fileno(), TAIL_BYTES, tail_of(errors)))) is not None:
                what, done, total = counted
                if what != job.what or total != job.total:
                    job.count_from(what, total)
                job.done = done
        job.go_on(job.state)
        errors.seek(0)
        line = read_last_line(errors.read()) if job.process.returncode else ""
    return describe_error(line).removesuffix(".")


def tail_of(file: IO[bytes]) -> int:
    """Return the offset of the last TAIL_BYTES bytes of a file."""
    return max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0)


def read_progress(tail: bytes) -> tuple[str, int, int] | None:
    r"""Return the progress in the last lines that a stadia command wrote: what is counted, how many, of how many.

    The total is 0 if it is unknown. Returns None without such a line.

    Examples:
        >>> read_progress(b"reading ...\nmatching images: 30 of 120, 3 s so far, about 9 s left\n")
        ('matching images', 30, 120)
        >>> read_progress(b"matching images: 30 of 120\nreconstructing ...\n")
        ('reconstructing', 0, 0)
    """
    whole = tail.partition(b"\n")[2] if len(tail) == TAIL_BYTES else tail  # its first line may be cut
    for line in reversed(whole.decode("utf-8", "replace").splitlines()):
        if found := _PROGRESS.fullmatch(line):
            return found["what"], int(found["done"] or 0), int(found["total"] or 0)
    return None


def map_frames(
    job: VideoJob, camera: PhotoCamera, meanwhile: Iterator[FirstScene | None] | None = None
) -> tuple[PhotoCamera, str]:
    """Map the frames of a job in a process of its own (pycolmap changes how its process ends).

    The map gives the camera trajectory if it is usable, and the camera if the images determine it.

    job: the job.
    camera: camera of the frames.
    meanwhile: scenes to make and show while the map is made.

    Returns the camera of the map, or the given one, and a sentence about the map.

    Raises CancelledError if the job is cancelled.
    """
    job.go_on("mapping")
    why = run_command(job, ["map", str(job.frames), *name_frames_camera(camera)], meanwhile=meanwhile)
    if job.skips_map:
        return camera, "You skipped the map of this video, so the path uses predicted depth."
    if why:
        return camera, f"This video has no map, so the path uses predicted depth ({why})."
    stored = find_map(job.frames)
    if stored is None or not stored.is_usable:
        return camera, "The map of this video is unusable, so the path uses predicted depth."
    if camera.is_assumed and stored.camera.is_determined:
        camera = PhotoCamera(fov_deg_from_focal(stored.camera.relative_focal), "map")
    placed = int(np.isfinite(stored.poses).all((1, 2)).sum())
    grade = "" if stored.verdict is None else f" and is {stored.verdict.grade}"
    return (
        camera,
        f"The path comes from a map of the video, which places {placed} of {len(stored.names)} frames{grade}.",
    )


def name_frames_camera(camera: PhotoCamera) -> list[str]:
    """Return the words of a command line on decoded frames: their black bars are cut off, and their camera if it is
    known.
    """
    return [*name_camera(None if camera.is_assumed else camera.fov_deg), "data.camera.crop_bars=false"]


def copy_frames(job: VideoJob, made: VideoJob) -> None:
    """Link the frames and the map of a predicted video into the folder of another job, which may outlive it.

    job: the predicted video.
    made: the other job.
    """
    for path in job.folder.iterdir():
        if path.is_dir() and path not in (job.predictions, job.folder / "cache"):
            shutil.copytree(path, made.folder / path.name, copy_function=link_or_copy, dirs_exist_ok=True)
    made.mapped = job.mapped


def link_or_copy(source: str, target: str) -> None:
    """Create a hard link to a file, or a copy of it on another file system."""
    try:
        os.link(source, target)
    except OSError:  # A hard link cannot cross file systems.
        shutil.copyfile(source, target)


def adapt_frames(job: VideoJob, network: str, minutes: float, runs: Path | None) -> str:
    """Adapt a network to the frames of a mapped job; return the run with the adapted network.

    job: the job.
    network: name of the network.
    minutes: how long to train.
    runs: folder for the run; None keeps it in the folder of the job.

    Raises DataError if the network is not better afterwards or cannot be adapted, CancelledError if the job is
    cancelled.
    """
    assert job.mapped is not None
    job.go_on("adapting")
    folder = job.folder / "runs"
    words = [str(job.frames), "--minutes", f"{minutes:g}", "--out", str(folder), *name_frames_camera(job.mapped.camera)]
    why = run_command(job, ["adapt", network, *words], 60 * minutes)
    if why:
        raise DataError("the network", found=why, expected="a network adapted to this video")
    run = next(path for path in folder.iterdir() if (path / RECORD).is_file())
    if read_json(run / RECORD, expected="a record").get("kept") != "after":
        found = f"no better depth after {minutes:g} minutes of training, so the network is unchanged"
        raise DataError("adapt", found=found, expected="better depth", fix="keep the network, or allow more minutes")
    if runs is None:
        return str(run)
    runs.mkdir(parents=True, exist_ok=True)
    return str(shutil.move(run, runs / run.name))


def predict_video(job: VideoJob, network: Network, name: str = "", notes: Sequence[str] = ()) -> None:
    """Predict the mapped frames of a job into its folder, in the scale of its known lengths; set its state, and what
    the page shows. Earlier predictions of the job stay if it fails.

    job: the job.
    network: the network.
    name: name of the network on the page; "" takes its own.
    notes: further lines for the page.

    Raises CancelledError if the job is cancelled meanwhile, and the errors of predicting.
    """
    mapped = job.mapped
    assert mapped is not None
    camera, rate_hz, count, path_text = mapped.camera, mapped.rate_hz, mapped.count, mapped.path_text
    job.go_on("predicting")
    height, width = read_rgb(job.frames / "000000.jpg").shape[:2]
    frames = UploadedFrames(job.frames, camera, rate_hz, count)
    given = camera.make_input("video", frames, count, rate_hz, height, width)
    session = network.open_input(given, PredictOptions(scale_from=tuple(one.to_source() for one in job.known)))
    session.source = job.frames  # next to which the map is
    if job.is_model:  # The path is one half of a model.
        session.gate.counted.add(Question.PATH)
    begun = time.monotonic()
    new = job.folder / "new-predictions"
    shutil.rmtree(new, ignore_errors=True)
    written = session.write(new, job.track, record_verdict=False)
    shutil.rmtree(job.predictions, ignore_errors=True)
    new.rename(job.predictions)
    record = written.predictions.record
    if session.path.problem:
        why = session.path.problem.partition(" (")[0]  # names of checks follow, which the details have
        path_text = f"The map of the video is not used: {why}. The path uses predicted depth."
    if record is not None and 1 < len(record.path) < count and session.path.mapped is None:
        path_text += f" It ends after {len(record.path)} of {count} frames: the next motion is unknown."
    depth_scale, verdict = written.predictions.depth_scale, str(written.checks["verdict"])
    has_cloud = (job.predictions / CLOUD).is_file()
    fitted, grain = fuse_video(job, depth_scale, verdict) if has_cloud else ({}, 0.0)
    error, trust = find_expected_error(session), describe_trust(session)
    grade = grade_with_path(Verdict(verdict), 0 if record is None else len(record.path), count)
    files = [name for name in VIDEO_DOWNLOADS if (job.predictions / name).is_file()]
    job.about = {
        "verdict": str(grade),
        "lines": [*notes, *drop_commands(prediction_lines(Path("video"), written.predictions))],
        "parts": describe_parts(written.checks),
        "headline": describe_headline({**written.checks, "verdict": str(grade)}, trust.short),
        "trust": trust.text,
        "receipt": describe_scale(session.receipt),
        "chip": trust.short,
        "relative_error": error.deviation,
        "depth_deviations": None if error.depth is None else asdict(error.depth),
        "has_network_error": error.network_error is not None,
        "settings": {"network": job.network, "known": [one.model_dump() for one in job.known]},
        "size": [height, width],
        "least_minutes": estimate_least_minutes((time.monotonic() - begun) / count),
        "path_text": path_text,
        "frames": sorted(path.stem for path in (job.predictions / DEPTH_COLOR).iterdir()),
        "rate_hz": rate_hz,
        "aspect": width / height,
        "depth_scale": str(depth_scale),
        "fitted": fitted,
        "grain": grain,
        "network": name or network.label,
        "licence": network.licence,
        "fov_deg": round(camera.fov_deg, 1),
        "fov_source": camera.source,
        "fov_from": FOV_SOURCES[camera.source],
        "files": [*files, CLOUD_GLB, MESH_GLB] if CLOUD in files else files,
        "not_shared": explain_not_shared(job.predictions / VIDEO),
    }
    job.store()
    job.state = "done"


def grade_with_path(verdict: Verdict, placed: int, count: int) -> Verdict:
    """Return the verdict on depth and path of a video: at best doubtful if the path leaves out many frames.

    verdict: on its depth.
    placed: number of frames on the path; 0 without a path.
    count: number of frames.

    Examples:
        >>> [str(grade_with_path(Verdict.USABLE, placed, 30)) for placed in (30, 7, 0)]
        ['usable', 'doubtful', 'usable']
    """
    return find_worst([verdict, Verdict.DOUBTFUL]) if 0 < placed < MIN_PLACED * count else verdict


def explain_error(error: Exception, job: VideoJob) -> str:
    """Return one line of text about an error for the user, without folders of the server."""
    if isinstance(error, StadiaError):
        return describe_error(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The server has no space for this video."
    log.error("prediction of a video failed", exc_info=error)
    return f"internal error, {type(error).__name__}; please report it"


def explain_not_shared(video: Path) -> str:
    """Return why a video is too large for a page to share; "" if it fits."""
    size, most = (video.stat().st_size if video.is_file() else 0) / 2**20, MAX_SHARED_BYTES / 2**20
    if size <= most:
        return ""
    return f"{size:.0f} MB are too much for a page (at most {most:.0f}): download {video.name}, or use fewer frames."


def read_cloud(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return points (N, 3) and colors (N, 3) in a PLY file that stadia wrote."""
    data = read_bytes(path, expected="a cloud", max_bytes=MAX_CLOUD_BYTES)
    vertices = np.frombuffer(data.partition(b"end_header\n")[2], _VERTEX)
    return np.ascontiguousarray(vertices["position"]), np.ascontiguousarray(vertices["color"])


def read_poses(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return the poses T_world_camera (4, 4) in a folder of predictions, by frame name; empty without a trajectory."""
    record = Predictions.open(folder).record
    if record is None or not (folder / TRAJECTORY).is_file():
        return {}
    poses = read_kitti_trajectory(folder / TRAJECTORY).T_world_camera
    return {name: np.asarray(T, np.float64) for name, T in zip(record.path, poses, strict=False)}


def read_frame_depth(job: VideoJob, number: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the depth (h, w) of a frame of a predicted video, 0 = none, and the intrinsics (3, 3) of this map.

    Raises ConfigError for an unknown frame, GeometryError if the network gives no depth.
    """
    predictions, name = Predictions.open(job.predictions), f"{number:06d}"
    if name not in predictions.files:
        raise ConfigError("frame", found=f"number {number}", expected="one of the video", fix="reload the page")
    if predictions.depth_scale.is_affine:
        fix = "choose a network that predicts depth, or metres"
        raise GeometryError("depth", found="values up to scale and shift", expected="depth", fix=fix)
    depth = np.asarray(predictions.read(name), np.float32)
    assert job.mapped is not None
    return np.where(np.isfinite(depth), depth, np.float32(0)), job.mapped.camera.make_K(*depth.shape)


def measure_frame(job: VideoJob, form: MeasureForm) -> Measured:
    """Measure what a form marks in a frame of a predicted video; without poses, its points are in the camera's axes,
    else in the world frame of the trajectory.

    Raises the errors of `read_frame_depth` and `stadia.web.measuring.measure`.
    """
    number = form.frame or 0
    depth, K = read_frame_depth(job, number)
    height, width = job.about["size"]
    rows, columns = depth.shape
    at = tuple((min(x * columns // width, columns - 1), min(y * rows // height, rows - 1)) for x, y in form.points)
    about, own = job.about, job.about["depth_deviations"]
    scaled, errors = form.model_copy(update={"points": at}), None if own is None else DepthDeviations(**own)
    has_network_error = about["has_network_error"]
    found = measure(scaled, depth, K, DepthScale(about["depth_scale"]), errors, has_network_error=has_network_error)
    T = read_poses(job.predictions).get(f"{number:06d}")
    if T is None:
        return found
    fitted = about.get("fitted") or {f"{number:06d}": 1.0}
    nearest = min(fitted, key=lambda name: abs(int(name) - number))  # its points lie on the fused ones
    return replace(found, points=fitted[nearest] * found.points @ T[:3, :3].T + T[:3, 3])


def find_video_ground(job: VideoJob) -> NDArray[np.float64] | None:
    """Return the plane (4,) of the ground in the world of the trajectory, as `stadia.web.measuring.find_ground`: of the
    frames that see one, the one with which most others agree; None if none is seen.
    """
    poses = read_poses(job.predictions)
    names, planes = list(poses), list[NDArray[np.float64]]()
    for name in (names[row] for row in spread_indices(len(names), GROUND_FRAMES)):
        with contextlib.suppress(ConfigError, GeometryError, ValueError):
            plane, T = find_ground(*read_frame_depth(job, int(name))), poses[name]
            normal = T[:3, :3] @ plane[:3]
            planes.append(np.append(normal, plane[3] + normal @ T[:3, 3]))
    if not planes:
        return None
    found = np.array(planes)
    centers = find_centers(poses.values())
    heights = found[:, 3] - (centers @ found[:, :3].T).mean(0)  # of the camera over each plane
    is_level = found[:, :3] @ found[:, :3].T > math.cos(math.radians(SAME_GROUND_DEG))
    is_same = is_level & (np.abs(heights[:, None] - heights) < SAME_GROUND * np.abs(heights))
    return np.asarray(found[int(is_same.sum(1).argmax())])


def find_centers(poses: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the camera positions (N, 3) of poses T_world_camera."""
    return np.array([T[:3, 3] for T in poses]).reshape(-1, 3)


def describe_path(job: VideoJob) -> dict[str, Any]:
    """Return the camera trajectory of a predicted video, the ground, and the center and radius of its scene as JSON."""
    poses, ground = read_poses(job.predictions), find_video_ground(job)
    shown: dict[str, Any] = {
        "path": [[name, T[:3].tolist()] for name, T in poses.items()],
        "jumps": find_jumps(find_centers(poses.values())) if len(poses) > 1 else [],
        "ground": None if ground is None else ground.tolist(),
        "center": None,
        "radius": 0,
    }
    if len(poses) > 1 and (job.predictions / CLOUD).is_file():
        shown["center"], shown["radius"] = frame_scene(
            read_cloud(job.predictions / CLOUD)[0], find_centers(poses.values())
        )
    return shown


def encode_video_glb(folder: Path) -> bytes:
    """Return points and camera trajectory in a folder of predictions as binary glTF."""
    return encode_glb(*read_cloud(folder / CLOUD), find_centers(read_poses(folder).values()))


def encode_video_mesh(job: VideoJob) -> bytes:
    """Return the fused surfaces of views spread over the path of a predicted video as binary glTF, with pictures and
    cameras. Distant points and the sky are left out.
    """
    views = read_views(job, MAX_VIEWS)
    return encode_textured_glb(scale_views(views, fit_scales(views)), EDGE_RATIO, MAX_MESH_VERTICES)


def read_views(job: VideoJob, most: int) -> list[DepthView]:
    """Return at most `most` frames with a pose, spread over the path, without sky, distant points and edges."""
    poses, views = read_poses(job.predictions), list[DepthView]()
    names = list(poses)
    assert job.mapped is not None
    for name in (names[row] for row in spread_indices(len(names), most)):
        image = read_rgb(job.frames / f"{name}.jpg")
        depth, _ = read_frame_depth(job, int(name))
        depth = np.where(choose_points(depth) & ~find_far_sky(image, depth), depth, np.float32(0))
        views.append(make_view(name, image, depth, job.mapped.camera.make_K(*image.shape[:2]), poses[name]))
    return views


def fuse_video(job: VideoJob, depth_scale: DepthScale, verdict: str) -> tuple[dict[str, float], float]:
    """Replace the points of a predicted video by those of its fused frames, if several have a pose.

    job: the video.
    depth_scale: kind of scale of its depth.
    verdict: on its depth.

    Returns the factor of each fused frame, by which its depth fits that of the others, and the typical distance between
    neighboring points; nothing and 0 without several frames.
    """
    views = [shrink_view(view, FUSED_SIDE) for view in read_views(job, FUSED_VIEWS)]
    if len(views) < 2:
        return {}, 0.0
    fused = keep_confirmed(fuse_views(views))
    write_point_cloud(job.predictions / CLOUD, fused.points, fused.colors, depth_scale, verdict)
    fitted = {view.name: round(float(scale), 4) for view, scale in zip(views, fused.scales, strict=True)}
    return fitted, fused.grain
