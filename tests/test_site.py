"""The documentation site: every page has its place, the reference is complete, and nothing loads from another host."""

import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import stadia
from website import assistant_pages, gallery
from website.api_pages import list_public_names
from website.foreign_hosts import find_foreign_loads, find_loads
from website.results_pages import write_pages
from website.site_source import DOCS, ROOT, SETTINGS, complete_navigation, generate_pages

PAGES = functools.cache(generate_pages)


def flatten(entries: Any) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    for entry in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        yield from flatten(entry)


@pytest.mark.slow
def test_the_navigation_has_every_page_once() -> None:
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    named = list(flatten(complete_navigation(settings["nav"], PAGES())))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(named) == sorted(written | PAGES().keys())


@pytest.mark.slow
def test_every_public_name_has_an_entry() -> None:
    text = "\n".join(PAGES().values())
    entries = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    public = {where for names in list_public_names().values() for where in names.values()}
    assert sorted(entries) == sorted(public)  # each once
    assert len(public) > 300


def test_public_names_exist_and_miss_none_that_a_package_exports() -> None:
    for package, names in list_public_names().items():
        module = importlib.import_module(package)
        assert [name for name in names if not hasattr(module, name)] == [], package
        assert set(getattr(module, "__all__", names)) - names.keys() == set(), package


@pytest.mark.parametrize(
    ("name", "text", "loads"),
    [
        ("a.html", '<script src="https://cdn.example/x.js"></script>', 1),
        ("a.html", '<link rel="stylesheet" href="//fonts.example/css">', 1),
        ("a.html", '<img src="http://example.org/a.png"><style>@import "https://e.org/a.css";</style>', 2),
        ("a.css", "@font-face { src: url(https://fonts.example/a.woff2) }", 1),
        ("a.js", 'importScripts("https://cdn.example/x.js")', 1),
        ("a.html", '<a href="https://example.org">a link is not loaded</a><img src="../a.png">', 0),
        ("a.html", '<link rel="canonical" href="https://example.org/">', 0),
        ("a.css", "/* https://example.org */ a { background: url(a.png) }", 0),
    ],
)
def test_loads_from_other_hosts_are_found(name: str, text: str, loads: int, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert len(find_loads(tmp_path / name)) == loads


def test_formulas_become_mathml_and_code_stays() -> None:
    """A formula at the start of a line stays in its paragraph: `<math` there would begin a block."""
    pytest.importorskip("latex2mathml")
    markdown = pytest.importorskip("markdown")
    from website.markdown_text import render_formulas

    text = render_formulas("Depth $z = f / d$, `$HOME`, 5 $ and 6 $.\n\n$$ a^2 $$\n\n```sh\necho $A $B\n```\n")
    assert text.count("<math") == 2
    assert "`$HOME`, 5 $ and 6 $." in text
    assert "echo $A $B" in text
    html = markdown.markdown(render_formulas("- The scale is\n  $s$, and\n  $t$ is the shift.\n- Next"))
    assert html.count("<li>") == 2
    assert "</math></span> is the shift.</li>" in html


@pytest.mark.slow
def test_a_built_page_loads_nothing_from_another_host(tmp_path: Path) -> None:
    """The theme, its search and its scripts, on two pages; `make docs` searches the whole site."""
    pytest.importorskip("zensical")
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    (tmp_path / "docs" / "index.md").write_text("# A\n\n```python\nx = 1\n```\n\n[b](b.md)\n")
    (tmp_path / "docs" / "b.md").write_text("# B\n\n!!! note\n    text\n")
    (tmp_path / "docs" / "assets" / "site.css").write_bytes((DOCS / "assets" / "site.css").read_bytes())
    settings |= {"nav": ["index.md", "b.md"], "plugins": ["search"]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "site" / "search.json").is_file()
    assert find_foreign_loads(tmp_path / "site") == []


def test_pictures_are_used_and_small() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in [*DOCS.rglob("*.md"), ROOT / "README.md"])
    pictures = [path for path in (DOCS / "images").iterdir() if path.is_file()]
    assert [path.name for path in pictures if path.name not in texts] == []
    assert [path.name for path in pictures if path.stat().st_size > gallery.MAX_ANIMATION_BYTES] == []


def test_the_citation_and_the_templates_are_valid() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == stadia.__version__
    assert citation["license"] == "Apache-2.0"
    for path in (ROOT / ".github").rglob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_the_pages_of_results_are_those_of_the_figures() -> None:
    for path, text in write_pages().items():
        assert (DOCS / path).read_text(encoding="utf-8") == text, "run python -m website.results_pages"


def test_the_pages_for_assistants_are_those_of_the_docs() -> None:
    for name, write in assistant_pages.PAGES.items():
        assert (ROOT / name).read_text(encoding="utf-8") == write(), "run python -m website.assistant_pages"
