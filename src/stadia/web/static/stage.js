// The picture under the pointer: depth at a pixel, two points with a line, a cross for the keyboard.

import { byId } from "./api.js";

export function startStage(measure) {
  const state = { result: null, values: null, points: [], cross: null };
  const stage = byId("stage"), marks = byId("marks"), tip = byId("tip"), length = byId("length");

  // isNew: of another picture, whose points are not those of the one before.
  function show(result, values, isNew) {
    if (isNew) Object.assign(state, { points: [], cross: null });
    Object.assign(state, { result, values });
    stage.closest(".views").style.setProperty("--aspect", result.width / result.height);
    marks.setAttribute("viewBox", `0 0 ${result.width} ${result.height}`);
    byId("value").textContent = "Point at the picture to see its depth";
    tip.hidden = true;
    drawMarks();
  }

  function describe([x, y]) {
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
    byId("value").textContent = `Depth ${tip.textContent}`;
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
    if (!state.result || !(moves[event.key] || ["Enter", " ", "Escape"].includes(event.key))) return;
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

  const split = () => { byId("depth").style.clipPath = `inset(0 0 0 ${100 - Number(byId("split").value)}%)`; };
  byId("split").addEventListener("input", split);
  split();
  return { show, showLength, points: () => state.points };
}
