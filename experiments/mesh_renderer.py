r"""Render triangles of `mesh_assets.py` with OpenGL: color, z and a mask of people.

A scene is a list of instances: a range of triangles with its own matrix, color and texture. All are drawn by one
call. Colors are drawn at twice the size and averaged; z is taken at the middle of each pixel. There is one light with
a shadow map, one lamp, ambient light with occlusion, haze, and a sky. The last pass adds exposure, motion blur,
flare and vignetting.

World frame: metres, y up, right-handed. z of an image is the distance along the optical axis, 0 for the sky.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, no-any-return"

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]

INSTANCE_VALUES = 24
"""Of an instance: matrix (3, 4) by rows, RGB and layer of the texture (-1: none), metres of a tile (0: own uv),
swelling in metres, flags (1: person, 2: emits light, 4: clipped), gloss; least and greatest v, greatest u, 0."""

SHADOW_SIDE = 1024
NEAR_M, FAR_M = 0.04, 900.0


@dataclass
class Assets:
    """All vertices and triangles. models: first part and number of parts of each; parts: first index, count, layer."""

    vertices: Array
    indices: Array
    parts: Array
    bases: Array
    first_part: Array
    part_count: Array
    sizes: Array
    classes: list[str]
    names: list[str]
    layers: Array
    surfaces: dict[str, Array]
    body_sizes: Array
    body_bases: Array
    body_labels: dict[str, tuple[int, int]]
    body_poses: list[str]
    primitives: dict[str, int] = field(default_factory=dict)
    terrain: Array = field(default_factory=lambda: np.zeros((0, 0)))


def decode_normals(octahedral: Array) -> Array:
    """Return normals (V, 3) of octahedral ones (V, 2) int8."""
    e = octahedral.astype(np.float32) / 127
    z = 1 - np.abs(e).sum(1, keepdims=True)
    folded = (1 - np.abs(e[:, ::-1])) * np.where(e >= 0, 1, -1)
    n = np.concatenate([np.where(z >= 0, e, folded), z], 1)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-6)


def body_normals(bodies: Array, triangles: Array) -> Array:
    """Return normals (N, V, 3) of bodies that share their triangles."""
    count = bodies.shape[1]
    rows = triangles.T.reshape(-1)
    columns = np.tile(np.arange(len(triangles)), 3)
    gather = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, len(triangles)))
    normals = np.empty_like(bodies)
    for body, out in zip(bodies, normals, strict=True):
        a, b, c = (body[triangles[:, i]] for i in range(3))
        out[:] = gather @ np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-9)


def make_primitives(random: np.random.Generator) -> dict[str, tuple[Array, Array, Array, Array]]:
    """Return name -> vertices, normals, uv and triangles of a unit box, ball, cylinder and three terrains."""
    found: dict[str, tuple[Array, Array, Array, Array]] = {}
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    vertices, normals, triangles = [], [], []
    for axis in range(3):
        for sign in (-1, 1):
            side = np.full((4, 3), 0.5 * sign)
            side[:, [(axis + 1) % 3, (axis + 2) % 3]] = square
            vertices.append(side)
            normals.append(np.tile(np.eye(3)[axis] * sign, (4, 1)))
            triangles += [[len(vertices) * 4 - 4 + i for i in row] for row in ((0, 1, 2), (0, 2, 3))]
    box = np.concatenate(vertices)
    found["box"] = (
        box + np.array([0, 0.5, 0]),
        np.concatenate(normals),
        np.tile(square + 0.5, (6, 1)),
        np.array(triangles),
    )

    def grid(points: Array, normals: Array, uv: Array) -> tuple[Array, Array, Array, Array]:
        rows, columns = points.shape[:2]
        i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
        corner = (i * columns + j).reshape(-1)
        faces = np.stack([corner, corner + 1, corner + columns, corner + 1, corner + columns + 1, corner + columns], 1)
        return points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces.reshape(-1, 3)

    v, u = np.meshgrid(np.linspace(0, 1, 13), np.linspace(0, 1, 25), indexing="ij")
    ball = np.stack(
        [np.sin(np.pi * v) * np.cos(2 * np.pi * u), np.cos(np.pi * v), np.sin(np.pi * v) * np.sin(2 * np.pi * u)], -1
    )
    found["ball"] = grid(ball / 2 + [0, 0.5, 0], ball, np.stack([u, v], -1))
    radius, level = np.array([0, 0.5, 0.5, 0.5, 0.5, 0]), np.array([0, 0, 0, 1, 1, 1.0])
    turn = np.linspace(0, 2 * np.pi, 21)
    ring = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], -1)
    tube = ring[None] * radius[:, None, None] + np.array([0, 1, 0]) * level[:, None, None]
    up = np.array([0, 1.0, 0])
    bent = np.stack([0 * ring - up, 0 * ring - up, ring, ring, 0 * ring + up, 0 * ring + up])
    found["cylinder"] = grid(tube, bent, np.stack(np.meshgrid(np.linspace(0, 1, 21), level), -1))
    for number in range(3):
        noise = sum(
            cv2.resize(random.normal(0, 1 / n, (n, n)), (97, 97), interpolation=cv2.INTER_CUBIC) for n in (5, 9, 17, 33)
        )
        height = (noise - np.median(noise)) / noise.std() * 0.25
        x, z = np.meshgrid(np.linspace(-0.5, 0.5, 97), np.linspace(-0.5, 0.5, 97))
        slope_z, slope_x = np.gradient(height, 1 / 96)
        normal = np.stack([-slope_x * 0.02, np.ones_like(x), -slope_z * 0.02], -1)
        found[f"terrain{number}"] = grid(np.stack([x, height, z], -1), normal, np.stack([x, z], -1))
    return found


def load_assets(path: Path) -> Assets:
    """Read the file of mesh_assets.py, and add the primitives."""
    file = np.load(path, allow_pickle=False)
    text = json.loads(str(file["text"]))
    counts, table = file["vertices"].astype(int), file["part_table"]
    owner = np.repeat(np.arange(len(counts)), counts)
    position = np.add.accumulate(file["position"], axis=1, dtype=np.uint16).T / 65535
    rows = [
        np.concatenate(
            [position * file["size"][owner] + file["low"][owner], decode_normals(file["normal"].T), file["uv"].T], 1
        )
    ]
    bases = np.concatenate([[0], np.cumsum(counts)[:-1]])
    indices = [file["index"].astype(np.uint32)]
    parts = table[:, [0, 1, 2, 4, 5, 6]].tolist()
    first, number = file["first_part"].tolist(), file["parts"].tolist()
    sizes, names, classes = file["size"].tolist(), list(text["names"]), list(text["classes"])
    base_list, total, total_index = bases.tolist(), int(counts.sum()), len(indices[0])
    primitives, terrain = {}, []
    for name, (vertices, normals, uv, triangles) in make_primitives(np.random.default_rng(7)).items():
        primitives[name] = len(names)
        rows.append(np.concatenate([vertices, normals, uv], 1))
        indices.append(triangles.reshape(-1).astype(np.uint32))
        first.append(len(parts))
        number.append(1)
        parts.append([total_index, triangles.size, -1, 1, 1, 1])
        base_list.append(total)
        total, total_index = total + len(vertices), total_index + triangles.size
        sizes.append([1, 1, 1])
        names.append(name)
        classes.append("primitive")
        if name.startswith("terrain"):
            terrain.append(vertices[:, 1].reshape(97, 97))
    quantised = np.add.accumulate(file["body_position"], axis=2, dtype=np.uint16).transpose(1, 2, 0)
    bodies = (quantised / 65535 * file["body_size"][:, None] + file["body_low"][:, None]).astype(np.float32)
    labels, triangles = file["body_labels"], file["body_triangles"].astype(int)
    order = np.argsort(labels, kind="stable")
    triangles, labels = triangles[order], labels[order]
    body_labels = {}
    for label, name in enumerate(text["labels"]):
        own = np.flatnonzero(labels == label)
        body_labels[name] = (total_index + 3 * int(own[0]), 3 * len(own)) if len(own) else (total_index, 0)
    indices.append(triangles.reshape(-1).astype(np.uint32))
    normals = body_normals(bodies, triangles)
    hems = np.broadcast_to(file["body_field"].astype(np.float32), (*bodies.shape[:2], 2))
    rows.append(np.concatenate([bodies, normals, hems], 2).reshape(-1, 8))
    ends, data = file["texture_end"], file["texture"]
    starts = np.concatenate([[0], ends[:-1]])
    layers = []
    for a, b in zip(starts, ends, strict=True):
        image = np.asarray(cv2.imdecode(data[a:b], cv2.IMREAD_UNCHANGED))
        layers.append(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGBA))
    groups = np.array(text["surfaces"])
    return Assets(
        vertices=np.concatenate(rows).astype(np.float32),
        indices=np.concatenate(indices),
        parts=np.array(parts),
        bases=np.array(base_list),
        first_part=np.array(first),
        part_count=np.array(number),
        sizes=np.array(sizes),
        classes=classes,
        names=names,
        layers=np.stack(layers),
        surfaces={str(name): np.flatnonzero(groups == name) for name in np.unique(groups)},
        body_sizes=file["body_size"],
        body_bases=total + np.arange(len(bodies)) * bodies.shape[1],
        body_labels=body_labels,
        body_poses=[text["poses"][i] for i in file["body_poses"]],
        primitives=primitives,
        terrain=np.stack(terrain),
    )


HEAD = """#version 430
uniform sampler2DArray layers;
float noise(vec3 p) {
    vec3 i = floor(p), f = fract(p); f = f * f * (3 - 2 * f); float s = 0;
    for (int k = 0; k < 8; k++) {
        vec3 o = vec3(k & 1, (k >> 1) & 1, k >> 2), c = i + o;
        float h = fract(sin(dot(c, vec3(12.9898, 78.233, 37.719))) * 43758.5453);
        vec3 w = mix(1 - f, f, o); s += h * w.x * w.y * w.z;
    }
    return s;
}
"""

VERTEX = (
    HEAD
    + """
layout(location=0) in vec3 place; layout(location=1) in vec3 normal; layout(location=2) in vec2 uv;
layout(location=3) in vec4 row0; layout(location=4) in vec4 row1; layout(location=5) in vec4 row2;
layout(location=6) in vec4 paint; layout(location=7) in vec4 more;
layout(location=8) in vec4 hem;
uniform mat4 view; uniform mat4 projection;
out vec3 world; out vec3 local; out vec3 facing; out vec3 side; out vec2 mapped; out float depth;
flat out vec4 color; flat out vec4 extra; flat out vec4 clip;
void main() {
    mat3 M = transpose(mat3(row0.xyz, row1.xyz, row2.xyz));
    vec3 shift = vec3(row0.w, row1.w, row2.w);
    vec3 p = place;
    if (more.y > 0) p += normal * more.y * (0.35 + 1.3 * noise(place * 13 + shift * 7)) / length(M[1]);
    world = M * p + shift;
    local = place * vec3(length(M[0]), length(M[1]), length(M[2]));
    side = normal;
    facing = transpose(inverse(M)) * normal;
    mapped = uv;
    color = paint; extra = more; clip = hem;
    vec4 seen = view * vec4(world, 1);
    depth = -seen.z;
    gl_Position = projection * seen;
}
"""
)

SURFACE = (
    HEAD
    + """
in vec3 world; in vec3 local; in vec3 facing; in vec3 side; in vec2 mapped; in float depth;
flat in vec4 color; flat in vec4 extra; flat in vec4 clip;
vec4 albedo() {
    if ((int(extra.z) & 4) != 0 && (mapped.y < clip.x || mapped.y > clip.y || mapped.x > clip.z)) return vec4(0);
    if (color.w < 0) return vec4(color.rgb * (0.92 + 0.16 * noise(local * 60)), 1);
    vec2 t = vec2(mapped.x, 1 - mapped.y);
    if (extra.x > 0) {
        vec3 a = abs(side);
        vec2 level = a.x > a.z ? vec2(local.z, -local.y) : vec2(local.x, -local.y);
        t = (a.y > a.x && a.y > a.z ? local.xz : level) / extra.x;
    }
    vec4 c = texture(layers, vec3(t, color.w));
    return vec4(pow(c.rgb, vec3(2.2)) * color.rgb, c.a);
}
"""
)

COLOR = (
    SURFACE
    + """
uniform sampler2DShadow shadows; uniform mat4 to_shadow; uniform vec3 eye; uniform vec3 sun; uniform vec3 sun_color;
uniform vec3 above; uniform vec3 below; uniform vec4 lamp; uniform vec3 lamp_color; uniform vec4 haze;
out vec4 result;
void main() {
    vec4 a = albedo();
    if (a.a < 0.5) discard;
    vec3 to_eye = normalize(eye - world), n = normalize(facing);
    if (dot(n, to_eye) < 0) n = -n;
    vec4 s = to_shadow * vec4(world + n * 0.02, 1);
    vec3 c = s.xyz * 0.5 + 0.5;
    float lit = 0;
    for (int i = -1; i <= 1; i++) for (int j = -1; j <= 1; j++)
        lit += texture(shadows, vec3(c.xy + vec2(i, j) * 1.3 / 1024., c.z - 0.0012));
    lit = any(greaterThan(abs(s.xyz), vec3(1))) ? 1 : lit / 9;
    vec3 light = mix(below, above, n.y * 0.5 + 0.5) + sun_color * lit * max(dot(n, sun), 0);
    vec3 to_lamp = lamp.xyz - world;
    light += lamp_color * max(dot(n, normalize(to_lamp)), 0) / (0.3 + dot(to_lamp, to_lamp) * lamp.w);
    vec3 h = normalize(sun + to_eye);
    float shine = extra.w * pow(max(dot(n, h), 0), 40) * lit;
    vec3 seen = (int(extra.z) & 2) != 0 ? a.rgb * 3 : a.rgb * light + sun_color * shine;
    if (extra.w > 0.3) seen = mix(seen, above * 0.8, 0.35 * pow(1 - max(dot(n, to_eye), 0), 3));
    result = vec4(mix(haze.rgb, seen, exp(-haze.w * length(eye - world))), 1);
}
"""
)

DEPTH = (
    SURFACE
    + """
out vec2 result;
void main() { if (albedo().a < 0.5) discard; result = vec2(depth, int(extra.z) & 1); }
"""
)

SHADOW = SURFACE + "void main() { if (albedo().a < 0.5) discard; }"

SCREEN = """#version 430
in vec2 corner; out vec2 at;
void main() { at = corner * 0.5 + 0.5; gl_Position = vec4(corner, 0.9999999, 1); }
"""

SKY = (
    HEAD
    + """
in vec2 at; out vec4 result;
uniform mat3 turn; uniform vec2 tangent; uniform vec3 zenith; uniform vec3 horizon;
uniform vec3 sun; uniform vec3 sun_color;
uniform vec4 clouds;
void main() {
    vec3 d = normalize(turn * vec3((at * 2 - 1) * tangent, -1));
    vec3 c = mix(horizon, zenith, pow(clamp(d.y, 0, 1), 0.6));
    if (clouds.w >= 0) {
        vec2 t = vec2(atan(d.x, d.z) * clouds.y, 1 - clamp(d.y * 0.9 + 0.08, 0, 1));
        vec3 photo = pow(textureLod(layers, vec3(t, clouds.w), 0).rgb, vec3(2.2)) * clouds.z;
        c = mix(c, photo, clouds.x);
    } else if (d.y > 0.01) {
        vec3 p = vec3(d.xz / (d.y + 0.12) * 1.7, clouds.y * 50);
        float n = noise(p) * 0.5 + noise(p * 2.1) * 0.27 + noise(p * 4.3) * 0.15 + noise(p * 9) * 0.08;
        c = mix(c, vec3(length(horizon)) * 0.62, smoothstep(1 - clouds.x, 1.25 - clouds.x, n));
    }
    result = vec4(c + sun_color * pow(max(dot(d, sun), 0), 900), 1);
}
"""
)

POST = """#version 430
in vec2 at; out vec4 result;
uniform sampler2D picture; uniform sampler2D depths; uniform vec2 blur; uniform float exposure; uniform float vignette;
uniform vec4 flare; uniform float occlusion; uniform float pixel_per_z;
float hash(vec2 p) { return fract(sin(dot(p, vec2(12.9898, 78.233))) * 43758.5453); }
void main() {
    vec3 c = vec3(0);
    int taps = length(blur) > 0 ? 9 : 1;
    for (int i = 0; i < taps; i++) c += texture(picture, at + blur * (taps > 1 ? i / 8. - 0.5 : 0)).rgb;
    c /= taps;
    float z = texture(depths, at).r;
    if (occlusion > 0 && z > 0) {
        float sum = 0, angle = hash(at) * 6.28;
        for (int i = 0; i < 10; i++) {
            float r = (i + 0.7) / 10 * 0.22;
            angle += 2.4;
            vec2 o = vec2(cos(angle), sin(angle)) * clamp(r * pixel_per_z / z, 0.004, 0.12);
            float d = z - texture(depths, at + o).r;
            sum += clamp(d / (0.5 * r + 0.006 * z) , 0, 1) * smoothstep(3.5 * r + 0.02 * z, r, d);
        }
        c *= 1 - occlusion * sum / 10;
    }
    float mean = dot(textureLod(picture, vec2(0.5), 20).rgb, vec3(0.3, 0.5, 0.2));
    c *= exposure / max(mean, 1e-4);
    vec2 q = at - 0.5;
    c *= 1 - vignette * dot(q, q) * 2;
    if (flare.w > 0) {
        float d = length(at - flare.xy);
        c += flare.w * (vec3(1, 0.93, 0.8) * exp(-d * 9) + 0.35 * exp(-d * 2.2)
            + 0.25 * vec3(0.7, 1, 0.8) * smoothstep(0.07, 0.04, length(at - (1 - flare.xy) * 0.8 - 0.1)));
    }
    c = c / (1 + c * 0.35);
    result = vec4(pow(clamp(c, 0, 1), vec3(1 / 2.2)), 1);
}
"""


class Renderer:
    """An OpenGL context with all assets, for one process. size: height and width of the images."""

    def __init__(self, assets: Assets, size: tuple[int, int] = (384, 384), backend: str | None = "egl") -> None:
        import moderngl

        self.assets, self.size, self.names = assets, size, moderngl
        options = {"backend": backend} if backend else {}
        self.context = gl = moderngl.create_context(standalone=True, require=430, **options)
        height, width = size
        self.layers = gl.texture_array((*assets.layers.shape[2:0:-1], len(assets.layers)), 4, assets.layers.tobytes())
        self.layers.build_mipmaps()
        self.layers.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        # software rendering loops over the whole footprint
        self.layers.anisotropy = 1.0 if "llvmpipe" in gl.info["GL_RENDERER"] else 4.0
        vertices, indices = gl.buffer(assets.vertices.tobytes()), gl.buffer(assets.indices.tobytes())
        self.instances = gl.buffer(reserve=4 * INSTANCE_VALUES * 8192, dynamic=True)
        self.commands = gl.buffer(reserve=20 * 8192, dynamic=True)
        self.color_map = gl.texture((2 * width, 2 * height), 4, dtype="f2")
        self.color_map.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        self.color_map.repeat_x = self.color_map.repeat_y = False
        self.depth_map = gl.texture((width, height), 2, dtype="f4")
        self.depth_map.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self.depth_map.repeat_x = self.depth_map.repeat_y = False
        self.color_target = gl.framebuffer([self.color_map], gl.depth_renderbuffer((2 * width, 2 * height)))
        self.depth_target = gl.framebuffer([self.depth_map], gl.depth_renderbuffer((width, height)))
        self.result = gl.framebuffer([gl.texture((width, height), 4)])
        self.shadow_map = gl.depth_texture((SHADOW_SIDE, SHADOW_SIDE))
        self.shadow_map.compare_func = "<="
        self.shadow_map.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self.shadow_map.repeat_x = self.shadow_map.repeat_y = False
        self.shadow_target = gl.framebuffer(depth_attachment=self.shadow_map)
        corners = gl.buffer(np.array([[-1, -1], [3, -1], [-1, 3]], "f4").tobytes())
        self.programs = {
            name: gl.program(vertex_shader=VERTEX, fragment_shader=text)
            for name, text in (("color", COLOR), ("depth", DEPTH), ("shadow", SHADOW))
        }
        self.meshes = {}
        for name, program in self.programs.items():
            used = [
                (key, size) for key, size in zip(("place", "normal", "uv"), (3, 3, 2), strict=True) if key in program
            ]
            layout = " ".join(
                f"{n}f" if key in program else f"{4 * n}x" for key, n in (("place", 3), ("normal", 3), ("uv", 2))
            )
            rows = [key for key in ("row0", "row1", "row2", "paint", "more", "hem") if key in program]
            assert len(rows) == 6
            content = [(vertices, layout, *(key for key, _ in used)), (self.instances, "4f 4f 4f 4f 4f 4f/i", *rows)]
            self.meshes[name] = gl.vertex_array(program, content, index_buffer=indices, index_element_size=4)
        for name, text in (("sky", SKY), ("post", POST)):
            self.programs[name] = gl.program(vertex_shader=SCREEN, fragment_shader=text)
            self.meshes[name] = gl.vertex_array(self.programs[name], [(corners, "2f", "corner")])
        gl.enable(moderngl.DEPTH_TEST)

    def set(self, program: str, **values: Any) -> None:
        """Set uniforms; one that the compiler removed is left out."""
        for name, value in values.items():
            if name in self.programs[program]:
                self.programs[program][name].value = (
                    tuple(np.asarray(value, float).T.reshape(-1)) if np.ndim(value) else value
                )

    def load_scene(self, instances: Array, commands: Array) -> None:
        """Upload instances (N, INSTANCE_VALUES) and their commands (N, 5): count, 1, first index, first vertex, row."""
        count = min(len(instances), 8192)
        self.instances.write(np.ascontiguousarray(instances[:count], np.float32).tobytes())
        self.commands.write(np.ascontiguousarray(commands[:count], np.uint32).tobytes())
        self.count = count

    def render(
        self, look: dict[str, Any], T_world_camera: Array, focal: float, effects: dict[str, Any], casters: int
    ) -> tuple[Array, Array, Array]:
        """Return image (H, W, 3) uint8, z (H, W) float32 with 0 for the sky, and the mask of people (H, W).

        look: light and sky.  T_world_camera: (4, 4), x right, y up, -z forward.  focal: fx / width.
        casters: number of the first instances that cast a shadow.
        """
        height, width = self.size
        gl, moderngl = self.context, self.names
        view = np.linalg.inv(T_world_camera)
        a, b = (FAR_M + NEAR_M) / (NEAR_M - FAR_M), 2 * FAR_M * NEAR_M / (NEAR_M - FAR_M)
        projection = np.array(
            [[2 * focal, 0, 0, 0], [0, 2 * focal * width / height, 0, 0], [0, 0, a, b], [0, 0, -1, 0]]
        )
        eye, sun = T_world_camera[:3, 3], np.asarray(look["sun"], float)
        reach = look["reach"]
        middle = eye - T_world_camera[:3, 2] * reach * 0.7
        side = np.cross([0.0, 1.0, 0.01], sun)
        side /= np.linalg.norm(side)
        turn = np.stack([side, np.cross(sun, side), sun])
        to_shadow = np.eye(4)
        to_shadow[:3, :3] = turn / np.array([[reach], [reach], [-4 * reach]])
        to_shadow[:3, 3] = -to_shadow[:3, :3] @ middle
        self.layers.use(0)
        self.shadow_map.use(1)
        gl.enable(moderngl.DEPTH_TEST)
        self.shadow_target.use()
        self.shadow_target.clear(depth=1.0)
        self.set("shadow", view=np.eye(4), projection=to_shadow, layers=0)
        self.meshes["shadow"].render_indirect(self.commands, count=min(casters, self.count))
        self.color_target.use()
        self.color_target.clear(depth=1.0)
        lights = {key: look[key] for key in ("sun", "sun_color", "above", "below", "lamp", "lamp_color", "haze")}
        self.set("color", view=view, projection=projection, to_shadow=to_shadow, eye=eye, layers=0, shadows=1, **lights)
        self.meshes["color"].render_indirect(self.commands, count=self.count)
        tangent = (0.5 / focal, 0.5 / focal * height / width)
        sky = {key: look[key] for key in ("zenith", "horizon", "clouds", "sun", "sun_color")}
        gl.depth_func = "<="
        self.set("sky", turn=T_world_camera[:3, :3], tangent=tangent, layers=0, **sky)
        self.meshes["sky"].render(moderngl.TRIANGLES)
        gl.depth_func = "<"
        self.color_map.build_mipmaps()
        self.depth_target.use()
        self.depth_target.clear(depth=1.0)
        self.set("depth", view=view, projection=projection, layers=0)
        self.meshes["depth"].render_indirect(self.commands, count=self.count)
        depth = np.frombuffer(self.depth_map.read(), np.float32).reshape(height, width, 2)[::-1]
        gl.disable(moderngl.DEPTH_TEST)
        self.result.use()
        self.color_map.use(0)
        self.depth_map.use(1)
        self.set("post", picture=0, depths=1, pixel_per_z=focal, **effects)
        self.meshes["post"].render(moderngl.TRIANGLES)
        image = np.frombuffer(self.result.read(components=3), np.uint8).reshape(height, width, 3)[::-1]
        return image, depth[..., 0], depth[..., 1] > 0.5
