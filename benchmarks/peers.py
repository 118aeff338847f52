r"""Compare a training step with Monodepth2's own code, interleaved, on the same images.

    git clone https://github.com/nianticlabs/monodepth2 CLONE
    python benchmarks/peers.py --monodepth2 CLONE [--batch 4] [--height 192] [--width 640] [--repeats 9] \
        [--threads N] [--memory] [--busy] [--json FILE]

A step is forward, loss, backward and optimizer of two ResNet-18, sources -1, +1 and stereo, four scales at full size.

monodepth2: their networks, view synthesis and loss, by their Trainer's methods, and their Adam.
float32, bf16: ours, as `training.precision=32` and `bf16` run it.
bare, bare bf16: our networks with the mean of their outputs as the loss.

Each runs in a process of its own, whose threads wait as that program starts them: theirs as torch does, ours as
`stadia train` does (`process.cpu_settings`). The steps of a round follow each other. Printed are median seconds and
how many times as long theirs takes as ours in a round (median, quartiles). `--memory` compares the largest resident
memory of three steps instead; "kept low" is ours with `model.checkpoint_gradients=true`. Where other programs use the
processor, it stops; `--busy` compares all the same, with a mark. The largest memory does not depend on other programs.
"""

# mypy: disable-error-code="func-returns-value, no-untyped-call"

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from step import SOURCES, bare_loss, made_up_batch
from torch import Tensor
from torch.nn import functional

from stadia.differentiable.batch import Batch
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.networks.config import DepthPoseNetConfig, UnetConfig
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.loop.config import OptimizerConfig
from stadia.training.loop.recipe import build_optimizer

MAX_BUSY = 0.1
"""Share of the processors that other programs may use."""

LR = 1e-5  # small: every repeat works on nearly the same depth
FRAMES = {-1: 0, 1: 1, "s": 2}
"""Their names of the sources -> the positions in SOURCES."""


def measure_busy_share(seconds: float = 1.0) -> float:
    """Return the share of all processors that is in use while this process sleeps."""

    def read() -> tuple[int, int]:
        counts = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]]
        return sum(counts), counts[3] + counts[4]

    (total, idle), _ = read(), time.sleep(seconds)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(later_total - total, 1)


def load_trainer(clone: Path) -> tuple[Any, Any, Any]:
    """Import their Trainer, networks and layers, without the packages that only their logging and data need."""
    for name in ("tensorboardX", "IPython", "datasets", "six", "six.moves"):
        module: Any = types.ModuleType(name)
        module.SummaryWriter = module.embed = module.urllib = None
        sys.modules[name] = module
    sys.path.insert(0, str(clone))
    import layers
    import networks
    import trainer

    return trainer.Trainer, networks, layers


def make_peer_step(clone: Path, batch: Batch[Any, Any]) -> Callable[[], float]:
    """Return a function that makes one step of their code on the batch, and returns its loss."""
    trainer_class, networks, layers = load_trainer(clone)
    size, _, height, width = batch.inputs.image.shape
    trainer = trainer_class.__new__(trainer_class)
    trainer.device, trainer.use_pose_net, trainer.num_pose_frames, trainer.num_scales = torch.device("cpu"), True, 2, 4
    trainer.opt = types.SimpleNamespace(
        height=height, width=width, batch_size=size, scales=[0, 1, 2, 3], frame_ids=[0, -1, 1, "s"],
        pose_model_type="separate_resnet", pose_model_input="pairs", predictive_mask=False, v1_multiscale=False,
        min_depth=0.1, max_depth=100.0, disable_automasking=False, no_ssim=False, avg_reprojection=False,
        disparity_smoothness=1e-3,
    )  # fmt: skip
    encoder, pose_encoder = networks.ResnetEncoder(18, False), networks.ResnetEncoder(18, False, num_input_images=2)
    trainer.models = {
        "encoder": encoder,
        "depth": networks.DepthDecoder(encoder.num_ch_enc, trainer.opt.scales),
        "pose_encoder": pose_encoder,
        "pose": networks.PoseDecoder(pose_encoder.num_ch_enc, num_input_features=1, num_frames_to_predict_for=2),
    }
    trainer.ssim = layers.SSIM()
    trainer.backproject_depth = {0: layers.BackprojectDepth(size, height, width)}
    trainer.project_3d = {0: layers.Project3D(size, height, width)}
    optimizer = torch.optim.Adam([p for model in trainer.models.values() for p in model.parameters()], LR)
    inputs: dict[Any, Tensor] = {"stereo_T": batch.inputs.T_source_target_rig[:, 2].clone()}
    K = torch.eye(4).repeat(size, 1, 1)
    K[:, :3, :3] = batch.inputs.camera.K
    inputs["K", 0], inputs["inv_K", 0] = K, torch.linalg.inv(K)
    images = {0: batch.inputs.image} | {name: batch.inputs.sources[:, number] for name, number in FRAMES.items()}
    for name, image in images.items():
        inputs["color_aug", name, 0] = image.contiguous()
        for scale in range(4):
            small = functional.interpolate(image, (height >> scale, width >> scale), mode="area")
            inputs["color", name, scale] = small.contiguous()

    def step() -> float:
        _, losses = trainer.process_batch(inputs)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        return float(losses["loss"].detach())

    return step


def make_step(
    batch: Batch[Any, Any], *, precision: str, is_bare: bool = False, checkpoints: bool = False
) -> Callable[[], float]:
    """Return a function that makes one step of ours, and returns its loss. Freed memory is kept as in a training."""
    config = DepthPoseNetConfig(
        network=UnetConfig(), pose_net="resnet", pretrained=False, checkpoint_gradients=checkpoints
    )
    model = DepthPoseNet(config)
    optimizer = build_optimizer(model, OptimizerConfig(name="adam", lr=LR))
    loss = SelfSupervisedLoss(SelfSupervisedLossConfig())

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            prediction = model(batch)
            total = bare_loss(prediction) if is_bare else loss(batch.targets, prediction, SOURCES).total
        total.backward()
        optimizer.step()
        return float(total.detach())

    return step


KINDS: dict[str, dict[str, Any]] = {
    "monodepth2": {},
    "float32": {"precision": "float32"},
    "bf16": {"precision": "bf16"},
    "bare float32": {"precision": "float32", "is_bare": True},
    "bare bf16": {"precision": "bf16", "is_bare": True},
    "float32 kept low": {"precision": "float32", "checkpoints": True},
    "bf16 kept low": {"precision": "bf16", "checkpoints": True},
}
"""What is compared -> arguments of `make_step`; those of `--memory` are not bare, those of time not kept low."""
TIME_KINDS = [kind for kind in KINDS if "kept low" not in kind]
MEMORY_KINDS = [kind for kind in KINDS if "bare" not in kind]


def make_kind(kind: str, arguments: argparse.Namespace) -> Callable[[], float]:
    """Return the step of a kind on the batch that all kinds have."""
    torch.manual_seed(0)
    batch = made_up_batch(arguments.batch, arguments.height, arguments.width)
    return make_step(batch, **KINDS[kind]) if KINDS[kind] else make_peer_step(arguments.monodepth2, batch)


def serve_steps(kind: str, arguments: argparse.Namespace) -> None:
    """Make a step for each line of the input, and print its seconds; first the loss of a step that is not timed."""
    step = make_kind(kind, arguments)
    print(step(), flush=True)  # compiles, and fills the pools of memory
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def measure_memory(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Train three steps in this process; return its resident memory before and at its largest, and the seconds."""
    step = make_kind(kind, arguments)
    before_mb, started = psutil.Process().memory_info().rss / 2**20, time.perf_counter()
    for _ in range(3):
        step()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"before_mb": before_mb, "peak_mb": peak_mb, "seconds": time.perf_counter() - started}


def compare_memory(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure each kind in a process of its own."""
    found = {}
    for kind in MEMORY_KINDS:
        done = subprocess.run([sys.executable, *sys.argv, "--alone", kind], capture_output=True, text=True, check=True)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_times(repeats: int) -> dict[str, list[float]]:
    """Measure all steps, interleaved, each in a process of its own; print the losses of the first ones."""
    with contextlib.ExitStack() as stack:
        pipes, losses = {}, {}
        for kind in TIME_KINDS:
            command = [sys.executable, *sys.argv, "--serve", kind]
            environment = os.environ | (choose_threads() if KINDS[kind] else {})
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe, bufsize=1)
            pipes[kind] = stack.enter_context(process)
            losses[kind] = ask(process, "")
        print("first losses:", ", ".join(f"{kind} {loss:.4f}" for kind, loss in losses.items()))
        times: dict[str, list[float]] = {kind: [] for kind in pipes}
        for _ in range(repeats):
            for kind, process in pipes.items():
                times[kind].append(ask(process, "step\n"))
        return times


def ask(process: subprocess.Popen[str], line: str) -> float:
    """Send a line to a process of `serve_steps`; return the number that it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    if not (answer := process.stdout.readline()):
        sys.exit("peers: a process ended; expected a time. Fix: read its message above")
    return float(answer)


def choose_threads() -> dict[str, str]:
    """Return the variables of the environment that `stadia train` sets."""
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--monodepth2", type=Path, required=True, metavar="CLONE")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action="store_true", help="compare the largest memory instead of the time")
    parser.add_argument("--busy", action="store_true", help="compare although other programs use the processor")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--alone", choices=MEMORY_KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=TIME_KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.serve:
        serve_steps(arguments.serve, arguments)
        return
    if arguments.alone:
        print(json.dumps(measure_memory(arguments.alone, arguments)))
        return
    busy = min(measure_busy_share() for _ in range(3))
    if busy > MAX_BUSY and not (arguments.busy or arguments.memory):
        sys.exit(f"processor: found {busy:.0%} in use; expected at most {MAX_BUSY:.0%}. Fix: wait, or pass --busy")
    is_busy = busy > MAX_BUSY
    mark = f", BUSY: {busy:.0%} of the processors were in use" if is_busy and not arguments.memory else ""
    settings = f"{arguments.width}x{arguments.height}, batch {arguments.batch}"
    print(f"{settings}, {arguments.threads} threads{mark}")
    found: dict[str, Any] = {"busy_share": busy, "settings": settings}
    if arguments.memory:
        found["memory"] = memory = compare_memory(arguments)
        theirs = memory["monodepth2"]
        for name, one in memory.items():
            steps_mb = one["peak_mb"] - one["before_mb"]
            share = steps_mb / (theirs["peak_mb"] - theirs["before_mb"])
            text = f"peak {one['peak_mb']:6.0f} MB, {one['peak_mb'] / theirs['peak_mb']:.2f} of theirs"
            print(f"{name:18} {text}; the steps {steps_mb:6.0f} MB, {share:.2f} of theirs")
    else:
        found["seconds"] = times = compare_times(arguments.repeats)
        for name, seconds in times.items():
            each = [theirs / own for theirs, own in zip(times["monodepth2"], seconds, strict=True)]
            low, middle, high = statistics.quantiles(each, n=4, method="inclusive")
            spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            print(f"{name:13} {statistics.median(seconds):7.3f} s  {spread}")
        for precision in ("float32", "bf16"):
            shares = [own / bare for own, bare in zip(times[precision], times[f"bare {precision}"], strict=True)]
            print(f"step over bare networks, {precision}: {statistics.median(shares):.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
