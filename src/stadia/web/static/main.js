// Start the session, show the page that the address names, and open files that are chosen, dropped or pasted anywhere.

import { byId, openSession, showError } from "./api.js";
import { startCheck } from "./check.js";
import { startNetworks } from "./networks.js";
import { startPicture } from "./picture.js";
import { startRuns } from "./runs.js";
import { startVideo } from "./video.js";

const PAGES = { picture: startPicture, video: startVideo, networks: startNetworks, runs: startRuns, check: startCheck };
const IS_VIDEO = /\.(mp4|mov|m4v|mkv|webm|avi)$/i;
const started = {};

function find(name, session) {
  started[name] ??= PAGES[name](session);
  return started[name];
}

function showPage(session) {
  const [name, key] = location.hash.slice(1).split("/");
  const page = PAGES[name] ? name : "picture", shown = page === "video" ? "picture" : page;
  for (const section of document.querySelectorAll("section.page")) section.hidden = section.id !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showError(null);
  find(page, session).show(key);
}

function openFile(file, session) {
  if (!file) return;
  const page = file.type.startsWith("video/") || IS_VIDEO.test(file.name ?? "") ? "video" : "picture";
  if (location.hash.slice(1).split("/")[0] !== page) {
    history.pushState(null, "", `#${page}`);
    showPage(session);
  }
  find(page, session).open(file);
}

try {
  const session = await openSession();
  showPage(session);
  addEventListener("hashchange", () => showPage(session));
  byId("file").addEventListener("change", () => { openFile(byId("file").files[0], session); byId("file").value = ""; });
  for (const name of ["dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => { event.preventDefault(); document.body.classList.toggle("over", name === "dragover"); });
  }
  addEventListener("drop", (event) => openFile(event.dataTransfer.files[0], session));
  addEventListener("paste", (event) => openFile([...event.clipboardData.files].find((file) => /^(image|video)\//.test(file.type)), session));
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  showError(error);
}
