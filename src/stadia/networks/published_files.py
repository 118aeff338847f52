"""Files of published depth networks: in a folder, or on the Hugging Face hub.

Only safetensors are read, and no code of a repository is ever run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.registry import find_nearest_name
from stadia.io.input_files import check_input_file, expand_home, read_json
from stadia.predict.networks.published_networks import (
    CONFIG,
    HUB,
    PUBLISHED_NETWORKS,
    PublishedNetwork,
    find_by_repository,
)

PREPROCESSING = "preprocessor_config.json"
"""Name of the file with the image preparation of a network of the package transformers."""

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
        fix = (
            "save them as model.safetensors, as save_pretrained of transformers does" if pickles else "check the folder"
        )
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
