"""One kind of progress for every command: a bar on a terminal, lines in a log; `--quiet` and `--json` silence both."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from stadia.core.signals import SHOWN_PROGRESS

PAUSE_S = 30.0
"""A log gets a line at most every this many seconds."""


class SpeedColumn(ProgressColumn):
    """Units a second. unit: plural, as "frames"."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed; "" before it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {self.unit}/s" if speed else self.unit, style="progress.data.speed")


class FindingColumn(ProgressColumn):
    """The last finding."""

    def render(self, task: Task) -> Text:
        """Return it in a line; "" before there is one."""
        return Text(SHOWN_PROGRESS.finding, style="yellow", overflow="ellipsis", no_wrap=True)


def make_progress(console: Console, unit: str, *columns: ProgressColumn, transient: bool = True) -> Progress:
    """Return the display of bars; it shows nothing without a terminal. unit: of the items, plural."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        SpeedColumn(unit),
        TimeRemainingColumn(),
        FindingColumn(),
        console=console,
        transient=transient,
        disable=SHOWN_PROGRESS.is_silent or not console.is_terminal,
    )
