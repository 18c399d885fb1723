// The interactive map: points in three dimensions on a plain 2-D canvas, so that it needs no graphics card, no library
// and no network. Everything shown comes from the JSON beside it and is set as text, never as HTML.
"use strict";
(() => {
  const root = document.getElementById("map");
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const canvas = root.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const card = root.querySelector(".map-card");
  const legend = root.querySelector(".map-legend");
  const pick = (name) => root.querySelector(`[data-map=${name}]`);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const n = data.names.length;
  const DISTANCE = 5; // of the eye from the middle of the map, whose longest side is 2

  let map = data.maps[0];
  let scheme = data.schemes[0];
  let hidden = new Set();
  let query = "";
  let pictures = false;
  let hovered = -1;
  let pinned = -1;
  let view = home();
  let scheduled = false;
  for (const each of data.maps) {
    each.extent = [each.x, each.y, each.z].map((values) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0.05));
  }
  const sx = new Float32Array(n), sy = new Float32Array(n), depth = new Float32Array(n);
  const images = new Map();

  function home() {
    return map.flat ? { yaw: 0, pitch: 0, zoom: 1, dx: 0, dy: 0 } : { yaw: 0.7, pitch: -0.42, zoom: 1, dx: 0, dy: 0 };
  }

  function draw() {
    if (!scheduled) {
      scheduled = true;
      requestAnimationFrame(() => { scheduled = false; paint(); });
    }
  }

  function colour(code) {
    const entry = scheme.legend[code];
    return darkness.matches ? entry.dark : entry.light;
  }

  // Where the items stand on the screen. Coordinates lie in -1..1; y points up.
  function project(width, height) {
    const reach = map.flat ? 1.08 : Math.hypot(...map.extent) * 0.97;
    const scale = Math.min(width, height) * 0.5 / reach * view.zoom;
    const cy = Math.cos(view.yaw), siny = Math.sin(view.yaw), cp = Math.cos(view.pitch), sp = Math.sin(view.pitch);
    const place = (x, y, z) => {
      const right = cy * x + siny * y, away = -siny * x + cy * y; // turn about the upright z axis
      const up = map.flat ? y : cp * z - sp * away;
      const back = map.flat ? 0 : sp * z + cp * away;
      const near = map.flat ? 1 : DISTANCE / (DISTANCE + back);
      return [width / 2 + view.dx + scale * near * (map.flat ? x : right), height / 2 + view.dy - scale * near * up, back];
    };
    for (let i = 0; i < n; i++) [sx[i], sy[i], depth[i]] = place(map.x[i], map.y[i], map.z[i]);
    return place;
  }

  function visible(i) {
    return map.x[i] !== null && !hidden.has(scheme.codes[i]);
  }

  function paint() {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(root);
    const place = project(width, height);
    if (!map.flat) box(place, style.getPropertyValue("--line") || "#d5dae1");
    const order = [];
    for (let i = 0; i < n; i++) if (visible(i)) order.push(i);
    if (!map.flat) order.sort((a, b) => depth[b] - depth[a]);
    const size = Math.max(1.6, Math.min(6, 70 / Math.sqrt(n + 60))) * Math.sqrt(view.zoom);
    const ground = style.getPropertyValue("--ground") || "#fff";
    for (const i of order) {
      const found = !query || data.names[i].toLowerCase().includes(query);
      pen.globalAlpha = found ? (map.flat ? 0.85 : 0.95 - 0.3 * Math.min(1, Math.max(0, (depth[i] + 1) / 2))) : 0.08;
      if (pictures && found && picture(i)) continue;
      const radius = (map.flat ? size : size * (DISTANCE / (DISTANCE + depth[i]))) * (query && found ? 1.5 : 1);
      pen.fillStyle = colour(scheme.codes[i]);
      pen.beginPath();
      pen.arc(sx[i], sy[i], radius, 0, 7);
      pen.fill();
      if (n < 4000 && found) { pen.lineWidth = 0.7; pen.strokeStyle = ground; pen.stroke(); }
    }
    pen.globalAlpha = 1;
    if (scheme.numbered) numbers(order, style, ground);
    for (const i of [hovered, pinned]) {
      if (i < 0 || !visible(i)) continue;
      pen.lineWidth = 2.5;
      pen.strokeStyle = style.getPropertyValue("--ink") || "#1c2430";
      pen.beginPath();
      pen.arc(sx[i], sy[i], size + 5, 0, 7);
      pen.stroke();
    }
    if (pinned >= 0) show(pinned);
  }

  function box(place, line) {
    const [ex, ey, ez] = map.extent;
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) {
      const b = a | bit;
      if (a === b) continue;
      const ends = [a, b].map((c) => place(c & 1 ? ex : -ex, c & 2 ? ey : -ey, c & 4 ? ez : -ez));
      pen.beginPath();
      pen.moveTo(ends[0][0], ends[0][1]);
      pen.lineTo(ends[1][0], ends[1][1]);
      pen.stroke();
    }
    pen.fillStyle = getComputedStyle(root).getPropertyValue("--faint") || "#5a6472";
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    [[0, -ey, -ez], [-ex, 0, -ez], [-ex, -ey, 0]].forEach((middle, axis) => {
      const [x, y] = place(...middle.map((value) => value * 1.13));
      const half = pen.measureText(map.axes[axis]).width / 2 + 4;
      pen.fillText(map.axes[axis], Math.max(half, Math.min(canvas.clientWidth - half, x)), y);
    });
  }

  function picture(i) {
    const source = data.thumbnails[i];
    if (!source) return false;
    let image = images.get(i);
    if (!image) {
      image = new Image();
      image.onload = draw;
      image.src = "data:image/jpeg;base64," + source;
      images.set(i, image);
    }
    if (!image.complete || !image.naturalWidth) return false;
    const side = Math.max(16, Math.min(64, 520 / Math.sqrt(n))) * Math.sqrt(view.zoom) * (map.flat ? 1 : DISTANCE / (DISTANCE + depth[i]));
    const fit = side / Math.max(image.naturalWidth, image.naturalHeight);
    const w = image.naturalWidth * fit, h = image.naturalHeight * fit;
    pen.globalAlpha = 1;
    pen.drawImage(image, sx[i] - w / 2, sy[i] - h / 2, w, h);
    pen.lineWidth = 2;
    pen.strokeStyle = colour(scheme.codes[i]);
    pen.strokeRect(sx[i] - w / 2, sy[i] - h / 2, w, h);
    return true;
  }

  // The number of each group at the middle of its points.
  function numbers(order, style, ground) {
    const of = new Map();
    for (const i of order) {
      if (!of.has(scheme.codes[i])) of.set(scheme.codes[i], [[], []]);
      of.get(scheme.codes[i])[0].push(sx[i]);
      of.get(scheme.codes[i])[1].push(sy[i]);
    }
    const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
    pen.font = "bold 14px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = ground;
    pen.fillStyle = style.getPropertyValue("--ink") || "#1c2430";
    for (const [code, [xs, ys]] of of) {
      const number = scheme.legend[code].number;
      if (number === null) continue;
      const at = [middle(xs), middle(ys)];
      pen.strokeText(number, ...at);
      pen.fillText(number, ...at);
    }
  }

  function nearest(x, y) {
    let best = -1, reach = pictures ? 26 : 14, front = Infinity;
    for (let i = 0; i < n; i++) {
      if (!visible(i)) continue;
      const away = Math.hypot(sx[i] - x, sy[i] - y);
      if (away < reach - 3 || (away < reach + 3 && depth[i] < front)) {
        best = i;
        reach = Math.min(reach, away);
        front = depth[i];
      }
    }
    return best;
  }

  function show(i) {
    card.hidden = i < 0;
    if (i < 0) return;
    card.classList.toggle("pinned", i === pinned);
    if (card.dataset.item !== String(i)) {
      card.dataset.item = i;
      const image = card.querySelector("img");
      image.hidden = !data.thumbnails[i];
      image.alt = data.names[i];
      if (data.thumbnails[i]) image.src = "data:image/jpeg;base64," + data.thumbnails[i];
      else image.removeAttribute("src");
      card.querySelector("b").textContent = data.names[i];
      card.querySelector("div").replaceChildren(...data.schemes.map((each) => {
        const line = document.createElement("span");
        line.textContent = `${each.name}: ${each.legend[each.codes[i]].name}`;
        return line;
      }));
    }
    const width = canvas.clientWidth, height = canvas.clientHeight;
    const left = sx[i] + 16 + card.offsetWidth > width ? sx[i] - 16 - card.offsetWidth : sx[i] + 16;
    card.style.left = Math.max(4, Math.min(width - card.offsetWidth - 4, left)) + "px";
    card.style.top = Math.max(4, Math.min(height - card.offsetHeight - 4, sy[i] - card.offsetHeight / 2)) + "px";
  }

  function hover(i) {
    if (i === hovered) return;
    hovered = i;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    if (pinned < 0) show(i);
    draw();
  }

  function pin(i) {
    pinned = i === pinned ? -1 : i;
    show(pinned);
    draw();
  }

  // Pointers: one turns (or moves a flat map), two pinch; a press that does not move pins what lies under it.
  const down = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = [event.offsetX, event.offsetY];
    const before = down.get(event.pointerId);
    if (!before) return hover(nearest(...at));
    const dx = at[0] - before[0], dy = at[1] - before[1];
    moved += Math.hypot(dx, dy);
    if (down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(gap(at) / gap(before));
    } else if (map.flat || event.shiftKey) {
      view.dx += dx;
      view.dy += dy;
    } else {
      turn(dx * 0.008, dy * 0.008);
    }
    down.set(event.pointerId, at);
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
    if (end === "pointerup" && moved < 5 && down.size === 1) pin(nearest(event.offsetX, event.offsetY));
    down.delete(event.pointerId);
  });
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls until the map was clicked
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (steps[event.key] && map.flat) { view.dx -= steps[event.key][0] * 200; view.dy -= steps[event.key][1] * 200; }
    else if (steps[event.key]) turn(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.2);
    else if (event.key === "-") zoom(1 / 1.2);
    else if (event.key === "0") view = home();
    else if (event.key === "Escape") pin(pinned);
    else return;
    event.preventDefault();
    draw();
  });

  function turn(yaw, pitch) {
    view.yaw += yaw;
    view.pitch = Math.max(-1.57, Math.min(1.57, view.pitch - pitch));
  }

  function zoom(by) {
    view.zoom = Math.max(0.3, Math.min(40, view.zoom * by));
    draw();
  }

  function fillLegend() {
    hidden = new Set();
    legend.replaceChildren(...scheme.legend.map((entry, code) => {
      const button = document.createElement("button");
      const dot = document.createElement("i");
      button.type = "button";
      dot.style.background = colour(code);
      button.append(dot, `${entry.name} (${entry.items})`);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!hidden.delete(code)) hidden.add(code);
        button.setAttribute("aria-pressed", String(!hidden.has(code)));
        draw();
      });
      return button;
    }));
  }

  function choices(select, entries, chosen) {
    select.replaceChildren(...entries.map((entry, i) => new Option(entry.name, i)));
    select.parentElement.hidden = entries.length < 2;
    select.addEventListener("change", () => { chosen(entries[select.value]); draw(); });
  }

  choices(pick("maps"), data.maps, (entry) => { map = entry; view = home(); });
  choices(pick("schemes"), data.schemes, (entry) => { scheme = entry; fillLegend(); });
  pick("pictures").addEventListener("change", (event) => { pictures = event.target.checked; draw(); });
  pick("find").addEventListener("input", (event) => { query = event.target.value.trim().toLowerCase(); draw(); });
  pick("in").addEventListener("click", () => zoom(1.3));
  pick("out").addEventListener("click", () => zoom(1 / 1.3));
  pick("home").addEventListener("click", () => { view = home(); draw(); });
  card.querySelector("button").addEventListener("click", () => pin(pinned));
  darkness.addEventListener("change", () => { fillLegend(); draw(); });
  new ResizeObserver(draw).observe(canvas);
  fillLegend();
  draw();
})();
