"""Open inputs of an objectpose prediction: a data set of objects, or anything that `open_input` opens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stadia.core.config import resolve
from stadia.core.errors import ConfigError, DataError
from stadia.core.types import Meta
from stadia.data.config import SourceOptions
from stadia.data.object_labels import ObjectImages
from stadia.data.object_layout import OBJECT_FORMATS, object_layout, splits_of
from stadia.data.object_sources import open_object_images
from stadia.data.sources import refuse_idle_options
from stadia.evaluation.frames import Frame
from stadia.evaluation.video import DEFAULT_RATE_HZ
from stadia.recipes.inputs import Input, open_input
from stadia.recipes.object_scoring import image_name

_PREFERRED = ("test", "val")


@dataclass(frozen=True)
class ObjectInput:
    """An input; `images` is the data set of objects behind it (each `every`-th image), else None."""

    given: Input
    images: ObjectImages | None = None
    every: int = 1


def open_object_inputs(path: Path, *, every: int = 1, format: str = "auto", **options: Any) -> list[ObjectInput]:
    """Open one split of a data set of objects, or what `open_input` opens; labels are not read.

    options: fields of `stadia.data.config.SourceOptions`. A data set of objects uses `split` only; default: test, else
        val, else the only one. Raises ConfigError for a wrong option, DataError without images or split.
    """
    path = Path(path).expanduser()
    layout = object_layout(path) if format == "auto" else format if format in OBJECT_FORMATS else None
    if layout is None:
        return [ObjectInput(given) for given in open_input(path, every=every, format=format, **options)]
    chosen = resolve(SourceOptions, options)
    refuse_idle_options(
        chosen, SourceOptions.model_fields.keys() - {"split"}, "a data set of objects, which contains its cameras,"
    )
    images = open_object_images(path, _choose_split(path, layout, chosen.split), layout)
    indices = range(0, len(images), every)
    return [ObjectInput(Input(images.name, _frames(images, indices), len(indices), DEFAULT_RATE_HZ), images, every)]


def _choose_split(path: Path, layout: str, requested: str | None) -> str:
    splits = splits_of(path, layout)
    if requested is not None:
        if requested not in splits:
            raise DataError(
                path, found=f"splits {', '.join(splits)}", expected=f"a split '{requested}'", fix="correct data.split"
            )
        return requested
    if len(splits) == 1:
        return splits[0]
    for name in _PREFERRED:
        if name in splits:
            return name
    found = f"splits {', '.join(splits)}" if splits else "no split with images"
    raise ConfigError(str(path), found=found, expected="one of them to predict", fix="name it: data.split=NAME")


def _frames(images: ObjectImages, indices: range) -> Iterator[Frame]:
    for index in indices:
        name = image_name(Meta(images.name, index, file=images.file(index))).replace("/", "-")
        yield Frame(name, images.image(index), images.camera(index).K.double().numpy())
