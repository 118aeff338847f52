"""A server of the app whose network reads depth from the picture: red is near, black is far."""

import io
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("httpx", reason="starlette's client for tests needs it")

from starlette.testclient import TestClient

from stadia.core.types import Camera, DepthScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.judge.depth import TrainingRecord
from stadia.predict.network import Network
from stadia.predict.training_overlap import TrainedInput
from stadia.web import networks
from stadia.web.server import make_app

HEIGHT, WIDTH = 48, 64


class RedPredictor:
    """Inverse depth is 0.05 and a part of the red channel, per metre."""

    crop = "none"

    def __init__(self, depth_scale: DepthScale, height: int, width: int) -> None:
        self.depth_scale, self.height, self.width = depth_scale, height, width

    def inverse_depth(self, image: np.ndarray, camera: Camera) -> np.ndarray:
        return 0.05 + 0.95 * image[:, :1]

    def T_next_now(self, now: np.ndarray, camera: Camera, following: np.ndarray, next_camera: Camera) -> np.ndarray:
        T = np.tile(np.eye(4, dtype=np.float32), (len(now), 1, 1))
        T[:, 2, 3] = -0.5
        return T


class RedNetwork(Network):
    """A trained network whose predictor is red, in one depth scale, without files."""

    has_own_size, is_exported, can_predict_focal = True, False, False
    run_folder, licence = None, "CC0-1.0"

    def __init__(self, depth_scale: DepthScale, recipe: str = "selfsup", **about: Any) -> None:
        self.name, self.max_pixels, self._running = str(depth_scale), None, None
        self.recipe = SimpleNamespace(recipe=recipe, depth_scale=depth_scale, **about)
        self.checkpoint = SimpleNamespace(buffer=lambda name: (0.8,), header=SimpleNamespace(recipe=recipe))
        self.relative_error = 0.1 if depth_scale is DepthScale.METRES else None

    def make_predictor(self, options: Any = None) -> RedPredictor:
        return RedPredictor(self.depth_scale, HEIGHT, WIDTH)

    def make_provenance(self, options: Any) -> Provenance:
        return Provenance(recipe="", config_hash="")

    def read_training(self, given: Any) -> tuple[TrainingRecord, TrainedInput]:
        return TrainingRecord(), TrainedInput()


def make_network(name: str) -> Network:
    """Return the network of a depth scale: `metres`, `up-to-scale` or `affine-inverse`."""
    return RedNetwork(DepthScale(name))


def encode(image: np.ndarray, kind: str = "PNG", focal_mm: int | None = None, orientation: int | None = None) -> bytes:
    """Return a picture as a file, with EXIF where a focal length (35 mm equivalent) or an orientation is given."""
    stream, exif = io.BytesIO(), Image.Exif()
    if focal_mm is not None:
        exif[0x8769] = {0xA405: focal_mm}
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(image).save(stream, kind, exif=exif, quality=98)
    return stream.getvalue()


def make_picture(height: int = 96, width: int = 128) -> np.ndarray:
    """Return a picture whose right half is near: depth 1 m, and 20 m at the left."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :, 0] = 255
    image[::2, :, 2] = 90
    return image


class Browser:
    """A client with the session and its secret."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        client.get("/")
        self.session = client.get("/api/session").json()

    def post(self, path: str, **request: Any) -> Any:
        headers = {"x-stadia": self.session.get("csrf", ""), **request.pop("headers", {})}
        return self.client.post(path, headers=headers, **request)

    def measure(self, base: str, *points: tuple[int, int], kind: str = "length", frame: int | None = None) -> Any:
        """Return the reply about what is measured between pixels."""
        form = {"kind": kind, "points": points, **({} if frame is None else {"frame": frame})}
        return self.client.get(f"{base}/measure", params={"form": json.dumps(form)})

    def upload(self, data: bytes, query: str = "") -> Any:
        return self.post(f"/api/photos{query}", content=data)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(networks, "load_network", make_network)
    return make_app(["metres", "up-to-scale", "affine-inverse"])


@pytest.fixture
def browser(app: Any) -> Iterator[Browser]:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Browser(client)


@pytest.fixture
def open_browser(app: Any) -> Iterator[Callable[[], Browser]]:
    """Returns further browsers of one server, each with its cookies."""
    with TestClient(app, base_url="http://127.0.0.1"):
        yield lambda: Browser(TestClient(app, base_url="http://127.0.0.1"))
