// The mask editor: a person corrects what a model found, and the next training reads it.
import { computed, markRaw, onBeforeUnmount, onMounted, reactive, ref, watch } from "vue";
import { attempt, count, get, send } from "/static/api.js";
import { Easel, colourOf } from "/static/easel.js";
import { author } from "/static/labelling.js";
import { MOST, Mask } from "/static/mask.js";
import { decode, encode } from "/static/png.js";

const LIST = "imagier.list"; // of the tab: ids, in the order in which items are gone through
const SIDE = 4096;
const SHOWN = 240; // objects to choose from by their colour
const LARGEST = 200;
const TOOLS = [
  ["brush", "Brush", "b"], ["eraser", "Eraser", "e"], ["polygon", "Polygon", "p"], ["pick", "Pick", "k"], ["move", "Move", "m"],
];
const HINTS = {
  brush: "Drag to paint the object. Alt-click picks another one.",
  eraser: "Drag to erase what is under the brush.",
  polygon: "Click the corners. A double click or Enter closes it; with Shift it takes away.",
  pick: "Click an object to go on with it.",
  move: "Drag the picture; the wheel or two fingers bring it nearer.",
};
const LOOKS = [["", "as it is"], ["contrast", "more contrast"], ["clahe", "contrast by place"]];

export default {
  props: { item: String },
  template: `
    <div id="content" tabindex="-1" class="editor">
      <div class="editor-bar">
        <a class="btn" :href="'/items/' + item">← Item</a>
        <h1 class="view-title" :title="name">{{ name ? 'Mask of ' + name : 'Mask' }}</h1>
        <span class="editor-told" role="status">{{ told || (state.changed ? 'Not saved' : '') }}</span>
        <button class="btn" @click="undo" :disabled="!state.undo" title="Ctrl+Z">Undo</button>
        <button class="btn" @click="redo" :disabled="!state.redo" title="Ctrl+Shift+Z">Redo</button>
        <button class="btn danger" v-if="corrected" @click="takeBack" :disabled="busy" title="The model's own counts again">Take back</button>
        <button class="btn first" @click="save" :disabled="busy || !ready" title="Ctrl+S">Save</button>
        <a class="btn" v-if="next" :href="'/items/' + next + '/mask'">Next item →</a>
      </div>
      <div class="editor-stage">
        <canvas ref="canvas" tabindex="0" role="application" :class="'does-' + (spaced ? 'move' : tool)" @keydown="step" @dblclick="close($event.shiftKey)" @contextmenu.prevent
                :aria-label="'The picture of ' + name + ' with its mask. Arrow keys move it, plus and minus bring it nearer.'"></canvas>
        <div v-if="!ready" class="editor-over"><div class="empty"><template v-if="problem"><h2>This mask cannot be corrected here</h2><p role="alert">{{ problem }}</p></template>
          <p v-else>Loading…</p></div></div>
        <div v-else class="editor-zoom" role="group" aria-label="Nearer and farther">
          <button class="btn" @click="easel.zoom(1.5)" aria-label="Nearer" title="+">+</button><button class="btn" @click="easel.zoom(1 / 1.5)" aria-label="Farther" title="−">−</button>
          <button class="btn" @click="easel.fit()" title="0">Fit</button></div>
      </div>
      <div class="editor-side" role="group" aria-label="Tools" v-show="ready || !problem" :inert="!ready || undefined">
        <p v-if="ready && problem" class="problem" role="alert">{{ problem }}</p>
        <p v-if="saved" class="editor-saved">Saved. The next training of a segmenter from this collection reads it. <a :href="'/items/' + item">Back to the item</a><template v-if="next"> · <a :href="'/items/' + next + '/mask'">next item</a></template></p>
        <div class="editor-tools" role="group" aria-label="Tool">
          <button v-for="[each, title, key] in TOOLS" class="btn" :aria-pressed="tool === each" :title="'Key ' + key" @click="use(each)">{{ title }}</button></div>
        <p class="faint editor-hint">{{ HINTS[tool] }}</p>
        <div v-if="corners.length" class="row-of">
          <button class="btn first" :disabled="corners.length < 3" @click="close(false)">Add area</button>
          <button class="btn" :disabled="corners.length < 3" @click="close(true)">Take area away</button>
          <button class="btn" @click="drop" title="Escape">Drop</button></div>
        <label class="editor-slider" v-if="tool === 'brush' || tool === 'eraser'"><span>Size <output>{{ size }} px</output></span>
          <input type="range" min="1" :max="LARGEST" v-model.number="size" aria-label="Size of the brush in pixels" title="Keys [ and ]"></label>
        <label class="row-of"><input type="checkbox" v-model="keep"> Do not paint over other objects</label>
        <section aria-label="Objects">
          <h2 class="part">{{ count(objects.length, 'object') }}</h2>
          <div class="row-of">
            <label class="row-of"><i class="editor-swatch" :style="{ background: colourOf(current) }"></i>Object
              <input class="field editor-number" type="number" min="1" :max="MOST" v-model.number.lazy="current" aria-label="Number of the object that is drawn"></label>
            <span class="faint">{{ count(pixels, 'pixel') }}</span></div>
          <div class="row-of editor-acts">
            <button class="btn" @click="fresh" title="Key n">New object</button>
            <button class="btn" @click="act((mask) => mask.fill(current))" :disabled="!pixels" title="Key f">Fill holes</button>
            <button class="btn" @click="act((mask) => mask.remove(current))" :disabled="!pixels" title="Delete">Delete object</button></div>
          <div class="editor-objects" role="group" aria-label="Objects by colour">
            <button v-for="each in objects.slice(0, SHOWN)" :style="{ background: colourOf(each) }" :aria-pressed="each === current" :aria-label="'Object ' + each" :title="'Object ' + each" @click="current = each"></button></div>
          <p v-if="objects.length > SHOWN" class="faint">and {{ objects.length - SHOWN }} more: pick them in the picture</p>
        </section>
        <section aria-label="What is shown">
          <h2 class="part">Shown</h2>
          <label class="editor-slider"><span>Mask <output>{{ opacity }} %</output></span>
            <input type="range" min="5" max="100" v-model.number="opacity" aria-label="Opacity of the mask"></label>
          <div class="row-of"><button class="btn" :aria-pressed="hidden" @click="hidden = !hidden" title="Key h">Hide mask</button>
            <label class="row-of faint">Picture <select class="field" v-model="look"><option v-for="[value, title] in LOOKS" :value="value">{{ title }}</option></select></label></div>
        </section>
        <section aria-label="Where it begins">
          <label class="labelled">Start again from
            <select class="field" :value="start" :disabled="!ready || busy" @change="begin($event.target.value)">
              <option v-for="each in layers" :value="each.column">{{ each.title }}, {{ count(each.objects, 'object') }}</option><option value="">nothing</option></select></label>
          <label class="labelled" v-if="classes.length > 1">This is a mask of
            <select class="field" v-model="of"><option v-for="each in classes" :value="each">{{ each }}</option></select></label>
          <p class="faint editor-hint">Saved under the name {{ author() }}.</p>
        </section>
      </div>
    </div>`,
  setup(props) {
    const path = `/items/${props.item}`;
    const canvas = ref(null);
    const name = ref("");
    const problem = ref("");
    const told = ref("");
    const ready = ref(false);
    const busy = ref(false);
    const saved = ref(false);
    const layers = ref([]);
    const start = ref("");
    const of = ref("object");
    const tool = ref("brush");
    const size = ref(8);
    const keep = ref(true);
    const opacity = ref(60);
    const hidden = ref(false);
    const spaced = ref(false);
    const look = ref("");
    const current = ref(1);
    const corners = ref([]);
    const objects = ref([]);
    const pixels = ref(0);
    const state = reactive({ undo: false, redo: false, changed: false });
    const easel = ref(null);
    let mask = null;
    let last = null;
    let cursor = null;

    const corrected = computed(() => layers.value.some((each) => each.column === "mask_user"));
    const classes = computed(() => [...new Set(["object", ...layers.value.map((each) => each.of)])]);
    const next = computed(() => {
      const list = JSON.parse(sessionStorage.getItem(LIST) ?? "[]");
      const at = list.indexOf(props.item);
      return at < 0 ? null : (list[at + 1] ?? null);
    });

    // ---- what is there

    const blob = async (given) => (await send("GET", given.path, undefined, given.with)).blob();
    const masks = async () => (await get(`${path}/layers`)).filter((each) => each.kind !== "heat"); // which has no objects
    const picture = async () => createImageBitmap(await (look.value
      ? blob({ path: `${path}/enhanced`, with: { how: look.value, side: SIDE } })
      : blob({ path: `${path}/image`, with: { side: SIDE } })));
    async function numbers(column) {
      const made = new Uint16Array(mask.width * mask.height);
      if (!column) return made;
      const data = await blob({ path: `${path}/layers/${column}`, with: { coded: true } });
      const { bytes } = await decode(await data.arrayBuffer());
      for (let at = 0; at < made.length; at++) made[at] = bytes[3 * at] | (bytes[3 * at + 1] << 8);
      return made;
    }
    const trying = (doing) => attempt(doing, problem, busy);
    const load = () => trying(async () => {
      const found = await get(path);
      name.value = found.name.split("/").pop();
      if (Math.max(found.width, found.height) > SIDE) {
        throw new Error(`It has ${found.width} x ${found.height} pixels; up to ${SIDE} a side can be drawn on here. Cut the image into parts and run on those, or draw the mask in another program and send it (PUT /api/v1/items/ID/mask).`);
      }
      layers.value = await masks();
      const shown = await picture(); // its size is the item's own, that of a region too
      mask = new Mask(shown.width, shown.height);
      from(layers.value.at(-1)?.column ?? "");
      mask = new Mask(shown.width, shown.height, await numbers(start.value));
      easel.value.current = current.value = mask.objects()[0] ?? 1;
      size.value = Math.max(1, Math.min(24, Math.round(Math.max(mask.width, mask.height) / 50)));
      easel.value.show(mask, shown);
      ready.value = true;
      tell();
    });
    function from(column) {
      start.value = column;
      of.value = layers.value.find((each) => each.column === column)?.of ?? of.value;
    }
    const begin = (column) => trying(async () => {
      const made = await numbers(column);
      from(column);
      act((mask) => mask.become(made));
    });
    watch(look, () => trying(async () => easel.value.show(mask, await picture())));

    function tell() {
      objects.value = mask.objects();
      pixels.value = mask.counts[current.value];
      Object.assign(state, { undo: mask.done.length > 0, redo: mask.undone.length > 0, changed: mask.changed });
      if (mask.changed) told.value = "";
      saved.value = saved.value && !mask.changed;
      easel.value.draw();
    }

    // ---- what is done

    function act(doing) {
      mask.begin();
      doing(mask);
      mask.end();
      tell();
    }
    function back(doing) {
      mask.cancel();
      doing();
      tell();
    }
    const undo = () => (corners.value.length ? drop(true) : back(() => mask.undo()));
    const redo = () => back(() => mask.redo());
    function fresh() {
      const number = mask.free();
      if (number) current.value = number;
      else problem.value = `${MOST} objects are all that a mask holds.`;
    }
    function use(which) {
      tool.value = which;
      easel.value.moves = which === "move";
      if (which !== "polygon") drop();
    }
    function drop(one = false) {
      corners.value = one === true ? corners.value.slice(0, -1) : [];
      easel.value.draw();
    }
    const near = (one, other, reach) => {
      const [a, b] = [one, other].map(easel.value.place);
      return Math.hypot(a[0] - b[0], a[1] - b[1]) < reach;
    };
    function close(away) {
      const made = corners.value.filter((each, at, all) => !at || !near(each, all[at - 1], 3)); // a double click is two
      if (tool.value !== "polygon" || made.length < 3) return;
      corners.value = [];
      act((mask) => mask.polygon(made, away ? 0 : current.value, keep.value));
    }
    const does = {
      down(point, event) {
        if (!ready.value) return;
        if (event.altKey || tool.value === "pick") {
          current.value = mask.at(point) || current.value;
        } else if (tool.value === "polygon") {
          if (corners.value.length > 2 && near(point, corners.value[0], 9)) close(event.shiftKey);
          else corners.value = [...corners.value, point];
        } else {
          mask.begin();
          last = point;
          does.move(point, true);
        }
        easel.value.draw();
      },
      move(point, drawing) {
        cursor = point;
        if (drawing && mask?.step) {
          mask.line(last, point, size.value, tool.value === "eraser" ? 0 : current.value, keep.value);
          last = point;
        }
        easel.value.draw();
      },
      up() {
        if (!mask?.step) return;
        mask.end();
        tell();
      },
      cancel() {
        if (tool.value === "polygon") drop(true);
        if (!mask?.step) return;
        mask.cancel();
        tell();
      },
      over(context, place, scale) {
        const strokes = [["#000", 3], ["#fff", 1.4]]; // seen on every ground
        context.beginPath();
        if (corners.value.length) {
          for (const each of [...corners.value, ...(cursor ? [cursor] : [])]) context.lineTo(...place(each));
          for (const each of corners.value) {
            const [x, y] = place(each);
            context.rect(x - 3, y - 3, 6, 6);
          }
        } else if (cursor && (tool.value === "brush" || tool.value === "eraser")) {
          context.arc(...place(cursor), Math.max(2, (size.value * scale) / 2), 0, 7);
        }
        for (const [colour, width] of strokes) {
          Object.assign(context, { strokeStyle: colour, lineWidth: width });
          context.stroke();
        }
      },
    };

    // ---- what is kept

    const save = () => trying(async () => {
      const at = mask.last;
      const png = await encode(mask.numbers, mask.width, mask.height);
      await send("PUT", `${path}/mask`, png, { author: author(), of: of.value });
      mask.saved = at;
      layers.value = await masks();
      start.value = "mask_user";
      saved.value = true;
      told.value = "Saved";
      tell();
    });
    const takeBack = () => trying(async () => {
      await send("DELETE", `${path}/mask`, undefined, { author: author() });
      layers.value = await masks();
      from(layers.value.at(-1)?.column ?? "");
      const made = await numbers(start.value);
      act((mask) => mask.become(made));
      mask.saved = mask.last;
      tell();
      told.value = "Taken back";
    });

    // ---- keys

    const keys = {
      n: fresh, f: () => act((mask) => mask.fill(current.value)), h: () => (hidden.value = !hidden.value),
      "[": () => (size.value = Math.max(1, size.value - Math.ceil(size.value / 8))), "]": () => (size.value = Math.min(LARGEST, size.value + Math.ceil(size.value / 8))),
      Delete: () => act((mask) => mask.remove(current.value)), Backspace: () => drop(true), Escape: () => drop(), Enter: (event) => close(event.shiftKey),
      "+": () => easel.value.zoom(1.5), "-": () => easel.value.zoom(1 / 1.5), 0: () => easel.value.fit(),
      ...Object.fromEntries(TOOLS.map(([each, , key]) => [key, () => use(each)])),
    };
    function key(event) {
      if (!ready.value || event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
      if (event.ctrlKey || event.metaKey) {
        const doing = { z: event.shiftKey ? redo : undo, y: redo, s: busy.value ? () => {} : save }[event.key.toLowerCase()];
        if (!doing) return;
        event.preventDefault();
        doing();
      } else if (event.target.closest("button, a, input") && [" ", "Enter"].includes(event.key)) {
        return; // it is pressed
      } else if (event.key === " ") {
        event.preventDefault();
        spaced.value = easel.value.moves = true;
      } else {
        keys[event.key.length > 1 ? event.key : event.key.toLowerCase()]?.(event);
      }
    }
    function released(event) {
      if (event.key !== " ") return;
      spaced.value = false;
      easel.value.moves = tool.value === "move";
    }
    function step(event) {
      const by = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (!by) return;
      event.preventDefault();
      easel.value.pan(...by);
    }
    const leaving = (event) => {
      if (mask?.changed) event.preventDefault();
    };

    const listening = { keydown: key, keyup: released, beforeunload: leaving };

    watch(current, (number, before) => {
      if (!(Number.isInteger(number) && number >= 1 && number <= MOST)) {
        current.value = before;
        return;
      }
      easel.value.current = number;
      pixels.value = mask.counts[number];
      easel.value.repaint();
    });
    watch([opacity, hidden, tool, size], () => {
      Object.assign(easel.value, { opacity: opacity.value / 100, hidden: hidden.value });
      easel.value.draw();
    });
    onMounted(() => {
      easel.value = markRaw(new Easel(canvas.value, does));
      for (const [name, what] of Object.entries(listening)) addEventListener(name, what);
      load();
    });
    onBeforeUnmount(() => {
      for (const [name, what] of Object.entries(listening)) removeEventListener(name, what);
      easel.value.close();
    });

    return {
      canvas, name, problem, told, ready, busy, saved, layers, start, of, tool, size, keep, opacity, hidden, spaced, look, current, corners, objects, pixels, state, easel,
      corrected, classes, next, TOOLS, HINTS, LOOKS, SHOWN, LARGEST, MOST, count, colourOf, author, act, undo, redo, fresh, use, drop, close, begin, save, takeBack, step,
    };
  },
};
