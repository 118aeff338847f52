"""`stadia predict` and `stadia evaluate` with `objectpose`, and scores of other programs' results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from stadia.core.errors import ConfigError
from stadia.core.progress import TrackProgress
from stadia.core.types import Camera
from stadia.core.verdict import Verdict
from stadia.data.frame_preparation import Frame, needs_padding, pad_to_aspect
from stadia.data.frame_store import ReportProgress, resize_image
from stadia.differentiable.batch import Meta
from stadia.evaluation.predictions_folder import Provenance
from stadia.geometry.cameras import resize_K
from stadia.geometry.conventions import OPENGL, transpose_rotations, turn_translations
from stadia.geometry.poses import invert_pose
from stadia.objectpose.data.bop import BopImages, BopResult, read_results, to_boxes, write_results
from stadia.objectpose.data.object_data import (
    ObjectData,
    ObjectInput,
    ScoredImages,
    open_object_inputs,
    select_scored_images,
)
from stadia.objectpose.data.object_labels import ObjectImages, Points
from stadia.objectpose.data.object_samples import ObjectSamples
from stadia.objectpose.data.open_objects import open_object_images, unwrap_bop
from stadia.objectpose.metrics import ImageComparison, PosedObjects, match_hungarian
from stadia.objectpose.predictions import ObjectPredictions, resize_instances, write_object_predictions
from stadia.objectpose.recipe import ObjectPoseRecipe, compare_images
from stadia.objectpose.scores import (
    COUNTED_OBJECTS,
    ObjectScore,
    add_recall,
    boxes_to_objects,
    image_name,
    read_estimates,
    score_estimates,
)
from stadia.predict.describe import describe, describe_end
from stadia.predict.options import EvaluateOptions, PredictOptions
from stadia.predict.tasks import LabeledSet, ScoreOutput, Task
from stadia.training.loading.loader import Loader
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.build_recipe import load_recipe

MAX_EXPLAINED_RECALL = 0.6  # ADD recall from which on no convention is searched
MIN_RECALL_GAIN = 0.15  # ADD recall with another convention less that as given
MAX_EXPLAINED_IMAGES = 40  # images, spread over the split, that hypotheses are scored on

POSE_CONVENTIONS: Mapping[str, tuple[str, Callable[[Points], Points]]] = {
    "R by columns, or transposed": ("write R row by row", transpose_rotations),
    "model-to-camera given as camera-to-model": ("invert each pose", invert_pose),
    "camera axes of OpenGL (y up, z backward)": (
        "multiply each pose from the left by diag(1, -1, -1, 1)",
        lambda T: OPENGL.T_axes_camera @ T,
    ),
    "model axes with y and z exchanged (z up against y up)": (
        "turn the model's axes by 90 degrees about x",
        lambda T: T @ np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
    ),
    "t in centimetres": ("multiply t by 10", lambda T: T * np.array([[1.0, 1, 1, 10]] * 3 + [[1.0] * 4])),
    "R transposed, and t of the inverse": (
        "invert each pose, with R by rows",
        lambda T: transpose_rotations(turn_translations(T)),
    ),
}
"""For each mistake in a file of poses: the fix, and a function to the pose T_camera_model that was meant."""


def note_pose_convention(images: ObjectImages, results: Path, recall: float | None) -> list[str]:
    """Return a note if the ADD recall of a BOP csv is bad and another pose convention improves it."""
    if not isinstance(images, BopImages) or recall is None or recall >= MAX_EXPLAINED_RECALL:
        return []
    rows = read_results(results)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MAX_EXPLAINED_IMAGES)).astype(int)).tolist()
    part = images.part(chosen)
    known = set(part.ids)
    kept = [row for row in rows if (row.scene_id, row.im_id) in known]

    def measure(change: Callable[[Points], Points]) -> float:
        changed = [replace(row, T_camera_model=change(row.T_camera_model)) for row in kept]
        return float(add_recall(part, to_boxes(changed, part, results))["add_recall"] or 0)

    as_given = measure(lambda T: T)
    tried = {**POSE_CONVENTIONS, **list_scales(part, kept)}
    recalls = {name: measure(change) for name, (_, change) in tried.items()}
    best = max(recalls, key=lambda name: recalls[name])
    if recalls[best] < as_given + MIN_RECALL_GAIN:
        return []
    gain = f"add_recall is {recalls[best]:.3g} instead of {as_given:.3g} (of {len(chosen)} images)"
    return [f"{gain} if the poses are read as {best}. Fix: {tried[best][0]}"]


MIN_SCALE = 0.03
"""Least difference of the median distance of estimates from that of the labels, as a natural logarithm, from which t
may have another scale.
"""


def list_scales(part: BopImages, rows: Sequence[BopResult]) -> dict[str, tuple[str, Callable[[Points], Points]]]:
    """Return the factor of t that puts the estimates as far away as the labels, as an entry of POSE_CONVENTIONS."""
    true = [box.T_camera_object for index in range(len(part)) for box in part.boxes(index)]
    if not true or not rows:
        return {}
    found_m, true_m = (
        float(np.median([np.linalg.norm(T[:3, 3]) for T in Ts])) for Ts in ([row.T_camera_model for row in rows], true)
    )
    if not found_m > 0 or abs(np.log(true_m / found_m)) < MIN_SCALE:
        return {}
    factor = true_m / found_m
    scale = np.array([[1.0, 1, 1, factor]] * 3 + [[1.0] * 4])
    what = f"those of a mesh {1 / factor:.3g} times as large as the models, or of another focal length"
    return {what: (f"multiply t by {factor:.3g}", lambda T: T * scale)}


CSV = "bop.csv"
WORST_DRAWN = 8  # drawn images, with the largest rotation errors; a missed object counts 180 degrees


@dataclass(frozen=True, kw_only=True)
class LabeledObjects(LabeledSet):
    """Images of objects to score.

    write_csv: also write and score a BOP csv, for BOP data.
    """

    images: ObjectImages
    write_csv: bool = True


@dataclass(frozen=True)
class EvaluatedObjects:
    """The scores of objects, and of the BOP csv."""

    score: ObjectScore
    csv_scores: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the scores that are printed."""
        scores = self.score.summary()
        shown = {"images": scores["images"], "objects counted": COUNTED_OBJECTS, **scores["metrics"]}
        if self.csv_scores:
            numbers = {key: value for key, value in self.csv_scores.items() if not isinstance(value, dict)}
            shown |= {CSV: {"as --objects scores it": numbers}}
        return {**shown, "class": scores["per_class"], "as published": {"nocs_compat": scores["nocs_compat"]}}

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write the score as FOLDER/NAME.json, and return the files."""
        of_csv = {"bop_csv": self.csv_scores} if self.csv_scores else {}
        return [self.score.write(folder / f"{name}.json", {**about, **of_csv})]


class ObjectPoseTask(Task):
    """Predict boxes, masks and poses of objects, as drawings, JSON and csv."""

    recipe: ObjectPoseRecipe

    def open(self, source: Path, options: PredictOptions) -> "Sequence[ObjectSession]":
        """Open images, as one session for each recording or set of objects."""
        self.refuse_unused(options, {"data", "every"})
        provenance = self.network.make_provenance(options)
        inputs = open_object_inputs(source, every=options.every, **options.data)
        return [ObjectSession(self.recipe, given, provenance) for given in inputs]

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> LabeledObjects:
        self.refuse_unused(options, {"data", "every", "held_out"})
        run = self.network.checkpoint.run_folder
        chosen = select_scored_images(self.recipe.classes, self.recipe.config.data, data, options, run)
        about = {"split": chosen.split, "trained_on": chosen.trained_on, "of_trained_scenes": chosen.of_trained_scenes}
        name = f"{data.resolve().name}-{chosen.split}"
        return LabeledObjects(
            name=name, about=about, summary={**about, "notes": list(chosen.notes)}, images=chosen.images
        )

    def open_validation(self, data: ObjectData, run: Run) -> list[LabeledObjects]:
        return [LabeledObjects(name="val", images=data.images["val"], write_csv=False)]

    def score(self, labeled: LabeledObjects, out: ScoreOutput, track: TrackProgress) -> EvaluatedObjects:
        score, rows = score_images(self.recipe, labeled.images, out.predictions, out.provenance, track)
        if not labeled.write_csv:
            return EvaluatedObjects(score)
        if rows:
            write_results(out.predictions / CSV, rows)
        bop = unwrap_bop(labeled.images)
        return EvaluatedObjects(score, {} if bop is None else score_estimates(bop, to_boxes(rows, bop)))


@dataclass(frozen=True)
class WrittenObjects:
    """A finished prediction of objects, with counts.

    padded: number of images that were padded because their shape differs from the training's.
    """

    name: str
    folder: Path
    objects: int
    images: int
    padded: int
    has_other_classes: bool

    checks: Mapping[str, Any] = field(default_factory=lambda: {"verdict": Verdict.NOT_JUDGED, "findings": []})


@dataclass(frozen=True)
class ObjectSession:
    """Finds objects in images."""

    recipe: ObjectPoseRecipe
    given: ObjectInput
    provenance: Provenance

    @property
    def name(self) -> str:
        """Return the name of the input."""
        return self.given.name

    @property
    def count(self) -> int | None:
        """Return the number of images."""
        return self.given.count

    def start(self) -> None:
        """Do nothing, because nothing is measured before the first image."""

    def write(self, folder: Path, track: TrackProgress) -> WrittenObjects:
        """Write boxes, masks and poses of the objects as drawings, JSON and csv."""
        recipe, data, given = self.recipe, self.recipe.config.data, self.given
        rows: list[BopResult] = []
        bop = unwrap_bop(given.images) if given.images is not None else None
        has_meshes = bop is not None and bop.classes == recipe.classes
        padded = 0

        def find() -> Iterator[ObjectPredictions]:
            nonlocal padded
            for number, frame in enumerate(track(given.frames, given.count, f"finding objects in {given.name}")):
                predicted = find_objects_in_frame(recipe, frame)
                yield predicted
                scene_id, im_id = bop.ids[number * given.every] if bop is not None else (0, number)
                rows.extend(_rows(predicted.objects, scene_id, im_id, bop if has_meshes else None, recipe.classes))
                padded += needs_padding(frame, data.height, data.width, data.pixel_ratio or 1.0)

        entries = write_object_predictions(folder, recipe.classes, self.provenance, find())
        write_results(folder / CSV, rows)
        objects = sum(len(entry["objects"]) for entry in entries)
        has_other_classes = bop is not None and not has_meshes
        return WrittenObjects(given.name, folder, objects, len(entries), padded, has_other_classes)


@describe.register
def _(session: ObjectSession) -> Iterator[str]:
    yield from session.given.camera_lines()


@describe.register
def _(result: WrittenObjects) -> Iterator[str]:
    yield (
        f"{result.folder}: {_plural(result.objects, 'object')} in {_plural(result.images, 'image')} of {result.name}"
    )
    if result.has_other_classes:
        yield (
            "note: the dataset has other classes than the run. In the csv, obj_id is the number of the run's class,"
            " and poses use stadia's object frame, not the meshes' frame"
        )
    if result.padded:
        yield f"note: {_plural(result.padded, 'image')} padded to the shape of the training"


@describe_end.register
def _(result: WrittenObjects) -> Iterator[str]:
    yield "score: the mean probability of an object's class, not how good its pose is"
    yield "poses are in metres; a wrong focal length scales every distance"
    yield "note: images unlike the training's give wrong objects, which no check detects"


@torch.inference_mode()
def find_objects_in_frame(recipe: ObjectPoseRecipe, frame: Frame) -> ObjectPredictions:
    """Return the objects that are found in an image of any size. Its K determines their positions in metres."""
    data = recipe.config.data
    padding = pad_to_aspect(frame, data.height, data.width, data.pixel_ratio or 1.0)
    image, K = padding.image, padding.K
    size = image.shape[0], image.shape[1]
    device = next(recipe.parameters()).device
    resized = torch.from_numpy(resize_image(image, data.height, data.width)).to(device).permute(2, 0, 1)[None] / 255
    resized_K = torch.from_numpy(resize_K(K, size, data.height, data.width)).float().to(device)[None]
    found = recipe.find(resized, Camera(resized_K, data.height, data.width))
    instance = padding.window.cut(resize_instances(found.instance[0], *size))
    return ObjectPredictions(
        frame.name,
        frame.image,
        frame.K,
        instance,
        found.objects.to("cpu"),
        center_known=found.center_known.cpu().numpy(),
    )


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _rows(
    objects: PosedObjects, scene_id: int, im_id: int, images: BopImages | None = None, classes: Sequence[str] = ()
) -> list[BopResult]:
    """Return rows of a BOP csv, in the frames of BOP's meshes if any, else in stadia's."""
    rows = []
    by_name = {model.name: model for model in images.models.values()} if images is not None else {}
    for row in range(len(objects)):
        T, number = objects.T_camera_object[row].double().numpy(), int(objects.class_id[row])
        if by_name:
            model = by_name[classes[number]]
            T, number = T @ model.T_object_model, model.obj_id
        rows.append(BopResult(scene_id, im_id, number, float(objects.score[row]), T))
    return rows


@torch.inference_mode()
def score_images(
    recipe: ObjectPoseRecipe, images: ObjectImages, folder: Path, provenance: Provenance, track: TrackProgress
) -> tuple[ObjectScore, list[BopResult]]:
    """Find objects in images, compare them with the labels, and draw the worst images.

    Returns the score, and for BOP data the rows of a csv.
    """
    data = recipe.config.data
    samples = ObjectSamples([images], height=data.height, width=data.width)
    device = next(recipe.parameters()).device
    loader = Loader(samples, batch_size=8, shuffle=False, device=device)
    compared: list[tuple[Meta, ImageComparison]] = []
    results: list[BopResult] = []
    bop = unwrap_bop(images)
    for batch in track(loader, len(loader), f"finding objects in {images.name}"):
        found = recipe.find(batch.inputs.image, batch.inputs.camera)
        compared += zip(batch.meta, compare_images(found, batch.targets), strict=True)
        if bop is not None:
            for row, meta in enumerate(batch.meta):
                objects = found.of_image(row).to("cpu")
                results += _rows(objects, *bop.ids[meta.index], images=bop, classes=recipe.classes)
    score = ObjectScore(recipe.classes, list(dict(compared).items()))  # each image counts once
    _draw_worst(recipe, images, score, folder, provenance)
    return score, results


def _draw_worst(
    recipe: ObjectPoseRecipe, images: ObjectImages, score: ObjectScore, folder: Path, provenance: Provenance
) -> None:
    worst = sorted(score.images, key=lambda scored: _largest_and_mean_error(scored[1]), reverse=True)[:WORST_DRAWN]

    def find() -> Iterator[ObjectPredictions]:
        for meta, _ in worst:
            name = image_name(meta).replace("/", "-")
            K = images.camera(meta.index).K
            found = find_objects_in_frame(recipe, Frame(name, images.image(meta.index), K))
            yield replace(found, true=boxes_to_objects(images.boxes(meta.index)))

    write_object_predictions(folder / "worst", recipe.classes, provenance, find())


def _largest_and_mean_error(comparison: ImageComparison) -> tuple[float, float]:
    pairs = match_hungarian(comparison.mask_iou, comparison.same_class)
    errors = [*comparison.rotation_deg[pairs.predicted, pairs.true].tolist(), *[180.0] * len(pairs.false_negatives)]
    return (max(errors), fmean(errors)) if errors else (-1.0, -1.0)


def score_results(results: Path, reference: Path, split: str | None, held_out_of: Path | None = None) -> dict[str, Any]:
    """Return the scores of results on a split ("test" by default), or on the images that a run held out.

    Raises StadiaError for results that cannot be scored.
    """
    if held_out_of is None:
        split = split or "test"
        images = open_object_images(reference, split)
        scores = score_estimates(images, read_estimates(images, results))
        return {"split": split, **scores, "notes": note_pose_convention(images, results, scores.get("add_recall"))}
    chosen = _held_out(reference, split, held_out_of)
    whole = open_object_images(reference, chosen.split)
    found = read_estimates(whole, results)
    files = [chosen.images.file(index) for index in range(len(chosen.images))]
    of_file = {whole.file(index): boxes for index, boxes in enumerate(found)}
    kept = [of_file[file] for file in files]
    notes = [*chosen.notes, f"the {len(files)} of {len(whole)} images of '{chosen.split}' that {held_out_of} held out"]
    if left := sum(map(len, found)) - sum(map(len, kept)):
        notes.append(f"left out {left} estimates of other images")
    return {"split": chosen.split, "notes": notes, **score_estimates(unwrap_bop(chosen.images) or chosen.images, kept)}


def _held_out(reference: Path, split: str | None, run: Path) -> ScoredImages:
    checkpoint = Checkpoint.open(run)
    recipe = load_recipe(checkpoint)
    if recipe.recipe != "objectpose":
        raise ConfigError("--held-out-of", found=f"a run of '{recipe.recipe}'", expected="a run of objectpose")
    options = {} if split is None else {"split": split}
    chosen = EvaluateOptions(data=options, held_out=True)
    return select_scored_images(
        recipe.config.data.classes, recipe.config.data, reference, chosen, checkpoint.run_folder
    )
