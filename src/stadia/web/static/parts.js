// Parts of a run: charts that the server draws, findings, key numbers, sheets that enlarge.

// Charts as HTML of the server; their text is escaped there, and the page's policy runs no script of them.
export function drawCharts(place, charts) {
  const shown = charts.join("");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  place.replaceChildren(...new DOMParser().parseFromString(shown, "text/html").body.children);
}

export function showTile([label, value, note]) {
  const tile = Object.assign(document.createElement("div"), { className: "card tile" });
  for (const [className, textContent] of [["label", label], ["value", value], ["about", note]]) if (textContent) tile.append(Object.assign(document.createElement("p"), { className, textContent }));
  return tile;
}

export function showSheet(src, alt) {
  const sheet = Object.assign(document.createElement("div"), { className: "sheet" });
  sheet.append(Object.assign(document.createElement("img"), { src, alt }));
  sheet.addEventListener("click", () => sheet.classList.toggle("zoomed"));
  return sheet;
}

export function showFinding(finding) {
  const card = document.createElement("article");
  card.className = `card finding ${["stop", "warn", "note"].includes(finding.severity) ? finding.severity : "note"}`;
  const line = (name, text) => { if (text) card.append(Object.assign(document.createElement(name), { textContent: text })); };
  line("h3", `${finding.severity}: ${finding.code} ${finding.title ?? ""}`);
  line("p", `Measured: ${finding.measured}; expected ${finding.expected}`);
  line("p", finding.fix && `Fix: ${finding.fix}`);
  if (finding.picture) card.append(Object.assign(document.createElement("img"), { src: finding.picture, alt: `Picture of ${finding.code}` }));
  return card;
}
