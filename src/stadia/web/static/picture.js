// The page of one picture: upload, camera, depth, distances, points.

import { byId, get, listItems, listVerdict, post, showError, showVerdict, splitCloud } from "./api.js";

const SCALES = { metres: "metres", "up-to-scale": "relative, not metres", "affine-inverse": "relative, no depth", "affine-depth": "relative, no depth" };

export function startPicture(session) {
  const state = { photo: null, result: null, values: null, points: [], cross: null, request: null, cloud: null, fovChosen: false };
  const stage = byId("stage"), marks = byId("marks");

  byId("network").replaceChildren(...session.networks.map((label, key) => new Option(label, key)));
  if (!session.networks.length) showError(new Error("No network. Train one, or start stadia app NETWORK."));

  // -- requests: a new one replaces the one before

  async function run(what, request) {
    state.request?.abort();
    const controller = (state.request = new AbortController()), begun = performance.now();
    byId("status").textContent = what;
    byId("cancel").hidden = false;
    showError(null);
    try {
      const result = await request(controller.signal);
      if (state.request !== controller) return;
      await showResult(result, controller.signal);
      byId("status").textContent = `Done in ${((performance.now() - begun) / 1000).toFixed(1)} s`;
    } catch (error) {
      if (state.request !== controller) return;
      byId("status").textContent = error.name === "AbortError" ? "Cancelled" : "";
      showError(error);
    } finally {
      if (state.request === controller) {
        state.request = null;
        byId("cancel").hidden = true;
      }
    }
  }

  function upload(blob) {
    if (!blob) return;
    if (blob.size > session.max_photo_bytes) {
      showError(new Error(`This file has ${(blob.size / 2 ** 20).toFixed(0)} MB. The limit is ${session.max_photo_bytes >> 20} MB.`));
      return;
    }
    state.fovChosen = false;
    byId("known").value = "";
    showKnown();
    run("Predicting depth …", (signal) => post(`/api/photos?network=${byId("network").value || 0}`, blob, signal));
  }

  function predictAgain() {
    if (!state.photo) return;
    const form = { network: Number(byId("network").value || 0), known: [] };
    if (state.fovChosen) form.fov_deg = Number(byId("fov").value);
    const kind = byId("known").value, metres = Number(byId("metres").value);
    if (kind === "point" && !state.points.length) {
      showError(new Error("Click a point first. Its depth in metres sets the scale."));
      return;
    }
    if (kind) form.known = [{ kind, metres, ...(kind === "point" ? { x: state.points[0][0], y: state.points[0][1] } : {}) }];
    run("Predicting depth again …", (signal) => post(`/api/photos/${state.photo}/predict`, form, signal));
  }

  // -- results

  async function showResult(result, signal) {
    const base = `/api/predictions/${result.prediction}`, photo = `/api/photos/${result.photo}/image.jpg`;
    const values = new Float32Array(await (await get(`${base}/values.f32`, signal)).arrayBuffer());
    Object.assign(state, { photo: result.photo, result, values });
    if (byId("shown").getAttribute("src") !== photo) {
      state.points = [];
      state.cross = null;
      byId("shown").src = photo;
    }
    byId("depth").src = `${base}/color.png`;
    byId("result").hidden = false;
    for (const image of [byId("shown"), byId("depth")]) Object.assign(image, { width: result.width, height: result.height });
    marks.setAttribute("viewBox", `0 0 ${result.width} ${result.height}`);
    byId("fov").value = result.fov_deg;
    byId("fov-value").textContent = `${result.fov_deg}°`;
    byId("fov-source").textContent = `From left to right, ${result.fov_from}.`;
    showBar(result.bar);
    showVerdict(byId("verdict-card"), result.verdict);
    byId("scale").textContent = SCALES[result.depth_scale] ?? result.depth_scale;
    byId("trust").textContent = result.trust;
    listVerdict("findings", result.verdict_lines);
    listItems(byId("receipt"), result.receipt);
    for (const place of [byId("certain"), document.querySelector('label[for="certain"]')]) place.hidden = !result.has_uncertainty;
    byId("network-name").textContent = result.network;
    byId("licence").textContent = result.licence || "none recorded";
    byId("files").replaceChildren(...result.files.map((name) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("a"), { href: `${base}/files/${name}`, textContent: name, download: `stadia-${name}` }));
      return item;
    }));
    byId("cloud-part").hidden = !result.has_depth;
    byId("value").textContent = "Point at the picture to see its depth";
    drawMarks();
    measure();
    await Promise.all([byId("shown").decode(), byId("depth").decode()]);
    if (state.cloud && result.has_depth) await showCloud();
  }

  function showBar(bar) {
    byId("bar").style.background = `linear-gradient(to right, ${bar.colors.join(", ")})`;
    byId("ticks").replaceChildren(...bar.labels.map(([share, text]) => {
      const tick = document.createElement("span");
      tick.textContent = text;
      tick.style.left = `${100 * share}%`;
      if (share <= 0.04) tick.className = "first";
      if (share >= 0.96) tick.className = "last";
      return tick;
    }));
  }

  // -- values and distances

  const valueAt = ([x, y]) => {
    const [rows, columns] = state.result.values, { width, height } = state.result;
    const row = Math.min(Math.floor((y + 0.5) * rows / height), rows - 1), column = Math.min(Math.floor((x + 0.5) * columns / width), columns - 1);
    return state.values[row * columns + column];
  };

  function showValue(pixel) {
    if (!state.values) return;
    const value = valueAt(pixel), place = byId("value");
    const where = `at ${pixel[0]}, ${pixel[1]}`;
    if (!(value > 0)) place.textContent = `No depth ${where} (sky, or cropped)`;
    else if (!state.result.has_depth) place.textContent = `${(100 * value).toFixed(0)} of 100 ${where} (100 is near)`;
    else if (state.result.depth_scale === "metres") place.textContent = `${value.toPrecision(3)} m ${where}`;
    else place.textContent = `${value.toPrecision(3)} ${where} (relative, not metres)`;
  }

  async function measure() {
    const place = byId("distance"), base = `/api/predictions/${state.result.prediction}/share`;
    place.textContent = "";
    byId("share").href = base;
    if (state.points.length < 2 || !state.values) return;
    try {
      const found = await post(`/api/predictions/${state.result.prediction}/distance`, { first: state.points[0], second: state.points[1] });
      const error = found.has_network_error ? "" : " (the network's own error is unknown)";
      const [[x1, y1], [x2, y2]] = state.points;
      byId("share").href = `${base}?${new URLSearchParams({ x1, y1, x2, y2 })}`; // the page has the distance too
      place.textContent = `Distance ${found.distance.toPrecision(3)} ± ${found.deviation.toPrecision(2)} ${found.unit}${error}`;
    } catch (error) {
      place.textContent = error.message;
    }
  }

  function drawMarks() {
    const size = Math.max(state.result?.width ?? 100, 100) / 60, parts = [];
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

  const pixelOf = (event) => {
    const box = stage.getBoundingClientRect(), { width, height } = state.result;
    const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
    return [clamp((event.clientX - box.left) / box.width * width, width), clamp((event.clientY - box.top) / box.height * height, height)];
  };

  function addPoint(pixel) {
    state.points = state.points.length >= 2 ? [pixel] : [...state.points, pixel];
    drawMarks();
    measure();
  }

  stage.addEventListener("pointermove", (event) => state.result && showValue(pixelOf(event)));
  stage.addEventListener("click", (event) => state.result && addPoint(pixelOf(event)));
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1, moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (!state.result || !(moves[event.key] || ["Enter", " ", "Escape"].includes(event.key))) return;
    event.preventDefault();
    const { width, height } = state.result;
    state.cross ??= [Math.floor(width / 2), Math.floor(height / 2)];
    if (moves[event.key]) {
      state.cross = [Math.min(Math.max(state.cross[0] + moves[event.key][0], 0), width - 1), Math.min(Math.max(state.cross[1] + moves[event.key][1], 0), height - 1)];
      showValue(state.cross);
    } else if (event.key === "Escape") {
      state.points = [];
      measure();
    } else addPoint([...state.cross]);
    drawMarks();
  });

  const split = () => { byId("depth").style.clipPath = `inset(0 0 0 ${100 - Number(byId("split").value)}%)`; };
  byId("split").addEventListener("input", split);
  split();

  // -- the cloud

  async function showCloud() {
    const { CloudView } = await import("/shared/points.js"), about = byId("cloud-about"), canvas = byId("cloud");
    about.textContent = "Computing points …";
    try {
      const bytes = await (await get(`/api/predictions/${state.result.prediction}/cloud.bin?edges=${byId("edges").value}&certain=${byId("certain").value}`)).arrayBuffer();
      canvas.hidden = false;
      byId("reset-view").hidden = false;
      state.cloud ??= new CloudView(canvas, (text) => { about.textContent = text; });
      state.cloud.show(...splitCloud(bytes), state.result.depth_scale === "metres" ? "m" : "(not metres)");
    } catch (error) {
      about.textContent = error.message;
    }
  }
  byId("show-cloud").addEventListener("click", showCloud);
  for (const id of ["edges", "certain"]) byId(id).addEventListener("change", () => state.cloud && showCloud());
  byId("reset-view").addEventListener("click", () => state.cloud.reset());

  // -- the form

  function showKnown() {
    const isKnown = byId("known").value !== "";
    byId("metres").hidden = byId("apply").hidden = !isKnown;
  }
  byId("network").addEventListener("change", predictAgain);
  byId("fov").addEventListener("input", () => { byId("fov-value").textContent = `${byId("fov").value}°`; });
  byId("fov").addEventListener("change", () => { state.fovChosen = true; predictAgain(); });
  byId("calibration").addEventListener("change", async () => {
    const file = byId("calibration").files[0];
    if (!file) return;
    try {
      const suffix = `.${file.name.split(".").pop().toLowerCase()}`, text = file.size < 60000 ? await file.text() : "";
      const { fov_deg, about } = await post("/api/calibration", { suffix, text });
      Object.assign(state, { fovChosen: true });
      byId("fov").value = fov_deg;
      byId("fov-value").textContent = `${fov_deg}°`;
      byId("fov-source").textContent = `From left to right, by the calibration: ${about}.`;
      predictAgain();
    } catch (error) {
      showError(error);
    }
  });
  byId("known").addEventListener("change", () => { showKnown(); if (!byId("known").value) predictAgain(); });
  byId("settings").addEventListener("submit", (event) => { event.preventDefault(); predictAgain(); });
  byId("cancel").addEventListener("click", () => state.request?.abort());

  // -- where pictures come from

  byId("file").addEventListener("change", () => { upload(byId("file").files[0]); byId("file").value = ""; });
  byId("example").addEventListener("click", async () => {
    try { upload(await (await get("/static/example.jpg")).blob()); } catch (error) { showError(error); }
  });
  const drop = byId("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.toggle("over", name === "dragover"); });
  }
  drop.addEventListener("drop", (event) => upload(event.dataTransfer.files[0]));
  addEventListener("paste", (event) => upload([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
  byId("webcam").addEventListener("click", async () => {
    const camera = byId("camera");
    try {
      camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 1280 } });
      camera.hidden = byId("shoot").hidden = false;
      await camera.play();
    } catch (error) {
      showError(new Error(`The webcam does not work: ${error.message}`));
    }
  });
  byId("shoot").addEventListener("click", () => {
    const camera = byId("camera"), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [camera.videoWidth, camera.videoHeight];
    canvas.getContext("2d").drawImage(camera, 0, 0);
    canvas.toBlob(upload, "image/jpeg", 0.95);
    camera.srcObject.getTracks().forEach((track) => track.stop());
    camera.hidden = byId("shoot").hidden = true;
  });
}
