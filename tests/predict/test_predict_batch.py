"""Prediction of many videos: a ledger, a resume without a second prediction, videos that fail alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.data.rendered_world import render
from tests.refusals import refuses
from tests.sessions import predict_lines
from tests.stores import s3_server as s3_server
from tests.stores import s3_url as s3_url

from stadia.batches.video_batch import BatchSummary, VideoResult
from stadia.core.errors import RunError
from stadia.core.progress import no_progress
from stadia.data.video.video_list import VideoEntry
from stadia.io.array_files import read_npz
from stadia.io.remote_store import RemoteStore
from stadia.predict import batch as batch_prediction
from stadia.predict.batch import BatchRequest, VideoWorker, predict_batch
from stadia.predict.options import PredictOptions
from stadia.training.recipes.base import build_recipe

OPTIONS = {"camera": {"focal_px": 120}}
NAMES = ["a", "b", "poisoned", "c"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of three videos of three frames, and of one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("batch")
    for name in NAMES:
        path = folder / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
            for index in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(render(index)[0], format="rgb24")))
            container.mux(stream.encode())
    (folder / "poisoned.mp4").write_bytes(b"no video at all")
    table = folder / "list.csv"
    table.write_text("video\n" + "".join(f"{name}.mp4\n" for name in NAMES))
    return table


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, write_run: Callable[..., Path]) -> Path:
    return write_run(tmp_path_factory.mktemp("network") / "run")


def request(network: Path, videos: Path, out: object, **changes: Any) -> BatchRequest:
    one = PredictOptions(data=OPTIONS, motion="network", video=False, cloud=False)
    return BatchRequest(
        **{"network": str(network), "source": videos, "options": one, "out": str(out), "workers": 0, **changes}
    )


def run(batch: BatchRequest) -> tuple[list[str], BatchSummary]:
    lines: list[str] = []
    summary = predict_batch(batch, no_progress, lines.append)
    assert isinstance(summary, BatchSummary)
    return [str(line) for line in lines], summary


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the videos that this process predicts."""
    names: list[str] = []
    real = VideoWorker._predict_into

    def note(self: VideoWorker, item: VideoEntry, folder: Path) -> None:
        names.append(item.name)
        real(self, item, folder)

    monkeypatch.setattr(VideoWorker, "_predict_into", note)
    return names


def make_toucher(request: BatchRequest) -> Callable[[VideoEntry], VideoResult]:
    """Leave an empty predictions.json for each video."""

    def touch(item: VideoEntry) -> VideoResult:
        folder = Path(request.out) / item.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "predictions.json").touch()
        return VideoResult(video=item.name, state="done")

    return touch


def find_touched(out: str, name: str) -> VideoResult | None:
    return VideoResult(video=name, state="done") if (Path(out) / name / "predictions.json").is_file() else None


def test_deleted_predictions_are_made_again_and_other_weights_or_options_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_prediction, "make_predictor", make_toucher)
    monkeypatch.setattr(batch_prediction, "find_finished", find_touched)
    table, network = tmp_path / "list.txt", tmp_path / "model.onnx"
    for name in "ab":
        (tmp_path / f"{name}.mp4").touch()
    table.write_text("a.mp4\nb.mp4\n")
    network.write_bytes(b"weights")
    batch = request(network, table, tmp_path / "out")
    assert run(batch)[1].before == 0
    assert run(batch)[1].before == 2
    (tmp_path / "out" / "a" / "predictions.json").unlink()
    assert run(batch)[1].before == 1
    assert (tmp_path / "out" / "a" / "predictions.json").is_file()
    record = tmp_path / "out" / "batch.json"
    record.write_text(json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "glb"}))
    assert run(batch)[1].before == 2, "a batch of before there was this option, which has its default"
    former = json.loads(record.read_text())
    former["steady"] = former.pop("smooth")
    record.write_text(json.dumps(former))
    assert run(batch)[1].before == 2, "a batch of before this option was renamed"
    for key, value in (("smooth", True), ("background", tmp_path), ("glb", tmp_path)):
        with refuses(RunError, where="batch.json", found=key):
            run(replace(batch, options=replace(batch.options, **{key: value})))
    network.write_bytes(b"others")
    with refuses(RunError, where="batch.json"):
        run(batch)


@pytest.mark.slow
def test_a_poisoned_video_fails_alone_and_nothing_is_predicted_twice(
    network: Path, videos: Path, tmp_path: Path, predicted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    real = build_recipe.load_recipe
    monkeypatch.setattr(build_recipe, "load_recipe", lambda *given: (opened.append(given), real(*given))[1])
    lines, summary = run(request(network, videos, tmp_path / "out"))
    assert len({id(given[0]) for given in opened}) == 1, "the network is opened once"
    assert (summary.done, summary.failed, summary.before) == (3, 1, 0)
    assert [line.split(": ")[1] for line in lines] == ["poisoned"]
    ledger = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert {row["video"]: row["state"] for row in ledger} == dict.fromkeys("abc", "done") | {"poisoned": "failed"}
    assert "poisoned.mp4: found" in ledger[2]["error"]
    assert [row["frames"] for row in ledger if row["state"] == "done"] == [3, 3, 3]

    predicted.clear()
    (tmp_path / "out" / "ledger.jsonl").write_text(f"{json.dumps(ledger[0])}\n{{cut o")  # killed while it was written
    _, summary = run(request(network, videos, tmp_path / "out"))
    assert predicted == ["poisoned"], "only what failed is tried again"
    assert (summary.done, summary.failed, summary.before) == (3, 1, 3)

    batch = request(network, videos, tmp_path / "out")
    predict_lines(network, videos.parent / "a.mp4", tmp_path / "one", **vars(batch.options))
    for name in ("000000", "000002"):
        maps = [read_npz(folder / "depth" / f"{name}.npz") for folder in (tmp_path / "one", tmp_path / "out" / "a")]
        assert all(np.array_equal(maps[0][key], maps[1][key]) for key in maps[0]), "as of one machine"

    changed = replace(batch, options=replace(batch.options, every=2))
    with refuses(RunError, where="batch.json"):
        run(changed)


@pytest.mark.slow
def test_a_store_holds_the_predictions_and_the_ledger(
    network: Path, videos: Path, s3_url: str, predicted: list[str]
) -> None:
    batch = request(network, videos, f"{s3_url}/out")
    _, summary = run(batch)
    assert (summary.done, summary.failed) == (3, 1)
    store = RemoteStore(f"{s3_url}/out")
    assert all(map(store.exists, ("batch.json", "ledger.jsonl", "a/predictions.json", "c/depth/000002.npz")))
    predicted.clear()
    store.write("ledger.jsonl", b"")
    assert run(batch)[1].before == 3
    assert predicted == ["poisoned"]


@pytest.mark.slow
def test_a_process_of_its_own_predicts_what_this_process_does(network: Path, videos: Path, tmp_path: Path) -> None:
    for name, changes in (("here", {}), ("pool", {"workers": 1, "threads": 1})):
        assert run(request(network, videos, tmp_path / name, **changes))[1].done == 3
    check_equal(tmp_path / "here", tmp_path / "pool")


def check_equal(here: Path, there: Path) -> None:
    for name in "abc":
        for index in range(3):
            maps = [read_npz(folder / name / "depth" / f"{index:06d}.npz") for folder in (here, there)]
            for key in maps[0]:
                np.testing.assert_allclose(maps[1][key], maps[0][key], rtol=1e-5)
