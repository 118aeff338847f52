"""Load published weights of DPT into the network of the package transformers, whatever names the file has."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor, nn

from stadia.core.errors import CheckpointError
from stadia.io.input_files import expand_home
from stadia.networks.weight_files import read_tensors, resolve_weights_file, summarize_names

_NO_SKIP = "neck.fusion_stage.layers.0.residual_layer1.*"
"""The first fusion has no skip connection, so its first residual layer is never run."""

UNUSED_PARAMETERS = (_NO_SKIP, "dpt.layernorm.*", "backbone.embeddings.mask_token")
"""Parameters of transformers that have no effect. Some published files lack them."""

IGNORED_FILE_WEIGHTS = ("pretrained.model.head.*", "dpt.pooler.*")
"""Weights of a file that no depth network uses: the backbone's classifier."""


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
