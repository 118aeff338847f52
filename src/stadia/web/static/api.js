// Requests to the server of this page, with the session's secret and errors of one line.

let csrf = "";

export async function openSession() {
  const session = await (await fetch("/api/session")).json();
  if (session.error) throw new Error(session.error);
  csrf = session.csrf;
  return session;
}

async function checked(response) {
  if (response.ok) return response;
  let text = `the server replied ${response.status}`;
  try { text = (await response.json()).error || text; } catch { /* no JSON */ }
  throw new Error(text);
}

export async function get(path, signal) {
  return checked(await fetch(path, { signal }));
}

export async function post(path, body, signal) {
  const isBlob = body instanceof Blob;
  const headers = { "x-stadia": csrf, "content-type": isBlob ? "application/octet-stream" : "application/json" };
  return (await checked(await fetch(path, { method: "POST", headers, body: isBlob ? body : JSON.stringify(body ?? {}), signal }))).json();
}

export const byId = (id) => document.getElementById(id);

export function showError(error) {
  const place = byId("error");
  if (error && error.name === "AbortError") error = null;
  const isGone = error instanceof TypeError; // of fetch: no connection
  place.textContent = error ? (isGone ? "The server does not reply. Is `stadia app` still running?" : error.message) : "";
  place.hidden = !error;
}

export function listItems(list, texts) {
  list.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

// Bytes of a cloud: positions float32 (3 N), then colors uint8 (3 N).
export function splitCloud(bytes) {
  const count = bytes.byteLength / 15;
  return [new Float32Array(bytes, 0, 3 * count), new Uint8Array(bytes, 12 * count, 3 * count)];
}

// A verdict of predictions as the report shows it.
export function showVerdict(card, verdict) {
  card.className = `verdict ${verdict.replace(" ", "-")}`;
  card.querySelector(".word").textContent = verdict;
}

// Lines of a verdict; what was not checked is folded.
export function listVerdict(id, lines) {
  const shown = lines.map((line) => line.trim()).filter((line) => !line.startsWith("predictions: ")), skipped = shown.filter((line) => line.startsWith("not checked: "));
  listItems(byId(id), shown.filter((line) => !skipped.includes(line)));
  const place = byId(`${id}-skipped`);
  place.hidden = !skipped.length;
  place.querySelector("summary").textContent = `${skipped.length} not checked`;
  listItems(place.querySelector("ul"), skipped.map((line) => line.replace("not checked: ", "")));
}
