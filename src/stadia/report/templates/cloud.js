// Draw the point cloud of report_images.py on a canvas: drag turns, the wheel zooms.

const BACKGROUND = [20, 21, 23], LARGEST_POINT = 6; // side of a drawn point in pixels
const AXES = [
  { name: "x right", to: [1, 0, 0], color: "rgb(255, 120, 100)" },
  { name: "y down", to: [0, 1, 0], color: "rgb(120, 210, 120)" },
  { name: "z forward", to: [0, 0, 1], color: "rgb(120, 170, 255)" },
]; // of the camera

// From behind the camera, to its left and above; the eye is farther from the middle of the points than the camera.
function firstView(view, height) {
  const yaw = Math.PI / 9, pitch = Math.PI / 9, distance = 1.9 * Math.hypot(...view.middle);
  return { ...view, yaw, pitch, distance, focal: 1.3 * height };
}

function pointsOf(bytes, view) {
  const count = view.columns * view.rows;
  const xyz = new Float64Array(3 * count), colors = new Uint8Array(3 * count);
  let kept = 0;
  for (let i = 0; i < count; i++) {
    const z = (bytes[2 * i] + 256 * bytes[2 * i + 1]) * view.perCount;
    if (z === 0) continue;
    xyz.set([(((i % view.columns) - view.cx) / view.fx) * z, ((Math.floor(i / view.columns) - view.cy) / view.fy) * z, z], 3 * kept);
    colors.set(bytes.subarray(2 * count + 3 * i, 2 * count + 3 * i + 3), 3 * kept);
    kept++;
  }
  return { count: kept, xyz, colors };
}

function eyeOf(view, width, height) {
  const sy = Math.sin(view.yaw), cy = Math.cos(view.yaw), sp = Math.sin(view.pitch), cp = Math.cos(view.pitch);
  return (px, py, pz) => {
    const dx = px - view.middle[0], dy = py - view.middle[1], dz = pz - view.middle[2];
    const x = cy * dx - sy * dz, ahead = sy * dx + cy * dz;
    const z = cp * ahead + sp * dy + view.distance;
    return [width / 2 + (view.focal * x) / z, height / 2 + (view.focal * (cp * dy - sp * ahead)) / z, z];
  };
}

function draw(cloud, view, pixels, nearest, width, height) {
  const project = eyeOf(view, width, height), [r, g, b] = BACKGROUND;
  nearest.fill(Infinity);
  for (let i = 0; i < pixels.length; i += 4) pixels.set([r, g, b, 255], i);
  for (let k = 0; k < cloud.count; k++) {
    const depth = cloud.xyz[3 * k + 2];
    const [u, v, z] = project(cloud.xyz[3 * k], cloud.xyz[3 * k + 1], depth);
    if (z <= 0) continue;
    const size = Math.min(Math.max(Math.ceil((view.focal * depth) / view.fx / z), 1), LARGEST_POINT);
    const left = Math.floor(u - size / 2), top = Math.floor(v - size / 2);
    for (let y = Math.max(top, 0); y < Math.min(top + size, height); y++) {
      for (let x = Math.max(left, 0); x < Math.min(left + size, width); x++) {
        const at = y * width + x;
        if (z >= nearest[at]) continue;
        nearest[at] = z;
        for (let c = 0; c < 3; c++) pixels[4 * at + c] = cloud.colors[3 * k + c];
      }
    }
  }
}

function drawAxes(view, context, width, height) {
  const project = eyeOf(view, width, height), [u0, v0, z0] = project(0, 0, 0);
  context.lineWidth = 2;
  context.font = "14px system-ui, sans-serif";
  for (const { name, to, color } of AXES) {
    const [u, v, z] = project(...to.map((step) => step * view.axis));
    if (Math.min(z0, z) <= 0) continue;
    context.strokeStyle = context.fillStyle = color;
    context.beginPath();
    context.moveTo(u0, v0);
    context.lineTo(u, v);
    context.stroke();
    context.fillText(name, u + 6, v + 4);
  }
}

function turnable(figure) {
  const canvas = figure.querySelector("canvas"), { width, height } = canvas, context = canvas.getContext("2d");
  const first = firstView(JSON.parse(canvas.dataset.view), height), view = { ...first };
  const cloud = pointsOf(Uint8Array.from(atob(canvas.dataset.points), (letter) => letter.charCodeAt(0)), view);
  const image = context.createImageData(width, height), nearest = new Float64Array(width * height);
  let due = false;
  const show = (change) => {
    Object.assign(view, change);
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw(cloud, view, image.data, nearest, width, height);
      context.putImageData(image, 0, 0);
      drawAxes(view, context, width, height);
    });
  };
  const turn = (yaw, pitch) => show({ yaw: view.yaw + yaw, pitch: Math.min(Math.max(view.pitch + pitch, -1.5), 1.5) });
  const zoom = (factor) => show({ distance: Math.min(Math.max(view.distance * factor, first.distance / 20), first.distance * 5) });
  const keys = {
    ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
    "+": () => zoom(0.9), "-": () => zoom(1 / 0.9), 0: () => show(first),
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) turn(event.movementX / 200, event.movementY / 200);
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return; // the page scrolls until the cloud was clicked
    event.preventDefault();
    zoom(Math.exp(Math.sign(event.deltaY) * 0.1));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  figure.classList.add("turnable");
  show(first);
}

if (typeof document !== "undefined") document.querySelectorAll("figure.cloud").forEach(turnable);
