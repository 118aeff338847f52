"""Write and read checkpoints as safetensors, with a SHA-256 of the file (docs/reference/checkpoint-format.md)."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import safetensors
from pydantic import Field

from stadia.core.config import StrictModel
from stadia.core.errors import CheckpointError, DataError, summarize_exception
from stadia.core.registry import refuse_code
from stadia.io.atomic_files import atomic_write, make_temporary_folder, write_json
from stadia.io.input_files import check_input_file, check_json_values, load_json, read_json
from stadia.io.run_facts import CHECKPOINT_KINDS, check_network_exists, describe_runs

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = "stadia-checkpoint"
"""Name of the format in the header."""

VERSION = 4
"""Version of the format that is written."""

READ_VERSIONS = (3, VERSION)
"""Version 3 lists the SHA-256 of each tensor as `checksums` instead of `checksum`."""

MAX_STEP = 10**12
"""Largest step of a header: a larger one is damage."""

MAX_HEADER_BYTES = 16 << 20
"""Largest header, bytes: the names of all tensors take less than a megabyte."""

MAX_BYTES = 1 << 36
"""Largest checkpoint that is opened, bytes: 64 GiB."""

_METADATA_KEY, _DIGEST_KEY = "stadia", "stadia-sha256"
_WEIGHTS = "state_dict/"
_FIELD_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, MemoryError)


class CheckpointHeader(StrictModel):
    """The header of a checkpoint.

    recipe, config: the configuration as resolved.
    kind: "training" can be resumed; "weights" can predict, and start another training.
    step, epoch: updates made, and the epoch of the last one (from 0).
    metrics: scores of the latest validation, by name.
    licence: licence of the published start weights, or "".
    scale_from: origin of its metres, or "".
    """

    recipe: str = Field(min_length=1, max_length=100)
    config: dict[str, Any]
    kind: Literal["training", "weights"]
    step: int = Field(ge=0, le=MAX_STEP)
    epoch: int = Field(ge=0, le=MAX_STEP)
    metrics: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    licence: str = Field(default="", max_length=200)
    scale_from: str = Field(default="", max_length=1000)


def write_checkpoint(path: Path, header: CheckpointHeader, state: Mapping[str, Any]) -> None:
    """Write PATH.safetensors and the copy of its header, PATH.json; the previous file stays until the new one is whole.

    state: nested dicts, lists, tuples, numbers, strings and tensors; TypeError for anything else.
    """
    tensors: dict[str, Tensor] = {}
    nest = _encode(state, "", tensors)
    checksum = _combine_digests({key: _digest(tensor) for key, tensor in tensors.items()})
    text = json.dumps({**_describe(header), "state": nest, "checksum": checksum}, allow_nan=False)
    metadata = {_METADATA_KEY: text, _DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
    with atomic_write(path) as temporary:
        _save_tensors(temporary, tensors, metadata)
    write_header_copy(path, header)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, each with its own memory, because safetensors refuses tied ones."""
    from safetensors.torch import save_file

    written = set[int]()
    own_memory: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        own_memory[name] = tensor.clone() if memory in written else tensor
        written.add(memory)
    folder = make_temporary_folder(path.parent, path.stem)
    try:
        save_file(own_memory, folder / path.name, metadata)
        (folder / path.name).replace(path)
    except safetensors.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))  # the only place of the system's error
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_header_copy(path: Path, header: CheckpointHeader) -> None:
    """Write PATH.json, which people read."""
    write_json(path.with_suffix(".json"), _describe(header))


def _describe(header: CheckpointHeader) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, **header.model_dump()}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk with its header. Tensors are read on demand.

    checksum: SHA-256 of all tensors, with their names, types and shapes.
    names: names of the tensors.
    """

    path: Path
    header: CheckpointHeader
    nest: Any
    checksum: str
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Open a .safetensors file, its .json, or a run folder (its best checkpoint, or its last).

        Raises CheckpointError if it is missing, truncated, or not a checkpoint of stadia.
        """
        path = _locate(Path(path))
        with _reading(path) as file:
            metadata = file.metadata() or {}
            names = tuple(file.keys())
        text = metadata.get(_METADATA_KEY)
        if text is None:
            found = "a safetensors file without a stadia header"
            raise CheckpointError(
                path,
                found=found,
                expected="a checkpoint of stadia",
                fix="pass a checkpoint that `stadia train` wrote, such as RUN/checkpoints/best.safetensors",
            )
        try:
            values = _parse_header(path, text, metadata.get(_DIGEST_KEY))
            header = CheckpointHeader.model_validate(
                {name: values[name] for name in CheckpointHeader.model_fields if name in values}
            )
            nest = values["state"]
            checksum = values["checksum"] if "checksum" in values else _combine_digests(dict(values["checksums"]))
        except _FIELD_ERRORS as error:
            raise _damaged(path, f"an unreadable header ({type(error).__name__})") from error
        refuse_code(path, header.config)
        return cls(path, header, nest, checksum, names)

    @property
    def run_folder(self) -> Path:
        """Return the folder of its run."""
        return self.path.parent.parent

    @property
    def title(self) -> str:
        """Return its file's name and step."""
        return f"{self.path.name}, step {self.header.step}"

    @property
    def licence(self) -> str:
        """Return the licence of the published weights that its network started from."""
        if self.header.licence:
            return self.header.licence
        model = self.header.config.get("model")
        network = model.get("network") if isinstance(model, Mapping) else None
        licence = network.get("licence") if isinstance(network, Mapping) else None
        return licence if isinstance(licence, str) else ""

    @property
    def built_recipe(self) -> Any:
        """Return the recipe of a network that no run trained; None if the file must be loaded."""
        return None

    def state(self) -> dict[str, Any]:
        """Return the whole nest. Raises CheckpointError if a tensor has changed."""
        tensors = self._read()
        try:
            return dict(_decode(self.nest, tensors))
        except _FIELD_ERRORS as error:
            raise _damaged(self.path, f"an unreadable state ({type(error).__name__}: {error})") from error

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, by their names in the model's state_dict. Raises CheckpointError as `state`."""
        return {key.removeprefix(_WEIGHTS): tensor for key, tensor in self._read(_WEIGHTS).items()}

    def buffer(self, name: str) -> tuple[float, ...]:
        """Return the values of a small tensor of the model, flat; empty without it."""
        key = _WEIGHTS + name
        if key not in self.names:
            return ()
        with _reading(self.path, framework="pt") as file:
            return tuple(file.get_tensor(key).flatten().tolist())

    def count_numbers(self) -> int:
        """Return the count of numbers in all tensors."""
        with _reading(self.path) as file:
            return sum(math.prod(file.get_slice(key).get_shape()) for key in self.names)

    def _read(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the tensors whose names start with a prefix, after all of them were compared with the checksum."""
        digests: dict[str, str] = {}
        tensors: dict[str, Tensor] = {}
        with _reading(self.path, framework="pt") as file:
            for key in self.names:
                tensor = file.get_tensor(key)
                digests[key] = _digest(tensor)
                if key.startswith(prefix):
                    tensors[key] = tensor
        if _combine_digests(digests) != self.checksum:
            raise _damaged(self.path, "tensors with changed bytes")
        return tensors


def open_checkpoint(checkpoint: Checkpoint | Path | str) -> Checkpoint:
    """Return a checkpoint; a path is opened."""
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.open(Path(checkpoint))


def name_kept_checkpoint(step: int) -> str:
    """Return the name of a checkpoint that `training.keep_every` keeps.

    Examples:
        >>> name_kept_checkpoint(500)
        'step-0000500'
    """
    return f"step-{step:07d}"


def list_kept_checkpoints(run: Path) -> list[Path]:
    """Return the kept checkpoints of a run's folder, by their steps."""
    return sorted((run / "checkpoints").glob("step-*.safetensors"))


def read_steps(folder: Path) -> dict[str, int]:
    """Return the step of the best and of the last checkpoint of a folder, if readable."""
    steps = dict[str, int]()
    for name in ("best", "last"):
        if (folder / f"{name}.safetensors").is_file():
            with suppress(DataError, *_FIELD_ERRORS):
                header = read_json(folder / f"{name}.json")
                steps[name] = CheckpointHeader.model_validate(
                    {field: header[field] for field in CheckpointHeader.model_fields}
                ).step
    return steps


def load_weights(
    checkpoint: Checkpoint,
    module: nn.Module,
    *,
    recipe: str | Sequence[str],
    without: Collection[str] = (),
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Copy the weights of a checkpoint into a module.

    checkpoint: the checkpoint.
    module: the module that receives the weights.
    recipe: name of the required recipe of the checkpoint, or several allowed names.
    without: names of weights that keep the module's values, and may be missing in the checkpoint.
    weights: the checkpoint's weights under the module's names; None takes them as they are.

    Raises CheckpointError if the recipe, a name or a shape differs; the module stays unchanged then.
    """
    check_recipe(checkpoint, recipe)
    given = checkpoint.weights() if weights is None else weights
    kept = {name: tensor for name, tensor in given.items() if name not in without}
    check_weights(checkpoint, kept, module, without=without)
    module.load_state_dict(kept, strict=False)


def check_recipe(checkpoint: Checkpoint, recipe: str | Sequence[str]) -> None:
    """Raise CheckpointError if the checkpoint is of another recipe."""
    recipes = (recipe,) if isinstance(recipe, str) else recipe
    if checkpoint.header.recipe not in recipes:
        found, expected = f"a checkpoint of '{checkpoint.header.recipe}'", f"one of {' or '.join(map(repr, recipes))}"
        fix = "pass one of this recipe" if len(recipes) == 1 else "pass one of these recipes"
        raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix)


def check_weights(
    checkpoint: Checkpoint, weights: Mapping[str, Tensor], module: nn.Module, *, without: Collection[str] = ()
) -> None:
    """Raise CheckpointError if names or shapes of weights differ from the module, except those in `without`."""
    if mistakes := compare_weights(weights, module, without=without):
        listed = "; ".join(mistakes[:3]) + "; ..." * (len(mistakes) > 3)
        found = f"{len(mistakes)} wrong tensors ({listed})"
        expected = f"the weights of this '{checkpoint.header.recipe}'"
        settings = _list_other_settings(checkpoint, module)
        fix = f"set {' '.join(settings)}" if settings else "use the model settings of that run, in its config.json"
        raise CheckpointError(checkpoint.path, found=found, expected=expected, fix=fix)


def _list_other_settings(checkpoint: Checkpoint, module: nn.Module) -> list[str]:
    config = getattr(module, "config", None)
    own = config.model_dump(mode="json").get("model") if isinstance(config, StrictModel) else None
    others = checkpoint.header.config.get("model")
    if not isinstance(own, dict) or not isinstance(others, dict):
        return []
    return list(_list_differing_values("model", own, others))


def _list_differing_values(group: str, own: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[str]:
    for name, value in others.items():
        key, own_value = f"{group}.{name}", own.get(name)
        if name not in own or own_value == value or name == "pretrained":
            continue
        if isinstance(value, Mapping) and isinstance(own_value, Mapping) and own_value.get("name") == value.get("name"):
            yield from _list_differing_values(key, own_value, value)
        else:
            yield f"{key}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"


def compare_weights(weights: Mapping[str, Tensor], module: nn.Module, *, without: Collection[str] = ()) -> list[str]:
    """Return the differences between saved weights and a module, a line for each name."""
    own = {name: tensor for name, tensor in module.state_dict().items() if name not in without}
    lines = [f"'{name}' is missing" for name in own if name not in weights]
    lines += [f"'{name}' is not in the model" for name in weights if name not in own]
    lines += [
        f"'{name}' is {tuple(tensor.shape)}, the model has {tuple(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and own[name].shape != tensor.shape
    ]
    return lines


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"$tensor": path}
    if isinstance(value, Mapping):
        items = {key: _encode(entry, f"{path}/{key}".lstrip("/"), tensors) for key, entry in value.items()}
        if all(isinstance(key, str) and not key.startswith("$") for key in items):
            return items
        return {"$items": [[key, entry] for key, entry in items.items()]}
    if isinstance(value, list | tuple):
        entries = [_encode(entry, f"{path}/{index}".lstrip("/"), tensors) for index, entry in enumerate(value)]
        return {"$tuple": entries} if isinstance(value, tuple) else entries
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint cannot hold {path}: {type(value).__name__}")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$items" in value:
        return {key: _decode(entry, tensors) for key, entry in value["$items"]}
    if "$tuple" in value:
        return tuple(_decode(entry, tensors) for entry in value["$tuple"])
    if "$float" in value:
        return float(value["$float"])
    return {key: _decode(entry, tensors) for key, entry in value.items()}


def _digest(tensor: Tensor) -> str:
    import torch

    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    if tensor.numel():
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _combine_digests(digests: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _parse_header(path: Path, text: str, digest: str | None) -> dict[str, Any]:
    if len(text) > MAX_HEADER_BYTES:
        raise _damaged(path, f"a header of {len(text)} characters")
    check_json_values(path, text)
    values: dict[str, Any] = load_json(text, parse_constant=_refuse_constant)
    name, version = values["format"], values["version"]
    if name != FORMAT or type(version) is not int or version not in READ_VERSIONS:
        found, expected = f"{str(name)[:100]} version {str(version)[:20]}", f"{FORMAT} version {VERSION}"
        fix = "read it with the version of stadia that wrote it"
        raise CheckpointError(path, found=found, expected=expected, fix=fix)
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise _damaged(path, "a header with changed bytes")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON")


def _locate(path: Path) -> Path:
    expected = CHECKPOINT_KINDS
    check_network_exists(path)
    if (path / "predictions.json").is_file():
        fix = "pass the run or the file that predicted them"
        raise CheckpointError(path, found="a folder of predictions", expected=expected, fix=fix)
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        for name in ("best.safetensors", "last.safetensors"):
            if (folder / name).is_file():
                return folder / name
        fix = describe_runs([path], need_checkpoint=True) or "pass the folder of one run, or a .safetensors file"
        raise CheckpointError(path, found="a folder without a checkpoint", expected=expected, fix=fix)
    beside = path.with_suffix(".safetensors")
    return beside if path.suffix == ".json" and beside.is_file() else path


def _damaged(path: Path, found: str) -> CheckpointError:
    fix = "use another one of the run (last, best), or train again"
    return CheckpointError(path, found=found, expected="a whole checkpoint", fix=fix)


@contextmanager
def _reading(path: Path, framework: str = "np") -> Iterator[Any]:
    try:
        check_input_file(path, expected="a .safetensors checkpoint", max_bytes=MAX_BYTES)
        with safetensors.safe_open(path, framework=framework, device="cpu") as file:
            yield file
    except DataError as error:
        raise CheckpointError(path, found=error.found, expected=error.expected, fix=error.fix) from error
    except (safetensors.SafetensorError, OSError, MemoryError, RuntimeError, UnicodeError) as error:
        if "Cannot allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        if path.suffix != ".safetensors":
            expected = "a checkpoint of stadia: a run folder, or its checkpoints/best.safetensors"
            found = "another kind of file"
            raise CheckpointError(path, found=found, expected=expected, fix=_find_other_use(path)) from error
        raise _damaged(path, f"a truncated or damaged file ({summarize_exception(error)})") from error


def _find_other_use(path: Path) -> str:
    if path.suffix in (".onnx", ".pt2"):
        return "run it by `stadia predict FILE.onnx INPUT --out DIR`; `stadia evaluate --depth DIR` scores that"
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        return (
            "published networks have a name (`stadia list networks`: depth-anything-v2-small, depth-pro, moge-2-vitl);"
            " `stadia import FILE --as` reads monodepth2, midas and dpt; `stadia evaluate --depth DIR` scores any maps"
        )
    if path.suffix in (".xml", ".engine", ".trt", ".plan", ".tflite", ".mlmodel"):
        return "pass the run that it was exported from: --backend openvino and --backend onnxruntime run it as fast"
    if path.suffix in (".txt", ".csv", ".tum"):
        return f"to score a trajectory: stadia evaluate --trajectory {path} --reference TRUTH"
    return "check the path"
