"""`stadia evaluate --trajectory`: score a path of any program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stadia.cli.arguments import option
from stadia.cli.evaluate.score_output import check_choice, write_score_file
from stadia.cli.output import echo
from stadia.core.errors import ConfigError

TRAJECTORY = "--trajectory EST --reference REF"


FormatOption = Annotated[
    str | None, option("Format of --trajectory, else by its content: kitti, tum, euroc, transforms or colmap.")
]
MaxDifferenceOption = Annotated[
    float, typer.Option("--max-difference", help="Largest time difference of associated poses, in seconds.")
]
RpeOption = Annotated[
    float | None, option("Also RPE over so many seconds, such as 1 (TUM); from frame to frame by default.", min=1e-6)
]


def score_trajectory_file(
    trajectory: Path,
    reference: Path,
    *,
    format: str | None,
    reference_format: str | None,
    align: str,
    max_difference_s: float,
    rpe_interval_s: float | None,
    scores: Path | None,
    image: Path | None,
    as_json: bool,
) -> dict[str, Any]:
    """Score the path, write the requested files, and return the scores. Raises ConfigError, DataError."""
    from stadia.evaluation.io.trajectory_files import add_recorded_frames
    from stadia.evaluation.io.trajectory_formats import TrajectoryFormat, read_trajectory
    from stadia.evaluation.trajectory_score import score_trajectory
    from stadia.metrics.trajectory_metrics import PathAlignment

    formats = [
        None if text is None else TrajectoryFormat(check_choice(name, text, [*TrajectoryFormat]))
        for name, text in (("--format", format), ("--reference-format", reference_format))
    ]
    alignment = PathAlignment(check_choice("--align", align, [*PathAlignment]))
    estimated = read_trajectory(trajectory, formats[0])
    truth = read_trajectory(reference, formats[1], is_reference=True)
    estimated = add_recorded_frames(trajectory, estimated, truth)
    score = score_trajectory(estimated, truth, alignment, max_difference_s, rpe_interval_s)
    if not as_json:
        echo(score.headline)
    if scores is not None:
        write_score_file(scores, score.to_json())
    if image is not None:
        from stadia.core.types import DepthScale
        from stadia.evaluation.plots.charts import draw_paths

        draw_paths(image, score.paths_from_start, DepthScale.METRES, title=score.headline, gaps=score.gaps)
        echo(f"note: wrote {image}", err=True)
    return score.summary()


def check_drawing(image: Path, inputs: Iterable[Path | None], *, force: bool) -> Path:
    """Return the path of the drawing. Raises ConfigError for an unknown format, StadiaError for a foreign file."""
    from stadia.files.output_files import check_replaceable

    if image.suffix not in (".png", ".svg"):
        fix = f"--image {image.stem or 'paths'}.png"
        raise ConfigError("--image", found=f"'{image.name}'", expected="a name that ends in .png or .svg", fix=fix)
    return check_replaceable(image, "drawing of paths", inputs=inputs, force=force)
