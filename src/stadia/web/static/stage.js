// A picture under the pointer: depth at a pixel, measurements that stay, a cross for the keyboard, a divider to depth.

import { byId, make, showError } from "./api.js";

const NEEDED = { length: 2, area: 3, angle: 3, height: 1 }; // points; an area takes more
const HELP = {
  length: "Click or tap two points for their distance, in the picture or in 3D.", area: "Click the corners of an area; a click on the first one closes it.",
  angle: "Click three points: the angle is at the second.", height: "Click a point for its height over the ground, which must be in the picture.",
};
const KEYS = " Keyboard: arrow keys move the cross (Shift: faster), Enter sets a point, Escape removes the last measurement.";
const CLOSE_PX = 12;

// id: prefix of the ids of its parts; measureItem: returns the reply of the server about { kind, points, frame };
// changed: called when points or measurements changed.
export function startStage(id, measureItem, changed) {
  const part = (name) => byId(`${id}${name}`);
  const state = { result: null, values: null, frame: null, items: [], points: [], cross: null };
  const stage = part("stage"), marks = part("marks"), tip = part("tip"), kind = part("kind");

  // result: width, height, values ([rows, columns]), has_depth, depth_scale; values: float32, or null while they load;
  // isNew: of another picture, whose measurements are not those of the one before; frame: of a video, or null.
  function show(result, values, isNew, frame = null) {
    if (isNew || frame !== state.frame) Object.assign(state, { points: [], cross: null });
    if (isNew) state.items = [];
    Object.assign(state, { result, values, frame });
    stage.closest(".views").style.setProperty("--aspect", result.width / result.height);
    marks.setAttribute("viewBox", `0 0 ${result.width} ${result.height}`);
    if (isNew) part("value").textContent = "Point at the picture to see its depth";
    tip.hidden = true;
    draw();
  }

  function describe([x, y]) {
    if (!state.values) return "…";
    const [rows, columns] = state.result.values, { width, height } = state.result;
    const row = Math.min(Math.floor((y + 0.5) * rows / height), rows - 1), column = Math.min(Math.floor((x + 0.5) * columns / width), columns - 1);
    const value = state.values[row * columns + column];
    if (!(value > 0)) return "no depth (sky)";
    if (!state.result.has_depth) return `${(100 * value).toFixed(0)} of 100 (100 is near)`;
    return state.result.depth_scale === "metres" ? `${value.toPrecision(3)} m` : `${value.toPrecision(3)} (relative, not metres)`;
  }

  function place(label, [x, y]) {
    const { width, height } = state.result;
    label.style.left = `${100 * x / width}%`;
    label.style.top = `${100 * y / height}%`;
    label.classList.toggle("leftwards", x > 0.7 * width);
    label.classList.toggle("below", y < 0.12 * height);
  }

  function showValue(pixel) {
    tip.textContent = describe(pixel);
    tip.hidden = false;
    place(tip, pixel);
    part("value").textContent = `Depth ${tip.textContent}`;
  }

  const shownItems = () => state.items.filter((item) => item.frame === state.frame);

  function draw() {
    const size = Math.max(state.result.width, 100) / 60, lines = [], labels = [], shown = shownItems();
    const shapes = [...shown, { kind: kind.value, points: state.points, isOpen: true }];
    const line = (className, [x1, y1], [x2, y2]) => {
      const drawn = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [key, value] of Object.entries({ class: className, x1, y1, x2, y2, "vector-effect": "non-scaling-stroke" })) drawn.setAttribute(key, value);
      lines.push(drawn);
    };
    for (const className of ["halo", "mark"]) {
      for (const [x, y] of [...shapes.flatMap(({ points }) => points), ...(state.cross ? [state.cross] : [])]) {
        line(className, [x - size, y], [x + size, y]);
        line(className, [x, y - size], [x, y + size]);
      }
      for (const { kind: what, points, isOpen } of shapes) {
        for (let i = 1; i < points.length; i++) line(className, points[i - 1], points[i]);
        if (what === "area" && !isOpen) line(className, points.at(-1), points[0]);
      }
    }
    marks.replaceChildren(...lines);
    for (const item of shown) {
      if (!item.found) continue;
      const label = make("span", { className: "tip length", textContent: item.found.label, ariaHidden: "true" });
      place(label, [0, 1].map((axis) => item.points.reduce((sum, point) => sum + point[axis], 0) / item.points.length));
      if (item === shown.at(-1)) label.id = `${id}length`;
      labels.push(label);
    }
    part("labels").replaceChildren(...labels);
    list();
  }

  // The sentences below the picture: the last one, and all of them with what removes them.
  function list() {
    const last = shownItems().at(-1);
    part("distance").textContent = last?.found?.text ?? last?.error ?? "";
    part("close").hidden = !(kind.value === "area" && state.points.length >= NEEDED.area);
    part("tools").hidden = !state.items.length;
    part("measured").hidden = state.items.length < 2 && !state.items[0]?.isIn3d;
    part("measured").replaceChildren(...state.items.map((item) => {
      const line = make("li", { textContent: `${item.frame === null ? "" : `Frame ${item.frame + 1}: `}${item.found?.text ?? item.error ?? "…"} ` });
      const remove = make("button", { type: "button", textContent: "✕", ariaLabel: `Remove: ${item.found?.text ?? item.kind}`, className: "bare" });
      remove.addEventListener("click", () => { state.items = state.items.filter((one) => one !== item); notify(); });
      line.append(remove);
      return line;
    }));
  }

  function notify() {
    draw();
    changed();
  }

  // Measure the items that are new, or all of them after their depth changed.
  async function measure(isAll) {
    if (!state.result.has_depth) state.items = [];
    const items = state.items.filter((item) => !item.isIn3d && (isAll || !item.found));
    await Promise.all(items.map(async (item) => {
      const asked = (item.asked = {}); // a reply before the last one is not shown
      let reply = {};
      try { reply = { found: await measureItem(item) }; } catch (error) {
        if (error.name === "AbortError") return;
        reply = { error: error instanceof TypeError ? "" : error.message };
      }
      if (item.asked === asked) Object.assign(item, { found: undefined, error: undefined, ...reply });
    }));
    notify();
  }

  function add(item) {
    state.points = [];
    state.items.push({ ...item, frame: state.frame });
    notify();
    measure(false).catch(showError);
  }

  const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
  const pixelOf = (event) => {
    const box = stage.getBoundingClientRect(), { width, height } = state.result;
    return [clamp((event.clientX - box.left) / box.width * width, width), clamp((event.clientY - box.top) / box.height * height, height)];
  };

  // A length that was measured in 3D, which no frame shows.
  function addFound({ points: at, value, deviation, unit }) {
    const label = `${value.toPrecision(3)} ± ${deviation.toPrecision(2)} ${unit}`.trim();
    state.items.push({ kind: "length", points: [], frame: null, isIn3d: true, found: { kind: "length", value, deviation, unit, label, text: `Distance in 3D ${label}`, points: at } });
    notify();
  }

  function addPoint(pixel) {
    const what = kind.value, [first] = state.points, near = (CLOSE_PX * state.result.width) / stage.clientWidth;
    const isClosed = what === "area" && state.points.length >= NEEDED.area && Math.hypot(pixel[0] - first[0], pixel[1] - first[1]) < near;
    if (!isClosed) state.points.push(pixel);
    if (isClosed || (what !== "area" && state.points.length === NEEDED[what])) add({ kind: what, points: state.points });
    else notify();
  }

  // The points for a scale: those that were set last, or those of the last length.
  const points = () => (state.points.length ? state.points : shownItems().findLast((item) => item.kind === "length")?.points ?? []);

  stage.addEventListener("pointermove", (event) => state.result && showValue(pixelOf(event)));
  stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") tip.hidden = true; });
  stage.addEventListener("click", (event) => {
    if (!state.result) return;
    showValue(pixelOf(event));
    addPoint(pixelOf(event));
  });
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.target !== stage || !state.result || !(moves[event.key] || ["Enter", " ", "Escape"].includes(event.key))) return;
    event.preventDefault();
    const { width, height } = state.result;
    state.cross ??= [Math.floor(width / 2), Math.floor(height / 2)];
    if (moves[event.key]) {
      state.cross = [clamp(state.cross[0] + moves[event.key][0], width), clamp(state.cross[1] + moves[event.key][1], height)];
      showValue(state.cross);
      draw();
    } else if (event.key === "Escape") {
      if (state.points.length) state.points = [];
      else state.items.pop();
      notify();
    } else addPoint([...state.cross]);
  });

  // The divider: dragged on the picture, or moved by the keyboard on its slider.
  const split = part("split"), handle = part("handle");
  const showSplit = () => {
    part("depth").style.clipPath = `inset(0 0 0 ${100 - Number(split.value)}%)`;
    handle.style.left = `${100 - Number(split.value)}%`;
  };
  split.addEventListener("input", showSplit);
  handle.addEventListener("pointerdown", (event) => { event.preventDefault(); handle.setPointerCapture(event.pointerId); });
  handle.addEventListener("pointermove", (event) => {
    event.stopPropagation();
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    split.value = 100 - 100 * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    showSplit();
  });
  handle.addEventListener("click", (event) => event.stopPropagation());
  showSplit();

  // Tools: what is measured, and what becomes of the measurements.
  kind.addEventListener("change", () => {
    state.points = [];
    part("stage-help").textContent = HELP[kind.value] + KEYS;
    notify();
  });
  part("stage-help").textContent = HELP.length + KEYS;
  part("close").addEventListener("click", () => add({ kind: "area", points: state.points }));
  part("clear").addEventListener("click", () => { state.items = []; notify(); });
  part("csv").addEventListener("click", () => {
    const rows = state.items.filter((item) => item.found).map(({ kind: what, frame, points: at, found }) => [what, frame === null ? "" : frame + 1, found.value, found.deviation, found.unit, at.flat().join(" "), found.points.flat().map((value) => value.toPrecision(6)).join(" ")]);
    const text = [["kind", "frame", "value", "deviation", "unit", "pixels_x_y", "points_x_y_z"], ...rows].map((row) => row.join(",")).join("\r\n");
    const href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
    make("a", { href, download: "stadia-measured.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });

  // The measurements as a form of the server, and as marks of the points in 3D.
  const form = () => state.items.filter((item) => item.found && !item.isIn3d).map(({ kind: what, points: at, frame }) => ({ kind: what, points: at, ...(frame === null ? {} : { frame }) }));
  const marksIn3d = () => state.items.filter((item) => item.found).map(({ kind: what, found }) => ({ points: what === "area" ? [...found.points, found.points[0]] : found.points, text: found.label }));
  return { show, add, addFound, addPoint, measure, points, form, marksIn3d };
}

// The panel "Set the scale": a length that the user knows, of the two points, of the first, or of the camera's height.
// change: called with the list of known lengths, which is empty for the network's own metres.
export function startScale(id, stage, change) {
  const part = (name) => byId(`${id}${name}`), kind = part("known"), NEEDED = { distance: 2, point: 1, height: 0 };
  function check() {
    part("apply").disabled = stage().points().length < NEEDED[kind.value];
    part("scale-help").textContent = part("apply").disabled ? { distance: "Click two points in the picture, then enter their distance.", point: "Click a point in the picture, then enter its depth." }[kind.value] : "";
  }
  kind.addEventListener("change", check);
  part("scale").addEventListener("submit", (event) => {
    event.preventDefault();
    const [first, second] = stage().points(), length = { kind: kind.value, metres: Number(part("metres").value) };
    if (kind.value !== "height") Object.assign(length, { x: first[0], y: first[1] });
    if (kind.value === "distance") Object.assign(length, { x2: second[0], y2: second[1] });
    change([length]);
  });
  part("own-scale").addEventListener("click", () => change([]));
  // known: the lengths of the result; receipt: sentences about its scale.
  function show(known, receipt) {
    if (known.length) Object.assign(kind, { value: known[0].kind });
    if (known.length) part("metres").value = known[0].metres;
    part("own-scale").hidden = !known.length;
    part("receipt").replaceChildren(...receipt.map((textContent) => Object.assign(document.createElement("li"), { textContent })));
    check();
  }
  return { show, check };
}
