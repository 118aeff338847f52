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

// Depth in 16 bits, then RGB: positions (3 N) and colors (3 N) of the pixels with depth.
export function pointsOf(bytes, view) {
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

for (const figure of document.querySelectorAll("figure.cloud")) {
  const canvas = figure.querySelector("canvas"), about = figure.querySelector(".how");
  try {
    const bytes = Uint8Array.from(atob(canvas.dataset.points), (letter) => letter.charCodeAt(0));
    new CloudView(canvas, (text) => { about.textContent = text; }).show(...pointsOf(bytes, JSON.parse(canvas.dataset.view)), canvas.dataset.unit);
  } catch (error) {
    canvas.hidden = true;
    about.textContent = error.message;
  }
}
