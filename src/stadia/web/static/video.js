// The page of a video: upload, preview, progress, a timeline of frames and depth, path and points; its address is #video/KEY.

import { byId, get, listFiles, listVerdict, make, post, showError, showVerdict, splitCloud } from "./api.js";

const POLL_MS = 400, PATH_COLOR = [240, 228, 66], NOW_COLOR = [255, 110, 64], CAMERAS = 12;

export function startVideo(session) {
  const state = { key: null, result: null, cloud: null, path: [], timer: null, play: null, upload: null };

  function clear() {
    stop();
    clearTimeout(state.timer);
    state.upload?.abort();
    Object.assign(state, { key: null, result: null });
    showError(null);
    for (const id of ["video-result", "video-progress", "video-cancel", "video-preview"]) byId(id).hidden = true;
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
    byId("video-status").textContent = "Sending the video …";
    const query = new URLSearchParams({ network: byId("network").value || "0", every: byId("video-every").value, fov_deg: byId("first-fov").value });
    try {
      const { video } = await post(`/api/videos?${query}`, file, state.upload.signal);
      location.hash = `video/${video}`;
    } catch (error) {
      byId("video-status").textContent = error.name === "AbortError" ? "Cancelled" : "";
      byId("video-cancel").hidden = true;
      showError(error);
    }
  }

  // The page of an address; without one, that of a video that is being sent.
  function show(key) {
    if (key && key !== state.key) {
      clear();
      state.key = key;
      poll();
    }
  }

  function describeTime(job) {
    if (!job.done || !job.elapsed_s || job.done >= job.total) return "";
    const left = Math.ceil((job.elapsed_s / job.done) * (job.total - job.done));
    return left > 90 ? `, about ${Math.round(left / 60)} minutes left` : `, about ${left} s left`;
  }

  async function poll() {
    const key = state.key, bar = byId("video-progress"), base = `/api/videos/${key}`;
    let job = {};
    try {
      job = await (await get(base)).json();
      if (key !== state.key) return;
      if (job.state === "failed") throw new Error(job.error);
      bar.hidden = byId("video-cancel").hidden = job.state === "done";
      if (job.total) Object.assign(bar, { max: job.total, value: job.done });
      else bar.removeAttribute("value");
      byId("video-status").textContent = { waiting: "Another video is being predicted first …", decoding: "Reading frames …", mapping: "Finding the path of the camera …", adapting: `Training the network on this video${describeTime(job)}`, predicting: job.total ? `Depth of frame ${job.done} of ${job.total}${describeTime(job)}` : "Predicting depth …", done: "" }[job.state] ?? job.state;
      if (job.has_preview && job.state !== "done" && byId("video-preview").hidden) {
        byId("video-preview").hidden = false;
        byId("preview-image").src = `${base}/image/0.jpg`;
        byId("preview-depth").src = `${base}/preview.jpg`;
      }
      if (job.state === "done") showResult(job);
      else state.timer = setTimeout(poll, POLL_MS);
    } catch (error) {
      clear();
      if (job.other) { // back to the network before
        history.replaceState(null, "", `#video/${job.other}`);
        show(job.other);
      }
      showError(error);
    }
  }

  function showResult(job) {
    const base = `/api/videos/${state.key}`;
    state.result = job;
    byId("video-preview").hidden = true;
    byId("video-result").hidden = false;
    showVerdict(byId("video-verdict-card"), job.verdict);
    byId("video-trust").textContent = job.trust;
    byId("video-path-text").textContent = job.path_text;
    listVerdict("video-lines", job.lines);
    byId("video-name").textContent = job.network;
    byId("video-lens").textContent = `Lens: ${job.fov_deg}° from left to right, ${job.fov_from}.`;
    byId("video-licence").textContent = job.licence || "none recorded";
    byId("video-share").href = `${base}/share`;
    byId("video-share").hidden = Boolean(job.not_shared);
    byId("video-share-about").textContent = job.not_shared || "One file with video, path, 3D view and what to trust.";
    listFiles("video-files", job.files, `${base}/files`);
    Object.assign(byId("video-time"), { max: job.frames.length - 1, value: 0 });
    showPair(job);
    byId("video-cloud-part").hidden = !job.files.includes("cloud.ply");
    showFrame();
    if (job.files.includes("cloud.ply")) showCloud();
  }

  // The depth of the network before, left of this one's.
  async function showPair(job) {
    const [pair, depth] = [byId("video-pair"), byId("video-depth-other")];
    pair.hidden = depth.hidden = !job.other;
    byId("video-frames").className = `frames ${job.aspect < 1 ? "upright" : ""} ${job.other ? "two" : ""}`;
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

  function showFrame() {
    const number = Number(byId("video-time").value), name = Number(state.result.frames[number]);
    byId("video-number").textContent = `${number + 1} of ${state.result.frames.length}, ${(number / state.result.rate_hz).toFixed(1)} s`;
    byId("video-image").src = `/api/videos/${state.key}/image/${name}.jpg`;
    byId("video-depth").src = `/api/videos/${state.key}/depth/${name}.jpg`;
    if (state.result.other) byId("video-depth-other").src = `/api/videos/${state.result.other}/depth/${name}.jpg`;
    showCameras();
  }

  // Frustums along the path, and in another color the last camera up to the shown frame.
  function showCameras() {
    const known = state.path.filter(([name]) => name <= state.result.frames[Number(byId("video-time").value)]);
    if (!state.cloud?.view) return;
    const every = Math.ceil(state.path.length / CAMERAS), camera = ([, T]) => ({ fov_deg: state.result.fov_deg, aspect: state.result.aspect, T });
    const shown = state.path.filter((_, number) => number % every === 0).map(camera);
    if (known.length) shown.push({ ...camera(known.at(-1)), color: NOW_COLOR });
    state.cloud.showCameras(shown);
  }

  async function showCloud() {
    const about = byId("video-about"), base = `/api/videos/${state.key}`;
    about.textContent = "Reading points …";
    try {
      const { CloudView } = await import("/shared/points.js");
      const [bytes, { path }] = await Promise.all([(await get(`${base}/cloud.bin`)).arrayBuffer(), (await get(`${base}/path`)).json()]);
      state.cloud ??= new CloudView(byId("video-cloud"), (text) => { about.textContent = text; });
      state.path = path;
      const lines = [{ points: path.map(([, T]) => T.map((row) => row[3])), color: PATH_COLOR }];
      state.cloud.show(...splitCloud(bytes), state.result.depth_scale === "metres" ? "m" : "(not metres)", { lines });
      showCameras();
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
  byId("video-time").addEventListener("input", showFrame);

  byId("video-second").addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(null);
    const minutes = byId("second-minutes").value, form = { network: Number(byId("second-network").value), minutes: minutes ? Number(minutes) : null };
    try {
      const { video } = await post(`/api/videos/${state.result.other || state.key}/second`, form);
      location.hash = `video/${video}`;
    } catch (error) {
      showError(error);
    }
  });
  byId("second-network").replaceChildren(...session.networks.map((label, key) => new Option(label, key)));

  byId("video-cancel").addEventListener("click", async () => {
    const key = state.key;
    clear();
    byId("video-status").textContent = "Cancelled";
    if (key) await post(`/api/videos/${key}/cancel`).catch(showError);
  });
  return { open, show };
}
