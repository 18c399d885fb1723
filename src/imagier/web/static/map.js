// The map: all items as points, alike ones close together. A lasso chooses, and the grid beside it follows.
import { computed, onBeforeUnmount, onMounted, reactive, ref, shallowRef, watch } from "vue";
import { colour, count, get, GREY, groupColour, said, thumbnail, words } from "/static/api.js";
import Grid from "/static/grid.js";
import Labelling from "/static/labelling.js";
import { Points } from "/static/points.js";
import { choose, only, selection } from "/static/selection.js";

const MOST = 100000; // points that the API gives
const KINDS = 24; // more values than that, and they are no kinds
// Viridis (van der Walt and Smith, 2015), at eight places.
const RAMP = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
const rgb = (() => {
  const held = new Map();
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  return (text) => {
    if (!held.has(text)) {
      context.fillStyle = text;
      context.fillRect(0, 0, 1, 1);
      held.set(text, [...context.getImageData(0, 0, 1, 1).data].slice(0, 3));
    }
    return held.get(text);
  };
})();
function ramp(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1);
  const [low, high] = [rgb(RAMP[Math.floor(at)]), rgb(RAMP[Math.ceil(at)])];
  return low.map((each, part) => Math.round(each + (high[part] - each) * (at - Math.floor(at))));
}

export default {
  components: { Grid, Labelling },
  template: `
    <div id="content" tabindex="-1" class="mapped">
      <div class="mapped-main">
        <div class="gallery-bar">
          <h1 class="view-title">Map</h1>
          <label class="row-of faint" v-if="maps.length > 1">of <select class="field" v-model="which" aria-label="Which map"><option v-for="(each, at) in maps" :value="at">{{ each.name }}</option></select></label>
          <span class="row-of" role="group" aria-label="Dimensions">
            <button class="btn" :aria-pressed="!solid" @click="solid = false">2-D</button><button class="btn" :aria-pressed="solid" @click="solid = true">3-D</button></span>
          <label class="row-of faint">Colour <select class="field" v-model="by" aria-label="Colour by"><option value="">none</option><option v-for="name in colourable" :value="name">{{ words(name) }}</option></select></label>
          <span class="row-of" role="group" aria-label="What the pointer does">
            <button class="btn" v-for="[name, title] in [['move', solid ? 'Turn' : 'Move'], ['lasso', 'Lasso'], ['box', 'Box']]" :aria-pressed="tool === name" @click="tool = name">{{ title }}</button></span>
          <button class="btn" @click="home">Reset view</button>
          <label class="row-of faint">Size <input type="range" min="2" max="14" v-model.number="size" aria-label="Size of points" style="width: 90px"></label>
        </div>
        <div class="mapped-stage" ref="stage">
          <canvas ref="canvas" tabindex="0" role="img" :aria-label="label" @pointerdown="down" @pointermove="moved" @pointerup="up" @pointercancel="up" @pointerleave="hover = null"
                  @wheel.prevent="wheel" @keydown="key" :style="{ cursor: tool === 'move' ? (held ? 'grabbing' : 'grab') : 'crosshair' }"></canvas>
          <svg v-if="path.length > 1" class="mapped-lasso" aria-hidden="true"><polygon :points="path.map((p) => p.join()).join(' ')" /></svg>
          <div v-if="hover" class="mapped-card" :style="{ left: hover.x + 'px', top: hover.y + 'px' }"><img :src="thumbnail(hover.id)" alt=""><b>{{ hover.name }}</b><span v-if="by">{{ words(by) }}: {{ hover.said }}</span></div>
          <div v-if="problem" class="empty mapped-over" role="alert"><h2>No map</h2><p>{{ problem }}</p></div>
          <div v-else-if="!points" class="empty mapped-over"><p>Loading…</p></div>
        </div>
        <div class="mapped-legend" v-if="legend.kinds" role="group" :aria-label="'Values of ' + words(by)">
          <button class="chip" v-for="each in legend.kinds" :aria-pressed="!hidden.has(each.value)" @click="hide(each.value)" :title="hidden.has(each.value) ? 'Show' : 'Hide'" :class="{ off: hidden.has(each.value) }"><i :style="{ background: each.colour }"></i>{{ each.said }} <span class="faint">{{ said(each.count) }}</span></button></div>
        <div class="mapped-legend" v-else-if="legend.low !== undefined"><span>{{ said(legend.low) }}</span><span class="mapped-ramp" aria-hidden="true" :style="{ background: 'linear-gradient(90deg,' + RAMP.join() + ')' }"></span><span>{{ said(legend.high) }}</span></div>
        <p class="faint mapped-note">{{ note }}</p><p v-if="said_" class="problem" role="alert">{{ said_ }}</p>
      </div>
      <aside class="mapped-side" aria-label="What is selected">
        <template v-if="selection.size"><h2 class="part">{{ count(selection.size, 'item') }}</h2><Grid ref="grid" :ids="ids" :side="104" :columns="by && !isGroup(by) ? [by] : []" :group="isGroup(by) ? by : ''" @open="open" @problem="problem = $event" label="Selected items" /></template>
        <div v-else class="empty"><h2>Nothing selected</h2><p>Draw around points with the lasso: their pictures come here. Shift adds to what is selected; a click on a point opens it.</p></div>
        <Labelling @changed="labelled" />
      </aside>
    </div>`,
  setup() {
    const canvas = ref(null);
    const stage = ref(null);
    const grid = ref(null);
    const maps = ref([]);
    const which = ref(0);
    const solid = ref(localStorage.getItem("imagier.solid") === "yes");
    const by = ref("");
    const tool = ref("lasso");
    const size = ref(8);
    const columns = ref({});
    const groups = ref([]);
    const problem = ref("");
    const points = shallowRef(null);
    const values = shallowRef(null);
    const legend = shallowRef({});
    const hidden = reactive(new Set());
    const hover = ref(null);
    const held = ref(null);
    const path = ref([]);
    const fit = ref(0);
    const said_ = ref(""); // what went wrong beside the map, which stays
    let drawn = null;
    let index = new Map();

    const colourable = computed(() => Object.entries(columns.value).filter(([name, kind]) => kind !== "list" && !["id", "file", "name", "parent"].includes(name)).map(([name]) => name));
    const ids = computed(() => [...selection]);
    const label = computed(() => `Map of ${points.value?.id.length ?? 0} items, in which alike ones lie close together. Arrow keys ${solid.value ? "turn" : "move"} it, plus and minus enlarge it.`);
    const note = computed(() => {
      if (!points.value) return "";
      const shown = points.value.id.length;
      const titles = maps.value[which.value].titles.slice(0, solid.value ? 3 : 2).join(", ");
      const left = fit.value - shown;
      return `${titles}. ${count(shown, "item")}${left ? `; ${count(left, "other")} left out: ${shown < MOST ? "they have no place" : "those without a place, and where points lie thickest"}` : ""}.`;
    });

    async function load() {
      points.value = null;
      try {
        const { axes } = maps.value[which.value];
        const made = await get("/values", { columns: ["id", "name", ...axes].join(), axes: axes.join() });
        const [x, y, z] = axes.map((axis) => made.values[axis]);
        const places = new Float32Array(made.items * 3);
        for (let at = 0; at < made.items; at++) places.set([x[at], y[at], z[at]], at * 3);
        index = new Map(made.values.id.map((id, at) => [id, at]));
        drawn.place(places);
        fit.value = made.fit;
        points.value = { id: made.values.id, name: made.values.name };
        await paint();
        chosen();
      } catch (error) {
        problem.value = error.message;
      }
    }

    async function paint() {
      if (!points.value) return;
      hidden.clear();
      values.value = null;
      if (by.value) {
        const { axes } = maps.value[which.value];
        values.value = (await get("/values", { columns: by.value, axes: axes.join() })).values[by.value];
      }
      shade();
    }
    function shade() {
      const all = values.value;
      const n = points.value.id.length;
      const colours = new Uint8Array(n * 4);
      if (!all) {
        for (let at = 0; at < n; at++) colours.set([0, 98, 155, 255], at * 4);
        legend.value = {};
      } else {
        const counts = new Map();
        for (const value of all) counts.set(value, (counts.get(value) ?? 0) + 1);
        const number = columns.value[by.value] === "number" && !isGroup(by.value);
        if (number && counts.size > KINDS) {
          const real = all.filter((value) => value !== null).sort((a, b) => a - b);
          // the outermost hundredths share a colour, or one far value takes the whole ramp
          const low = real[Math.floor(real.length * 0.01)], high = real[Math.ceil(real.length * 0.99) - 1];
          const grey = rgb(GREY);
          for (let at = 0; at < n; at++) colours.set([...(all[at] === null ? grey : ramp((all[at] - low) / Math.max(high - low, 1e-12))), 255], at * 4);
          legend.value = { low, high };
        } else {
          const order = [...counts.keys()].sort((a, b) => (isGroup(by.value) || number ? (a ?? 1e9) - (b ?? 1e9) : counts.get(b) - counts.get(a)));
          const own = new Map(order.map((value, at) => [value, value === null ? GREY : isGroup(by.value) ? groupColour(value) : at < 60 ? colour(at) : GREY]));
          const bytes = new Map(order.map((value) => [value, [...rgb(own.get(value)), hidden.has(value) ? 0 : 255]]));
          for (let at = 0; at < n; at++) colours.set(bytes.get(all[at]), at * 4);
          legend.value = { kinds: order.slice(0, 60).map((value) => ({ value, colour: own.get(value), count: counts.get(value), said: told(value) })) };
        }
      }
      drawn.paint(colours);
    }
    const isGroup = (name) => groups.value.some((each) => each.column === name);
    function told(value) {
      const clustering = groups.value.find((each) => each.column === by.value);
      if (!clustering || value === null) return value === null ? "none" : said(value);
      return clustering.names[value] ?? (value < 0 ? "noise" : `group ${value}`);
    }
    function hide(value) {
      hidden.has(value) ? hidden.delete(value) : hidden.add(value);
      shade();
    }
    function chosen() {
      if (!points.value) return;
      const marks = new Uint8Array(points.value.id.length);
      for (const id of selection) if (index.has(id)) marks[index.get(id)] = 1;
      drawn.choose(marks);
    }

    // ---- the pointer
    const spots = new Map();
    const at = (event) => {
      const box = canvas.value.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    function down(event) {
      canvas.value.setPointerCapture(event.pointerId);
      canvas.value.focus({ preventScroll: true });
      spots.set(event.pointerId, at(event));
      hover.value = null;
      const choosing = tool.value !== "move" && event.button === 0 && spots.size === 1;
      held.value = { start: at(event), last: at(event), choosing, far: 0 };
      path.value = choosing ? [at(event)] : [];
    }
    function moved(event) {
      const here = at(event);
      if (!held.value) {
        point(here);
        return;
      }
      if (spots.size === 2) {
        const other = [...spots].find(([id]) => id !== event.pointerId)[1];
        const before = spots.get(event.pointerId);
        const by = Math.hypot(here[0] - other[0], here[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
        drawn.grow(by, (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
        spots.set(event.pointerId, here);
        path.value = [];
        held.value.choosing = false;
        return;
      }
      const [dx, dy] = [here[0] - held.value.last[0], here[1] - held.value.last[1]];
      held.value.far += Math.abs(dx) + Math.abs(dy);
      held.value.last = here;
      spots.set(event.pointerId, here);
      if (held.value.choosing) {
        const [x, y] = held.value.start;
        path.value = tool.value === "box" ? [[x, y], [here[0], y], here, [x, here[1]]] : [...path.value, here];
      } else if (solid.value && !(event.buttons & 2)) drawn.rotate(dx, dy);
      else drawn.move(dx, dy);
    }
    function up(event) {
      spots.delete(event.pointerId);
      if (!held.value || spots.size) return;
      const { far, choosing } = held.value;
      if (far < 4) {
        const hit = drawn.under(...at(event));
        if (hit >= 0) {
          const id = points.value.id[hit];
          if (event.shiftKey || event.ctrlKey) choose([id], !selection.has(id));
          else open({ id });
        } else if (choosing && !event.shiftKey) only([]);
      } else if (choosing && path.value.length > 2) {
        const found = drawn.within(path.value).map((each) => points.value.id[each]);
        event.shiftKey ? choose(found) : only(found);
      }
      held.value = null;
      path.value = [];
    }
    let pointing = false;
    function point(here) {
      if (pointing || !points.value) return;
      pointing = true;
      requestAnimationFrame(() => {
        pointing = false;
        if (held.value) return;
        const hit = drawn.under(...here);
        if (hit < 0) {
          hover.value = null;
          return;
        }
        const [x, y] = drawn.where(hit);
        const { clientWidth, clientHeight } = stage.value;
        hover.value = { id: points.value.id[hit], name: points.value.name[hit], said: values.value ? told(values.value[hit]) : "", x: x > clientWidth - 210 ? x - 206 : x + 14, y: Math.max(4, Math.min(y - 60, clientHeight - 226)) };
      });
    }
    const wheel = (event) => drawn.grow(Math.exp(-event.deltaY * 0.0015), ...at(event));
    function key(event) {
      const turn = { ArrowLeft: [-24, 0], ArrowRight: [24, 0], ArrowUp: [0, -24], ArrowDown: [0, 24] }[event.key];
      const { clientWidth, clientHeight } = canvas.value;
      if (turn) solid.value ? drawn.rotate(...turn) : drawn.move(-turn[0], -turn[1]);
      else if (event.key === "+" || event.key === "=") drawn.grow(1.2, clientWidth / 2, clientHeight / 2);
      else if (event.key === "-") drawn.grow(1 / 1.2, clientWidth / 2, clientHeight / 2);
      else if (event.key === "0") drawn.reset();
      else return;
      event.preventDefault();
    }
    const home = () => drawn.reset();
    const open = (row) => location.assign(`/items/${row.id}`);
    async function labelled() {
      grid.value?.again(true);
      try {
        columns.value = (await get("")).columns;
        if (by.value === "label_user") await paint();
      } catch (error) {
        said_.value = error.message;
      }
    }

    const sized = new ResizeObserver(() => drawn?.draw());
    const dark = new MutationObserver(() => {
      drawn.dark = document.body.classList.contains("body--dark");
      drawn.draw();
    });
    onMounted(async () => {
      try {
        drawn = new Points(canvas.value);
        drawn.solid = solid.value;
        drawn.dark = document.body.classList.contains("body--dark");
        sized.observe(canvas.value);
        dark.observe(document.body, { attributeFilter: ["class"] });
        const [about, found, clusters] = await Promise.all([get(""), get("/maps"), get("/clusters")]);
        columns.value = about.columns;
        groups.value = clusters;
        if (!found.length) throw new Error("This collection has no map: it needs a pipeline with the step reduce.");
        maps.value = found;
        by.value = clusters[0]?.column ?? (about.columns.label_folder ? "label_folder" : "");
        drawn.size = size.value;
        await load();
        if (fit.value > 2000) size.value = fit.value > 20000 ? 3 : 5;
      } catch (error) {
        problem.value = error.message;
      }
    });
    onBeforeUnmount(() => {
      sized.disconnect();
      dark.disconnect();
    });
    watch(which, load);
    watch(by, async (now, before) => {
      if (!points.value) return;
      try {
        await paint();
        said_.value = "";
      } catch (error) {
        said_.value = `${error.message} The colours are still those of ${before ? words(before) : "none"}.`;
      }
    });
    watch(size, () => {
      drawn.size = size.value;
      drawn.draw();
    });
    watch(solid, () => {
      localStorage.setItem("imagier.solid", solid.value ? "yes" : "no");
      drawn.solid = solid.value;
      drawn.reset();
    });
    watch(selection, chosen);

    return {
      canvas, stage, grid, maps, which, solid, by, tool, size, problem, points, legend, hidden, hover, held, path, colourable, ids, label, note, selection,
      RAMP, count, said, words, thumbnail, hide, down, moved, up, wheel, key, home, open, labelled, isGroup, said_,
    };
  },
};
