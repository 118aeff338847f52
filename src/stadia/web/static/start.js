// The first page: examples, and the pictures and videos of this browser.

import { byId, get, make, post, showError } from "./api.js";

export const EXAMPLES = { street: "Street", indoors: "Indoors", people: "People", drone: "From a drone", desk: "Desk", night: "Night" };

function makeCard(caption, images) {
  const card = make("button", { type: "button", className: "thumb" });
  card.append(make("span", { className: "pair" }), make("span", { className: "small", textContent: caption }));
  card.firstChild.append(...images.map((src) => make("img", { src, alt: "", loading: "lazy" })));
  return card;
}

const UNDO_MS = 6000; // a deleted result can be taken back so long

async function showResults() {
  const { results, max_photos, max_videos } = await (await get("/api/results")).json();
  byId("results-part").hidden = !results.length;
  byId("results-limit").textContent = `The last ${max_photos} photos and ${max_videos} videos stay here until the server ends. Download what you want to keep.`;
  byId("results").replaceChildren(...results.map(({ kind, key, name }) => {
    const base = `/api/${kind}s/${key}`, images = kind === "photo" ? ["small.jpg", "color.jpg"] : ["image/0.jpg", "preview.jpg"], caption = name || (kind === "photo" ? "Photo" : "Video");
    const place = make("div", { className: "kept" }), card = makeCard(caption, images.map((image) => `${base}/${image}`));
    card.addEventListener("click", () => { location.hash = `${kind === "photo" ? "picture" : "video"}/${key}`; });
    const remove = make("button", { type: "button", className: "small", textContent: "Delete", ariaLabel: `Delete ${caption}` });
    let timer = 0;
    remove.addEventListener("click", () => {
      card.hidden = !timer;
      remove.textContent = timer ? "Delete" : `Undo: keep ${caption}`;
      clearTimeout(timer);
      timer = timer ? 0 : setTimeout(() => post(`${base}/${kind === "photo" ? "delete" : "cancel"}`).then(showResults).catch(showError), UNDO_MS);
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
