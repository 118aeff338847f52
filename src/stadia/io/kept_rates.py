"""Keep what was measured on this processor in the cache, so that it is measured once."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stadia import __version__
from stadia.core.errors import StadiaError
from stadia.io.atomic_files import write_json
from stadia.io.input_files import find_cache_folder, read_json, read_text

RATES_FOLDER = "rates"

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that limit the instructions that libraries use."""

Rates = Mapping[str, float]
"""Positive numbers by name."""


def describe_processor(file: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return the name of the processor and, if Linux lists them, its instructions ("flags") in one text."""
    described = {"name": platform.processor() or platform.machine(), "cores": str(os.cpu_count())}
    try:
        text = read_text(file, expected="a description of processors").partition("\n\n")[0]
    except StadiaError:
        return described
    lines = (line.partition(":") for line in text.splitlines())
    values = {key.strip().lower(): value.strip() for key, _, value in lines}
    names = {"name": "model name", "flags": "flags", "features": "features"}
    return described | {name: values[key] for name, key in names.items() if key in values}


def find_rates(name: str, about: Mapping[str, Any], measure: Callable[[], Rates]) -> Rates:
    """Return the rates that were kept for this processor, or else measure and keep them.

    name: what was measured; part of the name of the file.
    about: JSON values on which the rates depend, such as versions of libraries and the size of a network's images.
    measure: measures the rates.

    A damaged file is measured again. A cache that cannot be written is not needed.
    """
    limits = {variable: os.environ.get(variable) for variable in LIMITS}
    known = {"processor": describe_processor(), "limits": limits, "stadia": __version__, **about}
    digits = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    path = find_cache_folder() / RATES_FOLDER / f"{name}-{digits}.json"
    if (kept := _read_rates(path)) is not None:
        return kept
    rates = dict(measure())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"about": known, "rates": rates})
    except (OSError, StadiaError):
        pass
    return rates


def _read_rates(path: Path) -> Rates | None:
    if not path.is_file():
        return None
    try:
        kept: Any = read_json(path)
    except (StadiaError, OSError):
        return None
    rates = kept.get("rates") if isinstance(kept, dict) else None
    if not isinstance(rates, dict) or not rates:
        return None
    return rates if all(isinstance(rate, float) and rate > 0 for rate in rates.values()) else None
