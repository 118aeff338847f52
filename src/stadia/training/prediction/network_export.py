"""Export a depth network to one file, ONNX or torch.export, and compare the file's outputs with the network's."""

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import Dim, ExportedProgram

from stadia.core.errors import StadiaError
from stadia.io.atomic_files import atomic_write
from stadia.predict import exported_network

Run = Callable[[NDArray[np.float32]], NDArray[np.floating]]  # runs an exported file on images (B, C, H, W)

TOLERANCE = 1e-3
"""Largest accepted difference between the outputs of an exported file and of the network.

It limits the difference relative to the output, with outputs clamped to at least a hundredth of their maximum, and the
difference relative to the spread of the output.
"""

OPSET = 18  # the ONNX exporter's default
DESCRIPTION = "stadia.json"  # file in a torch.export archive with the `ExportDescription`
_MAX_ONNX_BYTES = (1 << 31) - (1 << 24)  # One protobuf cannot be larger.


@dataclass(frozen=True, slots=True)
class ExportComparison:
    """Hold the largest differences between the outputs of an exported file and of the network that it was made from.

    images: number of compared images.
    height: height of these images in pixels.
    width: width of these images in pixels.
    absolute: largest absolute difference, in the unit of the output.
    relative: largest difference relative to the output.
    of_spread: largest difference relative to the spread of the output's values.
    """

    images: int
    height: int
    width: int
    absolute: float
    relative: float
    of_spread: float

    @property
    def is_close(self) -> bool:
        """Return whether the differences are below TOLERANCE."""
        return self.relative < TOLERANCE and self.of_spread < TOLERANCE

    def __str__(self) -> str:
        images = f"{self.images} image{'s' * (self.images > 1)}"
        differences = f"{self.relative:.1e} relative, {self.of_spread:.1e} of the spread, {self.absolute:.1e} absolute"
        return f"{images} of {self.width}x{self.height}: largest difference {differences}"


def export_onnx(
    network: nn.Module,
    path: Path,
    about: exported_network.ExportDescription,
    size: tuple[int, int] | None = None,
    *,
    one_image: bool = False,
) -> list[ExportComparison]:
    """Write an ONNX file that maps `image` (B, 3, H, W) to `inverse_depth` (B, 1, H, W).

    H and W are multiples of the stride. The file is compared with the network at two sizes, or at `size`.

    network: maps (B, 3, H, W) RGB in [0, 1] to (B, 1, H, W), in evaluation mode, on the CPU.
    path: file to write.
    about: description that is stored in the file.
    size: the only (H, W) that the file accepts; it is traced and run faster. None accepts any size.
    one_image: whether the graph accepts only one image of that size at a time.

    Returns the comparisons. Raises StadiaError, and leaves no file, if a difference is above TOLERANCE.
    """
    texts, stride = about.texts(), about.stride
    sizes = [size] if size else _choose_sizes(about)

    def open_file(written: Path) -> Run:
        return exported_network.ExportedNetwork(written, size).inverse_depth

    program = _trace(
        network, f"export of '{about.recipe}'", exported_network.DEPTH.channels, stride, size, one_image=one_image
    )
    shapes = _dynamic_shapes(stride, size, one_image=one_image)
    return _write_onnx(program, path, exported_network.DEPTH, shapes, texts, open_file, network, sizes)


def export_motion(network: nn.Module, path: Path, size: tuple[int, int]) -> list[ExportComparison]:
    """Write an ONNX file of a pose network for images of one size (height, width), with the interface `MOTION`."""

    def open_file(written: Path) -> Run:
        graph = exported_network.OnnxGraph(written, exported_network.MOTION)
        graph.check_interface()
        return graph.run

    program = _trace(network, "export of the pose network", exported_network.MOTION.channels, 1, size)
    return _write_onnx(program, path, exported_network.MOTION, _dynamic_shapes(1, size), {}, open_file, network, [size])


def _write_onnx(
    program: ExportedProgram,
    path: Path,
    interface: exported_network.GraphInterface,
    shapes: tuple[dict[int, Any]],
    texts: Mapping[str, str],
    open_file: Callable[[Path], Run],
    network: nn.Module,
    sizes: Sequence[tuple[int, int]],
) -> list[ExportComparison]:
    exported_network.check_installed("onnx", "onnxscript", "onnxruntime", extra="onnx")
    held = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if held > _MAX_ONNX_BYTES:
        found, fix = f"{held / (1 << 30):.1f} GiB of weights", "export a .pt2 instead"
        raise StadiaError(path, found=found, expected="less than 2 in one file of ONNX", fix=fix)
    names: dict[str, Any] = {"input_names": [interface.input], "output_names": [interface.output]}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter copies torch's trees, which have a deprecated class.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        exported: Any = torch.onnx.export(
            program, (), opset_version=OPSET, verbose=False, dynamic_shapes=shapes, **names
        )
    exported.model.metadata_props.update(texts)
    with atomic_write(path) as temporary:
        exported.save(temporary, external_data=False)
        return _compare(network, open_file(temporary), path, interface.channels, sizes)


def export_torch(
    network: nn.Module,
    path: Path,
    about: exported_network.ExportDescription,
    size: tuple[int, int] | None = None,
    *,
    one_image: bool = False,
) -> list[ExportComparison]:
    """Write a torch.export archive (.pt2), for torch in Python or for AOTInductor; otherwise like `export_onnx`."""
    if min(about.height, about.width) < 2 * about.stride:  # torch treats a side of one as a constant
        found, expected = f"a training at {about.width}x{about.height}", f"{2 * about.stride} pixels a side or more"
        raise StadiaError(path, found=found, expected=expected, fix="export it to ONNX (--out model.onnx)")
    least = min(3, about.height // about.stride, about.width // about.stride)
    what = f"export of '{about.recipe}'"
    program = _trace(
        network, what, exported_network.DEPTH.channels, about.stride, size, least=least, one_image=one_image
    )
    with atomic_write(path) as temporary:
        description = json.dumps(about.model_dump(mode="json"), indent=2)
        torch.export.save(program, temporary, extra_files={DESCRIPTION: description})
        module = torch.export.load(temporary).module()

        def run(image: NDArray[np.float32]) -> NDArray[np.floating]:
            batches = torch.split(torch.from_numpy(image), 1 if one_image else len(image))
            output: NDArray[np.floating] = torch.cat([module(batch) for batch in batches]).numpy()
            return output

        return _compare(network, run, path, exported_network.DEPTH.channels, [size] if size else _choose_sizes(about))


MIN_TRACED_PX = 32  # Depth Anything's coarsest map of a smaller image has one pixel, which torch treats as a constant.


def _choose_sizes(about: exported_network.ExportDescription) -> list[tuple[int, int]]:
    """Return the sizes (H, W) at which a file is compared: the training's, and a second one."""
    return [(about.height, about.width), (about.height + about.stride, about.width + 2 * about.stride)]


def _trace(
    network: nn.Module,
    what: str,
    channels: int,
    stride: int,
    size: tuple[int, int] | None = None,
    *,
    least: int = 3,
    one_image: bool = False,
) -> ExportedProgram:
    """Return the graph for any number of images of one size, or of any size of `least` strides a side and more."""
    fewest = math.ceil(MIN_TRACED_PX / stride)
    example = torch.zeros(
        1 if one_image else 2, channels, *(size or (max(4, fewest + 1) * stride, max(6, fewest + 3) * stride))
    )
    shapes = _dynamic_shapes(stride, size, least, one_image=one_image)
    try:
        with torch.no_grad(), _pad_by_integers():
            program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    except Exception as error:  # tracing raises many classes of errors
        raise StadiaError(
            what,
            found=f"a network that torch.export cannot follow ({type(error).__name__}: {str(error)[:200]})",
            expected="a graph that is the same for every image and size",
            fix="run it with --traceback to see which line depends on the image",
        ) from error
    _drop_unused(program)
    _replace_in_place(program)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


@contextmanager
def _pad_by_integers() -> Iterator[None]:
    """Let timm pad by integers while a graph is traced; its quotient would stay in the expressions of later sizes."""
    padding: Any = sys.modules.get("timm.layers.padding")
    if padding is None:
        yield
        return
    original = padding.get_same_padding
    padding.get_same_padding = _compute_same_padding
    try:
        yield
    finally:
        padding.get_same_padding = original


def _compute_same_padding(size: int, kernel_size: int, stride: int, dilation: int) -> int:
    """Return the total padding of both sides that gives a result of ceil(size / stride)."""
    reach = (kernel_size - 1) * dilation + 1
    if size % stride == 0:
        return max(reach - stride, 0)
    return max((-(-size // stride) - 1) * stride + reach - size, 0)


def _dynamic_shapes(
    stride: int, size: tuple[int, int] | None, least: int = 3, *, one_image: bool = False
) -> tuple[dict[int, Any]]:
    if one_image:
        return ({},)
    if size is not None:
        return ({0: Dim("images")},)
    least = max(least, math.ceil(MIN_TRACED_PX / stride))
    rows, columns = Dim("rows_of_strides", min=least), Dim("columns_of_strides", min=least)
    return ({0: Dim("images"), 2: stride * rows, 3: stride * columns},)


def _drop_unused(program: ExportedProgram) -> None:
    unused = {node.name: node for node in program.graph.nodes if node.op == "placeholder" and not node.users}
    specs = program.graph_signature.input_specs
    for spec in [spec for spec in specs if spec.arg.name in unused and spec.target is not None]:
        program.graph.erase_node(unused[spec.arg.name])
        specs.remove(spec)
        for held in (program.state_dict, program.constants):
            held.pop(str(spec.target), None)
    program.graph_module.recompile()


def _replace_in_place(program: ExportedProgram) -> None:
    """Replace in-place operations, such as `relu_`, if no one reads the old tensor, since ONNX lacks most of them."""
    position = {node: number for number, node in enumerate(program.graph.nodes)}
    for node in position:
        operation: Any = node.target
        if not isinstance(operation, torch._ops.OpOverload) or not operation._schema.is_mutable:
            continue
        namespace, _, name = operation._schema.name.partition("::")
        packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
        changed = node.args[0] if node.args else None
        if packet is None or not isinstance(changed, torch.fx.Node) or not _returns_new_tensor(changed):
            continue
        others = [user for user in changed.users if user is not node]
        if all(position[user] < position[node] and _returns_new_tensor(user) for user in others):
            node.target = getattr(packet, operation._overloadname, operation)
    program.graph_module.recompile()


def _returns_new_tensor(node: torch.fx.Node) -> bool:
    """Return whether a node's result shares no memory with its input."""
    operation: Any = node.target
    if not isinstance(operation, torch._ops.OpOverload) or "dropout" in operation._schema.name:
        return False  # Dropout returns its input in evaluation mode.
    return all(result.alias_info is None for result in operation._schema.returns)


def _compare(
    network: nn.Module, run: Run, path: Path, channels: int, sizes: Sequence[tuple[int, int]]
) -> list[ExportComparison]:
    """Compare network and file on random images of the first and the last size. Raises StadiaError."""

    def run_file(image: NDArray[np.float32]) -> NDArray[np.floating]:
        try:
            return run(image)
        except Exception as error:  # runtime errors have no common base class
            cause = f"{type(error).__name__}: {str(error)[:200]}"
            found = f"an export that fails at {image.shape[3]}x{image.shape[2]} ({cause})"
            expected = "one that runs at every size"
            fix = f"export the other format (--out model{'.onnx' if path.suffix == '.pt2' else '.pt2'})"
            raise StadiaError(path, found=found, expected=expected, fix=fix) from error

    random, compared = np.random.default_rng(0), []
    for count, size in ((1, sizes[0]), (2, sizes[-1])):
        images = random.random((count, channels, *size), np.float32)
        compared.append(compare_prediction(network, run_file, images))
    for comparison in compared:
        if not comparison.is_close:
            expected = f"less than {TOLERANCE:g} relative and of the spread"
            fix = "choose a part that exports exactly (attention), and report it"
            raise StadiaError(path, found=f"{comparison}, exported and in torch", expected=expected, fix=fix)
    return compared


@torch.no_grad()
def compare_prediction(network: nn.Module, run: Run, image: NDArray[np.float32]) -> ExportComparison:
    """Compare the outputs of a network and of its file for images (B, C, H, W).

    run: function that runs the file.
    """
    expected = network(torch.from_numpy(image)).double().numpy()
    difference = np.abs(run(image) - expected)
    floor = np.abs(expected).max() / 100
    relative = difference / np.maximum(np.abs(expected), floor)
    of_spread = difference.max() / np.maximum(np.ptp(expected), floor)
    return ExportComparison(
        len(image),
        image.shape[2],
        image.shape[3],
        absolute=float(difference.max()),
        relative=float(relative.max()),
        of_spread=float(of_spread),
    )
