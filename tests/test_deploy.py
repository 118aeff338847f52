"""Files of deploy/ agree with the program: valid YAML and JSON, commands that exist, no root."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stadia.core.config import list_keys
from stadia.training.recipes import CONFIGS

ROOT = Path(__file__).parents[1]
JOBS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))


def list_containers(path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Specification and container of each job."""
    jobs = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Job"]
    pods = [job["spec"]["template"]["spec"] for job in jobs]
    return [(pod, container) for pod in pods for container in pod["containers"]]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_jobs_run_without_root_and_mount_what_they_have(path: Path) -> None:
    for pod, container in list_containers(path):
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    for job in (one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Job"):
        assert job["spec"]["completionMode"] == "Indexed"


def test_keys_of_trainings_exist() -> None:
    known = set(list_keys(CONFIGS.load("selfsup")))
    (_, container), *_ = list_containers(ROOT / "deploy" / "kubernetes" / "train.yaml")
    script = (ROOT / "deploy" / "slurm" / "train.sbatch").read_text().splitlines()[-1]
    words = [*container["args"], *shlex.split(script)]
    keys = {word.partition("=")[0] for word in words if re.fullmatch(r"[a-z]+\.[a-z_.]+=.*", word)}
    assert keys >= {"training.global_batch_size", "training.strategy"}
    assert keys <= known


def test_the_script_of_slurm_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", ROOT / "deploy" / "slurm" / "train.sbatch"], check=True)


def test_images_run_as_a_user_and_the_devcontainer_is_json() -> None:
    for path in (ROOT / "Dockerfile", ROOT / "deploy" / "Dockerfile.cuda"):
        stages = path.read_text().split("\nFROM ")
        assert re.search(r"^USER 1000$", stages[-1], re.M), path.name
    assert json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["name"] == "stadia"
