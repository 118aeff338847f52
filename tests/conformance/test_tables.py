"""Every line of every table of parts: it loads, has a docstring, and conforms to the interface of its kind.

A part is tested by standing in its table. A new kind of part needs an interface check here.
"""

import contextlib
import importlib
import math
import pkgutil
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.conformance import (
    backend_interfaces,
    loss_interfaces,
    model_interfaces,
    object_interfaces,
    recipe_interfaces,
)
from tests.refusals import refuses
from torch import Tensor

import stadia
from stadia.cli.data import WING_COMMANDS
from stadia.cli.list_parts import PART_KINDS
from stadia.core.errors import ConfigError, StadiaError
from stadia.core.registry import Registry
from stadia.core.types import Camera, DepthScale, Recording
from stadia.data import IMAGE_LAYOUTS
from stadia.data.config import SourceOptions
from stadia.differentiable.batch import Prediction
from stadia.differentiable.view_synthesis import synthesize_views
from stadia.evaluation.protocols import CROPS, PROTOCOLS
from stadia.judge.catalog import CATALOG, NotChecked
from stadia.judge.finding import Severity
from stadia.judge.recordings.recording_survey import RecordingSurvey
from stadia.losses.config import SparseDepthConfig
from stadia.losses.loss_report import LossReport
from stadia.losses.sparse_depth import LabeledDepth
from stadia.networks import DEPTH_NETWORK_CONFIGS
from stadia.objectpose.losses import bounded_log
from stadia.predict import TASKS, TRAIN_FLOOR
from stadia.predict.predict_frames import FrameArrays
from stadia.report.run_files import metric_label
from stadia.training.loop.callbacks import Logger
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig
from stadia.training.loop.recipe import build_optimizer, compute_lr_factor
from stadia.training.loop.run_folder import Run
from stadia.training.recipes import CONFIGS


def tables() -> dict[str, Registry]:
    """Every table of the package, by where it is bound."""
    found: dict[int, tuple[str, Registry]] = {}
    for module in pkgutil.walk_packages(stadia.__path__, "stadia."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, Registry):
                    found.setdefault(id(value), (f"{module.name}:{name}", value))
    return dict(found.values())


TABLES = tables()
PARTS = [
    pytest.param(table, name, id=f"{where.rpartition(':')[2]}-{name}")
    for where, table in TABLES.items()
    for name in table
]


def test_the_tables_are_found():
    assert {"recipe", "dataset", "depth network", "loss", "metric", "optimizer", "schedule", "logger"} <= {
        table.kind for table in TABLES.values()
    }


def test_every_table_is_listed_by_stadia_parts():
    named_as_recipes = {id(table) for table in (CONFIGS, TASKS, IMAGE_LAYOUTS, WING_COMMANDS, DEPTH_NETWORK_CONFIGS)}
    named_as_recipes.add(id(TRAIN_FLOOR))
    listed = {id(PART_KINDS.load(kind)) for kind in PART_KINDS} | {id(PART_KINDS)} | named_as_recipes
    assert [where for where, table in TABLES.items() if id(table) not in listed] == []


@pytest.mark.parametrize("where", TABLES)
def test_parts_load_and_have_a_docstring(where):
    table = TABLES[where]
    for name in table:
        part = table.load(name)
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)
        documented = part.__doc__ if not isinstance(part, Registry) else table.kind
        assert documented, name
        assert documented.strip(), name


# Interface checks by kind, each called with (name, part, a folder to write to).


def optimizer(name: str, part: Any, folder: Path) -> None:
    """Built from a configuration, it makes a quadratic smaller, and decays weights but no biases."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    chosen = build_optimizer(layer, OptimizerConfig(name=name, lr=1e-2, weight_decay=0.1))
    assert [group["weight_decay"] for group in chosen.param_groups] == [0.1, 0.0]
    before = sum(p.square().sum() for p in layer.parameters())
    for _ in range(20):
        chosen.zero_grad()
        sum(p.square().sum() for p in layer.parameters()).backward()
        chosen.step()
    assert sum(p.square().sum() for p in layer.parameters()) < before


def schedule(name: str, part: Any, folder: Path) -> None:
    """Gives a factor between 0 and 1 at every step, rises in the warm-up, and depends on the step alone."""
    config = ScheduleConfig(name=name, warmup_steps=5)
    factors = [compute_lr_factor(step, config, total_steps=40, steps_per_epoch=10) for step in range(40)]
    assert factors == [compute_lr_factor(step, config, total_steps=40, steps_per_epoch=10) for step in range(40)]
    assert all(0 <= factor <= 1 and math.isfinite(factor) for factor in factors)
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def logger(name: str, part: Any, folder: Path) -> None:
    """Takes scalars and images, and goes on behind the step that it is resumed at."""
    assert issubclass(part, Logger)
    if name == "wandb":
        return  # needs an optional package and a service
    run = Run.create(folder, "conformance", {}, recipe="none", seed=0)
    for behind in (0, 1):
        opened = part(run, behind)
        opened.scalars(behind + 1, 0, {"train/loss": 1.0})
        opened.image(behind + 1, "sheet", torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
        opened.close()


def dataset(name: str, part: Any, folder: Path) -> None:
    """It names its layout, refuses other data, and finds nothing when opened anyway."""
    reader = part()
    assert reader.layout
    for path in (folder, folder / "absent", folder / "note.txt"):
        (folder / "note.txt").write_text("no dataset", encoding="utf-8")
        assert reader.recognizes(path) is False
        with contextlib.suppress(StadiaError):
            assert reader.open(path, SourceOptions()) == []


def loss(name: str, part: Any, folder: Path) -> None:
    """Terms add up to a finite total, which is lower for the truth than for what is wrong and has a slope there; maps
    are detached.

    A loss of video is computed on a plane; one of another kind has an example, see LOSS_EXAMPLES.
    """
    report, true, wrong, size = LOSS_EXAMPLES.get(name, wall)()
    for value in (true, *wrong):
        loss_report = report(part(), value)
        assert isinstance(loss_report, LossReport)
        assert loss_report.total.ndim == 0
        assert loss_report.total.isfinite()
        assert float(sum(loss_report.terms.values())) == pytest.approx(float(loss_report.total.detach()), rel=1e-5)
        assert not any(term.requires_grad for term in loss_report.terms.values())
        for map_ in loss_report.maps.values():
            assert map_.shape[-2:] == size
            assert not map_.requires_grad
    for value in wrong:
        prediction = value.clone().requires_grad_()
        loss_report = report(part(), prediction)
        assert float(loss_report.total.detach()) > 1.01 * float(report(part(), true).total)
        loss_report.total.backward()
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()
        assert prediction.grad.abs().sum() > 0


def part_of_sparse_depth(name: str, part: Any, folder: Path) -> None:
    """Lower for the truth than for what is wrong, with a slope there; without a label 0. Its name is the key of its
    weight.
    """
    config = SparseDepthConfig()
    assert isinstance(getattr(config, name), float)
    true_m = 2 + 20 * torch.rand(2, 1, 8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wrong = (1 / true_m.flip(-1)).requires_grad_()
    labeled, right, unlabeled = (
        LabeledDepth(prediction, true_m, known, torch.where(known, -(prediction * true_m).log(), 0.0))
        for prediction, known in ((wrong, true_m > 0), (1 / true_m, true_m > 0), (wrong, true_m < 0))
    )
    error = part(labeled, config)
    assert error.ndim == 0
    assert float(error.detach()) > float(part(right, config)) + 1e-3
    assert float(part(unlabeled, config).detach()) == 0
    error.backward()
    assert wrong.grad.isfinite().all()
    assert wrong.grad.abs().sum() > 0


def metric(name: str, part: Any, folder: Path) -> None:
    """The truth itself is perfect, an image without a scored pixel is NaN, NaN outside the mask is not read."""
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 10, (2, 6, 8))
    mask = rng.random(true.shape) > 0.3
    better = metric_label(name).better
    assert better in ("lower", "higher"), f"the report has no direction for '{name}' is good"
    perfect = 0.0 if better == "lower" else 1.0
    assert part(true, true, mask).tolist() == pytest.approx([perfect, perfect], abs=1e-6)
    wrong = part(true * (1 + rng.random(true.shape)), true, mask)
    assert wrong.shape == (2,)
    assert ((wrong > perfect) if better == "lower" else (wrong < perfect)).all()
    assert np.isnan(part(true, true, np.zeros_like(mask))).all()
    assert part(np.where(mask, true, np.nan), true, mask).tolist() == pytest.approx([perfect, perfect], abs=1e-6)


def trajectory_metric(name: str, part: Any, folder: Path) -> None:
    """The reference itself has no error; a drifting one has; a path too short gives a number or None, no error."""
    assert metric_label(name).better == "lower"
    reference = np.tile(np.eye(4), (130, 1, 1))
    reference[:, 2, 3] = np.arange(130)
    drifting = reference.copy()
    drifting[:, :3, :3] = Rotation.from_rotvec(np.linspace(0, 0.2, 130)[:, None] * [0, 1, 0]).as_matrix()
    drifting[:, 0, 3] = 0.05 * np.arange(130)
    assert part(reference, reference) == pytest.approx(0.0, abs=1e-9)
    assert part(drifting, reference) > 0
    short = part(reference[:3], reference[:3])
    assert short is None or short == pytest.approx(0.0, abs=1e-9)


def motion(name: str, part: Any, folder: Path) -> None:
    """Between equal images that the recipe has without motion there is none, as a rigid (4, 4) of float64."""
    picture = model_interfaces.batch().inputs.image[:1].numpy()
    camera = Camera(OneGrayImage().K(0), 64, 96)
    view = FrameArrays(picture, camera, np.full((1, 1, 64, 96), 0.1, np.float32))
    predictor = SimpleNamespace(depth_scale=DepthScale.METRES, T_next_now=lambda *_: np.eye(4, dtype=np.float32)[None])
    (found,) = part(predictor, view, view, None)
    T_next_now = found.T_next_now
    assert T_next_now.dtype == np.float64
    np.testing.assert_allclose(T_next_now, np.eye(4), atol=1e-6)


def odometry_method(name: str, part: Any, folder: Path) -> None:
    """Of a camera that stands still, by its images and by the recipe, every pose is the identity (4, 4) of float64."""
    picture, camera = model_interfaces.batch().inputs.image[:1].numpy(), Camera(OneGrayImage().K(0), 64, 96)
    predictor = SimpleNamespace(
        depth_scale=DepthScale.METRES,
        T_next_now=lambda *_: np.eye(4, dtype=np.float32)[None],
        inverse_depth=lambda image, camera: np.full((1, 1, 64, 96), 0.1, np.float32),
    )
    odometry = part(predictor, lambda points: None)
    assert odometry.add(picture, camera)
    assert odometry.add(picture, camera)
    path = odometry.path()
    assert path.dtype == np.float64
    np.testing.assert_allclose(path, np.tile(np.eye(4), (2, 1, 1)), atol=1e-6)


def matcher_of_features(name: str, part: Any, folder: Path) -> None:
    """It has the methods of `LearnedMatcher`; its networks are tried where their package is installed."""
    assert callable(part.extract)
    assert callable(part.match)


def check(name: str, part: Any, folder: Path) -> None:
    """Its docstring lists the codes of its findings; a recording with nothing to compare is no error and no stop."""
    codes = re.findall(r"\b[A-Z]\d\d\b", part.__doc__)
    assert codes
    assert set(codes) <= CATALOG.keys()
    with contextlib.suppress(NotChecked):
        assert [f for f in part(RecordingSurvey(OneGrayImage())) if f.severity is Severity.STOP] == []


def check_of_splits(name: str, part: Any, folder: Path) -> None:
    """As a check; without splits there is nothing to find."""
    codes = re.findall(r"\b[A-Z]\d\d\b", part.__doc__)
    assert codes
    assert set(codes) <= CATALOG.keys()
    with contextlib.suppress(NotChecked):
        assert list(part({})) == []


class OneGrayImage(Recording):
    """One frame of one camera that shows nothing."""

    name = "gray"

    def __len__(self) -> int:
        return 1

    def image(self, index: int, side: str = "left") -> NDArray[np.uint8]:
        return np.full((64, 96, 3), 128, dtype=np.uint8)

    def camera(self, index: int, side: str = "left") -> Camera:
        return Camera(np.array([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]), 64, 96)


def layout_of_single_images(name: str, part: Any, folder: Path) -> None:
    """It describes nothing in a folder of something else."""
    assert part(folder) is None


def command_of_a_wing(name: str, part: Any, folder: Path) -> None:
    """A function; the tests of the wings run each."""
    assert callable(part)


def kind_of_part(name: str, part: Any, folder: Path) -> None:
    """A table of its own, or rows of name and line (tests/cli/test_list_parts.py checks each)."""
    assert isinstance(part, Registry) or callable(part)


def part_of_the_train_floor(name: str, part: Any, folder: Path) -> None:
    """A table, or a function or class that predicting calls."""
    assert isinstance(part, Registry) or callable(part)


INTERFACE_CHECKS: dict[str, Callable[[str, Any, Path], None]] = {
    interface.__name__.replace("_", " "): interface
    for interface in (
        optimizer,
        schedule,
        logger,
        dataset,
        *model_interfaces.INTERFACE_CHECKS,
        loss,
        loss_interfaces.smoothness,
        loss_interfaces.residual,
        loss_interfaces.overlay_loss,
        part_of_sparse_depth,
        object_interfaces.rotation_loss,
        metric,
        trajectory_metric,
        object_interfaces.object_metric,
        object_interfaces.format_of_object_data,
        motion,
        odometry_method,
        matcher_of_features,
        check,
        check_of_splits,
        *recipe_interfaces.INTERFACE_CHECKS,
        *backend_interfaces.INTERFACE_CHECKS,
        layout_of_single_images,
        command_of_a_wing,
        kind_of_part,
        part_of_the_train_floor,
    )
}


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name"), PARTS)
def test_part_conforms_to_its_interface(table, name, tmp_path):
    assert table.kind in INTERFACE_CHECKS, f"a new kind of part, '{table.kind}', needs an interface check"
    INTERFACE_CHECKS[table.kind](name, table.load(name), tmp_path)


OPEN_TABLES = [pytest.param(table, id=table.kind) for table in TABLES.values() if table.entry_points]


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_a_part_of_ones_own_takes_the_place_of_one_in_an_open_table(table):
    name = next(iter(table))
    assert table.load(table[name]) is table.load(name)


def test_every_loss_head_and_attention_can_be_ones_own():
    kinds = {"loss", "rotation loss", "residual", "smoothness", "attention", "pose head", "pose network"}
    assert kinds <= {table.kind for table in TABLES.values() if table.entry_points}


def test_documented_loss_conforms_and_its_negative_does_not(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "tutorials" / "add-a-loss.md").read_text(encoding="utf-8")
    for sign in ("", "-"):
        names: dict[str, Any] = {}
        code = re.search(r"```python\n(.*?)```", text, re.S)[1].replace(
            "    return error.where(", f"    return {sign}error.where("
        )
        exec(code.partition("\n\nerror = ")[0], names)
        with pytest.raises(AssertionError) if sign else contextlib.nullcontext():
            loss("log_depth", names["LogDepthLoss"], tmp_path)


def test_negative_rotation_loss_does_not_conform(tmp_path):
    """-log(eps + 1 - |q . q_true|^2), made 0 at the truth: all but its direction is as it should be."""
    with pytest.raises(AssertionError):
        object_interfaces.rotation_loss("-log", lambda *of: -bounded_log(*of), tmp_path)


def test_unknown_name_gets_the_nearest_suggestion():
    for table in TABLES.values():
        name = next(iter(table))
        with refuses(ConfigError, fix=name if len(table) == 1 else ()) as refused:
            table.load(f"{name}x")
        assert any(f"'{other}'" in refused.value.fix for other in table)


LossExample = tuple[Callable[[Any, Tensor], LossReport], Tensor, tuple[Tensor, ...], tuple[int, int]]


def wall() -> LossExample:
    """A textured wall 5 m away, seen by a pair; the neighbors in time show something else. Its depth is known, but for
    holes.

    Returns: a call of a loss with an inverse depth, the true one, wrong ones, and the size of maps.
    """
    given = model_interfaces.batch()
    true_m = torch.full((2, 1, 64, 96), 5.0)
    motion = given.inputs.T_source_target_rig.nan_to_num().clone()
    motion[:, :2] = torch.eye(4)
    smooth = torch.nn.functional.interpolate(
        given.targets.sources.flatten(0, 1)[..., ::8, ::8], (64, 96), mode="bicubic"
    ).clamp(0, 1)
    sources = smooth.view_as(given.targets.sources)
    seen = synthesize_views(sources, true_m, given.targets.camera, given.targets.source_camera, motion).image[:, 2]
    holes = torch.rand(true_m.shape, generator=torch.Generator().manual_seed(1)) > 0.1
    targets = replace(given.targets, image=seen, sources=sources, depth_m=true_m.masked_fill(holes, 0))

    def report(loss: Any, inverse_depth: Tensor) -> LossReport:
        return loss(targets, Prediction((inverse_depth,), motion), given.source_names)

    return report, 1 / true_m, (1.5 / true_m, 0.7 / true_m), (64, 96)


def labels() -> LossExample:
    """A slanted wall of which the depth is known but for holes, and nothing else."""
    true_m = torch.linspace(4, 20, 96).expand(2, 1, 64, 96)
    holes = torch.rand(true_m.shape, generator=torch.Generator().manual_seed(1)) > 0.1
    known_m = true_m.masked_fill(holes, 0)

    def report(loss: Any, inverse_depth: Tensor) -> LossReport:
        return loss(inverse_depth, known_m)

    return report, 1 / true_m, (1.5 / true_m, 0.7 / true_m, 0.1 + 0 / true_m), (64, 96)


LOSS_EXAMPLES: dict[str, Callable[[], LossExample]] = {
    "metric_scale": loss_interfaces.road,
    "sparse_depth": labels,
    "overlay": loss_interfaces.composed,
    "object_pose": object_interfaces.labeled_objects,
}
"""By name, of a loss that is not called as those of video are."""


# -- tables of data
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_conforms_to_its_interface(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.crop in CROPS
    assert 0 <= protocol.scored_m[0] < protocol.scored_m[1]
    assert 0 < protocol.clamp_m[0] < protocol.clamp_m[1]
    assert protocol.alignments
    assert protocol.source
    assert protocol.ground_truth
    assert protocol.mask(np.full((375, 1242), 5.0)).any()
    assert not protocol.mask(np.zeros((375, 1242))).any()
