"""Strict configuration: every mistake at once, the nearest name for each, later overrides win."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field, ValidationError, model_validator
from tests.refusals import refuses

from stadia.core.config import (
    StrictModel,
    diff_mappings,
    list_keys,
    merge_overrides,
    parse_value,
    resolve_config,
    select_relevant_changes,
)
from stadia.core.errors import ConfigError


class Inner(StrictModel):
    lr: float = Field(1e-3, gt=0)
    name: str = "adamw"


class WasLarger(StrictModel):
    former_keys = {"power": 2.0}  # noqa: RUF012
    kept: int = 1


class Outer(StrictModel):
    optimizer: Inner = Inner()
    extra: Inner | None = None
    height: int = 96
    width: int
    offsets: tuple[int, ...] = (-1, 1)

    @model_validator(mode="after")
    def _wide(self) -> "Outer":
        if self.width < self.height:
            raise ValueError("Width must not be below height")
        return self


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("adamw", "adamw"),
        ("", ""),
        ('"12"', "12"),
        ("a=b", "a=b"),
        ("1" * 5000, "1" * 5000),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=lambda value: str(value)[:12],
)
def test_values_are_json_or_text(text, value):
    assert parse_value(text) == value


def test_defaults_and_overrides():
    config = resolve_config(Outer, {"width": 320}, ["optimizer.lr=2e-4", "offsets=[-2,2]", "optimizer.lr=3e-4"])
    assert config == Outer(width=320, optimizer=Inner(lr=3e-4), offsets=(-2, 2))


class Lists(StrictModel):
    names: tuple[str, ...] = ()
    offsets: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    precision: Literal["32", "bf16"] = "bf16"
    either: float | tuple[float, ...] = 1.0
    matrix: tuple[tuple[int, int], ...] = ()
    heights: dict[int, float] = Field(default_factory=dict)


@pytest.mark.parametrize("text", ["a,b", "[a,b]", "[a, b,]", "['a','b']", '["a","b"]'])
def test_a_list_needs_no_quotes(text):
    assert resolve_config(Lists, {}, [f"names={text}"]).names == ("a", "b")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("names=06", ("06",)),
        ("names=6,7", ("6", "7")),
        ("offsets=1", (1,)),
        ("offsets=-1,1", (-1, 1)),
        ("size=192x640", (192, 640)),
        ("size=192,640", (192, 640)),
        ("size=null", None),
        ("precision=32", "32"),
        ("either=2", 2.0),
    ],
)
def test_one_value_for_a_list_and_a_number_for_a_choice(override, value):
    assert getattr(resolve_config(Lists, {}, [override]), override.partition("=")[0]) == value


def test_a_missing_key_has_a_fix_of_its_own():
    with refuses(ConfigError, where="width", fix="--width"):
        resolve_config(Outer, {}, missing={"width": "give it by --width"})


def test_configurations_paths_and_arrays_are_values():

    class Camera(StrictModel):
        K: tuple[tuple[float, float], ...] | None = None
        K_file: str | None = None

    class Options(StrictModel):
        camera: Camera = Camera(K_file="default.txt")
        inner: Inner = Inner(lr=0.5)

    base = {"camera": Camera(K=((1, 0), (0, 1)), K_file=None), "inner": Inner(name="sgd")}
    resolved = resolve_config(Options, base, ["inner.lr=0.25"])
    assert resolved == Options(camera=Camera(K=((1, 0), (0, 1))), inner=Inner(name="sgd", lr=0.25))
    assert resolve_config(Options, {"camera": {"K_file": Path("a") / "b"}}).camera.K_file == str(Path("a") / "b")
    assert resolve_config(Options, {"camera": {"K": np.eye(2), "K_file": None}}).camera.K == ((1, 0), (0, 1))
    with pytest.raises(ConfigError):
        resolve_config(Options, {"camera": {"K": {1, 2}}})


def test_every_mistake_is_listed_at_once():
    with pytest.raises(ConfigError) as refused:
        resolve_config(Outer, {"optimzer": {"lr": 1}}, ["hieght=3", "optimizer.lrr=1", "optimizer.lr=-1", "name=x"])
    assert "\n" not in str(refused.value)
    near = {mistake.where: mistake.fix or "" for mistake in refused.value.mistakes}
    assert near.keys() == {"optimzer", "hieght", "optimizer.lrr", "name", "optimizer.lr", "width"}
    for key, valid in {"optimzer": "optimizer", "hieght": "height", "optimizer.lrr": "optimizer.lr"}.items():
        assert f"'{valid}'" in near[key]
    assert "'optimizer.name'" in near["name"]


def test_value_where_a_group_is_expected():
    with refuses(ConfigError, where="optimizer", found="3"):
        resolve_config(Outer, {"width": 100}, ["optimizer=3"])
    with refuses(ConfigError, where="height.x", found="height"):
        resolve_config(Outer, {"height": 100}, ["height.x=3"])


@pytest.mark.parametrize("override", ["lr", "=3", ""])
def test_override_without_key_or_value(override):
    with refuses(ConfigError, expected="key=value"):
        merge_overrides({}, [override])


def test_keys_lists_groups_and_leaves():
    expected = "optimizer optimizer.lr optimizer.name extra extra.lr extra.name height width offsets"
    assert list_keys(Outer) == expected.split()


def test_configuration_survives_json_and_cannot_be_changed():
    config = resolve_config(Outer, {"width": 320}, ["extra.lr=1"])
    assert config.extra == Inner(lr=1)
    assert resolve_config(Outer, config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError):
        config.width = 3  # type: ignore[misc]


@pytest.mark.slow
def test_a_former_key_loads_with_its_constant_value_only() -> None:
    assert resolve_config(WasLarger, {"power": 2.0, "kept": 3}) == WasLarger(kept=3)
    with refuses(ConfigError, where="power", found="an unknown key"):
        resolve_config(WasLarger, {"power": 3.0})


class Engine(StrictModel):
    cylinders: int = 4
    litres: float = 1.0


class Truck(StrictModel):
    engine: Engine = Engine(cylinders=8)


class Fleet(StrictModel):
    truck: Truck = Truck(engine=Engine(litres=9.0))
    spare: Engine | None = None


def test_a_partial_group_keeps_the_other_values_of_its_default():
    assert resolve_config(Truck, overrides=["engine.litres=6"]).engine == Engine(cylinders=8, litres=6)
    assert resolve_config(Truck, {"engine": {"cylinders": 2}}).engine == Engine(cylinders=2)
    assert resolve_config(Fleet, overrides=["truck.engine.cylinders=6"]).truck.engine == Engine(cylinders=6, litres=9)
    assert resolve_config(Fleet, overrides=["spare.litres=2"]).spare == Engine(litres=2)
    resolved = resolve_config(Fleet, overrides=["truck.engine.litres=3"])
    assert resolve_config(Fleet, resolved.model_dump(mode="json")) == resolved


class Named(StrictModel):
    groups: dict[str, Inner] = Field(default_factory=dict)


def test_groups_of_chosen_names_are_set_and_checked_as_any_other() -> None:
    config = resolve_config(Named, {}, ["groups.first.lr=2e-4", "groups.second.name=sgd"])
    assert config.groups == {"first": Inner(lr=2e-4), "second": Inner(name="sgd")}
    assert list_keys(Named) == ["groups", "groups.NAME.lr", "groups.NAME.name"]
    with pytest.raises(ConfigError) as caught:
        resolve_config(Named, {}, ["groups.first.rl=1", "groups.first.lr=0", "groups.second=3"])
    found = {mistake.where: (mistake.found, mistake.fix or "") for mistake in caught.value.mistakes}
    assert "'groups.first.lr'" in found["groups.first.rl"][1]
    assert (found["groups.first.lr"][0], found["groups.second"][0]) == ("0", "3")


class Choices(StrictModel):
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    precision: Literal["32", "bf16"] = "bf16"
    size: tuple[int, int] | None = None
    parts: tuple[Inner, ...] = ()
    rate: float = 1.0
    either: float | tuple[float, ...] | None = None


@pytest.mark.parametrize(
    ("override", "where", "found", "expected"),
    [
        ("devices=cuda", "devices", "'cuda'", "'auto'"),
        ("precision=16", "precision", "16", ("'32'", "'bf16'")),
        ("devices=-7", "devices", "-7", ("1", "'auto'")),
        ("devices=[]", "devices", "[]", "'auto'"),
        ("size=[1]", "size.1", "", ""),
        ('size=[1,"x"]', "size.1", "'x'", ""),
        ('parts=[{"lr":"x"}]', "parts.0.lr", "'x'", ""),
        ("either=x", "either", "'x'", ""),
        ("rate=1e400", "rate", "inf", ""),
        ("rate=NaN", "rate", "nan", ""),
        ("rate=" + "x" * 5000, "rate", "...", ""),
    ],
)
def test_one_mistake_for_a_key(override: str, where: str, found: str, expected: object) -> None:
    with refuses(ConfigError, where=where, found=found, expected=expected) as refused:
        resolve_config(Choices, {}, [override])
    assert len(refused.value.mistakes) == 1
    assert len(str(refused.value)) < 500


# -- Differences between two configurations, for resuming, reports and studies.


def test_each_key_that_differs() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0}
    assert diff_mappings(before, before) == []
    assert [str(change) for change in diff_mappings(before, {"a": 2, "b": {"c": [1, 2], "d": 2}, "new": None})] == [
        "a: 1 -> 2",
        "b.c: [1] -> [1, 2]",
        "gone: 0 -> not there",
        "new: not there -> None",
    ]


def test_what_changes_no_result_is_no_second_key() -> None:
    before = {
        "name": "a",
        "optimizer": {"lr": 1e-3, "name": "adam"},
        "training": {"workers": 1, "max_steps": 5},
        "data": {"path": "x"},
    }
    now = {
        "name": "b",
        "optimizer": {"lr": 2e-3, "name": "adam"},
        "training": {"workers": 4, "max_steps": 5},
        "data": {"path": "y"},
    }
    assert [change.key for change in select_relevant_changes(diff_mappings(before, now), ["data"])] == ["optimizer.lr"]
    now["optimizer"]["name"] = "sgd"
    assert [change.key for change in select_relevant_changes(diff_mappings(before, now))] == [
        "optimizer.lr",
        "optimizer.name",
        "data.path",
    ]
