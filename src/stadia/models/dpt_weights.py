"""Weights of a dense prediction transformer: the original names mapped onto transformers', and a report of what became
of each.

A weight that is missing, or that nobody reads, stops the load unless it was named beforehand: attention that stays
random behind a `strict=False` is how others lost months.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from stadia.core.errors import CheckpointError

NEVER_USED = ("neck.fusion_stage.layers.0.residual_layer1.*", "dpt.layernorm.*", "backbone.embeddings.mask_token")
"""Weights that transformers' networks hold and no answer depends on; published files lack some of them."""

NEVER_READ = ("pretrained.model.head.*", "dpt.pooler.*")
"""Weights of published files that no depth depends on: the classifier of the backbone."""

FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder of transformers calls its weights."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every weight, by name.

    source: where they are from.
    loaded: of the network, as the file has them.
    initialized: of the network, as they were drawn.
    left_over: of the file, read by nobody.
    misfit: of both, in another shape: "name: (3, 4) in the file, (3, 5) in the network".
    tied: groups of names that share one memory, in the file or in the network: one weight where there should be
        several.
    """

    source: str
    loaded: tuple[str, ...]
    initialized: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    misfit: tuple[str, ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()

    @property
    def drawn(self) -> tuple[str, ...]:
        """Of those initialized, the ones that an answer depends on and that pretraining could have taught; none of an
        attention's own.
        """
        return tuple(name for name in self.initialized if not _matches(name, (*NEVER_USED, "*.core.*")))

    def summary(self) -> dict[str, object]:
        """For run.json: how many weights were loaded, and every name that was not, or not as one of its own."""
        return {**asdict(self), "loaded": len(self.loaded)}

    def table(self) -> str:
        """A line for each kind, with the number, and the names where there are few."""
        never = [name for name in self.initialized if _matches(name, NEVER_USED)]
        drawn = [name for name in self.initialized if name not in never]
        tied = [" = ".join(names) for names in self.tied]
        rows = [
            ("loaded", f"{len(self.loaded)} weights from {self.source}"),
            ("initialized", _few(drawn)),
            ("never used", f"{len(never)} that the file lacks and no answer depends on"),
            ("left over", _few(self.left_over)),
            ("misfit", _few(self.misfit)),
            ("tied", _few(tied)),
        ]
        return "\n".join(f"{kind:<12} {what}" for kind, what in rows)


def load(
    network: nn.Module,
    path: Path,
    *,
    name: str,
    allow_initialized: Sequence[str] = (),
    allow_left_over: Sequence[str] = (),
) -> LoadReport:
    """Copy a file's weights into a network of transformers, split and renamed as it needs them.

    Args:
        network: whose names the weights get; changed in place, and only where the load succeeds.
        path: a .pt of isl-org/DPT, a .safetensors of transformers, or the folder that holds one.
        name: the network's, for the error.
        allow_initialized: names (* and ? are wildcards) of the network that may stay as they are where the file has no
            weight that fits.
        allow_left_over: names of the file that nobody need read.

    Returns what was loaded, initialized and left over. What an attention has of its own beside its projections
    ("*.core.*") is no pretrained weight; whoever chose that attention asked for it, so it stays as it was drawn, and is
    listed. Raises CheckpointError where the file is damaged or holds more than tensors, and where a weight is missing,
    misfit or left over.
    """
    path = path.expanduser()
    tensors = read_tensors(path)
    renamed = transformers_names(tensors, network.state_dict().keys())
    report = compare(tensors, renamed, network, source=str(path))
    _refuse_partial(report, path, name, (*NEVER_USED, "*.core.*", *allow_initialized), (*NEVER_READ, *allow_left_over))
    fitting = {own: renamed[own][1] for own in report.loaded}
    if broken := [own for own, tensor in fitting.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            path, found=f"numbers that are not finite ({_few(broken)})", expected="weights", fix="use another file"
        )
    network.load_state_dict(fitting, strict=False)
    return report


def compare(
    tensors: Mapping[str, Tensor], renamed: Mapping[str, tuple[str, Tensor]], network: nn.Module, *, source: str
) -> LoadReport:
    """What would become of every weight.

    Args:
        tensors: of the file, by its names.
        renamed: the same by the network's names, each with its name in the file (`transformers_names`).
        network: which they are for.
        source: where they are from.
    """
    own = network.state_dict()
    loaded = tuple(name for name, tensor in own.items() if name in renamed and renamed[name][1].shape == tensor.shape)
    misfit = [name for name in own if name in renamed and name not in set(loaded)]
    return LoadReport(
        source=source,
        loaded=loaded,
        initialized=tuple(name for name in own if name not in set(loaded)),
        left_over=tuple(dict.fromkeys(old for name, (old, _) in renamed.items() if name not in own)),
        misfit=tuple(
            f"{n}: {tuple(renamed[n][1].shape)} in the file, {tuple(own[n].shape)} in the network" for n in misfit
        ),
        tied=(*tied(tensors.items()), *tied(network.named_parameters(remove_duplicate=False))),
    )


def tied(named: Iterable[tuple[str, Tensor]]) -> list[tuple[str, ...]]:
    """Groups of names whose tensors are one and the same memory."""
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensor in named:
        memory = id(tensor) if tensor.is_meta else (tensor.data_ptr(), tensor.shape) if tensor.numel() else name
        groups[(memory,)].append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _refuse_partial(
    report: LoadReport, path: Path, name: str, initialized: Sequence[str], left_over: Sequence[str]
) -> None:
    """Raise CheckpointError for each weight that stays random, does not fit or is not read, without having been named."""
    drawn = [own for own in report.initialized if not _matches(own, initialized)]
    misfit = {line.partition(":")[0]: line for line in report.misfit}
    kinds = {
        "missing": [own for own in drawn if own not in misfit],
        "of another shape": [misfit[own] for own in drawn if own in misfit],
        "left over": [old for old in report.left_over if not _matches(old, left_over)],
    }
    found = [f"{kind} {_few(names)}" for kind, names in kinds.items() if names]
    if found:
        raise CheckpointError(
            path,
            found=f"{len(report.loaded)} weights that fit; {'; '.join(found)}",
            expected=f"all weights of '{name}'",
            fix=(
                "pass the network's own weights, or name what may be by model.allow_initialized and"
                " model.allow_left_over"
            ),
        )


def weights_file(path: Path) -> Path:
    """The file of weights that a path names, itself or in the folder. Opens nothing; raises CheckpointError where there
    is none.
    """
    path = path.expanduser()
    if path.is_dir():
        found = next((path / file for file in FILES if (path / file).is_file()), None)
        if found is None:
            raise CheckpointError(
                path,
                found="a folder without weights",
                expected=" or ".join(FILES),
                fix="pass the file of weights itself",
            )
        return found
    if not path.is_file():
        raise CheckpointError(
            path, found="no such file", expected="weights (.pt, .safetensors, or a folder)", fix="check the path"
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name; nothing is unpickled but tensors.

    Raises CheckpointError where there is no such file, where it is damaged, holds more than tensors, or is one of
    stadia's own.
    """
    path = weights_file(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            if "stadia" in (file.metadata() or {}):
                raise CheckpointError(
                    path,
                    found="a checkpoint of stadia",
                    expected="weights of isl-org/DPT or transformers",
                    fix="pass it as start_from",
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        values: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except UnpicklingError as error:
        raise CheckpointError(
            path,
            found="no plain tensors",
            expected="a state_dict",
            fix="save model.state_dict() alone, best as .safetensors",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise _damaged(path, error) from error
    for key in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping) or not all(
        isinstance(n, str) and isinstance(t, Tensor) for n, t in values.items()
    ):
        raise CheckpointError(
            path, found="no names with a tensor each", expected="a state_dict", fix="save model.state_dict() alone"
        )
    return dict(values)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        path, found=f"an unreadable file ({type(error).__name__})", expected="whole weights", fix="download it again"
    )


# Original names (isl-org/DPT, whose backbone has timm's names) and what transformers calls them. Numbers that change
# are written as `<n-1>`, the group's number less 1; `<4-n>` counts the refinement blocks from the other end.
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
    (r"scratch\.layer(?P<n>[1-4])_rn\.weight", "neck.convs.<n-1>.weight"),
    (rf"scratch\.refinenet(?P<n>[1-4])\.out_conv\.{_KIND}", r"neck.fusion_stage.layers.<4-n>.projection.\g<kind>"),
    (
        rf"scratch\.refinenet(?P<n>[1-4])\.resConfUnit(\d)\.conv(\d)\.{_KIND}",
        r"neck.fusion_stage.layers.<4-n>.residual_layer\2.convolution\3.\g<kind>",
    ),
    (rf"scratch\.output_conv\.(\d)\.{_KIND}", r"head.head.\1.\g<kind>"),
)
# DINOv2's attention as transformers called it before 5, and as published files still do.
_RENAMED = tuple(
    (rf"(backbone\.encoder\.layer\.\d+\.attention)\.{old}\.{_KIND}", rf"\1.{new}.\g<kind>")
    for old, new in (
        (r"attention\.query", "q_proj"),
        (r"attention\.key", "k_proj"),
        (r"attention\.value", "v_proj"),
        (r"output\.dense", "o_proj"),
    )
)


def transformers_names(tensors: Mapping[str, Tensor], own: Collection[str]) -> dict[str, tuple[str, Tensor]]:
    """The file's weights by transformers' names, each with the name that it has in the file.

    The joined projection `qkv` (3 D, D) becomes query, key and value, its rows in that order. A name that is unknown
    stays.

    Args:
        tensors: of the file, by its names.
        own: names of the network; a hybrid's patches are projected under another name.
    """
    patch = "" if "dpt.embeddings.projection.weight" in own else "patch_embeddings."
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
    for pattern, template in (*_ORIGINAL, *_RENAMED):
        if match := re.fullmatch(pattern, old):
            new = match.expand(template)
            if number := match.groupdict().get("n"):
                new = new.replace("<n-1>", str(int(number) - 1)).replace("<4-n>", str(4 - int(number)))
            return new
    return old


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _few(names: Sequence[str]) -> str:
    """How many, and the first three."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else "0"
