// The page of one picture: upload or example, depth, distances, scale, lens, points; its address is #picture/KEY. Without a key
// an example is shown, ready to be measured.

import { byId, connect, get, listItems, listFiles, localize, openDetails, post, readNumber, readSize, showBar, showError, POINT_BYTES, splitCloud, upload } from "./api.js";
import { startScale, startStage } from "./stage.js";
import { EXAMPLES, showStart } from "./start.js";

const MAX_CLOUD = 250000, SLOW_S = 3; // of slow connections, points are sent only when they are wanted
const HERO = { name: "table", length: { kind: "length", points: [[60, 330], [250, 150]] } }; // by the depth camera 1.75 m

export function startPicture(session) {
  const state = { photo: null, result: null, before: null, changes: {}, shown: null, request: null, cloud: null, isHero: false };
  const stage = startStage("", measureItem, showMeasured);
  const scale = startScale("", () => stage, (known) => change({ known }));

  for (const id of ["network", "result-network"]) byId(id).replaceChildren(...session.networks.map((label, key) => new Option(label, key)));
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
      if (state.request !== controller) return;
      byId("status").textContent = state.isHero ? "" : localize(`Done in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    } catch (error) {
      if (state.request !== controller) return;
      showFailure(error);
      byId("status").textContent = error.name === "AbortError" ? "Cancelled" : "";
    } finally {
      if (state.request === controller) {
        state.request = null;
        byId("cancel").hidden = byId("progress").hidden = true;
        if (Object.keys(state.changes).length) predictAgain();
      }
    }
  }

  // A result that was shown before stays or returns, with its settings; a picture without one waits for another network.
  function showFailure(error) {
    if (state.result) showSettings(state.result);
    else if (error.about?.photo) {
      state.photo = error.about.photo;
      openDetails("settings-part");
    } else if (state.before) {
      const key = state.before;
      begin(`/api/photos/${key}/image.jpg`);
      run("", (signal) => get(`/api/photos/${key}`, signal).then((reply) => reply.json()), true);
    } else leave();
    showError(error);
  }

  // The first page, with an example.
  function leave() {
    Object.assign(state, { photo: null, result: null, before: null, changes: {}, isHero: true });
    const picture = `/static/examples/${HERO.name}.jpg`;
    if (byId("shown").getAttribute("src") !== picture) byId("shown").src = picture;
    byId("welcome").hidden = false;
    byId("result").classList.replace("working", "opening");
    history.replaceState(null, "", "#picture");
    showStart();
    const error = byId("error").textContent;
    run("", (signal) => get(`/api/photos/${HERO.name}`, signal).then((reply) => reply.json()), true);
    if (error) showError(new Error(error));
  }

  // While it works, the page shows the picture: `src`, or nothing of a picture that the browser cannot draw.
  function begin(src) {
    const before = state.result && !state.isHero ? state.photo : null; // a picture that fails returns to it, once
    Object.assign(state, { photo: null, result: null, before, shown: null, changes: {}, isHero: false });
    stage.clear();
    byId("welcome").hidden = true;
    byId("result").hidden = false;
    byId("result").classList.replace("opening", "working") || byId("result").classList.add("working");
    byId("stage-part").scrollIntoView({ block: "nearest" });
    byId("chip").textContent = "";
    const shown = byId("shown");
    shown.onload = () => byId("stage-part").parentElement.style.setProperty("--aspect", shown.naturalWidth / shown.naturalHeight);
    shown.onerror = () => { byId("result").hidden = !state.result; };
    shown.src = src;
  }

  // others: further pictures, which are predicted after this one, and wait in the list of results.
  async function open(blob, others = []) {
    if (blob.size > session.max_photo_bytes) {
      showError(new Error(`This file has ${(blob.size / 2 ** 20).toFixed(0)} MB. The limit is ${session.max_photo_bytes >> 20} MB.`));
      return;
    }
    const lens = readNumber("first-fov") ?? "", bar = byId("progress"), size = await readSize(blob);
    if (size && size[0] * size[1] > session.max_photo_pixels) {
      showError(new Error(`This picture has ${(size[0] * size[1] / 1e6).toFixed(0)} megapixels (${size.join(" x ")}). The limit is ${session.max_photo_pixels / 1e6}. Make it smaller.`));
      return;
    }
    begin(URL.createObjectURL(blob));
    byId("first-fov").value = "";
    const send = (file, signal, onShare) => upload(`/api/photos?${new URLSearchParams({ network: byId("network").value || 0, fov_deg: lens, name: file.name ?? "Webcam" })}`, file, signal, onShare);
    run("Sending the picture …", (signal) => send(blob, signal, (share) => {
      bar.hidden = share === 1;
      bar.value = share;
      byId("status").textContent = share === 1 ? "Predicting depth …" : `Sending the picture: ${(100 * share).toFixed(0)} %`;
    })).then(async () => {
      for (const other of others) {
        await send(other, new AbortController().signal, () => {});
        byId("status").textContent += `. ${other.name} is in “Your results”.`;
      }
      if (others.length) showStart();
    }).catch(showError);
  }

  // Predict the picture again with some settings changed, once no request is on its way; the others are those of its result.
  function change(update) {
    Object.assign(state.changes, update);
    if (!state.request) predictAgain();
  }

  function predictAgain() {
    const form = { ...(state.result?.settings ?? { known: [] }), ...state.changes };
    state.changes = {};
    if (state.photo) run("Predicting depth again …", (signal) => post(`/api/photos/${state.photo}/predict`, form, signal), true);
  }

  // The page of an address.
  function show(key) {
    if (!key) {
      state.request?.abort();
      byId("status").textContent = "";
      leave();
    } else if (key !== state.photo || state.isHero) {
      begin(EXAMPLES[key] ? `/static/examples/${key}.jpg` : `/api/photos/${key}/image.jpg`);
      showStart();
      run("Opening your picture …", (signal) => get(`/api/photos/${key}`, signal).then((reply) => reply.json()));
    }
  }

  // -- results

  // The settings of a result, and over them what the user changed meanwhile.
  function showSettings(result) {
    const fov_deg = state.changes.fov_deg ?? result.fov_deg;
    byId("result-network").value = state.changes.network ?? result.settings.network;
    byId("fov").value = fov_deg;
    byId("fov-value").textContent = `${fov_deg}°`;
    byId("fov-source").textContent = result.fov_source === "assumed" || result.fov_source === "network"
      ? `From left to right, ${result.fov_from}. Move the slider if your lens differs: all lengths change with it.` : `From left to right, ${result.fov_from}.`;
    scale.show(result.settings.known, result.receipt);
  }

  async function showResult(result, signal) {
    const base = `/api/photos/${result.photo}`, isNew = !state.result, version = `?${Date.now()}`;
    const isHero = state.isHero && result.photo === HERO.name;
    Object.assign(state, { photo: result.photo, shown: result.photo, result, isHero });
    if (!isHero && location.hash !== `#picture/${result.photo}`) location.hash = `picture/${result.photo}`;
    byId("welcome").hidden = !isHero;
    byId("result").hidden = false;
    byId("shown").onerror = null;
    const { naturalWidth, naturalHeight } = byId("shown"); // the browser's own picture stays if it has the same shape
    if (isNew && !(Math.abs((naturalWidth * result.height) / naturalHeight - result.width) < 1.5)) byId("shown").src = `${base}/image.jpg`;
    byId("drawn").parentElement.hidden = !result.has_depth;
    if (!result.has_depth) byId("drawn").value = "depth";
    showDrawn(version);
    const about = { ...result, key: result.photo };
    stage.show(about, null, isNew);
    if (isNew) scale.clear();
    showSettings(result);
    showBar("bar", "ticks", result.bar);
    byId("chip").textContent = localize(result.chip);
    byId("trust").textContent = localize(result.trust);
    const lines = result.verdict_lines.filter((line) => !/^ *(predictions|not checked): /.test(line));
    listItems(byId("findings"), lines.map(localize));
    byId("findings").parentElement.hidden = !lines.length;
    for (const place of [byId("certain"), document.querySelector('label[for="certain"]')]) place.hidden = !result.has_uncertainty;
    byId("licence").textContent = result.licence || "none recorded";
    listFiles("files", result.files, `${base}/files`);
    byId("cloud-part").hidden = !result.has_depth;
    await Promise.all([byId("shown").decode(), byId("depth").decode()]);
    signal.throwIfAborted(); // another picture was chosen meanwhile
    byId("result").classList.remove("opening", "working");
    if (isHero && isNew && stage.isEmpty()) stage.add(HERO.length);
    const begun = performance.now(), values = new Float32Array(await (await get(`${base}/values.f32`, signal)).arrayBuffer());
    stage.show(about, values, false);
    await stage.measure(!isNew);
    if (!isHero && isNew && (document.activeElement === document.body || byId("strip").contains(document.activeElement))) byId("stage").focus({ preventScroll: true });
    if (!result.has_depth) return;
    if (performance.now() - begun < 1000 * SLOW_S) await showCloud(isNew, signal);
    else byId("cloud-about").replaceChildren(Object.assign(document.createElement("button"), { type: "button", textContent: "Show it in 3D (4 MB)", onclick: () => showCloud(isNew, signal) }));
  }

  // What the divider reveals: depth or normals; only depth has a bar.
  function showDrawn(version = "") {
    const drawn = byId("drawn").value;
    byId("depth").src = `/api/photos/${state.photo}/colors/${drawn}.jpg${version}`;
    byId("stage").querySelector(".bar").hidden = drawn !== "depth";
  }
  byId("drawn").addEventListener("change", () => state.result && showDrawn());
  for (const name of ["pointerdown", "pointermove", "click"]) byId("drawn").addEventListener(name, (event) => event.stopPropagation()); // it sets no point

  async function measureItem({ kind, points }) {
    return (await get(`/api/photos/${state.result.photo}/measure?${new URLSearchParams({ form: JSON.stringify({ kind, points }) })}`)).json();
  }

  // The shared page and the points in 3D have what was measured too.
  function showMeasured() {
    scale.check();
    if (state.result) byId("share").href = `/api/photos/${state.result.photo}/share?${new URLSearchParams({ form: JSON.stringify(stage.form()) })}`;
    state.cloud?.showMarks(stage.marksIn3d());
  }

  // A point that was clicked in 3D is one of the picture.
  function pick([x, y, z]) {
    const { K: [fx, fy, cx, cy], width, height } = state.result, clamp = (value, most) => Math.min(Math.max(Math.round(value), 0), most - 1);
    stage.addPoint([clamp((fx * x) / z + cx, width), clamp((fy * y) / z + cy, height)]);
  }

  async function showCloud(isNew = false, signal = undefined) {
    const about = byId("cloud-about"), { result } = state;
    try {
      const query = new URLSearchParams({ edges: byId("edges").value, certain: byId("certain").value, points: MAX_CLOUD });
      const [{ CloudView }, reply] = await Promise.all([connect(import("/shared/points.js")), get(`/api/photos/${result.photo}/cloud.bin?${query}`, signal)]), bytes = await reply.arrayBuffer();
      if (result !== state.result) return;
      state.cloud ??= new CloudView(byId("cloud"), (text) => { about.textContent = text; }, pick);
      const camera = { fov_deg: result.fov_deg, aspect: result.width / result.height }, across = 2 * Math.tan((result.fov_deg * Math.PI) / 360);
      const pitch = across / Math.sqrt((camera.aspect * bytes.byteLength) / POINT_BYTES);
      state.cloud.show(...splitCloud(bytes), result.depth_scale === "metres" ? "m" : "(not metres)", { pitch, cameras: [camera], keepsView: !isNew, ground: JSON.parse(reply.headers.get("x-ground")) });
      state.cloud.showMarks(stage.marksIn3d());
    } catch (error) {
      if (result === state.result && error.name !== "AbortError") about.textContent = error.message;
    }
  }
  for (const id of ["edges", "certain"]) byId(id).addEventListener("change", () => state.result && showCloud());
  byId("full-view").addEventListener("click", () => byId("cloud-part").requestFullscreen().catch(showError));
  byId("camera-view").addEventListener("click", () => state.cloud?.look());
  byId("reset-view").addEventListener("click", () => state.cloud?.reset());

  // -- lens and settings

  byId("result-network").addEventListener("change", () => change({ network: Number(byId("result-network").value) }));
  byId("network").addEventListener("change", () => { if (!state.result) change({ network: Number(byId("network").value) }); });
  byId("fov").addEventListener("input", () => {
    byId("fov-value").textContent = `${byId("fov").value}°`;
    change({ fov_deg: Number(byId("fov").value) });
  });
  byId("calibration").addEventListener("change", async () => {
    const file = byId("calibration").files[0];
    if (!file) return;
    try {
      const suffix = `.${file.name.split(".").pop().toLowerCase()}`, text = file.size < 60000 ? await file.text() : "";
      const { fov_deg, about } = await post("/api/calibration", { suffix, text });
      byId("status").textContent = `Field of view ${fov_deg}°: ${about}.`;
      if (state.photo && !state.isHero) change({ fov_deg });
      else byId("first-fov").value = fov_deg;
    } catch (error) {
      showError(error);
    }
  });
  byId("settings").addEventListener("submit", (event) => event.preventDefault());
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
    canvas.toBlob((blob) => open(blob).catch(showError), "image/jpeg", 0.95);
    camera.srcObject.getTracks().forEach((track) => track.stop());
    camera.hidden = byId("shoot").hidden = true;
  });
  return { open, show };
}
