"""A video of what the stages of a network answer."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stadia.core.types import Camera
from stadia.data.frame_preparation import Frame
from stadia.training.prediction.activations import (
    record_activations,
    select_blocks,
    select_channels,
    write_activations_over_steps,
)

HEIGHT, WIDTH = 32, 96


class LastChannels(nn.Module):
    """Maps as (B, h, w, C), as some transformers have them; twice as large, to be told apart."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.permute(0, 2, 3, 1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        stages = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), LastChannels())
        depth = nn.ModuleDict({"encoder": stages, "head": nn.Conv2d(12, 1, 1), "tokens": nn.Flatten(2)})
        pose = nn.ModuleDict({"encoder": nn.Conv2d(6, 8, 3, 4, 1)})
        self.model = nn.ModuleDict({"depth": depth, "pose": pose})

    def forward(self, image: Tensor) -> Tensor:
        depth = self.model["depth"]
        features = depth["encoder"](image).permute(0, 3, 1, 2)
        depth["tokens"](features)
        return nn.functional.interpolate(depth["head"](features).exp(), scale_factor=4)


@pytest.fixture
def predictor() -> SimpleNamespace:
    network = Network()

    @torch.inference_mode()
    def inverse_depth(image: Tensor, camera: Camera) -> Tensor:
        answer: Tensor = network(torch.as_tensor(image))
        return answer.numpy()

    pairs: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode()
    def T_next_now(now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> None:
        pairs.append((now, following))
        network.model["pose"]["encoder"](torch.cat([torch.as_tensor(now), torch.as_tensor(following)], dim=1))

    said = {"inverse_depth": inverse_depth, "T_next_now": T_next_now}
    return SimpleNamespace(network=network, height=HEIGHT, width=WIDTH, crop="none", pairs=pairs, **said)


def frames(count: int) -> Iterator[Frame]:
    random = np.random.default_rng(0)
    for number in range(count):
        yield Frame(
            f"{number:06d}",
            random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8),
            np.array([[50.0, 0, 48], [0, 50, 16], [0, 0, 1]]),
        )


def test_stages_are_the_last_maps_of_each_size_in_either_order_of_axes() -> None:
    network = Network()
    with record_activations(network, HEIGHT, WIDTH) as maps:
        image = torch.rand(1, 3, HEIGHT, WIDTH)
        network(image)
        found = {name: tuple(activation.shape) for name, activation in maps.items()}
    encoder = network.model["depth"]["encoder"]
    assert found == {"depth.encoder 1/2": (8, 16, 48), "depth.encoder 1/4": (12, 8, 24)}
    assert torch.equal(maps["depth.encoder 1/2"], encoder[1](encoder[0](image))[0])
    assert torch.equal(maps["depth.encoder 1/4"], 2 * encoder[:3](image)[0])


class Blocks(nn.Module):
    """Tokens of a class and of 2 x 6 places through numbered blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {"layer": nn.ModuleList(nn.Sequential(nn.Identity(), nn.ReLU()) for _ in range(12))}
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for number, block in enumerate(self.backbone["layer"]):
            tokens = block(tokens + number)
        return tokens


def test_tokens_of_blocks_are_maps_of_their_places_and_four_blocks_are_drawn() -> None:
    tokens = torch.rand(1, 1 + 12, 8)
    network = Blocks()
    with record_activations(network, HEIGHT, WIDTH) as maps:
        last = network(tokens)
        found = dict(maps)
    assert list(found) == [f"layer.{number} tokens 1/16" for number in range(12)]
    assert torch.equal(found["layer.11 tokens 1/16"][:, 1, 2], last[0, 1 + 6 + 2])
    drawn = select_blocks(select_channels([found | {"depth.encoder 1/2": torch.rand(8, 16, 48)}]))
    assert list(drawn) == [*(f"layer.{number} tokens 1/16" for number in (2, 5, 8, 11)), "depth.encoder 1/2"]
    with record_activations(network, HEIGHT, WIDTH) as maps:
        network(torch.rand(1, 40, 8))
        assert not maps, "40 are of no grid"


def test_the_channels_of_the_largest_variance_over_frames_are_chosen_with_their_own_colors() -> None:
    torch.manual_seed(0)
    size = torch.tensor([1.0, 0, 5, 0.1, 3, 0.2, 4, 0]).view(-1, 1, 1)
    still = torch.tensor([0.0, 50, 0, 0, 0, 0, 0, 0]).view(-1, 1, 1)  # a large value that never changes
    frames = [{"stage": size * torch.rand(8, 6, 9) + still} for _ in range(3)]
    channels = select_channels(frames)["stage"]
    assert channels.numbers.tolist() == [0, 2, 4, 6]
    assert channels.low.tolist() == pytest.approx([0, 0, 0, 0], abs=0.2)
    assert channels.high.tolist() == pytest.approx([1, 5, 3, 4], rel=0.05)
    moving = [{"stage": (0.1 * torch.rand(8, 6, 9)).index_fill(0, torch.tensor([7]), float(n))} for n in range(3)]
    assert 7 in select_channels(moving)["stage"].numbers  # from frame to frame, in none of them


# -- one image over the steps of a training


def test_checkpoints_become_a_video_and_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (300, 100, 200):
        (tmp_path / "checkpoints" / f"step-{step:07d}.safetensors").touch()
    opened: list[int] = []

    def open_checkpoint(path: Path) -> SimpleNamespace:
        step = int(path.stem.partition("-")[2])
        return SimpleNamespace(header=SimpleNamespace(step=step), scale=step / 300)

    monkeypatch.setattr("stadia.training.prediction.activations.Checkpoint", SimpleNamespace(open=open_checkpoint))

    def open_network(checkpoint: SimpleNamespace) -> tuple[nn.Module, SimpleNamespace]:
        opened.append(checkpoint.header.step)
        network = Network()
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(checkpoint.scale)

        def inverse_depth(image: Tensor, camera: Camera) -> Tensor:
            found: Tensor = network(torch.as_tensor(image)).detach()
            return found.numpy()

        return network, SimpleNamespace(inverse_depth=inverse_depth, height=HEIGHT, width=WIDTH, crop="none")

    out = tmp_path / "steps.mp4"
    count, sheet = write_activations_over_steps(tmp_path, open_network, next(frames(1)), out)  # type: ignore[arg-type]
    assert (count, sheet) == (3, tmp_path / "steps.png")
    assert opened == [300, 100, 200, 300], "channels and colors are those of the last"
    with av.open(str(out)) as video:
        shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(shown) == 3
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[0] > 3 * (shown[0].shape[0] - 2)
