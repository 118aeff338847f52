"""Published depth networks: output, licence, score and files of each. This module does not import torch.

Only safetensors are read, and no code of a repository is ever run.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stadia.core.errors import CheckpointError, ConfigError, summarize_exception
from stadia.core.registry import OWN_PART, find_nearest_name
from stadia.core.types import DepthScale
from stadia.io.input_files import check_input_file, expand_home, read_json, read_text
from stadia.networks import DEFAULT_NETWORK, DEPTH_NETWORKS

FORBIDS_COMMERCIAL_USE = ("CC-BY-NC", "Apple-AMLR", "research only")
"""A licence forbids commercial use if its name contains one of these texts."""

PACKAGES: Mapping[str, str] = {
    "moge": "pip install git+https://github.com/microsoft/MoGe.git",
    "depth_anything_3": "pip install depth-anything-3",
}
"""Python packages of authors that run their own networks, with the command that installs each.

The package transformers runs all other published networks.
"""


BYTES_PER_PARAMETER = 4
"""Assumed size of a weight in bytes: published weights are float32, except for a few large networks."""

WEIGHT_SUFFIXES = (".safetensors", ".pt")
"""Suffixes of weight files. Packages read the .pt files of their authors."""


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """A published depth network, as published_networks.toml lists it.

    repository: repository on the Hugging Face hub, ORG/NAME.
    millions: number of parameters in millions.
    output: scale of the predicted depth: metres, up to scale, or up to scale and shift.
    licence: licence of the weights.
    use: what the network is good at.
    data: its training data.
    paper: arXiv number of the paper.
    focal: fx / width of the images whose depth it predicts in metres, or None.
    score: published or measured accuracy, as text, or "".
    package: Python package that runs the network, or "" for the package transformers.
    focal_unit_px: if the output must be multiplied by the focal length in pixels and divided by a number, this number.
    """

    repository: str
    millions: float
    output: DepthScale
    licence: str
    use: str
    data: str
    paper: str
    focal: float | None = None
    score: str = ""
    package: str = ""
    focal_unit_px: float | None = None

    @property
    def weight_bytes(self) -> float:
        """Return the approximate size of the weights in bytes."""
        return self.millions * 1e6 * BYTES_PER_PARAMETER

    @property
    def size(self) -> str:
        """Return the approximate size of the weights as text, such as "99 MB"."""
        megabytes = self.weight_bytes / 1e6
        return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"

    @property
    def is_downloaded(self) -> bool:
        """Return whether the hub's cache on this machine contains the weights; False without the hub's package."""
        if find_spec("huggingface_hub") is None:
            return False
        from stadia.networks.hub_download import find_cache

        return any(path.suffix in WEIGHT_SUFFIXES for path in find_cache(self.repository).glob("snapshots/*/*"))

    @property
    def title(self) -> str:
        """Return the text about the network that `stadia list published-networks` shows."""
        focal = "" if self.focal is None else f" at fx / width {self.focal:.3g}"
        if self.focal_unit_px is not None:
            focal = f": output times the focal length in pixels over {self.focal_unit_px:g}"
        score = f"; {self.score}" if self.score else ""
        package = f"; by the package {self.package}" if self.package else ""
        return (
            f"{self.millions:g} M parameters; {self.output}{focal}; weights {self.licence}; trained on {self.data};"
            f" arXiv {self.paper}{score}; hf:{self.repository}{package}"
        )


def _read_networks() -> dict[str, PublishedNetwork]:
    path = Path(__file__).with_name("published_networks.toml")
    rows = tomllib.loads(read_text(path, expected="the table of published networks"))
    return {name: PublishedNetwork(**{**row, "output": DepthScale(row["output"])}) for name, row in rows.items()}


PUBLISHED_NETWORKS: Mapping[str, PublishedNetwork] = _read_networks()
"""Published depth networks by the names that commands accept."""


@dataclass(frozen=True)
class NetworkRow:
    """A depth network as `stadia list networks` and the app show it.

    name: name that commands accept.
    use: what the network is good at.
    size: size of its weights, as text.
    licence: licence of its weights.
    is_here: whether its weights are on this machine, so that it needs no download.
    """

    name: str
    use: str
    size: str
    licence: str
    is_here: bool = True


def list_network_rows() -> list[NetworkRow]:
    """Return the networks that commands accept by name: the packaged one first, then the published ones."""
    base = NetworkRow(DEFAULT_NETWORK, "metres of rooms and streets, fast", "10 MB", "Apache-2.0")
    published = PUBLISHED_NETWORKS.items()
    return [
        base,
        *(NetworkRow(name, entry.use, entry.size, entry.licence, entry.is_downloaded) for name, entry in published),
    ]


def find_by_repository(repository: str) -> PublishedNetwork | None:
    """Return the listed network with this repository of the hub (ORG/NAME), or None."""
    return next((entry for entry in PUBLISHED_NETWORKS.values() if entry.repository == repository), None)


def is_non_commercial(licence: str) -> bool:
    """Return whether a licence forbids commercial use."""
    return any(part.lower() in licence.lower() for part in FORBIDS_COMMERCIAL_USE)


def describe_licence(licence: str) -> str:
    """Return a sentence about the licence of weights and whether it forbids commercial use; "" if it is unknown."""
    if not licence:
        return ""
    ban = ": it forbids commercial use" if is_non_commercial(licence) else ""
    return f"licence of the weights: {licence}{ban}"


# -- their files: in a folder, or on the Hugging Face hub

HUB = "hf:"
"""Prefix of a repository of the Hugging Face hub in a name that the user passes: hf:ORG/NAME or hf:ORG/NAME@REVISION.
"""

CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
"""Names of the files with the architecture of a network of the package transformers, and with its image preparation."""

ARCHITECTURES = (
    "chmv2",
    "depth_anything",
    "depth_pro",
    "dpt",
    "glpn",
    "prompt_depth_anything",
    "tipsv2_dpt",
    "zoedepth",
)
"""Supported values of the key `model_type` in config.json."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REPOSITORY = re.compile(r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w.-]{1,100}))?")
NEEDED_FILES = (CONFIG, PREPROCESSING, "model.safetensors")
_FILES = (*NEEDED_FILES, "model-*.safetensors", "model.safetensors.index.json")
_EXPECTED = "a name of `stadia list networks`, hf:ORG/NAME, or a folder with config.json and model.safetensors"
_MAX_BYTES = 1 << 36  # largest file of weights that is opened: 64 GiB
_DROPPED = ("auto_map", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures", "id2label")
"""Keys of config.json that are dropped. `auto_map` names code."""


@dataclass(frozen=True)
class PublishedFiles:
    """The local files of a published network.

    folder: folder with config.json and safetensors.
    entry: the network's entry in PUBLISHED_NETWORKS, or None if it is not listed.
    revision: commit on the hub; "" for a user's folder.
    """

    folder: Path
    entry: PublishedNetwork | None = None
    revision: str = ""

    @property
    def weights(self) -> Path:
        """Return the weight file, or the index of several weight files. Raises CheckpointError if there is none."""
        for name in ("model.safetensors", "model.safetensors.index.json"):
            if (self.folder / name).is_file():
                return self.folder / name
        pickles = sorted(path.name for pattern in PICKLES for path in self.folder.glob(pattern))
        found = f"{pickles[0]}, a pickle, which is not opened" if pickles else "a folder without weights"
        fix = "save them by save_pretrained, or import them by `stadia import`" if pickles else "check the folder"
        raise CheckpointError(self.folder, found=found, expected="model.safetensors", fix=fix)

    def list_weight_files(self) -> list[Path]:
        """Return the paths of all weight files.

        Raises CheckpointError or DataError if a file is missing or would be outside the folder.
        """
        first = self.weights
        if first.suffix == ".safetensors":
            names = {first.name}
        else:
            index = read_json(first, expected="an index of safetensors")
            shards = index.get("weight_map") if isinstance(index, dict) else None
            if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
                fix = "download it again"
                raise CheckpointError(first, found="no weight_map", expected="an index of safetensors", fix=fix)
            names = set(shards.values())
        for name in sorted(names):
            if Path(name).name != name or not name.endswith(".safetensors"):
                expected, fix = "safetensors beside it", "download it again"
                raise CheckpointError(first, found=f"the file '{name}'", expected=expected, fix=fix)
            check_input_file(self.folder / name, expected="weights as safetensors", max_bytes=_MAX_BYTES)
        return [self.folder / name for name in sorted(names)]


def find_repository(source: str) -> tuple[str, str | None] | None:
    """Return repository (ORG/NAME) and revision (or None) for a network's name; None if the source is a folder.

    source: a name of PUBLISHED_NETWORKS, hf:ORG/NAME, hf:ORG/NAME@REVISION, or a folder.

    Raises ConfigError for a malformed name.
    """
    if source in PUBLISHED_NETWORKS:
        return PUBLISHED_NETWORKS[source].repository, None
    if not source.startswith(HUB):
        return None
    match = _REPOSITORY.fullmatch(source.removeprefix(HUB))
    if match is None:
        fix = "for example hf:depth-anything/Depth-Anything-V2-Small-hf"
        raise ConfigError(source, found="no repository", expected="hf:ORG/NAME or hf:ORG/NAME@REVISION", fix=fix)
    return match["name"], match["revision"]


def find_published_files(source: str) -> PublishedFiles:
    """Return the local files of a published network. Files of the Hugging Face hub are downloaded once.

    source: a name of PUBLISHED_NETWORKS, hf:ORG/NAME, hf:ORG/NAME@REVISION, or a folder.

    Raises ConfigError for any other source, and CheckpointError as `download_repository` does.
    """
    repository = find_repository(source)
    if repository is not None:
        name, revision = repository
        folder = download_repository(source, name, revision)
        return PublishedFiles(folder, find_by_repository(name), folder.name)
    folder = expand_home(Path(source))
    if not folder.is_dir():
        near = find_nearest_name(source, list(PUBLISHED_NETWORKS))
        fix = f"did you mean '{near}'?" if near else "check the name"
        raise ConfigError(source, found="no such network or folder", expected=_EXPECTED, fix=fix)
    copies = sorted((folder / "snapshots").glob("*/"), key=lambda path: path.stat().st_mtime)
    return PublishedFiles(copies[-1] if copies else folder)  # a folder copied from the hub's cache has commits


def download_repository(
    source: str, repository: str, revision: str | None = None, patterns: Sequence[str] = _FILES
) -> Path:
    """Return the local folder with a repository's files, named by the commit. The files are downloaded once.

    source: the network's name as the user wrote it, for messages.
    repository: name of the repository on the hub, ORG/NAME.
    revision: commit, or None for the newest.
    patterns: wildcard patterns of the names of needed files.

    Raises CheckpointError if the hub lacks the repository, is unreachable, or requires accepting a licence.
    """
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import tqdm

    from stadia.networks.hub import offline_if_unreachable
    from stadia.networks.hub_download import fetch_missing_files

    expected = "a repository with config.json and model.safetensors"
    try:
        with offline_if_unreachable():
            if not huggingface_hub.constants.HF_HUB_OFFLINE:
                fetch_missing_files(source, repository, revision, patterns)
            folder = huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=list(patterns), tqdm_class=partial(tqdm, disable=True)
            )
            return Path(folder)
    except GatedRepoError as error:
        found = f"{repository}, whose authors ask you to accept its licence"
        fix = f"accept it on the page of {repository} on the hub, then `hf auth login`"
        raise CheckpointError(source, found=found, expected=expected, fix=fix) from error
    except RevisionNotFoundError as error:
        found = f"no revision '{revision}' of {repository}"
        raise CheckpointError(source, found=found, expected=expected, fix="leave @REVISION out") from error
    except RepositoryNotFoundError as error:
        near = find_nearest_name(repository, [entry.repository for entry in PUBLISHED_NETWORKS.values()])
        fix = f"did you mean '{HUB}{near}'?" if near else "check the name, or log in if it is private"
        raise CheckpointError(source, found="no such repository on the hub", expected=expected, fix=fix) from error
    except (OSError, ValueError) as error:  # the client's errors of connections and caches
        address = f"{huggingface_hub.constants.ENDPOINT}/{repository}"
        wanted = ", ".join(NEEDED_FILES if patterns is _FILES else patterns)
        address = f"{huggingface_hub.constants.ENDPOINT}/{repository}"
        fix = f"download them from {address} elsewhere, copy them into a folder, and pass it instead of the name"
        found = "no files on this machine, and no connection"
        raise CheckpointError(source, found=found, expected=wanted, fix=fix) from error


def read_settings(files: PublishedFiles) -> dict[str, Any]:
    """Return the contents of config.json and preprocessor_config.json, under the keys `architecture` and
    `preprocessing`.

    Keys that name code are left out.

    Raises DataError for damaged JSON, and CheckpointError for an architecture outside ARCHITECTURES.
    """
    path = files.folder / CONFIG
    values = read_json(path, expected=f"{CONFIG} of a network of transformers", fix="check the folder")
    kind = values.get("model_type") if isinstance(values, Mapping) else None
    if kind not in ARCHITECTURES:
        expected = f"model_type as one of {', '.join(ARCHITECTURES)}"
        fix = "pass a network for depth; a class of your own reads others (docs/how-to/add-a-depth-network.md)"
        raise CheckpointError(path, found=f"model_type {kind!r}", expected=expected, fix=fix)
    if isinstance(values.get("backbone"), str):
        fix = "save it with the configuration of the backbone (backbone_config)"
        found = f"backbone '{values['backbone']}', which would be downloaded"
        raise CheckpointError(path, found=found, expected="the whole architecture", fix=fix)
    architecture = {name: value for name, value in values.items() if name not in _DROPPED}
    prepared = files.folder / PREPROCESSING
    preprocessing = read_json(prepared) if prepared.is_file() else {}
    if not isinstance(preprocessing, Mapping):
        fix = "download it again"
        raise CheckpointError(prepared, found="no JSON object", expected="settings of an image processor", fix=fix)
    return {"architecture": architecture, "preprocessing": dict(preprocessing)}


_ATTENTION = (None, "eager", "sdpa")
_ACCEPTED: Mapping[str, tuple[object, ...]] = {
    "auto_map": (),
    "attn_implementation": _ATTENTION,  # others name kernels of the hub
    "_attn_implementation": _ATTENTION,
    "repo_path": (None, "shi-labs/oneformer_demo"),  # transformers' default; others name any folder
}
"""Keys that can name code, or files elsewhere, with the only values that are accepted."""

_ELSEWHERE = re.compile(r"(hf[-_]hub|local-dir):.*", re.DOTALL)
_FILE_HERE = re.compile(r"[A-Za-z0-9_-]+\.json")
_COUNTS = re.compile(r".*(size|sizes|dim|channels|layers|heads|depths|stride|strides)")
MAX_COUNT = 1 << 18
"""Largest accepted size in config.json, such as the size of a vocabulary. Layers take memory before the first weight is
read.
"""


def list_values(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value of nested JSON together with the nearest key above it."""
    left = [("", values)]
    while left:
        key, value = left.pop()
        yield key, value
        if isinstance(value, Mapping):
            left += ((str(name), inner) for name, inner in value.items())
        elif isinstance(value, list | tuple):
            left += ((key, inner) for inner in value)


def find_foreign_files(values: Any) -> list[str]:
    """Return the keys of a configuration whose values name code, or files outside the configuration's folder.

    values: content of config.json.
    """
    found = []
    for key, value in list_values(values):
        is_file = key == "class_info_file" and value is not None
        if (
            (key in _ACCEPTED and not any(value == one for one in _ACCEPTED[key]))
            or (is_file and not (isinstance(value, str) and _FILE_HERE.fullmatch(value)))
            or (isinstance(value, str) and _ELSEWHERE.fullmatch(value))
        ):
            found.append(f"'{key}'")
    return found


def check_architecture(values: Any) -> None:
    """Raise ValueError if a configuration names code or files elsewhere, or has impossible sizes or counts.

    values: content of config.json.
    """
    if found := find_foreign_files(values):
        raise ValueError(f"the architecture names code or files elsewhere: {', '.join(found[:3])}")
    for key, value in list_values(values):
        least = 1 if _COUNTS.fullmatch(key) else -MAX_COUNT
        if type(value) is int and not least <= value <= MAX_COUNT:
            raise ValueError(f"the architecture has {key}={value}; expected {least} to {MAX_COUNT}")


def is_network_folder(path: Path) -> bool:
    """Return whether a folder contains a network of the package transformers: a config.json with the key model_type.

    It is also true if config.json is damaged, so that opening it later reports the fault.
    """
    try:
        values = read_json(path / CONFIG) if (path / CONFIG).is_file() else None
    except Exception as error:  # damaged: opening it later names the mistake
        return bool(summarize_exception(error))
    return isinstance(values, Mapping) and "model_type" in values


# -- names of networks without a run


def is_network_name(text: str) -> bool:
    """Return whether a text names a depth network: a listed one, hf:ORG/NAME, a folder of transformers, or
    module:Class.

    A training run or a file whose path is this text takes precedence, and the result is false. Any other folder with
    this name does not hide the network.
    """
    path, is_listed = Path(text), text in PUBLISHED_NETWORKS or text in DEPTH_NETWORKS
    if path.is_dir():
        if is_network_folder(path) or any(path.glob(f"snapshots/*/{CONFIG}")):
            return True
        return is_listed and not (path / "checkpoints").is_dir() and not any(path.glob("*.safetensors"))
    return not path.exists() and (is_listed or text.startswith(HUB) or bool(OWN_PART.fullmatch(text)))


def refuse_misspelt_network(text: str) -> None:
    """Raise ConfigError for a text that is neither a file nor a network, but similar to a network's name."""
    near = None if Path(text).exists() else find_nearest_name(text, [*DEPTH_NETWORKS, *PUBLISHED_NETWORKS])
    if near is not None:
        expected = "a checkpoint, a run's folder, or a network of `stadia list networks`"
        raise ConfigError(text, found="no such network or file", expected=expected, fix=f"did you mean '{near}'?")
