// One item: its picture beside what was made of it, what the models say, what is like it, and how all of that came about.
import { computed, onBeforeUnmount, onMounted, reactive, ref } from "vue";
import { count, get, said, send, thumbnail, url, words } from "/static/api.js";
import Compare from "/static/compare.js";
import Grid from "/static/grid.js";
import { author } from "/static/labelling.js";
import Verdict from "/static/verdict.js";

const OWN = new Set(["id", "file", "name", "parent", "box", "page", "label_user", "mask_user", "recommendation", "ranked", "ranked_confidence", "label_set", "contour"]);
const TOLD = /(^|_)(ranked|ranked_confidence|label_set|recommendation|label|confidence|known|typical|verdict|anomaly|anomaly_typical|bad_probability)$|^(black|white)$/; // said elsewhere on the page
const VIEWS = [["", "nothing beside it"], ["contrast", "more contrast"], ["clahe", "local contrast (CLAHE)"], ["denoise", "noise taken out"], ["upscale", "enlarged"]];
const SIDE = 1400;

export default {
  components: { Compare, Grid, Verdict },
  props: { id: String, base: { type: String, default: "" } },
  template: `
    <div id="content" tabindex="-1" class="scrolls"><div class="item" v-if="item">
      <div class="item-left">
        <div class="row-of"><h1 class="view-title grows" style="overflow-wrap: anywhere">{{ item.name?.split('/').pop() ?? 'Item' }}<span v-if="item.parent" class="faint"> · region</span></h1>
          <a class="btn" v-if="beside[0]" :href="'/items/' + beside[0]" aria-label="The item before">←</a><a class="btn" v-if="beside[1]" :href="'/items/' + beside[1]" aria-label="The next item">→</a>
          <a class="btn" v-if="item.parent" :href="'/items/' + item.parent">The whole image</a>
          <a class="btn" :href="'/items/' + id + '/mask'">Correct its mask</a></div>
        <Compare :before="url(base + '/items/' + id + '/image', { side: ${SIDE} })" :after="view ? url(base + '/items/' + id + '/enhanced', { how: view, side: ${SIDE} }) : ''"
                 :titles="['as it is', viewTitle]" :layers="over" :alt="item.name" @problem="problem = $event" />
        <p v-if="problem" class="problem" role="alert">{{ problem }}</p>
        <div class="row-of">
          <label class="row-of faint">Beside it <select class="field" v-model="view" @change="problem = ''"><option v-for="[name, title] in VIEWS" :value="name">{{ title }}</option></select></label>
          <span class="faint">Views never change the file. The wheel enlarges.</span></div>
        <div v-if="layers.length" class="row-of" role="group" aria-label="What is laid over it">
          <label v-for="each in layers" class="chip"><input type="checkbox" v-model="each.on"> {{ each.title }}<span v-if="each.objects > 1" class="faint">{{ each.objects }}</span></label>
          <label class="row-of faint">Opacity <input type="range" min="0.05" max="1" step="0.05" v-model.number="opacity" aria-label="Opacity of what is laid over it"></label></div>
        <section v-if="regions.total" class="panel" style="height: 340px; display: grid; grid-template-rows: auto 1fr" aria-label="Regions"><h2 class="part">{{ count(regions.total, 'region') }} cut out of it</h2>
          <Grid :where="['parent=' + id]" :side="92" @open="open" label="Regions" /></section>
        <section class="panel" aria-label="Most like it"><h2 class="part">Most like it</h2>
          <p v-if="near === null" class="faint">{{ nearSaid }}</p>
          <div v-else class="strip"><a v-for="hit in near" :href="'/items/' + hit.id" :title="hit.name"><img :src="thumbnail(hit.id)" :alt="hit.name ?? ''" loading="lazy"><span>{{ hit.score.toFixed(2) }}</span></a></div></section>
      </div>
      <div class="item-right">
        <section class="panel" aria-label="Your label"><h2 class="part">Your label</h2>
          <form class="row-of" @submit.prevent="assign(label.trim() || null)"><input class="field grows" v-model="label" aria-label="Label" placeholder="none" maxlength="200" list="labels-known">
            <datalist id="labels-known"><option v-for="each in known" :value="each"></option></datalist><button class="btn first">Save</button></form>
          <p class="faint" aria-live="polite">{{ saved }}</p></section>
        <Verdict :item="item" :titles="titles" />
        <section class="panel" aria-label="Measures"><h2 class="part">What is known of it</h2>
          <table class="told"><tbody><tr v-for="[name, value] in facts"><th scope="row">{{ words(name) }}</th><td class="number">{{ said(value) }}</td></tr></tbody></table></section>
        <section class="panel" aria-label="Provenance"><h2 class="part">How it came about</h2>
          <p class="faint" style="overflow-wrap: anywhere">{{ item.name }}, page {{ item.page }}. Content {{ item.file.slice(0, 16) }}…</p>
          <details v-for="each in receipts"><summary>{{ each.step }} <span class="faint">{{ each.stage }} {{ each.version }}, {{ each.made.slice(0, 10) }}</span></summary>
            <table class="told"><tbody><tr v-for="(value, name) in each.settings"><th scope="row">{{ words(name) }}</th><td>{{ said(typeof value === 'object' && value && !Array.isArray(value) ? JSON.stringify(value) : value) }}</td></tr>
            <tr><th scope="row">precision</th><td>{{ each.precision }}</td></tr><tr v-for="sum in each.weights"><th scope="row">weights</th><td>{{ sum.slice(0, 16) }}…</td></tr></tbody></table></details></section>
      </div>
    </div>
    <div v-else class="empty"><template v-if="problem"><h2>This item cannot be shown</h2><p role="alert">{{ problem }}</p><a class="btn" href="/">To the gallery</a></template><p v-else>Loading…</p></div></div>`,
  setup(props) {
    const item = ref(null);
    const layers = reactive([]);
    const receipts = ref([]);
    const near = ref(null);
    const nearSaid = ref("Looking…");
    const regions = ref({ total: 0 });
    const problem = ref("");
    const view = ref("");
    const opacity = ref(0.45);
    const label = ref("");
    const saved = ref("");
    const known = ref([]);
    const titles = ref({});
    const viewTitle = computed(() => VIEWS.find(([name]) => name === view.value)[1]);
    const over = computed(() => layers.filter((each) => each.on).map((each) => ({ src: url(`${props.base}/items/${props.id}/layers/${each.column}`, { side: SIDE, v: each.v }), opacity: opacity.value })));
    const facts = computed(() => Object.entries(item.value).filter(([name, value]) => !OWN.has(name) && value !== null && value !== "" && !(Array.isArray(value) && !value.length) && !TOLD.test(name)));
    const open = (row) => location.assign(`/items/${row.id}`);

    // The list that it was opened from, as far as it was loaded.
    const list = JSON.parse(sessionStorage.getItem("imagier.list") ?? "[]");
    const here = list.indexOf(props.id);
    const beside = here < 0 ? [] : [list[here - 1], list[here + 1]];
    const arrows = (event) => {
      const to = { ArrowLeft: beside[0], ArrowRight: beside[1] }[event.key];
      if (to && event.altKey === false && !event.target.closest("input, select, textarea, [role=slider], [role=listbox]")) location.assign(`/items/${to}`);
    };
    onMounted(() => addEventListener("keydown", arrows));
    onBeforeUnmount(() => removeEventListener("keydown", arrows));

    async function quietly(doing, otherwise) {
      try {
        return await doing();
      } catch (error) {
        return otherwise(error);
      }
    }
    async function assign(value) {
      saved.value = "";
      try {
        await send("POST", "/labels", { items: [props.id], label: value, author: author() });
        saved.value = value === null ? "It has no label of yours now." : `Saved as ${value}, by ${author()}.`;
      } catch (error) {
        saved.value = error.message;
      }
    }
    onMounted(async () => {
      try {
        item.value = await get(`${props.base}/items/${props.id}`);
      } catch (error) {
        problem.value = error.message;
        return;
      }
      document.title = `${item.value.name?.split("/").pop() ?? "Item"} · imagier`;
      label.value = item.value.label_user ?? "";
      const say = (error) => (problem.value = error.message);
      quietly(async () => {
        const found = await get(`${props.base}/items/${props.id}/layers`);
        layers.push(...found.map((each, at) => ({ ...each, on: at === found.length - 1, v: item.value.mask_user?.slice(0, 8) })));
      }, say);
      if (item.value.ranked) quietly(async () => (titles.value = Object.assign({}, ...(await get("/models")).models.map((each) => each.titles))), say);
      quietly(async () => (receipts.value = await get("/receipts")), say);
      quietly(async () => (known.value = Object.keys(await get("/labels/counts"))), say);
      if (!item.value.parent) quietly(async () => (regions.value = await get("/items", { where: `parent=${props.id}`, limit: 0 })), say);
      quietly(async () => (near.value = (await get(`/items/${props.id}/similar`, { n: 12 })).hits.filter((hit) => hit.id !== props.id)), (error) => (nearSaid.value = error.message));
    });
    return { item, titles, beside, layers, receipts, near, nearSaid, regions, problem, view, opacity, label, saved, known, viewTitle, over, facts, VIEWS, open, assign, url, said, words, count, thumbnail };
  },
};
