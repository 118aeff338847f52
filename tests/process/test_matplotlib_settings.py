"""A `matplotlibrc` in the current folder may come with data, and is not obeyed; names of files are no formulas."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import stadia
from stadia.core.errors import escape_controls
from stadia.process.matplotlib_settings import format_plot_text

PROGRAM = "import stadia, os, matplotlib; print(matplotlib.rcParams['text.usetex'], os.path.exists('matplotlibrc'))"


@pytest.mark.slow
def test_settings_of_the_current_folder_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    environment = {"PYTHONPATH": str(Path(stadia.__file__).parents[1]), "HOME": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-P", "-c", PROGRAM]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False True\n"


@pytest.mark.parametrize("name", ["$\\frac{$", "a\\$b$c", "$x$ $y$", "5$", "\x1b[31m$", "_$_\nb"])
def test_names_of_files_are_drawn_as_they_are(name: str, recwarn: pytest.WarningsRecorder) -> None:
    figure = Figure()
    title = figure.suptitle(format_plot_text(name))
    FigureCanvasAgg(figure).draw()
    shown, is_math = title._preprocess_math(title.get_text())  # type: ignore[attr-defined]
    assert (shown, is_math) == (escape_controls(name), False)
    assert not any("\x1b" in str(one.message) for one in recwarn)
