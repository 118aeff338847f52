"""What the catalog holds of each known way to fail."""

from __future__ import annotations

from dataclasses import dataclass

from stadia.diagnostics.finding import Stage


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to fail, in general; a Finding tells it about particular data.

    code: family letter and number.  title: a few words.  stage: when it is looked for.
    symptom: what its victims see.  cause, fix: in general.  measured: how the check measures it, and from when on it
        speaks.
    seen: where this failure is documented.
    """

    code: str
    title: str
    stage: Stage
    symptom: str
    cause: str
    fix: str
    measured: str
    seen: str


FAMILIES: dict[str, str] = {
    "D": "data",
    "K": "intrinsics",
    "E": "extrinsics",
    "S": "sampling",
    "M": "depth mapping",
    "L": "loss axes",
    "U": "uncertainty",
    "B": "brightness",
    "P": "pose scale",
    "R": "smoothness",
    "H": "heights",
    "O": "objects",
    "C": "composed images",
    "T": "training",
    "N": "not checked",
}
"""Families by the first letter of a code, in the order in which to look: what comes later is often a symptom of what
comes earlier.
"""

ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("T02", "T09", "T10", "T14", "T15", "T20", "T21", "T22", "T23"), "optimizer"),
    **dict.fromkeys(("D09", "D10", "D12", "D13", "C01", "C02"), "splits"),
}
"""Codes that stand elsewhere in the chain of causes than their family: weights that nothing moves, or moves too far,
look like wrong data from S on; splits that share something spoil scores, and no training.
"""

FEEDS: dict[str, str] = {
    "D": "KESMLUBPRHOCT",
    "K": "ESMLUBPRHOT",
    "E": "SMLUBPRHT",
    "optimizer": "SMUBPRHOCT",
    "S": "MLUBPRHT",
    "M": "LUBPRHT",
    "L": "UBPRHT",
    "U": "BPRHT",
    "B": "PRHT",
    "P": "RHT",
    "R": "HT",
    "H": "T",
    "O": "T",
    "C": "T",
    "T": "",
    "splits": "",
    "N": "",
}
"""By a family's letter or a place of ELSEWHERE, in the order of causes: the families in which its failures show as
symptoms. Wrong data show everywhere, and what is wrong with the extrinsics of a rig says nothing of cut-outs.
"""


def place(code: str) -> str:
    """Where a code stands in FEEDS. Raises KeyError for a family that is not known."""
    found = ELSEWHERE.get(code, code[:1])
    if found not in FEEDS:
        raise KeyError(code)
    return found
