"""Run `stadia evaluate CHECKPOINT DATA` for a depth recipe: predict into the run's folder, score, add notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError
from stadia.core.recording import Recording
from stadia.core.types import Predictor
from stadia.data.cache import Progress
from stadia.data.road_config import RoadConfig
from stadia.data.sources import format_of, held_out_split, open_recordings
from stadia.evaluation.predictions import Provenance
from stadia.evaluation.protocols import protocol_named
from stadia.evaluation.recordings import evaluate_recordings
from stadia.evaluation.watch import Watch
from stadia.recipes.asked import EvaluationAsked
from stadia.recipes.frame_list import read_frame_list
from stadia.recipes.network_size import Size, note_against_trained, note_of_size, other_size
from stadia.recipes.prediction import as_trained
from stadia.recipes.scored_frames import Trained
from stadia.training.checkpoints import Checkpoint


def evaluate_asked(
    predictor_at: Callable[[Size | None], Predictor],
    request: EvaluationAsked,
    run: Path,
    watch: Watch,
    progress: Progress,
) -> tuple[dict[str, Any], list[Path]]:
    """Return the summary to print, and the written files.

    predictor_at: returns the predictor at a size, None = the training size (`DepthRecipe.predictor`).

    Raises ConfigError if a height that gave the scale was measured on the data to score.
    """
    rules = protocol_named(request.protocol)
    opened = Checkpoint.open(request.checkpoint)
    data, header, options = request.data, opened.header, dict(request.options)
    if "road" in header.config:  # heights gave the scale: those of a data set's labels may not be scored on it
        RoadConfig.model_validate(header.config["road"]).check_scored_on(
            [format_of(data, options.get("format", "auto"))]
        )
    size = other_size(request.size, header.config)
    suffix = request.suffix + (f"-{size[1]}x{size[0]}" if size else "")
    folder = request.out or _in_run(run, "predictions") / f"{opened.path.stem}-step{header.step}{suffix}"
    provenance = Provenance.of(request.checkpoint, request.motion, size)
    notes = note_of_size(size, header.config) + (_choose_split(data, options) if request.frames is None else [])
    about: dict[str, Any] = {
        "checkpoint": provenance.checkpoint,
        "data": str(data.resolve()),
        "options": options,
        "split": options.get("split"),
        "every": request.every,
        "motion": request.motion,
        "size": size and f"{size[1]}x{size[0]}",
    }
    predictor = predictor_at(size)
    recordings = open_recordings(data, progress=progress, **as_trained(request.checkpoint, data, options))
    if request.frames is None:
        indices: Mapping[str, Sequence[int]] = {r.name: range(0, len(r), request.every) for r in recordings}
    else:
        indices = _listed_frames(recordings, request.frames, about)
    trained = Trained.on(run, recordings, indices)
    indices = trained.left_out(indices, run) if request.held_out else indices
    about["trained_on"], about["of_trained_drives"] = trained.count(indices), trained.count_of_sessions(indices)
    evaluation = evaluate_recordings(
        predictor, recordings, rules, folder, provenance, indices=indices, reuse=True, watch=watch
    )
    scores = (run if (run / "run.json").is_file() else folder) / "scores"
    name = "-".join(filter(None, (data.resolve().name, request.protocol, about["split"])))
    if size and evaluation.depth is not None:
        notes += note_against_trained(evaluation.depth.metrics["silog"], scores / f"{name}{request.suffix}.json", about)
    evaluation = replace(evaluation, notes=(*notes, *trained.notes(indices), *evaluation.notes))
    written = [folder, *evaluation.write(scores, f"{name}{suffix}", about)]
    return {key: about[key] for key in ("split", "trained_on", "of_trained_drives")} | evaluation.summary(), written


def _in_run(run: Path, name: str) -> Path:
    """Return a folder of the run. Raises ConfigError if there is no run."""
    if not (run / "run.json").is_file():
        raise ConfigError(
            "--out",
            found="a checkpoint outside a run's folder",
            expected="a folder for its predictions",
            fix="pass --out DIR",
        )
    return run / name


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    """Select the data set's held-out split if the user selected none: set it in `options` and return a note."""
    if (
        options.keys() & {"split", "recordings"}
        or (split := held_out_split(data, options.get("format", "auto"))) is None
    ):
        return []
    options["split"] = split
    return [f"the data's split '{split}', the default (choose another with data.split=NAME or data.recordings=[NAMES])"]


def _listed_frames(recordings: Sequence[Recording], frames: Path, about: dict[str, Any]) -> Mapping[str, Sequence[int]]:
    """Return the frames of a frame list, and add the file to the metadata."""
    listed = read_frame_list(frames, recordings)
    about["frames"] = listed.to_json()
    return listed.indices
