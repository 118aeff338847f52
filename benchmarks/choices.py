"""Measure what the automatic choices of number formats and backends cost and gain, next to their alternatives.

    python benchmarks/choices.py [--sets AVX2 AVX512_CORE_BF16 AVX512_CORE_AMX] [--repeats 3] [--json FILE]
    python benchmarks/choices.py --video VIDEO [--backends auto openvino] [--frames 55] [--before SRC]

A training step of `selfsup` (ResNet-18, 320x96, batch 2) runs in float32 and in bf16, in turns and on one thread. Each
set of instructions has its own process: ONEDNN_MAX_CPU_ISA limits oneDNN to it, so that one processor stands for older
ones. Printed are processor seconds (median), the rates that `stadia doctor` prints, and what
`training.precision=auto` chooses.

With `--video`, `stadia predict` writes the depth of its first frames by `base` and each backend, after one run that
fills the cache. `--before` is the folder `src` of another version, which takes turns. Printed are processor seconds of
the whole command.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from harness import Row, make_parser, print_table, run_command, write_results
from peers import make_step
from step import made_up_batch

from stadia.differentiable.number_rates import NumberRates, measure_rates
from stadia.io.kept_rates import describe_processor

SETS = ("AVX2", "AVX512_CORE", "AVX512_CORE_BF16", "AVX512_CORE_AMX")
HEIGHT, WIDTH, BATCH = 96, 320, 2


def measure_steps(repeats: int) -> dict[str, object]:
    """Return the processor seconds of a step in float32 and in bf16, and the rates of the formats."""
    torch.set_num_threads(1)
    rates = NumberRates(**measure_rates(), flags=())
    batch = made_up_batch(BATCH, HEIGHT, WIDTH)
    steps = {precision: make_step(batch, precision=precision) for precision in ("float32", "bf16")}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start_s = time.process_time()
            step()
            seconds[name].append(time.process_time() - start_s)
    medians = {f"{name}_s": statistics.median(taken[1:]) for name, taken in seconds.items()}
    return {
        **medians,
        "bf16 gain": medians["float32_s"] / medians["bf16_s"],
        "measured gain": rates.bf16_gain,
        "auto": "bf16" if rates.is_bf16_faster else "32",
    }


def measure_backends(video: Path, backends: Sequence[str], frames: int, before: str) -> list[Row]:
    """Return the processor seconds of predictions of the first frames of a video by each backend."""
    rows: list[Row] = []
    for backend in backends:
        for version, source in (("now", ""), ("before", before)):
            if (version == "before" and not source) or (backend, version) == ("auto", "before"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                environment = {"STADIA_CACHE": f"{folder}/cache", **({"PYTHONPATH": source} if source else {})}
                options = (f"data.frames=[0,{frames}]", "--no-video", "--no-cloud", "--backend", backend)
                words = (sys.executable, "-m", "stadia", "predict", video, *options, "--out")
                seconds = [run_command(*words, f"{folder}/{number}", **environment).cpu_s for number in range(2)]
            rows.append({"backend": backend, "version": version, "first_s": seconds[0], "again_s": seconds[1]})
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--backends", nargs="+", default=["auto", "onnxruntime", "openvino", "torch"])
    parser.add_argument("--frames", type=int, default=55)
    parser.add_argument("--before", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure_steps(arguments.repeats)))
        return
    processor = describe_processor()
    flags = [flag for flag in processor.get("flags", "").split() if "bf16" in flag or "avx" in flag]
    print(f"{processor['name']}, {processor['cores']} cores, {' '.join(flags)}")
    rows: list[Row] = []
    if arguments.video is not None:
        rows = measure_backends(arguments.video, arguments.backends, arguments.frames, arguments.before)
    for limit in arguments.sets if arguments.video is None else ():
        command = (sys.executable, __file__, "--here", "--repeats", arguments.repeats)
        run = run_command(*command, ONEDNN_MAX_CPU_ISA=limit)
        rows.append({"instructions": limit, **json.loads(run.output.splitlines()[-1])})
    print_table(rows)
    if arguments.json:
        write_results(arguments.json, rows, processor=processor)


if __name__ == "__main__":
    main()
