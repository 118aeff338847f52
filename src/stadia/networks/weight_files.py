"""Read weight files that somebody else wrote, without running code of theirs, and copy them into networks."""

import io
import pickletools
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from stadia.core.errors import CheckpointError
from stadia.io.input_files import check_input_file, expand_home, open_input
from stadia.networks.hub import HUB_FILE

_EXPECTED = "weights (.pt, .safetensors, or a folder)"
_MAX_BYTES = 16 << 30
"""Largest weight file that is opened: more than any published depth network has."""

_STORAGES = ("Float", "Half", "Double", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
"""Number types of torch's pickled tensors."""

_GLOBALS = frozenset(
    ["collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"]
    + [f"torch {kind}Storage" for kind in _STORAGES]
)
"""The only names that a pickled state_dict of tensors contains."""

_NAMING = ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID")
"""Operations of a pickle that name an object."""

_LEGACY_PICKLES = 5
"""Pickles of a .pt before torch 1.6: magic number, version, machine, tensors, keys."""

_MAX_PICKLE_BYTES = 64 << 20
"""Largest pickle that is read: a thousand tensors take 100 KB."""

WEIGHT_FILE_NAMES = (HUB_FILE, "pytorch_model.bin")
"""Names of the weights in a folder of transformers."""


def load_state_dict(network: nn.Module, path: Path, *, ignore: Collection[str] = ()) -> None:
    """Copy a file of published weights into a network whose parameters have the same names.

    network: changed in place, and only if all weights fit.
    path: .safetensors, or a .pt with a state_dict. A pickle with other content is refused without being loaded.
    ignore: names of the network's parameters that the file lacks.

    Raises CheckpointError for weights that are missing, left over, not finite, or of a shape that differs from the
    network's.
    """
    path = expand_home(path)
    copy_weights(network, read_tensors(path), path, ignore=ignore, fix="pass the weights of this network")


def copy_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, *, ignore: Collection[str] = (), fix: str
) -> None:
    """Copy tensors into a network that has parameters of the same names and the same shapes.

    network: changed in place, and only if all weights fit.
    tensors: weights by name; each parameter must occur exactly once.
    path: file of the tensors, which an error message names.
    ignore: names of the network's parameters that have no tensor.
    fix: the fix that an error message names.

    Raises CheckpointError for weights that are missing, left over, not finite, or of a shape that differs from the
    network's.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if name not in ignore}
    kinds = {
        "missing": own.keys() - tensors.keys(),
        "left over": tensors.keys() - own.keys(),
        "of another shape": {
            name for name, tensor in tensors.items() if name in own and own[name].shape != tensor.shape
        },
        "not finite": {name for name, tensor in tensors.items() if not tensor.isfinite().all()},
    }
    refuse_differences(path, kinds, fix)
    network.load_state_dict(dict(tensors), strict=False)


def refuse_differences(path: Path, kinds: Mapping[str, Collection[str]], fix: str) -> None:
    """Raise CheckpointError if a file's weights differ from the network's.

    path: the file that an error message names.
    kinds: names of the differing weights, by the kind of difference, such as "missing".
    fix: the fix that an error message names.
    """
    if any(kinds.values()):
        found = "; ".join(f"{kind}: {summarize_names(sorted(names))}" for kind, names in kinds.items() if names)
        raise CheckpointError(path, found=found, expected="each weight of the network once", fix=fix)


def read_tensors(path: Path, plain: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a .pt file with a state_dict; return them by name.

    path: the file.
    plain: names of plain numbers in the file, which are returned as scalar tensors.

    Raises CheckpointError for any other content.
    """
    check_input_file(path, expected=_EXPECTED, max_bytes=_MAX_BYTES)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, plain)


def resolve_weights_file(path: Path) -> Path:
    """Return the weight file at a path: the file itself, or the one in the folder. It is not opened.

    Raises CheckpointError if it is missing.
    """
    path = expand_home(path)
    if path.is_dir():
        found = next((path / file for file in WEIGHT_FILE_NAMES if (path / file).is_file()), None)
        if found is None:
            names = " or ".join(WEIGHT_FILE_NAMES)
            raise CheckpointError(
                path, found="a folder without weights", expected=names, fix="pass the file of the weights itself"
            )
        return found
    if not path.exists():
        raise CheckpointError(path, found="no such file", expected=_EXPECTED, fix="check the path")
    return path


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            if "stadia" in (file.metadata() or {}):
                expected = "weights of isl-org/DPT or transformers"
                found, fix = "a checkpoint of stadia", "pass it as start_from"
                raise CheckpointError(path, found=found, expected=expected, fix=fix)
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path, plain: Collection[str] = ()) -> dict[str, Tensor]:
    try:
        _check_pickles(path)
        values: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except UnpicklingError as error:
        fix = "save model.state_dict() alone, best as .safetensors"
        raise CheckpointError(path, found="no plain tensors", expected="a state_dict", fix=fix) from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError, MemoryError) as error:
        raise _damaged(path, error) from error
    for key in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if isinstance(values, Mapping) and plain:
        is_number = {n: n in plain and isinstance(v, bool | int | float) for n, v in values.items()}
        values = {name: torch.tensor(value) if is_number[name] else value for name, value in values.items()}
    if isinstance(values, Mapping) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in values.items()):
        return dict(values)
    found, fix = "no names with a tensor each", "save model.state_dict() alone"
    raise CheckpointError(path, found=found, expected="a state_dict", fix=fix)


def _check_pickles(path: Path) -> None:
    """Raise UnpicklingError if a .pt names anything but tensors and maps, before torch reads it.

    torch's `weights_only` runs no code, but allows `bytearray(1 << 40)` in a file of a kilobyte.
    """
    if zipfile.is_zipfile(path):
        reader: Any = torch._C.PyTorchFileReader(str(path))  # like torch.load: two readers may find different contents
        if (size := reader.get_record_size("data.pkl")) > _MAX_PICKLE_BYTES:
            raise UnpicklingError(f"{size} bytes of names")
        _check_globals(io.BytesIO(reader.get_record("data.pkl")))
        return
    with open_input(path, expected=_EXPECTED, max_bytes=_MAX_BYTES) as stream:
        for _ in range(_LEGACY_PICKLES):
            _check_globals(stream)


def _check_globals(stream: BinaryIO) -> None:
    for operation, name, _ in pickletools.genops(stream):
        if operation.name in _NAMING and (operation.name != "GLOBAL" or name not in _GLOBALS):
            raise UnpicklingError(f"{operation.name} {name}")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    found = f"an unreadable file ({type(error).__name__})"
    return CheckpointError(
        path, found=found, expected="undamaged weights", fix="delete the file and download the weights again"
    )


def summarize_names(names: Sequence[str]) -> str:
    """Return the number of names and the first three of them as text, such as "4 (a, b, c, ...)"."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else "0"


SLACK_FACTOR = 4
"""A network may have this many times the weights of its file: an exchanged part may be larger."""

SLACK_NUMBERS = 1 << 26
"""While a network is built, it may have this many more weights than SLACK_FACTOR times the weights of its file."""

MAX_PARAMETERS = 1 << 15
"""Largest number of parameter tensors of a network. The largest published network has a tenth of it.

Networks are built from configurations that others wrote, and each layer takes memory.
"""


@contextmanager
def limit_parameters(path: Path, numbers: int) -> Iterator[None]:
    """Raise CheckpointError if a network that is built in the `with` block is far larger than its weight file.

    path: the weight file that an error message names.
    numbers: how many numbers the file contains.
    """
    count, parameters, most = 0, 0, SLACK_FACTOR * numbers + SLACK_NUMBERS

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, parameters
        count += 0 if parameter is None else parameter.numel()
        parameters += 1
        if count > most or parameters > MAX_PARAMETERS:
            raise CheckpointError(
                path,
                found=f"a configuration of a network with more than {most >> 20} million weights, or too many layers",
                expected="a configuration of the file's own weights",
                fix="use a checkpoint whose configuration nobody changed",
            )

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()
