"""Predict the depth of an equirectangular panorama by overlapping perspective views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError
from stadia.core.progress import TrackProgress
from stadia.data.config import CameraConfig
from stadia.data.frame_preparation import Frame, PredictedFrame, PreparedFrame
from stadia.data.video.input_camera import InputCamera
from stadia.evaluation.plots.videos import DEFAULT_RATE_HZ
from stadia.geometry.cameras import CropWindow, Intrinsics
from stadia.geometry.dual_fisheye import find_dual_fisheye, is_dual_fisheye
from stadia.geometry.panorama import JoinedViews, View, join_views, make_rays, make_views
from stadia.io.image_files import read_rgb
from stadia.predict.inputs import PredictionInput
from stadia.predict.options import PredictOptions, refuse_unused
from stadia.predict.run import Session

if TYPE_CHECKING:
    from stadia.core.types import DepthScale, Predictor
    from stadia.data.video.video_camera import KeptScale
    from stadia.scale.scale_receipt import ScaleReceipt
    from stadia.scale.sources import ScaleSource
    from stadia.scale.video_track import SpeedTrack

ROWS = ((0, 8), (50, 4), (-50, 4))
"""Pitch, degrees up, and number of the views of each row. Level views overlap by half; all directions are covered."""

FOV_DEG = 90.0
"""Field of view of each view, degrees."""

MAX_SIDE = 512
"""Largest side of a view, pixels."""

MAX_HEIGHT = 512
"""Largest height of the joined depth map, pixels; networks of usual sizes predict no more detail in a view."""

SOURCES = ("height", "point")
"""Sources of metres that hold for a panorama; `point` is the distance along the ray of the pixel."""

UNUSED = frozenset({"every", "smooth", "motion", "background", "rerun"})
"""Options of a prediction that have no effect on a panorama."""


@dataclass(frozen=True)
class PanoramaCamera(InputCamera):
    """The camera of a panorama. Its field of view is known, so `lines` describes the views and the kind of depth."""

    def lines(self, intrinsics: Intrinsics) -> list[str]:
        """Return the lines of text about the camera."""
        count = sum(number for _, number in ROWS)
        views = f"{count} views of {FOV_DEG:.0f} degrees. Another camera: stadia camera INPUT --fov DEGREES"
        return [f"camera: {self.origin}, 360 x 180 degrees, predicted in {views}"]


@dataclass(frozen=True)
class PanoramaFrames:
    """The views of a panorama, cut when they are read.

    path: the panorama, or the picture of two fisheye lenses; an image twice as wide as high.
    """

    path: Path

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """Return the panorama (H, W, 3) RGB."""
        image = read_rgb(self.path)
        return find_dual_fisheye([image]).join(image) if is_dual_fisheye(image) else image

    @cached_property
    def views(self) -> Sequence[View]:
        """Return the views."""
        side = min(MAX_SIDE, round(self.image.shape[1] / np.pi) // 2 * 2)
        return make_views(ROWS, side, FOV_DEG)

    def __iter__(self) -> Iterator[Frame]:
        for view in self.views:
            image = np.ascontiguousarray(view.cut(self.image), np.uint8)
            yield Frame(f"{self.path.stem}-{view.name}", image, view.K, frames_since=None)


class PanoramaSession(Session):
    """Predict one panorama: its views are predicted, scaled to each other, judged, and joined."""

    @property
    def panorama(self) -> PanoramaFrames:
        """Return the views of the panorama."""
        frames = self.input.frames
        assert isinstance(frames, PanoramaFrames)
        return frames

    @cached_property
    def _predicted(self) -> list[PredictedFrame]:
        own = self.network.make_predictor(self.options)
        predictor = self.network.run_backend(own, self.options, lambda: [self.input])
        frames: Iterable[Frame] = self.panorama
        return list(self.network.stream_frames(predictor, iter(frames), self.options, in_threads=False))

    @cached_property
    def joined(self) -> JoinedViews:
        """Return the joined panorama in the unit of the network, before any measured scale."""
        height = min(self.panorama.image.shape[0], MAX_HEIGHT)
        depths = [predicted.depth_at_image() for predicted in self._predicted]
        return join_views(depths, self.panorama.views, height, 2 * height)

    def measure_metres(
        self, predictor: Predictor, sources: Sequence[str], kept: KeptScale | None, track: SpeedTrack | None
    ) -> ScaleReceipt:
        """Measure the scale by sources of metres that hold for a panorama."""
        from stadia.scale.scale_receipt import measure_frames
        from stadia.scale.sources import MeasuredFrame, parse_scale_source

        parsed = [parse_scale_source(text) for text in sources]
        if others := [source.text for source in parsed if source.text.partition("=")[0] not in SOURCES]:
            fix = "docs/how-to/metres.md describes both"
            raise ConfigError(f"--scale-from {others[0]}", found="a panorama", expected=" or ".join(SOURCES), fix=fix)
        whole = self._join_frame(predictor.depth_scale, 1.0)
        shown = PreparedFrame(whole.frame, np.empty((3, 0, 0), np.float32), whole.K, whole.image_size, whole.box)
        frames = [MeasuredFrame(shown, whole.inverse_depth)]
        for view, predicted, factor in zip(self.panorama.views, self._predicted, self.joined.factors, strict=True):
            if abs(view.R_panorama_view[1, 2]) < 1e-6:  # level
                of_view = PreparedFrame(predicted.frame, shown.image, predicted.K, predicted.image_size, predicted.box)
                frames.append(MeasuredFrame(of_view, predicted.inverse_depth / np.float32(factor)))
        receipt = measure_frames(frames, [_choose_frames(source, frames[0]) for source in parsed])
        return replace(receipt, is_photo=True)

    def predict(self, track: TrackProgress) -> Iterator[PredictedFrame]:
        """Predict the views, let the judge take them, and yield the joined panorama."""
        for _ in track(range(1), 1, f"predicting {self.name}"):
            factor = 1.0 if self.receipt is None else self.receipt.factor
            for predicted, of_view in zip(self._predicted, self.joined.factors, strict=True):
                self.gate(replace(predicted, inverse_depth=predicted.inverse_depth / np.float32(factor * of_view)))
            joined = self.photo = self._join_frame(self.predictor.depth_scale, factor)
        yield joined

    def _join_frame(self, depth_scale: DepthScale, factor: float) -> PredictedFrame:
        """Return the whole panorama as one frame, with distance along the rays, times a factor."""
        distance, image = self.joined.distance, self.panorama.image
        frame = Frame(self.name, image, np.full((3, 3), np.nan), on_path=False)  # the gate takes the views instead
        height, width = image.shape[:2]
        return PredictedFrame(
            frame,
            depth_scale,
            np.asarray(1 / (distance * np.float32(factor)), np.float32),
            frame.K,
            None,
            (height, width),
            CropWindow(0, 0, height, width),
            max_depth=self.options.max_depth,
            rays=make_rays(*distance.shape),
        )


def _choose_frames(source: ScaleSource, whole: Any) -> ScaleSource:
    """Let `point` measure the whole panorama only, and other sources the views only."""
    is_point = source.text.startswith("point=")

    def measure(frame: Any) -> Any:
        return source.measure(frame) if (frame is whole) == is_point else None

    find_lean = source.find_lean
    if find_lean is None:
        return replace(source, measure=measure)
    return replace(source, measure=measure, find_lean=lambda frame: None if frame is whole else find_lean(frame))


def open_panorama(network: Any, path: Path, options: PredictOptions, origin: str) -> PanoramaSession:
    """Open a panorama for a network.

    network: a `stadia.predict.network.Network`.
    path: an equirectangular image.
    options: options of the prediction.
    origin: how the panorama was recognized, in words.

    Raises ConfigError for an option that has no effect on a panorama or a network without an own size of its images.
    """
    if network.depth_scale.is_affine:
        found, fix = f"a network of depth {network.depth_scale}", "use a network whose depth has no unknown shift: base"
        raise ConfigError(network.name, found=found, expected="depth that joins to a panorama", fix=fix)
    used = {name for name in network.list_used_options(options) if name not in UNUSED}
    refuse_unused(options, used, "a panorama")
    frames = PanoramaFrames(path)
    view = frames.views[0]
    camera = PanoramaCamera(CameraConfig(), f"{origin}; depth is the distance along the ray of each pixel")
    intrinsics = Intrinsics(view.K, view.side, view.side)
    given = PredictionInput(path.stem, frames, 1, DEFAULT_RATE_HZ, camera=camera, intrinsics=intrinsics)
    fitted = network if network.has_own_size else network.fit(view.side, view.side)
    return PanoramaSession(fitted, given, options, fitted.make_predictor(options), source=path)
