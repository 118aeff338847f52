"""Run an ONNX graph in its own process, which `graph_process.GraphProcess` starts. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import summarize_exception
from stadia.files.json_files import parse_json

Run = Callable[[NDArray[np.float32]], Any]

ARENA_BYTES = 3 << 29
"""1.5 GiB of intermediate results of onnxruntime; the size of the file limits the weights."""

_FATAL = 4  # level of onnxruntime's log
_SIZES = struct.Struct("<II")  # bytes of a header in JSON, and of the values behind it


def write_message(stream: BinaryIO, header: Mapping[str, Any], values: NDArray[Any] | None = None) -> None:
    """Write a header, and the values of an array behind it."""
    text = json.dumps(dict(header)).encode()
    size = 0 if values is None else values.nbytes
    stream.write(_SIZES.pack(len(text), size) + text)
    if values is not None:
        stream.write(np.ascontiguousarray(values).data)
    stream.flush()


def read_header(stream: BinaryIO) -> tuple[Any, int] | None:
    """Read a header; return it, and the bytes of the values behind it. None at the end of the stream."""
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    length, size = _SIZES.unpack(sizes)
    text = stream.read(length)
    return None if len(text) < length else (parse_json("a graph's process", text.decode(), "a message"), size)


def read_values(stream: Any, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Read an array of float32; None if the stream ends early."""
    values = np.empty(shape, np.float32)
    return values if stream.readinto(values.reshape(-1).view(np.uint8)) == values.nbytes else None


def _open_onnxruntime(settings: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_asked = 1  # arena_extend_strategy: no doubling
    arena = onnxruntime.OrtArenaCfg({"max_mem": ARENA_BYTES, "arena_extend_strategy": as_asked})
    onnxruntime.create_and_register_allocator(memory, arena)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"] or 0
    options.log_severity_level = _FATAL  # errors are raised as well
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    if len(providers) == 1:  # CUDA reserves more addresses than there is memory
        limit_memory(settings["memory_bytes"])
    # Folding computes products of weights while the file is opened.
    session = onnxruntime.InferenceSession(
        settings["path"], options, providers=providers, disabled_optimizers=["ConstantFolding"]
    )
    sides = [[tensor.name, tensor.shape, tensor.type] for tensor in (*session.get_inputs(), *session.get_outputs())]
    about = {"texts": session.get_modelmeta().custom_metadata_map, "tensors": sides}

    def run(image: NDArray[np.float32]) -> Any:
        return session.run([settings["output"]], {settings["input"]: image})[0]

    return run, about


def _open_openvino(settings: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
    import openvino

    limit_memory(settings["memory_bytes"])
    core = openvino.Core()
    model = core.read_model(settings["path"])
    model.reshape({settings["input"]: settings["shape"]})
    precision = "bf16" if settings["precision"] == "bf16" else "f32"
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    queue: Any = openvino.AsyncInferQueue(core.compile_model(model, "CPU", hints))

    def copy_output(request: Any, output: NDArray[np.float32]) -> None:
        """Copy the result of a request (1, ...) into `output` (...), before the request is used again."""
        output[...] = request.get_tensor(settings["output"]).data[0]

    queue.set_callback(copy_output)

    def run(image: NDArray[np.float32]) -> Any:
        output = np.empty((len(image), *settings["output_shape"]), np.float32)
        for number in range(len(image)):
            queue.start_async({settings["input"]: image[number : number + 1]}, output[number])
        queue.wait_all()
        return output

    return run, {}


RUNTIMES: Mapping[str, Callable[[Mapping[str, Any]], tuple[Run, dict[str, Any]]]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}
"""Name of a runtime -> opens a file for it; returns what runs an image, and the texts and tensors of the file."""


def limit_memory(more_bytes: int) -> None:
    """Let this process use so much memory beside what it has now, where the system can limit it."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        import psutil

        used, (_, hard) = psutil.Process().memory_info().vms, resource.getrlimit(resource.RLIMIT_AS)
        limit = used + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is not a bug in stadia


def main() -> None:
    """Open the file of the first message, and run the image of each further message."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for descriptor in (0, 1):  # output of a runtime goes to stderr: it is not a message
        os.dup2(2, descriptor)
    first = read_header(requests)
    if first is None:
        return
    settings = first[0]
    try:
        run, about = RUNTIMES[settings["runtime"]](settings)
    except Exception as error:  # their errors have no common base class
        write_message(replies, {"error": summarize_exception(error)})
        return
    write_message(replies, about)
    while (request := read_header(requests)) is not None:
        header, _ = request
        if (image := read_values(requests, tuple(header["shape"]))) is None:
            return
        try:
            output = np.asarray(run(image), np.float32)
        except Exception as error:
            write_message(replies, {"error": summarize_exception(error)})
        else:
            write_message(replies, {"shape": output.shape}, output)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):  # its starter has ended
        sys.exit(1)
