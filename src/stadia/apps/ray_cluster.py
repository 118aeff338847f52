"""Use Ray: the cluster that RAY_ADDRESS names, else Ray on this machine."""

from __future__ import annotations

import os
from typing import Any

from stadia.core.errors import RunError, summarize_exception

STARTS = 3
"""Tries to start Ray on this machine: its limit of 30 s is too short where all cores are busy."""


def connect_ray(option: str, *, cores: int) -> Any:
    """Return the module `ray`, connected. Raises RunError without the package.

    Args:
        option: the option that needs it, for messages.
        cores: of Ray on this machine, where RAY_ADDRESS names no cluster.
    """
    try:
        import ray
    except ImportError as error:
        fix = "pip install 'stadia[ray]'"
        raise RunError(option, found="no ray", expected="the extra 'ray'", fix=fix) from error
    if not ray.is_initialized():
        _start_ray(ray, option, cores)
    return ray


def _start_ray(ray: Any, option: str, cores: int) -> None:
    address = os.environ.get("RAY_ADDRESS")
    num_cpus = None if address else max(cores, 1)
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(address=address, num_cpus=num_cpus, include_dashboard=False, log_to_driver=False)
            return
        except Exception as error:  # Ray raises it itself where a start takes too long
            ray.shutdown()
            if attempt == STARTS or address:
                found = f"Ray that does not start ({summarize_exception(error)})"
                fix = "start it first: ray start --head, and RAY_ADDRESS=auto"
                raise RunError(option, found=found, expected="Ray on this machine or a cluster", fix=fix) from error
