"""Configuration that several recipes share. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from stadia.core.config import StrictModel
from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.registry import refuse_code
from stadia.data.config import POSES_OF_MAP, VALIDATION_KEYS, DataConfig, DatasetConfig
from stadia.io.input_files import expand_home, is_url, make_absolute, restore_url
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.networks.config import DepthPoseNetConfig
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from stadia.training.recipes import CONFIGS

DATA_PATH_KEYS = ("path", "poses", "ground_truth_path", "ignore", "K_file", "train_file", "val_file")
"""Keys of any group of `data` whose text is a path that a run reads."""

PATH_KEYS = {*DATA_PATH_KEYS, "folder", "start_from", "teacher", "masks", "weights", "verdicts"}
"""Keys of any group whose text is a path."""


def _check_run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError("use at most 100 letters, digits, '.', '_' and '-'")
    return name


RunName = Annotated[str, AfterValidator(_check_run_name)]
"""A run's name is part of a folder's name: letters, digits, ".", "_" and "-"."""


class RecipeConfig(StrictModel):
    """Configuration of a recipe; a subclass adds data, model and loss.

    recipe: name of the recipe in the table.
    name: name of the run and of its folder.
    seed: seed of all random numbers.
    start_from: checkpoint (or a run's folder: its best checkpoint) whose weights initialize the training; of this
        recipe, for `metric` also of `selfsup`.
    evaluation_keys: keys, or groups of keys, that change how a network is scored. A study that sets one adds a note.
    validation: scores that validation may log as `val/NAME`, for studies.
    """

    evaluation_keys: ClassVar[tuple[str, ...]] = ("data.path", "data.height", "data.width")
    validation: ClassVar[tuple[str, ...]] = ()
    recipe: str
    name: RunName = "run"
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    start_from: str | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()


_M = TypeVar("_M", bound=StrictModel)


def read_stored_config(path: Path, recipe: str, values: Mapping[str, Any]) -> RecipeConfig:
    """Return the configuration of a run or a checkpoint.

    path: its file, which an error message names.

    Raises CheckpointError if this version of stadia has no such recipe, or the recipe has other keys or values.
    """
    found, expected = f"recipe '{recipe}'", f"one of {', '.join(CONFIGS)}"
    refuse_code(path, values)
    if recipe in CONFIGS:
        config_class: type[RecipeConfig] = CONFIGS.load(recipe)
        try:
            return config_class.model_validate(values)
        except ValidationError as error:
            mistake = error.errors()[0]
            key = ".".join(map(str, mistake["loc"]))
            if isinstance(reason := mistake.get("ctx", {}).get("error"), ValueError) and key == "model.network":
                network = values["model"]["network"]
                name = network.get("name") if isinstance(network, Mapping) else network
                cause = reason.__cause__
                fix = cause.fix if isinstance(cause, ConfigError) else None
                expected = str(reason).removeprefix("expected ")
                raise CheckpointError(path, found=f"{key} '{name}'", expected=expected, fix=fix) from error
            found, expected = f"a configuration with a wrong '{key}'", f"keys and values of recipe '{recipe}'"
    fix = "train again, or use the version of stadia that wrote it (run.json names its commit)"
    raise CheckpointError(path, found=found, expected=expected, fix=fix)


def data_keys(*names: str) -> tuple[str, ...]:
    """Return configuration keys of the group `data`."""
    return tuple(f"data.{name}" for name in names)


def make_paths_absolute(config: _M) -> _M:
    """Return the configuration with absolute paths, so that a run can be resumed from another folder."""

    def change(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: change(name, inner) for name, inner in value.items()}
        is_path = key in PATH_KEYS and isinstance(value, str) and value and not _is_word(key, value)
        if is_path and is_url(value):
            return restore_url(value)
        return str(make_absolute(value)) if is_path else value

    return type(config).model_validate(change("", config.model_dump(mode="json")))


def _is_word(key: str, value: str) -> bool:
    return key == "poses" and value == POSES_OF_MAP


def list_paths(config: StrictModel) -> list[Path]:
    """Return all paths that a configuration names."""

    def find(key: str, value: Any) -> Iterator[Path]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield from find(name, inner)
        elif key in PATH_KEYS and isinstance(value, str) and value and not _is_word(key, value):
            yield expand_home(value)

    return [*find("", config.model_dump(mode="json"))]


RecipeConfigT = TypeVar("RecipeConfigT", bound=RecipeConfig)


def replace_training(config: RecipeConfigT, **values: Any) -> RecipeConfigT:
    """Return the configuration with other, unvalidated values of `training`."""
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def without_pretrained(config: _M) -> _M:
    """Return the configuration with every `pretrained` set to false."""
    changes: dict[str, Any] = {
        name: without_pretrained(group) for name, group in config if isinstance(group, StrictModel)
    }
    if "pretrained" in type(config).model_fields:
        changes["pretrained"] = False
    return config.model_copy(update=changes)


class TeacherConfig(StrictModel):
    """A network whose predicted depth is a label in addition to the loss; its weights stay.

    network: any network of `stadia predict`, or null. "auto" is `base` if depth of one camera starts from it in
        `selfsup` or `metric`.
    settings: keys of a network without a run, `network.KEY=VALUE`.
    weight: weight of the difference.
    until: share of the steps at which the weight has fallen to 0, linearly; null keeps the weight.
    max_contradiction: the teacher does not count at pixels whose photometric residual exceeds the student's by more
        than this.
    """

    former_keys: ClassVar[Mapping[str, Any]] = {"gradient_weight": 0.5}
    network: str | None = "auto"
    settings: tuple[str, ...] = ()
    weight: float = Field(default=0.1, gt=0)
    until: float | None = Field(default=1.0, gt=0, le=1)
    max_contradiction: float = Field(default=0.02, ge=0)

    @property
    def is_used(self) -> bool:
        """Return whether there is a teacher."""
        return self.network not in (None, "auto")

    @model_validator(mode="before")
    @classmethod
    def _take_a_name(cls, values: Any) -> Any:
        return {"network": values} if values is None or isinstance(values, str) else values

    @field_validator("network")
    @classmethod
    def _make_path_absolute(cls, network: str | None) -> str | None:
        is_path = network not in (None, "auto") and expand_home(network).exists()
        return str(make_absolute(network)) if network is not None and is_path else network


_LINEAR_HEAD = "model.pose_head=linear is bound to one size of image"


class SelfSupervisedConfig(RecipeConfig):
    """Networks of depth and motion, and a loss that needs no labels.

    backbone_lr_factor: learning rate of the depth network's backbone over `optimizer.lr`; null: 0.1 if published
        weights predict depth already (MiDaS, arXiv 1907.01341), else 1.
    depth_from_step: the depth network stays unchanged before this step. "auto": a quarter of the steps, at most 100, if
        published weights predict depth and the motion of one camera is learned; else 0.
    teacher: network whose depth is a label in addition to the loss; `teacher=NETWORK` for short.
    """

    evaluation_keys: ClassVar[tuple[str, ...]] = data_keys(*VALIDATION_KEYS)
    validation: ClassVar[tuple[str, ...]] = (
        *("abs_rel", "rmse", "d1", "residual", "residual_unwarped", "warped_over_unwarped"),
        *("residual_over_sigma", "residual_spearman"),
        *("inside_??", "ause", "ause_of_random"),
        *("motion_slope/*", "motion_correlation/*", "motion_along", "motion_scale"),
    )

    data: DataConfig
    backbone_lr_factor: float | None = Field(default=None, gt=0)
    depth_from_step: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    model: DepthPoseNetConfig = DepthPoseNetConfig()
    loss: SelfSupervisedLossConfig = SelfSupervisedLossConfig()
    teacher: TeacherConfig = TeacherConfig()

    @model_validator(mode="before")
    @classmethod
    def _train_one_epoch_if_sequential(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        data, training = values.get("data") or {}, values.get("training") or {}
        if not isinstance(data, Mapping) or not isinstance(training, Mapping) or data.get("order") != "sequential":
            return values
        if {"max_epochs", "max_steps"} & training.keys():
            return values
        return {**values, "training": {**training, "max_epochs": 1}}

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        mistakes = [
            mistake
            for name, data_set in self.data.sets.items()
            for mistake in self._list_mistakes(self.data.key_of(name), data_set)
        ]
        weights, scales = self.loss.scale_weights, self.model.network.num_scales
        if weights is not None and len(weights) != scales:
            mistakes.append(f"loss.scale_weights has {len(weights)} weights for the {scales} of model.network.scales")
        if self.loss.left_right_consistency and not self.model.network.predicts_right_view:
            network = self.model.network.name
            mistakes.append(
                f"loss.left_right_consistency needs two views, and {network} predicts no right view: "
                "set model.network=unet and model.network.right_view=true"
            )
        sizes = {(stage.height, stage.width) for stage in self.training.stages} - {(self.data.height, self.data.width)}
        if sizes and self.model.pose_head == "linear":
            mistakes.append(f"{_LINEAR_HEAD}, training.stages has several: take pool or convolution")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _list_mistakes(self, key: str, data_set: DatasetConfig) -> Iterator[str]:
        if not data_set.offsets and data_set.stereo is False:
            yield f"{key}.offsets is empty and {key}.stereo is false: set one of them, since an image needs a source"
        crop = data_set.augmentation.crop
        if min(crop or (data_set.height, data_set.width)) >> (self.loss.pyramid - 1) < 4:
            size = f"{data_set.width}x{data_set.height}" if crop is None else f"{crop[1]}x{crop[0]}"
            yield f"loss.pyramid={self.loss.pyramid} halves an image of {size} to less than 4 pixels"
        if self.model.network.predicts_right_view and data_set.stereo is False:
            yield f"model.network.right_view needs the right image: set {key}.stereo to true"
        if self.model.network.predicts_right_view and "right" in data_set.target_sides:
            mistake = f"model.network.right_view is true and {key}.target_sides holds right"
            yield f"{mistake}, set {key}.target_sides=['left']"
        if self.model.brightness and not data_set.offsets:
            mistake = f"model.brightness is true and {key}.offsets is empty"
            yield f"{mistake}: brightness needs neighbors in time"
        if bool(data_set.offsets) != bool(self.data.offsets):
            rule = "all datasets need neighbors in time, or no dataset has any"
            yield f"{key}.offsets and data.offsets: {rule}"
        sizes = {crop or (data_set.height, data_set.width), (data_set.height, data_set.width)}
        if self.model.pose_head == "linear" and sizes != {(self.data.height, self.data.width)}:
            yield f"{_LINEAR_HEAD}, and {key} has another size: set model.pose_head=pool or convolution"
        if self.loss.sparse_depth and not data_set.ground_truth_depth:
            yield f"loss.sparse_depth needs depth, and {key}.ground_truth_depth is false: set it to true"
        if self.loss.speed and not data_set.offsets:
            yield f"loss.speed needs motion, and {key}.offsets is empty: set {key}.offsets=[-1,1], or loss.speed=0"
        if self.loss.speed and data_set.poses == POSES_OF_MAP:
            yield f"loss.speed is in metres, and the map is not: give {key}.poses, or loss.speed=0"
        if self.model.network.predicts_right_view and data_set.augmentation.tilt.probability:
            yield (
                f"model.network.right_view and {key}.augmentation.tilt do not work together: set right_view=false, or"
                " tilt.probability=0"
            )
