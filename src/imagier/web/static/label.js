// Labels: how many there are, a head trained from them, how well it does, and what to label next.
import { computed, nextTick, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { attempt, count, get, said, send, url, words } from "/static/api.js";
import Grid from "/static/grid.js";
import Job from "/static/job.js";
import Labelling, { author, undid } from "/static/labelling.js";
import { only } from "/static/selection.js";

const WAYS = [["head", "a head on the embedding: seconds"], ["finetune", "a network, from one that has learnt: minutes to hours"], ["scratch", "a network, from nothing"], ["segmenter", "a segmenter, from corrected masks"]];
const MEASURES = [["accuracy", "Accuracy"], ["balanced_accuracy", "Balanced accuracy"], ["f1", "F1"], ["auroc", "AUROC"], ["ece", "Calibration error"], ["coverage", "Sets that hold the truth"]];

export default {
  components: { Grid, Job, Labelling },
  template: `
    <div id="content" tabindex="-1" class="labelpage"><div class="scrolls"><div class="narrow">
      <div class="row-of"><h1 class="view-title grows">Label and train</h1><a class="btn" :href="url('/labels/export')" download="labels.csv">Export labels (CSV)</a></div>
      <section class="panel" aria-label="Labels"><h2 class="part">Labels people gave</h2>
        <p v-if="!Object.keys(counts).length" class="faint">None yet. Select items in the <a href="/">gallery</a> or by a lasso on the <a href="/map">map</a>, and give them a label.</p>
        <div class="row-of"><a class="chip" v-for="(items, label) in counts" :href="shown(label)">{{ label }} <span class="faint">{{ said(items) }}</span></a></div>
        <p v-if="masks" class="faint">{{ count(masks, 'corrected mask') }}.</p>
        <div class="row-of"><button class="btn" @click="undo">Undo my last</button><span class="faint" aria-live="polite">{{ undone }}</span></div>
        <details @toggle="$event.target.open && tell()"><summary>Who said what, and when</summary><table class="told"><thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th></tr></thead><tbody>
          <tr v-for="each in acts"><td>{{ each.made.slice(0, 19).replace('T', ' ') }}</td><td>{{ each.author }}</td><td>{{ each.said }}</td></tr></tbody></table></details></section>
      <section class="panel" aria-label="Train"><h2 class="part">Train</h2><form class="row-of" @submit.prevent="train">
        <label class="labelled">What <select class="field" v-model="way"><option v-for="[name, title] in WAYS" :value="name">{{ title }}</option></select></label>
        <label v-if="way !== 'segmenter'" class="labelled">From <select class="field" v-model="column"><option v-for="name in columns" :value="name">{{ words(name) }}</option></select></label>
        <label v-if="way !== 'head'" class="labelled">Epochs <input class="field" type="number" min="1" max="1000" v-model.number="epochs" style="width: 9ch" placeholder="as set"></label>
        <label class="labelled">Name <input class="field" v-model="name" pattern="[A-Za-z0-9][A-Za-z0-9_\\-]*" maxlength="64" required title="Letters, digits, - and _, a letter or digit first"></label>
        <button class="btn first" style="align-self: end" :disabled="open_">Train</button></form>
        <p v-if="problem" class="problem" role="alert">{{ problem }}</p></section>
      <Job v-if="job" :job="job" @changed="follow" @problem="problem = $event" />
      <p v-if="segmenter" role="status">The segmenter {{ segmenter }} is there now: <a href="/try">try it</a> on images of your own.</p>
      <section v-if="heads.length" class="panel" aria-label="How well it does"><div class="row-of"><h2 class="part grows">How well it does</h2>
          <label class="row-of faint">Model <select class="field" v-model="model" aria-label="Model"><option v-for="each in heads" :value="each.name">{{ each.name }}</option></select></label>
          <label class="row-of faint">on <select class="field" v-model="part" aria-label="Judged on"><option value="test">test items, which it has not seen</option><option value="val">validation items</option><option value="">all labelled items</option></select></label></div>
        <p v-if="judging" class="faint" aria-live="polite">Judging…</p><p v-else-if="judgedProblem" class="faint" role="note">{{ judgedProblem }}</p>
        <template v-else-if="judged"><ul class="figures"><li v-for="[name, title] in MEASURES.filter(([name]) => judged.measures[name]?.mean !== null && judged.measures[name])"><b>{{ judged.measures[name].mean.toFixed(3) }}</b> {{ title }}<span class="faint" v-if="judged.measures[name].ci95[0] !== null"> ({{ judged.measures[name].ci95[0].toFixed(2) }} to {{ judged.measures[name].ci95[1].toFixed(2) }})</span></li></ul>
          <p class="faint">{{ count(judged.images, 'item') }}<template v-if="judged.left">, and {{ judged.left }} left out whose label it does not know: train again to have it learnt</template>. In brackets: where the figure lies with 95 % certainty.</p>
          <div style="overflow-x: auto"><table class="confusion" aria-label="Confusion"><caption>True label by row, what it said by column</caption><thead><tr><td></td><th scope="col" v-for="label in judged.labels">{{ label }}</th></tr></thead>
            <tbody><tr v-for="(row, at) in judged.confusion"><th scope="row">{{ judged.labels[at] }}</th><td v-for="(n, to) in row" :class="{ right: at === to && n, wrong: at !== to && n }">{{ n || '·' }}</td></tr></tbody></table></div></template>
        <div class="row-of" style="margin-top: .8rem"><button class="btn first" @click="use" :disabled="open_ || !model">Put it to use: tell what every item is</button><button class="btn" @click="next" :disabled="!model || asking">What to label next</button></div></section>
      <section v-if="suggested" class="panel" style="height: 460px; display: grid; grid-template-rows: auto 1fr" aria-label="What to label next"><h2 class="part">{{ suggested.length ? 'A label on these helps most' : 'Nothing to suggest' }}</h2>
        <Grid v-if="suggested.length" ref="grid" :ids="suggested" :side="112" :columns="['label']" @open="open" @problem="problem = $event" label="Items to label next" /></section>
    </div></div><Labelling @changed="labelled" /></div>`,
  setup() {
    const counts = ref({});
    const masks = ref(0);
    const acts = ref([]);
    const columns = ref([]);
    const way = ref("head");
    const column = ref("label_user");
    const epochs = ref(null);
    const name = ref("");
    const job = ref(null);
    const segmenter = ref(""); // the one that was trained here
    const heads = ref([]);
    const model = ref("");
    const part = ref("test");
    const judged = ref(null);
    const judging = ref(false);
    const judgedProblem = ref("");
    const suggested = ref(null);
    const asking = ref(false);
    const problem = ref("");
    const grid = ref(null);
    let timer;
    const open_ = computed(() => !!job.value && ["waiting", "running"].includes(job.value.state));
    const open = (row) => location.assign(`/items/${row.id}`);
    const guarded = (doing, where = problem) => attempt(doing, where);
    async function fresh() {
      await guarded(async () => {
        counts.value = await get("/labels/counts");
        const about = await get("");
        columns.value = Object.entries(about.columns).filter(([name, kind]) => kind === "text" && /label|group|verdict|quality/.test(name) && !/_set$/.test(name)).map(([name]) => name);
        if (!columns.value.includes("label_user")) columns.value.unshift("label_user");
        masks.value = about.columns.mask_user ? (await get("/items", { where: "mask_user!=", limit: 0 })).total : 0;
        heads.value = (await get("/models")).models.filter((each) => each.task === "classify");
        if (!heads.value.some((each) => each.name === model.value)) model.value = heads.value.at(-1)?.name ?? "";
        if (!name.value) name.value = `mine-${heads.value.length + 1}`;
      });
    }
    const shown = (label) => `/?where=${encodeURIComponent(`label_user=${label.replaceAll("|", "\\|")}`)}`;
    const undone = ref("");
    const undo = () => guarded(async () => {
      undone.value = undid(await send("POST", "/labels/undo", { author: author() }));
      labelled();
    });
    const tell = () => guarded(async () => {
      const { rows } = await get("/labels", { limit: 1000 });
      const made = new Map();
      for (const row of rows) {
        const held = made.get(row.act) ?? { ...row, n: 0 };
        held.n += row.item ? 1 : 0;
        made.set(row.act, held);
      }
      acts.value = [...made.values()].slice(0, 100).map((each) => ({ ...each, said: each.undoes ? `undid an act: ${count(each.n, "item")} as before` : each.column === "mask_user" ? (each.value ? "corrected a mask" : "took a mask back") : `${count(each.n, "item")}: ${each.value ?? "label removed"}` }));
    });
    const begin = (order, then) => guarded(async () => {
      job.value = await send("POST", "/jobs", { ...order, author: author() });
      follow(then);
    });
    const train = () => begin({ kind: "train", what: way.value, name: name.value, ...(way.value === "segmenter" ? {} : { labels: column.value }), ...(epochs.value && way.value !== "head" ? { epochs: epochs.value } : {}) }, trained);
    async function trained() {
      const [, what, made] = job.value.title.split(" ");
      segmenter.value = what === "segmenter" ? made : "";
      name.value = "";
      await fresh();
      if (heads.value.some((each) => each.name === made)) {
        if (model.value === made) judge();
        model.value = made;
      }
    }
    const use = () => begin({ kind: "classify", model: model.value, report: false }, () => guarded(async () => {
      await fresh();
      grid.value?.again(true);
    }));
    let after = null;
    async function follow(then) {
      if (typeof then === "function") after = then;
      clearTimeout(timer);
      await guarded(async () => (job.value = await get(`/jobs/${job.value.id}`)));
      if (open_.value) timer = setTimeout(follow, 700);
      else if (job.value?.state === "done" && after) {
        const now = after;
        after = null;
        now();
      }
    }
    let judgement = 0;
    async function judge() {
      const mine = ++judgement; // an earlier one that answers later is of another model or part
      judged.value = null;
      if (!model.value) return;
      judging.value = true;
      const why = { value: "" };
      const found = await guarded(() => get(`/models/${model.value}/judged`, { labels: column.value, part: part.value || undefined }), why);
      if (mine !== judgement) return;
      judgedProblem.value = why.value;
      judged.value = found ?? null;
      judging.value = false;
    }
    async function next() {
      asking.value = true;
      const found = await guarded(() => get("/suggestions", { model: model.value, labels: "label_user", n: 60 }));
      only([]); // what is labelled from here on are these
      if (found) suggested.value = found.map((each) => each.id);
      asking.value = false;
    }
    function labelled() {
      fresh();
      grid.value?.again(true);
    }
    watch([model, part, column], judge);
    onMounted(fresh);
    // What was begun here before the page was loaded anew.
    onMounted(() => guarded(async () => {
      const going = (await get("/jobs")).jobs.find((each) => ["train", "classify"].includes(each.kind) && ["waiting", "running"].includes(each.state));
      if (going) {
        job.value = going;
        follow(going.kind === 'train' ? trained : fresh);
      }
    }));
    onBeforeUnmount(() => clearTimeout(timer));
    return { counts, masks, acts, columns, way, column, epochs, name, job, segmenter, heads, model, part, judged, judging, judgedProblem, suggested, asking, problem, grid, open_, WAYS, MEASURES, open, shown, undo, undone, tell, train, use, next, labelled, follow, count, said, url, words };
  },
};
