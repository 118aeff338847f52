"""`stadia adapt`: fine-tune a network on one video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stadia.cli.arguments import OptionalInput, argument, take_default_network
from stadia.cli.output import echo, make_tracker
from stadia.core.errors import ConfigError

if TYPE_CHECKING:
    from stadia.adaptation import Adaptation


def adapt(
    network: Annotated[str, argument("A published network, its folder, or module:Class; base by default.")],
    video: OptionalInput = None,
    overrides: Annotated[list[str] | None, argument("Keys of selfsup and network.*", metavar="KEY=VALUE")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time of the whole command.")] = 5.0,
    scope: Annotated[str, typer.Option(help="What is trained: decoder, head, adapters or all.")] = "decoder",
    out: Annotated[Path, typer.Option(help="The folder for runs.")] = Path("runs"),
) -> None:
    """Fine-tune a network on your video, without labels. Keeps the better weights."""
    started_s = time.perf_counter()
    from stadia.predict.options import split_settings
    from stadia.process.terminal import Terminal, announce_step

    chosen_network, video, overrides = take_default_network(Path(network), video, overrides)
    network = network if chosen_network == Path(network) else str(chosen_network)
    settings, network_settings = split_settings(overrides)
    with announce_step(Terminal(stderr=True), "loading the libraries"):
        from stadia.adaptation import SCOPES, adapt_network

    chosen = next((name for name in SCOPES if name == scope), None)
    if chosen is None:
        expected = f"one of {', '.join(SCOPES)}"
        raise ConfigError("--scope", found=f"'{scope}'", expected=expected, fix="choose one of them")
    adapted = adapt_network(
        network,
        video,
        minutes=minutes,
        scope=chosen,
        out=out,
        settings=settings,
        network_settings=network_settings,
        started_s=started_s,
        track=make_tracker(),
    )
    print_adaptation(adapted, video)


def print_adaptation(adapted: Adaptation, video: Path) -> None:
    """Print how the errors changed, which network is kept, and how to use it."""
    from stadia.launch.keep import MEASURES

    for change in adapted.decision.changes:
        title, _ = MEASURES[change.name]
        share = f"{change.after / max(change.before, 1e-9) - 1:+.0%}"
        echo(f"{title}: {change.before:.4g} before, {change.after:.4g} after ({share}, scatter {change.scatter:.0%})")
    if adapted.after is adapted.before:
        echo("No validation improved. Use more --minutes.")
    elif not adapted.decision.changes:
        echo("Nothing to compare: no map, matches, stereo pair or ground truth.")
    kept = "the adapted network" if adapted.kept == "after" else "the original network"
    echo(f"kept: {kept} ({adapted.network})")
    echo(f"use it: stadia predict {adapted.network} {video} --out DIR")
