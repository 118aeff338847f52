"""Published depth networks by name: output, licence, size and score of each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stadia.core.errors import ConfigError, summarize_exception
from stadia.core.floors import MissingFloorError
from stadia.core.registry import OWN_PART, find_nearest_name
from stadia.core.types import DepthScale
from stadia.io.input_files import read_json, read_text
from stadia.predict import TRAIN_FLOOR
from stadia.predict.networks import DEFAULT_NETWORK

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
        try:
            cache: Path = TRAIN_FLOOR.load("find_cache")(self.repository)
        except MissingFloorError:
            return False
        return any(path.suffix in WEIGHT_SUFFIXES for path in cache.glob("snapshots/*/*"))

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


# -- names of networks without a run

HUB = "hf:"
"""Prefix of a repository of the Hugging Face hub in a name that the user passes: hf:ORG/NAME or hf:ORG/NAME@REVISION.
"""

CONFIG = "config.json"
"""Name of the file with the architecture of a network of the package transformers."""


def is_network_folder(path: Path) -> bool:
    """Return whether a folder contains a network of the package transformers: a config.json with the key model_type.

    It is also true if config.json is damaged, so that opening it later reports the fault.
    """
    try:
        values = read_json(path / CONFIG) if (path / CONFIG).is_file() else None
    except Exception as error:  # damaged: opening it later names the mistake
        return bool(summarize_exception(error))
    return isinstance(values, Mapping) and "model_type" in values


def is_network_name(text: str) -> bool:
    """Return whether a text names a depth network: a listed one, hf:ORG/NAME, a folder of transformers, or
    module:Class.

    A training run or a file whose path is this text takes precedence, and the result is false. Any other folder with
    this name does not hide the network.
    """
    path, is_listed = Path(text), text in PUBLISHED_NETWORKS or text in TRAIN_FLOOR.load("depth_networks")
    if path.is_dir():
        if is_network_folder(path) or any(path.glob(f"snapshots/*/{CONFIG}")):
            return True
        return is_listed and not (path / "checkpoints").is_dir() and not any(path.glob("*.safetensors"))
    return not path.exists() and (is_listed or text.startswith(HUB) or bool(OWN_PART.fullmatch(text)))


def refuse_misspelt_network(text: str) -> None:
    """Raise ConfigError for a text that is neither a file nor a network, but similar to a network's name."""
    names = [*TRAIN_FLOOR.load("depth_networks"), *PUBLISHED_NETWORKS]
    near = None if Path(text).exists() else find_nearest_name(text, names)
    if near is not None:
        expected = "a checkpoint, a run's folder, or a network of `stadia list networks`"
        raise ConfigError(text, found="no such network or file", expected=expected, fix=f"did you mean '{near}'?")
