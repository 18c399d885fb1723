// Points in two or three dimensions by WebGL: turned, moved, enlarged, pointed at, and chosen by a lasso or a box.
// What is drawn and what is hit are projected by the same matrix, so that a lasso in 3-D takes what the eye sees in it.
const VERTEX = `#version 300 es
in vec3 place; in vec4 colour; in float chosen;
uniform mat4 matrix; uniform float size; uniform float dim;
out vec4 shade; out float ring;
void main() {
  gl_Position = matrix * vec4(place, 1.0);
  gl_PointSize = size * (chosen > 0.5 ? 1.55 : 1.0) / gl_Position.w;
  shade = vec4(colour.rgb, chosen > 0.5 ? 1.0 : colour.a * dim);
  ring = chosen;
  if (colour.a == 0.0) gl_Position = vec4(9.0, 9.0, 9.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade; in float ring; uniform vec3 edge; out vec4 drawn;
void main() {
  float far = length(gl_PointCoord - 0.5) * 2.0;
  if (far > 1.0 || shade.a < 0.02) discard;
  vec3 own = ring > 0.5 && far > 0.68 ? edge : shade.rgb;
  drawn = vec4(own, 1.0) * (shade.a * smoothstep(1.0, 0.82, far));
}`;

const STILL = 160; // milliseconds after which nothing moves any more
const SLOW = 34; // of a frame
const FEW = 5000; // points that any machine draws

export class Points {
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: true, premultipliedAlpha: true });
    if (!gl) throw new Error("This browser draws no WebGL 2, which the map needs. The gallery shows the same items.");
    this.gl = gl;
    this.program = this.#built();
    this.buffers = { place: gl.createBuffer(), colour: gl.createBuffer(), chosen: gl.createBuffer() };
    this.count = 0;
    this.size = 5;
    this.dark = false;
    this.solid = false; // three dimensions
    this.extent = [2, 2, 2];
    this.radius = 1;
    this.share = 1; // of the points, drawn while they move: so many that it goes smoothly
    this.moved = 0;
    this.last = 0;
    this.screen = new Float32Array(0);
    this.reset();
  }

  #built() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  // places: Float32Array of n × 3, in any units: fitted into -1..1 with one scale for all axes.
  place(places) {
    this.count = places.length / 3;
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (let at = 0; at < places.length; at++) {
      const axis = at % 3;
      if (places[at] < low[axis]) low[axis] = places[at];
      if (places[at] > high[axis]) high[axis] = places[at];
    }
    const scale = 2 / Math.max(...high.map((each, axis) => each - low[axis]), 1e-9);
    this.places = new Float32Array(places.length);
    for (let at = 0; at < places.length; at++) {
      const axis = at % 3;
      this.places[at] = (places[at] - (low[axis] + high[axis]) / 2) * scale;
    }
    this.radius = 0.01; // of the ball that holds them all, however they are turned
    for (let at = 0; at < this.places.length; at += 3) this.radius = Math.max(this.radius, Math.hypot(this.places[at], this.places[at + 1], this.places[at + 2]));
    this.extent = high.map((each, axis) => Math.max((each - low[axis]) * scale, 0.02));
    this.screen = new Float32Array(this.count * 3);
    this.#fill("place", this.places);
    this.paint(new Uint8Array(this.count * 4).fill(160));
    this.choose(new Uint8Array(this.count));
  }

  // colours: Uint8Array of n × 4; alpha 0 hides a point.
  paint(colours) {
    this.colours = colours;
    this.#fill("colour", colours);
  }

  choose(chosen) {
    this.chosen = chosen;
    this.any = chosen.includes(1);
    this.#fill("chosen", chosen);
  }

  #fill(name, data) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    this.draw();
  }

  reset() {
    Object.assign(this, { turn: 0.6, tilt: 0.45, zoom: 1, shift: [0, 0] });
    this.draw();
  }

  // Column by column, as WebGL has it.
  matrix() {
    const aspect = this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
    const fit = this.zoom * 0.92;
    const [dx, dy] = this.shift;
    let wide = aspect > 1 ? fit / aspect : fit;
    let tall = aspect > 1 ? fit : fit * aspect;
    if (!this.solid) {
      // as large as both axes let it be, a unit as wide as it is tall
      const [across, up] = this.extent;
      wide = 2 * fit * Math.min(1 / across, 1 / (up * aspect));
      tall = wide * aspect;
    }
    if (!this.solid) return new Float32Array([wide, 0, 0, 0, 0, tall, 0, 0, 0, 0, 0.001, 0, dx, dy, 0, 1]);
    const [ca, sa, cb, sb] = [Math.cos(this.turn), Math.sin(this.turn), Math.cos(this.tilt), Math.sin(this.tilt)];
    // turned about the upright axis, then tilted, then seen from 3.2 away
    const x = [ca, 0, -sa], y = [sa * sb, cb, ca * sb], z = [sa * cb, -sb, ca * cb];
    const near = 3.2, ball = Math.sqrt(1 - (this.radius / near) ** 2) / this.radius, made = new Float32Array(16);
    for (let axis = 0; axis < 3; axis++) {
      made[axis * 4] = x[axis] * wide * ball - dx * z[axis] / near;
      made[axis * 4 + 1] = y[axis] * tall * ball - dy * z[axis] / near;
      made[axis * 4 + 2] = -z[axis] * 0.3;
      made[axis * 4 + 3] = -z[axis] / near;
    }
    made[12] = dx;
    made[13] = dy;
    made[15] = 1;
    return made;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.#drawn();
    });
  }

  // Points come in the order of their ids, which is none: the first of them are as good a part as any.
  #some() {
    const now = performance.now();
    const moving = now - this.moved < STILL;
    if (moving) {
      const took = now - this.last;
      if (took > SLOW && took < STILL) this.share = Math.max(0.05, this.share * 0.75);
      else if (took < SLOW / 2) this.share = Math.min(1, this.share * 1.1);
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.draw(), STILL + 20);
    }
    this.last = now;
    return moving ? Math.max(Math.min(this.count, FEW), Math.round(this.count * this.share)) : this.count;
  }

  #drawn() {
    const { gl, canvas } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const [wide, tall] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== wide || canvas.height !== tall) [canvas.width, canvas.height] = [wide, tall];
    gl.viewport(0, 0, wide, tall);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.stale = true;
    if (!this.count) return;
    gl.useProgram(this.program);
    const set = (name) => gl.getUniformLocation(this.program, name);
    gl.uniformMatrix4fv(set("matrix"), false, this.matrix());
    gl.uniform1f(set("size"), this.size * ratio * Math.min(2.5, Math.sqrt(this.zoom)));
    gl.uniform1f(set("dim"), this.any ? 0.25 : 0.88);
    gl.uniform3fv(set("edge"), this.dark ? [1, 1, 1] : [0.08, 0.1, 0.14]);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (this.solid && !this.any) gl.enable(gl.DEPTH_TEST);
    else gl.disable(gl.DEPTH_TEST);
    for (const [name, parts, kind, share] of [["place", 3, gl.FLOAT, false], ["colour", 4, gl.UNSIGNED_BYTE, true], ["chosen", 1, gl.UNSIGNED_BYTE, false]]) {
      const at = gl.getAttribLocation(this.program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, parts, kind, share, 0, 0);
    }
    gl.drawArrays(gl.POINTS, 0, this.#some());
  }

  // Where each point is on the screen: x, y in pixels of the page, and how far away.
  #project() {
    if (!this.stale) return this.screen;
    const m = this.matrix();
    const [wide, tall] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const { places, screen } = this;
    for (let at = 0; at < places.length; at += 3) {
      const x = places[at], y = places[at + 1], z = places[at + 2];
      const w = m[3] * x + m[7] * y + m[11] * z + m[15];
      screen[at] = ((m[0] * x + m[4] * y + m[8] * z + m[12]) / w + 1) * 0.5 * wide;
      screen[at + 1] = (1 - (m[1] * x + m[5] * y + m[9] * z + m[13]) / w) * 0.5 * tall;
      screen[at + 2] = w;
    }
    this.stale = false;
    return screen;
  }

  // The point under a place on the screen, or -1.
  under(x, y, reach = 9) {
    if (!this.count) return -1;
    const screen = this.#project();
    let best = -1;
    let least = reach * reach;
    for (let at = 0, index = 0; at < screen.length; at += 3, index++) {
      if (!this.colours[index * 4 + 3]) continue;
      const far = (screen[at] - x) ** 2 + (screen[at + 1] - y) ** 2;
      if (far < least) [least, best] = [far, index];
    }
    return best;
  }

  where(index) {
    const screen = this.#project();
    return [screen[index * 3], screen[index * 3 + 1]];
  }

  // The points within a polygon of the screen, [[x, y], …].
  within(polygon) {
    const screen = this.#project();
    const made = [];
    const xs = polygon.map((each) => each[0]);
    const ys = polygon.map((each) => each[1]);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let at = 0, index = 0; at < screen.length; at += 3, index++) {
      const x = screen[at], y = screen[at + 1];
      if (x < left || x > right || y < top || y > bottom || !this.colours[index * 4 + 3]) continue;
      let inside = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      if (inside) made.push(index);
    }
    return made;
  }

  // A place of the screen stays where it is, while all grows about it.
  grow(by, x, y) {
    this.moved = performance.now();
    const zoom = Math.min(80, Math.max(0.4, this.zoom * by));
    const real = zoom / this.zoom;
    const [wide, tall] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const [cx, cy] = [(x / wide) * 2 - 1, 1 - (y / tall) * 2];
    this.shift = [cx - (cx - this.shift[0]) * real, cy - (cy - this.shift[1]) * real];
    this.zoom = zoom;
    this.draw();
  }

  move(dx, dy) {
    this.moved = performance.now();
    const [wide, tall] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.shift = [this.shift[0] + (dx / wide) * 2, this.shift[1] - (dy / tall) * 2];
    this.draw();
  }

  rotate(dx, dy) {
    this.moved = performance.now();
    this.turn += dx * 0.008;
    this.tilt = Math.max(-1.57, Math.min(1.57, this.tilt + dy * 0.008));
    this.draw();
  }
}
