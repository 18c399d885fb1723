// The canvas of the mask editor: the picture with the mask over it, brought nearer and moved by wheel, mouse and fingers.

// As imagier's outputs/shown.py has them, so that an object has the same colour in every picture.
const PALETTE = (
  "#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #332288 #999933 #882255 #44AA99 #AA4499 #DDCC77 #117733 " +
  "#CC6677 #6699CC #8C564B #5D3A9B #A6BF3F #1B9E9E #B2182B"
).split(" ");
export const colourOf = (number) => PALETTE[(number - 1) % PALETTE.length];

const CLOSEST = 64;
const STRIP = 512; // rows painted at once
const EDGE = 0xffffffff; // of the object that is being drawn: white

const packed = (part, alpha) => PALETTE.map((each) => {
  const [red, green, blue] = [1, 3, 5].map((at) => Math.round(parseInt(each.slice(at, at + 2), 16) * part));
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
});
const FILL = packed(1, 150);
const OWN = packed(1, 205);
const DARK = packed(0.6, 255);

export class Easel {
  // does: down, move, up and cancel, each with a point in the picture's pixels and the event; and over(context, place),
  // which draws above all, where place gives the screen's point.
  constructor(canvas, does) {
    this.canvas = canvas;
    this.does = does;
    this.view = { scale: 1, x: 0, y: 0 };
    this.opacity = 0.6;
    this.hidden = false;
    this.moves = false; // whether a press moves the picture
    this.pointers = new Map();
    this.watching = new ResizeObserver(() => this.#sized());
    this.watching.observe(canvas);
    const told = { pointerdown: this.#down, pointermove: this.#move, pointerup: this.#up, pointercancel: this.#lost };
    for (const [name, what] of Object.entries(told)) canvas.addEventListener(name, what);
    canvas.addEventListener("pointerleave", this.#leave);
    canvas.addEventListener("wheel", this.#wheel, { passive: false });
  }

  close() {
    this.watching.disconnect();
    cancelAnimationFrame(this.asked);
  }

  show(mask, picture) {
    const fresh = this.mask !== mask;
    this.mask = mask;
    this.picture = picture;
    if (fresh) {
      this.shade = new OffscreenCanvas(mask.width, mask.height);
      this.fit();
      this.repaint();
    }
    this.draw();
  }

  // ---- where it lies

  #sized() {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.mask && !this.placed) this.fit();
    this.draw();
  }

  fit() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const scale = Math.min(CLOSEST, (wide - 24) / this.mask.width, (high - 24) / this.mask.height);
    this.view = { scale, x: (wide - this.mask.width * scale) / 2, y: (high - this.mask.height * scale) / 2 };
    this.placed = false; // until a person moves it, it fits again when the window changes
    this.draw();
  }

  zoom(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    const scale = Math.max(0.02, Math.min(CLOSEST, this.view.scale * factor));
    const [x, y] = this.point(at);
    this.view = { scale, x: at[0] - x * scale, y: at[1] - y * scale };
    this.placed = true;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.placed = true;
    this.draw();
  }

  point = ([x, y]) => [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  place = ([x, y]) => [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  #of = (event) => {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  // ---- mouse, pen, fingers

  #down = (event) => {
    const at = this.#of(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size > 1) {
      if (this.doing === "draws") this.does.cancel();
      this.doing = "pinches";
    } else if (event.button === 1 || this.moves) {
      event.preventDefault();
      this.doing = "moves";
    } else if (event.button === 0) {
      this.doing = "draws";
      this.does.down(this.point(at), event);
    }
  };

  #move = (event) => {
    const at = this.#of(event);
    const was = this.pointers.get(event.pointerId);
    if (was && this.doing === "moves") this.pan(at[0] - was[0], at[1] - was[1]);
    else if (was && this.doing === "pinches") this.#pinch(event.pointerId, was, at);
    else {
      const all = was ? (event.getCoalescedEvents?.() ?? []) : [];
      for (const each of all.length ? all : [event]) this.does.move(this.point(this.#of(each)), Boolean(was) && this.doing === "draws");
    }
    if (was) this.pointers.set(event.pointerId, at);
  };

  #pinch(id, was, at) {
    const other = [...this.pointers].find(([each]) => each !== id)?.[1];
    if (!other) return;
    const far = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    this.pan((at[0] - was[0]) / 2, (at[1] - was[1]) / 2);
    this.zoom(far(at) / Math.max(1, far(was)), middle);
  }

  #up = (event) => {
    const drew = this.pointers.delete(event.pointerId) && this.doing === "draws";
    if (!this.pointers.size) this.doing = null;
    if (drew) this.does.up(this.point(this.#of(event)), event);
  };

  #lost = (event) => {
    this.pointers.delete(event.pointerId);
    if (this.doing === "draws") this.does.cancel();
    if (!this.pointers.size) this.doing = null;
  };

  #leave = () => this.does.move(null, false);

  #wheel = (event) => {
    event.preventDefault();
    const lines = [1, 16, 400][event.deltaMode];
    this.zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * 0.0016), this.#of(event));
  };

  // ---- painting

  // The mask anew: all of it, or what was touched.
  repaint(box = [0, 0, this.mask.width, this.mask.height]) {
    const { width, height } = this.mask;
    const [x0, y0, x1, y1] = [Math.max(0, box[0] - 1), Math.max(0, box[1] - 1), Math.min(width, box[2] + 1), Math.min(height, box[3] + 1)];
    for (let top = y0; top < y1; top += STRIP) this.#strip(x0, top, x1 - x0, Math.min(STRIP, y1 - top));
    this.mask.touched = null;
    this.draw();
  }

  #strip(x0, y0, wide, high) {
    const { width, height, numbers } = this.mask;
    const context = this.shade.getContext("2d");
    const image = context.createImageData(wide, high);
    const made = new Uint32Array(image.data.buffer);
    for (let y = y0, to = 0; y < y0 + high; y++) {
      for (let x = x0, at = y * width + x0; x < x0 + wide; x++, at++, to++) {
        const number = numbers[at];
        if (!number) continue;
        const edge =
          (x > 0 && numbers[at - 1] !== number) || (x < width - 1 && numbers[at + 1] !== number) ||
          (y > 0 && numbers[at - width] !== number) || (y < height - 1 && numbers[at + width] !== number);
        const own = number === this.current;
        const which = (number - 1) % PALETTE.length;
        made[to] = edge ? (own ? EDGE : DARK[which]) : (own ? OWN : FILL)[which];
      }
    }
    context.putImageData(image, x0, y0);
  }

  draw() {
    if (!this.asked) this.asked = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.asked = 0;
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    const { scale, x, y } = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.mask) return;
    if (this.mask.touched) this.repaint(this.mask.touched);
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale * ratio < 3;
    context.drawImage(this.picture, 0, 0, this.mask.width, this.mask.height);
    if (!this.hidden) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = scale * ratio < 1;
      context.drawImage(this.shade, 0, 0);
      context.globalAlpha = 1;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.does.over(context, this.place, scale);
  }
}
