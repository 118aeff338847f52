"""`stadia adapt`: fine-tune a network on one video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stadia.cli.arguments import OptionalInput, argument, take_default_network
from stadia.cli.output import make_tracker, print_lines
from stadia.core.errors import ConfigError


def adapt(
    network: Annotated[str, argument("A published network, a folder of one, or module:Class; by default base.")],
    video: OptionalInput = None,
    overrides: Annotated[list[str] | None, argument("Keys of selfsup and network.*", metavar="KEY=VALUE")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time of the whole command, with map and figures.")] = 5.0,
    scope: Annotated[str, typer.Option(help="What is trained: decoder, head, adapters or all.")] = "decoder",
    out: Annotated[Path, typer.Option(help="The folder for runs.")] = Path("runs"),
) -> None:
    """Fine-tune NETWORK on one video without labels, compare it with the start, and keep the better weights."""
    started_s = time.perf_counter()
    from stadia.predict.requests import split_settings
    from stadia.process.terminal import Terminal, announce_step

    chosen_network, video, overrides = take_default_network(Path(network), video, overrides)
    network = network if chosen_network == Path(network) else str(chosen_network)
    settings, network_settings = split_settings(overrides)
    with announce_step(Terminal(stderr=True), "loading the libraries"):
        from stadia.apps.adapt import SCOPES, adapt_network
        from stadia.launch.time_budget import TimeBudget

    chosen = next((name for name in SCOPES if name == scope), None)
    if chosen is None:
        expected = f"one of {', '.join(SCOPES)}"
        raise ConfigError("--scope", found=f"'{scope}'", expected=expected, fix="choose one of them")

    print_lines(
        adapt_network(
            network,
            video,
            out=out,
            length=TimeBudget(minutes, started_s),
            scope=chosen,
            settings=settings,
            network_settings=network_settings,
            track=make_tracker(),
        )
    )
