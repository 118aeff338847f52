"""Measure each attention against the number of tokens: time and memory of one core, in one run.

    python benchmarks/attention.py [--out attention.png] [--json FILE] [--repeats 5] [--threads 2] [--device cpu]

The core alone (from queries, keys and values to the output), 12 heads of 64, float32, one image. Grids with a class
token: those of 640x192, 384x384, 640x480 and 1216x352 images in patches of 16, and a longer one.

time:     of the forward pass, calls interleaved, medians, as a ratio to SDPA.
memory:   the peak above queries, keys and values, with the backward pass: on a CPU the largest sum of the allocator's
          records, on CUDA `max_memory_allocated`.

Tokens are random: time and memory do not depend on them. For the accuracy of a network that trains with an attention
see `experiments/attention_exchange.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs every start

import torch
from harness import make_parser, print_table, time_calls, write_results
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from stadia.networks import ATTENTIONS
from stadia.networks.config import AttentionConfig
from stadia.training.loop.clock import synchronize

HEADS, HEAD_DIM = 12, 64
GRIDS = {"640x192": (12, 40), "384x384": (24, 24), "640x480": (30, 40), "1216x352": (22, 76), "1024x768": (48, 64)}
CONFIGS = {
    "sdpa": AttentionConfig(),
    "explicit": AttentionConfig(name="explicit"),
    "performer": AttentionConfig(name="performer"),
    "memory_compressed 2": AttentionConfig(name="memory_compressed", factor=2),
    "memory_compressed 3": AttentionConfig(name="memory_compressed", factor=3),
    "memory_compressed 4": AttentionConfig(name="memory_compressed", factor=4),
    "token_merging 25 %": AttentionConfig(name="token_merging", merge=0.25),
    "token_merging 50 %": AttentionConfig(name="token_merging", merge=0.5),
}
Grid = tuple[int, int]


def run_forward(attention: nn.Module, tokens: Tensor, grid: Grid) -> None:
    with torch.no_grad():
        attention(*tokens, grid)
        synchronize(tokens.device)


def run_backward(attention: nn.Module, tokens: Tensor, grid: Grid) -> None:
    attention(*tokens, grid).backward(torch.ones_like(tokens[2]))


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Return the largest memory of a call above that before it."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def measure_grid(grid: Grid, image: str, attentions: dict[str, nn.Module], rounds: int, device: str) -> list[dict]:
    """Return one row for each attention on one grid of tokens."""
    places = grid[0] * grid[1] + 1
    tokens = torch.randn(3, 1, HEADS, places, HEAD_DIM, generator=torch.Generator().manual_seed(0)).to(device)
    calls = [partial(run_forward, attention, tokens, grid) for attention in attentions.values()]
    time_calls(*calls, rounds=1)  # the first call fills the allocator's pools
    seconds = dict(zip(attentions, time_calls(*calls, rounds=rounds), strict=True))
    rows = []
    for name, attention in attentions.items():
        inputs = tokens.clone().requires_grad_()
        run_backward(attention, inputs, grid)  # gradients of the inputs and weights exist from here on
        peak = peak_bytes(partial(run_backward, attention, inputs, grid), device)
        time = {"ms": 1e3 * seconds[name], "time_to_sdpa": seconds[name] / seconds["sdpa"]}
        rows.append({"attention": name, "image": image, "tokens": places, **time, "backward_mb": peak / 1e6})
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Draw two panels over the number of tokens: time to SDPA and peak memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        ("time_to_sdpa", "time of the forward pass / SDPA's", (0.25, 0.5, 1, 2, 4)),
        ("backward_mb", "peak memory with the backward pass [MB]", (10, 30, 100, 300, 1000)),
    )
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.9), layout="constrained")
    lengths = sorted({row["tokens"] for row in rows})
    for axis, (key, label, marks) in zip(axes, panels, strict=True):
        for name in CONFIGS:
            own = [row for row in rows if row["attention"] == name]
            axis.plot([row["tokens"] for row in own], [row[key] for row in own], marker="o", ms=4, label=name)
        axis.set(xscale="log", yscale="log", xlabel="tokens", title=label)
        axis.set_xticks(lengths, labels=lengths, rotation=45)
        axis.set_yticks(marks, labels=marks)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    attentions = {
        name: ATTENTIONS.load(config.name)(config, HEADS, HEAD_DIM).to(given.device).eval()
        for name, config in CONFIGS.items()
    }
    rows = [
        row
        for image, grid in GRIDS.items()
        for row in measure_grid(grid, image, attentions, given.repeats, given.device)
    ]
    print_table(rows)
    if given.out:
        draw(rows, given.out)
    if given.json:
        write_results(given.json, rows, device=given.device, threads=given.threads, torch=torch.__version__)


if __name__ == "__main__":
    main()
