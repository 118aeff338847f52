"""Find what a built page would load from another host: scripts, styles, fonts, images, frames and requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

FOREIGN = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
LOADS = {"src", "srcset", "poster", "data"}
"""Attributes whose value a browser loads by itself."""
LINKS_THAT_LOAD = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}
IN_STYLES = re.compile(r"(?:url\(|@import\s+)\s*['\"]?(?:https?:)?//[^)'\"\s;]+", re.IGNORECASE)
IN_SCRIPTS = re.compile(
    r"(?:fetch|importScripts|import|XMLHttpRequest|\.open|new\s+Worker|EventSource|WebSocket)\s*\(\s*[^)]{0,40}?['\"`](?:https?|wss?):?//[^'\"`]+"
)


class _Loads(HTMLParser):
    """Collect the addresses of other hosts that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        for name, value in values.items():
            if name in LOADS and FOREIGN.match(value):
                self.found.append(f"<{tag} {name}={value}>")
            if name == "style":
                self.found += IN_STYLES.findall(value)
        relations = set(values.get("rel", "").lower().split())
        if tag == "link" and relations & LINKS_THAT_LOAD and FOREIGN.match(values.get("href", "")):
            self.found.append(f"<link href={values['href']}>")


def find_loads(path: Path) -> list[str]:
    """Return what one file of a site loads from other hosts."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".html":
        parser = _Loads()
        parser.feed(text)
        scripts = "\n".join(re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL))
        styles = "\n".join(re.findall(r"<style\b[^>]*>(.*?)</style>", text, re.DOTALL))
        return parser.found + IN_SCRIPTS.findall(scripts) + IN_STYLES.findall(styles)
    return (IN_STYLES if path.suffix == ".css" else IN_SCRIPTS).findall(text)


def find_foreign_loads(site: Path) -> list[str]:
    """Return `FILE: what it loads` for every file of a site that loads something from another host."""

    def search() -> Iterator[str]:
        for path in sorted(site.rglob("*")):
            if path.suffix in (".html", ".css", ".js"):
                yield from (f"{path.relative_to(site)}: {load}" for load in find_loads(path))

    return list(search())
