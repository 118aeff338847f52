// The first page: examples, and the pictures and videos of this browser.

import { byId, get, localize, make, post, showError } from "./api.js";
import { forgetMeasured } from "./stage.js";

export const EXAMPLES = { table: "Table", street: "Street", indoors: "Indoors", people: "People", drone: "From a drone", desk: "Desk", night: "Night" };

function makeCard(caption, images) {
  const card = make("button", { type: "button", className: "thumb" });
  card.append(make("span", { className: "pair" }), make("span", { className: "small", textContent: caption }));
  card.firstChild.append(...images.map((src) => make("img", { fetchPriority: "low", loading: "lazy", alt: "", src })));
  return card;
}

const UNDO_MS = 6000; // a deleted result can be taken back so long

async function showResults() {
  const { results, max_photos, max_videos, bytes, max_results, max_bytes } = await (await get("/api/results")).json(), gigabytes = (size) => (size < 2 ** 30 ? `${Math.ceil(size / 2 ** 20)} MB` : localize(`${(size / 2 ** 30).toFixed(1)} GB`));
  byId("results-part").hidden = !results.length;
  forgetMeasured([...results.map(({ key }) => key), ...Object.keys(EXAMPLES)]);
  byId("results-limit").textContent = max_results ? `${results.length} of at most ${max_results} results, ${gigabytes(bytes)} of ${gigabytes(max_bytes)} on disk; then the oldest go. They survive a restart.`
    : `The last ${max_photos} photos and ${max_videos} videos stay here until the server ends. Download what you want to keep.`;
  byId("results-all").hidden = !max_results;
  byId("results").replaceChildren(...results.map(({ kind, key, name, time_s, images }) => {
    const caption = (kind === "check" ? "Verdict: " : "") + (name || { photo: "Photo", video: "Video", check: "a result" }[kind]), made = time_s === null ? "" : new Date(1000 * time_s).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const place = make("div", { className: "kept" }), card = makeCard(caption, images);
    if (made) card.append(make("span", { className: "soft time", textContent: made }));
    card.addEventListener("click", () => { location.hash = `${{ photo: "picture", video: "video", check: "check" }[kind]}/${key}`; });
    const remove = make("button", { type: "button", className: "small", textContent: "Delete", ariaLabel: `Delete ${caption}` });
    let timer = 0;
    remove.addEventListener("click", () => {
      card.hidden = !timer;
      remove.textContent = timer ? "Delete" : `Undo: keep ${caption}`;
      clearTimeout(timer);
      timer = timer ? 0 : setTimeout(() => post(`/api/results/${key}/delete`).then(showResults).catch(showError), UNDO_MS);
    });
    place.append(card, remove);
    return place;
  }));
}

export function showStart() {
  if (!byId("examples").children.length) {
    byId("examples").replaceChildren(...Object.entries(EXAMPLES).map(([name, caption]) => {
      const card = makeCard(caption, ["small", "depth"].map((part) => `/static/examples/${name}-${part}.jpg`));
      card.id = `example-${name}`;
      card.addEventListener("click", () => { location.hash = `picture/${name}`; });
      return card;
    }));
  }
  showResults().catch(showError);
}
