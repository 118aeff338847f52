"""Measure metres by the speed that a video records: GPMF of GoPro, SRT of DJI and GPX, on RoadWorld.

    python benchmarks/file_metres.py [--worlds 2] [--frames 150]

Renders RoadWorld (seed 0), writes each drive as a video, and tracks made from its exact path by the makers'
specifications: GPMF with 18 speeds a second and .1 m/s of noise, SRT with rounded positions of each frame, and GPX with
a position a second, .3 m of noise and a clock that is wrong by a drawn offset. Prints Markdown: the factor of
`--scale-from file` over that by exact poses, its stated deviation, and the clock offset that was found.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.predict.inputs import PredictionInput, make_recording_input, open_inputs
from stadia.predict.network import open_network
from stadia.predict.options import PredictOptions
from stadia.predict.receipt import measure_scale
from stadia.scale.video_track import find_track
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld

Array = NDArray[np.float64]

RATE_HZ, GPS_HZ = 10.0, 18.0
LATITUDE, LONGITUDE, METRES_PER_DEGREE = 0.0, 8.0, 111_319.49
"""Length of a degree of longitude at the equator, where the drives are (LATITUDE, LONGITUDE: of their start)."""

START_S = 1_700_000_000.0
"""Time of each video's creation, seconds since 1970."""


# -- files by the specifications


def make_entry(key: bytes, kind: str, size: int, repeat: int, content: bytes) -> bytes:
    """Return an entry of GPMF, padded to four bytes."""
    return struct.pack(">4scBH", key, kind.encode("latin-1"), size, repeat) + content + bytes(-len(content) % 4)


def make_gpmf(speeds: Array, key: bytes = b"GPS5", fix: int = 3) -> bytes:
    """Return a payload of GPMF with these speeds, m/s, in entries GPS5 or GPS9."""
    rows: list[tuple[int, ...]]
    if key == b"GPS5":
        scales: tuple[int, ...] = (10**7, 10**7, 1000, 1000, 100)
        kinds = "lllll"
        rows = [(0, 0, 0, round(speed * 1000), round(speed * 100)) for speed in speeds.tolist()]
    else:
        scales = (10**7, 10**7, 1000, 1000, 100, 1, 1000, 100, 1)
        kinds = "lllllllSS"
        rows = [(0, 0, 0, round(speed * 1000), round(speed * 100), 0, 0, 99, fix) for speed in speeds.tolist()]
    form = ">" + kinds.replace("l", "i").replace("S", "H")
    content = b"".join(struct.pack(form, *row) for row in rows)
    inside = make_entry(b"SCAL", "l", 4, len(scales), struct.pack(f">{len(scales)}i", *scales))
    if key == b"GPS5":
        inside = make_entry(b"GPSF", "L", 4, 1, struct.pack(">I", fix)) + inside
    else:
        inside += make_entry(b"TYPE", "c", 1, len(kinds), kinds.encode())
    inside += make_entry(key, "l" if key == b"GPS5" else "?", struct.calcsize(form), len(rows), content)
    stream = make_entry(b"STRM", "\0", 1, len(inside), inside)
    return make_entry(b"DEVC", "\0", 1, len(stream), stream)


def make_box(name: bytes, *parts: bytes) -> bytes:
    """Return a box of an MP4 file."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def add_gpmf_track(video: Path, payloads: list[bytes], seconds: float = 1.0) -> None:
    """Add a track of GPMF, a payload for each so many seconds, to an MP4 file whose header is at its end."""
    data = video.read_bytes()
    at = data.rindex(b"moov") - 4
    first = at + 8
    offsets = first + np.concatenate([[0], np.cumsum([len(one) for one in payloads])[:-1]]).astype(int)
    length = round(1000 * seconds * len(payloads))
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    header = struct.pack(">IIIIII8xhhhxx", 7, 0, 0, 9, 0, length, 0, 0, 0) + matrix + bytes(8)
    table = make_box(
        b"stbl",
        make_box(b"stsd", struct.pack(">II", 0, 1), make_box(b"gpmd", bytes(6), struct.pack(">HI", 1, 0))),
        make_box(b"stts", struct.pack(">IIII", 0, 1, len(payloads), round(1000 * seconds))),
        make_box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        make_box(b"stsz", struct.pack(">III", 0, 0, len(payloads)), *(struct.pack(">I", len(p)) for p in payloads)),
        make_box(b"stco", struct.pack(">II", 0, len(payloads)), *(struct.pack(">I", offset) for offset in offsets)),
    )
    reference = make_box(b"dinf", make_box(b"dref", struct.pack(">II", 0, 1), make_box(b"url ", struct.pack(">I", 1))))
    media = make_box(
        b"mdia",
        make_box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 1000, length, 0x55C4, 0)),
        make_box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"meta"), b"GoPro MET\0"),
        make_box(b"minf", make_box(b"nmhd", bytes(4)), reference, table),
    )
    moov = make_box(b"moov", data[at + 8 :], make_box(b"trak", make_box(b"tkhd", header), media))
    video.write_bytes(data[:at] + make_box(b"mdat", *payloads) + moov)


def write_video(path: Path, images: list[NDArray[np.uint8]], created_s: float | None = None) -> Path:
    """Write images (H, W, 3) as an MP4 file of RATE_HZ, with the time of its creation."""
    with av.open(str(path), "w") as container:
        if created_s is not None:
            container.metadata["creation_time"] = datetime.fromtimestamp(created_s, UTC).isoformat()
        stream = container.add_stream("mpeg4", rate=round(RATE_HZ))
        stream.height, stream.width, stream.pix_fmt = images[0].shape[0], images[0].shape[1], "yuv420p"
        stream.bit_rate = 8_000_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def list_degrees(places: Array) -> Array:
    """Return latitude and longitude (N, 2), degrees, of places (N, 2) in metres to the east and north."""
    return np.stack([LATITUDE + places[:, 1] / 110_574.3, LONGITUDE + places[:, 0] / METRES_PER_DEGREE], 1)


def write_srt(path: Path, places: Array) -> None:
    """Write places (N, 2) of each frame as subtitles of DJI."""
    blocks = []
    for number, (latitude, longitude) in enumerate(list_degrees(places).tolist()):
        start, end = (f"00:{int(s // 60):02}:{int(s % 60):02},{int(s * 1000 % 1000):03}"
                      for s in (number / RATE_HZ, (number + 1) / RATE_HZ))  # fmt: skip
        text = f"[latitude: {latitude:.6f}] [longitude: {longitude:.6f}] [rel_alt: 0.000 abs_alt: 400.0]"
        blocks.append(f'{number + 1}\n{start} --> {end}\n<font size="28">{text}</font>\n')
    path.write_text("\n".join(blocks))


def write_gpx(path: Path, places: Array, times_s: Array) -> None:
    """Write places (N, 2) at times since 1970 as a GPX file."""
    points = []
    for (latitude, longitude), time_s in zip(list_degrees(places).tolist(), times_s.tolist(), strict=True):
        time = datetime.fromtimestamp(time_s, UTC).isoformat()
        points.append(f'<trkpt lat="{latitude:.7f}" lon="{longitude:.7f}"><time>{time}</time></trkpt>')
    text = "".join(points)
    path.write_text(f'<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{text}</trkseg></trk></gpx>')


# -- the measurement


def write_tracks(folder: Path, recording: Recording, random: np.random.Generator) -> dict[str, tuple[Path, float]]:
    """Write a drive as a video for each kind of track; return these videos with the offset of the track's clock."""
    images = [recording.image(index) for index in range(len(recording))]
    poses = np.array([recording.T_world_camera(index) for index in range(len(recording))])
    places = poses[:, :3, 3] @ np.array([[1.0, 0, 0], [0, 0, 1]]).T
    times_s = np.arange(len(poses)) / RATE_HZ
    speeds = np.linalg.norm(np.gradient(places, times_s, axis=0), axis=1)
    gopro = write_video(folder / "gopro.mp4", images)
    at = np.arange(0, times_s[-1], 1 / GPS_HZ)
    measured = np.maximum(np.interp(at, times_s, speeds) + random.normal(0, 0.1, len(at)), 0)
    add_gpmf_track(gopro, [make_gpmf(measured[one : one + 18]) for one in range(0, len(at) - 17, 18)])
    drone = write_video(folder / "dji.mp4", images)
    write_srt(drone.with_suffix(".srt"), places)
    logged = write_video(folder / "logger.mp4", images, START_S)
    offset_s = float(random.uniform(-20, 20))
    whole = np.arange(0, times_s[-1], 1.0)
    noisy = np.stack([np.interp(whole, times_s, side) for side in places.T], 1) + random.normal(0, 0.3, (len(whole), 2))
    write_gpx(logged.with_suffix(".gpx"), noisy, START_S + offset_s + whole)
    return {"GPMF": (gopro, 0.0), "SRT": (drone, 0.0), "GPX": (logged, offset_s)}


def open_first(video: Path, camera: dict[str, Any]) -> PredictionInput:
    """Open a video with a camera."""
    return open_inputs(video, camera=camera)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=150)
    given = parser.parse_args()
    random, network = np.random.default_rng(0), open_network("base")
    print("| world | track | factor over that by poses | stated deviation | clock offset, s | found |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = {"frames": given.frames, "height": 128, "width": 416}
        config = RoadWorldConfig(train=0, val=0, test=given.worlds, stereo=False, **size)
        write_roadworld(config, folder / "world", seed=0, workers=1)
        for recording in open_recordings(folder / "world"):
            (folder / recording.name.replace("/", "-")).mkdir()
            videos = write_tracks(folder / recording.name.replace("/", "-"), recording, random)
            fitted = network.fit(*recording.image(0).shape[:2])
            predictor = fitted.make_predictor(PredictOptions())
            whole = range(len(recording))
            by_poses = measure_scale(predictor, partial(make_recording_input, recording, whole), ["gps"])
            camera = {"K": recording.K(0).tolist()}
            for kind, (video, offset_s) in videos.items():
                open_video = partial(open_first, video, camera)
                receipt = measure_scale(predictor, open_video, ["file"], track=find_track(video))
                cells = [f"{receipt.factor / by_poses.factor:.3f}", f"{receipt.deviation:.1%}", f"{offset_s:+.1f}"]
                print(f"| {recording.name} | {kind} | {' | '.join(cells)} | {receipt.notes['file']} |", flush=True)


if __name__ == "__main__":
    main()
