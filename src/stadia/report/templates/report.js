// Sheets that enlarge, the slider of the steps, and the points of report_images.py.

for (const sheet of document.querySelectorAll(".sheet")) {
  sheet.addEventListener("click", () => sheet.classList.toggle("zoomed"));
}
for (const sheets of document.querySelectorAll(".sheets")) {
  const figures = [...sheets.querySelectorAll("figure")];
  const slider = sheets.querySelector("input");
  const show = () => figures.forEach((figure, i) => figure.classList.toggle("shown", i === Number(slider.value)));
  if (!slider) continue;
  slider.addEventListener("input", show);
  sheets.classList.add("scripted");
  show();
}

// A page in a frame, such as that of the app, tells how high it is.
if (window !== parent) {
  const tell = () => parent.postMessage({ height: Math.ceil(document.body.getBoundingClientRect().bottom + scrollY) + 16 }, "*");
  new ResizeObserver(tell).observe(document.body);
}

// Positions (3 N) and colors (3 N): as they are where the view has a count; else depth in 16 bits and RGB of pixels.
export function pointsOf(bytes, view) {
  if ("count" in view) return [new Float32Array(bytes.buffer, 0, 3 * view.count), bytes.subarray(12 * view.count)];
  const count = view.columns * view.rows, positions = new Float32Array(3 * count), colors = new Uint8Array(3 * count);
  let kept = 0;
  for (let i = 0; i < count; i++) {
    const z = (bytes[2 * i] + 256 * bytes[2 * i + 1]) * view.perCount;
    if (z === 0) continue;
    positions.set([(((i % view.columns) - view.cx) / view.fx) * z, ((Math.floor(i / view.columns) - view.cy) / view.fy) * z, z], 3 * kept);
    colors.set(bytes.subarray(2 * count + 3 * i, 2 * count + 3 * i + 3), 3 * kept);
    kept++;
  }
  return [positions.slice(0, 3 * kept), colors.slice(0, 3 * kept)];
}

// A slider over the frames of a scene: points and image of one, or the points of all.
function addTimeline(figure, frames, show) {
  const add = (name, about) => Object.assign(document.createElement(name), about);
  const slider = add("input", { type: "range", max: frames.length - 1, value: 0, ariaLabel: "Frame" }), all = add("input", { type: "checkbox", checked: frames.length === 1, id: "all" });
  const label = add("label", { htmlFor: "all", textContent: " points of all frames" }), name = add("p", {}), image = add("img", { alt: "Image of the frame" });
  const draw = () => {
    const frame = frames[Number(slider.value)];
    name.textContent = frame.name;
    image.hidden = !frame.image;
    if (frame.image) image.src = frame.image;
    show(Number(slider.value), all.checked);
  };
  for (const input of [slider, all]) input.addEventListener("input", draw);
  figure.append(slider, all, label, name, image);
  draw();
}

const SVG = "http://www.w3.org/2000/svg", PICTURE_PX = 48; // width of the pictures in frusta

// Two images next to each other with lines between their matches: blue ones agree with the poses, orange ones do not.
function drawMatches(first, second, { about, places, agrees }) {
  const gap = 0.02, [left, right] = [first.aspect, second.aspect], picture = document.createElementNS(SVG, "svg");
  const add = (name, values) => {
    const one = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
    picture.append(one);
  };
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${left + gap + right} 1`, role: "img", "aria-label": about, class: "matches" })) picture.setAttribute(key, value);
  add("image", { href: first.image, width: left, height: 1, preserveAspectRatio: "none" });
  add("image", { href: second.image, x: left + gap, width: right, height: 1, preserveAspectRatio: "none" });
  for (const [at, [x, y, x2, y2]] of places.entries()) {
    const name = agrees[at] ? "agrees" : "contradicts", end = left + gap + x2 * right;
    add("line", { x1: x * left, y1: y, x2: end, y2, class: name, "vector-effect": "non-scaling-stroke" });
    add("circle", { cx: x * left, cy: y, r: 0.008, class: name });
    add("circle", { cx: end, cy: y2, r: 0.008, class: name });
  }
  return picture;
}

// The colors of an image, PICTURE_PX wide.
async function readPicture({ image, aspect }) {
  const drawn = Object.assign(new Image(), { src: image }), canvas = Object.assign(document.createElement("canvas"), { width: PICTURE_PX, height: Math.max(Math.round(PICTURE_PX / aspect), 1) });
  await drawn.decode();
  const context = canvas.getContext("2d");
  context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return { width: canvas.width, height: canvas.height, colors: context.getImageData(0, 0, canvas.width, canvas.height).data };
}

// The images of a scene in a row; one that is clicked is shown large, and the view looks through its camera.
function addViews(figure, views, cloud, cameras) {
  const add = (name, about) => Object.assign(document.createElement(name), about), row = add("div", { className: "views-row" }), large = add("div", { className: "view-large", hidden: true });
  const image = add("img", { alt: "" }), about = add("p", {}), pair = add("div", {}), overview = add("button", { type: "button", textContent: "Overview" });
  const select = (number) => {
    const view = views[number];
    for (const [at, button] of [...row.children].entries()) button.setAttribute("aria-pressed", String(at === number));
    large.hidden = !view;
    cloud.showCameras(view ? [{ ...view, color: [86, 180, 233] }] : cameras); // others would hide what this one sees
    cloud.showPictures(view ? [] : pictures, choose);
    if (!view) { cloud.reset(); return; }
    const hasPair = Boolean(view.matches && views[view.matches.other].image);
    Object.assign(image, { hidden: !view.image || hasPair, src: view.image || "data:," }); // the pair shows it too
    about.textContent = [view.name, view.about].filter(Boolean).join(": ");
    pair.replaceChildren(...(hasPair ? [add("p", { textContent: `${view.matches.about}:` }), drawMatches(view, views[view.matches.other], view.matches)] : []));
    cloud.lookThrough(view);
  };
  const choose = (at) => { select(pictures[at].number); row.children[pictures[at].number].scrollIntoView({ block: "nearest" }); };
  let pictures = [];
  Promise.all(views.map(async (view, number) => (view.image ? { ...view, number, picture: await readPicture(view) } : null))).then((read) => {
    pictures = read.filter(Boolean);
    if (large.hidden) cloud.showPictures(pictures, choose);
  }).catch(() => {}); // the frusta stay empty
  for (const [number, view] of views.entries()) {
    const button = add("button", { type: "button", title: view.name, ariaLabel: `Look through ${view.name}`, ariaPressed: "false" });
    button.append(view.image ? add("img", { src: view.image, alt: "", loading: "lazy" }) : view.name);
    button.addEventListener("click", () => select(button.getAttribute("aria-pressed") === "true" ? -1 : number));
    row.append(button);
  }
  overview.addEventListener("click", () => select(-1));
  large.append(image, about, pair, overview);
  figure.append(row, large);
}

for (const figure of document.querySelectorAll("figure.cloud")) {
  const canvas = figure.querySelector("canvas"), about = figure.querySelector(".how");
  try {
    const bytes = Uint8Array.from(atob(canvas.dataset.points), (letter) => letter.charCodeAt(0));
    const view = JSON.parse(canvas.dataset.view), [positions, colors] = pointsOf(bytes, view), { lines, cameras, frames, views, radius, center, grain, opening } = view;
    const cloud = new CloudView(canvas, (text) => { about.textContent = text; });
    cloud.show(positions, colors, canvas.dataset.unit, { lines, cameras, radius, center: radius ? center : null, grain });
    if (opening) cloud.lookThrough({ T: opening, back: 0.5 });
    if (view.marks?.length) cloud.showMarks(view.marks);
    if (views?.length) addViews(figure, views, cloud, cameras);
    const ends = (frames ?? []).reduce((sums, frame) => [...sums, sums.at(-1) + frame.count], [0]);
    if (ends.length > 1) addTimeline(figure, frames, (number, isAll) => {
      const [first, end] = isAll || ends[number] === ends[number + 1] ? [0, ends.at(-1)] : [ends[number], ends[number + 1]];
      const every = Math.ceil(cameras.length / 12), others = cameras.filter((_, at) => at % every === 0 && at !== number);
      const shown = [...others, { ...cameras[number], color: [255, 110, 64] }];
      cloud.show(positions.subarray(3 * first, 3 * end), colors.subarray(3 * first, 3 * end), canvas.dataset.unit, { lines, cameras: shown, grain, keepsView: true });
    });
  } catch (error) {
    canvas.hidden = true;
    about.textContent = error.message;
  }
}
