"""Each program in experiments/ and benchmarks/ starts: its imports exist, and it prints its help."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "experiments", ROOT / "benchmarks")
PROGRAMS = sorted(path for folder in FOLDERS for path in folder.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_starts(program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: importing torch for each of them would take minutes. mypy checks what they call.

    A few are modules that other programs import, without a command of their own.
    """
    if program.stem == "shape_rays":
        pytest.importorskip("triton", reason="triton is part of torch for GPUs only")
    for folder in (*FOLDERS, ROOT / "tests"):
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", [str(program), "--help"])
    if "argparse" not in program.read_text(encoding="utf-8"):
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


@pytest.mark.slow
def test_z_of_rendered_models_is_that_of_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor and a wall of boxes, seen by a camera that is rolled: z is that of the planes."""
    pytest.importorskip("moderngl", reason="moderngl is not part of the project: pip install moderngl")
    monkeypatch.syspath_prepend(ROOT / "experiments")
    renderer_module = importlib.import_module("mesh_renderer")
    builder_module = importlib.import_module("mesh_builder")
    vertices, normals, uv, triangles = renderer_module.make_primitives(np.random.default_rng(0))["box"]
    empty = np.zeros(0, int)
    assets = renderer_module.Assets(
        vertices=np.concatenate([vertices, normals, uv], 1).astype(np.float32),
        indices=triangles.reshape(-1).astype(np.uint32),
        parts=np.array([[0, triangles.size, -1, 1, 1, 1]]),
        bases=np.array([0]),
        first_part=np.array([0]),
        part_count=np.array([1]),
        sizes=np.ones((1, 3)),
        classes=["primitive"],
        names=["box"],
        layers=np.full((1, 8, 8, 4), 255, np.uint8),
        surfaces={"photograph": np.array([0]), "sky": np.array([0])},
        body_sizes=np.zeros((0, 3)),
        body_bases=empty,
        body_labels={},
        body_poses=[],
        primitives={"box": 0},
    )
    height, width, focal = 48, 64, 0.7
    try:
        renderer = renderer_module.Renderer(assets, (height, width))
    except Exception as error:  # the library raises its own and the loader's
        pytest.skip(f"no OpenGL without a display: {error}")
    builder = builder_module.Builder(np.random.default_rng(0), assets, 1.0, 1)
    builder.shape("box", (0, -1, 0), (100, 1, 100))
    builder.shape("box", (0, 0, -6), (100, 50, 2))
    commands = np.array(builder.commands)
    table = np.stack([commands[:, 0], [1, 1], commands[:, 1], commands[:, 2], [0, 1]], 1)
    renderer.load_scene(np.array(builder.rows), table)
    T = builder_module.Camera(np.array([0.2, 1.4, 1.0]), np.array([0.6, 0.9, -3.0]), focal, 0.1).matrix()
    effects = {"blur": np.zeros(2), "flare": np.zeros(4), "exposure": 0.3, "vignette": 0.0, "occlusion": 1.0}
    look = builder_module.indoor_look(builder, (4.0, 3.0, 4.0))
    image, z, person = renderer.render(look, T, focal, effects, 2)
    rows, columns = np.mgrid[:height, :width]
    rays = np.stack([columns + 0.5 - width / 2, height / 2 - rows - 0.5, np.full(rows.shape, -focal * width)], -1)
    rays = rays / (focal * width) @ T[:3, :3].T
    floor = np.where(rays[..., 1] < 0, -T[1, 3] / rays[..., 1], np.inf)
    wall = (-5.0 - T[2, 3]) / rays[..., 2]
    np.testing.assert_allclose(z, np.minimum(floor, wall), rtol=1e-4)
    assert image.shape == (height, width, 3)
    assert not person.any()
