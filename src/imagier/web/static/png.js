// PNG without the browser's own: that reads no 16 bits, and some browsers change a canvas's pixels a little when asked.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

const through = async (bytes, stream) => new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

const CRCS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRCS[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function chunk(name, data) {
  const made = new Uint8Array(12 + data.length);
  const view = new DataView(made.buffer);
  view.setUint32(0, data.length);
  for (let at = 0; at < 4; at++) made[4 + at] = name.charCodeAt(at);
  made.set(data, 8);
  view.setUint32(8 + data.length, crc32(made.subarray(4, 8 + data.length)));
  return made;
}

// A grey PNG of a label image (Uint16Array): 8 bits where all numbers fit, else 16.
export async function encode(numbers, width, height) {
  const deep = numbers.some((each) => each > 255);
  const line = width * (deep ? 2 : 1) + 1; // each begins with its filter: none
  const raw = new Uint8Array(line * height);
  for (let y = 0, from = 0; y < height; y++) {
    let to = y * line + 1;
    for (let x = 0; x < width; x++, from++) {
      if (deep) raw[to++] = numbers[from] >> 8;
      raw[to++] = numbers[from] & 255;
    }
  }
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, deep ? 16 : 8); // colour type 0, grey; deflate; no interlace
  const data = await through(raw, new CompressionStream("deflate"));
  const parts = [new Uint8Array(SIGNATURE), chunk("IHDR", new Uint8Array(head.buffer)), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob(parts, { type: "image/png" });
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const a = Math.abs(guess - left);
  const b = Math.abs(guess - up);
  const c = Math.abs(guess - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
const GUESSES = [() => 0, (left) => left, (_, up) => up, (left, up) => (left + up) >> 1, paeth]; // by the filter of a row

// The bytes of a PNG of 8-bit RGB, as the API's coded layers are: width * height * 3 of them, rows one after another.
export async function decode(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const [width, height, kind] = [view.getUint32(16), view.getUint32(20), view.getUint32(24)];
  if (SIGNATURE.some((byte, at) => bytes[at] !== byte) || kind >>> 16 !== 0x0802 || bytes[28]) throw new Error("no PNG of 8-bit RGB");
  const parts = [];
  for (let at = 8; at < bytes.length; ) {
    const size = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + size)); // IDAT
    at += size + 12;
  }
  const raw = await through(new Blob(parts), new DecompressionStream("deflate"));
  const line = width * 3;
  const made = new Uint8Array(line * height);
  for (let y = 0; y < height; y++) {
    const guess = GUESSES[raw[y * (line + 1)]];
    const from = y * (line + 1) + 1;
    const to = y * line;
    for (let x = 0; x < line; x++) {
      const left = x < 3 ? 0 : made[to + x - 3];
      const up = y ? made[to + x - line] : 0;
      const corner = x < 3 || !y ? 0 : made[to + x - line - 3];
      made[to + x] = raw[from + x] + guess(left, up, corner);
    }
  }
  return { width, height, bytes: made };
}
