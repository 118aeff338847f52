"""Measure `stadia app`: its first page, one picture, many clients at once, and hostile uploads.

    python benchmarks/app_load.py NETWORK --clients 20 --seconds 60 --hostile 200
    python benchmarks/app_load.py NETWORK --clients 2 --seconds 3600 --every 15 --hostile 0

NETWORK: a run or a published network. The server is a process of its own; each client is a thread of this one. Each
user uploads PICTURES_OF_A_USER pictures, with the colors, the points and a file of each; then comes the next user.
"""

# mypy: disable-error-code="var-annotated"

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

PICTURES_OF_A_USER = 10
"""Pictures of one session: more than the server keeps of it."""

LINES = 12
"""Values of the memory that are printed, at equal intervals."""


class Client:
    """One browser: a session with its cookie and its secret."""

    def __init__(self, address: str) -> None:
        self.host = urlsplit(address).netloc
        reply = self._request("GET", "/")
        self.cookie = reply.getheader("set-cookie", "").partition(";")[0]
        reply.read()
        session = json.loads(self._request("GET", "/api/session").read())
        self.csrf = session["csrf"]

    def _request(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=300)
        headers = {"cookie": getattr(self, "cookie", ""), "x-stadia": getattr(self, "csrf", "")}
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def upload(self, data: bytes) -> tuple[int, Any]:
        """Return status and reply of an uploaded picture."""
        return self.post("/api/photos", data)

    def post(self, path: str, data: bytes) -> tuple[int, Any]:
        """Return status and reply of a file."""
        reply = self._request("POST", path, data)
        return reply.status, json.loads(reply.read())

    def get(self, path: str) -> Any:
        """Return a reply as JSON."""
        return json.loads(self._request("GET", path).read())

    def fetch_parts(self, photo: str) -> None:
        """Fetch what a page shows of a picture, and one of its files."""
        for part in ("colors/depth.jpg", "cloud.bin?points=100000", "files/depth.npz"):
            reply = self._request("GET", f"/api/photos/{photo}/{part}")
            assert len(reply.read()) > 1000, part


def make_picture(seed: int, height: int = 720, width: int = 1280) -> bytes:
    """Return a JPEG of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def make_hostile(seed: int) -> bytes:
    """Return a damaged file: cut off, with changed bytes, of another kind, or with a wrong size in its header."""
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    kind = "PNG" if seed % 2 else "JPEG"
    Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(stream, kind)
    data = bytearray(stream.getvalue())
    if seed % 5 == 0:
        return bytes(data[: rng.integers(0, len(data))])
    if seed % 5 == 1:
        return bytes(data[:12]) + rng.bytes(2000)
    if seed % 5 == 2:
        return rng.bytes(int(rng.integers(0, 5000)))
    if seed % 5 == 3:
        data[16:24] = (60000).to_bytes(4, "big") * 2
    for place in rng.integers(20, len(data), 40):
        data[place] = int(rng.integers(0, 256))
    return bytes(data)


def count_megabytes(process: psutil.Process) -> float:
    """Return the memory of a process and its children."""
    return sum(part.memory_info().rss for part in (process, *process.children(recursive=True))) / 1e6


def run_clients(address: str, count: int, seconds: float, every: float, process: psutil.Process) -> dict[str, Any]:
    """Upload pictures from many clients for a time, one each `every` seconds; return how many were served, how fast."""
    end, times, errors = time.monotonic() + seconds, [[] for _ in range(count)], list[str]()
    pictures = [make_picture(seed) for seed in range(4)]

    def work(number: int) -> None:
        while time.monotonic() < end:
            client = Client(address)
            for _ in range(PICTURES_OF_A_USER):
                begun = time.monotonic()
                if begun >= end:
                    return
                status, reply = client.upload(pictures[number % len(pictures)])
                if status == 200:
                    times[number].append(time.monotonic() - begun)
                    if every:
                        client.fetch_parts(reply["photo"])
                else:
                    errors.append(str(reply)[:200])
                time.sleep(max(begun + every - time.monotonic(), 0))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    memory, begun, interval = [], time.monotonic(), max(seconds / 120, 1)
    while any(thread.is_alive() for thread in threads):
        memory.append(count_megabytes(process))
        if len(memory) % (120 // LINES) == 1:
            print(f"memory after {time.monotonic() - begun:.0f} s: {memory[-1]:.0f} MB", flush=True)
        time.sleep(interval)
    served = [len(part) for part in times]
    ordered = sorted(value for part in times for value in part)
    return {
        "served": sum(served),
        "fewest of a client": min(served),
        "most of a client": max(served),
        "errors": len(errors),
        "first error": errors[:1],
        "median s": round(ordered[len(ordered) // 2], 2) if ordered else None,
        "slowest s": round(ordered[-1], 2) if ordered else None,
        "memory MB, first, middle, last, most": [round(memory[at]) for at in (0, len(memory) // 2, -1)]
        + [round(max(memory))],
    }


def predict_video(client: Client, path: Path, every: int, process: psutil.Process) -> None:
    """Upload a video and print the memory at the quarters of the time in which it is predicted."""
    status, reply = client.post(f"/api/videos?every={every}", path.read_bytes())
    assert status == 200, reply
    memory, state = [], {"state": "decoding"}
    while state["state"] not in ("done", "failed"):
        time.sleep(0.2)
        memory.append(count_megabytes(process))
        state = client.get(f"/api/videos/{reply['video']}")
    shown = [round(memory[quarter * (len(memory) - 1) // 4]) for quarter in range(5)]
    print(f"video: {state['state']}, {len(state['frames'])} frames; memory MB at quarters {shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=0, help="seconds between the pictures of a client")
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--video", type=Path, help="a video to predict twice before the clients come")
    parser.add_argument("--video-every", type=int, default=1, help="predict each n-th frame of it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "TMPDIR": place}
        command = [sys.executable, "-m", "stadia", "app", given.network, "--port", "0", "--no-token"]
        begun = time.monotonic()
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("page:").strip()
        client, process = Client(address), psutil.Process(server.pid)
        print(f"first page after {time.monotonic() - begun:.2f} s")
        client.upload(make_picture(0))  # opens the network
        times = []
        for seed in range(5):
            begun = time.monotonic()
            status, reply = client.upload(make_picture(seed))
            times.append(time.monotonic() - begun)
            assert status == 200, reply
        print(f"depth of 1280x720 after {sorted(times)[2]:.2f} s (median of 5)")
        for _ in range(2 if given.video else 0):  # the first one loads what videos need
            predict_video(client, given.video, given.video_every, process)
        for name, value in run_clients(address, given.clients, given.seconds, given.every, process).items():
            print(f"{given.clients} clients, {given.seconds:.0f} s: {name} {value}")
        refused = [client.upload(make_hostile(seed)) for seed in range(given.hostile)]
        lines = [reply["error"] for status, reply in refused if status != 200]
        broken = [status for status, _ in refused if status not in (200, 422)]
        print(f"{given.hostile} hostile uploads: {len(lines)} refused in one line, {len(broken)} in another way")
        print(f"lines with a line end or a path: {sum(chr(10) in line or place in line for line in lines)}")
        print(f"the server predicts afterwards: {Client(address).upload(make_picture(1))[0] == 200}")
        (folder,) = Path(place).glob("stadia-app-*")
        print(
            f"files left of uploads: {sum(1 for path in folder.rglob('*'))}; memory {count_megabytes(process):.0f} MB"
        )
        server.terminate()
        server.wait(20)
        print(f"folders left after the end: {len(list(Path(place).glob('stadia-app-*')))}")


if __name__ == "__main__":
    main()
