// Curves as SVG, and findings as cards: shared by the pages of runs and of checks.

const SVG = "http://www.w3.org/2000/svg", WIDTH = 420, HEIGHT = 190, LEFT = 54, RIGHT = 10, TOP = 26, BOTTOM = 24;

function add(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
}

const short = (value) => (Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : Number(value.toPrecision(3)).toString());

// One panel with one curve, or two; of losses of other meanings the caller passes one.
export function drawCurves(curves, names) {
  const drawn = curves.filter((curve) => curve && curve.steps.length), svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  if (!drawn.length) return svg;
  const steps = drawn.flatMap((curve) => curve.steps), values = drawn.flatMap((curve) => curve.values);
  const [x0, x1, y0, y1] = [Math.min(...steps), Math.max(...steps), Math.min(...values), Math.max(...values)];
  const x = (step) => LEFT + (WIDTH - LEFT - RIGHT) * (x1 > x0 ? (step - x0) / (x1 - x0) : 0.5);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y1 > y0 ? (value - y0) / (y1 - y0) : 0.5);
  const arrow = { lower: "↓", higher: "↑" }[drawn[0].better] ?? "";
  const last = drawn.map((curve, number) => `${names?.[number] ? `${names[number]} ` : ""}${short(curve.values.at(-1))}`).join(", ");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${drawn[0].label}: last ${last}`);
  add(svg, "text", { x: LEFT, y: 14 }, `${drawn[0].label} ${arrow}   last ${last}`);
  for (const value of [y0, (y0 + y1) / 2, y1]) {
    add(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) });
    add(svg, "text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, short(value));
  }
  add(svg, "text", { x: LEFT, y: HEIGHT - 6 }, `step ${x0}`);
  add(svg, "text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, x1);
  drawn.forEach((curve, number) => add(svg, "path", {
    class: number ? "second" : "first",
    d: curve.steps.map((step, i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(curve.values[i]).toFixed(1)}`).join(""),
  }));
  return svg;
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
