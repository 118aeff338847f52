"""Start the process that runs a graph of ONNX, with limits of time and memory. Imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.evaluation.graph_worker import read_header, read_values, write_message

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
    `graph_worker.RUNTIMES`, with its settings. about: what the runtime returns about the file. Raises DataError if the
    runtime cannot open the file, or takes too much time or memory.
    """

    def __init__(self, path: Path, names: tuple[str, str], runtime: str, **settings: Any) -> None:
        self.path, self.runtime = path, runtime
        self._megabytes = path.stat().st_size / 1e6
        self._lock = threading.Lock()
        command = [sys.executable, "-P", "-m", "stadia.evaluation.graph_worker"]  # -P: no module of the current folder
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
