// Points in 3D, of report and app, drawn by the processor alone: drag turns, wheel and pinch zoom, arrow keys turn. Where a
// machine draws them slowly, each n-th is drawn while they turn.

const MAX_DRAW_MS = 22, MEASURED_FRAMES = 4, MIN_POINTS = 20000, REST_MS = 250; // a browser needs the rest of 33 ms
const BACKGROUND = [[66, 72, 82], [22, 24, 28]], // of the top and the bottom
  GRID = [98, 105, 114], GRID_LINES = 7, ORBIT_MS = 6000, MAX_PIXEL_RATIO = 2, FOCAL = 1.3; // focal length in heights of the canvas
const COVER = { moving: 1, resting: 3 }, LARGEST_PX = 6, LARGEST_ROUND_PX = 14, ROUND = 2.3, LINE_PX = 2, LINE_POINTS = 20000, FRUSTUM_POINTS = 3000, WIDE = 1.6; // squares of points cover the canvas so many times
const AXES = [["x right", [1, 0, 0], [230, 159, 0]], ["y down", [0, 1, 0], [0, 158, 115]], ["z forward", [0, 0, 1], [86, 180, 233]]];
const CAMERA = [255, 255, 255], MARK = [255, 255, 255], CLICK_PX = 4, PICK_PX = 8;

// Rows of the rotation from the world, x right, y down, z forward, into the eye.
export function rotationOf({ yaw, pitch }) {
  const sy = Math.sin(yaw), cy = Math.cos(yaw), sp = Math.sin(pitch), cp = Math.cos(pitch);
  return [[cy, 0, -sy], [-sp * sy, cp, -sp * cy], [cp * sy, sp, cp * cy]];
}

// Rows (3, 4) from the world to depth times pixel, from the middle of a canvas of a height, and to depth.
export function projectionOf(view, height) {
  const dot = (row) => row[0] * view.target[0] + row[1] * view.target[1] + row[2] * view.target[2];
  const [x, y, z] = rotationOf(view).map((row, axis) => [...row, (axis === 2 ? view.distance : 0) - dot(row)]);
  return [x.map((value) => FOCAL * height * value), y.map((value) => FOCAL * height * value), z];
}

// (N) uint32 of colors uint8 (3 N), as canvases of little-endian machines hold them.
export function packColors(colors) {
  const packed = new Uint32Array(colors.length / 3);
  for (let i = 0; i < packed.length; i++) packed[i] = 0xff000000 | (colors[3 * i + 2] << 16) | (colors[3 * i + 1] << 8) | colors[3 * i];
  return packed;
}

// First and last column of each row of a disc of a diameter.
const DISCS = Array.from({ length: LARGEST_ROUND_PX * 2 + 1 }, (_, size) => Int8Array.from({ length: 2 * size }, (__, at) => {
  const middle = (size - 1) / 2, half = Math.sqrt(Math.max((size / 2) ** 2 - ((at >> 1) - middle) ** 2, 0)), first = size < 3 ? 0 : Math.max(Math.round(middle - half + 0.5 - 0.4), 0);
  return at % 2 ? size - first : first;
}));

// Draw each `step`-th point as a disc of `size` pixels into pixels uint32 (h w), where it is nearer than depths (h w).
// spread: pixels of a point that is as far as it was from the camera at the origin; a point that is nearer is larger. 0: all are of `size`.
// grain: pixels of a point at depth 1, for points that came from several cameras.
export function drawPoints({ width, height, pixels, depths }, [[x0, x1, x2, x3], [y0, y1, y2, y3], [z0, z1, z2, z3]], positions, packed, least, step, near, spread = 0, most = least, grain = 0) {
  for (let i = 0, count = packed.length; i < count; i += step) {
    const x = positions[3 * i], y = positions[3 * i + 1], z = positions[3 * i + 2], depth = z0 * x + z1 * y + z2 * z + z3;
    if (!(depth > near)) continue;
    const size = spread || grain ? Math.max(least, Math.min(most, Math.round((spread ? spread * z : grain) / depth))) : least, half = (size - 1) / 2;
    const column = (x0 * x + x1 * y + x2 * z + x3) / depth + width / 2 - half, row = (y0 * x + y1 * y + y2 * z + y3) / depth + height / 2 - half;
    if (!(column >= 0 && row >= 0 && column <= width - size && row <= height - size)) continue;
    const disc = DISCS[size], color = packed[i];
    for (let down = 0, line = (row | 0) * width + (column | 0); down < size; down++, line += width) {
      for (let at = line + disc[2 * down], end = line + disc[2 * down + 1]; at < end; at++) if (depth < depths[at]) { depths[at] = depth; pixels[at] = color; }
    }
  }
}

// The line of a camera's frustum: fov_deg from left to right, aspect, T (rows of T_world_camera), depth of its image.
export function frustumOf({ fov_deg, aspect, T = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], color = CAMERA }, depth) {
  const x = depth * Math.tan((fov_deg * Math.PI) / 360), y = x / aspect;
  const corners = [[-x, -y], [x, -y], [x, y], [-x, y]].map(([across, down]) => T.map((row) => row[0] * across + row[1] * down + row[2] * depth + row[3]));
  const center = T.map((row) => row[3]), [a, b, c, d] = corners;
  return { points: [center, a, b, center, c, d, center, b, c, d, a], color, count: FRUSTUM_POINTS };
}

// The image plane of a camera's frustum as points with the colors of its picture: { width, height, colors uint8 (4 N) }.
function makePicture(camera, depth) {
  const { width, height, colors } = camera.picture, [, a, b, , , d] = frustumOf(camera, depth).points, positions = new Float32Array(3 * width * height), packed = new Uint32Array(width * height);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      const x = (column + 0.5) / width, y = (row + 0.5) / height;
      for (let axis = 0; axis < 3; axis++) positions[3 * i + axis] = a[axis] + x * (b[axis] - a[axis]) + y * (d[axis] - a[axis]);
      packed[i] = 0xff000000 | (colors[4 * i + 2] << 16) | (colors[4 * i + 1] << 8) | colors[4 * i];
    }
  }
  return { positions, packed, grain: Math.hypot(...b.map((value, axis) => value - a[axis])) / width, corners: frustumOf(camera, depth).points };
}

// Points of a line through given ones, as one cloud.
function makeLine({ points, color, count = LINE_POINTS }) {
  const each = Math.ceil(count / (points.length - 1)), positions = [];
  for (let i = 1; i < points.length; i++) {
    for (let k = 0; k < each; k++) for (let axis = 0; axis < 3; axis++) positions.push(points[i - 1][axis] + ((points[i][axis] - points[i - 1][axis]) * k) / each);
  }
  return { positions: new Float32Array(positions), packed: new Uint32Array(positions.length / 3).fill(packColors(color)[0]) };
}

// Lines of a grid on a plane [nx, ny, nz, offset], whose normal points down, around a place before the camera.
function makeGrid([nx, ny, nz, offset], middle) {
  const power = 10 ** Math.floor(Math.log10(middle / 2)), spacing = power * [5, 2, 1].find((step) => step * power <= middle / 2), half = GRID_LINES * spacing;
  const length = Math.hypot(-nz * nx, -nz * ny, 1 - nz * nz), forward = [-nz * nx, -nz * ny, 1 - nz * nz].map((value) => value / length);
  const right = [ny * forward[2] - nz * forward[1], nz * forward[0] - nx * forward[2], nx * forward[1] - ny * forward[0]];
  const under = offset + middle / 60; // the ground's points hide it
  const at = (across, along) => [nx, ny, nz].map((value, axis) => value * under + right[axis] * across + forward[axis] * (half * 0.8 + along)), lines = [];
  for (let i = -GRID_LINES; i <= GRID_LINES; i++) lines.push([at(i * spacing, -half), at(i * spacing, half)], [at(-half, i * spacing), at(half, i * spacing)]);
  return lines.map((points) => ({ points, color: GRID, count: 1500 }));
}

const DASH_PX = 6, HIDDEN = 1.02; // a line is dashed where points are nearer by this factor

// Draw a line through points of the world in front of all points: solid where it is seen, dashed where they hide it.
// Returns the number of its pixels that are hidden.
export function drawMark({ width, height, pixels, depths }, [px, py, pz], points, ratio, near) {
  const project = (point) => [px, py, pz].map(([a, b, c, d]) => a * point[0] + b * point[1] + c * point[2] + d), dots = [];
  let along = 0, hidden = 0;
  for (let i = 1; i < points.length; i++) {
    let [from, to] = [project(points[i - 1]), project(points[i])];
    if (!(from[2] > near) && !(to[2] > near)) continue;
    const cut = (inside, outside) => { const share = (inside[2] - near * 1.001) / (inside[2] - outside[2]); return inside.map((value, axis) => value + share * (outside[axis] - value)); };
    if (!(to[2] > near)) to = cut(from, to);
    if (!(from[2] > near)) from = cut(to, from);
    const [x0, y0, x1, y1] = [from[0] / from[2], from[1] / from[2], to[0] / to[2], to[1] / to[2]], length = Math.min(Math.hypot(x1 - x0, y1 - y0), 4 * (width + height));
    for (let at = 0; at <= length; at++, along++) {
      const share = length ? at / length : 0, x = Math.round(x0 + share * (x1 - x0) + width / 2), y = Math.round(y0 + share * (y1 - y0) + height / 2);
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const depth = 1 / ((1 - share) / from[2] + share / to[2]), isHidden = depth > HIDDEN * depths[y * width + x];
      hidden += isHidden;
      if (!isHidden || Math.floor(along / (DASH_PX * ratio)) % 2 === 0) dots.push([x, y]);
    }
  }
  for (const [color, size] of [[[0, 0, 0], 5], [MARK, 3]]) {
    const packed = packColors(color)[0], half = Math.floor((size * ratio) / 2);
    for (const [x, y] of dots) {
      for (let row = Math.max(y - half, 0); row <= Math.min(y + half, height - 1); row++) pixels.fill(packed, row * width + Math.max(x - half, 0), row * width + Math.min(x + half, width - 1) + 1);
    }
  }
  return hidden;
}

// Middle and top of a label of a size near a place: in the canvas, and over none of `taken` ([x, y, width]).
export function placeLabel([x, y], [width, height], canvas, taken) {
  const inside = Math.min(Math.max(x, width / 2), canvas.width - width / 2), step = height + 2;
  const isFree = (top) => top >= 0 && top + height <= canvas.height && taken.every((one) => Math.abs(one[0] - inside) >= (one[2] + width) / 2 || Math.abs(one[1] - top) >= height);
  for (let count = 0; count * step < canvas.height; count++) {
    for (const top of [y + count * step, y - count * step]) if (isFree(top)) return [inside, top, width];
  }
  return null;
}

export class CloudView {
  // describe: called with what is drawn; pick: called with a point [x, y, z] that was clicked, if there is one.
  constructor(canvas, describe, pick) {
    Object.assign(this, { canvas, describe, pick, times: [], step: 1, size: 1, lines: [], cameras: [], pictures: [], marks: [], pointers: new Map() });
    this.context = canvas.getContext("2d", { alpha: false });
    for (const name of ["pointerdown", "keydown", "wheel"]) canvas.addEventListener(name, () => { this.isTouched = true; }, { passive: true });
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until the points were clicked
      event.preventDefault();
      this.zoom(Math.exp(Math.sign(event.deltaY) * 0.1));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.pointers.set(event.pointerId, [event.clientX, event.clientY]); });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerdown", (event) => { this.pressed = [event.clientX, event.clientY]; });
    canvas.addEventListener("click", (event) => {
      if (!this.view || Math.hypot(event.clientX - this.pressed[0], event.clientY - this.pressed[1]) > CLICK_PX) return;
      const box = canvas.getBoundingClientRect(), at = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
      const picture = this.chosen ? this.findPicture(...at) : -1, point = picture < 0 && this.pick && this.find(...at);
      if (picture >= 0) this.chosen(picture);
      if (point) this.pick(point);
    });
    canvas.addEventListener("dblclick", (event) => { // where clicks pick no points, it sets the middle of the turns
      const box = canvas.getBoundingClientRect(), point = !this.pick && this.view && this.find(event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
      if (!point) return;
      this.view.target = point;
      this.request();
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.request());
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  // positions: float32 (3 N); colors: uint8 (3 N); unit: of a length; lines: [{ points: [[x, y, z], ...], color: [r, g, b] }];
  // cameras: as `frustumOf`; keepsView: the view stays; ground: plane [nx, ny, nz, offset] for a grid, or null; pitch: angle
  // between neighboring points of one picture at the origin, whose gaps are then filled, or 0; grain: distance between neighboring points of several
  // pictures, or 0; radius: of a scene around a
  // center, by default the origin, or 0 for one in front of a camera there.
  show(positions, colors, unit, { lines = [], cameras = [], keepsView = false, ground = null, pitch = 0, grain = 0, radius = 0, center = null } = {}) {
    Object.assign(this, { positions, pitch, grain, packed: packColors(colors), count: positions.length / 3, unit, times: [], step: 1 });
    const depths = [];
    for (let i = 0; i < this.count; i += Math.max(Math.floor(this.count / 1000), 1)) depths.push(positions[3 * i + 2]);
    depths.sort((a, b) => a - b);
    this.middle = radius || depths[Math.floor(depths.length / 2)] || 1;
    this.center = center ?? (radius ? [0, 0, 0] : [0, 0, this.middle]);
    const axes = AXES.map(([, to, color]) => ({ points: [[0, 0, 0], to.map((step) => (step * this.middle) / 5)], color }));
    this.lines = [...(ground ? makeGrid(ground, this.middle) : []), ...axes, ...lines].filter(({ points }) => points.length > 1).map(makeLine);
    this.showCameras(cameras);
    if (!keepsView || !this.view) {
      this.reset();
      this.orbit();
    }
  }

  showCameras(cameras) {
    this.cameras = cameras.map((camera) => makeLine(frustumOf(camera, this.middle / (cameras.length > 1 ? 18 : 5))));
    this.request();
  }

  // The pictures of cameras, as `makePicture`, in their frusta; chosen: called with the number of one that was clicked.
  showPictures(cameras, chosen) {
    this.pictures = cameras.map((camera) => makePicture(camera, this.middle / 12));
    this.chosen = chosen;
    this.request();
  }

  // The number of the nearest picture at pixels right of and below the middle of the canvas, or -1.
  findPicture(x, y) {
    const rows = projectionOf(this.view, this.canvas.clientHeight), near = this.view.distance / 500;
    let found = -1, best = Infinity;
    for (const [number, { corners }] of this.pictures.entries()) {
      const seen = [1, 2, 4, 5].map((at) => rows.map(([a, b, c, d]) => a * corners[at][0] + b * corners[at][1] + c * corners[at][2] + d)); // a, b, c, d of the frustum
      const flat = [seen[0], seen[1], seen[2], seen[3]].map(([px, py, depth]) => [px / depth - x, py / depth - y]);
      const sides = flat.map(([px, py], at) => { const [qx, qy] = flat[(at + 1) % 4]; return Math.sign(px * qy - py * qx); });
      const depth = seen.reduce((sum, one) => sum + one[2], 0) / 4;
      if (seen.every((one) => one[2] > near) && sides.every((side) => side === sides[0]) && depth < best) [best, found] = [depth, number];
    }
    return found;
  }

  // marks: [{ points: [[x, y, z], ...], text }], lines with a label.
  showMarks(marks) {
    this.marks = marks.map((mark) => ({ ...mark, points: mark.points.length > 1 ? mark.points : [...mark.points, ...mark.points] }));
    this.request();
  }

  // The nearest point at pixels right of and below the middle of the canvas.
  find(x, y) {
    const [px, py, pz] = projectionOf(this.view, this.canvas.clientHeight), near = this.view.distance / 500;
    const at = ([a, b, c, d], i) => a * this.positions[i] + b * this.positions[i + 1] + c * this.positions[i + 2] + d;
    let found = -1, best = Infinity;
    for (let i = 0; i < 3 * this.count; i += 3) {
      const depth = at(pz, i);
      if (!(depth > near)) continue;
      const apart = Math.hypot(at(px, i) / depth - x, at(py, i) / depth - y);
      if (apart > PICK_PX) continue;
      const score = depth * (1 + 0.02 * apart); // near ones hide far ones
      if (score < best) [best, found] = [score, i];
    }
    return found < 0 ? null : [...this.positions.subarray(found, found + 3)];
  }

  // Swing slowly once, to show that it is in 3D; any input ends it.
  orbit() {
    if (!this.pick || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const begun = performance.now(), { yaw } = this.view, view = this.view;
    const step = () => {
      const share = (performance.now() - begun) / ORBIT_MS;
      if (this.view !== view || this.isTouched || document.hidden) return;
      this.view.yaw = yaw + 0.3 * Math.sin(2 * Math.PI * Math.min(share, 1));
      this.request(share < 1);
      if (share < 1) requestAnimationFrame(step);
    };
    this.isTouched = false;
    requestAnimationFrame(step);
  }

  // From behind the camera, to its left and above.
  reset() {
    const shape = this.canvas.clientWidth / this.canvas.clientHeight || WIDE; // a narrow canvas sees less from left to right
    this.view = { target: [...this.center], yaw: Math.PI / 12, pitch: Math.PI / 12, distance: 1.55 * this.middle * Math.max(WIDE / shape, 1) };
    this.request();
  }

  // From where the picture was taken.
  look() {
    this.view = { target: [0, 0, this.middle], yaw: 0, pitch: 0, distance: this.middle };
    this.request();
  }

  // Through a camera of the scene, or from behind and above it: T, rows of T_world_camera; back: how far, in radii of the
  // scene. The view stays upright.
  lookThrough({ T, back = 0 }) {
    const forward = T.map((row) => row[2]), ahead = this.middle * (back ? 0.6 : 1), target = T.map((row) => row[3] + ahead * row[2] + 0.5 * back * this.middle * row[1]);
    this.view = { target, yaw: Math.atan2(forward[0], forward[2]), pitch: Math.asin(Math.max(-1, Math.min(1, forward[1]))) + 0.6 * back, distance: ahead + back * this.middle };
    this.request();
  }

  turn(yaw, pitch) {
    this.view.yaw += yaw;
    this.view.pitch = Math.min(Math.max(this.view.pitch + pitch, -1.5), 1.5);
    this.move();
  }

  zoom(factor) {
    this.view.distance = Math.min(Math.max(this.view.distance * factor, this.middle / 20), this.middle * 20);
    this.move();
  }

  // Draw points larger or smaller by a factor.
  resize(factor) {
    this.size = Math.min(Math.max(this.size * factor, 0.25), 4);
    this.request();
  }

  pan(x, y) {
    const step = this.view.distance / (FOCAL * this.canvas.clientHeight), [right, down] = rotationOf(this.view);
    this.view.target = this.view.target.map((value, axis) => value - step * (x * right[axis] + y * down[axis]));
    this.move();
  }

  // Move through the scene, in steps to the right, down and ahead.
  fly(...steps) {
    const rows = rotationOf(this.view), step = this.view.distance / 20;
    this.view.target = this.view.target.map((value, axis) => value + step * steps.reduce((sum, count, row) => sum + count * rows[row][axis], 0));
    this.move();
  }

  press(event) {
    const keys = {
      w: () => this.fly(0, 0, 1), s: () => this.fly(0, 0, -1), a: () => this.fly(-1, 0, 0), d: () => this.fly(1, 0, 0), q: () => this.fly(0, 1, 0), e: () => this.fly(0, -1, 0),
      "[": () => this.resize(0.8), "]": () => this.resize(1.25),
      ArrowLeft: () => this.turn(-0.1, 0), ArrowRight: () => this.turn(0.1, 0), ArrowUp: () => this.turn(0, -0.1),
      ArrowDown: () => this.turn(0, 0.1), "+": () => this.zoom(0.9), "-": () => this.zoom(1 / 0.9), 0: () => this.reset(),
      Enter: () => { const point = this.pick && this.find(0, 0); if (point) this.pick(point); },
    };
    if (!keys[event.key] || !this.view || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.view) return;
    const [x, y] = [event.clientX - before[0], event.clientY - before[1]];
    const others = [...this.pointers].filter(([key]) => key !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (others.length) {
      const span = (place) => Math.max(Math.hypot(place[0] - others[0][0], place[1] - others[0][1]), 1);
      this.zoom(span(before) / span([event.clientX, event.clientY]));
      this.pan(x / 2, y / 2);
    } else if (event.shiftKey || event.buttons === 4) this.pan(x, y);
    else this.turn(x / 200, y / 200);
  }

  move() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.request(false), REST_MS);
    this.request(true);
  }

  request(isMoving = false) {
    this.isMoving = isMoving;
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; this.draw(); });
  }

  draw() {
    const { canvas, context, isMoving } = this, ratio = Math.min(devicePixelRatio || 1, isMoving ? 1 : MAX_PIXEL_RATIO);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height || !this.view) return;
    if (!this.raster || canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      this.image = context.createImageData(width, height);
      this.raster = { width, height, pixels: new Uint32Array(this.image.data.buffer), depths: new Float32Array(width * height) };
    }
    const begun = performance.now(), step = isMoving ? this.step : 1, drawn = Math.ceil(this.count / step), near = this.view.distance / 500;
    for (let row = 0; row < height; row++) {
      const color = BACKGROUND[0].map((value, channel) => value + (BACKGROUND[1][channel] - value) * row / height);
      this.raster.pixels.fill(packColors(color)[0], row * width, (row + 1) * width);
    }
    this.raster.depths.fill(Infinity);
    const size = Math.sqrt((COVER[isMoving ? "moving" : "resting"] * width * height) / Math.max(drawn, 1)), projection = projectionOf(this.view, height);
    const drawnPx = Math.min(Math.max(Math.round(this.size * Math.min(Math.max(size, 1), LARGEST_PX * ratio)), 1), 2 * LARGEST_ROUND_PX), filled = this.size * ROUND * FOCAL * height * Math.sqrt(step), spread = filled * this.pitch, grain = filled * this.grain;
    drawPoints(this.raster, projection, this.positions, this.packed, spread || grain ? Math.round(2 * ratio) : drawnPx, step, near, spread, Math.round(LARGEST_ROUND_PX * ratio), grain);
    for (const { positions, packed } of [...this.lines, ...this.cameras]) drawPoints(this.raster, projection, positions, packed, Math.round(LINE_PX * ratio), 1, near);
    for (const { positions, packed, grain: apart } of this.pictures) drawPoints(this.raster, projection, positions, packed, 1, 1, near, 0, LARGEST_ROUND_PX, 1.5 * FOCAL * height * apart);
    canvas.dataset.hidden = this.marks.reduce((sum, { points }) => sum + drawMark(this.raster, projection, points, ratio, near), 0);
    context.putImageData(this.image, 0, 0);
    const taken = [];
    for (const mark of this.marks) this.drawLabel(mark, projection, ratio, taken);
    if (this.pick && canvas.matches(":focus-visible")) this.drawCross(ratio);
    canvas.dataset.drawn = drawn;
    if (isMoving) this.measure(performance.now() - begun);
    else this.report();
  }

  drawLabel({ points, text }, [px, py, pz], ratio, taken) {
    const { context, canvas } = this, middle = [0, 1, 2].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
    const at = ([a, b, c, d]) => a * middle[0] + b * middle[1] + c * middle[2] + d, depth = at(pz);
    if (!text || !(depth > 0)) return;
    context.font = `600 ${13 * ratio}px sans-serif`;
    const place = placeLabel([at(px) / depth + canvas.width / 2, at(py) / depth + canvas.height / 2 + 6 * ratio], [context.measureText(text).width + 10 * ratio, 19 * ratio], canvas, taken);
    if (!place) return;
    const [x, y, width] = place;
    taken.push(place);
    context.fillStyle = "#fff";
    context.beginPath();
    context.roundRect(x - width / 2, y, width, 19 * ratio, 5 * ratio);
    context.fill();
    context.fillStyle = "#000";
    context.fillText(text, x - width / 2 + 5 * ratio, y + 14 * ratio);
  }

  // Where Enter picks a point: the middle of the view, shown while the keyboard is used.
  drawCross(ratio) {
    const { context, canvas } = this, [x, y, size] = [canvas.width / 2, canvas.height / 2, 9 * ratio];
    for (const [style, width] of [["#000", 4], ["#fff", 2]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: width * ratio });
      context.beginPath();
      for (const [dx, dy] of [[size, 0], [0, size]]) { context.moveTo(x - dx, y - dy); context.lineTo(x + dx, y + dy); }
      context.stroke();
    }
  }

  measure(drawMs) {
    this.times.push(drawMs);
    if (this.times.length < MEASURED_FRAMES) return;
    const median = this.times.sort((a, b) => a - b)[Math.floor(MEASURED_FRAMES / 2)], most = Math.max(Math.floor(this.count / MIN_POINTS), 1);
    this.canvas.dataset.drawMs = median.toFixed(1);
    this.times = [];
    if (median > MAX_DRAW_MS) this.step = Math.min(Math.ceil(this.step * Math.min(median / MAX_DRAW_MS, 3)), most);
    else if (this.step > 1 && (median * this.step) / (this.step - 1) < 0.8 * MAX_DRAW_MS) this.step -= 1;
  }

  report() {
    const all = this.count.toLocaleString("en"), part = Math.ceil(this.count / this.step).toLocaleString("en");
    const drawn = this.step > 1 ? `${all} points; ${part} of them while they turn, for a smoother motion` : `${all} points`;
    const keys = this.pick ? "Keys: arrows turn, Enter picks the point at the cross" : "A double click sets the middle of the turns. Keys: arrows turn, W A S D Q E fly, [ ] size of the points, 0 overview";
    this.describe(`Drag turns; once clicked, the wheel zooms. ${keys}. ${drawn}. Axes: x right orange, y down green, z forward blue, ${(this.middle / 5).toPrecision(2)} ${this.unit} long.`);
  }
}
