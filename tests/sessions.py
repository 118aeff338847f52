"""Predict in tests: with a checkpoint as the command line does, or with a predictor that no network has."""

import threading
from pathlib import Path
from typing import Any

from stadia.core.progress import no_progress
from stadia.core.types import Predictor
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.judge.depth import TrainingRecord
from stadia.predict.describe import describe, describe_closing
from stadia.predict.inputs import PredictionInput
from stadia.predict.network import Network
from stadia.predict.options import EvaluateOptions, PredictOptions
from stadia.predict.run import Session, predict_to_folders
from stadia.predict.tasks import Evaluation, evaluate_network
from stadia.predict.training_overlap import TrainedInput
from stadia.training.loop.checkpoint import Checkpoint


def load_network(checkpoint: Checkpoint | Path) -> Network:
    opened = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(checkpoint)
    return Network(str(opened.path), opened)


def predict_lines(checkpoint: Checkpoint | Path, source: Path, out: Path, **options: Any) -> list[str]:
    """Predict into a folder; return the lines of `stadia predict`, without those about network and files."""
    sessions = load_network(checkpoint).open_any(source, PredictOptions(**options))
    lines, results = [], []
    for session, result in predict_to_folders(sessions, out):
        lines += describe(session if result is None else result)
        results += [] if result is None else [result]
    return [*lines, *describe_closing(results)]


def evaluate(checkpoint: Checkpoint | Path, labeled: Path, out: Path | None = None, **options: Any) -> Evaluation:
    return evaluate_network(load_network(checkpoint), labeled, EvaluateOptions(**options), out=out)


class BareNetwork(Network):
    """A predictor without a checkpoint."""

    can_predict_focal = False
    has_own_size = True
    run_folder = None
    relative_error = None

    def __init__(self, provenance: Provenance, record: TrainingRecord | None = None) -> None:
        self.name, self.provenance, self.record, self.max_pixels = "bare", provenance, record, None
        self._running, self._fitted, self._lock = {}, {}, threading.Lock()

    def make_provenance(self, options: PredictOptions) -> Provenance:
        return self.provenance

    def read_training(self, given: PredictionInput) -> tuple[TrainingRecord, TrainedInput]:
        return self.record or TrainingRecord(), TrainedInput()


def write_bare(predictor: Predictor, given: PredictionInput, out: Path, provenance: Provenance, **options: Any) -> Any:
    """Predict an input into a folder with a predictor alone; return the predictions."""
    chosen = PredictOptions(motion=provenance.motion, smooth=provenance.steady, **options)
    predictions: Predictions = (
        Session(BareNetwork(provenance), given, chosen, predictor).write(out, no_progress).predictions
    )
    return predictions
