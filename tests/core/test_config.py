"""Strict configuration: every mistake at once, the nearest name for each, later overrides win."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from stadia.core.config import StrictModel, list_keys, merge_overrides, parse_value, resolve_config
from stadia.core.errors import ConfigError


class Inner(StrictModel):
    lr: float = Field(1e-3, gt=0)
    name: str = "adamw"


class Outer(StrictModel):
    optimizer: Inner = Inner()
    extra: Inner | None = None
    height: int = 96
    width: int
    offsets: tuple[int, ...] = (-1, 1)

    @model_validator(mode="after")
    def _wide(self) -> Outer:
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


@pytest.mark.parametrize("text", ["a,b", "[a,b]", "[a, b,]", "['a','b']"])
def test_error_of_an_unquoted_list_shows_the_quoted_one(text):
    """`names=["a","b"]` reaches the program as names=[a,b]: a shell takes the quotes off."""

    class Named(StrictModel):
        names: tuple[str, ...] = ()

    with pytest.raises(ConfigError) as caught:
        resolve_config(Named, {}, [f"names={text}"])
    assert """'names': expected a list, quoted for the shell: 'names=["a","b"]'""" in str(caught.value)
    assert "tuple" not in str(caught.value)
    (typed,) = shlex.split("""'names=["a","b"]'""")
    assert resolve_config(Named, {}, [typed]).names == ("a", "b")


def test_a_number_where_a_list_belongs():
    class Named(StrictModel):
        offsets: tuple[int, ...] = ()

    with pytest.raises(ConfigError, match=r"'offsets': expected a list, quoted for the shell: 'offsets=\[1\]'"):
        resolve_config(Named, {}, ["offsets=1"])


def test_overrides_lie_over_the_base_and_leave_it_alone():
    base = {"width": 320, "optimizer": {"name": "sgd"}}
    config = resolve_config(Outer, base, ["optimizer.lr=0.5"])
    assert config.optimizer == Inner(name="sgd", lr=0.5)
    assert base == {"width": 320, "optimizer": {"name": "sgd"}}


def test_optional_group_can_be_set_by_a_dotted_key():
    assert resolve_config(Outer, {"width": 100}, ["extra.lr=1"]).extra == Inner(lr=1)


def test_every_mistake_is_listed_at_once():
    with pytest.raises(ConfigError) as refused:
        resolve_config(Outer, {"optimzer": {"lr": 1}}, ["hieght=3", "optimizer.lrr=1", "optimizer.lr=-1", "name=x"])
    message = str(refused.value)
    assert message.count("\n") == 0
    for part in (
        "6 mistakes",
        "unknown key 'optimzer', did you mean 'optimizer'?",
        "unknown key 'hieght', did you mean 'height'?",
        "unknown key 'optimizer.lrr', did you mean 'optimizer.lr'?",
        "unknown key 'name', did you mean 'optimizer.name'?",  # the right name in the wrong group
        "'optimizer.lr': input should be greater than 0 (found -1)",
        "'width': field required",
    ):
        assert part in message


def test_rules_between_keys_are_reported():
    with pytest.raises(ConfigError, match="width must not be below height"):
        resolve_config(Outer, {"width": 10})


def test_value_where_a_group_is_expected():
    with pytest.raises(ConfigError, match="'optimizer'"):
        resolve_config(Outer, {"width": 100}, ["optimizer=3"])
    with pytest.raises(ConfigError, match="'height' is a value"):
        resolve_config(Outer, {"height": 100}, ["height.x=3"])


@pytest.mark.parametrize("override", ["lr", "=3", ""])
def test_override_without_key_or_value(override):
    with pytest.raises(ConfigError, match="expected key=value"):
        merge_overrides({}, [override])


def test_keys_lists_groups_and_leaves():
    assert list_keys(Outer) == [
        "optimizer",
        "optimizer.lr",
        "optimizer.name",
        "extra",
        "extra.lr",
        "extra.name",
        "height",
        "width",
        "offsets",
    ]


def test_resolved_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        resolve_config(Outer, {"width": 320}).width = 3  # type: ignore[misc]


def test_configuration_survives_json():
    config = resolve_config(Outer, {"width": 320}, ["extra.lr=1"])
    assert resolve_config(Outer, config.model_dump(mode="json")) == config


def test_no_torch():
    program = (
        "import sys; sys.modules['torch'] = None; import stadia.core.config, stadia.core.files, stadia.core.seeds,"
        " stadia.core.registry"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    message = str(caught.value)
    assert "unknown key 'groups.first.rl'" in message
    assert "did you mean 'groups.first.lr'" in message
    assert "'groups.first.lr': input should be greater than 0" in message
    assert "'groups.second'" in message


class Choices(StrictModel):
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    size: tuple[int, int] | None = None
    parts: tuple[Inner, ...] = ()
    rate: float = 1.0
    either: float | tuple[float, ...] | None = None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("devices=cuda", "'devices': input should be a valid integer or 'auto' (found 'cuda')"),
        ("devices=-7", "'devices': input should be greater than or equal to 1 or 'auto' (found -7)"),
        ("devices=[]", "'devices': input should be a valid integer or 'auto' (found [])"),
        ("size=[1]", "'size.1': field required"),
        ("size=[1,x]".replace("x", '"x"'), "'size.1': input should be a valid integer"),
        ('parts=[{"lr":"x"}]', "'parts.0.lr': input should be a valid number"),
        ("either=x", "'either': "),
        ("rate=1e400", "'rate': input should be a finite number (found inf)"),
        ("rate=NaN", "'rate': input should be a finite number (found nan)"),
        ("rate=" + "x" * 5000, "..."),
    ],
)
def test_one_mistake_for_a_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve_config(Choices, {}, [override])
    assert message in str(refused.value)
    assert "1 mistake in" in str(refused.value)
    assert len(str(refused.value)) < 500
