"""Run an exported ONNX depth network. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from stadia import __version__
from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.core.input_files import check_input_file, name_parser_errors, open_input
from stadia.core.registry import check_file_keys
from stadia.core.types import DepthScale
from stadia.evaluation.frame_preparation import Frame, PredictedFrame, PreparedFrame, TrainingLens
from stadia.evaluation.io.predictions_folder import Provenance
from stadia.geometry.numpy_camera import IMAGE_CROPS

IMAGE, INVERSE_DEPTH = "image", "inverse_depth"  # names of the input and the output of an exported network
UNITS: Mapping[DepthScale, str] = {
    DepthScale.METRES: "1/m",
    DepthScale.UP_TO_SCALE: "1/depth, up to one unknown scale",
    DepthScale.AFFINE_INVERSE: "1/depth, up to an unknown scale and shift",
}

MIN_OPSET = 13
_EXPECTED = "an ONNX file that `stadia export` wrote"
_MAX_BYTES = 1 << 31  # a protobuf has no more
_OPSET_IMPORT, _GRAPH, _INITIALIZER, _DATA_TYPE = 8, 7, 5, 2  # numbers of fields in onnx.proto
_FLOATS = (1, 10, 11, 16)  # float, float16, double, bfloat16

MAX_STRIDE = 256
Side = Annotated[int, Field(ge=1, le=8192)]


class ExportDescription(StrictModel):
    """Description of an exported network, stored as texts in ONNX's metadata_props. It replaces the checkpoint.

    input, unit: of the graph's `image` and `inverse_depth`, as text.
    recipe, config_hash, checkpoint: as in predictions.json.
    height, width: of the training images.
    crop: row of `geometry.numpy_camera.IMAGE_CROPS`, the part of an image that they showed.
    stride: other sizes are multiples of it, in a .pt2 three times it or more.
    focal: fx / width of the training cameras; for another one inverse depth is divided by the ratio of the two.
    stadia: the version that exported it.
    """

    format: Literal["stadia-depth"] = "stadia-depth"
    version: int = Field(default=1, ge=1, le=1)
    input: str = "(B, 3, H, W) float32 RGB in [0, 1], not normalized"
    unit: str
    depth_scale: DepthScale
    recipe: str
    config_hash: str
    checkpoint: str
    height: Side
    width: Side
    crop: str
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)]
    focal: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    stadia: str = __version__

    @classmethod
    def from_provenance(cls, provenance: Provenance, depth_scale: DepthScale, **values: Any) -> Self:
        """Build it from a provenance; `values` are the fields from `height` to `focal`."""
        made_by = provenance.model_dump(include={"recipe", "config_hash", "checkpoint"})
        return cls(depth_scale=depth_scale, unit=UNITS[depth_scale], **made_by, **values)

    def texts(self) -> dict[str, str]:
        """Return all fields as text."""
        return {name: str(value) for name, value in self}

    @classmethod
    def read(cls, path: Path, texts: Mapping[str, str]) -> Self:
        """Read it from a file's metadata, which may have other entries. Raise DataError where it is not stadia's."""
        if texts.get("format") != cls.model_fields["format"].default:
            fix = "run it by onnxruntime itself, and score its maps by `stadia evaluate --depth`"
            expected = "one that `stadia export` wrote"
            raise DataError(path, found="an ONNX file without stadia's description", expected=expected, fix=fix)
        check_file_keys(path, texts)
        try:
            described = cls.model_validate({name: texts[name] for name in cls.model_fields if name in texts})
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))} in its metadata: {first['msg']}"
            raise DataError(
                path, found=problem, expected="what `stadia export` writes", fix="export it again"
            ) from error
        if described.crop not in IMAGE_CROPS:
            expected = f"one of {', '.join(IMAGE_CROPS)}"
            raise DataError(path, found=f"the crop '{described.crop}'", expected=expected, fix="update stadia")
        return described


def check_installed(*packages: str) -> None:
    """Raise ConfigError where a package of the extra `onnx` is missing."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            missing[0], found="no such package", expected="the extra 'onnx'", fix="pip install 'stadia[onnx]'"
        )


class ExportedNetwork:
    """A depth network that onnxruntime runs: on a GPU if its build supports one, else on all cores.

    size: (height, width) of its input; the training size by default.
    threads: number of cores; None takes all.

    `depth_scale`, `height`, `width` and `crop` are as of `core.types.Predictor`; `about` is the file's description.
    Raises ConfigError where onnxruntime is missing or the size does not fit, DataError for a damaged or foreign file.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self._session = _open_session(self.path, threads)
        self.about = ExportDescription.read(self.path, self._session.get_modelmeta().custom_metadata_map)
        self._check_graph()
        _check_weights(self.path)
        self._check_prediction()
        self.depth_scale, self.crop = self.about.depth_scale, self.about.crop
        self.height, self.width = size or (self.about.height, self.about.width)
        self._check_size(self.height, self.width)

    def inverse_depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict (B, 3, H, W) float32 RGB in [0, 1] to (B, 1, H, W), in the unit of `about`, at its focal length.

        Raises ConfigError where the sides are no multiples of the stride.
        """
        self._check_size(*image.shape[-2:])
        try:
            (output,) = self._session.run([INVERSE_DEPTH], {IMAGE: np.ascontiguousarray(image, np.float32)})
        except Exception as error:  # its errors have no common base class
            found = f"a graph that fails at {image.shape[3]}x{image.shape[2]} ({str(error)[:200]})"
            raise DataError(self.path, found=found, expected=_EXPECTED, fix="export it again") from error
        expected = (len(image), 1, *image.shape[-2:])
        if not isinstance(output, np.ndarray) or output.shape != expected:
            found = f"an output of shape {getattr(output, 'shape', None)} for images of shape {image.shape}"
            raise DataError(self.path, found=found, expected=f"shape {expected}", fix="export it again")
        return np.asarray(output, np.float32)

    def provenance(self, size: tuple[int, int] | None = None) -> Provenance:
        """Return the provenance for predictions.json; `size` where it is not the training size."""
        made_by = self.about.model_dump(include={"recipe", "config_hash"})
        checkpoint = f"{self.about.checkpoint}, as {self.path.name}"
        return Provenance(**made_by, checkpoint=checkpoint, motion="none", requested_size=size)

    def _check_graph(self) -> None:
        tensors = (*self._session.get_inputs(), *self._session.get_outputs())
        sides = [(tensor.name, len(tensor.shape), tensor.type) for tensor in tensors]
        expected = [(IMAGE, 4, "tensor(float)"), (INVERSE_DEPTH, 4, "tensor(float)")]
        if sides != expected:
            raise DataError(self.path, found=f"a graph with {sides}", expected=f"{expected}", fix="export it again")
        channels = [tensor.shape[1] for tensor in tensors]
        if channels != [3, 1]:
            found, wanted = f"a graph from {channels[0]} to {channels[1]} channels", "one from 3 to 1"
            raise DataError(self.path, found=found, expected=wanted, fix="export it again")

    def _check_prediction(self) -> None:
        """Run two images of noise: a network predicts something finite, and not the same for both."""
        side = 4 * self.about.stride
        random = np.random.default_rng(0)
        first, second = (self.inverse_depth(random.random((1, 3, side, side), np.float32)) for _ in range(2))
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            found = "a graph that predicts values that are not finite"
        elif np.array_equal(first, second):
            found = "a graph whose prediction does not depend on the image"
        else:
            return
        raise DataError(self.path, found=found, expected=_EXPECTED, fix="export it again")

    def _check_size(self, height: int, width: int) -> None:
        stride = self.about.stride
        if height % stride or width % stride:
            near = f"{max(round(width / stride), 2) * stride}x{max(round(height / stride), 2) * stride}"
            fix = f"take {near}"
            expected = f"multiples of {stride}"
            raise ConfigError(f"image size for {self.path.name}", found=f"{width}x{height}", expected=expected, fix=fix)


def _open_session(path: Path, threads: int | None) -> Any:
    """Return an onnxruntime.InferenceSession.

    Weights beside the file are read from its own folder only: onnxruntime refuses any other path.
    """
    check_installed("onnxruntime")
    import onnxruntime

    check_input_file(path, expected=_EXPECTED, max_bytes=_MAX_BYTES)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised as well
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors have no common base class
        fix = "copy it again, or export it again"
        found = f"a file that onnxruntime cannot load ({str(error)[:200]})"
        raise DataError(path, found=found, expected=_EXPECTED, fix=fix) from error


def _check_weights(path: Path) -> None:
    """Raise DataError for a graph of an old opset, or without weights: one that only moves its input around.

    Reads the lengths of the fields of the protobuf (ModelProto, GraphProto, TensorProto of onnx.proto), no contents.
    """
    opset, has_weights = 0, False
    with (
        open_input(path, expected=_EXPECTED, max_bytes=_MAX_BYTES) as stream,
        name_parser_errors(path, expected=_EXPECTED),
    ):
        for field, end in _list_fields(stream, os.fstat(stream.fileno()).st_size):
            if field == _OPSET_IMPORT:
                values = dict(_list_fields(stream, end))
                if values.get(1, 0) == 0:  # the domain of ONNX itself has no name
                    opset = values.get(2, 0)
            elif field == _GRAPH:
                for part, part_end in _list_fields(stream, end):
                    if part == _INITIALIZER:
                        has_weights |= any(
                            name == _DATA_TYPE and value in _FLOATS for name, value in _list_fields(stream, part_end)
                        )
    if opset < MIN_OPSET:
        expected = f"opset {MIN_OPSET} or newer"
        raise DataError(path, found=f"a graph of opset {opset}", expected=expected, fix="export it again")
    if not has_weights:
        raise DataError(path, found="a graph without weights", expected=_EXPECTED, fix="export it again")


def _list_fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield (field, value) of a protobuf message up to `end`: of a whole number its value, of other fields their end.

    The stream then stands at the field's content. Raises ValueError for anything else.
    """
    while stream.tell() < end:
        key = _read_varint(stream)
        field, kind = key >> 3, key & 7
        if kind == 0:
            yield field, _read_varint(stream)
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of type {kind}")
        length = _read_varint(stream) if kind == 2 else {1: 8, 5: 4}[kind]
        after = stream.tell() + length
        if after > end:
            raise ValueError("a field that is cut off")
        yield field, after if length else 0
        stream.seek(after)


def _read_varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = stream.read(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number of more than 64 bits")


def stream_exported_predictions(network: ExportedNetwork, frames: Iterable[Frame]) -> Iterator[PredictedFrame]:
    """Predict depth frame by frame, at any focal length; without motion."""
    lens = TrainingLens(network.about.focal, "depth is scaled by it")
    for frame in frames:
        shown = PreparedFrame.prepare(network, frame)
        inverse_depth = network.inverse_depth(shown.image[None])[0, 0]
        ratio = lens.ratio(shown.K, network.height, network.width)
        yield shown.predicted(network.depth_scale, inverse_depth / np.float32(ratio), None)
