// The page of a video: upload, progress, a timeline of frames and depth, points with the path.

import { byId, get, listVerdict, post, showError, showVerdict, splitCloud } from "./api.js";

const POLL_MS = 400, PATH_COLOR = [240, 228, 66];

export function startVideo(session) {
  const state = { key: null, result: null, cloud: null, timer: null, play: null, upload: null };
  byId("video-network").replaceChildren(...session.networks.map((label, key) => new Option(label, key)));

  async function upload(file) {
    if (!file) return;
    if (file.size > session.max_video_bytes) {
      showError(new Error(`This file has ${(file.size / 2 ** 20).toFixed(0)} MB. The limit is ${session.max_video_bytes >> 20} MB.`));
      return;
    }
    stop();
    clearTimeout(state.timer);
    state.upload?.abort();
    state.upload = new AbortController();
    state.key = null;
    showError(null);
    byId("video-result").hidden = true;
    byId("video-cancel").hidden = false;
    byId("video-status").textContent = "Sending the video …";
    const query = new URLSearchParams({ network: byId("video-network").value || "0", every: byId("video-every").value || "1", fov_deg: byId("video-fov").value });
    try {
      state.key = (await post(`/api/videos?${query}`, file, state.upload.signal)).video;
      poll();
    } catch (error) {
      byId("video-status").textContent = error.name === "AbortError" ? "Cancelled" : "";
      byId("video-cancel").hidden = true;
      showError(error);
    }
  }

  async function poll() {
    const key = state.key, bar = byId("video-progress");
    try {
      const job = await (await get(`/api/videos/${key}`)).json();
      if (key !== state.key) return;
      if (job.state === "failed") throw new Error(job.error);
      bar.hidden = job.state === "done";
      if (job.total) Object.assign(bar, { max: job.total, value: job.done });
      else bar.removeAttribute("value");
      byId("video-status").textContent = { decoding: "Decoding frames …", predicting: `Frame ${job.done} of ${job.total} …`, done: "Done" }[job.state] ?? job.state;
      if (job.state === "done") show(job);
      else state.timer = setTimeout(poll, POLL_MS);
    } catch (error) {
      byId("video-status").textContent = "";
      bar.hidden = byId("video-cancel").hidden = true;
      showError(error);
    }
  }

  function show(job) {
    state.result = job;
    byId("video-cancel").hidden = true;
    byId("video-result").hidden = false;
    showVerdict(byId("video-verdict-card"), job.verdict);
    byId("video-trust").textContent = job.trust;
    listVerdict("video-lines", job.lines);
    byId("video-name").textContent = job.network;
    byId("video-licence").textContent = job.licence || "none recorded";
    byId("video-share").href = `/api/videos/${state.key}/share`;
    byId("video-share").hidden = Boolean(job.not_shared);
    byId("video-share-about").textContent = job.not_shared || "Video, path, verdict, camera and licence in one file.";
    byId("video-files").replaceChildren(...job.files.map((name) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("a"), { href: `/api/videos/${state.key}/files/${name}`, textContent: name, download: `stadia-${name}` }));
      return item;
    }));
    byId("video-show").hidden = !job.files.includes("cloud.ply");
    Object.assign(byId("video-time"), { max: job.frames.length - 1, value: 0 });
    showFrame();
    if (state.cloud) showCloud();
  }

  function showFrame() {
    const number = Number(byId("video-time").value), name = Number(state.result.frames[number]);
    byId("video-number").textContent = `${number + 1} of ${state.result.frames.length}, ${(number / state.result.rate_hz).toFixed(1)} s`;
    byId("video-image").src = `/api/videos/${state.key}/image/${name}.jpg`;
    byId("video-depth").src = `/api/videos/${state.key}/depth/${name}.jpg`;
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

  async function showCloud() {
    const about = byId("video-about"), canvas = byId("video-cloud");
    about.textContent = "Reading points …";
    try {
      const { CloudView } = await import("/shared/points.js"), base = `/api/videos/${state.key}`;
      const [bytes, { path }] = await Promise.all([(await get(`${base}/cloud.bin`)).arrayBuffer(), (await get(`${base}/path`)).json()]);
      canvas.hidden = false;
      state.cloud ??= new CloudView(canvas, (text) => { about.textContent = text; });
      state.cloud.show(...splitCloud(bytes), state.result.depth_scale === "metres" ? "m" : "(not metres)", [{ points: path, color: PATH_COLOR }]);
    } catch (error) {
      about.textContent = error.message;
    }
  }
  byId("video-show").addEventListener("click", showCloud);

  byId("video-cancel").addEventListener("click", async () => {
    clearTimeout(state.timer);
    state.upload?.abort();
    byId("video-status").textContent = "Cancelled";
    byId("video-progress").hidden = byId("video-cancel").hidden = true;
    if (state.key) await post(`/api/videos/${state.key}/cancel`).catch(showError);
    state.key = null;
  });
  byId("video-file").addEventListener("change", () => { upload(byId("video-file").files[0]); byId("video-file").value = ""; });
}
