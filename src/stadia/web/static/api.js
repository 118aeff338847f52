// Requests to the server of this page, with the session's secret and errors of one line.

let csrf = "";

// The server does not reply, as opposed to an error of this page's own code.
export class ConnectionError extends Error {}

// What `fetch` or `import` returns; a TypeError of theirs is a lost connection.
export const connect = (promise) => promise.catch((error) => { throw error instanceof TypeError ? new ConnectionError("no connection") : error; });

export async function openSession() {
  const session = await (await connect(fetch("/api/session"))).json();
  if (session.error) throw new Error(session.error);
  csrf = session.csrf;
  return session;
}

async function checked(response) {
  if (response.ok) return response;
  let about = {};
  try { about = await response.json(); } catch { /* no JSON */ }
  throw Object.assign(new Error(about.error || `The server replied ${response.status}.`), { about });
}

const PAUSES_S = [0.5, 1, 2, 4, 8, 16, 30]; // between tries while there is no connection

export async function get(path, signal) {
  for (const pause of [...PAUSES_S, 0]) {
    try {
      const response = await connect(fetch(path, { signal }));
      byId("connection").hidden = true;
      return await checked(response);
    } catch (error) {
      if (!(error instanceof ConnectionError) || !pause) throw error;
      byId("connection").hidden = false;
      await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
      signal?.throwIfAborted();
    }
  }
}

export async function post(path, body, signal) {
  const headers = { "x-stadia": csrf, "content-type": "application/json" };
  return (await checked(await connect(fetch(path, { method: "POST", headers, body: JSON.stringify(body ?? {}), signal })))).json();
}

// Upload a file; onShare: called with the share of it that was sent, 0 to 1.
export function upload(path, file, signal, onShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const end = (error) => () => reject(error);
    request.open("POST", path);
    request.setRequestHeader("x-stadia", csrf);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onShare(event.loaded / event.total));
    request.addEventListener("error", end(new ConnectionError("no connection")));
    request.addEventListener("abort", end(new DOMException("", "AbortError")));
    request.addEventListener("load", () => checked(new Response(request.response, { status: request.status })).then((response) => resolve(response.json()), reject));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

export const byId = (id) => document.getElementById(id);
export const make = (name, properties) => Object.assign(document.createElement(name), properties);

// Numbers are shown, and read, with the decimal separator of the browser's language; a point is read in each language.
const SEPARATOR = (1.5).toLocaleString().at(1);
export const localize = (text) => (SEPARATOR === "." ? text : text.replace(/(?<=\d)\.(?=\d)/g, SEPARATOR));

// The number in a field, null for an empty one; throws an error for anything else, and for numbers outside its limits.
export function readNumber(id) {
  const field = byId(id), text = field.value.trim(), { least, most } = field.dataset, value = Number(text.replace(",", "."));
  if (!text && !field.required) return null;
  if (/^\d*([.,]\d+)?$/.test(text) && text && !/^\d+,\d{3}$/.test(text) && !(value < Number(least)) && !(value > Number(most))) return value;
  field.focus();
  const name = field.ariaLabel || field.labels[0]?.textContent || "The number";
  throw new Error(`${name}: “${text}” is not a number${least ? ` from ${least}` : ""}${most ? ` to ${most}` : ""}. Write it as in ${localize("2.5")}.`);
}

// Width and height in the header of a PNG or JPEG file, or null: a browser takes seconds to decode a huge one.
export async function readSize(blob) {
  const view = new DataView(await blob.slice(0, 1 << 18).arrayBuffer());
  if (view.byteLength > 24 && view.getUint32(0) === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  for (let at = 2; at + 9 < view.byteLength && view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint8(at + 1); // a frame begins with SOF0 to SOF15, but for DHT, JPG and DAC
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
  }
  return null;
}

export function openDetails(id) {
  byId(id).open = true;
  byId(id).scrollIntoView({ block: "nearest" });
}

export function showError(error) {
  const place = byId("error");
  if (error && error.name === "AbortError") error = null;
  const isGone = error instanceof ConnectionError, isOwn = [TypeError, ReferenceError, RangeError].some((kind) => error instanceof kind);
  if (isOwn) console.error(error);
  place.textContent = !error ? "" : isGone ? "The server does not reply. Is it still running?" : isOwn ? `This page has an error (${error.message}). Reload it, and please report the error.` : error.message;
  place.hidden = !error || (isGone && !byId("connection").hidden); // one of them is enough
}

export function listItems(list, texts) {
  list.replaceChildren(...texts.map((textContent) => make("li", { textContent })));
}

// Links to download files.
export function listFiles(id, names, base) {
  byId(id).replaceChildren(...names.map((name) => {
    const item = make("li");
    item.append(make("a", { href: `${base}/${name}`, textContent: name, download: `stadia-${name}` }));
    return item;
  }));
}

// A bar of colors from near to far, with labels at shares of its length.
export function showBar(id, ticks, { colors, labels }) {
  byId(id).style.background = `linear-gradient(to right, ${colors.join(", ")})`;
  byId(ticks).replaceChildren(...labels.map(([share, textContent]) => {
    const tick = make("span", { textContent: localize(textContent), className: share <= 0.04 ? "first" : share >= 0.96 ? "last" : "" });
    tick.style.left = `${100 * share}%`;
    return tick;
  }));
}

// Seconds in words: "8 s", "1 min 20 s".
export function describeSeconds(seconds) {
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  return minutes ? `${minutes} min${whole % 60 ? ` ${whole % 60} s` : ""}` : `${whole} s`;
}

export const POINT_BYTES = 15;

// Bytes of a cloud: positions float32 (3 N), then colors uint8 (3 N).
export function splitCloud(bytes) {
  const count = bytes.byteLength / POINT_BYTES;
  return [new Float32Array(bytes, 0, 3 * count), new Uint8Array(bytes, 12 * count, 3 * count)];
}

// A verdict of predictions as the report shows it.
export function showVerdict(card, verdict) {
  card.className = `card verdict ${verdict.replace(" ", "-")}`;
  card.querySelector(".word").textContent = verdict;
}

// Lines of a verdict; what was not checked is folded, by its reason.
export function listVerdict(id, lines) {
  const shown = lines.map((line) => line.trim()).filter((line) => !line.startsWith("predictions: ")), skipped = shown.filter((line) => line.startsWith("not checked: "));
  listItems(byId(id), shown.filter((line) => !skipped.includes(line)));
  const place = byId(`${id}-skipped`), reasons = [...new Set(skipped.map((line) => line.split(": ").at(-1)))];
  place.hidden = !skipped.length;
  place.querySelector("summary").textContent = `Not checked (${skipped.length})`;
  listItems(place.querySelector("ul"), reasons);
}
