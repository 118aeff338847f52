"""Run command lines in forked children: `python -m benchmarks.campaign.server` reads jobs and writes outcomes.

A job is a line of JSON: argv, cwd, env, seconds, max_bytes, out (a file for the child's output). An outcome is a line
of JSON: code (exit code, or minus the signal), seconds, peak_bytes, orphans. The modules that most commands import are
imported once, before any fork: that saves half of the time of a command on small data.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

LIBRARIES = """
    av cv2 numba numpy safetensors.torch scipy.optimize scipy.spatial scipy.stats matplotlib.figure
    rich.progress torch torch.utils.tensorboard stadia.networks.encoders lightning_fabric stadia.cli.main
    stadia.cli.train stadia.training.recipes stadia.scale.camera_height stadia.training.demo stadia.data.formats.kitti
    stadia.data.open_dataset stadia.data.formats.euroc stadia.data.formats.rgbd_cameras
    stadia.judge.recordings.preflight_runner stadia.losses.cpu.fused_reprojector
    stadia.training.workflow stadia.training.recipes.selfsup.recipe
    stadia.report.report_page
"""
PRELOADED = tuple(LIBRARIES.split())
SPARE_BYTES = 6 << 30
"""Address space above the limit of memory: libraries reserve more than they use."""


_ADOPTS = sys.platform == "linux"
"""Whether processes that lost their parent become children of the server, which then finds and kills them."""


def _run_child(job: dict[str, Any]) -> None:
    """Become the command of a job; never returns."""
    os.setsid()  # so that the whole group can be stopped
    output = os.open(job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    limit = job["max_bytes"] + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from stadia.cli.main import run

    try:
        run(job["argv"])
    except SystemExit as end:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        os._exit(71)  # nothing may pass `run`


def _stop_orphans(group: int) -> int:
    """Kill the processes that a command left running, also in sessions of their own, and return their number."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    orphans = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split() if _ADOPTS else []
    for orphan in orphans:
        os.kill(int(orphan), signal.SIGKILL)
        os.waitpid(int(orphan), 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
        return max(len(orphans), 1)
    return len(orphans)


def _run_job(job: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_child(job)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > job["seconds"]:
            os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            break
        time.sleep(0.005)
    orphans = _stop_orphans(child)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - start,
        "peak_bytes": usage.ru_maxrss * 1024,
        "orphans": orphans,
    }


def main() -> None:
    if _ADOPTS:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):  # what reads compiled code
        importlib.import_module("numba.core.registry").cpu_target.target_context.refresh()
    gc.freeze()  # children neither search what was imported for garbage nor copy its pages
    replies, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_run_job(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
