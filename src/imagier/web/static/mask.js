// A label image that is drawn on: each pixel holds its object's number, 0 none. What was done can be undone: of each step
// the tiles are kept that it changed, as they were.

const TILE = 64;
const KEPT = 8192; // tiles, of 8 kB: beyond, the oldest steps are forgotten
export const MOST = 65535; // objects, of 16 bits
const LOST = {}; // what was saved can no longer be come back to

export class Mask {
  constructor(width, height, numbers = new Uint16Array(width * height)) {
    Object.assign(this, { width, height, numbers });
    this.counts = new Uint32Array(MOST + 1); // number -> its pixels
    for (const each of numbers) this.counts[each]++;
    this.across = Math.ceil(width / TILE);
    this.done = [];
    this.undone = [];
    this.step = null;
    this.kept = 0;
    this.saved = null; // the last step when it was saved; null: before the first
    this.touched = null; // x0, y0, x1, y1: what is to be painted anew
  }

  // ---- steps

  begin() {
    this.step = new Map();
  }

  end() {
    const step = this.step;
    this.step = null;
    if (!step?.size) return;
    for (const each of this.undone) this.kept -= each.size;
    this.undone = [];
    this.done.push(step);
    this.kept += step.size;
    while (this.kept > KEPT && this.done.length > 1) {
      const oldest = this.done.shift();
      this.kept -= oldest.size;
      if (this.saved === null) this.saved = LOST;
      else if (this.saved === oldest) this.saved = null;
    }
  }

  cancel() {
    if (this.step) this.#swap(this.step);
    this.step = null;
  }

  undo() {
    const step = this.done.pop();
    if (!step) return;
    this.#swap(step);
    this.undone.push(step);
  }

  redo() {
    const step = this.undone.pop();
    if (!step) return;
    this.#swap(step);
    this.done.push(step);
  }

  get changed() {
    return (this.done.at(-1) ?? null) !== this.saved;
  }

  get last() {
    return this.done.at(-1) ?? null;
  }

  #rows(tile) {
    const [x, y] = [(tile % this.across) * TILE, Math.floor(tile / this.across) * TILE];
    const [wide, high] = [Math.min(TILE, this.width - x), Math.min(TILE, this.height - y)];
    return { x, y, wide, high };
  }

  #copy(tile) {
    const { x, y, wide, high } = this.#rows(tile);
    const made = new Uint16Array(wide * high);
    for (let row = 0; row < high; row++) {
      const from = (y + row) * this.width + x;
      made.set(this.numbers.subarray(from, from + wide), row * wide);
    }
    return made;
  }

  // Every tile of a step changes places with what is there now.
  #swap(step) {
    for (const [tile, was] of step) {
      step.set(tile, this.#copy(tile));
      const { x, y, wide, high } = this.#rows(tile);
      for (let row = 0; row < high; row++) {
        for (let column = 0; column < wide; column++) this.#set((y + row) * this.width + x + column, was[row * wide + column]);
      }
      this.#touch(x, y, x + wide, y + high);
    }
  }

  #set(at, number) {
    this.counts[this.numbers[at]]--;
    this.counts[number]++;
    this.numbers[at] = number;
  }

  #touch(x0, y0, x1, y1) {
    const was = this.touched ?? [x0, y0, x1, y1];
    this.touched = [Math.min(was[0], x0), Math.min(was[1], y0), Math.max(was[2], x1), Math.max(was[3], y1)];
  }

  put(x, y, number) {
    const at = y * this.width + x;
    if (this.numbers[at] === number) return;
    const tile = Math.floor(y / TILE) * this.across + Math.floor(x / TILE);
    if (!this.step.has(tile)) this.step.set(tile, this.#copy(tile));
    this.#set(at, number);
    this.#touch(x, y, x + 1, y + 1);
  }

  // ---- drawing: `keep`, other objects stay as they are

  #paint(x, y, number, keep) {
    if (keep && number && this.numbers[y * this.width + x]) return;
    this.put(x, y, number);
  }

  // A line of a round brush, its ends brought to where a brush of this size lies on whole pixels.
  line(from, to, size, number, keep) {
    const half = size % 2 ? 0.5 : 0;
    const place = ([x, y]) => (half ? [Math.floor(x) + 0.5, Math.floor(y) + 0.5] : [Math.round(x), Math.round(y)]);
    const [[ax, ay], [bx, by]] = [place(from), place(to)];
    const reach = size / 2;
    const [dx, dy] = [bx - ax, by - ay];
    const length = dx * dx + dy * dy;
    const last = (value, side) => Math.min(side - 1, Math.ceil(value));
    for (let y = Math.max(0, Math.floor(Math.min(ay, by) - reach)); y <= last(Math.max(ay, by) + reach, this.height); y++) {
      for (let x = Math.max(0, Math.floor(Math.min(ax, bx) - reach)); x <= last(Math.max(ax, bx) + reach, this.width); x++) {
        const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
        const share = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
        if ((px - share * dx) ** 2 + (py - share * dy) ** 2 <= reach * reach) this.#paint(x, y, number, keep);
      }
    }
  }

  // All pixels whose middle is within the corners, by the rule of even and odd.
  polygon(corners, number, keep) {
    const heights = corners.map(([, y]) => y);
    const bottom = Math.min(this.height - 1, Math.ceil(Math.max(...heights)));
    for (let y = Math.max(0, Math.floor(Math.min(...heights))); y <= bottom; y++) {
      const middle = y + 0.5;
      const cuts = [];
      corners.forEach(([x0, y0], at) => {
        const [x1, y1] = corners[(at + 1) % corners.length];
        if (y0 <= middle !== y1 <= middle) cuts.push(x0 + ((middle - y0) / (y1 - y0)) * (x1 - x0));
      });
      cuts.sort((a, b) => a - b);
      for (let at = 0; at + 1 < cuts.length; at += 2) {
        const end = Math.min(this.width - 1, Math.ceil(cuts[at + 1] - 0.5) - 1);
        for (let x = Math.max(0, Math.ceil(cuts[at] - 0.5)); x <= end; x++) this.#paint(x, y, number, keep);
      }
    }
  }

  remove(number) {
    this.#each(number, (x, y) => this.put(x, y, 0));
  }

  // What an object encloses and no other object has becomes its own.
  fill(number) {
    const box = [this.width, this.height, -1, -1];
    this.#each(number, (x, y) => {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    });
    const [wide, high] = [box[2] - box[0] + 3, box[3] - box[1] + 3]; // a pixel of margin around it
    if (box[2] < 0) return;
    const inside = (at) => {
      const [x, y] = [(at % wide) - 1, Math.floor(at / wide) - 1];
      return x >= 0 && y >= 0 && x < wide - 2 && y < high - 2 && this.numbers[(box[1] + y) * this.width + box[0] + x] === number;
    };
    const outside = new Uint8Array(wide * high);
    const waiting = [0];
    outside[0] = 1;
    while (waiting.length) {
      const at = waiting.pop();
      const x = at % wide;
      for (const next of [x > 0 ? at - 1 : -1, x < wide - 1 ? at + 1 : -1, at - wide, at + wide]) {
        if (next < 0 || next >= outside.length || outside[next] || inside(next)) continue;
        outside[next] = 1;
        waiting.push(next);
      }
    }
    for (let y = 1; y < high - 1; y++) {
      for (let x = 1; x < wide - 1; x++) if (!outside[y * wide + x]) this.#paint(box[0] + x - 1, box[1] + y - 1, number, true);
    }
  }

  // Other numbers in place of all.
  become(numbers) {
    for (let y = 0, at = 0; y < this.height; y++) for (let x = 0; x < this.width; x++, at++) this.put(x, y, numbers[at]);
  }

  #each(number, doing) {
    for (let at = this.numbers.indexOf(number); at >= 0; at = this.numbers.indexOf(number, at + 1)) doing(at % this.width, Math.floor(at / this.width));
  }

  // ---- what there is

  at([x, y]) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    return column >= 0 && row >= 0 && column < this.width && row < this.height ? this.numbers[row * this.width + column] : 0;
  }

  objects() {
    const made = [];
    for (let number = 1; number <= MOST; number++) if (this.counts[number]) made.push(number);
    return made;
  }

  // A number that no object has: one above all, or where that is none the first that is free; 0: all are taken.
  free() {
    const top = this.counts.findLastIndex((count, number) => number > 0 && count > 0);
    if (top < MOST) return Math.max(1, top + 1);
    return Math.max(0, this.counts.findIndex((count, number) => number > 0 && !count));
  }
}
