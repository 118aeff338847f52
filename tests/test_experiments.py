"""Each program in experiments/ and benchmarks/ starts: its imports exist, and it prints its help."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "experiments", ROOT / "benchmarks")
PROGRAMS = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_starts(program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: importing torch for each of them would take minutes. mypy checks what they call.

    As for `python benchmarks/x.py`, only the folder of the program is on the path, beside what is installed.

    A few are modules that other programs import, without a command of their own.
    """
    if program.stem == "shape_rays":
        pytest.importorskip("triton", reason="triton is part of torch for a GPU")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "benchmarks")]:
        monkeypatch.delitem(sys.modules, name)
    elsewhere = [folder for folder in sys.path if folder and Path(folder).resolve() != ROOT.resolve()]
    monkeypatch.setattr(sys, "path", [str(program.parent), *elsewhere])
    monkeypatch.setattr(sys, "argv", [str(program), "--help"])
    if "__main__" not in program.read_text(encoding="utf-8") or not re.search(
        "argparse|make_parser\\(__doc__\\)", program.read_text(encoding="utf-8")
    ):
        runpy.run_path(str(program))
        return
    with pytest.raises(SystemExit) as ending:
        runpy.run_path(str(program), run_name="__main__")
    assert ending.value.code in (None, 0)
    assert "usage" in capsys.readouterr().out


@pytest.mark.slow
def test_each_program_is_cited() -> None:
    """A page, the Makefile or another program names it: what nobody cites goes."""
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "Makefile", *PROGRAMS]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}

    def is_cited(program: Path) -> bool:
        name = f"{program.parent.name}/{program.name}"
        return any(
            name in text or (page in PROGRAMS and f"from {program.stem} import" in text)
            for page, text in texts.items()
            if page != program
        )

    assert [program.name for program in PROGRAMS if not is_cited(program)] == []
