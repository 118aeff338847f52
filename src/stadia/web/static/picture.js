// The page of one picture: upload or example, depth, distances, lens, points; its address is #picture/KEY.

import { byId, get, listItems, listFiles, openDetails, post, showBar, showError, splitCloud } from "./api.js";
import { startStage } from "./stage.js";
import { showStart } from "./start.js";

const MAX_CLOUD = 250000;

export function startPicture(session) {
  const state = { photo: null, result: null, shown: null, request: null, cloud: null, again: false, lens: null };
  const stage = startStage(measure);

  byId("network").replaceChildren(...session.networks.map((label, key) => new Option(label, key)));
  if (!session.networks.length) showError(new Error("There is no network. Restart the app with one."));

  // -- requests: a new one replaces the one before

  async function run(what, request, isQuiet = false) {
    state.request?.abort();
    const controller = (state.request = new AbortController()), begun = performance.now();
    byId("status").textContent = what;
    byId("cancel").hidden = isQuiet;
    showError(null);
    try {
      const result = await request(controller.signal);
      if (state.request !== controller) return;
      await showResult(result, controller.signal);
      byId("status").textContent = `Done in ${((performance.now() - begun) / 1000).toFixed(1)} s`;
    } catch (error) {
      if (state.request !== controller) return;
      byId("status").textContent = error.name === "AbortError" ? "Cancelled" : "";
      showFailure(error);
    } finally {
      if (state.request === controller) {
        state.request = null;
        byId("cancel").hidden = true;
        if (state.again) predictAgain();
      }
    }
  }

  function showFailure(error) {
    showError(error);
    state.photo = error.about?.photo ?? state.photo; // the server kept the picture: another network may take it
    state.result = null;
    byId("result").hidden = true;
    if (state.photo && error.about?.photo) openDetails("settings-part");
    else leave();
  }

  function leave() {
    byId("result").hidden = true;
    byId("welcome").hidden = false;
    showStart(showExample);
  }

  function begin() {
    Object.assign(state, { photo: null, result: null, again: false });
    byId("welcome").hidden = true;
    byId("result").hidden = true;
  }

  function open(blob) {
    if (blob.size > session.max_photo_bytes) {
      showError(new Error(`This file has ${(blob.size / 2 ** 20).toFixed(0)} MB. The limit is ${session.max_photo_bytes >> 20} MB.`));
      return;
    }
    begin();
    byId("known").value = "";
    showKnown();
    const query = new URLSearchParams({ network: byId("network").value || "0", fov_deg: byId("first-fov").value });
    state.lens = byId("first-fov").value ? Number(byId("first-fov").value) : null;
    byId("first-fov").value = "";
    run("Predicting depth …", (signal) => post(`/api/photos?${query}`, blob, signal));
  }

  function showExample(name) {
    begin();
    state.lens = null;
    run("Opening the example …", (signal) => post(`/api/examples/${name}`, {}, signal));
  }

  function predictAgain() {
    state.again = Boolean(state.request) && state.photo !== null;
    if (!state.photo || state.again) return;
    const form = { network: Number(byId("network").value || 0), known: [] };
    if (state.lens !== null) form.fov_deg = state.lens;
    const kind = byId("known").value, metres = Number(byId("metres").value), [point] = stage.points();
    if (kind === "point" && !point) {
      showError(new Error("Click a point first. Its depth in metres sets the scale."));
      return;
    }
    if (kind) form.known = [{ kind, metres, ...(kind === "point" ? { x: point[0], y: point[1] } : {}) }];
    run("Predicting depth again …", (signal) => post(`/api/photos/${state.photo}/predict`, form, signal), true);
  }

  // The page of an address.
  function show(key) {
    if (!key) {
      state.request?.abort();
      state.photo = null;
      byId("status").textContent = "";
      leave();
    } else if (key !== state.photo) {
      begin();
      run("Opening your picture …", (signal) => get(`/api/photos/${key}`, signal).then((reply) => reply.json()));
    }
  }

  // -- results

  async function showResult(result, signal) {
    const base = `/api/photos/${result.photo}`, isNew = result.photo !== state.shown, version = `?${Date.now()}`;
    const values = new Float32Array(await (await get(`${base}/values.f32`, signal)).arrayBuffer());
    Object.assign(state, { photo: result.photo, shown: result.photo, result });
    if (location.hash !== `#picture/${result.photo}`) location.hash = `picture/${result.photo}`;
    byId("welcome").hidden = true;
    byId("result").hidden = false;
    if (isNew) byId("shown").src = `${base}/image.jpg`;
    byId("depth").src = `${base}/color.jpg${version}`;
    stage.show(result, values, isNew);
    byId("fov").value = result.fov_deg;
    byId("fov-value").textContent = `${result.fov_deg}°`;
    byId("fov-source").textContent = result.fov_source === "assumed" || result.fov_source === "network"
      ? `From left to right, ${result.fov_from}. Move the slider if your lens differs: all lengths change with it.` : `From left to right, ${result.fov_from}.`;
    showBar("bar", "ticks", result.bar);
    byId("expected-error").textContent = result.expected_error;
    const isJudged = result.verdict !== "not judged";
    byId("verdict-text").textContent = isJudged ? result.trust : "One picture cannot be checked. A video can: its motion shows whether depth is right.";
    byId("verdict-text").className = isJudged ? result.verdict : "";
    listItems(byId("findings"), result.verdict_lines.filter((line) => !/^ *(predictions|not checked): /.test(line)));
    listItems(byId("receipt"), result.receipt);
    for (const place of [byId("certain"), document.querySelector('label[for="certain"]')]) place.hidden = !result.has_uncertainty;
    byId("network-name").textContent = result.network;
    byId("licence").textContent = result.licence || "none recorded";
    listFiles("files", result.files, `${base}/files`);
    byId("cloud-part").hidden = !result.has_depth;
    measure(stage.points());
    await Promise.all([byId("shown").decode(), byId("depth").decode()]);
    if (result.has_depth) await showCloud(isNew);
  }

  async function measure(points) {
    const base = `/api/photos/${state.photo}`, [first, second] = points;
    byId("share").href = `${base}/share`;
    stage.showLength("");
    byId("distance").textContent = "";
    if (!second || !state.result) return;
    const query = new URLSearchParams({ x1: first[0], y1: first[1], x2: second[0], y2: second[1] });
    try {
      const found = await (await get(`${base}/distance?${query}`)).json(), length = `${found.distance.toPrecision(3)} ± ${found.deviation.toPrecision(2)} ${found.unit}`;
      const error = found.has_network_error ? "" : " (the network's own error is unknown)";
      byId("share").href = `${base}/share?${query}`; // the page has the distance too
      const depths = found.depths.map((depth) => depth.toPrecision(3)).join(" and ");
      byId("distance").textContent = `Distance ${length}${error}, of points at depths ${depths}`;
      stage.showLength(`${found.distance.toPrecision(3)} ${found.unit === "m" ? "m" : ""}`);
    } catch (error) {
      byId("distance").textContent = error.message;
    }
  }

  async function showCloud(isNew = false) {
    const { CloudView } = await import("/shared/points.js"), about = byId("cloud-about"), result = state.result;
    try {
      const query = new URLSearchParams({ edges: byId("edges").value, certain: byId("certain").value, points: MAX_CLOUD });
      const bytes = await (await get(`/api/photos/${state.photo}/cloud.bin?${query}`)).arrayBuffer();
      state.cloud ??= new CloudView(byId("cloud"), (text) => { about.textContent = text; });
      const camera = { fov_deg: result.fov_deg, aspect: result.width / result.height };
      state.cloud.show(...splitCloud(bytes), result.depth_scale === "metres" ? "m" : "(not metres)", { cameras: [camera], keepsView: !isNew });
    } catch (error) {
      about.textContent = error.message;
    }
  }
  for (const id of ["edges", "certain"]) byId(id).addEventListener("change", () => state.result && showCloud());
  byId("camera-view").addEventListener("click", () => state.cloud?.look());
  byId("reset-view").addEventListener("click", () => state.cloud?.reset());

  // -- lens and settings

  function showKnown() {
    byId("metres").hidden = byId("apply").hidden = byId("known").value === "";
  }
  byId("network").addEventListener("change", predictAgain);
  byId("fov").addEventListener("input", () => {
    state.lens = Number(byId("fov").value);
    byId("fov-value").textContent = `${state.lens}°`;
    predictAgain();
  });
  byId("calibration").addEventListener("change", async () => {
    const file = byId("calibration").files[0];
    if (!file) return;
    try {
      const suffix = `.${file.name.split(".").pop().toLowerCase()}`, text = file.size < 60000 ? await file.text() : "";
      const { fov_deg, about } = await post("/api/calibration", { suffix, text });
      byId("status").textContent = `Field of view ${fov_deg}°: ${about}.`;
      if (state.photo) state.lens = fov_deg;
      else byId("first-fov").value = fov_deg;
      predictAgain();
    } catch (error) {
      showError(error);
    }
  });
  byId("known").addEventListener("change", () => { showKnown(); if (!byId("known").value) predictAgain(); });
  byId("settings").addEventListener("submit", (event) => { event.preventDefault(); predictAgain(); });
  byId("cancel").addEventListener("click", () => state.request?.abort());

  byId("choose").addEventListener("click", () => byId("file").click());
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
    canvas.toBlob(open, "image/jpeg", 0.95);
    camera.srcObject.getTracks().forEach((track) => track.stop());
    camera.hidden = byId("shoot").hidden = true;
  });
  return { open, show };
}
