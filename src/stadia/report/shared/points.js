// Points in 3D by WebGL, of report and app: drag turns, wheel and pinch zoom, arrow keys turn. Where a machine draws them
// slowly, fewer are drawn while they turn.

const MIN_RATE_HZ = 30, MEASURED_FRAMES = 4, MIN_POINTS = 20000, REST_MS = 250, POINT_PX = 2, LARGEST_PX = 5;
const BACKGROUND = [0.078, 0.082, 0.09, 1], MAX_PIXEL_RATIO = 2, FOCAL = 1.3; // focal length in heights of the canvas
const AXES = [["x right", [1, 0, 0], [230, 159, 0]], ["y down", [0, 1, 0], [0, 158, 115]], ["z forward", [0, 0, 1], [86, 180, 233]]];
export const AXES_TEXT = "Axes: x right (orange), y down (green), z forward (blue)";
const VERTEX = "attribute vec3 position, color; uniform mat4 clip; uniform float size; varying vec3 shown;" +
  "void main() { gl_Position = clip * vec4(position, 1.0); gl_PointSize = size; shown = color; }";
const FRAGMENT = "precision mediump float; varying vec3 shown; void main() { gl_FragColor = vec4(shown, 1.0); }";

// Rows of the rotation from the world, x right, y down, z forward, into the eye.
export function rotationOf({ yaw, pitch }) {
  const sy = Math.sin(yaw), cy = Math.cos(yaw), sp = Math.sin(pitch), cp = Math.cos(pitch);
  return [[cy, 0, -sy], [-sp * sy, cp, -sp * cy], [cp * sy, sp, cp * cy]];
}

// (16) by columns: from the world into the clip space of a canvas of a size.
export function clipMatrix(view, width, height) {
  const near = view.distance / 500, far = view.distance * 200, rows = rotationOf(view);
  const dot = (row) => row[0] * view.target[0] + row[1] * view.target[1] + row[2] * view.target[2];
  const [x, y, z] = rows.map((row, axis) => [...row, (axis === 2 ? view.distance : 0) - dot(row)]);
  const depth = (far + near) / (far - near), offset = (-2 * far * near) / (far - near);
  const scaled = [x.map((value) => (2 * FOCAL * height / width) * value), y.map((value) => -2 * FOCAL * value), z.map((value) => depth * value), z];
  scaled[2][3] += offset;
  return new Float32Array([0, 1, 2, 3].flatMap((column) => scaled.map((row) => row[column])));
}

export class CloudView {
  // describe: called with what is drawn. Throws where the browser has no WebGL.
  constructor(canvas, describe) {
    Object.assign(this, { canvas, describe, times: [], count: 0, shown: 0, lines: [], pointers: new Map() });
    this.context = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
    if (!this.context) throw new Error("This browser draws no points in 3D: it has no WebGL.");
    this.build();
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until the points were clicked
      event.preventDefault();
      this.zoom(Math.exp(Math.sign(event.deltaY) * 0.1));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.pointers.set(event.pointerId, [event.clientX, event.clientY]); });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.build(); if (this.given) this.show(...this.given); });
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  build() {
    const gl = this.context, program = (this.program = gl.createProgram());
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(...BACKGROUND);
    this.places = { clip: gl.getUniformLocation(program, "clip"), size: gl.getUniformLocation(program, "size") };
    this.cloud = this.makePart();
  }

  makePart() {
    return { position: this.context.createBuffer(), color: this.context.createBuffer() };
  }

  fill(part, positions, colors) {
    const gl = this.context;
    for (const [buffer, data] of [[part.position, positions], [part.color, colors]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    }
    return Object.assign(part, { count: positions.length / 3 });
  }

  // positions: float32 (3 N); colors: uint8 (3 N); unit: of a length; lines: [{ points: [[x, y, z], ...], color: [r, g, b] }].
  show(positions, colors, unit, lines = []) {
    this.given = [positions, colors, unit, lines];
    Object.assign(this, { count: positions.length / 3, unit, times: [] });
    const depths = [];
    for (let i = 0; i < this.count; i += Math.max(Math.floor(this.count / 1000), 1)) depths.push(positions[3 * i + 2]);
    depths.sort((a, b) => a - b);
    this.middle = depths[Math.floor(depths.length / 2)] || 1;
    const axes = AXES.map(([, to, color]) => ({ points: [[0, 0, 0], to.map((step) => (step * this.middle) / 5)], color }));
    this.fill(this.cloud, positions, colors);
    for (const part of this.lines) for (const buffer of [part.position, part.color]) this.context.deleteBuffer(buffer);
    this.lines = [...axes, ...lines].filter(({ points }) => points.length > 1).map(({ points, color }) =>
      this.fill(this.makePart(), new Float32Array(points.flat()), new Uint8Array(points.flatMap(() => color))));
    this.shown = this.count;
    this.reset();
  }

  // From behind the camera, to its left and above.
  reset() {
    this.view = { target: [0, 0, this.middle], yaw: Math.PI / 9, pitch: Math.PI / 9, distance: 2 * this.middle };
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

  pan(x, y) {
    const step = this.view.distance / (FOCAL * this.canvas.clientHeight), [right, down] = rotationOf(this.view);
    this.view.target = this.view.target.map((value, axis) => value - step * (x * right[axis] + y * down[axis]));
    this.move();
  }

  press(event) {
    const keys = {
      ArrowLeft: () => this.turn(-0.1, 0), ArrowRight: () => this.turn(0.1, 0), ArrowUp: () => this.turn(0, -0.1),
      ArrowDown: () => this.turn(0, 0.1), "+": () => this.zoom(0.9), "-": () => this.zoom(1 / 0.9), 0: () => this.reset(),
    };
    if (!keys[event.key] || !this.view) return;
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
    const { canvas, context: gl } = this, ratio = Math.min(devicePixelRatio || 1, MAX_PIXEL_RATIO);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height || !this.view) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const isMoving = this.isMoving, drawn = isMoving ? this.shown : this.count, begun = performance.now();
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(this.places.clip, false, clipMatrix(this.view, width, height));
    gl.uniform1f(this.places.size, ratio * Math.min(POINT_PX * Math.sqrt(this.count / Math.max(drawn, 1)), LARGEST_PX));
    this.drawPart(this.cloud, gl.POINTS, drawn);
    for (const part of this.lines) this.drawPart(part, gl.LINE_STRIP, part.count);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits until it is drawn
    canvas.dataset.drawn = drawn;
    if (isMoving) this.measure(performance.now() - begun);
    else this.report();
  }

  drawPart(part, kind, count) {
    const gl = this.context;
    for (const [name, type, isColor] of [["position", gl.FLOAT, false], ["color", gl.UNSIGNED_BYTE, true]]) {
      const place = gl.getAttribLocation(this.program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, part[name]);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, type, isColor, 0, 0);
    }
    gl.drawArrays(kind, 0, count);
  }

  measure(frameMs) {
    this.times.push(frameMs);
    if (this.times.length < MEASURED_FRAMES) return;
    const median = [...this.times].sort((a, b) => a - b)[Math.floor(this.times.length / 2)], limit = 1000 / MIN_RATE_HZ;
    this.canvas.dataset.frameMs = median.toFixed(1);
    this.times = [];
    const factor = Math.min(Math.max((0.8 * limit) / median, 0.3), 1.5);
    if (median > limit || median < limit / 2) this.shown = Math.min(Math.max(Math.floor(this.shown * factor), MIN_POINTS), this.count);
  }

  report() {
    const all = this.count.toLocaleString("en"), part = this.shown.toLocaleString("en");
    const drawn = this.shown < this.count ? `${all} points; ${part} of them while they turn, for a smoother motion` : `${all} points`;
    this.describe(`${drawn}. ${AXES_TEXT}, ${(this.middle / 5).toPrecision(2)} ${this.unit} long. Drag turns; once clicked, the wheel zooms.`);
  }
}
