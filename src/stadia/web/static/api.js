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
  place.textContent = error ? (isGone ? "The server does not reply: is `stadia app` still running?" : error.message) : "";
  place.hidden = !error;
}

export function listItems(list, texts) {
  list.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}
