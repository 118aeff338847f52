"""Rate and latency of `stadia live`, by a time that is drawn into each image of an MJPEG stream on loopback.

python benchmarks/live_latency.py [--seconds 60] [--size 320x192] [--backend openvino]
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from contextlib import suppress

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from stadia.data.config import CameraConfig
from stadia.predict.live.live import LivePrediction
from stadia.predict.network import open_network
from stadia.predict.options import PredictOptions

RATE_HZ, HEIGHT, WIDTH = 30, 360, 640
BITS, BLOCK = 20, 16
"""Milliseconds modulo 2**BITS, as black and white blocks in two rows at the top."""


def draw_time(image: NDArray[np.uint8], now_s: float) -> None:
    """Draw a time into an image (H, W, 3)."""
    value = int(1e3 * now_s) % (1 << BITS)
    for bit in range(BITS):
        image[:BLOCK, BLOCK * bit : BLOCK * (bit + 1)] = 255 * (value >> bit & 1)


def read_time_ms(image: NDArray[np.uint8]) -> int:
    """Return the time that `draw_time` drew, ms modulo 2**BITS.

    Examples:
        >>> image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        >>> draw_time(image, 12.345)
        >>> read_time_ms(image)
        12345
    """
    blocks = [image[BLOCK // 2, BLOCK * bit + BLOCK // 2, 1] > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, is_set in enumerate(blocks) if is_set)


def serve(server: socket.socket) -> None:
    """Send a panorama that moves, with the time, to each client."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, 4 * WIDTH, 3)).astype(np.float32)
    wide = np.clip(128 + 5 * (cv2.GaussianBlur(noise, (0, 0), 5) - 128), 0, 255).astype(np.uint8)
    while True:
        client, _ = server.accept()
        client.recv(1 << 14)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        with suppress(OSError):
            client.sendall(head)
            due = time.monotonic()
            for number in range(1 << 30):
                x = (3 * number) % (3 * WIDTH)
                image = np.ascontiguousarray(wide[:, x : x + WIDTH])
                draw_time(image, time.monotonic())
                data = cv2.imencode(".jpg", image)[1].tobytes()
                client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n")
                due = max(due + 1 / RATE_HZ, time.monotonic())
                time.sleep(max(due - time.monotonic(), 0))


def main() -> None:
    """Print rates, latencies and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", default="320x192")
    parser.add_argument("--backend", choices=("torch", "openvino"), default="openvino")
    args = parser.parse_args()
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    options = PredictOptions(size=args.size, backend=None if args.backend == "torch" else args.backend)
    address = f"http://127.0.0.1:{server.getsockname()[1]}/"
    camera = CameraConfig(horizontal_fov_deg=70)
    live = LivePrediction(open_network("base"), address, camera, options)
    latencies, status, memory = list[float](), None, list[float]()
    for result in live.run(args.seconds):
        if result.predicted is None:
            continue
        status = result.status
        age = (int(1e3 * time.monotonic()) - read_time_ms(result.predicted.frame.image)) % (1 << BITS)
        latencies.append(age)
        memory.append(psutil.Process().memory_info().rss / 2**20)
    assert status is not None
    settled, tenth = latencies[len(latencies) // 10 :], max(len(memory) // 10, 1)
    print(f"{args.backend} {args.size}: depth {status.depth_hz:.1f}/s, path {status.path_hz:.1f}/s")
    print(f"latency by the drawn time: median {np.median(settled):.0f} ms, 95 % {np.percentile(settled, 95):.0f} ms")
    print(f"memory: {np.median(memory[tenth : 2 * tenth]):.0f} MB, at the end {np.median(memory[-tenth:]):.0f} MB")


if __name__ == "__main__":
    main()
