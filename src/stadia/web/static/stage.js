// A picture under the pointer: depth at a pixel, measurements that stay, a cross for the keyboard, a divider to depth.

import { byId, ConnectionError, localize, make, readNumber, showError } from "./api.js";

const NEEDED = { length: 2, area: 3, angle: 3, height: 1 }; // points; an area takes more
const HELP = {
  length: "Click or tap two points for their distance, in the picture or in 3D.", area: "Click the corners of an area; a click on the first one closes it.",
  angle: "Click three points: the angle is at the second.", height: "Click a point for its height over the ground, which must be in the picture.",
};
const FREE_PX = 7, CLOSE_PX = 12, DRAG_PX = 4, KNOB_PX = 20, MAX_ZOOM = 8, DOUBLE_ZOOM = 2.5, WHOLE = { zoom: 1, x: 0, y: 0 };
const limit = (value, least, most) => Math.min(Math.max(value, least), most);

// What was measured stays in the browser, by the key of its result, and is measured again after a reload.
const KEPT = "stadia-measured-";
function loadMeasured(key) {
  try { return JSON.parse(localStorage.getItem(KEPT + key)) ?? []; } catch { return []; }
}
function saveMeasured(key, items) {
  const kept = items.map(({ kind, points, frame, isIn3d, found }) => ({ kind, points, frame, ...(isIn3d ? { isIn3d, found } : {}) }));
  try { kept.length ? localStorage.setItem(KEPT + key, JSON.stringify(kept)) : localStorage.removeItem(KEPT + key); } catch { /* the browser keeps nothing */ }
}
export function forgetMeasured(keys) {
  try { for (const name of Object.keys(localStorage)) if (name.startsWith(KEPT) && !keys.includes(name.slice(KEPT.length))) localStorage.removeItem(name); } catch { /* it kept nothing */ }
}

// A copy of a part of the page, whose ids begin with `prefix`.
export function copyPart(id, prefix) {
  const copy = byId(id).cloneNode(true);
  for (const name of ["id", "for", "aria-describedby"]) {
    for (const one of [copy, ...copy.querySelectorAll(`[${name}]`)]) if (one.hasAttribute(name)) one.setAttribute(name, prefix + one.getAttribute(name));
  }
  for (const image of copy.querySelectorAll("img")) image.removeAttribute("src");
  return copy;
}

// id: prefix of the ids of its parts; measureItem: returns the reply of the server about { kind, points, frame };
// changed: called when points or measurements changed.
export function startStage(id, measureItem, changed) {
  const part = (name) => byId(`${id}${name}`);
  const state = { result: null, values: null, frame: null, items: [], points: [], cross: null, view: WHOLE, before: null };
  const stage = part("stage"), marks = part("marks"), tip = part("tip"), kind = part("kind");

  // result: key, width, height, values ([rows, columns]), has_depth, depth_scale; values: float32, or null while they load;
  // isNew: of another picture, whose measurements are not those of the one before; frame: of a video, or null.
  function show(result, values, isNew, frame = null) {
    if (isNew || frame !== state.frame) Object.assign(state, { points: [], cross: null });
    if (isNew) Object.assign(state, { items: loadMeasured(result.key), view: WHOLE });
    Object.assign(state, { result, values, frame });
    stage.closest("figure").parentElement.style.setProperty("--aspect", result.width / result.height);
    if (isNew) part("value").textContent = "Point at the picture to see its depth";
    tip.hidden = true;
    showView();
  }

  // Without a result, as while another picture is opened, nothing of the one before is left.
  function clear() {
    Object.assign(state, { result: null, values: null, items: [], points: [], cross: null, view: WHOLE, before: null });
    for (const name of ["marks", "labels", "measured"]) part(name).replaceChildren();
    for (const name of ["distance", "value"]) part(name).textContent = "";
    tip.hidden = part("tools").hidden = part("measured").hidden = true;
  }

  // -- the part of the picture that is shown: zoomed around a place, by wheel, pinch, double click or keys

  function showView() {
    const { zoom, x, y } = state.view, { width, height } = state.result;
    for (const surface of surfaces) {
      surface.querySelector(".layer").style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${zoom})`;
      surface.classList.toggle("zoomed", zoom > 1);
    }
    marks.setAttribute("viewBox", [(-x * width) / zoom, (-y * height) / zoom, width / zoom, height / zoom].join(" "));
    tip.hidden = true;
    showSplit();
    draw();
  }

  // Zoom by a factor around a place, in shares of the stage, and move it.
  function zoomAt(factor, [x, y], [right, down] = [0, 0]) {
    const { view } = state, zoom = limit(view.zoom * factor, 1, MAX_ZOOM), share = zoom / view.zoom;
    state.view = { zoom, x: limit(x + (view.x - x) * share + right, 1 - zoom, 0), y: limit(y + (view.y - y) * share + down, 1 - zoom, 0) };
    showView();
  }

  const onStage = ([x, y]) => { // in shares of the stage
    const { zoom, ...from } = state.view, { width, height } = state.result;
    return [(zoom * (x + 0.5)) / width + from.x, (zoom * (y + 0.5)) / height + from.y];
  };

  function describe([x, y]) {
    if (!state.values) return "…";
    const [rows, columns] = state.result.values, { width, height } = state.result;
    const row = Math.min(Math.floor((y + 0.5) * rows / height), rows - 1), column = Math.min(Math.floor((x + 0.5) * columns / width), columns - 1);
    const value = state.values[row * columns + column];
    if (!(value > 0)) return "no depth (sky)";
    if (!state.result.has_depth) return `${(100 * value).toFixed(0)} of 100 (100 is near)`;
    return localize(state.result.depth_scale === "metres" ? `${value.toPrecision(3)} m` : `${value.toPrecision(3)} (relative, not metres)`);
  }

  function place(label, pixel) {
    const [x, y] = onStage(pixel);
    label.style.left = `${100 * x}%`;
    label.style.top = `${100 * y}%`;
    label.classList.toggle("leftwards", x > 0.7);
    label.classList.toggle("below", y < 0.12);
    label.classList.toggle("outside", x < 0 || x > 1 || y < 0 || y > 1);
  }

  // Boxes of pixels along the lines of a shape, which labels leave free.
  function boxesOf(points) {
    const inside = stage.getBoundingClientRect(), places = points.map(onStage).map(([x, y]) => [inside.left + x * inside.width, inside.top + y * inside.height]);
    return places.flatMap(([x, y], i) => {
      const [toX, toY] = places[Math.min(i + 1, places.length - 1)];
      return [0, 0.25, 0.5, 0.75].map((share) => new DOMRect(x + share * (toX - x) - FREE_PX, y + share * (toY - y) - FREE_PX, 2 * FREE_PX, 2 * FREE_PX));
    });
  }

  // Move labels up or down until they cover neither lines nor each other, the verdict nor the bar, and into the stage.
  function spread(labels, shapes) {
    const inside = stage.getBoundingClientRect(), taken = [part("chip"), ...stage.querySelectorAll(".bar, .drawn")].map((one) => one.getBoundingClientRect());
    taken.push(...shapes.flatMap(({ points }) => boxesOf(points)));
    const isFree = (top, box) => top >= inside.top && top + box.height <= inside.bottom && taken.every((one) => box.right < one.left || box.left > one.right || top + box.height < one.top || top > one.bottom);
    for (const label of labels) {
      const box = label.getBoundingClientRect(), right = Math.max(inside.left - box.left, 0) - Math.max(box.right - inside.right, 0), step = box.height / 2;
      const moved = new DOMRect(box.x + right, box.y, box.width, box.height), down = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8, -8].map((count) => count * step).find((one) => isFree(box.y + one, moved)) ?? 0;
      label.style.translate = `${right}px ${down}px`;
      taken.push(new DOMRect(moved.x, box.y + down, box.width, box.height));
    }
  }

  function showValue(pixel) {
    tip.textContent = describe(pixel);
    tip.hidden = false;
    place(tip, pixel);
    part("value").textContent = `Depth ${tip.textContent}`;
  }

  const shownItems = () => state.items.filter((item) => item.frame === state.frame);

  function draw() {
    if (!state.result) return;
    const size = Math.max(state.result.width, 100) / 60 / state.view.zoom, lines = [], labels = [], shown = shownItems();
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
      const label = make("span", { className: "tip length", textContent: localize(item.found.label), ariaHidden: "true" });
      place(label, [0, 1].map((axis) => item.points.reduce((sum, point) => sum + point[axis], 0) / item.points.length));
      if (item === shown.at(-1)) label.id = `${id}length`;
      labels.push(label);
    }
    part("labels").replaceChildren(...labels);
    spread(labels.filter((label) => !label.classList.contains("outside")), shown);
    list();
  }

  // The sentences below the picture: the last one, and all of them with what removes them.
  function list() {
    const last = shownItems().at(-1);
    part("distance").textContent = localize(last?.found?.text ?? last?.error ?? "");
    part("close").hidden = !(kind.value === "area" && state.points.length >= NEEDED.area);
    part("tools").hidden = !state.items.length;
    part("measured").hidden = state.items.length < 2 && !state.items[0]?.isIn3d;
    part("measured").replaceChildren(...state.items.map((item) => {
      const line = make("li", { textContent: `${item.frame === null ? "" : `Frame ${item.frame + 1}: `}${localize(item.found?.text ?? item.error ?? "…")} ` });
      const remove = make("button", { type: "button", textContent: "✕", ariaLabel: `Remove: ${item.found?.text ?? item.kind}`, className: "bare" });
      remove.addEventListener("click", () => { state.items = state.items.filter((one) => one !== item); notify(); });
      line.append(remove);
      return line;
    }));
  }

  function notify() {
    if (!state.result) return;
    saveMeasured(state.result.key, state.items);
    draw();
    changed();
  }

  // Measure the items that are new, or all of them after their depth changed.
  async function measure(isAll) {
    const { key, has_depth } = state.result;
    if (!has_depth) state.items = [];
    const items = state.items.filter((item) => !item.isIn3d && (isAll || !item.found));
    await Promise.all(items.map(async (item) => {
      const asked = (item.asked = {}); // a reply before the last one is not shown
      let reply = {};
      try { reply = { found: await measureItem(item) }; } catch (error) {
        if (error.name === "AbortError") return;
        reply = { error: error instanceof ConnectionError ? "" : error.message };
      }
      if (item.asked === asked) Object.assign(item, { found: undefined, error: undefined, ...reply });
    }));
    if (state.result?.key === key) notify(); // no other picture was opened meanwhile
  }

  function add(item) {
    state.points = [];
    state.items.push({ ...item, frame: state.frame });
    notify();
    measure(false).catch(showError);
  }

  const clamp = (value, most) => limit(Math.floor(value), 0, most - 1);
  const shareOf = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const pixelOf = (event) => {
    const [x, y] = shareOf(event), { zoom, ...from } = state.view, { width, height } = state.result;
    return [clamp(((x - from.x) / zoom) * width, width), clamp(((y - from.y) / zoom) * height, height)];
  };

  // A length that was measured in 3D, which no frame shows.
  function addFound({ points: at, value, deviation, unit }) {
    const round = (number, digits) => (number < 10 ** digits ? number.toPrecision(digits) : number.toFixed(0)), decimals = (text) => (text.split(".")[1] ?? "").length;
    const [shown, spread] = [round(value, 3), round(deviation, 2)], most = deviation ? decimals(spread) : Infinity; // no more decimals than the deviation
    const label = `${value.toFixed(Math.min(decimals(shown), most))} ± ${spread} ${unit}`.trim();
    state.items.push({ kind: "length", points: [], frame: null, isIn3d: true, found: { kind: "length", value, deviation, unit, label, text: `Distance in 3D ${label}`, points: at } });
    notify();
  }

  function addPoint(pixel) {
    const what = kind.value, [first] = state.points, near = (CLOSE_PX * state.result.width) / stage.clientWidth / state.view.zoom;
    state.before = { points: [...state.points], items: [...state.items] };
    const isClosed = what === "area" && state.points.length >= NEEDED.area && Math.hypot(pixel[0] - first[0], pixel[1] - first[1]) < near;
    if (!isClosed) state.points.push(pixel);
    if (isClosed || (what !== "area" && state.points.length === NEEDED[what])) add({ kind: what, points: state.points });
    else notify();
  }

  // The points for a scale: those that were set last, or those of the last length.
  const points = () => (state.points.length ? state.points : shownItems().findLast((item) => item.kind === "length")?.points ?? []);

  // A drag moves a zoomed picture, two fingers zoom, and a click that moved sets no point.
  const surfaces = [stage, part("beside")].filter(Boolean), pointers = new Map();
  let pressed = null, isDrag = false;
  function drag(event) {
    const before = pointers.get(event.pointerId), at = shareOf(event), others = [...pointers].filter(([key]) => key !== event.pointerId).map(([, place]) => place);
    if (!before) return false;
    isDrag ||= others.length > 0 || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > DRAG_PX;
    if (!isDrag || !(others.length || state.view.zoom > 1)) return false;
    event.currentTarget.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at);
    const moved = [at[0] - before[0], at[1] - before[1]];
    if (!others.length) zoomAt(1, [0, 0], moved);
    else {
      const span = (place) => Math.max(Math.hypot(place[0] - others[0][0], place[1] - others[0][1]), 0.01);
      zoomAt(span(at) / span(before), [(at[0] + others[0][0]) / 2, (at[1] + others[0][1]) / 2], [moved[0] / 2, moved[1] / 2]);
    }
    return true;
  }
  for (const surface of surfaces) {
    surface.addEventListener("pointerdown", (event) => {
      if (!pointers.size) [pressed, isDrag] = [[event.clientX, event.clientY], false];
      pointers.set(event.pointerId, shareOf(event));
    });
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) surface.addEventListener(name, (event) => pointers.delete(event.pointerId));
    surface.addEventListener("pointermove", (event) => state.result && !drag(event) && showValue(pixelOf(event)));
    surface.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") tip.hidden = true; });
    surface.addEventListener("click", (event) => {
      if (!state.result || (isDrag && state.view.zoom > 1)) return;
      if (event.detail === 2 && state.before) { // its first click set a point
        Object.assign(state, state.before, { before: null });
        zoomAt(state.view.zoom > 1 ? 1 / MAX_ZOOM : DOUBLE_ZOOM, shareOf(event));
        notify();
        return;
      }
      showValue(pixelOf(event));
      addPoint(pixelOf(event));
    });
    surface.addEventListener("wheel", (event) => { // the page scrolls until the picture was clicked, and where zooming ends
      const isOut = event.deltaY > 0;
      if (!state.result || !(event.ctrlKey || document.activeElement === stage) || (isOut && state.view.zoom === 1)) return;
      event.preventDefault();
      zoomAt(Math.exp(limit(-event.deltaY, -100, 100) / 400), shareOf(event));
    }, { passive: false });
  }
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.target !== stage || !state.result || !(moves[event.key] || ["Enter", " ", "Escape", "+", "-", "0"].includes(event.key))) return;
    event.preventDefault();
    const { width, height } = state.result;
    state.cross ??= [Math.floor(width / 2), Math.floor(height / 2)];
    if ("+-0".includes(event.key)) zoomAt({ "+": 1.25, "-": 0.8, 0: 1 / MAX_ZOOM }[event.key], onStage(state.cross));
    else if (moves[event.key]) {
      state.cross = [clamp(state.cross[0] + moves[event.key][0], width), clamp(state.cross[1] + moves[event.key][1], height)];
      zoomAt(1, [0, 0], onStage(state.cross).map((at) => limit(at, 0.05, 0.95) - at)); // in a zoomed picture the cross stays in sight
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
  function showSplit() {
    if (!split) return; // of a video, whose depth is next to the frame
    const left = 100 - Number(split.value), { zoom, x } = state.view;
    part("depth").style.clipPath = `inset(0 0 0 ${limit((left - 100 * x) / zoom, 0, 100)}%)`;
    handle.style.left = `${left}%`;
  }
  split?.addEventListener("input", showSplit);
  handle?.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    [pressed, isDrag] = [[event.clientX, event.clientY], false];
    handle.setPointerCapture(event.pointerId);
  });
  handle?.addEventListener("pointermove", (event) => {
    event.stopPropagation();
    if (!handle.hasPointerCapture(event.pointerId)) return;
    isDrag ||= Math.abs(event.clientX - pressed[0]) > DRAG_PX;
    if (!isDrag) return;
    const box = stage.getBoundingClientRect();
    split.value = 100 - 100 * limit((event.clientX - box.left) / box.width, 0, 1);
    showSplit();
  });
  handle?.addEventListener("click", (event) => { // of the line next to the knob, a click without a drag is one of the picture
    const box = stage.getBoundingClientRect();
    if (isDrag || Math.abs(event.clientY - box.top - box.height / 2) < KNOB_PX) event.stopPropagation();
  });
  showSplit();
  new ResizeObserver(() => state.result && draw()).observe(stage);

  // Tools: what is measured, and what becomes of the measurements.
  kind.addEventListener("change", () => {
    state.points = [];
    part("help").textContent = HELP[kind.value];
    notify();
  });
  part("help").textContent = HELP.length;
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
  function form() {
    const found = state.items.filter((item) => item.found);
    const items = found.filter((item) => !item.isIn3d).map(({ kind: what, points: at, frame }) => ({ kind: what, points: at, ...(frame === null ? {} : { frame }) }));
    return { items, lengths: found.filter((item) => item.isIn3d).map((item) => item.found.points) };
  }
  const marksIn3d = () => state.items.filter((item) => item.found).map(({ kind: what, found }) => ({ points: what === "area" ? [...found.points, found.points[0]] : found.points, text: found.label }));
  return { show, clear, add, addFound, addPoint, measure, points, form, marksIn3d, isEmpty: () => !state.items.length };
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
    showError(null);
    try { set(); } catch (error) { showError(error); }
  });
  function set() {
    const [first, second] = stage().points(), length = { kind: kind.value, metres: readNumber(`${id}metres`) };
    if (kind.value !== "height") Object.assign(length, { x: first[0], y: first[1] });
    if (kind.value === "distance") Object.assign(length, { x2: second[0], y2: second[1] });
    change([length]);
  }
  part("own-scale").addEventListener("click", () => change([]));
  // Of another picture: nothing is known yet.
  function clear() {
    kind.value = "distance";
    part("metres").value = "";
  }
  // known: the lengths of the result; receipt: sentences about its scale.
  function show(known, receipt) {
    if (known.length) Object.assign(kind, { value: known[0].kind });
    if (known.length) part("metres").value = localize(String(known[0].metres));
    part("own-scale").hidden = !known.length;
    part("receipt").replaceChildren(...receipt.map((textContent) => Object.assign(document.createElement("li"), { textContent })));
    check();
  }
  return { show, check, clear };
}
