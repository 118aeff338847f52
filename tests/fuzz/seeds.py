"""Write the seeds of the corpus: small sound files of each format. `python -m tests.fuzz.seeds` writes them again.

`corpus/TARGET/` also holds inputs that once broke a parser (`crash-*`); this leaves them alone.
"""

from __future__ import annotations

import io
import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tests.fuzz.targets import CORPUS

_ROWS = "1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 0.5\n1 0 0 0 0 1 0 0 0 0 1 1\n"
_K = [[120, 0, 48], [0, 120, 32], [0, 0, 1]]
_CUBE = np.array([[x, y, z] for x in (-50, 50) for y in (-30, 30) for z in (-20, 20)], float)
_FACES = np.array([[0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7], [0, 4, 1], [1, 4, 5]])

_TEXTS: dict[str, dict[str, str]] = {
    "bop_results": {"two": "scene_id,im_id,obj_id,score,R,t,time\n1,3,1,0.9,1 0 0 0 1 0 0 0 1,10 20 700,0.1\n"},
    "calibration_yaml": {
        "kalibr": "cam0: {camera_model: pinhole, intrinsics: [50, 50, 31.5, 23.5], resolution: [64, 48],"
        " distortion_coeffs: [0.1, 0, 0, 0]}\n",
        "ros": "image_width: 64\nimage_height: 48\ncamera_matrix: {rows: 3, cols: 3,"
        " data: [50, 0, 31.5, 0, 50, 23.5, 0, 0, 1]}\ndistortion_coefficients: {data: [-0.3, 0.1]}\n"
        "projection_matrix: {data: [40, 0, 31.5, -4, 0, 40, 23.5, 0, 0, 0, 1, 0]}\n",
        "opencv": "%YAML:1.0\n---\nM1: !!opencv-matrix\n  rows: 3\n  cols: 3\n  dt: d\n"
        "  data: [ 50., 0., 31.5, 0., 50., 23.5, 0., 0., 1. ]\n",
    },
    "calibration_xml": {
        "opencv": '<?xml version="1.0"?>\n<opencv_storage>\n<image_width>64</image_width>'
        "<image_height>48</image_height>"
        '<K type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt>'
        "<data>50. 0. 31.5 0. 50. 23.5 0. 0. 1.</data></K>\n</opencv_storage>\n"
    },
    "csv": {"quotes": 'a,b\n1,"x,\ny"\n'},
    "euroc_camera": {
        "cam0": "%YAML:1.0\nsensor_type: camera\nT_BS:\n  cols: 4\n  rows: 4\n"
        "  data: [0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]\nrate_hz: 20\nresolution: [752, 480]\n"
        "camera_model: pinhole\nintrinsics: [458.6, 457.2, 367.2, 248.3]\ndistortion_model: radial-tangential\n"
        "distortion_coefficients: [-0.28, 0.07, 0.0002, 1.7e-05]\n"
    },
    "euroc_images": {"two": "#timestamp [ns],filename\n1403636579763555584,1403636579763555584.png\n"},
    "euroc_states": {
        "two": "#timestamp,p_x,p_y,p_z,q_w,q_x,q_y,q_z\n1403636579763555584,1,2,3,1,0,0,0\n"
        "1403636579813555456,1,2,3.1,0.8,0.6,0,0\n"
    },
    "histograms": {"two": "step,name,zero,p05,p25,p50,p75,p95\n1,depth/w,0.1,0.1,0.2,0.3,0.4,0.5\n"},
    "intrinsics_text": {"three": "120 0 48\n0 120 32\n0 0 1\n", "nine": "120 0 48 0 120 32 0 0 1\n" * 2},
    "kitti_boxes": {"car": "Car 0.00 0 1.57 10.0 20.0 90.0 80.0 1.5 1.6 4.0 1.0 1.6 20.0 1.57\nDontCare" + " -1" * 14},
    "kitti_calibration": {
        "odometry": "P0: 700 0 600 0 0 700 180 0 0 0 1 0\nP2: 700 0 600 45 0 700 180 -0.3 0 0 1 0.005\n"
        "R: 1 0 0 0 1 0 0 0 1\nT: 0 -0.08 -0.27\n"
    },
    "kitti_poses": {"three": _ROWS},
    "kitti_trajectory": {"three": _ROWS},
    "metrics": {"two": "step,epoch,train/loss,val/abs_rel\n1,0,0.5,\n2,0,0.4,0.12\n"},
    "nocs_meta": {"real": "1 2 bowl_blue\n2 6 mug_white\n", "camera": "1 2 02880940 abc\n"},
    "search_space": {
        "lr": "optimizer.lr: {low: 1.0e-5, high: 1.0e-3, log: true}\nmodel.encoder: {choices: [resnet18, resnet34]}\n"
    },
    "split": {"three": "2011_09_26/2011_09_26_drive_0001_sync 473 r\na 3 l\nb 4\n"},
    "study_yaml": {
        "two": "name: losses\nrecipe: selfsup\nbase: [training.max_steps=4]\nchanges: {smooth: optimizer.lr=1e-3}\n"
        "seeds: [0, 1, 2]\nmetric: val/abs_rel\n"
    },
    "times": {"three": "0.0\n0.1\n0.2\n"},
    "tum_trajectory": {"two": "# t x y z qx qy qz qw\n0.0 0 0 0 0 0 0 1\n0.1 0 0 0.5 0.6 0 0 0.8\n"},
    "yaml": {
        "kinds": "a: &x [1, 0x1f, 1_000, 1:30, -.inf, 2.5e-3]\nb: *x\n? c\n: !!str 3\nd: {e: ~, f: yes, <<: {g: 3}}\n",
        "tags": "a: !!int '7'\nb: !!float 1\ne: |\n  text\n  more\nf: >-\n  folded\n",
    },
}
_JSON: dict[str, dict[str, object]] = {
    "bop_models": {
        "cube": {
            "1": {
                "diameter": 123.3,
                "symmetries_discrete": [[-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]],
                "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}],
            }
        }
    },
    "dataset_json": {"one": {"format": "stadia", "version": 1, "splits": {"train": ["a/b"], "val": []}}},
    "findings": {
        "one": {
            "code": "K03",
            "severity": "error",
            "title": "K is of another image size",
            "what": "drive",
            "fix": "scale it",
            "evidence": {"median_px": 3.5, "frames": [1, 2]},
        }
    },
    "intrinsics_json": {"map": {"K": _K}, "list": _K, "two": {"K": [_K, _K]}},
    "json": {"kinds": {"a": [1, -2.5e3, True, None, "\u00e9\\u0000\ud83d\ude00"], "b": {}}},
    "objects_json": {
        "one": {
            "format": "stadia-objects",
            "version": 1,
            "classes": ["background", "mug"],
            "splits": {"train": ["a"], "val": []},
        }
    },
    "predictions_json": {
        "one": {
            "format": "stadia-predictions",
            "version": 1,
            "depth_scale": "metres",
            "trust": "",
            "recipe": "selfsup",
            "config_hash": "0a",
            "checkpoint": "last",
            "source": "a",
            "network_size": [64, 96],
            "image_size": [64, 96],
            "crop": "none",
            "finished": True,
            "entries": ["0/0", "0/1"],
            "path": ["0/0"],
        }
    },
    "recording_json": {
        "pair": {
            "cameras": {"left": {"K": _K, "height": 4, "width": 8}, "right": {"K": _K, "height": 4, "width": 8}},
            "T_right_left": [[1, 0, 0, -0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
            "frame_rate_hz": 10,
            "camera_height_m": 1.6,
        }
    },
    "scene_json": {
        "one": {
            "images": [
                {
                    "K": _K,
                    "height": 4,
                    "width": 8,
                    "T_world_camera": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
                    "objects": [
                        {
                            "class": "mug",
                            "quaternion_wxyz": [1, 0, 0, 0],
                            "t_camera_object_m": [0, 0, 1],
                            "size_m": [0.1, 0.1, 0.1],
                            "symmetry": [[0, 0, 1, 0]],
                            "full_px": 9,
                        }
                    ],
                }
            ]
        }
    },
}


def _image(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, 8, channels)).astype(dtype)


def _png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def _jpeg(*params: int) -> bytes:
    smooth = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (24, 32, 3)).astype(np.uint8), (9, 9), 3)
    return bytes(cv2.imencode(".jpg", smooth, params)[1].tobytes())


def _npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _ply_text() -> bytes:
    lines = ["ply", "format ascii 1.0", "comment cube", f"element vertex {len(_CUBE)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {len(_FACES)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(f"{value:g}" for value in row) for row in _CUBE]
    lines += [" ".join(map(str, (3, *row))) for row in _FACES]
    return ("\n".join(lines) + "\n").encode()


def _ply_binary(order: str) -> bytes:
    head = _ply_text().partition(b"end_header\n")[0]
    name = "little" if order == "<" else "big"
    head = head.replace(b"ascii", f"binary_{name}_endian".encode()) + b"end_header\n"
    faces = b"".join(struct.pack(f"{order}B3i", 3, *map(int, row)) for row in _FACES)
    return head + _CUBE.astype(f"{order}f4").tobytes() + faces


def _checkpoint() -> bytes:
    weights = np.arange(4, dtype=np.float32).tobytes()
    import zlib

    header = {
        "format": "stadia-checkpoint",
        "version": 2,
        "recipe": "selfsup",
        "config": {"name": "a"},
        "kind": "training",
        "step": 3,
        "epoch": 0,
        "metrics": {"val/abs_rel": 0.1},
        "state": {"state_dict": {"w": {"$tensor": "state_dict/w"}}, "t": {"$tuple": [1, {"$float": "nan"}]}},
        "checksums": {"state_dict/w": zlib.crc32(weights)},
    }
    entries = {
        "__metadata__": {"stadia": json.dumps(header)},
        "state_dict/w": {"dtype": "F32", "shape": [4], "data_offsets": [0, len(weights)]},
    }
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + weights


def _video(suffix: str, codec: str) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=suffix) as container:
        video = container.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return stream.getvalue()


def make_seeds() -> dict[str, dict[str, bytes]]:
    """Return the seeds of each target by file name."""
    seeds: dict[str, dict[str, bytes]] = {
        target: {f"{name}.txt": text.encode() for name, text in texts.items()} for target, texts in _TEXTS.items()
    }
    for target, values in _JSON.items():
        seeds[target] = {f"{name}.json": json.dumps(value).encode() + b"\n" for name, value in values.items()}
    gray, rgb, deep = _image(1), _image(3), _image(1, np.uint16)
    pngs = {"gray.png": _png(gray), "rgb.png": _png(rgb), "rgba.png": _png(_image(4)), "deep.png": _png(deep)}
    jpegs = {
        "gray.jpg": bytes(cv2.imencode(".jpg", gray)[1].tobytes()),
        "baseline.jpg": _jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "progressive.jpg": _jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    }
    depth = np.linspace(0, 80, 12, dtype=np.float32).reshape(3, 4)
    numbers = {
        "float.npy": _npy(depth),
        "fortran.npy": _npy(np.asfortranarray(depth.astype(np.float64)), (2, 0)),
        "bool.npy": _npy(depth > 1),
        "big.npy": _npy(depth.astype(">i8")),
    }
    zips = {"one.npz": _npz(depth_m=depth), "two.npz": _npz(a=depth, b=np.arange(3))}
    return seeds | {
        "image_header": pngs | jpegs,
        "png": pngs,
        "jpeg": jpegs,
        "rgb": {"rgb.png": pngs["rgb.png"]} | jpegs,
        "depth_png": {"deep.png": pngs["deep.png"]},
        "npy": numbers,
        "npz": zips,
        "depth_npz": {"one.npz": zips["one.npz"]},
        "ply": {"cube.ply": _ply_text(), "little.ply": _ply_binary("<"), "big.ply": _ply_binary(">")},
        "checkpoint": {"one.safetensors": _checkpoint()},
        "video": {"h264.mp4": _video("mp4", "libx264"), "mjpeg.avi": _video("avi", "mjpeg")},
    }


def main() -> None:
    """Write every seed into the corpus."""
    for target, files in make_seeds().items():
        for name, data in files.items():
            path = Path(CORPUS) / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
