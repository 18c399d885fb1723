// A grid of items of any number: only the rows in sight are in the page, and their data are asked for by pages.
import { computed, nextTick, onBeforeUnmount, onMounted, reactive, ref, watch } from "vue";
import { get, groupColour, said, send, thumbnail } from "/static/api.js";
import { choose, only, selection } from "/static/selection.js";

const PAGE = 120;
const CAPTION = 26;
const GAP = 8;
const TALLEST = 12_000_000; // pixels: browsers draw no taller element

export default {
  props: {
    where: { type: Array, default: () => [] },
    sort: { type: String, default: "" },
    ids: { type: Array, default: null }, // instead of conditions: these items, in this order
    side: { type: Number, default: 132 },
    columns: { type: Array, default: () => [] }, // shown under each picture, beside the name
    group: { type: String, default: "" }, // the column whose colour a picture bears
    label: { type: String, default: "Items" },
  },
  emits: ["total", "open", "problem"],
  template: `
    <div class="grid" ref="frame" role="listbox" aria-multiselectable="true" :aria-label="label" tabindex="0"
         :aria-activedescendant="at >= 0 && shown.some((s) => s.at === at) ? 'tile-' + at : undefined" @scroll.passive="moved" @keydown="key">
      <div class="grid-whole" :style="{ height: tall + 'px' }" role="presentation">
        <div v-for="each in shown" :key="each.at" role="option" :id="'tile-' + each.at" class="tile"
             :class="{ chosen: each.row && selection.has(each.row.id), here: each.at === at, waits: !each.row }"
             :aria-selected="each.row ? selection.has(each.row.id) : false" :aria-posinset="each.at + 1" :aria-setsize="total"
             :aria-label="each.row ? told(each.row) : 'loading'"
             :style="{ transform: 'translate(' + each.left + 'px,' + each.top + 'px)', width: wide + 'px', height: wide + ${CAPTION} + 'px' }"
             @click="click(each, $event)" @dblclick="each.row && opened(each.at)">
          <template v-if="each.row">
            <img :src="thumbnail(each.row.id)" alt="" decoding="async" draggable="false" :style="{ height: wide + 'px' }">
            <i v-if="group && each.row[group] !== undefined && each.row[group] !== null" class="tile-group"
               :style="{ background: groupColour(each.row[group]) }"></i>
            <span class="tile-tick" aria-hidden="true" @click.stop="tick(each, $event)"></span>
            <span class="tile-name"><b v-if="each.row.label_user">{{ each.row.label_user }}</b> {{ caption(each.row) }}</span>
          </template>
        </div>
      </div>
    </div>`,
  setup(props, { emit, expose }) {
    const frame = ref(null);
    const size = reactive({ width: 800, height: 600, top: 0 });
    const pages = reactive(new Map());
    const total = ref(0);
    const at = ref(-1);
    let asked = new Map();
    const came = new Map(); // page -> the turn in which it came
    let turn = 0;
    let timer;

    const across = computed(() => Math.max(1, Math.floor((size.width + GAP - 4) / (props.side + GAP))));
    const wide = computed(() => Math.floor((size.width - 4 - GAP * (across.value - 1)) / across.value));
    const step = computed(() => wide.value + CAPTION + GAP);
    const real = computed(() => Math.ceil(total.value / across.value) * step.value);
    const tall = computed(() => Math.min(real.value, TALLEST));
    // Where the view is in the real height, and by how much what is drawn lies off it.
    const place = computed(() => {
      const room = Math.max(1, tall.value - size.height);
      return real.value <= TALLEST ? size.top : (size.top / room) * (real.value - size.height);
    });
    const row = (index) => pages.get(Math.floor(index / PAGE))?.[index % PAGE];
    const shown = computed(() => {
      const first = Math.max(0, Math.floor(place.value / step.value) - 1);
      const last = Math.ceil((place.value + size.height) / step.value) + 1;
      const made = [];
      for (let index = first * across.value; index < Math.min(total.value, last * across.value); index++) {
        const down = Math.floor(index / across.value);
        made.push({
          at: index,
          row: row(index),
          left: 2 + (index % across.value) * (wide.value + GAP),
          top: Math.round(size.top + down * step.value - place.value),
        });
      }
      return made;
    });

    const columns = computed(() => {
      const extra = [props.group, ...props.columns].filter(Boolean);
      return [...new Set(["id", "name", "label_user", ...extra])].join(",");
    });

    async function load(number) {
      if (came.get(number) === turn || asked.has(number)) return;
      const mine = turn;
      const stop = new AbortController();
      asked.set(number, stop);
      try {
        let found;
        if (props.ids) {
          const some = props.ids.slice(number * PAGE, (number + 1) * PAGE);
          const body = { ids: some, columns: columns.value.split(",") };
          found = { items: some.length ? (await send("POST", "/items", body, {}, stop.signal)).items : [], total: props.ids.length };
        } else {
          const asking = { limit: PAGE, offset: number * PAGE, sort: props.sort || undefined, where: props.where, columns: columns.value };
          found = await get("/items", asking, stop.signal);
        }
        if (mine !== turn) return;
        pages.set(number, found.items);
        came.set(number, turn);
        if (found.total !== total.value || number === 0) {
          total.value = found.total;
          emit("total", found.total);
        }
      } catch (error) {
        if (error.name !== "AbortError" && mine === turn) emit("problem", error.message);
      } finally {
        if (asked.get(number) === stop) asked.delete(number);
      }
    }

    function fill() {
      const wanted = new Set(shown.value.map((each) => Math.floor(each.at / PAGE)));
      if (!wanted.size) wanted.add(0);
      for (const [number, stop] of asked) if (!wanted.has(number)) stop.abort();
      for (const number of wanted) load(number);
    }

    // Everything anew, where it stands: `keep` leaves what is shown until what is new has come.
    function again(keep = false) {
      turn++;
      for (const stop of asked.values()) stop.abort();
      asked = new Map();
      const seen = new Set(keep ? shown.value.map((each) => Math.floor(each.at / PAGE)) : []);
      for (const number of [...pages.keys()]) if (!seen.has(number)) pages.delete(number);
      if (!keep) {
        at.value = -1;
        if (frame.value) frame.value.scrollTop = 0;
        size.top = 0;
      }
      fill();
    }

    // At once where one has jumped; while one scrolls on, what is passed by is not asked for.
    let last = 0;
    function moved() {
      size.top = frame.value.scrollTop;
      clearTimeout(timer);
      const now = performance.now();
      if (now - last > 150) nextTick(fill);
      else timer = setTimeout(fill, 50);
      last = now;
    }

    const watching = new ResizeObserver(() => {
      if (!frame.value) return;
      size.width = frame.value.clientWidth;
      size.height = frame.value.clientHeight;
      fill();
    });
    onMounted(() => {
      watching.observe(frame.value);
      size.width = frame.value.clientWidth;
      size.height = frame.value.clientHeight;
      fill();
    });
    onBeforeUnmount(() => {
      watching.disconnect();
      turn++;
    });
    watch(() => [props.where.join("\n"), props.sort, props.ids], () => again());
    watch(columns, () => again(true));

    async function span(from, to) {
      const [low, high] = from < to ? [from, to] : [to, from];
      for (let number = Math.floor(low / PAGE); number <= Math.floor(high / PAGE); number++) await load(number);
      const ids = [];
      for (let index = low; index <= high; index++) if (row(index)) ids.push(row(index).id);
      choose(ids);
    }

    function tick(each, event) {
      if (!each.row) return;
      if (event.shiftKey && at.value >= 0) span(at.value, each.at);
      else choose([each.row.id], !selection.has(each.row.id));
      at.value = each.at;
    }

    function click(each, event) {
      if (!each.row) return;
      if (event.ctrlKey || event.metaKey || event.shiftKey || selection.size) {
        tick(each, event);
        return;
      }
      at.value = each.at;
      if (event.detail === 1) opened(each.at);
    }

    function opened(index) {
      sessionStorage.setItem("imagier.list", JSON.stringify(around(index)));
      emit("open", row(index));
    }

    function key(event) {
      const many = Math.max(1, Math.floor(size.height / step.value)) * across.value;
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across.value, ArrowUp: -across.value, PageDown: many, PageUp: -many };
      let next = null;
      if (event.key in moves) next = at.value < 0 ? 0 : at.value + moves[event.key];
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = total.value - 1;
      if (next !== null) {
        event.preventDefault();
        go(Math.max(0, Math.min(total.value - 1, next)), event.shiftKey);
      } else if (event.key === " " && at.value >= 0) {
        event.preventDefault();
        tick({ at: at.value, row: row(at.value) }, { shiftKey: false });
      } else if (event.key === "Enter" && row(at.value)) {
        opened(at.value);
      } else if (event.key === "Escape") {
        only([]);
      } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        all();
      }
    }

    function go(index, choosing) {
      if (choosing && at.value >= 0) span(at.value, index);
      at.value = index;
      const top = Math.floor(index / across.value) * step.value;
      let wanted = place.value;
      if (top < wanted) wanted = top;
      else if (top + step.value > wanted + size.height) wanted = top + step.value - size.height;
      const room = Math.max(1, real.value - size.height);
      frame.value.scrollTop = real.value <= TALLEST ? wanted : (wanted / room) * (tall.value - size.height);
    }

    // All that fit, not only those in sight.
    async function all() {
      try {
        const ids = props.ids ?? (await get("/values", { columns: "id", where: props.where })).values.id;
        only(ids); // and nothing that was chosen elsewhere: what is labelled is what is seen
      } catch (error) {
        emit("problem", error.message);
      }
    }

    const caption = (item) => {
      const more = props.columns.filter((name) => item[name] !== undefined && item[name] !== null).map((name) => said(item[name]));
      return [...more, (item.name ?? "").split("/").pop()].join(" · ");
    };
    const told = (item) => [item.name, item.label_user && `labelled ${item.label_user}`, ...props.columns.map((name) => `${name} ${said(item[name])}`)]
      .filter(Boolean).join(", ");

    // What is loaded around a place, for who opens an item and wants to go on to the next.
    const around = (index) => Array.from({ length: 401 }, (_, at) => row(index - 200 + at)?.id).filter(Boolean);

    expose({ again, all });
    return { frame, shown, tall, wide, total, at, selection, moved, key, click, tick, opened, caption, told, thumbnail, groupColour };
  },
};
