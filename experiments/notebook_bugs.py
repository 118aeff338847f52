"""Put each mistake of the notebooks into a training of today, and measure when it is named. The same command resumes.

    python experiments/notebook_bugs.py OUT [--only TEXT] [--page docs/results/notebook-bugs.md]

Each mistake is a class or function of `notebook_mistakes.py`, or an option, in a command of `stadia`. The command runs
until the finding is printed, at most MAX_SECONDS of processor. The data are rendered: OUT/WORLD and OUT/TABLES. Results
are rows of OUT/results.csv with the seconds of processor, the finding, the seed and the number of cores.
"""

import argparse
import csv
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from stadia.io.atomic_files import write_text

MAX_SECONDS = 300.0
"""Seconds of processor after which a mistake counts as not named."""

SEED = 0
"""Seed of every training, which is its default."""

REFUSED = "refused"
"""In place of a finding's code: the data are refused with an error."""

FOLDER = Path(__file__).resolve().parent

DRY = "--dry-run training.check_seconds=300"  # on a busy machine, too, all checks run
VIDEO = f"train selfsup WORLD data.height=96 data.width=320 {DRY}"
STEREO = f"{VIDEO} data.stereo=true data.offsets=[]"
D3VO = f"{VIDEO} model.network=unet model.network.encoder=mobilenetv3_small_050 model.pretrained=false"
LABELS = f"train supervised WORLD data.height=96 data.width=320 {DRY}"
HEIGHTS = f"train metric WORLD data.height=96 data.width=320 road.priors=roadworld {DRY}"
POSES = f"train objectpose TABLES {DRY}"
COMPOSITES = f"train overlay data.backgrounds.path=WORLD data.foregrounds.path=CUTOUTS {DRY}"


@dataclass(frozen=True)
class Mistake:
    """A mistake of a notebook.

    name: the mistake in words.
    notebook: number of the notebook.
    days: days that the notebook's dates show, with these dates; "" if they show none.
    command: arguments of `stadia`.
    codes: the findings that name it, or `REFUSED`.
    """

    name: str
    notebook: str
    days: str
    command: str
    codes: tuple[str, ...]


def of_loss(base: str, name: str, key: str = "loss.name") -> str:
    """Return the command with an own part."""
    return f"{base} {key}=notebook_mistakes:{name}"


def of_data(base: str, name: str) -> str:
    """Return the command with an own reader of the data."""
    return f"{base} data.format=notebook_mistakes:{name}"


MISTAKES = (
    Mistake("the rotation loss is smallest at 180 degrees", "003", "1 (12/24 to 12/25)",
        of_loss(POSES, "flipped_log", "loss.rotation.name"), ("L17",)),
    Mistake("q and -q count as different rotations", "003", "",
        of_loss(POSES, "quaternion_difference", "loss.rotation.name"), ("L17",)),
    Mistake("a loss without a match is a constant", "003", "",
        of_loss(POSES, "constant_without_match", "loss.rotation.name"), ("L12", "L10")),
    Mistake("the baseline the wrong way", "000", "14 (stereo unused, 11/18 to 12/2)",
        of_data(STEREO, "BaselineTheWrongWay"), ("E01",)),
    Mistake("the baseline too short by 5.4", "000", "", of_data(STEREO, "BaselineOfATenthMetre"), ("E03",)),
    Mistake("Euler angles of the camera's mount in another order", "000", "", of_data(VIDEO, "OtherEulerOrder"),
        ("E07", "E09", "E04")),
    Mistake("mirrored images, the camera not", "002", "7 (05-15 to 05-22)", of_data(STEREO, "MirroredImages"),
        ("E12", "E02")),
    Mistake("the K of one camera for all recordings", "000", "", of_data(VIDEO, "OneCameraForAll"),
        ("K06", "K04", "E03", "E04", "D06", "D07", "E08")),
    Mistake("K not resized with the images", "000", "", of_data(VIDEO, "KNotResized"), ("K04", "K03")),
    Mistake("normalized K on pixels", "000", "", of_data(VIDEO, "NormalizedK"), ("K02",)),
    Mistake("the left image also as the right one", "000", "", of_data(STEREO, "LeftImageTwice"), ("D04",)),
    Mistake("poses read by their row: of other images", "000", "", of_data(VIDEO, "PosesByRow"), ("E11",)),
    Mistake("true depth that is 0 everywhere", "000", "42 (six weeks)", of_data(LABELS, "EmptyDepth"), (REFUSED,)),
    Mistake("labels of another frame", "000", "", of_data(LABELS, "DepthOfAnotherFrame"), ("D07", "D06")),
    Mistake("depth files of 16 bits read with 8 bits", "001", "", of_data(LABELS, "EightBitDepth"), ("D08",)),
    Mistake("a residual summed over pixels", "000", "", of_loss(VIDEO, "SumOverPixels"), ("L06", "L05")),
    Mistake("the minimum over nine color channels", "000", "4 (11/25 to 11/29)",
        of_loss(VIDEO, "MinimumOfNineChannels"), ("L19",)),
    Mistake("the minimum over means of images", "000", "", of_loss(VIDEO, "MinimumOfImages"), ("L16",)),
    Mistake("smoothness of metres: flat depth", "000", "", of_loss(VIDEO, "SmoothnessOfMetres"), ("L24",)),
    Mistake("the affine brightness on the source: it collapses", "000", "",
        of_loss(f"{D3VO} model.brightness=true", "BrightnessOfTheSource"), ("B01",)),
    Mistake("the residual times Sigma", "000", "",
        of_loss(f"{D3VO} model.network.uncertainty=true", "TimesSigma"), ("U07",)),
    Mistake("Sigma of another sample of the batch", "000", "",
        of_loss(f"{D3VO} model.network.uncertainty=true", "SigmaOfAnotherSample"), ("L04",)),
    Mistake("the logarithm of the residual does not train", "000", "", of_loss(VIDEO, "LogOfTheResidual"), ("L09",)),
    Mistake("depth stuck in 0 to 1", "000", "", of_loss(VIDEO, "DepthOfZeroToOne", "model.network"),
        ("M01", "M02", "M03", "S01")),
    Mistake("a learning rate that is nearly 0", "002", "", f"{VIDEO} optimizer.lr=1e-12", ("T26", "T14")),
    Mistake("pixels without a label count", "001", "", of_loss(LABELS, "EmptyPixelsCount"), ("L18",)),
    Mistake("SILog that is negative from two images on", "001", "", of_loss(LABELS, "SilogOfTheBatch"),
        ("L01", "L02", "L05")),
    Mistake("the height by a pseudoinverse explodes", "002", "10 (05-26 to 06-05)",
        of_loss(HEIGHTS, "HeightByPinverse", "scale.name"), ("L09", "L05", "L06", "L01", "L03")),
    Mistake("masks off by the resize", "002", "", of_data(HEIGHTS, "MovedMasks"), ("H21",)),
    Mistake("masks not flipped with the images", "002", "7 (05-15 to 05-22)", of_data(HEIGHTS, "MirroredMasks"),
        ("H16",)),
    Mistake("SSIM with the constants of 255", "004", "",
        of_loss(f"{COMPOSITES} loss.depth_ssim=1", "SsimOf255"), ("L25", "L22")),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result of a command, a row of results.csv.

    mistake: its name.
    code: code of the finding that named it; "" if none did.
    finding: the printed line.
    seconds: seconds of processor until it was printed, of all processes of the command.
    command: the command.
    seed: seed of the training.
    cores: number of cores of the machine.
    """

    mistake: str
    code: str
    finding: str
    seconds: float
    command: str
    seed: int
    cores: int


def run(mistake: Mistake, out: Path) -> Outcome:
    """Run the command until a line names the mistake, or the processor's time is over."""
    arguments = shlex.split(mistake.command)
    command = [sys.executable, "-m", "stadia", *arguments]
    paths = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "400"},
    )  # fmt: skip
    watched, seconds, lines = psutil.Process(process.pid), 0.0, []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            seconds = max(seconds, measure_seconds(watched))
            lines.append(line)
            code = next((code for code in mistake.codes if f": {code} " in line), "")
            if REFUSED in mistake.codes and line.startswith("stadia: "):
                code = REFUSED
            if code or seconds > MAX_SECONDS:
                break
        else:
            code = ""
    finally:
        process.terminate()
        process.wait()
    found = line.strip() if code else "not named: " + " ".join("".join(lines[-2:]).split())
    printed = f"PYTHONPATH=experiments stadia {mistake.command}"
    return Outcome(mistake.name, code, found, round(seconds, 1), printed, SEED, os.cpu_count() or 1)


def measure_seconds(process: psutil.Process) -> float:
    """Return the seconds of processor of a process and its children; 0 if it has ended."""
    total = 0.0
    for each in [process, *_list_children(process)]:
        try:
            used = each.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


def _list_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Return the rows of results.csv by the name of the mistake."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            Outcome(
                mistake=row["mistake"],
                code=row["code"],
                finding=row["finding"],
                seconds=float(row["seconds"]),
                command=row["command"],
                seed=int(row["seed"]),
                cores=int(row["cores"]),
            )
            for row in csv.DictReader(file)
        ]
    return {row.mistake: row for row in rows}


def append_outcome(path: Path, outcome: Outcome) -> None:
    """Append a row to results.csv."""
    is_new = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(outcome))


def render_data(out: Path) -> None:
    """Render the data of the commands once."""
    stadia = [sys.executable, "-m", "stadia", "data"]
    commands = {
        "WORLD": ["roadworld", "--worlds", "2,1,0"],
        "TABLES": ["tableworld", "--preset", "tiny"],
        "CUTOUTS": ["foregrounds", "train=4", "val=2", "test=0", "views=1", "side=48", "supersampling=1"],
    }
    for name, arguments in commands.items():
        if not (out / name).is_dir():
            subprocess.run([*stadia, *arguments, "--out", name], cwd=out, check=True)


def write_page(path: Path, outcomes: dict[str, Outcome]) -> None:
    """Write the page of results."""
    known = [(mistake, outcomes[mistake.name]) for mistake in MISTAKES if mistake.name in outcomes]
    named = [outcome for _, outcome in known if outcome.code]
    seconds = sorted(outcome.seconds for outcome in named)
    lines = [
        "# The notebooks' mistakes, named",
        "",
        "The notebooks behind stadia record mistakes that cost their authors days to weeks. `python",
        "experiments/notebook_bugs.py OUT` puts each into a training of today, by a user's own file",
        "(`experiments/notebook_mistakes.py`), and measures when it is named. **"
        f"{len(named)} of {len(known)} are named before",
        f"the first step of the training**, after {seconds[0]:.0f} to {seconds[-1]:.0f} s of processor (median "
        f"{seconds[len(seconds) // 2]:.0f} s; seed {known[0][1].seed}, {known[0][1].cores}",
        "cores). The first seconds load PyTorch. The goal was 14 of 15 within 5 minutes. Without a mistake, these",
        "commands print no finding.",
        "",
        '"Days" are those between the notebook\'s dates, if it says when the mistake appeared and was found.',
        "",
        "| notebook | mistake | named by | after, s | days |",
        "|---|---|---|---|---|",
    ]
    for mistake, outcome in known:
        code = f"[{outcome.code}](../reference/findings.md)" if outcome.code else "**not named**"
        code = "an error" if outcome.code == REFUSED else code
        days = mistake.days or "not said"
        lines.append(f"| {mistake.notebook} | {mistake.name} | {code} | {outcome.seconds:.0f} | {days} |")
    lines += ["", "## Findings and commands", ""]
    lines += [
        "`WORLD`, `TABLES` and `CUTOUTS` are rendered into OUT. Run a command there, with the path of the",
        "repository's `experiments` in `PYTHONPATH`.",
        "",
    ]
    for _, outcome in known:
        lines += [f"- {outcome.mistake}:", "", "  ```text", f"  {outcome.command}", f"  {outcome.finding}", "  ```", ""]
    write_text(path, "\n".join(lines).rstrip("\n") + "\n")


def main(out: Path, only: str, page: Path | None) -> int:
    """Run what is missing in OUT/results.csv. Return the exit status."""
    out.mkdir(parents=True, exist_ok=True)
    render_data(out)
    path = out / "results.csv"
    for mistake in MISTAKES:
        outcomes = read_outcomes(path)
        if only.lower() not in mistake.name.lower() or mistake.name in outcomes:
            continue
        began = time.monotonic()
        outcome = run(mistake, out)
        append_outcome(path, outcome)
        print(f"{outcome.code or 'not named'}: {mistake.name}, {outcome.seconds:.0f} s of processor, "
              f"{time.monotonic() - began:.0f} s: {outcome.finding}", flush=True)  # fmt: skip
    if page is not None:
        write_page(page, read_outcomes(path))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the data and the results")
    parser.add_argument("--only", default="", metavar="TEXT", help="mistakes with this in their name")
    parser.add_argument("--page", type=Path, help="write the page of results there")
    arguments = parser.parse_args()
    sys.exit(main(arguments.out, arguments.only, arguments.page))
