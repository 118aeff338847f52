// A picture under the pointer: depth at a pixel, two points with a line, a cross for the keyboard, a divider to depth.

import { byId } from "./api.js";

// id: prefix of the ids of its parts; measure: called with the points when they change.
export function startStage(id, measure) {
  const part = (name) => byId(`${id}${name}`);
  const state = { result: null, values: null, points: [], cross: null };
  const stage = part("stage"), marks = part("marks"), tip = part("tip"), length = part("length");

  // result: width, height, values ([rows, columns]), has_depth, depth_scale; values: float32, or null while they load;
  // isNew: of another picture, whose points are not those of the one before.
  function show(result, values, isNew) {
    if (isNew) Object.assign(state, { points: [], cross: null });
    Object.assign(state, { result, values });
    stage.closest(".views").style.setProperty("--aspect", result.width / result.height);
    marks.setAttribute("viewBox", `0 0 ${result.width} ${result.height}`);
    if (isNew) part("value").textContent = "Point at the picture to see its depth";
    tip.hidden = true;
    drawMarks();
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

  function showLength(text) {
    length.textContent = text;
    length.hidden = !text;
    if (text) place(length, [0, 1].map((axis) => (state.points[0][axis] + state.points[1][axis]) / 2));
  }

  function drawMarks() {
    const size = Math.max(state.result.width, 100) / 60, parts = [];
    const line = (className, x1, y1, x2, y2) => {
      const drawn = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [key, value] of Object.entries({ class: className, x1, y1, x2, y2, "vector-effect": "non-scaling-stroke" })) drawn.setAttribute(key, value);
      parts.push(drawn);
    };
    for (const className of ["halo", "mark"]) {
      for (const [x, y] of [...state.points, ...(state.cross ? [state.cross] : [])]) {
        line(className, x - size, y, x + size, y);
        line(className, x, y - size, x, y + size);
      }
      if (state.points.length === 2) line(className, ...state.points[0], ...state.points[1]);
    }
    marks.replaceChildren(...parts);
  }

  const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
  const pixelOf = (event) => {
    const box = stage.getBoundingClientRect(), { width, height } = state.result;
    return [clamp((event.clientX - box.left) / box.width * width, width), clamp((event.clientY - box.top) / box.height * height, height)];
  };

  function setPoints(points) {
    state.points = points;
    drawMarks();
    measure(points);
  }
  const addPoint = (pixel) => setPoints(state.points.length >= 2 ? [pixel] : [...state.points, pixel]);

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
      drawMarks();
    } else if (event.key === "Escape") setPoints([]);
    else addPoint([...state.cross]);
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
  return { show, showLength, setPoints, points: () => state.points };
}

// The words for a measured distance.
export function describeDistance(found) {
  const error = found.has_network_error ? "" : " (the network's own error is unknown)";
  const length = `${found.distance.toPrecision(3)} ± ${found.deviation.toPrecision(2)} ${found.unit}`;
  return `Distance ${length}${error}, of points at depths ${found.depths.map((depth) => depth.toPrecision(3)).join(" and ")}`;
}

export const shortLength = (found) => `${found.distance.toPrecision(3)} ± ${found.deviation.toPrecision(2)} ${found.unit === "m" ? "m" : ""}`;

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
