"""What run.json records of data, compared with what the data are now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stadia.core.config import ABSENT, ValueChange, shorten_hashes

COMPARED_FACTS = ("train_frames", "val_frames", "poses", "depth")
"""Keys of the data in run.json that a resume compares where the run has them; earlier versions wrote none or some."""

MEASURED_FACTS = {"poses": "poses", "depth": "ground_truth_path"}
"""Facts that are hashes or sums of files, and the key beside `path` that may name their place."""

ROUNDING = 1e-6
"""Of sums of poses, in metres: processors compute their last digits otherwise."""


def match_facts(facts: Any, recorded: Any) -> Any:
    """Return facts of data without those of COMPARED_FACTS that a record lacks, and numbers within ROUNDING as in it.

    Examples:
        >>> match_facts({"poses": {"01": [2.0, 0.30000000000000004]}, "depth": {}}, {"poses": {"01": [2.0, 0.3]}})
        {'poses': {'01': [2.0, 0.3]}}
    """
    if isinstance(facts, Mapping) and isinstance(recorded, Mapping):
        common = {key: fact for key, fact in facts.items() if key in recorded or key not in COMPARED_FACTS}
        return {key: match_facts(fact, recorded.get(key)) for key, fact in common.items()}
    return recorded if _is_close(facts, recorded) else facts


def describe_change(change: ValueChange) -> str:
    """Return a change of facts in words: the hashes and sums that measure poses and depth mean nothing to a reader.

    Examples:
        >>> describe_change(ValueChange("depth.drive", "1f2a", "None"))
        'depth.drive: missing'
    """
    if not is_measured(change.key.split(".")):
        return str(shorten_hashes(change))
    absent = ("None", ABSENT)
    return f"{change.key}: {'missing' if change.now in absent else 'added' if change.before in absent else 'others'}"


def is_measured(parts: Sequence[str]) -> bool:
    """Return whether the parts of a key are of a fact that is a hash or sum of files."""
    return not MEASURED_FACTS.keys().isdisjoint(parts)


def _is_close(one: Any, other: Any) -> bool:
    """Return whether both are lists of numbers that differ by rounding alone."""
    if not all(isinstance(each, list) and {type(number) for number in each} == {float} for each in (one, other)):
        return False
    close = (math.isclose(a, b, rel_tol=0, abs_tol=ROUNDING) for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and all(close)
