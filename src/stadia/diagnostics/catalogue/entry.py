"""What the catalogue holds of each known way to fail."""

from __future__ import annotations

from dataclasses import dataclass

from stadia.diagnostics.finding import Stage


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to fail, in general; a Finding tells it about particular data.

    code: family letter and number.  title: a few words.  stage: when it is looked for.
    symptom: what its victims see.  cause, cure: in general.  measured: how the check measures it, and from when on it speaks.
    seen: where this failure is documented.
    """

    code: str
    title: str
    stage: Stage
    symptom: str
    cause: str
    cure: str
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
    "C": "composed pictures",
    "T": "training",
    "N": "not checked",
}
"""Families by the first letter of a code, in the order in which to look: what comes later is often a symptom of what comes earlier."""

FEEDS: dict[str, str] = {
    "D": "KESMLUBPRHOCT",
    "K": "ESMLUBPRHOT",
    "E": "SMLUBPRHT",
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
    "N": "",
}
"""By a family's letter, the families in which its failures show as symptoms: wrong data show everywhere, and what is wrong with the
extrinsics of a rig says nothing of cut-outs."""
