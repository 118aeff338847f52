"""Predict the frames of an uploaded video into a folder of its session: depth, path, points, a video."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.datasets.image_files import read_rgb
from stadia.datasets.video.frame_selection import FrameSelector
from stadia.evaluation.frame_preparation import Frame
from stadia.evaluation.io.point_clouds import encode_glb
from stadia.evaluation.io.predictions_record import TRAJECTORY, TRAJECTORY_TUM
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.files.input_files import read_bytes
from stadia.predict.describe import prediction_lines, trust_line
from stadia.predict.network import Network
from stadia.predict.outputs import CLOUD, DEPTH_COLOR, PATH_DRAWING, VIDEO
from stadia.web.photo import PhotoCamera

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_VIDEO_FRAMES = 300
"""With the path they take about a minute."""

MAX_VIDEO_SIDE = 960
"""Longest side of a frame, in pixels."""

DEFAULT_RATE_HZ = 10.0
"""If the video has no frame rate."""

MAX_SHARED_BYTES = 64 << 20
"""Largest video in a page to share."""

MAX_CLOUD_BYTES = 64 << 20
CLOUD_GLB = "cloud.glb"

VIDEO_DOWNLOADS: Mapping[str, str] = {
    VIDEO: "video/mp4",
    TRAJECTORY: "text/plain",
    TRAJECTORY_TUM: "text/plain",
    PATH_DRAWING: "image/png",
    CLOUD: "application/octet-stream",
    CLOUD_GLB: "model/gltf-binary",
    "predictions.json": "application/json",
}
"""Files of a predicted video and their types; a network may not give all of them."""

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])


class CancelledError(Exception):
    """The user cancelled the video, or its session ended."""


@dataclass
class VideoJob:
    """One video of a session.

    folder: for its frames and predictions.
    state: "decoding", "predicting", "done", "failed" or "cancelled".
    done, total: frames.  error: one line.
    """

    folder: Path
    state: str = "decoding"
    done: int = 0
    total: int = 0
    error: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> Path:
        """Return the folder of its frames."""
        return self.folder / "frames"

    @property
    def predictions(self) -> Path:
        """Return the folder of its predictions."""
        return self.folder / "predictions"

    def close(self) -> None:
        """Cancel it, and remove its files."""
        if self.state not in ("done", "failed"):
            self.state = "cancelled"
        shutil.rmtree(self.folder, ignore_errors=True)

    def fail(self, error: str) -> None:
        """End it with an error, and remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.state, self.error = "failed", error

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
        """Count the frames, and stop if the job is cancelled; a `TrackProgress`."""
        for item in items:
            if self.state == "cancelled":
                raise CancelledError
            self.done += 1
            yield item


@dataclass(frozen=True)
class UploadedFrames:
    """The frames 000000.jpg and so on of a folder; frames with enough motion are on the path."""

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


def predict_video(job: VideoJob, network: Network, camera: PhotoCamera, rate_hz: float, count: int) -> None:
    """Predict `count` decoded frames of a job into its folder; set its state, and what the page shows.

    Raises CancelledError if the job is cancelled meanwhile, and errors of predicting.
    """
    job.state, job.total = "predicting", count
    height, width = read_rgb(job.frames / "000000.jpg").shape[:2]
    frames = UploadedFrames(job.frames, camera, rate_hz, count)
    session = network.open_input(camera.make_input("video", frames, count, rate_hz, height, width))
    written = session.write(job.predictions, job.track, record_verdict=False)
    job.about = {
        "verdict": written.checks["verdict"],
        "lines": list(prediction_lines(Path("video"), written.predictions)),
        "trust": trust_line(written.predictions),
        "frames": sorted(path.stem for path in (job.predictions / DEPTH_COLOR).iterdir()),
        "rate_hz": rate_hz,
        "depth_scale": str(written.predictions.depth_scale),
        "network": network.loaded.label,
        "licence": network.licence,
        "fov_deg": round(camera.fov_deg, 1),
        "fov_source": camera.source,
        "files": [name for name in VIDEO_DOWNLOADS if (job.predictions / name).is_file()],
        "not_shared": explain_not_shared(job.predictions / VIDEO),
    }
    if CLOUD in job.about["files"]:
        job.about["files"].append(CLOUD_GLB)
    job.state = "done"


def explain_error(error: Exception, job: VideoJob) -> str:
    """Return one line of an error for the user, without folders of the server."""
    if isinstance(error, StadiaError):
        return str(error).replace(str(job.folder), "video")
    if isinstance(error, OSError):
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
    """Return points (N, 3) and colors (N, 3) of a PLY file of `PlyWriter`. Raises DataError for another file."""
    data = read_bytes(path, expected="a cloud", max_bytes=MAX_CLOUD_BYTES)
    _, end, body = data.partition(b"end_header\n")
    if not end or len(body) % _VERTEX.itemsize:
        raise DataError("cloud", found="another file", expected="a cloud of stadia", fix="predict the video again")
    vertices = np.frombuffer(body, _VERTEX)
    return np.ascontiguousarray(vertices["position"]), np.ascontiguousarray(vertices["color"])


def read_path(folder: Path) -> NDArray[np.float64]:
    """Return the centers of the camera (N, 3) of a prediction; empty without a path."""
    if not (folder / TRAJECTORY).is_file():
        return np.zeros((0, 3))
    return np.asarray(read_kitti_trajectory(folder / TRAJECTORY).T_world_camera[:, :3, 3], np.float64)


def encode_video_glb(folder: Path) -> bytes:
    """Return points and path of a prediction as binary glTF."""
    return encode_glb(*read_cloud(folder / CLOUD), read_path(folder))
