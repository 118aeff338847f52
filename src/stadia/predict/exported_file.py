"""An exported network, model.onnx, as a `Network`. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.datasets.config import CameraConfig
from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.evaluation.backends import BACKENDS, ONNXRUNTIME, BackendChoice, check_backend
from stadia.evaluation.exported_network import ExportDescription, ExportedNetwork, stream_exported_predictions
from stadia.evaluation.frame_preparation import Frame, PredictedFrame
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.files.input_files import check_input_file
from stadia.predict.inputs import PredictionInput, is_own_video
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions, parse_size, requested_size
from stadia.recipes.base.training_overlap import TrainedInput
from stadia.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from stadia.core.types import DepthScale

USED_OPTIONS = ("data", "every", "size", "video", "backend")


class ExportedFile(Network):
    """A network that `stadia export` wrote. It predicts depth only."""

    predicts_motion = False
    writes_clouds = False
    can_predict_focal = False
    is_exported = True
    has_own_size = True
    run_folder = None
    relative_error = None

    def __init__(self, file: Path) -> None:
        self.name, self.file, self.max_pixels = str(file), file, None
        check_input_file(file, expected="a model.onnx of `stadia export`", max_bytes=1 << 31)
        self._opened: ExportedNetwork | None = None

    def make_predictor(self, options: PredictOptions | None = None) -> Any:
        """Return the graph for an image size."""
        options = options or PredictOptions()
        backend = options.backend or ONNXRUNTIME
        check_backend(BackendChoice(backend), is_exported=True)
        self._opened = _Graph(self.file, None if options.size is None else parse_size(options.size), backend)
        return self._opened

    @property
    def about(self) -> ExportDescription:
        """Return the description in the file."""
        if self._opened is None:
            self._opened = ExportedNetwork(self.file)
        return self._opened.about

    @property
    def depth_scale(self) -> DepthScale:
        return self.about.depth_scale

    @property
    def licence(self) -> str:
        return self.about.licence

    @property
    def trained_with(self) -> Mapping[str, Any]:
        return {"data": self.about.model_dump(include={"height", "width"})}

    def stream_frames(
        self, predictor: Any, frames: Iterator[Frame], options: PredictOptions, *, in_threads: bool = True
    ) -> Iterator[PredictedFrame]:
        return stream_exported_predictions(predictor, frames, predictor.backend.run)

    def run_backend(
        self, predictor: Any, options: PredictOptions, open_inputs: Callable[[], list[PredictionInput]]
    ) -> Any:
        return predictor

    def make_provenance(self, options: PredictOptions) -> Provenance:
        assert self._opened is not None
        provenance = self._opened.provenance(requested_size(options.size, self.trained_with))
        return provenance.model_copy(update={"backend": options.backend or ONNXRUNTIME})

    def read_training(self, given: PredictionInput) -> tuple[TrainingRecord, TrainedInput]:
        codes = self.about.verdict_codes.split(", ") if self.about.verdict == "unusable" else []
        focal = tuple(filter(None, (self.about.focal,)))
        return TrainingRecord(focal=focal, recorded_codes=tuple(filter(None, codes))), TrainedInput()

    def list_used_options(self, options: PredictOptions) -> Collection[str]:
        return USED_OPTIONS

    def describe_kind(self) -> str:
        return "an exported network"

    def require_weights(self) -> None:
        Checkpoint.open(self.file)  # its error names the commands that take this file

    def list_limits(self, counts: Sequence[int | None]) -> Sequence[str]:
        no_path = "no path, " if any(count != 1 for count in counts) else ""
        notes = [f"an exported network predicts depth only: {no_path}no point cloud"]
        if self.about.verdict is not None:
            notes.append(f"verdict of its run at the export: {self.about.describe_verdict()}")
        return notes

    def complete_data_options(self, source: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        known = self.about.camera
        camera = None if known is None else CameraConfig(K=known.K, size=known.size)
        own = is_own_video(source, data.get("format", "auto"))
        return {**({"stride": 1} if own else {}), "trained_camera": camera, **data}  # without a path all frames count


class _Graph(ExportedNetwork):
    def __init__(self, file: Path, size: tuple[int, int] | None, backend: str) -> None:
        super().__init__(file, size)
        self.backend = BACKENDS.load(backend)(self.graph, (self.height, self.width))
