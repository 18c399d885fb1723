// Folders: planned and looked at, then made; and all of it taken back.
import { computed, onBeforeUnmount, onMounted, ref, watch } from "vue";
import { attempt, count, get, send, thumbnail, words } from "/static/api.js";
import { author } from "/static/labelling.js";
import Job from "/static/job.js";

const HOW = [["copy", "Copy the files"], ["hardlink", "Hard links: no more room, the originals stay"], ["symlink", "Symbolic links"], ["move", "Move the originals"]];
const size = (bytes) => (bytes > 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : bytes > 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);

export default {
  components: { Job },
  template: `
    <div id="content" tabindex="-1" class="scrolls"><div class="narrow">
      <h1 class="view-title">Organise into folders</h1>
      <section class="panel" aria-label="How"><div class="row-of">
        <label class="labelled">A folder for each <select class="field" v-model="by"><option v-for="name in columns" :value="name">{{ words(name) }}</option></select></label>
        <label class="labelled">and in it <select class="field" v-model="then"><option value="">nothing</option><option v-for="name in columns.filter((each) => each !== by)" :value="name">{{ words(name) }}</option></select></label>
        <label class="labelled">How <select class="field" v-model="how"><option v-for="[name, title] in HOW" :value="name">{{ title }}</option></select></label>
        <button class="btn first" style="align-self: end" @click="look" :disabled="busy || !by">Plan</button></div>
        <p class="faint">A plan does nothing. The folders come into <code>organised</code>, in the collection's own folder.</p>
        <p v-if="problem" class="problem" role="alert">{{ problem }} <template v-if="going">The job “{{ going.title }}” is at work on it: <a href="/jobs">see how far it is</a>.</template></p></section>
      <section v-if="laid" class="panel row-of" aria-label="What is laid out"><span class="grows">{{ count(laid, 'file') }} laid out now.</span><button class="btn danger" @click="undo" :disabled="!!open_">Take all back</button></section>
      <Job v-if="job" :job="job" @changed="follow" @problem="problem = $event" />
      <section v-if="plan" class="panel" aria-label="The plan"><div class="row-of"><h2 class="part grows" aria-live="polite">{{ count(plan.files, 'file') }} into {{ count(plan.folders.length, 'folder') }}<span v-if="plan.left" class="faint"> · {{ plan.left }} left as they are</span></h2>
          <label v-if="how === 'move'" class="row-of"><input type="checkbox" v-model="sure"> The originals leave where they are</label>
          <button class="btn first" @click="apply" :disabled="!!open_ || !plan.files || (how === 'move' && !sure)">Do it</button></div>
        <ul class="tree"><li v-for="each in plan.folders" :style="{ marginLeft: 18 * (each.name.split('/').length - 1) + 'px' }"><details><summary><span aria-hidden="true">▸ </span>{{ each.name || '.' }} <span class="faint">{{ count(each.files, 'file') }}, {{ size(each.bytes) }}</span></summary><div class="strip"><a v-for="id in each.items" :href="'/items/' + id"><img :src="thumbnail(id)" alt="" loading="lazy"></a></div></details></li></ul>
        <details v-if="plan.whys.length"><summary>Why {{ count(plan.left, 'file') }} stay as they are</summary><ul><li v-for="each in plan.whys">{{ each.why }}</li></ul></details></section>
    </div></div>`,
  setup() {
    const columns = ref([]);
    const by = ref("");
    const then = ref("");
    const how = ref("copy");
    const plan = ref(null);
    const laid = ref(0);
    const job = ref(null);
    const problem = ref("");
    const busy = ref(false);
    const sure = ref(false);
    let timer;
    const open_ = computed(() => job.value && ["waiting", "running"].includes(job.value.state));
    const asked = computed(() => ({ by: [by.value, then.value].filter(Boolean).join(","), how: how.value }));
    const guarded = (doing) => attempt(doing, problem, busy);
    const going = ref(null); // what stands in the way of a plan
    const look = () => guarded(async () => {
      going.value = (await get("/jobs")).jobs.find((each) => each.state === "running") ?? null;
      plan.value = await send("POST", "/organise/plan", asked.value);
      going.value = null;
    });
    const begin = (order) => guarded(async () => {
      job.value = await send("POST", "/jobs", { ...order, author: author() });
      follow();
    });
    const apply = () => begin({ kind: "organise", ...asked.value, confirm: how.value === "move" && sure.value });
    const undo = () => begin({ kind: "undo" });
    async function follow() {
      clearTimeout(timer);
      await guarded(async () => (job.value = await get(`/jobs/${job.value.id}`)));
      if (open_.value) timer = setTimeout(follow, 700);
      else {
        plan.value = null;
        await guarded(async () => (laid.value = (await get("/organise")).files));
      }
    }
    watch(asked, () => (plan.value = null));
    onMounted(() => guarded(async () => {
      const about = await get("");
      const good = Object.entries(about.columns).filter(([name, kind]) => ["text", "boolean"].includes(kind) && !["id", "file", "name", "parent", "mask_user", "recommendation"].includes(name)).map(([name]) => name);
      columns.value = [...(await get("/clusters")).map((each) => each.column), ...good];
      by.value = columns.value[0] ?? "";
      laid.value = (await get("/organise")).files;
    }));
    // What was begun here before the page was loaded anew.
    onMounted(() => guarded(async () => {
      const going = (await get("/jobs")).jobs.find((each) => ["organise", "undo"].includes(each.kind) && ["waiting", "running"].includes(each.state));
      if (going) {
        job.value = going;
        follow();
      }
    }));
    onBeforeUnmount(() => clearTimeout(timer));
    return { going, columns, by, then, how, plan, laid, job, problem, busy, sure, open_, HOW, look, apply, undo, follow, count, words, thumbnail, size };
  },
};
