"""Errors of single objects: known angles and shifts, units, symmetry, and distances of models against plain loops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.geometry.poses import from_rotation_translation, se3_exp, so3_exp
from stadia.objectpose import OBJECT_METRICS
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.metrics import (
    NOCS_COMPAT_RULES,
    ORIENTED_BOX_RULES,
    ApRules,
    ImageComparison,
    PosedObjects,
    add_m,
    add_s_m,
    compare_objects,
    match_greedy,
    match_hungarian,
    matched_scores,
    mean_average_precisions,
)

F64 = torch.float64
METRICS = {name: OBJECT_METRICS.load(name) for name in OBJECT_METRICS}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def objects(
    T: Tensor, size_m: Tensor | None = None, symmetry: Sequence[str | list[tuple[float, ...]]] | None = None
) -> PosedObjects:
    n = len(T)
    size_m = torch.tensor([[0.1, 0.2, 0.3]]).expand(n, 3) if size_m is None else size_m
    return PosedObjects(
        torch.ones(n, dtype=torch.long), T, size_m, Symmetry.parse(symmetry or ["none"] * n), torch.rand(n)
    )


def turned(T: Tensor, axis: tuple[float, float, float], degrees: float) -> Tensor:
    """The objects turned in their own frames."""
    turn = from_rotation_translation(
        so3_exp(math.radians(degrees) * torch.tensor(axis, dtype=F64)), torch.zeros(3, dtype=F64)
    )
    return T @ turn


def poses(n: int) -> Tensor:
    return se3_exp(torch.randn(n, 6, dtype=F64))


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 5.0, 12.0, 90.0, 179.9, 180.0])
def test_five_degrees_are_five_degrees(degrees: float):
    T = poses(20)
    axis = (0.6, 0.0, 0.8)
    for dtype in (F64, torch.float32):
        found = METRICS["rotation_error_deg"](objects(turned(T, axis, degrees).to(dtype)), objects(T.to(dtype)))
        assert_close(found, torch.full((20,), degrees, dtype=F64), atol=1e-4, rtol=0)


def test_the_symmetry_of_truth_counts():
    T = poses(3)
    spun = turned(T, (0.0, 1.0, 0.0), 180.0)
    true = objects(T, symmetry=["none", "revolution", [(0.0, 0.0, 1.0, 0.0)]])
    assert METRICS["rotation_error_deg"](objects(spun), true).tolist() == pytest.approx([180, 0, 0], abs=1e-5)
    assert METRICS["rotation_error_deg"](true, objects(spun)).tolist() == pytest.approx([180, 180, 180], abs=1e-5)
    quarter = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), 90.0)), true)
    assert quarter.tolist() == pytest.approx([0.01 / (0.03 + 0.03 - 0.01), 1, 0.01 / (0.03 + 0.03 - 0.01)])


def test_the_exact_overlap_of_a_perfect_bottle_is_1_whatever_its_yaw():
    T = poses(40)
    for degrees in (9.0, 27.0, 45.0, 63.0):
        bottle = objects(T, torch.tensor([0.1, 0.3, 0.1]).expand(40, 3), symmetry=["revolution"] * 40)
        spun = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), degrees), bottle.size_m), bottle)
        assert_close(spun, torch.ones(40, dtype=F64), atol=1e-6, rtol=0)


def test_exact_iou_includes_finite_symmetries():
    T, cube = poses(2), torch.full((2, 3), 0.1)
    true = objects(T, cube, symmetry=["none", [(math.cos(0.4), 0.0, math.sin(0.4), 0.0)]])
    found = METRICS["iou_3d"](objects(turned(T, (0.0, 1.0, 0.0), math.degrees(0.8)), cube), true)
    assert float(found[0]) < 0.8
    assert float(found[1]) == pytest.approx(1, abs=1e-6)


def test_the_hull_is_another_measure():
    T = poses(50)
    moved = T.clone()
    moved[:, :3, 3] += 0.08 * torch.randn(50, 3, dtype=F64)
    exact, hull = (METRICS[name](objects(moved), objects(T)) for name in ("iou_3d", "iou_3d_hull"))
    assert (hull > exact).sum() > 40
    assert ((exact >= 0) & (exact <= 1) & (hull >= 0) & (hull <= 1)).all()


def test_add_and_add_s_against_plain_loops():
    model, T, T_true = 0.1 * torch.randn(40, 3, dtype=F64), poses(1)[0], poses(1)[0]
    moved, true = ([(T_ @ torch.cat((p, torch.ones(1, dtype=F64))))[:3] for p in model] for T_ in (T, T_true))
    add = sum(math.dist(a, b) for a, b in zip(moved, true, strict=True)) / 40
    add_s = sum(min(math.dist(a, b) for a in moved) for b in true) / 40
    assert float(add_m(T, T_true, model)) == pytest.approx(add)
    assert add_s_m(T, T_true, model) == pytest.approx(add_s)
    assert add_s < add
    assert add_m(poses(5), poses(5), model).shape == (5,)


def test_a_shift_is_its_own_length_and_a_turn_of_a_symmetric_model_is_none():
    angle = torch.arange(360, dtype=F64).deg2rad()
    ring = torch.stack((angle.cos(), 0 * angle, angle.sin()), -1)
    T = poses(1)[0]
    shifted = T.clone()
    shifted[1, 3] += 0.05
    assert float(add_m(shifted, T, ring)) == pytest.approx(0.05)
    spun = turned(T[None], (0.0, 1.0, 0.0), 90.0)[0]
    assert float(add_m(spun, T, ring)) == pytest.approx(math.sqrt(2))
    assert add_s_m(spun, T, ring) == pytest.approx(0, abs=1e-9)


def plain_ap(detections: list[tuple[float, bool]], objects: int) -> float:
    """Area under the largest precision at or beyond each recall."""
    detections = sorted(detections, key=lambda d: -d[0])
    curve, right = [], 0
    for n, (_, hit) in enumerate(detections, start=1):
        right += hit
        curve.append((right / objects, right / n))
    area, before = 0.0, 0.0
    for recall, _ in curve:
        if recall > before:
            area += (recall - before) * max(p for r, p in curve if r >= recall)
            before = recall
    return area


def plain_take(scores, cost, allowed):
    """In order of score the cheapest free object that is allowed."""
    taken, used = {}, set()
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        for j in sorted(range(len(cost[i])), key=lambda j: cost[i][j]):
            if j not in used and allowed(i, j):
                taken[i] = j
                used.add(j)
                break
    return taken


PLAIN_IOU = {"ap_iou25": 0.25, "ap_iou50": 0.5, "ap_iou75": 0.75}
PLAIN_POSE = {
    "ap_5deg_2cm": (5, 2),
    "ap_5deg_5cm": (5, 5),
    "ap_10deg_2cm": (10, 2),
    "ap_10deg_5cm": (10, 5),
    "ap_10deg_10cm": (10, 10),
    "ap_5deg": (5, math.inf),
    "ap_10deg": (10, math.inf),
}


def plain_scores(images: list[ImageComparison], classes: range, nocs: bool) -> dict[str, float]:
    """The rules with explicit numbers: hulls and a gate of 0.1 as in NOCS, or oriented boxes and no gate."""
    by_class: dict[str, list[float]] = {name: [] for name in (*PLAIN_IOU, *PLAIN_POSE)}
    for class_id in classes:
        sets = []
        for image in images:
            rows = [i for i, c in enumerate(image.class_id) if c == class_id]
            columns = [j for j, c in enumerate(image.true_class_id) if c == class_id]
            overlap = image.hull_iou if nocs else image.iou
            sets.append((image, rows, columns, [[overlap[i, j] for j in columns] for i in rows]))
        if not any(columns for _, _, columns, _ in sets):
            continue
        for name, threshold in PLAIN_IOU.items():
            detections = []
            for image, rows, _, overlap in sets:
                scores = [image.score[i] for i in rows]
                taken = plain_take(
                    scores, [[-x for x in row] for row in overlap], lambda i, j, o=overlap, t=threshold: o[i][j] > t
                )
                detections += [(s, i in taken) for i, s in enumerate(scores)]
            by_class[name].append(plain_ap(detections, sum(len(columns) for _, _, columns, _ in sets)))
        for name, (degrees, cm) in PLAIN_POSE.items():
            detections, objects = [], 0
            for image, rows, columns, overlap in sets:
                if nocs:
                    scores = [image.score[i] for i in rows]
                    taken = plain_take(
                        scores, [[-x for x in row] for row in overlap], lambda i, j, o=overlap: o[i][j] > 0.1
                    )
                    rows, columns = [rows[i] for i in sorted(taken)], [columns[j] for j in sorted(taken.values())]
                objects += len(columns)
                angle = [[image.rotation_deg[i, j] for j in columns] for i in rows]
                shift = [[image.translation_cm[i, j] for j in columns] for i in rows]
                cost = [[a + s for a, s in zip(*both, strict=True)] for both in zip(angle, shift, strict=True)]
                cost = cost if math.isfinite(cm) else angle
                scores = [image.score[i] for i in rows]
                taken = plain_take(
                    scores, cost, lambda i, j, a=angle, s=shift, d=degrees, c=cm: a[i][j] <= d and s[i][j] <= c
                )
                detections += [(s, i in taken) for i, s in enumerate(scores)]
            by_class[name].append(plain_ap(detections, objects) if objects else 0.0)
    return {name: sum(values) / len(values) if values else math.nan for name, values in by_class.items()}


def random_image(rng: np.random.Generator, most: int = 5) -> ImageComparison:
    shape = p, g = tuple(rng.integers(0, most + 1, 2))
    return ImageComparison(
        rng.integers(1, 4, p),
        rng.random(p),
        rng.integers(1, 4, g),
        rng.choice([3.0, 8.0, 40.0], shape) * rng.random(shape) * 1.5,
        rng.choice([1.5, 4.0, 30.0], shape) * rng.random(shape) * 1.5,
        rng.random(shape),
        rng.random(shape) ** 2,
        rng.random(shape),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "sets"), [(NOCS_COMPAT_RULES, 250), (ORIENTED_BOX_RULES, 100)], ids=["nocs", "exact"]
)
def test_random_sets_against_plain_python(rules: ApRules, sets: int):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(sets):
        images = [random_image(rng, most=4) for _ in range(rng.integers(1, 3))]
        found, expected = (
            mean_average_precisions(images, range(1, 4), rules),
            plain_scores(images, range(1, 4), rules is NOCS_COMPAT_RULES),
        )
        assert found == pytest.approx(expected, nan_ok=True, abs=1e-12)
        assert all(math.isnan(value) or 0 <= value <= 1 for value in found.values())
        seen.add(round(found["ap_10deg_10cm"], 3))
    assert len(seen) > 10


def scene(seed: int, noise: float = 0.05, missing: int = 0) -> tuple[PosedObjects, PosedObjects]:
    """Eight objects of three classes, and predictions near to them in another order, of which some are missing."""
    generator = torch.Generator().manual_seed(seed)
    T = se3_exp(torch.randn(8, 6, generator=generator, dtype=torch.float64))
    class_id, size_m = torch.arange(8) % 3 + 1, 0.1 + 0.2 * torch.rand(8, 3, generator=generator, dtype=torch.float64)
    symmetry = Symmetry.parse(["revolution" if c == 1 else "none" for c in class_id])
    moved = T @ se3_exp(noise * torch.randn(8, 6, generator=generator, dtype=torch.float64))
    order = torch.randperm(8, generator=generator)[missing:]
    none = Symmetry.parse(["none"] * 8)
    predicted = PosedObjects(class_id, moved, size_m * 1.1, none, torch.rand(8, generator=generator))
    return predicted[order], PosedObjects(class_id, T, size_m, symmetry, torch.ones(8))


def test_perfect_predictions_score_1_and_none_score_0():
    true = [scene(seed)[1] for seed in range(3)]
    perfect = [compare_objects(objects, objects, np.eye(8)) for objects in true]
    nothing = [compare_objects(objects[torch.zeros(0, dtype=torch.long)], objects) for objects in true]
    for rules in (ORIENTED_BOX_RULES, NOCS_COMPAT_RULES):
        assert set(mean_average_precisions(perfect, range(1, 4), rules).values()) == {1.0}
        assert set(mean_average_precisions(nothing, range(1, 4), rules).values()) == {0.0}
        assert all(math.isnan(x) for x in mean_average_precisions(perfect, [7], rules).values())
    found = matched_scores(perfect)
    assert (found["recall"], found["precision"], found["found"], found["false_alarms"]) == (1, 1, 24, 0)
    assert found["rotation_error_deg"] == pytest.approx(0, abs=1e-5)
    missed = matched_scores(nothing)
    assert (missed["recall"], missed["recall_10deg_10cm"], missed["objects"]) == (0, 0, 24)
    assert math.isnan(missed["rotation_error_deg"])
    assert math.isnan(missed["precision"])


def test_the_published_rules_do_not_see_what_was_missed_and_ours_do():
    images = [compare_objects(*scene(seed, noise=0.01, missing=4)) for seed in range(3)]
    assert mean_average_precisions(images, range(1, 4), NOCS_COMPAT_RULES)["ap_10deg_10cm"] == 1
    assert mean_average_precisions(images, range(1, 4), ORIENTED_BOX_RULES)["ap_10deg_10cm"] == pytest.approx(
        0.5, abs=0.1
    )


def test_pairs_are_one_to_one_and_the_best_together():
    """Greedily the first prediction would take object 0, and leave nothing to the second."""
    overlap, same = np.array([[0.9, 0.8], [0.8, 0.1]]), np.ones((2, 2), dtype=bool)
    found = match_hungarian(overlap, same)
    assert list(zip(found.predicted, found.true, strict=True)) == [(0, 1), (1, 0)]
    assert match_greedy(-overlap, overlap > 0.5, np.array([0.7, 0.6])).tolist() == [0, -1]
    assert match_greedy(-overlap, overlap > 0.5, np.array([0.6, 0.7])).tolist() == [1, 0]


def test_misses_false_alarms_and_classes_are_counted():
    overlap = np.array([[0.9, 0.0, 0.0], [0.0, 0.49, 0.0], [0.0, 0.0, 0.9]])
    same = np.array([[True, True, False], [True, True, False], [True, True, False]])
    found = match_hungarian(overlap, same)
    assert (found.predicted.tolist(), found.true.tolist()) == ([0], [0])
    assert (found.false_positives.tolist(), found.false_negatives.tolist()) == ([1, 2], [1, 2])
    assert match_hungarian(overlap, same, 0.4).true.tolist() == [0, 1]
    empty = match_hungarian(overlap[:0], same[:0])
    assert (len(empty.true), empty.false_negatives.tolist()) == (0, [0, 1, 2])
