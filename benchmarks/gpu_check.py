r"""Check and measure stadia on the GPU of this machine: one command, under 8 minutes, one JSON file and one table.

    python benchmarks/gpu_check.py [--out FOLDER] [--small] [--minutes 7] [--parts step,waits] [--card CARD]

Parts:

tests:     the tests marked `gpu`.
agreement: networks, losses, gradients and one update on the device against the CPU; bf16 against float32.
step:      seconds, peak memory and share of the peak FLOP/s of a training step of `selfsup`, by precision and
           `training.compile`.
waits:     operations of a step that wait for the device, by the profiler of torch.
loader:    seconds of a batch from the loader, and of its way to the device.
video:     frames a second that the device decodes (NVDEC), over the processor's, and by how much their colors differ.
estimate:  without CUDA alone: the time of a step on a named card, from its operations and bytes.

Without CUDA it is a dry run: every part is executed on the CPU at a tiny size (`--small`), and the numbers of the GPU
are an estimate on paper, marked as such. A part that fails is reported, the others are still run, and the exit code
is 1.
"""

# mypy: disable-error-code="arg-type, no-untyped-call"

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_estimate import CARDS, estimate_step
from gpu_video import describe_decoding, measure_decoding
from harness import make_selfsup
from loading import write_recording
from peak import FlopCounter, measure_matmul_peak
from step import made_up_batch

from stadia import __version__
from stadia.core.errors import summarize_exception
from stadia.data.config import CacheConfig
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.batch import Batch
from stadia.losses.loss_report import LossReport
from stadia.training.loading.loader import Loader
from stadia.training.loading.samples import VideoSamples
from stadia.training.loop.clock import synchronize
from stadia.training.loop.recipe import build_optimizer, compile_recipe
from stadia.training.recipes.selfsup.recipe import SelfsupRecipe

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "stadia-gpu-check 1"
RESERVE_S = 20.0
"""A variant of the step is skipped where less time is left."""

LOSS_TOLERANCE, GRADIENT_COSINE = 2e-3, 0.99
BF16_LOSS_TOLERANCE, BF16_GRADIENT_COSINE = 0.05, 0.8
"""Of float32 on the device against the CPU, and of bf16 against float32. A pixel may change its winning source."""

WAITING = (
    *("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    *("Memcpy DtoH (Device -> Pageable)", "Memcpy DtoH (Device -> Pinned)"),
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"),
)
"""Names of the profiler: calls that wait, and operations whose result the processor reads."""


@dataclass(frozen=True)
class Setting:
    """What is measured: the device, the size of a batch, and when the command has to end."""

    device: torch.device
    batch: int
    height: int
    width: int
    encoder: str
    repeats: int
    ends_s: float
    card: str

    @property
    def is_dry_run(self) -> bool:
        return self.device.type != "cuda"

    @property
    def left_s(self) -> float:
        return self.ends_s - time.monotonic()


@dataclass(frozen=True)
class Variant:
    """One way to run the training step. precision, compile: as the keys of `training`. benchmark: of cuDNN."""

    precision: str = "32"
    compile: str = "off"
    benchmark: bool = False
    checkpoints: bool = False

    @property
    def name(self) -> str:
        extras = [f"compile={self.compile}"] * (self.compile != "off") + ["cudnn.benchmark"] * self.benchmark
        return " ".join([self.precision, *extras, *["checkpoint_gradients"] * self.checkpoints])


VARIANTS = (
    *(Variant(), Variant("bf16"), Variant("bf16", benchmark=True), Variant("bf16", checkpoints=True)),
    *(Variant("bf16", kind) for kind in ("loss", "networks", "all", "graphs")),
)
SMALL_VARIANTS = (Variant(), Variant("bf16"), Variant("32", checkpoints=True), Variant("32", "loss"))


# -- the networks, and one step of their training


def make_recipe(setting: Setting, *, checkpoints: bool = False) -> SelfsupRecipe:
    """Return the recipe at random weights, the same for every call, on the CPU."""
    extra = ("optimizer.lr=1e-5", f"model.checkpoint_gradients={str(checkpoints).lower()}")
    return make_selfsup(setting.encoder, setting.height, setting.width, *extra)


def make_step(
    recipe: SelfsupRecipe, batch: Batch[Any, Any], precision: str, *, updates: bool = True
) -> Callable[[], LossReport]:
    """Return a function that makes one step of training, without waiting for the device.

    updates: False leaves the weights as they are.
    """
    optimizer = build_optimizer(recipe, recipe.config.optimizer)

    def step() -> LossReport:
        optimizer.zero_grad()
        with torch.autocast(batch.targets.image.device.type, torch.bfloat16, enabled=precision == "bf16"):
            report = recipe.training_step(batch)
        report.total.backward()
        if updates:
            optimizer.step()
        return report

    return step


def load_batch(setting: Setting) -> Batch[Any, Any]:
    return made_up_batch(setting.batch, setting.height, setting.width).to(setting.device)


# -- the parts


def examine_machine(setting: Setting) -> dict[str, Any]:
    found: dict[str, Any] = {
        "stadia": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "device": "cpu",
    }
    if not setting.is_dry_run:
        about = torch.cuda.get_device_properties(setting.device)
        found |= {"device": about.name, "memory_gb": about.total_memory / 1e9, "cuda": torch.version.cuda}
    return found


def run_tests(setting: Setting) -> dict[str, Any]:
    """Run the tests marked `gpu` in a process of their own."""
    files = [str(path) for path in sorted((ROOT / "tests" / "gpu").glob("test_*.py"))]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        limit_s = max(setting.left_s - RESERVE_S, RESERVE_S)
        done = subprocess.run(
            [*command, *files], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=limit_s
        )
        if not report.exists():
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout.decode()[-300:]}")
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        case.attrib["name"]
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return {**counts, "failed": failed, "ok": not failed and counts["tests"] > counts["skipped"]}


def compare_devices(setting: Setting) -> dict[str, Any]:
    """Compare one step on the device with the CPU in float32 without TF32, then bf16 with float32 on the device."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        recipe, batch = make_recipe(setting), made_up_batch(min(setting.batch, 2), setting.height, setting.width)
        cpu = _make_one_step(copy.deepcopy(recipe), batch, "32")
        device = _make_one_step(copy.deepcopy(recipe).to(setting.device), batch.to(setting.device), "32")
        bf16 = _make_one_step(copy.deepcopy(recipe).to(setting.device), batch.to(setting.device), "bf16")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
    float32, half = _compare_steps(cpu, device), _compare_steps(device, bf16)
    is_close = float32["loss"] < LOSS_TOLERANCE and float32["gradient_cosine"] > GRADIENT_COSINE
    is_half_close = half["loss"] < BF16_LOSS_TOLERANCE and half["gradient_cosine"] > BF16_GRADIENT_COSINE
    return {"device_over_cpu": float32, "bf16_over_float32": half, "ok": is_close and is_half_close}


def _make_one_step(recipe: SelfsupRecipe, batch: Batch[Any, Any], precision: str) -> dict[str, Any]:
    with torch.no_grad(), torch.autocast(batch.inputs.image.device.type, torch.bfloat16, enabled=precision == "bf16"):
        inverse_depth = recipe.eval().model(batch).inverse_depth[0].float().cpu()
    report = make_step(recipe.train(), batch, precision)()
    gradients = [p.grad.flatten() for p in recipe.parameters() if p.grad is not None]
    return {
        "inverse_depth": inverse_depth,
        "terms": {name: float(value) for name, value in report.terms.items()},
        "loss": float(report.total.detach()),
        "gradient": torch.cat(gradients).float().cpu(),
        "weights": torch.cat([p.detach().flatten() for p in recipe.parameters()]).cpu(),
    }


def _compare_steps(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """Return relative differences of loss, terms and depth, the gradients' cosine, and the difference of weights."""
    terms = [abs(other["terms"][name] - value) / max(abs(value), 1e-12) for name, value in one["terms"].items()]
    depth = (other["inverse_depth"] - one["inverse_depth"]).abs().max() / one["inverse_depth"].abs().max()
    return {
        "loss": abs(other["loss"] - one["loss"]) / abs(one["loss"]),
        "terms": max(terms),
        "inverse_depth": float(depth),
        "gradient_cosine": float(torch.cosine_similarity(one["gradient"], other["gradient"], dim=0)),
        "weights": float((other["weights"] - one["weights"]).abs().max()),
    }


def measure_step(setting: Setting) -> dict[str, Any]:
    """Measure every variant of the step, and the bare networks; skip what no time is left for."""
    batch, found = load_batch(setting), dict[str, Any]()
    with FlopCounter() as counter:
        make_step(make_recipe(setting).to(setting.device), batch, "32")()
    network_flops = counter.flops
    peaks = {one: measure_matmul_peak(setting.device, _DTYPES[one]) for one in _DTYPES}
    for variant in SMALL_VARIANTS if setting.is_dry_run else VARIANTS:
        if setting.left_s < RESERVE_S:
            found[variant.name] = {"skipped": "no time left"}
            continue
        torch.backends.cudnn.benchmark = variant.benchmark
        try:
            found[variant.name] = _measure_variant(setting, variant, batch)
        except Exception as error:  # the next variant is still measured
            found[variant.name] = {"failed": summarize_exception(error)[:300]}
            continue
        finally:
            torch.backends.cudnn.benchmark = False
        rate = network_flops / found[variant.name]["seconds"]
        found[variant.name]["of_peak"] = rate / peaks[variant.precision]
    works = not any("failed" in one for one in found.values())
    return {"variants": found, "network_flops": network_flops, "matmul_flops_per_s": peaks, "ok": works}


_DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


def _measure_variant(setting: Setting, variant: Variant, batch: Batch[Any, Any]) -> dict[str, Any]:
    recipe = make_recipe(setting, checkpoints=variant.checkpoints).to(setting.device)
    compile_recipe(recipe, variant.compile)
    step, started = make_step(recipe, batch, variant.precision), time.monotonic()
    for _ in range(2):  # chooses kernels, compiles, fills the optimizer's state
        _run(step, variant)
    synchronize(setting.device)
    first_s = time.monotonic() - started
    if not setting.is_dry_run:
        torch.cuda.reset_peak_memory_stats(setting.device)
    times = []
    for _ in range(setting.repeats):
        start = time.perf_counter()
        _run(step, variant)
        synchronize(setting.device)
        times.append(time.perf_counter() - start)
    found: dict[str, Any] = {"seconds": statistics.median(times), "spread_s": [min(times), max(times)]}
    found["images_per_s"], found["first_two_steps_s"] = setting.batch / found["seconds"], first_s
    if not setting.is_dry_run:
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated(setting.device) / 2**20
    return found


def _run(step: Callable[[], LossReport], variant: Variant) -> None:
    if variant.compile == "graphs":
        torch.compiler.cudagraph_mark_step_begin()
    step()


def count_waits(setting: Setting) -> dict[str, Any]:
    """Count the calls of one step that wait for the device. On a CPU Adam reads its step counters: it is left out."""
    recipe = make_recipe(setting).to(setting.device)
    step = make_step(recipe, load_batch(setting), "bf16", updates=not setting.is_dry_run)
    step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if not setting.is_dry_run:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    synchronize(setting.device)
    with torch.profiler.profile(activities=activities) as profile:
        step()
    counts = {event.key: event.count for event in profile.key_averages()}
    found = {name: counts[name] for name in WAITING if name in counts}
    if not setting.is_dry_run and found.get("cudaDeviceSynchronize") == 1:
        del found["cudaDeviceSynchronize"]  # of the profiler itself, at its end
    kernels = sum(event.count for event in profile.key_averages() if event.key == "cudaLaunchKernel")
    return {"waits": found, "kernel_launches": kernels, "operations": sum(counts.values()), "ok": not found}


def measure_loader(setting: Setting) -> dict[str, Any]:
    """Measure the loader from its cache with jitter, at several numbers of workers, and the way to the device."""
    found, frames = dict[str, Any](), 4 * setting.batch
    with tempfile.TemporaryDirectory() as folder:
        write_recording(Path(folder) / "recording", frames)
        samples = VideoSamples(
            open_recordings(Path(folder) / "recording"),
            height=setting.height,
            width=setting.width,
            cache=CacheConfig(folder=f"{folder}/cache"),
        )
        for workers in (0, 1) if setting.is_dry_run else (0, 4, 8):
            loader = Loader(
                samples, batch_size=setting.batch, shuffle=True, workers=workers, device=setting.device, drop_last=True
            )
            found[f"workers={workers}"] = _time_batches(loader, setting)
            loader.rest()
    batch = made_up_batch(setting.batch, setting.height, setting.width)
    size = sum(one.numel() * one.element_size() for one in (batch.inputs.image, batch.inputs.sources))
    if setting.is_dry_run:
        return {"seconds_a_batch": found, "batch_mb": size / 2**20, "ok": True}
    image = batch.inputs.sources.pin_memory()
    times = []
    for _ in range(5):
        synchronize(setting.device)
        start = time.perf_counter()
        image.to(setting.device, non_blocking=True)
        synchronize(setting.device)
        times.append(time.perf_counter() - start)
    rate = image.numel() * image.element_size() / min(times) / 1e9
    return {"seconds_a_batch": found, "batch_mb": size / 2**20, "pinned_copy_gb_per_s": rate, "ok": rate > 0}


def _time_batches(loader: Loader[Any, Any], setting: Setting, epochs: int = 3) -> float:
    """Return the seconds of a batch, without the first epoch, which starts the workers."""
    times = []
    for epoch in range(epochs):
        loader.set_position(epoch)
        start = time.perf_counter()
        count = sum(1 for _ in loader)
        synchronize(setting.device)
        times.append((time.perf_counter() - start) / max(count, 1))
    return min(times[1:])


def estimate(setting: Setting) -> dict[str, Any]:
    """Estimate a step of the real size on a card, from its operations and bytes."""
    return {**estimate_step(made_up_batch, card=setting.card), "ok": True}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "tests": run_tests,
    "agreement": compare_devices,
    "step": measure_step,
    "waits": count_waits,
    "loader": measure_loader,
    "video": lambda setting: measure_decoding("cpu" if setting.is_dry_run else "cuda", small=setting.is_dry_run),
    "estimate": estimate,
}


# -- the command


def check(setting: Setting, parts: tuple[str, ...]) -> dict[str, Any]:
    """Run the parts; a failed one does not stop the others."""
    found: dict[str, Any] = {"format": FORMAT, "dry_run": setting.is_dry_run, "machine": examine_machine(setting)}
    found["settings"] = {name: getattr(setting, name) for name in ("batch", "height", "width", "encoder", "repeats")}
    found["parts"] = {}
    for name in parts:
        started = time.monotonic()
        try:
            if setting.left_s < RESERVE_S:
                raise TimeoutError("no time left")
            result = PARTS[name](setting)
        except Exception as error:
            result = {"ok": False, "failed": summarize_exception(error)[:300]}
        found["parts"][name] = {**result, "wall_s": time.monotonic() - started}
        print(f"{name}: {'ok' if result['ok'] else 'NOT OK'}, {found['parts'][name]['wall_s']:.1f} s", flush=True)
    found["ok"] = all(part["ok"] for part in found["parts"].values())
    return found


def format_table(found: Mapping[str, Any]) -> str:
    """Return the results as a table of Markdown."""
    machine, settings = found["machine"], found["settings"]
    title = f"{machine['device']}, torch {machine['torch']}, {settings['encoder']} at"
    title += f" {settings['width']}x{settings['height']}, batch {settings['batch']}"
    lines = [title, "", "| part | measured |", "|---|---|"]
    if found["dry_run"]:
        lines[0] += ". DRY RUN on the CPU: no number of it is of a GPU, and the last rows are an estimate"
    for name, part in found["parts"].items():
        if "failed" in part and isinstance(part["failed"], str):
            lines.append(f"| {name} | failed: {part['failed']} |")
        else:
            lines += [f"| {label} | {value} |" for label, value in _describe_part(name, part)]
    return "\n".join(lines) + "\n"


def _describe_part(name: str, part: Mapping[str, Any]) -> list[tuple[str, str]]:
    if name == "tests":
        failed = f"; failed: {', '.join(part['failed'])}" if part["failed"] else ""
        return [("tests", f"{part['tests'] - part['skipped']} run, {part['skipped']} skipped{failed}")]
    if name == "agreement":
        return [
            (label, ", ".join(f"{key} {value:.2g}" for key, value in part[key_of].items()))
            for label, key_of in (("device over CPU", "device_over_cpu"), ("bf16 over float32", "bf16_over_float32"))
        ]
    if name == "step":
        return [(f"step {variant}", _describe_variant(one)) for variant, one in part["variants"].items()]
    if name == "waits":
        waits = ", ".join(f"{call} {count}" for call, count in part["waits"].items())
        return [("waits of a step", f"{waits or 'none'}; {part['operations']} operations")]
    if name == "loader":
        times = ", ".join(f"{key} {1e3 * seconds:.1f} ms" for key, seconds in part["seconds_a_batch"].items())
        rate = f"; pinned copy {part['pinned_copy_gb_per_s']:.1f} GB/s" if "pinned_copy_gb_per_s" in part else ""
        return [("loader, a batch", f"{times}; {part['batch_mb']:.0f} MB of images{rate}")]
    if name == "video":
        return [("video", describe_decoding(part))]
    rows = [(f"ESTIMATE {part['card']['name']}, {key}", text) for key, text in part["lines"].items()]
    return [*rows, ("assumptions of the estimate", part["assumptions"])]


def _describe_variant(found: Mapping[str, Any]) -> str:
    if "seconds" not in found:
        return "; ".join(f"{key}: {value}" for key, value in found.items())
    memory = f", {found['peak_memory_mb']:.0f} MB" if "peak_memory_mb" in found else ""
    speed = f"{1e3 * found['seconds']:.1f} ms, {found['images_per_s']:.1f} images/s"
    return f"{speed}, {found['of_peak']:.0%} of matrix products{memory}"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of gpu-check.json and gpu-check.md")
    parser.add_argument("--small", action="store_true", help="a tiny size; always without CUDA")
    parser.add_argument("--minutes", type=float, default=7.0, help="parts are skipped or shortened to end in this time")
    parser.add_argument("--parts", default=None, help=f"of {','.join(PARTS)}; default: all that apply")
    parser.add_argument("--card", default=next(iter(CARDS)), choices=CARDS, help="of the estimate")
    arguments = parser.parse_args(words)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = (2, 64, 128, "mobilenetv3_small_050", 2) if arguments.small or device.type == "cpu" else None
    batch, height, width, encoder, repeats = size or (12, 192, 640, "resnet18", 10)
    ends_s = time.monotonic() + 60 * arguments.minutes
    setting = Setting(device, batch, height, width, encoder, repeats, ends_s, arguments.card)
    parts = tuple(arguments.parts.split(",")) if arguments.parts else tuple(PARTS)
    if not arguments.parts and not setting.is_dry_run:
        parts = parts[:-1]  # measured, so not estimated
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"--parts: found {unknown[0]}; expected some of {', '.join(PARTS)}")
    found = check(setting, parts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "gpu-check.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    table = format_table(found)
    (arguments.out / "gpu-check.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nwritten: {arguments.out / 'gpu-check.json'}, {arguments.out / 'gpu-check.md'}")
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
