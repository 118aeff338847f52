// Start the session, and show the page that the address names.

import { byId, openSession, showError } from "./api.js";
import { startCheck } from "./check.js";
import { startPicture } from "./picture.js";
import { startRuns } from "./runs.js";
import { startVideo } from "./video.js";

const PAGES = { picture: startPicture, video: startVideo, runs: startRuns, check: startCheck };
const started = new Set();

function showPage(session) {
  const name = location.hash.slice(1).split("/")[0];
  const page = PAGES[name] ? name : "picture";
  for (const section of document.querySelectorAll("section.page")) section.hidden = section.id !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showError(null);
  if (!started.has(page)) {
    started.add(page);
    PAGES[page](session);
  }
  byId(page).dispatchEvent(new CustomEvent("shown"));
}

try {
  const session = await openSession();
  showPage(session);
  addEventListener("hashchange", () => showPage(session));
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  showError(error);
}
