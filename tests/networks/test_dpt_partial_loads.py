"""Loads of weights that are not whole, files that hold none, the report, and the hub."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.refusals import refuses

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

from tests.networks.dpt_files import Weights, as_safetensors, build, drawn, originals, plain, predict, saved

from stadia.core.errors import CheckpointError
from stadia.networks.config import DptConfig
from stadia.networks.depth import dpt
from stadia.networks.depth.dpt import Dpt
from stadia.networks.hub import warn_newest_revision


def without_a_block(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if ".blocks.2." not in name}


def without_prefix(weights: Weights) -> Weights:
    return {name.removeprefix("pretrained."): tensor for name, tensor in weights.items()}


def of_another_size(weights: Weights) -> Weights:
    return {**weights, "scratch.output_conv.4.weight": torch.zeros(2, 32, 1, 1)}


def with_more(weights: Weights) -> Weights:
    return {**weights, "auxlayer.0.weight": torch.zeros(1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutate", "names"),
    [
        (
            without_a_block,
            (("16", "dpt.encoder.layer.2.attention.attention.query.weight", "dpt hybrid, attention sdpa")),
        ),
        (without_prefix, ("dpt.embeddings.cls_token", "model.head.weight", "model.cls_token")),
        (of_another_size, ("1", "head.head.4.weight", "32")),
        (with_more, ("1", "auxlayer.0.weight")),
    ],
)
def test_a_load_that_is_not_whole_stops(
    mutate: Callable[[Weights], Weights], names: tuple[str, ...], tmp_path: Path
) -> None:
    path = saved(tmp_path, mutate(originals(drawn(plain))))
    with refuses(CheckpointError, names=names) as refused:
        build(plain, path)
    assert "model.network.allow_missing" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_allowed_names_may_be_missing_mismatched_or_unexpected(tmp_path: Path) -> None:
    source = drawn(plain)
    path = saved(tmp_path, with_more(of_another_size(without_a_block(originals(source)))))
    allowed = {"allow_missing": ("dpt.encoder.layer.2.*", "head.head.4.*"), "allow_unexpected": ("auxlayer.*",)}
    report = build(plain, path, **allowed).load_report
    assert report is not None
    assert sum(name.startswith("dpt.encoder.layer.2.") for name in report.missing) == 16
    assert "head.head.4.weight" in report.missing
    assert len(report.mismatched) == 1
    assert "auxlayer.0.weight" in report.unexpected
    for name in allowed:
        with pytest.raises(CheckpointError):
            build(plain, path, **{key: value for key, value in allowed.items() if key != name})


class Instance:
    """What a pickle would call up."""


def broken_file(folder: Path, kind: str) -> Path:
    weights, path = originals(drawn(plain)), folder / "dpt.pt"
    if kind == "truncated":
        whole = saved(folder, weights).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated safetensors":
        path = as_safetensors(folder, weights)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "stadia":
        path = folder / "best.safetensors"
        safetensors.torch.save_file(weights, path, metadata={"stadia": "{}"})
    elif kind == "empty folder":
        path = folder
    elif kind == "nan":
        weights["pretrained.model.cls_token"][0, 0, 0] = torch.nan
        saved(folder, weights)
    elif kind != "absent":
        torch.save({"code": {"w": Instance()}, "list": [torch.zeros(1)], "number": {"epoch": 3}}[kind], path)
    return path


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("absent", ("dpt.pt",)),
        ("truncated", ()),
        ("truncated safetensors", ()),
        ("code", ("dpt.pt",)),
        ("list", ("dpt.pt",)),
        ("number", ("dpt.pt",)),
        ("stadia", ("start_from",)),
        ("empty folder", ("model.safetensors", "pytorch_model.bin")),
        ("nan", ("1", "dpt.embeddings.cls_token")),
    ],
)
def test_a_file_that_is_no_weights_is_named(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    path = broken_file(tmp_path, kind)
    with refuses(CheckpointError, names=names) as refused:
        build(plain, path)
    assert str(path) in str(refused.value)


# -- the report, and the hub


@pytest.mark.parametrize("revision", ["0" * 40, None])
def test_published_weights_come_from_the_hub(
    revision: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, requests, used = drawn(plain), [], revision or "1" * 40
    folder = tmp_path / "snapshots" / used
    folder.mkdir(parents=True)
    path = as_safetensors(folder, source.network.state_dict())
    monkeypatch.setattr("stadia.networks.hub.download_first_file", lambda *what: requests.append(what) or path)
    monkeypatch.setattr("stadia.networks.hub.is_reachable", lambda: True)
    monkeypatch.setitem(dpt.SIZES, "hybrid", plain())
    warn_newest_revision.cache_clear()
    network = Dpt(DptConfig(revision=revision))
    assert torch.equal(predict(network.eval()), predict(source))
    assert requests == [("nobody/nothing", ("model.safetensors", "pytorch_model.bin"), revision)]
    assert network.weights == {"network": f"pretrained nobody/nothing@{used}"}
    warnings = [f"nobody/nothing: the newest revision is used; model.network.revision={used} names it"]
    assert caplog.messages == ([] if revision else warnings)
