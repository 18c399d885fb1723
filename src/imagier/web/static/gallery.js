// The gallery: filters at the side, the groups above, all items in a grid.
import { computed, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { count, get, groupColour, said, send, thumbnail, words } from "/static/api.js";
import Failed from "/static/failed.js";
import Grid from "/static/grid.js";
import Held from "/static/held.js";
import Labelling from "/static/labelling.js";
import { only, seenHere } from "/static/selection.js";

const KNOWN = /^(quality|label|label_folder|label_user|verdict|detection|known|confidence|anomaly|duplicate|depth)$|_(quality|label|verdict|confidence)$/;
const SIDES = [84, 132, 190, 280];

export default {
  components: { Held, Grid, Labelling, Failed },
  template: `
    <div id="content" tabindex="-1" class="gallery">
      <aside class="gallery-side" :class="{ open: side }" aria-label="Filters">
        <div class="row-of"><h2 class="part grows">Filters</h2>
          <button v-if="where.length" class="btn" @click="clear">Clear</button>
          <button class="btn filters-open" @click="side = false">Done</button></div>
        <label class="labelled">Name or path holds
          <input class="field" type="search" v-model.lazy="text" @keyup.enter="text = $event.target.value" placeholder="any"></label>
        <fieldset class="facet" v-for="facet in facets" :key="facet.name">
          <legend>{{ words(facet.name) }}</legend>
          <template v-if="isRange(facet)">
            <div class="bins" aria-hidden="true"><i v-for="bin in facet.bins" :style="{ height: heights(facet, bin) }"></i></div>
            <div class="range">
              <Held class="field" type="number" step="any" :aria-label="facet.name + ' from'" :placeholder="said(facet.low)"
                     :value="chosen[facet.name]?.from" @given="range(facet.name, 'from', $event)" />
              <span aria-hidden="true">–</span>
              <Held class="field" type="number" step="any" :aria-label="facet.name + ' to'" :placeholder="said(facet.high)"
                     :value="chosen[facet.name]?.to" @given="range(facet.name, 'to', $event)" />
            </div>
            <label v-if="facet.without && facet.items" class="row-of"><input type="checkbox" :checked="chosen[facet.name]?.some"
              @change="some(facet.name, $event.target.checked)"> has one <span class="faint">{{ said(facet.items) }}</span></label>
          </template>
          <div v-else class="facet-values">
            <label v-for="each in facet.values" :key="String(each.value)"><input type="checkbox" :checked="has(facet.name, each.value)"
              @change="toggle(facet.name, each.value)"><i class="dot" v-if="isGroup(facet.name)" :style="{ background: groupColour(each.value) }"></i><i v-else></i>
              <span :title="valueName(facet.name, each.value)">{{ valueName(facet.name, each.value) }}</span><span>{{ said(each.count) }}</span></label>
            <label v-if="facet.without"><input type="checkbox" :checked="has(facet.name, '')" @change="toggle(facet.name, '')"><i></i>
              <span><em>none</em></span><span>{{ said(facet.without) }}</span></label>
            <p v-if="facet.distinct > facet.values.length" class="faint">{{ facet.values.length ? 'The ' + facet.values.length + ' most frequent of ' + said(facet.distinct) : said(facet.distinct) + ' values: too many to list' }}</p>
          </div>
        </fieldset>
        <label class="labelled" style="margin-top: .8rem">Filter by another column
          <select class="field" @change="more($event)"><option value="">choose…</option>
            <option v-for="name in others" :value="name">{{ words(name) }}</option></select></label>
        <p v-if="about.failed" style="margin-top: 1rem"><button class="btn" @click="failed = true">{{ count(about.failed, 'file') }} failed: why?</button></p>
      </aside>
      <div class="gallery-main">
        <div class="gallery-bar">
          <h1 class="view-title" aria-live="polite">{{ problem ? 'Gallery' : total === null ? 'Loading…' : count(total, 'item') }}<span v-if="where.length && !problem" class="faint"> of {{ said(about.items) }}</span></h1>
          <button class="btn filters-open" @click="side = true">Filters</button>
          <label class="row-of faint">Sort <select class="field" v-model="order" aria-label="Sort by">
            <option value="">as they come</option><option v-for="name in sortable" :value="name">{{ words(name) }}</option></select></label>
          <button class="btn" v-if="order" @click="down = !down" :aria-label="down ? 'largest first' : 'smallest first'">{{ down ? '↓' : '↑' }}</button>
          <span class="row-of" role="group" aria-label="Size of pictures">
            <button class="btn" @click="size = Math.max(0, size - 1)" :disabled="!size" aria-label="Smaller pictures">−</button>
            <button class="btn" @click="size = Math.min(3, size + 1)" :disabled="size === 3" aria-label="Larger pictures">+</button></span>
          <button class="btn" @click="grid.all()" :disabled="!total">Select all</button>
        </div>
        <section v-if="groups.length" class="cards" :aria-label="'Groups of ' + words(clustering.column)" tabindex="0">
          <div class="cluster" v-for="each in groups" :key="each.group" :class="{ on: has(clustering.column, each.group) }">
            <div class="cluster-head"><i class="dot" :style="{ background: groupColour(each.group) }"></i>
              <Held :value="each.name" :placeholder="groupName(each.group)" maxlength="80" :aria-label="'Name of ' + groupName(each.group)" @given="rename(each, $event)" />
              <span v-if="each.quality" :class="each.quality === 'high' ? 'badge-high' : 'badge-low'" :title="'How well its items hold together: ' + each.quality">{{ each.quality }}</span></div>
            <button class="cluster-show" @click="toggle(clustering.column, each.group)" :aria-pressed="has(clustering.column, each.group)" :aria-label="'Show ' + (each.name || groupName(each.group)) + ', ' + count(each.size, 'item')">
              <img v-for="id in each.central.slice(0, 4)" :src="thumbnail(id)" alt="" loading="lazy"></button>
            <div class="cluster-facts"><span>{{ count(each.size, 'item') }}</span><span v-if="each.cohesion !== null && each.cohesion !== undefined" title="How alike its items are, 0 to 1">cohesion {{ each.cohesion.toFixed(2) }}</span></div>
          </div>
        </section><span v-else></span>
        <div v-if="problem" class="empty" role="alert"><h2>This cannot be shown</h2><p>{{ problem }}</p><div class="row-of"><button class="btn first" @click="again">Try again</button><button v-if="where.length || order" class="btn" @click="clear">Clear filters and order</button></div></div>
        <div v-else-if="total === 0 && about.items === 0" class="empty"><h2>Nothing here yet</h2><p>Drop images under “Try”, and keep them; or run imagier on a folder.</p><a class="btn first" href="/try">Try some images</a></div>
        <div v-else-if="total === 0" class="empty"><h2>No item fits all of these filters</h2><p>{{ where.join(', ') }}</p><button class="btn" @click="clear">Clear filters</button></div>
        <Grid v-if="ready" v-show="total !== 0 && !problem" ref="grid" :where="where" :sort="sort" :side="SIDES[size]" :columns="order && order !== 'name' ? [order] : []"
              :group="clustering?.column ?? ''" @total="total = $event" @open="open" @problem="problem = $event" label="Items. Arrow keys move, space selects, Enter opens." />
        <Labelling v-if="total" @changed="labelled" />
      </div>
      <Failed v-if="failed" @close="failed = false" />
    </div>`,
  setup() {
    const query = new URLSearchParams(location.search);
    const about = ref({ items: null, failed: 0, columns: {} });
    const where = ref(query.getAll("where"));
    const sort = computed(() => (order.value ? (down.value ? "-" : "") + order.value : ""));
    const given = query.get("sort") ?? "";
    const order = ref(given.replace(/^-/, ""));
    const down = ref(given.startsWith("-"));
    const size = ref(Number(localStorage.getItem("imagier.side") ?? 1));
    const total = ref(null);
    const problem = ref("");
    const side = ref(false);
    const failed = ref(false);
    const facets = ref([]);
    const named = (conditions) => conditions.map((each) => each.match(/^[^=!<>~]+/)?.[0].trim()).filter((name) => name && name !== "name");
    const extra = ref(named(where.value)); // a filter that stands in the address is seen here
    const clusters = ref([]);
    const ready = ref(false); // by then it is known which columns the grid shows
    const grid = ref(null);
    const clustering = computed(() => clusters.value[0] ?? null);
    const groups = computed(() => (clustering.value?.facts.groups ?? []).map((each) => ({ ...each, name: clustering.value.names[each.group] ?? "" })));
    const isGroup = (name) => clusters.value.some((each) => each.column === name);
    const groupName = (group) => (group < 0 ? "noise" : `group ${group}`);
    const valueName = (column, value) => {
      if (!isGroup(column)) return said(value);
      return clusters.value.find((each) => each.column === column).names[value] || groupName(value);
    };

    // ---- conditions: each is COLUMN OP VALUE; those of a facet are read back out of them
    const text = computed({
      get: () => (where.value.find((each) => each.startsWith("name~")) ?? "name~").slice(5),
      set: (value) => put("name~", value.trim()),
    });
    const escaped = (value) => String(value).replaceAll("|", "\\|");
    const valuesOf = (name) => {
      const held = where.value.find((each) => each.startsWith(`${name}=`));
      return held === undefined ? null : held.slice(name.length + 1).split(/(?<!\\)\|/);
    };
    const has = (name, value) => (valuesOf(name) ?? []).includes(escaped(value));
    const chosen = computed(() => Object.fromEntries(facets.value.map(({ name }) => [name, {
      from: where.value.find((each) => each.startsWith(`${name}>=`))?.slice(name.length + 2),
      to: where.value.find((each) => each.startsWith(`${name}<=`))?.slice(name.length + 2),
      some: where.value.includes(`${name}!=`),
    }])));
    function put(begin, value) {
      const rest = where.value.filter((each) => !each.startsWith(begin));
      where.value = value === "" ? rest : [...rest, begin + value];
    }
    function toggle(name, value) {
      const held = valuesOf(name);
      // "none" stands alone: the API knows no value and nothing at once
      let next = held === null || value === "" || held.includes("") ? [] : held;
      next = held?.includes(escaped(value)) ? next.filter((each) => each !== escaped(value)) : [...next, escaped(value)];
      const rest = where.value.filter((each) => !each.startsWith(`${name}=`));
      where.value = next.length ? [...rest, `${name}=${next.join("|")}`] : rest;
    }
    const range = (name, end, value) => put(`${name}${end === "from" ? ">=" : "<="}`, value);
    const some = (name, on) => {
      const rest = where.value.filter((each) => each !== `${name}!=`);
      where.value = on ? [...rest, `${name}!=`] : rest;
    };
    function clear() {
      problem.value = "";
      where.value = [];
      order.value = "";
    }
    function again() {
      problem.value = "";
      fresh();
      grid.value?.again();
    }

    // ---- what can be filtered and sorted by
    const sortable = computed(() => Object.entries(about.value.columns).filter(([, kind]) => kind !== "list").map(([name]) => name).filter((name) => !["id", "file", "parent"].includes(name)));
    const shownFacets = computed(() => [...clusters.value.map((each) => each.column), ...sortable.value.filter((name) => KNOWN.test(name) && !isGroup(name)), ...extra.value.filter((name) => sortable.value.includes(name) && !KNOWN.test(name) && !isGroup(name))]);
    const others = computed(() => sortable.value.filter((name) => name !== "name" && !shownFacets.value.includes(name)));
    function more(event) {
      if (event.target.value) extra.value = [...extra.value, event.target.value];
      event.target.value = "";
    }
    let first;
    const seen = new Promise((done) => (first = done));
    watch([total, problem], () => setTimeout(first, 200), { once: true });
    let facetTurn = 0;
    async function count_() {
      const mine = ++facetTurn;
      const made = await Promise.all(shownFacets.value.map(async (name) => {
        // its own condition is left out, or the other values could not be chosen
        const rest = where.value.filter((each) => !new RegExp(`^${name}(!=|<=|>=|=|<|>|~)`).test(each));
        try {
          return { name, ...(await get(`/columns/${name}`, { where: rest })) };
        } catch (error) {
          // no answer: what was counted stays; else a column that has gone, or a condition that the grid tells of
          return error.status === 0 ? facets.value.find((each) => each.name === name) : null;
        }
      }));
      if (mine === facetTurn) facets.value = made.filter((each) => each && (each.distinct > 1 || (each.distinct && each.without) || extra.value.includes(each.name) || valuesOf(each.name)));
    }
    const isRange = (facet) => facet.kind === "number" && (facet.distinct > 12 || facet.values.some((each) => !Number.isInteger(each.value)));
    const heights = (facet, bin) => `${Math.max(3, (100 * Math.sqrt(bin)) / Math.sqrt(Math.max(...facet.bins)))}%`;

    async function fresh() {
      try {
        const asked = get("");
        clusters.value = await get("/clusters");
        ready.value = true;
        about.value = await asked;
        await seen; // pictures first: counts would take their connections
        await count_();
      } catch (error) {
        problem.value = error.message;
      }
    }
    // A run beside this may bring items, and change those that are shown.
    async function look() {
      if (document.hidden || problem.value || !ready.value) return;
      const now = await get("").catch(() => null); // who does something is told that the server is away
      if (now && (now.version !== about.value.version || (!where.value.length && total.value !== now.items))) labelled();
    }
    const looking = setInterval(look, 3000);
    onBeforeUnmount(() => clearInterval(looking));
    async function rename(each, name) {
      try {
        await send("PUT", `/clusters/${clustering.value.column}/${each.group}`, { name: name.trim() });
        clusters.value = await get("/clusters");
      } catch (error) {
        problem.value = error.message;
      }
    }
    const open = (row) => location.assign(`/items/${row.id}`);
    function labelled() {
      grid.value.again(true);
      fresh();
    }
    watch([where, order, down, extra], () => {
      const said = new URLSearchParams(where.value.map((each) => ["where", each]));
      if (sort.value) said.set("sort", sort.value);
      const address = said.size ? `/?${said}` : "/";
      if (address !== location.pathname + location.search) history.pushState(null, "", address); // back goes back
      problem.value = "";
      count_();
    });
    watch(where, () => only([])); // what is chosen is what is seen
    function back() {
      const query = new URLSearchParams(location.search);
      where.value = query.getAll("where");
      order.value = (query.get("sort") ?? "").replace(/^-/, "");
      down.value = (query.get("sort") ?? "").startsWith("-");
    }
    onMounted(() => addEventListener("popstate", back));
    onBeforeUnmount(() => removeEventListener("popstate", back));
    watch(size, () => localStorage.setItem("imagier.side", size.value));
    seenHere();
    onMounted(fresh);

    return {
      about, ready, where, sort, order, down, size, total, problem, side, failed, facets, chosen, clustering, groups, grid, text, sortable, others,
      SIDES, count, words, said, thumbnail, groupColour, isGroup, isRange, groupName, valueName, has, toggle, range, some, clear, again, more, heights, rename, open, labelled,
    };
  },
};
