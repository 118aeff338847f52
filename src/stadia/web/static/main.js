// Start the session, show the page that the address names, and open files that are chosen, dropped or pasted anywhere.

// The browser paints the page and reads its picture before it reads and runs the other modules.
const PICTURE_MS = 3000; // the longest wait for the picture
if (!document.hidden) await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
await Promise.race([document.getElementById("shown").decode().catch(() => {}), new Promise((resolve) => setTimeout(resolve, PICTURE_MS))]);
const [{ byId, connect, openSession, showError }, { startPicture }] = await Promise.all(["api", "picture", "stage", "start"].map((name) => import(`./${name}.js`)));

const PAGES = { // the others are read at their first use
  picture: startPicture,
  video: async (session) => (await connect(import("./video.js"))).startVideo(session), networks: async (session) => (await connect(import("./networks.js"))).startNetworks(session),
  runs: async (session) => (await connect(import("./runs.js"))).startRuns(session), check: async (session) => (await connect(import("./check.js"))).startCheck(session),
};
const IS_APPLE_TOUCH = /Mac|iP(hone|ad|od)/.test(navigator.platform) && navigator.maxTouchPoints > 1;
const started = {};

function find(name, session) {
  started[name] ??= Promise.resolve(PAGES[name](session)).catch((error) => { // without a connection; it is tried again
    started[name] = undefined;
    throw error;
  });
  return started[name];
}

async function showPage(session) {
  const [name, key] = location.hash.slice(1).split("/");
  const page = PAGES[name] && !(session.is_public && name === "runs") ? name : "picture", shown = page === "video" ? "picture" : page;
  const { show } = await find(page, session); // the page before stays if this one cannot be loaded
  for (const section of document.querySelectorAll("section.page")) section.hidden = section.id !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showError(null);
  if (location.hash.slice(1) === [name, key].filter(Boolean).join("/")) show(key); // no other page was chosen meanwhile
}

// Whether a file is a video, by its first bytes: its name may be wrong.
async function isVideo(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  if (head.slice(4, 8) === "ftyp") return !/^(hei|hev|mif1|msf1|avi)/.test(head.slice(8));
  return (head.startsWith("RIFF") && head.slice(8, 11) === "AVI") || head.startsWith("\x1a\x45\xdf\xa3");
}

async function openFile(file, session, others = []) {
  if (!file) return;
  const page = await isVideo(file) ? "video" : "picture";
  if (location.hash.slice(1).split("/")[0] !== page) {
    history.pushState(null, "", `#${page}`);
    await showPage(session);
  }
  await (await find(page, session)).open(file, others);
}

const RESULT = /\.(zip|json|txt|bin|csv|tum|npy|npz|glb|xml|ya?ml|pose)$/i; // of other programs

// The files below a dropped entry, with their paths.
async function listFiles(entry) {
  if (entry.isFile) return [{ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name: entry.fullPath }];
  const reader = entry.createReader(), found = [];
  for (;;) { // a browser gives 100 at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...await listFiles(one));
  }
}

async function openDropped(dropped, session) {
  const entries = [...dropped.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean), plain = [...dropped.files];
  showError(null);
  const files = entries.length ? (await Promise.all(entries.map(listFiles))).flat() : plain.map((file) => ({ file, name: file.name }));
  if (!files.length) showError(new Error("This is no file. Save the picture or video first, then drop the file."));
  else await openFiles(files, session);
}

// A result of another program, or files for one that waits for its images, are judged; three photos or more become one
// model; of two, the first one is opened, and both are kept.
async function openFiles(files, session) {
  const isCheck = /^#check\/./.test(location.hash);
  if (isCheck || files.some(({ name }) => RESULT.test(name))) {
    if (!isCheck) {
      history.pushState(null, "", "#check");
      await showPage(session);
    }
    (await find("check", session)).open(files);
  } else if (files.length > 2 && files.every(({ file }) => file.type.startsWith("image/"))) {
    history.pushState(null, "", "#video");
    await showPage(session);
    (await find("video", session)).openPhotos(files);
  } else if (files.length > 1 && (await Promise.all(files.map(({ file }) => isVideo(file)))).some(Boolean)) {
    showError(new Error("Drop one video at a time, without other files."));
  } else await openFile(files[0].file, session, files.slice(1).map(({ file }) => file));
}

try {
  const session = await openSession();
  document.body.classList.toggle("public", session.is_public);
  await showPage(session);
  addEventListener("hashchange", () => showPage(session).catch(showError));
  if (!IS_APPLE_TOUCH) byId("file").accept += ",.heic,.heif"; // iOS converts them to JPEG unless they are listed
  byId("file").addEventListener("change", () => { openFiles([...byId("file").files].map((file) => ({ file, name: file.name })), session).catch(showError); byId("file").value = ""; });
  for (const name of ["dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => { event.preventDefault(); document.body.classList.toggle("dropping", name === "dragover"); });
  }
  addEventListener("drop", (event) => openDropped(event.dataTransfer, session).catch(showError));
  addEventListener("paste", (event) => openFile([...event.clipboardData.files].find((file) => /^(image|video)\//.test(file.type)), session).catch(showError));
  document.documentElement.dataset.ready = "yes";
  for (const name of ["video", "networks", "runs", "check"]) import(`./${name}.js`).catch(() => {}); // for a lost connection
} catch (error) {
  showError(error);
}
