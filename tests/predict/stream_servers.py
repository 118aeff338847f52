"""Servers on loopback that a test unplugs and plugs: JPEG over HTTP, also cut off; sound; and RTSP with MPEG-TS."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
RATE_HZ = 25
PACKET_BYTES = 7 * 188  # of MPEG-TS in one packet of RTP


def draw(number: int) -> Image:
    """An image that changes, with a square whose place is the number."""
    image = np.full((96, 160, 3), 60, np.uint8)
    x = 4 * (number % 32)
    image[30:60, x : x + 24] = 220
    return image


def _serve_mjpeg(client: socket.socket, is_open: Callable[[], bool], make: Callable[[int], Image]) -> None:
    client.recv(1 << 14)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    number = 0
    while is_open():
        data = cv2.imencode(".jpg", make(number))[1].tobytes()
        client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n")
        number += 1
        time.sleep(1 / RATE_HZ)


def _serve_chunked(client: socket.socket, is_open: Callable[[], bool], make: Callable[[int], Image]) -> None:
    """Send one image in a chunk of HTTP 1.1 and then close within the next chunk."""
    client.recv(1 << 14)
    data = b"--frame\r\n\r\n" + cv2.imencode(".jpg", make(0))[1].tobytes()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\nffff\r\n" % (len(data), data))


def _serve_sound(client: socket.socket, is_open: Callable[[], bool], make: Callable[[int], Image]) -> None:
    """Send a file of sound without video."""
    client.recv(1 << 14)
    samples = bytes(1600)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 1636, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 1600
    )
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: 1644\r\n\r\n" + header + samples)


def _serve_rtsp(client: socket.socket, is_open: Callable[[], bool], make: Callable[[int], Image]) -> None:
    """RFC 2326 with packets of RTP (payload 33) between the answers, RFC 2250."""
    sdp = b"v=0\r\ns=test\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
    while True:
        lines = client.recv(1 << 14).decode("ascii", "replace").split("\r\n")
        method = lines[0].partition(" ")[0]
        if not method:
            return
        number = next((line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq")), "1")
        extra, body = "", b""
        if method == "DESCRIBE":
            extra, body = f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n", sdp
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n".encode() + body)
        if method == "PLAY":
            break
    stream = io.BytesIO()
    with av.open(stream, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=RATE_HZ, options={"g": "5", "bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        number, sequence = 0, 0
        while is_open():
            for packet in video.encode(av.VideoFrame.from_ndarray(make(number), format="rgb24")):
                container.mux(packet)
            data = stream.getvalue()
            stream.seek(0)
            stream.truncate()
            for start in range(0, len(data), PACKET_BYTES):
                part = data[start : start + PACKET_BYTES]
                packet = struct.pack(">BBHII", 0x80, 33, sequence & 0xFFFF, 3600 * number, 1) + part
                client.sendall(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
                sequence += 1
            number += 1
            time.sleep(1 / RATE_HZ)


class StreamServer:
    """A server that can be unplugged: its port is closed and its clients are cut off."""

    def __init__(self, kind: str, make: Callable[[int], Image] = draw) -> None:
        self.serve = {"http": _serve_mjpeg, "rtsp": _serve_rtsp, "chunked": _serve_chunked, "sound": _serve_sound}[kind]
        self.make, self.port, self._listener = make, 0, None
        self.plug()
        self.address = f"{'rtsp' if kind == 'rtsp' else 'http'}://127.0.0.1:{self.port}/stream"

    def plug(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def unplug(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            with suppress(OSError):
                client, _ = listener.accept()
                threading.Thread(target=self._run, args=(client, listener), daemon=True).start()

    def _run(self, client: socket.socket, listener: socket.socket) -> None:
        with client, suppress(OSError):
            self.serve(client, lambda: self._listener is listener, self.make)


@contextmanager
def serve_stream(kind: str, make: Callable[[int], Image] = draw) -> Iterator[StreamServer]:
    server = StreamServer(kind, make)
    try:
        yield server
    finally:
        server.unplug()
