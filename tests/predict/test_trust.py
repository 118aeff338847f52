"""How far to trust predictions: one number in the few words and in the sentence, and none for depth that is refused."""

import re
from itertools import product

import pytest

from stadia.core.types import DepthScale
from stadia.predict.trust import ExpectedError, describe_trust
from stadia.scale.depth_deviations import DepthDeviations

CODES = {"usable": ("K30",), "doubtful": ("M38", "M34"), "unusable": ("M30",), "not judged": ()}


def make_error(network: str, error: float | None, **conditions: bool) -> ExpectedError:
    return ExpectedError(network, error, DepthDeviations.of(error, None), **conditions)


@pytest.mark.parametrize("verdict", CODES)
@pytest.mark.parametrize("condition", ["", "is_unfamiliar", "is_doubtful", "is_photo"])
def test_words_and_sentence_have_one_number(verdict: str, condition: str) -> None:
    severity = "note" if verdict == "usable" else "stop" if verdict == "unusable" else "warn"
    findings = [{"code": code, "severity": severity, "evidence": {"deviation": 0.4}} for code in CODES[verdict]]
    checks = {"verdict": verdict, "findings": findings}
    for scale, network, known in product(DepthScale, ("base", "other"), (0.25, None)):
        error = make_error(network, known, **({condition: True} if condition else {}))
        trust = describe_trust(scale, checks, error)
        short, text = (re.findall(r"\d+ %", words) for words in (trust.short, trust.text))
        assert short == text
        has_number = verdict != "unusable" and not scale.is_affine and known is not None
        has_number &= not (condition == "is_unfamiliar" and scale is not DepthScale.METRES)
        assert bool(text) == has_number
        assert not has_number or short == ["31 %"]
        assert trust.text.endswith(".")


def test_a_scale_of_a_known_length_has_its_own_deviation() -> None:
    """The larger one of the finding about the scale and of the expected error."""
    checks = {"verdict": "doubtful", "findings": [{"code": "M38", "severity": "warn", "evidence": {"deviation": 0.4}}]}
    assert describe_trust(DepthScale.METRES, checks, make_error("base", 0.1)).short == "± 40 %"
    assert describe_trust(DepthScale.METRES, checks, make_error("base", 0.8)).short == "± 100 %"
