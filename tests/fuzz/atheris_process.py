"""The process of `run_atheris.py`: fuzz one target here until libFuzzer ends it.

Only atheris is imported before the parsers, so that all of them are instrumented.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress
from pathlib import Path

INSTRUMENTED = ["stadia", "yaml", "zipfile", "csv", "numpy.lib._format_impl"]
"""Packages whose Python code is measured. torch, pydantic and others are trusted, and would hide these."""


def _find_place(error: BaseException) -> str:
    """Return the exception's type and the last line of stadia that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/stadia/" in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "targets.py"
    return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"


def main() -> None:
    """Fuzz the target of the command line: NAME FOLDER, then the words of libFuzzer."""
    import atheris

    name, work = sys.argv[1], Path(sys.argv[2])
    folder, known = work / "run", set[str]()
    folder.mkdir(exist_ok=True)
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import targets

        targets.prepare_target(name, folder)
        for seed in sorted((targets.CORPUS / name).glob("*"))[:1]:  # it imports what the parser needs
            with suppress(targets.BrokenPromiseError):  # imports take seconds
                targets.check_target(name, seed.read_bytes(), folder)

    def run_one(data: bytes) -> None:
        try:
            targets.check_target(name, data, folder)
        except Exception as error:
            place = _find_place(error)
            if place.partition(": ")[0] not in known:
                known.add(place.partition(": ")[0])
                with (work / "findings.jsonl").open("a") as stream:
                    stream.write(json.dumps({"place": place, "data": data.hex()}) + "\n")

    atheris.Setup([sys.argv[0], *sys.argv[3:]], run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
