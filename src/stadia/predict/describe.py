"""Describe networks, sessions, results and verdicts in lines of text. Does not import PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import DepthScale
from stadia.core.verdict import Verdict
from stadia.data.config import SET_CAMERA
from stadia.evaluation.predictions_folder import Predictions
from stadia.judge.catalog import CATALOG
from stadia.predict.networks import DEFAULT_NETWORK
from stadia.predict.options import PredictOptions, network_size_notes, requested_size, size_text, trained_size
from stadia.predict.run import Session, WrittenPrediction
from stadia.predict.training_overlap import note_trained
from stadia.predict.trust import describe_trust
from stadia.scale.scale_receipt import ScaleReceipt, describe_receipt

if TYPE_CHECKING:
    from pathlib import Path

    from stadia.data.frame_preparation import PredictedFrame
    from stadia.predict.backends import BackendChoice
    from stadia.predict.network import Network
    from stadia.predict.tape import TapeCalibration

NINETY_PERCENT = 1.645  # deviations that hold 90 % of a normal distribution
MAX_PRECISION_COST = 0.02
"""Median relative difference of depth from float32 above which a note is printed."""

MAX_UNIT = 2.0  # factor on the metres of a network, from which a warning is printed


@singledispatch
def describe(thing: Any) -> Iterator[str]:
    """Yield the lines about a session before its first frame, or about its result.

    Each type has its own function (`singledispatch`), which the tasks register.
    """
    raise TypeError(f"nothing describes a {type(thing).__name__}")


@singledispatch
def describe_end(result: Any) -> Iterator[str]:
    """Yield the last lines of a command, which describe what the predictions mean. Each type of result registers its
    own function.
    """
    raise TypeError(f"nothing describes the end of a {type(result).__name__}")


def describe_closing(results: Iterable[Any]) -> Iterator[str]:
    """Yield the lines of `describe_end` for all predictions of a command, each line once."""
    yield from dict.fromkeys(line for result in results for line in describe_end(result))


def describe_network(network: Network) -> Iterator[str]:
    """Yield lines with the network's name, image size and licence."""
    from stadia.predict.networks.published_networks import describe_licence

    size = trained_size(network.trained_with)
    if not network.has_own_size:
        yield f"{network.name}: predicts at {size_text(size or (0, 0))}"
        yield from filter(None, [describe_licence(network.licence)])
        return
    header, at = network.checkpoint.header, "" if size is None else f", trained at {size_text(size)}"
    yield f"reading {network.checkpoint.path}: {header.recipe}, step {header.step}{at}"


def describe_opened(network: Network, counts: Iterable[int | None], options: PredictOptions) -> Iterator[str]:
    """Yield notes about the limits of a network for an input.

    network: the network.
    counts: number of frames of each recording; None if unknown.
    options: options of the prediction.
    """
    trained = network.trained_with
    yield from (f"note: {note}" for note in network_size_notes(requested_size(options.size, trained), trained))
    yield from (f"note: {note}" for note in network.list_limits(list(counts)))


@describe.register
def describe_session(session: Session) -> Iterator[str]:
    """Yield lines with the camera, the backend, how the scale was measured, and why no map gives the trajectory."""
    session.start()
    yield from session.input.camera_lines()
    if session.is_first:
        yield from _describe_backend(session)
    if session.receipt is not None:
        yield from describe_receipt(session.receipt)
        factor, is_metric = session.receipt.factor, session.network.depth_scale is DepthScale.METRES
        if is_metric and not 1 / MAX_UNIT <= factor <= MAX_UNIT:
            yield f"warn: depth is {factor:.2g} times what the network predicts. Check the length and the field of view"
    if session.path.lacks_map:
        camera = " (first set its camera with `stadia camera`)" if session.input.camera_is_assumed else ""
        yield f"note: the path uses predicted depth. `stadia map {session.source}`{camera} finds one without it"
    if session.path.problem:
        yield f"note: the path uses predicted depth. The map of the video was not used: {session.path.problem}"


def _describe_backend(session: Session) -> Iterator[str]:
    if session.options.has_default_backend or not session.network.predicts_motion:
        return
    choice = session.options.backend_choice
    yield describe_backend_choice(choice)
    yield from describe_cost(choice.precision, getattr(session.predictor, "precision_cost", None))


def describe_backend_choice(choice: BackendChoice) -> str:
    """Return the note that another runtime or precision is used."""
    if choice.is_torch:
        return f"note: the networks compute in {choice.precision}"
    return f"note: {choice.backend} runs the networks in {choice.precision}"


def describe_cost(precision: str, cost: Mapping[str, float] | None) -> Iterator[str]:
    """Yield a note with how much depth in this precision differs from float32; nothing if it was not measured.

    precision: name of the precision.
    cost: median relative difference and number of compared frames, or None.
    """
    if cost is None:
        return
    difference = cost["median_relative_difference"]
    frames = f"{cost['frames']:.0f} frames of this input"
    yield f"note: {precision} differs from float32 by {difference:.2%} (median over {frames})"
    if not difference <= MAX_PRECISION_COST:
        yield f"note: this is more than {MAX_PRECISION_COST:.0%}. Use --precision float32 if you measure"


def describe_calibration(calibration: TapeCalibration) -> Iterator[str]:
    """Yield the lines about metres that were measured by tape: lengths, factor, and what it does not explain."""
    kept = calibration.kept
    for one in calibration.measurements:
        scaled = kept.factor * one.predicted
        yield f"{one.picture}: measured {one.metres:g} m, calibrated {scaled:.3g} m ({scaled / one.metres - 1:+.0%})"
    count = f"{kept.measurements} lengths in {kept.pictures} pictures"
    yield f"factor {kept.factor:.3f} +- {kept.factor * kept.factor_deviation:.3f} for {calibration.network}, by {count}"
    yield f"depth at a pixel of another picture: +- {kept.depth_deviation:.0%}"
    doubling, of_doubling = 2**kept.range_error - 1, math.log(2) * kept.range_deviation
    if kept.grows_with_depth:
        yield (
            f"warn: one factor does not explain the lengths: they grow by {doubling:+.0%} +- {of_doubling:.0%} for"
            " each doubling of depth. Use the network at the measured distances only"
        )
    if kept.has_wrong_focal:
        yield (
            f"warn: lengths across the image need {kept.focal_ratio:.2f} +- {kept.focal_deviation:.2f} times the focal"
            f" length: it is probably wrong. Fix: {SET_CAMERA}, then calibrate again"
        )
    if not kept.grows_with_depth and not kept.has_wrong_focal:
        yield f"a factor explains them (change per doubling of depth {doubling:+.0%} +- {of_doubling:.0%})"
    if kept.pictures < 2:
        yield "note: the scale changes from picture to picture. Add a picture"
    yield f"kept in {calibration.file}: predict, live and export --camera use it"


@singledispatch
def summarize(result: Any) -> Iterator[str]:
    """Yield the short lines about a result, while `describe` yields all lines; each type may register its own
    function.
    """
    yield from describe(result)


@summarize.register
def summarize_result(result: WrittenPrediction) -> Iterator[str]:
    """Yield the short lines about a prediction: the verdict with its main reason."""
    yield from _describe_prediction(result, summarize_verdict)


@describe.register
def describe_result(result: WrittenPrediction) -> Iterator[str]:
    """Yield all lines about a written prediction: the files, the verdict with every finding, and notes."""
    yield from _describe_prediction(result, verdict_lines)


def _describe_prediction(
    result: WrittenPrediction, describe_verdict: Callable[[Mapping[str, Any]], Iterator[str]]
) -> Iterator[str]:
    session, record = result.session, result.predictions.record
    yield from prediction_lines(result.folder, result.predictions, describe_verdict, photo=session.photo)
    if session.count == 1 and session.network.name == DEFAULT_NETWORK:
        yield from _describe_middle(session)
    if session.path.mapped is not None:
        yield from session.path.mapped.lines(session.predictor.depth_scale)
    if record is not None and result.trained:
        yield f"note: {note_trained(result.trained, len(record.entries))}"
    if session.receipt is not None:
        yield from _describe_limit_of_scale(session.receipt, Verdict(result.checks["verdict"]))
    if result.unrecorded:
        yield f"note: {result.unrecorded}"


def _describe_limit_of_scale(receipt: ScaleReceipt, verdict: Verdict) -> Iterator[str]:
    if verdict.is_worse_than(receipt.verdict):
        yield f"scale: {verdict}, like the depth (its measurements alone are {receipt.verdict})"


def list_files(folder: Path) -> str:
    """Return a line that lists the files and folders in a folder."""
    names = (f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir()))
    return f"files: {', '.join(names)}"


def prediction_lines(
    folder: Path,
    predictions: Predictions,
    describe_verdict: Callable[[Mapping[str, Any]], Iterator[str]] | None = None,
    *,
    photo: PredictedFrame | None = None,
) -> Iterator[str]:
    """Yield the number of predicted frames, the end of the trajectory, and the verdict.

    folder: folder of the predictions.
    predictions: the predictions in it.
    describe_verdict: yields the lines of the verdict; None takes `verdict_lines`.
    photo: the prediction of the only image if it is in memory; otherwise it is read from the folder.
    """
    posed = len(predictions.record.path) if predictions.record else 0
    frames = len(predictions.files)
    checks = (predictions.record.checks if predictions.record else None) or {}
    if frames == 1 and checks.get("verdict") == Verdict.NOT_JUDGED:
        depth = predictions.read(next(iter(predictions.files))) if photo is None else photo.depth()
        yield f"{folder}: {describe_range(depth, predictions.depth_scale)}. One photo cannot be checked"
        return
    if frames == 1:
        yield f"{folder}: one frame"
    else:
        yield f"{folder}: {frames} frames, {posed or 'none'} with a pose (`path` in predictions.json)"
    if predictions.record and predictions.record.path_ends:
        yield f"note: {predictions.record.path_ends}"
    if predictions.record and (count := predictions.record.not_aligned):
        advice = "; do not rely on the path" if 2 * count > posed - 1 else ""
        yield f"note: {count} of {posed - 1} motions of the path come from the pose network alone{advice}"
    if predictions.record and predictions.record.checks:
        yield from (describe_verdict or verdict_lines)(predictions.record.checks)


def describe_range(depth: NDArray[np.floating], depth_scale: DepthScale) -> str:
    """Return words for the range of the depth: from the 5th to the 95th percentile, widened to contain the middle
    pixel.

    depth: (h, w), 0 where unknown.
    depth_scale: kind of scale, which gives the unit.

    Examples:
        >>> describe_range(np.array([[4.0, 4, 4], [4, 2, 4], [4, 4, 8]]), DepthScale.METRES)
        'depth 2 to 6.4 m'
    """
    known = depth[np.isfinite(depth) & (depth > 0)]
    if depth_scale.is_affine or not known.size:
        return "one map of near and far"
    near, far = np.percentile(known, (5, 95)).tolist()
    middle = depth[depth.shape[0] // 2, depth.shape[1] // 2]
    if np.isfinite(middle) and middle > 0:
        near, far = min(near, float(middle)), max(far, float(middle))
    unit = " m" if depth_scale is DepthScale.METRES else ", up to scale"
    return f"depth {near:.3g} to {far:.3g}{unit}"


def _describe_middle(session: Session) -> Iterator[str]:
    """Yield the depth of a photo's middle pixel and its 90 % interval; nothing without metres."""
    from stadia.predict.networks.base import INTERVAL_IN_METRES, INTERVAL_WITH_A_LENGTH, find_depth_interval

    photo, receipt = session.photo, session.receipt
    if photo is None or photo.log_uncertainty is None or photo.depth_scale is not DepthScale.METRES:
        return
    depth_m = photo.depth()
    middle = depth_m.shape[0] // 2, depth_m.shape[1] // 2
    if not depth_m[middle] > 0:
        return
    is_scaled = receipt is not None and receipt.verdict != Verdict.UNUSABLE
    spread = INTERVAL_WITH_A_LENGTH if is_scaled else INTERVAL_IN_METRES
    of_scale = math.exp(NINETY_PERCENT * receipt.deviation) if is_scaled and receipt is not None else 1.0
    near, far = find_depth_interval(depth_m[middle], photo.log_uncertainty[middle], spread)
    near, far = near / of_scale, far * of_scale
    yield f"At the middle: {depth_m[middle]:.3g} m. The true distance is most likely {near:.3g} to {far:.3g} m (90 %)."


@describe_end.register
def describe_trust_of(result: WrittenPrediction) -> Iterator[str]:
    """Yield the line about what users can rely on in a prediction."""
    yield trust_line(result.predictions)


def trust_line(predictions: Predictions) -> str:
    """Return a line about how far to trust predictions."""
    record = predictions.record
    return f"trust: {record.trust if record else describe_trust(predictions.depth_scale, None).text}"


def verdict_lines(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdict in predictions.json, a line for each question, each finding, and each check that could not be
    made.

    checks: the entry `checks` of predictions.json.
    """
    yield f"predictions: {checks['verdict']}"
    yield from describe_questions(checks)
    code_of_fix: dict[str, str] = {}
    for finding in checks["findings"]:
        headline = f"{finding['severity']} {_describe_code(finding['code'])}"
        yield f"  {headline}: {finding['measured']}; expected {finding['expected']}"
        first = code_of_fix.setdefault(finding["fix"], finding["code"])
        yield f"    fix: {finding['fix'] if first == finding['code'] else f'as for {first}'}"
    if isinstance(flicker := checks.get("flicker"), float):
        yield f"  flicker: depth of neighboring frames differs by {flicker:.1%}"
    found = {finding["code"] for finding in checks["findings"]}
    for code, reason in checks["not_checked"].items():
        if code not in found:  # an earlier verdict of the run may have found it
            yield f"  not checked: {_describe_code(code)}: {reason}"


def describe_questions(checks: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each question: its verdict, the reason and the basis. Older files have no questions.

    checks: the entry `checks` of predictions.json.
    """
    for question, judged in checks.get("questions", {}).items():
        basis = f" [{judged['basis']}]" if judged["basis"] else ""
        reason = f": {judged['reason']}" if judged["reason"] else ""
        yield f"  {question}: {judged['verdict']}{reason}{basis}"


PARTS = {"depth": "order and shape of the depth", "scale": "metres", "path": "path", "camera": "field of view"}


def describe_parts(checks: Mapping[str, Any]) -> str:
    """Return the verdict on each judged question in one line, for the top of a page; "" if none is judged.

    checks: the entry `checks` of predictions.json.

    Examples:
        >>> depth = {"verdict": "usable", "reason": "off by 7% at the points of the map (near 18%)"}
        >>> describe_parts({"questions": {"depth": depth, "scale": {"verdict": "doubtful", "reason": ""}}})
        'Order and shape of the depth: usable, off by 7% at the points of the map; metres: doubtful'
    """
    texts = []
    for name, judged in checks.get("questions", {}).items():
        if judged["verdict"] != Verdict.NOT_JUDGED:
            error = judged["reason"].partition(" (")[0]
            texts.append(f"{PARTS[name]}: {judged['verdict']}" + f", {error}" * error.startswith("off by"))
    text = "; ".join(texts)
    return text[:1].upper() + text[1:]


def describe_headline(checks: Mapping[str, Any], short: str) -> str:
    """Return the word on top of a page about predictions: what is usable, and the error of the metres if they are not.

    checks: the entry `checks` of predictions.json.
    short: the error in a few words, of `describe_trust`.

    Examples:
        >>> grades = {"depth": "usable", "scale": "doubtful", "path": "usable"}
        >>> questions = {name: {"verdict": grade} for name, grade in grades.items()}
        >>> describe_headline({"verdict": "usable", "questions": questions}, "± 31 %")
        'Depth and path usable, metres ± 31 %'
        >>> describe_headline({"verdict": "doubtful", "questions": questions}, "± 31 %")
        'doubtful'
    """
    grades = {name: judged["verdict"] for name, judged in checks.get("questions", {}).items()}
    usable = [name for name in ("depth", "path") if grades.get(name) == Verdict.USABLE]
    if checks["verdict"] != Verdict.USABLE or not usable or grades.get("scale") != Verdict.DOUBTFUL:
        return str(checks["verdict"])
    return f"{' and '.join(usable).capitalize()} usable, metres {short if short.startswith('±') else 'doubtful'}"


def summarize_verdict(checks: Mapping[str, Any], more: str = "--verbose") -> Iterator[str]:
    """Yield the verdict in predictions.json with its main reason and how to fix it.

    checks: the entry `checks` of predictions.json.
    more: words for the place of the other reasons.
    """
    severe = [finding for finding in checks["findings"] if finding["severity"] != "note"]
    main = next((finding for finding in severe if finding["severity"] == "stop"), severe[0] if severe else None)
    if main is None:
        yield f"predictions: {checks['verdict']}"
        yield from describe_questions(checks)
        return
    yield f"predictions: {checks['verdict']}: {_describe_code(main['code'])}: {main['measured']}"
    yield from describe_questions(checks)
    yield f"  fix: {main['fix']}"
    others = ", ".join(finding["code"] for finding in severe if finding is not main)
    yield f"  {f'also {others}; ' * bool(others)}{more} and `stadia explain {main['code']}` say more"


def _describe_code(code: str) -> str:
    return f"{code} {CATALOG[code].title if code in CATALOG else '(unknown code)'}"
