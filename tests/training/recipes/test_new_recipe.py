"""A recipe of another kind, objects in single images: no video, no depth, no depth scale. It meets no wall from data to
report.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from tests.refusals import refuses
from tests.sessions import evaluate, predict_lines
from torch import Tensor, nn

from stadia import predict, report, training
from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import CheckpointError
from stadia.core.progress import TrackProgress
from stadia.core.types import TensorDataclass
from stadia.differentiable.batch import Batch, Meta
from stadia.evaluation.recording_scores import write_score
from stadia.judge.finding import Finding
from stadia.losses.loss_report import LossReport
from stadia.predict.tasks import LabeledSet, ScoreOutput, Task
from stadia.training import recipes
from stadia.training.loop.batches import BatchIterable, EpochLoader
from stadia.training.loop.recipe import Recipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.config import RecipeConfig
from stadia.training.recipes.base.video_data import make_loaders


@dataclass(frozen=True, slots=True)
class Crop(TensorDataclass):
    image: Tensor


@dataclass(frozen=True, slots=True)
class Pose(TensorDataclass):
    mask: Tensor
    size_m: Tensor


@dataclass(frozen=True, slots=True)
class Packed:
    image: Tensor
    size_m: Tensor
    meta: tuple[Meta, ...]


class Mugs:
    def __len__(self) -> int:
        return 8

    def packed(self, key: tuple[int, int]) -> Packed:
        picture, instance = divmod(key[1], 2)
        size = 1 + (picture + instance) % 4
        image = torch.zeros(1, 8, 8)
        image[:, :size, :size] = 1
        return Packed(image, torch.tensor([size / 10]), (Meta("mugs", picture, instance=instance),))

    def stack(self, samples: Sequence[Packed]) -> Packed:
        images, sizes = torch.stack([s.image for s in samples]), torch.stack([s.size_m for s in samples])
        return Packed(images, sizes, tuple(meta for s in samples for meta in s.meta))

    def unpack(self, packed: Packed, device: torch.device | str) -> Batch[Crop, Pose]:
        image = packed.image.to(device)
        return Batch(Crop(image), Pose(image > 0, packed.size_m.to(device)), packed.meta)


@dataclass
class MugData:
    train: EpochLoader
    val: BatchIterable | None
    facts: dict[str, object] = field(default_factory=lambda: {"path": "mugs"})

    def findings(self) -> list[Finding]:
        return []


class Net(StrictModel):
    width: int = 1
    pretrained: bool = True


class MugsConfig(RecipeConfig):
    recipe: str = "mugs"
    model: Net = Net()


class MugRecipe(Recipe[MugsConfig, MugData, Crop, Pose]):
    recipe = "mugs"
    best_metrics = ("val/size_error_m",)
    fetched: ClassVar[list[bool]] = []  # for each instance, whether it requested weights from a hub

    def __init__(self, config: MugsConfig) -> None:
        super().__init__(config)
        self.fetched.append(config.model.pretrained)
        self.net = nn.Linear(1, 1)

    @classmethod
    def prepare(cls, config: MugsConfig, console: Console) -> tuple[MugsConfig, MugData]:
        return config, MugData(*make_loaders(Mugs(), Mugs(), config.training, seed=config.seed))

    def size_m(self, batch: Batch[Crop, Pose]) -> Tensor:
        size: Tensor = self.net(batch.inputs.image.mean(dim=(1, 2, 3))[:, None].sqrt())
        return size

    def training_step(self, batch: Batch[Crop, Pose]) -> LossReport:
        error = (self.size_m(batch) - batch.targets.size_m).abs().mean()
        return LossReport(error, {"size": error.detach()}, {})

    def validation_step(self, batch: Batch[Crop, Pose]) -> Mapping[str, Tensor]:
        return {"size_error_m": (self.size_m(batch) - batch.targets.size_m).abs()[:, 0]}


@dataclass(frozen=True, kw_only=True)
class LabeledMugs(LabeledSet):
    batches: BatchIterable


@dataclass(frozen=True)
class MugScore:
    size_error_m: float

    def summary(self) -> dict[str, Any]:
        return {"size_error_m": self.size_error_m}

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        write_score(folder / f"{name}.json", {**about, "metrics": self.summary(), "images": 4})
        return [folder / f"{name}.json"]


class MugTask(Task):
    def open_validation(self, data: MugData, run: Run) -> list[LabeledMugs]:
        return [LabeledMugs(name="val", batches=data.val)] if data.val is not None else []

    def score(self, labeled: LabeledMugs, out: ScoreOutput, track: TrackProgress) -> MugScore:
        errors = torch.cat([self.recipe.validation_step(batch)["size_error_m"] for batch in labeled.batches])
        return MugScore(float(errors.mean()))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for table, name in ((recipes.RECIPES, "MugRecipe"), (recipes.CONFIGS, "MugsConfig"), (predict.TASKS, "MugTask")):
        monkeypatch.setitem(table._parts, "mugs", f"{__name__}:{name}")
    monkeypatch.setattr(MugRecipe, "fetched", [])
    words = [
        "training.max_epochs=null",
        "training.max_steps=60",
        "training.batch_size=4",
        "training.workers=0",
        "optimizer.lr=0.05",
    ]
    words += ['training.loggers=["csv"]', "training.accelerator=cpu", "training.threads=1", "training.log_every=10"]
    return training.train(resolve_config(MugsConfig, {}, words), out=tmp_path / "runs")


@pytest.mark.slow
def test_from_data_to_report(trained: Run) -> None:
    assert trained.facts.status == "finished"
    assert trained.facts.recipe_facts.depth_scale is None
    assert (trained.checkpoints / "best.safetensors").exists()
    assert json.loads((trained.folder / "scores" / "val.json").read_text())["metrics"]["size_error_m"] < 0.05
    page = report.build_report(trained.folder).read_text()
    assert "size_error_m" in page.replace("<wbr>", "")
    assert 'id="depth-scale"' not in page, "without a depth scale there is no text on depth"


@pytest.mark.slow
def test_it_is_resumed(trained: Run) -> None:
    config = MugsConfig.model_validate(trained.config)
    longer = training.train(config, resume=trained.folder)
    assert longer.folder == trained.folder
    assert longer.facts.status == "finished"


@pytest.mark.slow
def test_commands_report_missing_capabilities(trained: Run) -> None:
    with refuses(CheckpointError, where="best.safetensors", found="mugs"):
        recipes.load_predictor(trained.folder)
    folder = trained.folder
    with refuses(CheckpointError, where="best.safetensors", found="mugs"):
        predict_lines(folder, folder, folder / "out")
    with refuses(CheckpointError, where="best.safetensors", found="mugs"):
        evaluate(folder, folder)
