"""All cases: every file that a command reads, damaged in every way, and hostile words for options, keys and names."""

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
import safetensors.numpy
from benchmarks.campaign.damage import ANY, KINDS, TEXT, damage_bytes, damage_kind
from benchmarks.campaign.harness import Case
from benchmarks.campaign.holes import list_holes
from benchmarks.campaign.readers import DATASET_READERS, OPTIONS, READERS
from tests.sound import CAMERA

LINKED = (".png", ".jpg", ".npy", ".npz", ".mp4", ".safetensors", ".onnx")
"""Files that no command may change: a case gets hard links to them instead of copies."""


def _split(line: str) -> list[str]:
    """Return the words of a command line; CAMERA stands for the options of the camera."""
    return line.replace("CAMERA", " ".join(CAMERA)).split()


def copy_sound(sound: Path, folder: Path, names: Sequence[str]) -> None:
    """Copy inputs from the sound folder; images, arrays and weights as hard links."""

    def place(source: str, target: str) -> str:
        if source.endswith(LINKED):
            os.link(source, target)
        else:
            shutil.copyfile(source, target)
        return target

    for name in names:
        if (sound / name).is_dir():
            shutil.copytree(sound / name, folder / name, copy_function=place)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            place(str(sound / name), str(folder / name))


def _write(sound: Path, names: Sequence[str], then: Callable[[Path], None], folder: Path) -> None:
    copy_sound(sound, folder, names)
    then(folder)


def _list_damaged(sound: Path) -> Iterator[Case]:
    for number, reader in enumerate((*READERS, *DATASET_READERS)):
        ways: dict[str, Callable[[Path], None]] = {}
        for name, change in (ANY | (TEXT if reader.text else {})).items():
            ways[name] = partial(damage_bytes, change=change, seed=number)
        for name, make in KINDS.items():
            ways[name] = partial(damage_kind, make=make)
        for name, way in ways.items():

            def then(folder: Path, way: Callable[[Path], None] = way, file: str = reader.file) -> None:
                way(folder / file)

            yield Case(
                f"{reader.name}/{name}",
                partial(_write, sound, reader.needs.split(), then),
                _split(reader.line),
                accepted=True,  # a changed digit may be as right as the one before
                changes=reader.changes.split(),
            )


# -- Images and arrays that claim more than they hold.


def _png(width: int, height: int, bits: int, color: int, data: bytes = b"") -> bytes:
    """Return a PNG whose header claims a size, whatever its data."""
    return _join_png(width, height, bits, color, zlib.compress(data, 1))


def _join_png(width: int, height: int, bits: int, color: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + packed, b"IEND")
    lengths_and_sums = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(lengths_and_sums)


def _large_png(side: int, bits: int, color: int) -> bytes:
    """Return a whole PNG of side x side zeros: some megabytes that decode to gigabytes."""
    row = side * (bits // 8) * {0: 1, 2: 3, 6: 4}[color] + 1
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(bytes(row)) for _ in range(side)) + packer.flush()
    return _join_png(side, side, bits, color, data)


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _list_claims(sound: Path) -> Iterator[Case]:
    images = {
        "30000x30000": partial(_large_png, 30_000, 8, 2),
        "16000-rgba-16": partial(_large_png, 16_000, 16, 6),
        "claim-2**31": partial(_png, 2**31 - 1, 2**31 - 1, 16, 6),
        "claim-0": partial(_png, 0, 0, 8, 2),
        "1x1": partial(_png, 1, 1, 8, 0, b"\0\0"),
        "one-row": partial(_png, 60_000_000, 1, 8, 0),
    }
    for name, make in images.items():
        for consumer, argv in (
            ("predict", ["predict", "run", "images", *CAMERA, "--out", "out"]),
            ("check", ["check", "images", *CAMERA]),
        ):

            def then(folder: Path, make: Callable[[], bytes] = make) -> None:
                path = folder / "images" / "000001.png"
                path.unlink()
                path.write_bytes(make())

            yield Case(
                f"claims/image-{name}/{consumer}", partial(_write, sound, ["run", "images"], then), argv, True, ["out"]
            )
    arrays = {
        "99999999": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999)}"),
        "400-digits": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 400 + ",)}"),
        "complex": _npy("{'descr': '<c8', 'fortran_order': False, 'shape': (96, 160)}", bytes(8 * 96 * 160)),
        "string": _npy("{'descr': '<U4', 'fortran_order': False, 'shape': (96, 160)}", bytes(16 * 96 * 160)),
        "date": _npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (96, 160)}", bytes(8 * 96 * 160)),
        "struct": _npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (96, 160)}", bytes(4 * 96 * 160)),
        "object": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (96, 160)}", bytes(8 * 96 * 160)),
        "code": _npy("{'descr': __import__('os').system('touch $STADIA_CANARY'), 'fortran_order': 0, 'shape': ()}"),
        "bool": _npy("{'descr': '|b1', 'fortran_order': False, 'shape': (96, 160)}", bytes(96 * 160)),
    }
    for name, content in arrays.items():
        for file, needs, argv in (
            ("stadia/a/depth/left/000001.npy", ["stadia"], ["check", "stadia"]),
            (
                "depth_npy/000001.npy",
                ["depth_npy", "depth_png"],
                ["evaluate", "--depth", "depth_npy", "--reference", "depth_png"],
            ),
        ):

            def put(folder: Path, file: str = file, content: bytes = content) -> None:
                (folder / file).unlink()
                (folder / file).write_bytes(content)

            yield Case(f"claims/npy-{name}/{argv[0]}", partial(_write, sound, needs, put), argv, argv[0] == "check")


def _list_videos(sound: Path) -> Iterator[Case]:
    """Videos that claim large frames, or that name other files."""

    def write_large(path: Path, hidden: bool) -> None:
        """Write Motion JPEG of 16000x16000 by its frames' headers; the container claims 64x64 where it is hidden."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuvj420p"
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * index, np.uint8), format="rgb24")
                for packet in stream.encode(frame.reformat(format="yuvj420p")):
                    data, at = bytes(packet), bytes(packet).index(b"\xff\xc0")
                    large = av.Packet(data[: at + 5] + struct.pack(">HH", 16_000, 16_000) + data[at + 9 :])
                    large.stream, large.pts, large.dts = stream, index, index
                    container.mux(large)
        if not hidden:
            path.write_bytes(path.read_bytes().replace(struct.pack("<II", 64, 64), struct.pack("<II", 16_000, 16_000)))

    contents: dict[str, Callable[[Path], object]] = {
        "large": partial(write_large, hidden=False),
        "large-hidden": partial(write_large, hidden=True),
        "playlist": lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nfile:/etc/passwd\n#EXT-X-ENDLIST\n"),
        "list": lambda path: path.write_text("ffconcat version 1.0\nfile /etc/passwd\n"),
    }
    for name, write in contents.items():
        for command in ("check", "predict run", "odometry run"):
            out = [] if command == "check" else ["--out", "out"]
            yield Case(
                f"claims/video-{name}/{command.split()[0]}",
                partial(_write, sound, ["run"], lambda folder, write=write: write(folder / "a.avi")),
                [*command.split(), "a.avi", *CAMERA, *out],
            )


def _list_graphs(sound: Path) -> Iterator[Case]:
    """Exported networks whose graph runs without end, takes all memory, or has operations of others."""
    import onnx

    def add(folder: Path, node: onnx.NodeProto) -> None:
        path = folder / "depth.onnx"
        model = onnx.load(path)
        model.graph.node.append(node)
        shape = np.array([1 << 31], np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(shape, "shape"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
        last = onnx.helper.make_node("ReduceMean", ["large"], ["mean_of_large"], keepdims=0)
        model.graph.node.append(last)
        (output,) = (one for one in model.graph.node if "inverse_depth" in one.output)
        output.output[0] = "depth"
        model.graph.node.append(onnx.helper.make_node("Add", ["depth", "mean_of_large"], ["inverse_depth"]))
        path.unlink()
        onnx.save(model, path)

    make = onnx.helper.make_node
    body = onnx.helper.make_graph([make("Identity", ["one"], ["same"])], "body", [], [])
    nodes = {
        "loop": make("Loop", ["shape", "", "one"], ["large"], body=body),
        "constant": make("ConstantOfShape", ["shape"], ["large"]),
        "expand": make("Expand", ["one", "shape"], ["large"]),
        "contrib": make("Gelu", ["one"], ["large"], domain="com.microsoft"),
    }
    for name, node in nodes.items():
        yield Case(
            f"claims/onnx-{name}",
            partial(_write, sound, ["depth.onnx", "images"], partial(add, node=node)),
            _split("predict depth.onnx images CAMERA --out out"),
        )


def _list_bombs(sound: Path) -> Iterator[Case]:
    """A checkpoint that claims a network of gigabytes, far larger than its weights."""

    def enlarge_network(folder: Path) -> None:
        path = folder / "run" / "checkpoints" / "best.safetensors"
        with safetensors.safe_open(path, framework="np") as file:
            text, tensors = file.metadata()["stadia"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(text)
        header["config"]["model"]["encoder"] = "vit_giant_patch14_dinov2"
        text = json.dumps(header)
        path.unlink()
        digest = hashlib.sha256(text.encode()).hexdigest()
        safetensors.numpy.save_file(tensors, path, metadata={"stadia": text, "stadia-sha256": digest})

    predict = "predict run images CAMERA --out out"
    yield Case("claims/checkpoint-encoder", partial(_write, sound, ["run", "images"], enlarge_network), _split(predict))


# -- Hostile words: names, options and keys.

WORDS = (
    *("", " ", "-1", "0", "1e308", "1e400", "nan", "-inf", "9" * 400, "1²", "٣", "0x10", "null", "true", "[]", "{}"),
    *("[1,", "../../../../etc/passwd", "/dev/zero", "/etc/passwd", "ds[/r]", "\x1b[31mred", "a\nb", "caf\udce9"),
    *("x" * 5000, "[" * 5000, "%s%n", "\\", "$(touch $STADIA_CANARY)"),
    "__import__('os').system('touch $STADIA_CANARY')",
    "8192x8192",
)  # fmt: skip


def _list_words(sound: Path) -> Iterator[Case]:
    for name, needs, line in OPTIONS:
        for number, word in enumerate(WORDS):
            words = [part.replace("@", word) for part in _split(line)]
            yield Case(
                f"words/{name}/{number}",
                partial(_write, sound, needs.split(), lambda folder: None),
                words,
                accepted=True,
                changes=["out", "out.onnx", "runs", "images-masks"],
            )


NUMBERS = ("-1", "0", "1e308", "1e400", "nan", "9" * 400, "abc", "[]", "null", "{}", "100000", "cuda")


def _list_keys(sound: Path) -> Iterator[Case]:
    """Every key of every recipe with hostile values; the data are nowhere, so that a valid configuration ends there."""
    from stadia.training.recipes import CONFIGS

    for recipe in CONFIGS:
        for key in _list_leaves(CONFIGS.load(recipe)):
            for number, value in enumerate(NUMBERS):
                if key == "data.path" and value == "null":
                    continue  # right for `overlay`, which then trains on images that it renders
                yield Case(
                    f"keys/{recipe}/{key}/{number}",
                    lambda folder: None,
                    ["train", recipe, "data.path=nowhere", f"{key}={value}"],
                    accepted=False,
                )


def _list_leaves(config: type) -> list[str]:
    """Return the dotted keys of a configuration's class."""

    def walk(model: type, prefix: str) -> Iterator[str]:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from walk(inner, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    return list(walk(config, ""))


# -- Trainings with extreme values.

TRAINED = (
    *("data.height", "data.width", "data.offsets", "data.stride", "data.cache", "data.stereo"),
    *("optimizer.lr", "optimizer.weight_decay", "optimizer.betas", "optimizer.momentum", "schedule.warmup_steps"),
    *("schedule.milestones", "schedule.gamma", "training.batch_size", "training.grad_accumulation_steps"),
    *("training.clip_norm", "training.workers", "training.threads", "training.max_minutes", "training.devices"),
    *("training.accelerator", "training.precision", "training.strategy", "training.stages"),
    *(
        "training.log_every",
        "training.checkpoint_every",
        "model.network.min_depth_m",
        "model.network.max_depth_m",
        "loss.smoothness",
    ),
    *("loss.pyramid", "loss.scale_weights", "loss.ssim_weight", "model.network.scales", "seed", "name"),
)
EXTREMES = ("1", "1000000", "1e-300", "1e300")


def _list_trainings(sound: Path) -> Iterator[Case]:
    """Train two steps, one key at an extreme value each time: it works, or is refused in one line."""
    base = (
        "train selfsup --preset tiny-laptop data.path=stadia data.height=64 data.width=96"
        " model.network.encoder=test_efficientnet model.pose_net=resnet model.pose_encoder=test_efficientnet"
        " model.pretrained=false"
        " training.max_steps=2 training.batch_size=2 training.workers=0"
        " --on-stop warn --out runs"
    )
    for key in TRAINED:
        for value in EXTREMES:
            yield Case(
                f"trained/{key}/{value}",
                partial(_write, sound, ["stadia"], lambda folder: None),
                [*base.split(), f"{key}={value}"],
                accepted=True,
                changes=["runs"],
            )


# -- Names of files.

NAMES = ("12:30:05", "1²2", "ds[/r]", "-rf", "a b", "caf\udce9", "%d", "a\nb", "😀", "n" * 240, "~", "$HOME", "http:x")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def _list_names(sound: Path) -> Iterator[Case]:
    for number, name in enumerate(NAMES):

        def video(folder: Path, name: str = name) -> None:
            _link(sound / "drive.mp4", folder / f"{name}.mp4")

        def image(folder: Path, name: str = name) -> None:
            _link(sound / "photo.jpg", folder / f"{name}.jpg")

        def images(folder: Path, name: str = name) -> None:
            for index in range(3):
                _link(
                    sound / "images" / f"{index:06d}.png", folder / name / f"{name[:200].replace('/', '')}{index}.png"
                )

        places = {"video": (video, f"./{name}.mp4"), "image": (image, f"./{name}.jpg"), "images": (images, f"./{name}")}
        for kind, (write, place) in places.items():
            needs = partial(_write, sound, ["run"], write)
            for command, words in (
                ("predict", ["predict", "run", place, *CAMERA, "--out", f"./out/{name}"]),
                ("check", ["check", place, *CAMERA]),
                ("odometry", ["odometry", "run", place, *CAMERA, "--out", "out"]),
            ):
                yield Case(f"names/{command}-{kind}/{number}", needs, words, accepted=True, changes=["out"])


# -- Files of the user that stand where an output goes.


def _list_overwrites(sound: Path) -> Iterator[Case]:
    score = "evaluate --depth depth_npz --reference depth_npy --scores @.json"
    outputs = {
        "predict": ("run images", "predict run images CAMERA --out @", ""),
        "report": ("run", "report run --out @.html", ".html"),
        "compare": ("run", "compare run run --plot @.png", ".png"),
        "scores": ("depth_npz depth_npy", score, ".json"),
        "paths": ("kitti.txt", "evaluate --trajectory kitti.txt --reference kitti.txt --plot @.png", ".png"),
        "export": ("run", "export run --out @.onnx", ".onnx"),
        "activations": ("run images", "activations run images CAMERA --out @.mp4", ".mp4"),
        "check": ("images", "check images CAMERA --out @", ""),
        "odometry": ("run images", "odometry run images CAMERA --out @", ""),
    }
    for name, (needs, line, suffix) in outputs.items():

        def file(folder: Path, suffix: str = suffix) -> None:
            (folder / f"mine{suffix}").write_text("years of work")

        def full(folder: Path, suffix: str = suffix) -> None:
            target = folder / f"mine{suffix}"
            target.mkdir()
            (target / "predictions.json").write_text("{}")
            (target / "thesis.tex").write_text("years of work")
            (target / "depth").mkdir()
            (target / "depth" / "000000.npz").write_text("years of work")

        def link(folder: Path, suffix: str = suffix) -> None:
            (folder / "precious").write_text("years of work")
            (folder / f"mine{suffix}").symlink_to("precious")

        for kind, make in (("file", file), ("folder", full), ("link", link)):
            words = [word.replace("@", "mine") for word in _split(line)]
            yield Case(f"overwrite/{name}/{kind}", partial(_write, sound, needs.split(), make), words, accepted=True)


# -- Runs and studies of somebody else, planted to be resumed, evaluated and reported.


def _list_planted(sound: Path) -> Iterator[Case]:
    def plant_link(folder: Path, name: str) -> None:
        """Replace a folder of the run by a link to the user's files beside the current folder."""
        victim = folder.parent / "victim"
        (victim / "val").mkdir(parents=True)
        (victim / ".bashrc").write_text("years of work")
        (victim / "val" / "a.png").write_text("years of work")
        if (folder / "run" / name).is_dir():
            shutil.rmtree(folder / "run" / name)
        (folder / "run" / name).symlink_to("../../victim")

    lines = {
        "resume": ("run stadia", "train --resume run --on-stop warn"),
        "evaluate": ("run stadia", "evaluate run stadia"),
        "odometry": ("run images", "odometry run images CAMERA"),
    }
    for command, (needs, line) in lines.items():
        for name in ("checkpoints", "predictions", "scores", "images", "odometry"):
            if (command, name) in (("evaluate", "checkpoints"), ("odometry", "checkpoints")):
                continue  # there is no checkpoint to open
            write = partial(_write, sound, needs.split(), partial(plant_link, name=name))
            yield Case(f"planted/link-{name}/{command}", write, _split(line), changes=["run/.lock"])

    def plant_facts(folder: Path, error: str) -> None:
        facts = json.loads((folder / "run" / "run.json").read_text())
        (folder / "run" / "run.json").write_text(json.dumps({**facts, "error": error, "status": error, "name": error}))

    def plant_findings(folder: Path) -> None:
        (folder / "run" / "findings.jsonl").write_text('{"a": [' + "{}," * (21 << 20) + "{}]}\n")

    plants = {
        "slashes": partial(plant_facts, error="/" * 300_000 + "\nx"),
        "escapes": partial(plant_facts, error="\x1b]0;pwn\x07\x9b31m\u202ex"),
        "findings": plant_findings,
    }
    for what, then in plants.items():
        for line in ("report run", "compare run run", "diagnose run"):
            write = partial(_write, sound, ["run"], then)
            yield Case(f"planted/{what}/{line.split()[0]}", write, line.split(), True, ["run/report.html"])


def list_cases(sound: Path) -> list[Case]:
    """Return all cases; `sound` is the folder of `sound.build`."""
    groups = (
        _list_damaged,
        _list_claims,
        _list_words,
        _list_keys,
        _list_trainings,
        _list_names,
        _list_overwrites,
        _list_planted,
        _list_videos,
        _list_graphs,
        _list_bombs,
        list_holes,
    )
    return [case for group in groups for case in group(sound)]
