"""`stadia evaluate CHECKPOINT DATA`: predict into the run's folder, score what is there, and say what a reader should know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stadia.core.recording import Recording


@dataclass(frozen=True)
class Asked:
    """The options of this form, as on the command line."""

    protocol: str
    overrides: tuple[str, ...]
    frames: Path | None
    every: int
    held_out: bool
    motion: str
    size: str | None
    out: Path | None

    @property
    def suffix(self) -> str:
        """Of the names of what is written: other frames, another way or another size are other files."""
        frames = f"-{self.frames.stem}" if self.frames else f"-every{self.every}" * (self.every > 1)
        return frames + "-held-out" * self.held_out + f"-{self.motion}" * (self.motion != "aligned")


def evaluate_checkpoint(checkpoint: Path, data: Path, asked: Asked) -> dict[str, Any]:
    """The summary to print. Raises what is wrong with the options before anything heavy is imported."""
    from stadia.core.errors import ConfigError
    from stadia.recipes.source_config import source_options

    options = source_options(asked.overrides)
    if asked.frames is not None and asked.every != 1:
        raise ConfigError("--every", found="given with --frames", expected="one of the two", cure="leave it out: a list says which frames")

    from stadia.cli.watch import on_stderr
    from stadia.data.sources import open_recordings
    from stadia.evaluation.predictions import Provenance
    from stadia.evaluation.protocols import protocol_named
    from stadia.evaluation.recordings import evaluate_recordings
    from stadia.recipes import load_predictor
    from stadia.recipes.network_size import note_of_size, other_size
    from stadia.recipes.prediction import as_trained
    from stadia.recipes.scored_frames import Trained
    from stadia.training.checkpoints import Checkpoint

    rules = protocol_named(asked.protocol)
    opened = Checkpoint.open(checkpoint)
    run, header = opened.path.parent.parent, opened.header
    size = other_size(asked.size, header.config)
    some = asked.suffix + (f"-{size[1]}x{size[0]}" if size else "")
    folder = asked.out or _in_run(run, "predictions") / f"{opened.path.stem}-step{header.step}{some}"
    provenance = Provenance.of(checkpoint, asked.motion, size)
    notes = note_of_size(size, header.config) + (_choose_split(data, options) if asked.frames is None else [])
    about: dict[str, Any] = {
        "checkpoint": provenance.checkpoint,
        "data": str(data.resolve()),
        "options": options,
        "split": options.get("split"),
        "every": asked.every,
        "motion": asked.motion,
        "size": size and f"{size[1]}x{size[0]}",
    }
    predictor = load_predictor(checkpoint, size)
    with on_stderr() as bars:
        recordings = open_recordings(data, progress=bars.progress, **as_trained(checkpoint, data, options))
        if asked.frames is None:
            indices: Mapping[str, Sequence[int]] = {r.name: range(0, len(r), asked.every) for r in recordings}
        else:
            indices = _listed_frames(recordings, asked.frames, about)
        trained = Trained.on(run, recordings, indices)
        indices = trained.left_out(indices, run) if asked.held_out else indices
        about["trained_on"], about["of_trained_drives"] = trained.count(indices), trained.count_of_sessions(indices)
        evaluation = evaluate_recordings(predictor, recordings, rules, folder, provenance, indices=indices, reuse=True, watch=bars.watch)
    evaluation = replace(evaluation, notes=(*notes, *trained.notes(indices), *evaluation.notes))
    scores = (run if (run / "run.json").is_file() else folder) / "scores"
    name = "-".join(filter(None, (data.resolve().name, asked.protocol, about["split"])))
    for path in (folder, *evaluation.write(scores, f"{name}{some}", about)):
        typer.echo(f"note: wrote {path}", err=True)
    return {key: about[key] for key in ("split", "trained_on", "of_trained_drives")} | evaluation.summary()


def _in_run(run: Path, name: str) -> Path:
    """A folder of a run's, or a ConfigError where there is no run."""
    from stadia.core.errors import ConfigError

    if not (run / "run.json").is_file():
        raise ConfigError(
            "--out", found="a checkpoint outside a run's folder", expected="a folder for its predictions", cure="pass --out DIR"
        )
    return run / name


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    """Where nothing says which recordings, those that the dataset itself holds out: put into `options`, and told in a note."""
    from stadia.data.sources import held_out_split

    if options.keys() & {"split", "recordings"} or (split := held_out_split(data, options.get("format", "auto"))) is None:
        return []
    options["split"] = split
    return [f"the data's split '{split}', since none was asked for (data.split=NAME or data.recordings=[NAMES] asks for another)"]


def _listed_frames(recordings: Sequence[Recording], frames: Path, about: dict[str, Any]) -> Mapping[str, Sequence[int]]:
    """Those that a file names, and which file it was."""
    from stadia.recipes.frame_list import read_frame_list

    listed = read_frame_list(frames, recordings)
    about["frames"] = listed.to_json()
    return listed.indices
