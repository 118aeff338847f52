"""The pages of conventions in docs/explanation are law: every example on them is run."""

import re
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "docs" / "explanation"
PAGE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("conventions*.md")))
IMPORTS = re.search(r"^```python imports\n(.*?)^```$", PAGE, re.S | re.M).group(1)
SECTIONS = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.S | re.M)
EXAMPLES = [
    (title, code) for title, body in SECTIONS for code in re.findall(r"^```python\n(.*?)^```$", body, re.S | re.M)
]


def test_every_convention_has_an_example_and_every_example_is_found():
    assert [title for title, _ in SECTIONS] == [title for title, _ in EXAMPLES]
    assert len(EXAMPLES) == PAGE.count("```python\n") > 20


@pytest.mark.slow
@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_example(title: str, code: str):
    assert "assert" in code
    torch.manual_seed(0)
    exec(compile(IMPORTS + code, f"docs/explanation: {title}", "exec"), {})


def test_a_wrong_number_on_the_page_would_fail():
    wrong = dict(EXAMPLES)["KITTI's baseline is the difference of P2 and P3"].replace("0.53273", "0.47056")
    with pytest.raises(AssertionError):
        exec(IMPORTS + wrong, {})
