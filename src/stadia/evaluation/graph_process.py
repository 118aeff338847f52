"""Run a graph of ONNX in a process of its own, with limits of time and memory. Imports no torch."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, summarize_exception
from stadia.files.json_files import parse_json

EXPECTED = "an ONNX file that `stadia export` wrote"

OPEN_S = 60.0  # time to open a file without weights: onnxruntime takes ten seconds for 4000 operations
RUN_S = 20.0  # time of a small network for a small image. U-Nets take less than a second, on one core.

OPEN_S_PER_MB = 0.1
RUN_S_PER_MB_AND_MEGAPIXEL = 0.5
"""More time for large networks: the largest of Depth Anything, 1.3 GB, takes 20 s for 518x518 on two cores."""

MEMORY_BYTES, CORE_BYTES = 4 << 30, 1 << 30
"""Memory of a graph, and for each core: threads reserve addresses, and OpenVINO runs an image on some of the cores."""


class GraphProcess:
    """A process that runs one file. It is started here, and ends with this object, or with its starter.

    path: a file without a fault, see `exported_network.find_fault`. names: of input and output. runtime: row of
    RUNTIMES, with its settings. about: what the runtime returns about the file. Raises DataError if the
    runtime cannot open the file, or takes too much time or memory.
    """

    def __init__(self, path: Path, names: tuple[str, str], runtime: str, **settings: Any) -> None:
        self.path, self.runtime = path, runtime
        self._megabytes = path.stat().st_size / 1e6
        self._lock = threading.Lock()
        command = [sys.executable, "-P", "-m", "stadia.evaluation.graph_process"]  # -P: no module of the current folder
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._end = weakref.finalize(self, _end_process, self._process)
        memory_bytes = MEMORY_BYTES + CORE_BYTES * (os.cpu_count() or 1) + 3 * path.stat().st_size
        limit_s = OPEN_S + OPEN_S_PER_MB * self._megabytes
        header = {"path": str(path.absolute()), "input": names[0], "output": names[1], "runtime": runtime, **settings}
        header["memory_bytes"] = memory_bytes
        self.about: dict[str, Any] = self._exchange(header, limit_s, f"a file that {runtime} cannot load")[0]

    def run(self, image: NDArray[np.float32], expected: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the output of a shape for images (B, channels, H, W). Raises DataError for another shape."""
        image = np.ascontiguousarray(image, np.float32)
        megapixels = len(image) * image.shape[2] * image.shape[3] / 1e6
        limit_s = RUN_S + RUN_S_PER_MB_AND_MEGAPIXEL * self._megabytes * megapixels
        failure = f"a graph that fails at {image.shape[3]}x{image.shape[2]}"
        _, output = self._exchange({"shape": image.shape}, limit_s, failure, image, expected)
        assert output is not None
        return output

    def _exchange(
        self,
        header: dict[str, Any],
        limit_s: float,
        failure: str,
        image: NDArray[np.float32] | None = None,
        expected: tuple[int, ...] = (),
    ) -> tuple[Any, NDArray[np.float32] | None]:
        """Send a message, and return the reply. Raises DataError for `failure` with its cause."""
        late, process = threading.Event(), self._process
        stdin: Any = process.stdin
        stdout: Any = process.stdout

        def stop() -> None:  # holds no reference to this object, which may end before the timer
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        with self._lock:
            timer.start()
            try:
                write_message(stdin, header, image)
                message = read_header(stdout)
                if message is None:
                    raise EOFError
                reply, size = message
                if "error" in reply:
                    raise self._refuse(failure, str(reply["error"])[:200])
                if image is None:
                    return reply, None
                if reply.get("shape") != list(expected) or size != 4 * np.prod(expected):
                    self._end()
                    found = f"an output of shape {reply.get('shape')} for images of shape {image.shape}"
                    raise DataError(self.path, found=found, expected=f"shape {expected}", fix="export it again")
                if (output := read_values(stdout, expected)) is None:
                    raise EOFError
                return reply, output
            except (EOFError, BrokenPipeError) as error:
                cause = f"it takes more than {limit_s:.0f} s" if late.is_set() else self._explain_end()
                raise self._refuse(failure, cause) from error
            finally:
                timer.cancel()

    def _explain_end(self) -> str:
        self._process.kill()
        code = self._process.wait()
        if code >= 0:
            return f"it ends its process with exit code {code}"
        return f"it ends its process by {signal.Signals(-code).name}"

    def _refuse(self, failure: str, cause: str) -> DataError:
        fix = "copy it again, or export it again"
        if self.runtime != "onnxruntime":
            fix = f"choose --backend onnxruntime, or {fix}"
        return DataError(self.path, found=f"{failure} ({cause})", expected=EXPECTED, fix=fix)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # nobody reads the last message
                continue


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
