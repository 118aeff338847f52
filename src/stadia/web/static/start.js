// The first page: examples, and the pictures and videos of this browser.

import { byId, get, make, post, showError } from "./api.js";

const EXAMPLES = { street: "Street", indoors: "Indoors", people: "People", drone: "From a drone", desk: "Desk", night: "Night" };

function makeCard(caption, images) {
  const card = make("button", { type: "button", className: "thumb" });
  card.append(make("span", { className: "pair" }), make("span", { className: "small", textContent: caption }));
  card.firstChild.append(...images.map((src) => make("img", { src, alt: "", loading: "lazy" })));
  return card;
}

async function showResults() {
  const { results } = await (await get("/api/results")).json();
  byId("results-part").hidden = !results.length;
  byId("results").replaceChildren(...results.map(({ kind, key }) => {
    const base = `/api/${kind}s/${key}`, images = kind === "photo" ? ["small.jpg", "color.jpg"] : ["image/0.jpg", "preview.jpg"];
    const place = make("div", { className: "kept" }), card = makeCard(kind === "photo" ? "Photo" : "Video", images.map((name) => `${base}/${name}`));
    card.addEventListener("click", () => { location.hash = `${kind === "photo" ? "picture" : "video"}/${key}`; });
    const remove = make("button", { type: "button", className: "small", textContent: "Delete", ariaLabel: `Delete this ${kind}` });
    remove.addEventListener("click", () => post(`${base}/${kind === "photo" ? "delete" : "cancel"}`).then(showResults).catch(showError));
    place.append(card, remove);
    return place;
  }));
}

// choose: called with the name of an example.
export function showStart(choose) {
  if (!byId("examples").children.length) {
    byId("examples").replaceChildren(...Object.entries(EXAMPLES).map(([name, caption]) => {
      const card = makeCard(caption, ["small", "depth"].map((part) => `/static/examples/${name}-${part}.jpg`));
      card.id = `example-${name}`;
      card.addEventListener("click", () => choose(name));
      return card;
    }));
  }
  showResults().catch(showError);
}
