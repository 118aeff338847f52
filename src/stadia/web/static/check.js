// The page of checks. Data of the server: findings with cure and picture, and the command. Another program's result: files are
// dropped, then judged by their images; its address is #check/KEY.

import { byId, get, listItems, make, post, readNumber, showError, upload } from "./api.js";
import { showFinding } from "./parts.js";

function listSkipped(skipped) {
  if (!skipped.length) return [];
  const title = Object.assign(document.createElement("h2"), { textContent: "Not checked" }), list = document.createElement("ul");
  listItems(list, skipped.map((finding) => finding.measured));
  return [title, list];
}

const POLL_MS = 500, MAX_FRAME_PX = 20000;

// Files that are dropped together, and their verdict.
function startResult() {
  const state = { key: null, timer: null, request: null };
  byId("result-done").prepend(make("iframe", { id: "result-frame", title: "Verdict on the result", sandbox: "allow-scripts allow-downloads" })); // a frame delays the first paint

  addEventListener("message", ({ source, data }) => {
    if (source === byId("result-frame").contentWindow && data?.height > 0) byId("result-frame").style.height = `${Math.min(data.height, MAX_FRAME_PX)}px`;
  });

  function clear() {
    clearTimeout(state.timer);
    state.request?.abort();
    Object.assign(state, { key: null, request: null, isStored: false });
    byId("check-title").classList.remove("visually-hidden");
    for (const id of ["result-ready", "result-done", "result-progress", "result-cancel"]) byId(id).hidden = true;
    byId("result-status").textContent = "";
    byId("result-frame").removeAttribute("src");
    byId("result-frame").style.height = "";
    listItems(byId("result-list"), []);
  }

  function describe({ results, images, videos, skipped, is_stored, state: what }) {
    const lines = [];
    state.isStored = is_stored; // its files are gone

    if (results.length) lines.push(`Result: ${results.slice(0, 4).join(", ")}${results.length > 4 ? ` and ${results.length - 4} more files` : ""}`);
    else lines.push("Still missing: the result. Drop it too.");
    if (images || videos.length) lines.push(images ? `${images} images` : `Video: ${videos[0]}`);
    else lines.push("Still missing: the images or the video of the result. Drop them too.");
    if (skipped) lines.push(`${skipped} files were left out: their kind is unknown, or their name was there already.`);
    listItems(byId("result-list"), lines);
    byId("result-ready").hidden = !(results.length && (images || videos.length)) || !["open", "done"].includes(what) || is_stored;
    byId("result-cancel").hidden = !byId("result-ready").hidden || is_stored;
  }

  // Send files, which are added to those before.
  async function open(files) {
    showError(null);
    const bar = byId("result-progress"), all = files.reduce((sum, { file }) => sum + file.size, 0) || 1;
    try {
      if (state.isStored) clear();
      const key = state.key ?? (await post("/api/drops")).drop, controller = (state.request = new AbortController());
      Object.assign(state, { key });
      let sent = 0;
      bar.hidden = false;
      for (const [number, { file, name }] of files.entries()) {
        const about = await upload(`/api/drops/${key}/files?${new URLSearchParams({ name })}`, file, controller.signal, (share) => {
          Object.assign(bar, { max: all, value: sent + share * file.size });
          byId("result-status").textContent = `Sending file ${number + 1} of ${files.length}`;
        });
        sent += file.size;
        describe(about);
        byId("result-ready").hidden ||= number + 1 < files.length;
      }
      byId("result-status").textContent = "";
      bar.hidden = true;
      if (location.hash !== `#check/${key}`) location.hash = `check/${key}`;
    } catch (error) {
      if (error.name !== "AbortError") clear();
      showError(error);
    }
  }

  function show(key) {
    const isPage = Boolean(key?.startsWith("@")), wasPage = Boolean(state.key?.startsWith("@"));
    if (wasPage && !isPage) clear();
    byId("check").classList.toggle("of-page", isPage);
    byId("result-back").hidden = !isPage;
    if (!key || key === state.key) return;
    clear();
    state.key = key;
    if (isPage) showPage(decodeURIComponent(key.slice(1)));
    else poll();
  }

  // The page of an audit or of the check of a rig, which the server has in a folder.
  function showPage(name) {
    const base = `/api/pages/${encodeURIComponent(name)}`;
    byId("result-done").hidden = false;
    byId("check-title").classList.add("visually-hidden");
    byId("result-frame").src = byId("result-page").href = base;
    byId("result-page").download = `${name}.html`;
    byId("result-fixed").hidden = true;
  }

  async function poll() {
    const { key } = state, base = `/api/drops/${key}`, bar = byId("result-progress");
    try {
      const job = await (await get(base)).json();
      if (key !== state.key) return;
      describe(job);
      const isWorking = ["waiting", "checking"].includes(job.state), isDone = job.state === "done";
      bar.hidden = !isWorking;
      if (job.total) Object.assign(bar, { max: job.total, value: job.done });
      else bar.removeAttribute("value");
      byId("result-status").textContent = !isWorking ? "" : job.state === "waiting" ? "Another file is being worked on first …" : `${job.what || "reading"}${job.total ? `: ${job.done} of ${job.total}` : " …"} (${Math.round(job.age_s)} s so far)`;
      byId("result-done").hidden = !isDone;
      byId("check-title").classList.toggle("visually-hidden", isDone);
      if (isDone) {
        byId("result-frame").src = `${base}/page`;
        Object.assign(byId("result-page"), { href: `${base}/page.html`, download: "stadia-verdict.html" });
        byId("result-fixed").href = `${base}/fixed.zip`;
        byId("result-fixed").hidden = !job.has_fixed;
      }
      if (job.error) showError(new Error(job.error));
      if (isWorking) state.timer = setTimeout(poll, POLL_MS);
    } catch (error) {
      clear();
      history.replaceState(null, "", "#check");
      showError(error);
    }
  }

  byId("result-choose").addEventListener("click", () => byId("result-files").click());
  byId("result-files").addEventListener("change", () => {
    open([...byId("result-files").files].map((file) => ({ file, name: file.name })));
    byId("result-files").value = "";
  });
  byId("result-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(null);
    try {
      await post(`/api/drops/${state.key}/check`, { fov_deg: readNumber("result-fov") });
      byId("result-done").hidden = true;
      poll();
    } catch (error) {
      showError(error);
    }
  });
  for (const id of ["result-cancel", "result-remove"]) byId(id).addEventListener("click", () => {
    const { key } = state;
    clear();
    history.replaceState(null, "", "#check");
    post(`/api/drops/${key}/cancel`).catch(showError);
  });
  return { open, show };
}

// The audits and checks of rigs of the server.
async function listPages() {
  const { pages } = await (await get("/api/pages")).json(), kinds = { audit: "Audit", rig: "Check of a rig" };
  byId("pages-part").hidden = !pages.length;
  byId("pages-list").replaceChildren(...pages.map(({ name, kind, about, time_s }) => {
    const item = make("li"), link = make("a", { className: "card", href: `#check/@${encodeURIComponent(name)}` }), made = new Date(1000 * time_s).toLocaleDateString([], { dateStyle: "medium" });
    link.append(make("b", { textContent: name }), make("span", { className: "soft small", textContent: `${kinds[kind]}, ${made}: ${about}` }));
    item.append(link);
    return item;
  }));
}

export function startCheck(session) {
  const result = startResult();
  async function show(key) {
    result.show(key);
    listPages().catch(showError);
    try {
      const { names } = await (await get("/api/data")).json(), chosen = byId("check-name").value;
      byId("check-name").replaceChildren(...names.map((name) => new Option(name, name)));
      if (names.includes(chosen)) byId("check-name").value = chosen;
      byId("check-form").hidden = !names.length;
      if (!names.length && !session.is_public) byId("check-status").textContent = "The folder of the app has no data. Start `stadia app` with --data FOLDER.";
    } catch (error) {
      showError(error);
    }
  }
  byId("check-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button"), place = byId("check-command");
    button.disabled = true;
    showError(null);
    byId("check-findings").replaceChildren();
    place.hidden = true;
    byId("check-status").textContent = "Checking, up to half a minute …";
    try {
      const form = { name: byId("check-name").value, fov_deg: readNumber("check-fov") };
      const { command, findings, needs_camera } = await post("/api/check", form);
      const count = (severity) => findings.filter((finding) => finding.severity === severity).length;
      const unknown = needs_camera.length ? ` Not checked, because the field of view is unknown: ${needs_camera.join(", ")}. Enter it above, and check again.` : "";
      byId("check-status").textContent = (count("stop") || count("warn") ? `${count("stop")} to fix before training, ${count("warn")} to review.` : unknown ? "Nothing found so far." : "Nothing to fix.") + unknown;
      const skipped = findings.filter((finding) => finding.code === "N01"), found = findings.filter((finding) => finding.code !== "N01");
      byId("check-findings").replaceChildren(...found.map(showFinding), ...listSkipped(skipped));
      place.hidden = false;
      place.querySelector("code").textContent = command;
      place.querySelector("button").onclick = () => navigator.clipboard?.writeText(command);
    } catch (error) {
      byId("check-status").textContent = "";
      showError(error);
    }
    button.disabled = false;
  });
  return { show, open: result.open };
}
