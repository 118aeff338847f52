"""Measure each attention against the number of tokens: time and memory of one core, in one run.

    python benchmarks/attention.py [--out attention.png] [--json FILE] [--repeats 5] [--threads 2] [--device cpu]

The core alone (from queries, keys and values to the output), 12 heads of 64, float32, one image. Grids with a class
token: those of 640x192, 384x384, 640x480 and 1216x352 images in patches of 16, and a longer one.

time:     of the forward pass, calls interleaved, medians, as a ratio to SDPA. Break-even is where the ratio first falls
          below 1, on a straight line between its neighbors over the logarithm of the tokens, next to the break-even by
          multiplications alone. A time is compared with the peak of matrix products here (`peak.py`): a faster one
          stops the run, since the clock did not wait.
memory:   the peak above queries, keys and values: on a CPU the largest sum of the allocator's records, on CUDA
          `max_memory_allocated`. The forward pass alone (of evaluation), and with the backward pass.
one core: |output - exact| / |exact| of one layer without training, of random projections of tokens that are smooth over
          the grid (noise on a cell every 2.5 tokens, |q| about 8). It is not an error of depth: for the accuracy of a
          network that trains with an attention see `experiments/attention_exchange.py`. Performer's depends mostly on
          |q|, so the difference on random tokens is listed by |q|.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs every start

import torch
from peak import PeakFlops
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from stadia.networks import ATTENTIONS
from stadia.networks.attention import compute_attention_map
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
APPROXIMATIONS = tuple(name for name in CONFIGS if name not in ("sdpa", "explicit"))
Grid = tuple[int, int]
Tokens = tuple[Tensor, Tensor, Tensor]


def smooth_tokens(grid: Grid, device: str) -> Tokens:
    """Return q, k, v (1, heads, N, d) of tokens that change smoothly over the grid, and of a class token without
    them.
    """
    generator, width = torch.Generator().manual_seed(0), HEADS * HEAD_DIM
    coarse = torch.randn(1, width, *(round(length / 2.5) for length in grid), generator=generator)
    places = functional.interpolate(coarse, grid, mode="bicubic", align_corners=True).flatten(2).transpose(1, 2)
    tokens = functional.layer_norm(torch.cat([torch.randn(1, 1, width, generator=generator), places], dim=1), (width,))
    projected = tokens @ torch.randn(3, width, width, generator=generator) / math.sqrt(width)
    q, k, v = projected.reshape(3, 1, -1, HEADS, HEAD_DIM).transpose(2, 3).contiguous().to(device)
    return q, k, v


def random_tokens(grid: Grid, norm: float, device: str) -> Tokens:
    """Return random directions, queries and keys of one length."""
    q, k, v = torch.randn(3, 1, HEADS, grid[0] * grid[1] + 1, HEAD_DIM, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    return norm * functional.normalize(q, dim=-1), norm * functional.normalize(k, dim=-1), v


def errors(attentions: dict[str, nn.Module], tokens: Tokens, grid: Grid) -> dict[str, float]:
    with torch.no_grad():
        q, k, v = tokens
        exact = compute_attention_map(q, k) @ v
        return {
            name: float((attention(q, k, v, grid) - exact).norm() / exact.norm())
            for name, attention in attentions.items()
        }


class MeanOfValues(nn.Module):
    """The value of an attention without weights: each approximation should be nearer than this."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid) -> Tensor:
        return v.mean(-2, keepdim=True).expand_as(v)


def seconds(attention: nn.Module, tokens: Tokens, grid: Grid) -> float:
    with torch.no_grad():
        synchronize(tokens[0].device)
        start = time.perf_counter()
        attention(*tokens, grid)
        synchronize(tokens[0].device)
        return time.perf_counter() - start


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


def memory(attention: nn.Module, tokens: Tokens, grid: Grid, device: str) -> tuple[int, int]:
    """Return peaks of the forward pass, and with the backward pass."""
    inputs = [x.clone().requires_grad_() for x in tokens]
    slope = torch.ones_like(tokens[2])
    with torch.no_grad():
        forward = peak_bytes(lambda: attention(*tokens, grid), device)
    attention(*inputs, grid).backward(slope)  # slopes of the inputs and weights exist from here on
    return forward, peak_bytes(lambda: attention(*inputs, grid).backward(slope), device)


def count_attention_macs(
    config: AttentionConfig, grid: tuple[int, int], heads: int, head_dim: int, *, first: int = 1
) -> int:
    """Count the MACs from queries, keys and values to the output, without projections; exact attention takes 2 N^2 D.

    Args:
        grid: (height, width) of the tokens.
        first: tokens before the grid.
    """
    places, width = grid[0] * grid[1], heads * head_dim
    tokens = places + first
    if config.name == "performer":
        return 4 * tokens * config.features_for(head_dim) * width
    if config.name == "memory_compressed":
        windows = math.prod(math.ceil(length / step) for length, step in zip(grid, config.window, strict=True))
        return 2 * tokens * (windows + first) * width + 2 * windows * width * head_dim * config.factor
    if config.name == "token_merging" and config.merge:
        return 2 * (tokens - config.removed(places)) ** 2 * width + (places // 2) ** 2 * head_dim
    return 2 * tokens**2 * width


def find_break_even_tokens(config: AttentionConfig, heads: int, head_dim: int) -> int | None:
    """Return the number of tokens from which on it takes fewer MACs than exact attention, or None if it never does.

    performer: 4 N m D = 2 N^2 D at N = 2m. memory_compressed: N / r + d = N at N = d r / (r - 1), ignoring grid edges.
    token_merging: 1, where merging saves more than the matching costs, 1 / (8 heads) of exact attention.
    """
    if config.name == "performer":
        return 2 * config.features_for(head_dim)
    if config.name == "memory_compressed" and config.factor > 1:
        return math.ceil(head_dim * config.factor / (config.factor - 1))
    if config.name == "token_merging" and (1 - config.merge) ** 2 + 1 / (8 * heads) < 1:
        return 1
    return None


def break_even(tokens: list[int], ratios: list[float]) -> float | None:
    """Return where a ratio first falls below 1; None if it never does, the shortest length if it always is."""
    for index, ratio in enumerate(ratios):
        if ratio < 1:
            if index == 0:
                return tokens[0]
            share = (ratios[index - 1] - 1) / (ratios[index - 1] - ratio)
            return math.exp(math.log(tokens[index - 1]) + share * math.log(tokens[index] / tokens[index - 1]))
    return None


def rows_of(
    grid: Grid, image: str, attentions: dict[str, nn.Module], repeats: int, device: str, peak: PeakFlops
) -> list[dict[str, object]]:
    """Return one row for each attention on one grid. peak: of the device, an upper bound of the speed."""
    tokens = smooth_tokens(grid, device)
    times: dict[str, list[float]] = {name: [] for name in attentions}
    for _ in range(repeats + 1):
        for name, attention in attentions.items():
            times[name].append(seconds(attention, tokens, grid))
    medians = {
        name: statistics.median(values[1:]) for name, values in times.items()
    }  # the first call fills the allocator's pools
    off = errors(attentions, tokens, grid)
    rows = []
    for name, attention in attentions.items():
        forward, backward = memory(attention, tokens, grid, device)
        macs = count_attention_macs(CONFIGS[name], grid, HEADS, HEAD_DIM)
        rows.append(
            {
                "attention": name,
                "image": image,
                "tokens": tokens[0].shape[-2],
                "seconds": medians[name],
                "time_to_sdpa": medians[name] / medians["sdpa"],
                "forward_bytes": forward,
                "forward_backward_bytes": backward,
                "core_difference": off[name],
                "macs": macs,
                "flops_per_s": 2 * macs / medians[name],
                "share_of_peak": peak.share(f"{name} on {image}", 2 * macs, medians[name]),
            }
        )
    return rows


def measure(arguments: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    device = arguments.device
    built = {
        name: ATTENTIONS.load(config.name)(config, HEADS, HEAD_DIM).to(device).eval()
        for name, config in CONFIGS.items()
    }
    peak = PeakFlops(device)
    rows = [
        row for image, grid in GRIDS.items() for row in rows_of(grid, image, built, arguments.repeats, device, peak)
    ]
    even = {}
    for name in APPROXIMATIONS:
        mine = [row for row in rows if row["attention"] == name]
        by_time = break_even([row["tokens"] for row in mine], [row["time_to_sdpa"] for row in mine])
        even[name] = {"time": by_time, "multiplications": find_break_even_tokens(CONFIGS[name], HEADS, HEAD_DIM)}
    approximations = {name: built[name] for name in APPROXIMATIONS} | {"mean of the values": MeanOfValues()}
    return {
        "rows": rows,
        "break_even_tokens": even,
        "core_difference_by_norm": {
            norm: errors(approximations, random_tokens((12, 40), norm, device), (12, 40)) for norm in (1, 2, 4, 8, 16)
        },
        "matmul_peak_flops_per_s": peak.flops_per_s,
        "settings": {
            "repeats": arguments.repeats,
            "threads": arguments.threads,
            "device": torch.cuda.get_device_name() if device != "cpu" else platform.processor() or platform.machine(),
            "torch": torch.__version__,
        },
    }


def print_result(result: dict) -> None:
    print(f"products of matrices reach {result['matmul_peak_flops_per_s'] / 1e9:.0f} GFLOP/s")
    heads = (
        "tokens",
        "ms",
        "to SDPA",
        "GFLOP/s",
        "of peak",
        "forward MB",
        "to explicit",
        "backward MB",
        "to explicit",
        "one core",
    )
    print(f"{'attention':<20}" + "".join(f"{head:>12}" for head in heads))
    explicit = {row["tokens"]: row for row in result["rows"] if row["attention"] == "explicit"}
    for row in result["rows"]:
        cells = [f"{row['tokens']}", f"{1e3 * row['seconds']:.1f}", f"{row['time_to_sdpa']:.2f}"]
        cells += [f"{row['flops_per_s'] / 1e9:.0f}", f"{row['share_of_peak']:.0%}"]
        for key in ("forward_bytes", "forward_backward_bytes"):
            cells += [f"{row[key] / 1e6:.1f}", f"{row[key] / explicit[row['tokens']][key]:.0%}"]
        print(f"{row['attention']:<20}" + "".join(f"{cell:>12}" for cell in (*cells, f"{row['core_difference']:.3f}")))
    print("\nbreak-even against SDPA, in tokens")
    for name, even in result["break_even_tokens"].items():
        by_time = "never" if even["time"] is None else f"{even['time']:.0f}"
        by_time = f"<= {by_time}" if even["time"] == result["rows"][0]["tokens"] else by_time
        print(f"{name:<20} by time {by_time:>7}, by multiplications {even['multiplications']:>4}")
    print("\ndifference of one core on random tokens, by |q|")
    print(f"{'':<20}" + "".join(f"{norm:>8}" for norm in result["core_difference_by_norm"]))
    for name in (*APPROXIMATIONS, "mean of the values"):
        print(f"{name:<20}" + "".join(f"{off[name]:>8.3f}" for off in result["core_difference_by_norm"].values()))


def draw(result: dict, path: Path) -> None:
    """Draw two panels over the number of tokens: time to SDPA and peak memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        ("time_to_sdpa", 1.0, "time of the forward pass / SDPA's", (0.25, 0.5, 1, 2, 4)),
        ("forward_backward_bytes", 1e-6, "peak memory with the backward pass [MB]", (10, 30, 100, 300, 1000)),
    )
    colors = dict(
        zip(
            CONFIGS,
            ("black", "tab:gray", "tab:red", "tab:cyan", "tab:blue", "navy", "tab:olive", "tab:green"),
            strict=True,
        )
    )
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.9), layout="constrained")
    lengths = sorted({row["tokens"] for row in result["rows"]})
    for axis, (key, unit, label, marks) in zip(axes, panels, strict=True):
        for name in CONFIGS:
            rows = [row for row in result["rows"] if row["attention"] == name]
            dashes = "--" if name.startswith("token") else "-"
            axis.plot(
                [r["tokens"] for r in rows],
                [unit * r[key] for r in rows],
                dashes,
                marker="o",
                ms=4,
                color=colors[name],
                label=name,
            )
        axis.set(xscale="log", yscale="log", xlabel="tokens", title=label)
        axis.set_xticks(lengths, labels=lengths, rotation=45)
        axis.set_yticks(marks, labels=marks)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].axhline(1, color="black", lw=0.8)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(CONFIGS) // 2, frameon=False
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="draw the plot here (.png)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    result = measure(arguments)
    print_result(result)
    if arguments.out:
        draw(result, arguments.out)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
