"""The search of protocols: its figures are those of scripts and of `evaluate`, and it finds hidden protocols."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmarks.find_protocol import METRICS, draw_scheme, find_rank, score_by_script
from numpy.typing import NDArray
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.core.types import DepthScale
from stadia.evaluation.image_score import score_image
from stadia.evaluation.protocol_search import (
    LabeledMap,
    ProtocolSearch,
    PublishedFigure,
    list_windows,
    parse_published,
    search_protocols,
)
from stadia.evaluation.protocols import PROTOCOLS, find_protocol

ASKED = tuple(PublishedFigure(metric, "0", 0.0, 1.0) for metric in METRICS)


def make_maps(height: int = 40, width: int = 120) -> list[LabeledMap]:
    """Three sparse truths from 2 to 130 m, and predictions at half their size with a scale that changes."""
    rng = np.random.default_rng(3)
    maps = []
    for number in range(3):
        rows = np.geomspace(130, 2, height)[:, None] * np.ones(width)
        true_m = np.where(rng.random(rows.shape) < 0.3, rows * np.exp(rng.normal(0, 0.05, rows.shape)), 0)
        small = rows[::2, ::2] ** 0.9 * (0.8 + 0.3 * number) * np.exp(rng.normal(0, 0.15, (height // 2, width // 2)))
        maps.append(LabeledMap(f"{number:06d}", small, true_m))
    return maps


@pytest.fixture(scope="module")
def maps() -> list[LabeledMap]:
    return make_maps()


@pytest.fixture(scope="module")
def found(maps: list[LabeledMap]) -> ProtocolSearch:
    return search_protocols(ASKED, lambda: maps, DepthScale.METRES)


class TestPublishedFigures:
    def test_a_bare_number_is_abs_rel_to_its_last_digit(self) -> None:
        (figure,) = parse_published(".115")
        assert figure.metric == "abs_rel"
        assert (figure.value - figure.half_unit, figure.value + figure.half_unit) == pytest.approx((0.1145, 0.1155))

    def test_several_with_the_names_of_papers_and_percent(self) -> None:
        figures = parse_published("abs_rel=.115, RMSE=4.8, a1=87.7%")
        assert [(f.metric, f.value, f.half_unit) for f in figures] == [
            ("abs_rel", pytest.approx(0.115), pytest.approx(0.0005)),
            ("rmse", pytest.approx(4.8), pytest.approx(0.05)),
            ("d1", pytest.approx(0.877), pytest.approx(0.0005)),
        ]

    @pytest.mark.parametrize(("text", "found"), [("absrl=.1", "absrl"), ("rmse=", "rmse="), ("rmse=1_0", "1_0")])
    def test_a_mistake_is_named(self, text: str, found: str) -> None:
        with refuses(ConfigError, where="--find-protocol", found=found):
            parse_published(text)


class TestFigures:
    @pytest.mark.slow
    def test_each_is_that_of_a_script(self, maps: list[LabeledMap], found: ProtocolSearch) -> None:
        for row in random.Random(0).sample(range(len(found.schemes)), 150):
            expected = score_by_script(maps, found.schemes[row])
            assert found.figures[row] == pytest.approx([expected[metric] for metric in METRICS], rel=2e-6)

    @pytest.mark.slow
    def test_each_with_an_option_is_that_of_evaluate(self, maps: list[LabeledMap], found: ProtocolSearch) -> None:
        rows = {scheme.option(DepthScale.METRES): row for row, scheme in enumerate(found.schemes)}
        options = [option for option in rows if option is not None]
        chosen = {*random.Random(0).sample(options, 60), *PROTOCOLS} & {*options}
        assert {"metric", "relative", "kitti-eigen", "kitti-eigen-eigen-crop", "kitti-eigen-improved"} <= chosen
        for option in chosen:
            protocol = find_protocol(option)
            scored = [
                score_image(one.name, one.predicted, one.true_m, DepthScale.METRES, protocol, one.crop) for one in maps
            ]
            means = [np.mean([score.metrics[metric] for score in scored if score]) for metric in METRICS]
            assert found.figures[rows[option]] == pytest.approx(means, rel=1e-9), option

    def test_the_windows_of_kitti_and_nyu(self) -> None:
        windows = list_windows(375, 1242)
        rows, columns = np.nonzero(windows["garg of kb"])
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (166, 372, 56, 1185)
        assert "nyu" not in windows
        rows, columns = np.nonzero(list_windows(480, 640)["nyu"])
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (45, 471, 41, 601)


class TestMatches:
    @pytest.mark.slow
    def test_hidden_protocols_are_found(self, maps: list[LabeledMap], found: ProtocolSearch) -> None:
        chance = random.Random(1)
        for _ in range(20):
            hidden = draw_scheme(chance, ("none", "garg", "eigen"))
            scores = score_by_script(maps, hidden)
            text = ",".join(f"{metric}={scores[metric]:.3f}" for metric in ("abs_rel", "rmse", "d1"))
            figures = found.figures[:, [METRICS.index(metric) for metric in ("abs_rel", "rmse", "d1")]]
            search = ProtocolSearch(parse_published(text), found.schemes, figures, DepthScale.METRES, 3)
            rank = find_rank(search, hidden)
            assert rank is not None
            assert rank <= 10
            distances = [match.distance for match in search.matches]
            assert distances == sorted(distances)
            assert distances[-1] <= 1 + 1e-6

    def test_more_digits_match_fewer_by_chance(self, found: ProtocolSearch) -> None:
        few, many = (
            ProtocolSearch(parse_published(text), found.schemes, found.figures[:, :1], DepthScale.METRES, 3)
            for text in (".2", ".200")
        )
        assert 0 < many.chance < few.chance


class TestCommand:
    @pytest.mark.slow
    def test_json_has_the_options_of_the_matches(
        self,
        tmp_path: Path,
        maps: list[LabeledMap],
        stadia: Callable[..., tuple[int, str, str]],
        write_maps: Callable[..., Path],
    ) -> None:
        predicted: dict[str, NDArray] = {one.name: one.predicted for one in maps}
        write_maps(predicted, "depth")
        write_maps({one.name: one.true_m for one in maps}, "truth")
        words = ("evaluate", "--depth", tmp_path / "depth", "--reference", tmp_path / "truth", "--json")
        scores = json.loads(stadia(*words, "--protocol", "kitti-eigen")[1])
        text = f"abs_rel={scores['abs_rel']:.4f},rmse={scores['rmse']:.4f}"
        code, out, _ = stadia(*words, "--find-protocol", text)
        searched = json.loads(out)["protocols"]
        assert code == 0
        assert searched["images"] == 3
        options = [match.get("option") for match in searched["matches"]]
        assert "--protocol kitti-eigen" in options
        match = searched["matches"][options.index("--protocol kitti-eigen")]
        assert match["abs_rel"] == pytest.approx(scores["abs_rel"], rel=1e-9)
        code, out, _ = stadia(*words[:-1], "--find-protocol", text)
        assert "--protocol kitti-eigen" in out


class TestOptionsOfProtocols:
    def test_defaults_are_those_of_metric(self) -> None:
        parsed, metric = find_protocol("crop=none"), PROTOCOLS["metric"]
        assert (parsed.crop, parsed.scored_m, parsed.clamp_m) == (metric.crop, metric.scored_m, metric.clamp_m)
