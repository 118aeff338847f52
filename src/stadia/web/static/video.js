// The page of a video: upload, preview, progress, a timeline of frames and depth, path and points; its address is #video/KEY.

import { byId, connect, describeSeconds, get, listFiles, listVerdict, localize, make, post, readNumber, showError, showVerdict, splitCloud, upload } from "./api.js";
import { copyPart, startScale, startStage } from "./stage.js";

const POLL_MS = 400, READ_MS = 150, PATH_COLOR = [240, 228, 66], NOW_COLOR = [255, 110, 64], CAMERAS = 12, OPENING_BACK = 0.5;

// The parts that a picture has too: frames, with depth next to them, and the panel that sets the scale.
function makeParts() {
  const frames = copyPart("stage-part", "video-"), side = make("div", { className: "side" }), depth = make("div", { className: "stage", id: "video-beside" }), layer = make("div", { className: "layer" });
  for (const one of frames.querySelectorAll(".handle, .bar, .drawn, [id=video-split], [for=video-split]")) one.remove();
  const withBar = make("div", { className: "with-bar" });
  frames.querySelector("#video-depth").style.clipPath = ""; // the photo's divider cuts it
  layer.append(frames.querySelector("#video-depth"));
  depth.append(layer);
  withBar.append(depth, make("img", { id: "video-bar", className: "video-bar", alt: "Depths of the colors of this frame" }));
  side.append(frames.querySelector("#video-stage"), make("img", { id: "video-depth-other", alt: "Its depth by the other network", hidden: true }), withBar);
  frames.prepend(side);
  frames.querySelector("#video-shown").alt = "Frame of the video";
  frames.querySelector("#video-stage").ariaLabel = "Frame: choose two points to measure their distance";
  frames.querySelector(".below").prepend(byId("video-timeline"), byId("video-pair"));
  byId("video-panel").before(frames);
  byId("video-panel").prepend(copyPart("scale", "video-"));
}

export function startVideo(session) {
  const state = { key: null, result: null, cloud: null, path: [], picked: [], follows: false, timer: null, play: null, upload: null };
  makeParts();
  const stage = startStage("video-", measureItem, showMeasured);
  const scale = startScale("video-", () => stage, (known) => {
    const frame = Number(state.result.frames[Number(byId("video-time").value)]);
    again({ known: known.map((length) => (length.kind === "height" ? length : { ...length, frame })) });
  });

  function clear() {
    stop();
    clearTimeout(state.timer);
    clearTimeout(state.reading);
    state.upload?.abort();
    Object.assign(state, { key: null, result: null, follows: false });
    byId("video-follow").setAttribute("aria-pressed", "false");
    showError(null);
    for (const id of ["video-result", "video-progress", "video-cancel", "video-skip", "video-preview"]) byId(id).hidden = true;
    byId("video-status").textContent = "";
  }

  async function open(file) {
    clear();
    if (file.size > session.max_video_bytes) {
      showError(new Error(`This file has ${(file.size / 2 ** 20).toFixed(0)} MB. The limit is ${session.max_video_bytes >> 20} MB.`));
      return;
    }
    state.upload = new AbortController();
    byId("video-cancel").hidden = false;
    const bar = byId("video-progress");
    byId("video-status").textContent = "Sending the video …";
    try {
      const query = new URLSearchParams({ network: byId("network").value || "0", every: byId("video-every").value, fov_deg: readNumber("first-fov") ?? "", name: file.name ?? "" });
      const { video } = await upload(`/api/videos?${query}`, file, state.upload.signal, (share) => {
        bar.hidden = false;
        Object.assign(bar, { max: 1, value: share });
        byId("video-status").textContent = `Sending the video: ${(100 * share).toFixed(0)} %`;
      });
      location.hash = `video/${video}`;
    } catch (error) {
      leave(error);
    }
  }

  // Photos of one scene, which become one model.
  async function openPhotos(files) {
    clear();
    state.upload = new AbortController();
    byId("video-cancel").hidden = false;
    const bar = byId("video-progress"), { signal } = state.upload;
    try {
      const lens = readNumber("first-fov");
      const { drop } = await post("/api/drops");
      for (const [number, { file, name }] of files.entries()) {
        bar.hidden = false;
        await upload(`/api/drops/${drop}/files?${new URLSearchParams({ name })}`, file, signal, (share) => {
          Object.assign(bar, { max: files.length, value: number + share });
          byId("video-status").textContent = `Sending photo ${number + 1} of ${files.length}`;
        });
      }
      const { video } = await post(`/api/drops/${drop}/model`, { network: Number(byId("network").value || 0), fov_deg: lens });
      location.hash = `video/${video}`;
    } catch (error) {
      leave(error);
    }
  }

  // Back to the first page, which shows why.
  function leave(error) {
    clear();
    history.replaceState(null, "", "#picture");
    dispatchEvent(new HashChangeEvent("hashchange"));
    showError(error);
  }

  // The page of an address; without one, that of a video that is being sent.
  function show(key) {
    if (key && key !== state.key) {
      clear();
      state.key = key;
      poll();
    }
  }

  // The step of the whole work, how long it has taken, and how long it will take: a text that changes each second.
  function describeState(job) {
    if (job.state === "done") return "";
    const texts = { waiting: "Another video is worked on first", decoding: "reading frames", mapping: "finding the path of the camera", adapting: "training the network on this video", predicting: job.total && job.done >= job.total ? "writing video, points and path" : "predicting depth" };
    const counted = job.total > 1 && job.done < job.total ? `${job.what || "frame"} ${job.done} of ${job.total}` : job.what, text = texts[job.state] ?? job.state;
    const left = job.left_s === null ? "" : `, about ${describeSeconds(job.left_s > 20 ? Math.ceil(job.left_s / 10) * 10 : job.left_s)} left`;
    return `${job.step ? `Step ${job.step} of ${job.steps}: ` : ""}${text}${counted && job.state !== "adapting" ? ` (${counted})` : ""}. ${describeSeconds(job.age_s)} so far${left}.`;
  }

  // The scene so far in 3D, which grows while the path is searched.
  async function showScene(base, { scene_version, scene_frames }) {
    state.sceneVersion = scene_version;
    const [{ CloudView }, reply] = await Promise.all([connect(import("/shared/points.js")), get(`${base}/preview.bin`)]), [points, colors] = splitCloud(await reply.arrayBuffer());
    if (byId("video-preview").hidden) return;
    byId("preview-pane").hidden = false;
    const { poses, fov_deg, aspect, grain, center, radius } = JSON.parse(reply.headers.get("x-cameras"));
    state.scene ??= new CloudView(byId("preview-cloud"), () => {}, () => {});
    const lines = [{ points: poses.map((T) => T.map((row) => row[3])), color: PATH_COLOR }], cameras = poses.filter((_, number) => number % Math.ceil(poses.length / CAMERAS) === 0).map((T) => ({ fov_deg, aspect, T }));
    state.scene.show(points, colors, "", { lines, cameras, grain, keepsView: scene_version > 1, center, radius });
    byId("preview-cloud").dataset.version = scene_version;
    byId("preview-about").textContent = scene_frames > 1 ? `A first scene of ${scene_frames} frames, which grows. The exact path follows.` : "The first frame in 3D. Drag it to turn it; the path follows.";
  }

  async function poll() {
    const key = state.key, bar = byId("video-progress"), base = `/api/videos/${key}`;
    let job = {};
    try {
      job = await (await get(base)).json();
      if (key !== state.key) return;
      if (job.state === "failed") throw new Error(job.error);
      bar.hidden = job.state === "done";
      byId("video-cancel").hidden = job.state === "done" || Boolean(job.frames); // one that was predicted stays
      byId("video-skip").hidden = job.state !== "mapping";
      Object.assign(bar, { max: 1, value: job.share });
      byId("video-status").textContent = describeState(job);
      if (job.has_preview && job.state !== "done" && byId("video-preview").hidden) {
        byId("video-preview").hidden = false;
        byId("preview-image").src = `${base}/image/0.jpg`;
        byId("preview-depth").src = `${base}/preview.jpg`;
        byId("preview-pane").hidden = true;
        state.sceneVersion = 0;
      }
      if (job.state !== "done" && job.scene_version > (state.sceneVersion ?? 0)) showScene(base, job).catch(() => {});
      if (job.state === "done") {
        showResult(job);
        if (job.error) showError(new Error(job.error));
      }
      else state.timer = setTimeout(poll, POLL_MS);
    } catch (error) {
      if (!job.other) leave(error);
      else { // back to the network before
        clear();
        history.replaceState(null, "", `#video/${job.other}`);
        show(job.other);
        showError(error);
      }
    }
  }

  function showResult(job) {
    const base = `/api/videos/${state.key}`, isNew = !state.result;
    state.result = job;
    byId("video-preview").hidden = true;
    byId("video-result").hidden = false;
    showVerdict(byId("video-verdict-card"), job.verdict);
    if (job.headline) byId("video-verdict").textContent = localize(job.headline);
    byId("video-parts").textContent = job.parts ? `${job.parts}.` : ""; // results of earlier versions have none
    byId("video-trust").textContent = localize(job.trust);
    byId("video-path-text").textContent = job.path_text;
    listVerdict("video-lines", job.lines);
    byId("video-name").textContent = job.network;
    byId("video-chip").textContent = localize(job.chip);
    byId("video-title").textContent = /^\d+ photos$/.test(job.name) ? `One model of your ${job.name}` : "Depth and path of your video";
    byId("video-fov").value = localize(String(job.fov_deg));
    byId("video-lens").textContent = `From left to right, ${job.fov_from}.`;
    byId("second-about").textContent = `At least ${job.least_minutes}; empty: the network as it is.`;
    byId("second-minutes").dataset.least = job.least_minutes;
    byId("video-licence").textContent = job.licence || "none recorded";
    byId("video-share").href = `${base}/share`;
    byId("video-share").hidden = Boolean(job.not_shared);
    byId("video-share-about").textContent = job.not_shared || "One file with video, path, 3D view and what to trust.";
    listFiles("video-files", job.files, `${base}/files`);
    Object.assign(byId("video-time"), { max: job.frames.length - 1, ...(isNew ? { value: 0 } : {}) });
    showPair(job);
    byId("video-cloud-part").hidden = !job.files.includes("cloud.ply");
    showFrame(isNew, !isNew);
    if (isNew) scale.clear();
    scale.show(job.settings.known, job.receipt);
    if (job.files.includes("cloud.ply")) showCloud();
  }

  // The depth of the network before, left of this one's.
  async function showPair(job) {
    const [pair, depth] = [byId("video-pair"), byId("video-depth-other")];
    pair.hidden = depth.hidden = !job.other;
    if (!job.other) return;
    pair.textContent = `Depth on the right: ${job.network}, ${job.verdict}.`;
    try {
      const other = await (await get(`/api/videos/${job.other}`)).json();
      pair.append(` On the left: ${other.network}, ${other.verdict}. `, make("a", { href: `#video/${job.other}`, textContent: `Show ${other.network} alone` }));
    } catch {
      pair.append(" The other one is gone: choose the video again.");
      depth.hidden = true;
    }
  }

  // Show the frame of the timeline; its depth is read once it stays. isNew: of another video; isAgain: predicted again.
  function showFrame(isNew = false, isAgain = false) {
    const number = Number(byId("video-time").value), name = Number(state.result.frames[number]);
    byId("video-number").textContent = localize(`${number + 1} of ${state.result.frames.length}, ${(number / state.result.rate_hz).toFixed(1)} s`);
    byId("video-shown").src = `/api/videos/${state.key}/image/${name}.jpg`;
    byId("video-depth").src = `/api/videos/${state.key}/depth/${name}.jpg?${state.result.depth_scale}`;
    byId("video-bar").src = `/api/videos/${state.key}/bar/${name}.jpg?${state.result.depth_scale}`;
    if (state.result.other) byId("video-depth-other").src = `/api/videos/${state.result.other}/depth/${name}.jpg`;
    const [height, width] = state.result.size, has_depth = state.result.depth_scale !== "affine-inverse" && state.result.depth_scale !== "affine-depth";
    const about = { key: state.key, width, height, has_depth, depth_scale: state.result.depth_scale, values: [1, 1] };
    stage.show(about, null, isNew, name);
    if (isNew || isAgain) stage.measure(isAgain).catch(showError);
    clearTimeout(state.reading);
    if (has_depth && !state.play) state.reading = setTimeout(() => readValues(name, about).catch(showError), READ_MS);
    showCameras();
  }

  async function readValues(name, about) {
    const response = await get(`/api/videos/${state.key}/values/${name}.f32`), values = new Float32Array(await response.arrayBuffer());
    if (Number(state.result?.frames[Number(byId("video-time").value)]) !== name) return;
    stage.show({ ...about, values: response.headers.get("x-size").split(" ").map(Number) }, values, false, name);
  }

  async function measureItem({ kind, points, frame }) {
    return (await get(`/api/videos/${state.key}/measure?${new URLSearchParams({ form: JSON.stringify({ kind, points, frame }) })}`)).json();
  }

  function showMeasured() {
    scale.check();
    byId("video-share").href = `/api/videos/${state.key}/share?${new URLSearchParams({ form: JSON.stringify(stage.form()) })}`;
    state.cloud?.showMarks(stage.marksIn3d());
  }

  // Two points that are clicked in 3D are a length in the world, whose error is that of depth.
  function pick(point) {
    state.picked.push(point);
    if (state.picked.length < 2) {
      state.cloud.showMarks([...stage.marksIn3d(), { points: [point], text: "" }]);
      return;
    }
    const points = state.picked.splice(0), value = Math.hypot(...[0, 1, 2].map((axis) => points[1][axis] - points[0][axis]));
    stage.addFound({ points, value, deviation: value * (state.result.relative_error ?? 0), unit: state.result.depth_scale === "metres" ? "m" : "" });
  }

  // Predict the video again with some settings changed; what is shown stays meanwhile.
  // fov: id of a field with another field of view.
  async function again(update, fov = "") {
    showError(null);
    clearTimeout(state.reading); // values of the shown frame are read again with the new result
    try {
      await post(`/api/videos/${state.key}/predict`, { ...state.result.settings, ...update, ...(fov ? { fov_deg: readNumber(fov) } : {}) });
      clearTimeout(state.timer);
      poll();
    } catch (error) {
      showError(error);
    }
  }

  // Frustums along the path, and in another color the last camera up to the shown frame.
  function showCameras() {
    const known = state.path.filter(([name]) => name <= state.result.frames[Number(byId("video-time").value)]);
    if (!state.cloud?.view) return;
    const every = Math.ceil(state.path.length / CAMERAS), camera = ([, T]) => ({ fov_deg: state.result.fov_deg, aspect: state.result.aspect, T });
    const shown = state.path.filter((_, number) => number % every === 0).map(camera);
    if (known.length) shown.push({ ...camera(known.at(-1)), color: NOW_COLOR });
    state.cloud.showCameras(state.follows ? [] : shown);
    if (state.follows && known.length) state.cloud.lookThrough({ T: known.at(-1)[1] });
  }

  // Follow the path with the view while frames are played, or stop it.
  function follow(isOn) {
    state.follows = isOn;
    byId("video-follow").setAttribute("aria-pressed", String(isOn));
    if (isOn !== Boolean(state.play)) byId("video-play").click();
    if (!isOn) state.cloud?.reset();
    showCameras();
  }

  async function showCloud() {
    const about = byId("video-about"), base = `/api/videos/${state.key}`, { result } = state;
    about.textContent = "Reading points …";
    try {
      const { CloudView } = await connect(import("/shared/points.js"));
      const [bytes, { path, jumps, ground, center, radius }] = await Promise.all([(await get(`${base}/cloud.bin`)).arrayBuffer(), (await get(`${base}/path`)).json()]);
      if (result !== state.result) return;
      state.cloud ??= new CloudView(byId("video-cloud"), (text) => { about.textContent = text; }, pick);
      state.path = path;
      const ends = [0, ...jumps.map((row) => row + 1), path.length], centers = path.map(([, T]) => T.map((row) => row[3]));
      const lines = ends.slice(1).map((end, part) => ({ points: centers.slice(ends[part], end), color: PATH_COLOR }));
      const [points, colors] = splitCloud(bytes);
      state.cloud.show(points, colors, result.depth_scale === "metres" ? "m" : "(not metres)", { lines, ground, grain: result.grain ?? 0, center, radius });
      if (path.length && radius) state.cloud.lookThrough({ T: path[0][1], back: OPENING_BACK }); // one recognizes what the camera saw
      showCameras();
      state.cloud.showMarks(stage.marksIn3d());
    } catch (error) {
      about.textContent = error.message;
    }
  }

  function stop() {
    clearInterval(state.play);
    state.play = null;
    byId("video-play").textContent = "Play";
    byId("video-play").setAttribute("aria-pressed", "false");
  }

  byId("video-play").addEventListener("click", () => {
    if (state.play) { stop(); return; }
    const time = byId("video-time");
    byId("video-play").textContent = "Pause";
    byId("video-play").setAttribute("aria-pressed", "true");
    state.play = setInterval(() => { time.value = (Number(time.value) + 1) % state.result.frames.length; showFrame(); }, 1000 / Math.min(state.result.rate_hz, 10));
  });
  byId("video-full-view").addEventListener("click", () => byId("video-cloud-part").requestFullscreen().catch(showError));
  byId("video-follow").addEventListener("click", () => follow(!state.follows));
  byId("video-reset-view").addEventListener("click", () => { follow(false); state.cloud?.reset(); });
  byId("video-time").addEventListener("input", () => showFrame());
  byId("video-lens-form").addEventListener("submit", (event) => { event.preventDefault(); again({}, "video-fov"); });
  byId("video-skip").addEventListener("click", () => post(`/api/videos/${state.key}/skip`).catch(showError));

  byId("video-second").addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(null);
    try {
      const form = { network: Number(byId("second-network").value), minutes: readNumber("second-minutes") };
      const { video } = await post(`/api/videos/${state.result.other || state.key}/second`, form);
      location.hash = `video/${video}`;
    } catch (error) {
      showError(error);
    }
  });
  byId("second-network").replaceChildren(...session.networks.map((label, key) => new Option(label, key)));

  byId("video-cancel").addEventListener("click", async () => {
    const key = state.key;
    leave(null);
    byId("status").textContent = "Cancelled";
    if (key) await post(`/api/videos/${key}/cancel`).catch(showError);
  });
  return { open, openPhotos, show };
}
