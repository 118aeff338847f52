// Points in 3D. Where a machine draws them slowly, fewer are drawn while they turn, and the line below says so.

import { AxesHelper, BufferAttribute, BufferGeometry, Color, Line, LineBasicMaterial, PerspectiveCamera, Points, PointsMaterial, Scene, Vector3, WebGLRenderer, OrbitControls } from "./vendor/three.min.js";

const MIN_RATE_HZ = 30, MEASURED_FRAMES = 4, MIN_POINTS = 20000, REST_MS = 250, POINT_PX = 2, LARGEST_PX = 5;

export class CloudView {
  constructor(canvas, describe) {
    Object.assign(this, { canvas, describe, times: [], count: 0, shown: 0, due: false });
    this.renderer = new WebGLRenderer({ canvas, antialias: false, powerPreference: "high-performance" });
    this.scene = new Scene();
    this.scene.background = new Color(0x141517);
    this.camera = new PerspectiveCamera(50, 1, 0.001, 10000);
    this.camera.up.set(0, -1, 0); // y is down
    this.geometry = new BufferGeometry();
    this.material = new PointsMaterial({ size: 2, sizeAttenuation: false, vertexColors: true });
    this.points = new Points(this.geometry, this.material);
    this.points.frustumCulled = false;
    this.axes = new AxesHelper(1);
    this.path = new Line(new BufferGeometry(), new LineBasicMaterial({ color: 0xffc44d }));
    this.path.frustumCulled = false;
    this.scene.add(this.points, this.axes, this.path);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.addEventListener("change", () => this.move());
    canvas.addEventListener("keydown", (event) => this.turn(event));
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  show(bytes, unit, path = []) {
    this.count = bytes.byteLength / 15;
    this.unit = unit;
    const positions = new Float32Array(bytes, 0, 3 * this.count), colors = new Uint8Array(bytes, 12 * this.count, 3 * this.count);
    this.geometry.setAttribute("position", new BufferAttribute(positions, 3));
    this.geometry.setAttribute("color", new BufferAttribute(colors, 3, true));
    this.path.geometry.setAttribute("position", new BufferAttribute(new Float32Array(path.flat()), 3));
    const depths = [];
    for (let i = 0; i < this.count; i += Math.max(Math.floor(this.count / 1000), 1)) depths.push(positions[3 * i + 2]);
    depths.sort((a, b) => a - b);
    this.middle = depths[Math.floor(depths.length / 2)] || 1;
    this.axes.scale.setScalar(this.middle / 5);
    this.shown = this.count;
    this.times = [];
    this.reset();
  }

  reset() {
    this.camera.position.set(-0.25 * this.middle, -0.2 * this.middle, -0.35 * this.middle);
    this.camera.near = this.middle / 500;
    this.camera.far = this.middle * 100;
    this.controls.target.copy(new Vector3(0, 0, this.middle));
    this.controls.update();
    this.request();
  }

  turn(event) {
    const moves = { ArrowLeft: [-0.1, 0, 1], ArrowRight: [0.1, 0, 1], ArrowUp: [0, -0.1, 1], ArrowDown: [0, 0.1, 1], "+": [0, 0, 0.9], "-": [0, 0, 1 / 0.9] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const { target } = this.controls, away = this.camera.position.clone().sub(target), up = this.camera.up;
    away.applyAxisAngle(up, move[0]);
    const side = away.clone().cross(up).normalize(), turned = away.clone().applyAxisAngle(side, move[1]);
    if (Math.abs(turned.clone().normalize().dot(up)) < 0.98) away.copy(turned);
    this.camera.position.copy(target).add(away.multiplyScalar(move[2]));
    this.controls.update();
    this.request();
  }

  // While it turns, a part of the points is drawn; at rest all of them.
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
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const size = this.renderer.getSize({ set(x, y) { Object.assign(this, { x, y }); return this; } });
    if (size.x !== width || size.y !== height) {
      this.renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
    }
    const isMoving = this.isMoving, drawn = isMoving ? this.shown : this.count;
    this.geometry.setDrawRange(0, drawn);
    this.material.size = Math.min(POINT_PX * Math.sqrt(this.count / Math.max(drawn, 1)), LARGEST_PX);
    const begun = performance.now(), context = this.renderer.getContext();
    this.renderer.render(this.scene, this.camera);
    context.readPixels(0, 0, 1, 1, context.RGBA, context.UNSIGNED_BYTE, new Uint8Array(4)); // waits until it is drawn
    this.canvas.dataset.drawn = drawn;
    if (isMoving) this.measure(performance.now() - begun);
    else this.report();
  }

  measure(frameMs) {
    this.times.push(frameMs);
    if (this.times.length < MEASURED_FRAMES) return;
    const median = [...this.times].sort((a, b) => a - b)[Math.floor(this.times.length / 2)], limit = 1000 / MIN_RATE_HZ;
    this.canvas.dataset.frameMs = median.toFixed(1);
    this.times = [];
    const factor = Math.min(Math.max(0.8 * limit / median, 0.3), 1.5);
    if (median > limit || median < limit / 2) this.shown = Math.min(Math.max(Math.floor(this.shown * factor), MIN_POINTS), this.count);
  }

  report() {
    const all = this.count.toLocaleString("en"), part = this.shown.toLocaleString("en");
    const drawn = this.shown < this.count ? `${all} points; ${part} of them while they turn, for a smoother motion` : `${all} points`;
    this.describe(`${drawn}. Axes: x right (red), y down (green), z forward (blue), ${(this.middle / 5).toPrecision(2)} ${this.unit} long. Drag turns, the wheel zooms.`);
  }
}
