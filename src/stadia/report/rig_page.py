"""Write the page of a check of fixed cameras: each camera with its change, its causes, and pictures before and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stadia.io.atomic_files import write_text
from stadia.report.embedded_images import EmbeddedImage
from stadia.report.page_template import make_environment
from stadia.report.reconstruction_page import ShownCause, ShownPurpose


@dataclass(frozen=True, kw_only=True)
class ShownCamera:
    """A camera of the rig.

    name: its name.
    grade: its grade.
    causes: what happened to it.
    measured: its change with deviations as texts, by name.
    reason: why the change cannot be measured; "" if it can.
    purposes: what its calibration is still good for.
    picture: the view before and now; None without one.
    """

    name: str
    grade: str
    causes: Sequence[ShownCause] = ()
    measured: Mapping[str, str]
    reason: str = ""
    purposes: Sequence[ShownPurpose] = ()
    picture: EmbeddedImage | None = None


@dataclass(frozen=True, kw_only=True)
class RigPage:
    """What the page shows.

    title: name of the rig.
    grade: usable, doubtful, unusable or not judged.
    finding: the sentence below it.
    cameras: the cameras, in their order.
    """

    title: str
    grade: str
    finding: str
    cameras: Sequence[ShownCamera]


def write_rig_page(path: Path, page: RigPage) -> None:
    """Write one self-contained page, which loads nothing and needs no scripts.

    path: file to write.
    page: its content.
    """
    write_text(path, make_environment().get_template("rig.html").render(page=page))
