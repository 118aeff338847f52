"""Every fix that `depth_hypotheses` prints is executed on an input that triggers it, and the score gets better.

The list is that of the module: a new meaning without an input here fails.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.evaluation.test_depth_hypotheses import make_pairs

from stadia.core.types import DepthScale
from stadia.evaluation.depth_hypotheses import MEANINGS
from stadia.evaluation.depth_score import DepthScore, open_ground_truth_folder, score_depth
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import find_protocol

Array = NDArray[np.float64]
Change = Callable[[Array], Array]

WRITTEN: dict[str, Change] = {
    "inverse depth": lambda z: 3 / z,
    "a logarithm of depth": np.log,
    "a logarithm of base 10": np.log10,
    "a logarithm of inverse depth": lambda z: -np.log(z),
    "log(1 + depth)": np.log1p,
    "negative": np.negative,
    "negative inverse depth or disparity": lambda z: -3 / z,
    "the square of depth": np.square,
}
"""For each meaning of MEANINGS, how depth is written so."""


def write_maps(folder: Path, maps: list[Array]) -> Path:
    folder.mkdir()
    for number, values in enumerate(maps):
        np.save(folder / f"{number:06d}.npy", values)
    return folder


def score(predictions: Path, truth: Path, options: str = "") -> DepthScore:
    """Score maps with the options that a fix names."""
    words = shlex.split(options)
    given = dict(zip(words[::2], words[1::2], strict=True))
    rules = find_protocol(given.get("--protocol", "metric"))
    scale = DepthScale(given["--depth-scale"]) if "--depth-scale" in given else None
    return score_depth(Predictions.open(predictions, scale), open_ground_truth_folder(truth, rules), rules)


def find_fixes(predictions: Path, truth: Path) -> list[str]:
    """Return the fixes that the note or the error of a score names, one for each cause."""
    try:
        notes: list[Any] = [note for note in score(predictions, truth).notes if "reread" in note]
    except Exception as error:
        notes = [error]
    (note,) = notes
    return str(note).partition("Fix: ")[2].rstrip(".").split(", or ")


def measure_shape(scored: DepthScore) -> float:
    """Return AbsRel after one factor an image, or as the protocol aligns."""
    compared = scored.by_alignment
    return compared["median"]["abs_rel"] if "median" in compared else scored.metrics["abs_rel"]


def test_each_meaning_has_an_input() -> None:
    assert WRITTEN.keys() == {what for what, _, _ in MEANINGS}


@pytest.mark.parametrize("meaning", WRITTEN)
def test_the_fix_of_each_meaning_of_predictions_is_executed(tmp_path: Path, meaning: str) -> None:
    pairs = make_pairs()
    truth = write_maps(tmp_path / "truth", [true for _, true in pairs])
    maps = [WRITTEN[meaning](predicted) for predicted, _ in pairs]
    stored = write_maps(tmp_path / "p", maps)
    errors = []
    for number, fix in enumerate(find_fixes(stored, truth)):
        if (formula := re.fullmatch(r"store (.+)", fix)) is not None:
            names = {"numpy": np}
            changed = [eval(formula[1], names, {"value": values}) for values in maps]
            errors.append(measure_shape(score(write_maps(tmp_path / f"p{number}", changed), truth)))
        elif (options := re.fullmatch(r"pass (.+)", fix)) is not None:
            errors.append(measure_shape(score(stored, truth, options[1])))
    assert errors, "a fix that can be executed is printed"
    assert min(errors) < 0.08
    assert errors[0] == min(errors) or max(errors) < 0.2


@pytest.mark.parametrize("meaning", ["inverse depth", "a logarithm of depth"])
def test_the_fix_of_a_meaning_of_the_truth_is_executed(tmp_path: Path, meaning: str) -> None:
    pairs = make_pairs()
    stored = write_maps(tmp_path / "p", [predicted for predicted, _ in pairs])
    maps = [WRITTEN[meaning](true) for _, true in pairs]
    truth = write_maps(tmp_path / "truth", maps)
    fixes = " ".join(find_fixes(stored, truth))
    formula = re.search(r"store (numpy\.\w+\(value\))|(1 / value)", fixes)
    assert formula is not None, fixes
    changed = [eval(formula[1] or formula[2], {"numpy": np}, {"value": values}) for values in maps]
    assert measure_shape(score(stored, write_maps(tmp_path / "changed", changed))) < 0.08


def test_the_fix_of_a_filler_is_executed(tmp_path: Path) -> None:
    pairs = make_pairs()
    maps = [true.copy() for _, true in pairs]
    for values in maps:
        values[:25] = 65.5
    stored = write_maps(tmp_path / "p", [predicted for predicted, _ in pairs])
    (fix,) = find_fixes(stored, write_maps(tmp_path / "truth", maps))
    filler = re.fullmatch(r"write 0 in place of (\S+)", fix)
    assert filler is not None
    changed = [np.where(values == float(filler[1]), 0, values) for values in maps]
    assert measure_shape(score(stored, write_maps(tmp_path / "changed", changed))) < 0.08


def test_the_fix_of_interpolated_truth_is_executed(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pairs = make_pairs()
    large = [cv2.resize(true, (320, 240)) for _, true in pairs]
    sparse = [np.where(rng.random(values.shape) < 0.3, values, 0) for values in large]
    stored = write_maps(tmp_path / "p", [predicted for predicted, _ in pairs])
    smaller = [cv2.resize(values, (160, 120), interpolation=cv2.INTER_LINEAR) for values in sparse]
    (fix,) = find_fixes(stored, write_maps(tmp_path / "truth", smaller))
    method = re.fullmatch(r"resize it with cv2\.(INTER_\w+)", fix)
    assert method is not None
    changed = [cv2.resize(values, (160, 120), interpolation=getattr(cv2, method[1])) for values in sparse]
    assert measure_shape(score(stored, write_maps(tmp_path / "changed", changed))) < 0.1
