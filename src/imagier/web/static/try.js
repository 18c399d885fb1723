// One's own images through a preset or models: seen, measured, told; downloaded, kept, or gone without a trace.
import { computed, onBeforeUnmount, onMounted, reactive, ref } from "vue";
import { count, get, said, send, thumbnail, url, words } from "/static/api.js";
import Compare from "/static/compare.js";
import Drop from "/static/drop.js";
import Verdict from "/static/verdict.js";

const KEY = "imagier.trial";
const HIDE = /^(x|y|z|distance|id|file|name|parent|box|page|width|height|depth|black|white|label|confidence|ranked|ranked_confidence|label_set|known|typical|recommendation|verdict|masks|contour|objects_list|path|paths|label_user|mask_user|label_folder|detection|phash|anomaly|defects|bad_probability)$|_(ranked|ranked_confidence|label_set|recommendation|label|confidence|known|typical|x|y|z|distance|anomaly|defects|bad_probability)$/;
const UNITS = [[/_um2$/, "µm²"], [/_um$/, "µm"], [/_px2$/, "px²"], [/_px$/, "px"], [/_deg$/, "°"]];

export default {
  components: { Compare, Drop, Verdict },
  props: { preset: String, models: { type: Array, default: () => [] } },
  template: `
    <div id="content" tabindex="-1" class="scrolls"><div class="narrow" style="max-width: 1320px">
      <h1 class="view-title">Try your own images</h1>
      <section class="panel" aria-label="What to do with them">
        <div class="row-of">
          <label class="labelled">What for <select class="field" v-model="chosen.preset" :disabled="busy"><option value="">{{ chosen.models.length ? 'what the models make up' : 'as this collection was made' }}</option>
            <option v-for="each in choices.presets" :value="each.name" :disabled="each.lacks.length > 0">{{ each.name }}: {{ each.what }}</option></select></label>
        </div>
        <fieldset class="facet" v-if="choices.models.length"><legend>Models</legend><div class="row-of">
          <label class="chip" v-for="each in choices.models" :title="[each.labels.slice(0, 12).join(', '), each.licence].filter(Boolean).join(' · ')"><input type="checkbox" :value="each.name" v-model="chosen.models" :disabled="busy"> {{ each.name }} <span v-if="each.task !== each.name" class="faint">{{ each.task }}</span></label></div></fieldset>
        <p v-if="missing" class="faint" role="note">{{ missing }}</p>
        <Drop :busy="busy" @files="put" @problem="problem = $event" />
      </section>
      <p v-if="problem" class="problem" role="alert">{{ problem }}</p>
      <section v-if="trial && (trial.state === 'waiting' || trial.state === 'running')" class="panel" aria-live="polite"><p><strong>{{ trial.state === 'waiting' ? 'Waiting for its turn' : 'At work' }}</strong>: {{ trial.progress.done }} of {{ count(trial.progress.total, 'file') }}<span v-if="trial.progress.rate" class="faint">, {{ said(trial.progress.rate) }} a second, {{ Math.ceil(trial.progress.left) }} s left</span></p>
        <progress :value="trial.progress.done" :max="Math.max(1, trial.progress.total)" style="width: 100%" aria-label="Progress"></progress><button class="btn" @click="forget">Stop and forget</button></section>
      <template v-if="result">
        <div class="row-of"><h2 class="part grows" aria-live="polite">{{ count(result.images.length, 'image') }}<span v-if="failed" class="faint"> · {{ failed }} could not be used</span></h2>
          <a class="btn first" :href="url('/trials/' + trial.id + '/archive')" download="trial.zip">Download all (ZIP)</a>
          <button class="btn" @click="keep" :disabled="!!kept || failed === result.images.length">Add to the collection</button><button class="btn danger" @click="forget">Leave no trace</button></div>
        <p v-if="kept" role="status">They are the collection's now, in <code>{{ kept.folder }}</code>; <a href="/jobs">a job</a> takes them in.</p>
        <p v-if="result.notice" class="told-unlike" role="note">{{ result.notice }}</p>
        <article v-for="(image, at) in result.images" :key="at" class="tried panel">
          <h3 class="part" style="margin-top: 0; overflow-wrap: anywhere">{{ image.name }}</h3>
          <p v-if="image.outcome === 'failed'" class="problem" role="alert">{{ image.reason }}</p>
          <template v-else><div class="tried-sides">
            <div><Compare :before="picture(image.items[0])" after="" :alt="image.name" v-if="!layers(image).length" />
              <div v-else class="sides"><figure><img :src="picture(image.items[0])" :alt="image.name"><figcaption>as sent</figcaption></figure>
                <figure><div class="laid"><img :src="picture(image.items[0])" alt=""><img v-for="each in layers(image)" :src="each.src" alt="" :style="{ opacity }"></div><figcaption>{{ layers(image).map((each) => each.title).join(', ') }}</figcaption></figure></div>
              <label v-if="layers(image).length" class="row-of faint">Opacity <input type="range" min="0.05" max="1" step="0.05" v-model.number="opacity" aria-label="Opacity of masks"></label></div>
            <div class="tried-told"><Verdict v-for="item in told(image)" :item="item" :titles="titles" :key="item.id" />
              <section class="panel" v-if="measures(image).length" aria-label="Measures"><h2 class="part">Measured</h2><table class="told"><tbody><tr v-for="[name, value, unit] in measures(image)"><th scope="row">{{ name }}</th><td class="number">{{ said(value) }} {{ unit }}</td></tr></tbody></table></section></div></div>
            <details v-if="image.items.length > 2"><summary>{{ count(image.items.length - 1, 'region') }}</summary><div class="strip"><figure v-for="item in image.items.slice(1, 61)"><img :src="thumbnail(item.id, '/trials/' + trial.id)" :alt="item.label ?? item.detection ?? 'region'" loading="lazy"><figcaption>{{ item.label ?? item.verdict ?? item.detection }} <b v-if="item.confidence">{{ (100 * item.confidence).toFixed(0) }} %</b></figcaption></figure></div>
              <p v-if="image.items.length > 61" class="faint">The first 60; all are in the ZIP.</p></details></template>
        </article>
      </template>
    </div></div>`,
  setup(props) {
    const choices = ref({ presets: [], models: [] });
    const chosen = reactive({ preset: props.preset ?? "", models: [...props.models] });
    const trial = ref(null);
    const problem = ref("");
    const kept = ref(null);
    const opacity = ref(0.5);
    const laid = reactive({});
    let timer;
    const busy = computed(() => ["waiting", "running"].includes(trial.value?.state));
    const result = computed(() => (trial.value?.state === "done" ? trial.value.result : null));
    const failed = computed(() => result.value?.images.filter((each) => each.outcome === "failed").length ?? 0);
    const titles = computed(() => Object.assign({}, ...choices.value.models.map((each) => each.titles)));
    const missing = computed(() => {
      const preset = choices.value.presets.find((each) => each.name === chosen.preset);
      const tasks = choices.value.models.filter((each) => chosen.models.includes(each.name)).map((each) => each.task);
      const needs = (preset?.needs ?? []).filter((task) => !tasks.includes(task));
      return needs.length ? `${preset.name} needs a model that can ${needs.join(", ")}: choose one above, or start with imagier serve --model MODEL.` : "";
    });

    async function put(files) {
      problem.value = "";
      kept.value = null;
      await away();
      const form = new FormData();
      for (const file of files) form.append("image", file);
      if (chosen.preset) form.append("preset", chosen.preset);
      for (const name of chosen.models) form.append("model", name);
      try {
        trial.value = await send("POST", "/trials", form);
        sessionStorage.setItem(KEY, trial.value.id);
        follow();
      } catch (error) {
        problem.value = error.message;
      }
    }
    function follow() {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        try {
          trial.value = await get(`/trials/${trial.value.id}`);
        } catch (error) {
          problem.value = error.message;
          trial.value = null;
          return;
        }
        if (busy.value) follow();
        else if (trial.value.state === "failed") problem.value = trial.value.reason;
        else look();
      }, 400);
    }
    // Which layers each image has, for what is laid over it.
    async function look() {
      const path = `/trials/${trial.value.id}/items/`;
      const titles = {}; // column -> its title: the same in all images
      try {
        for (const image of result.value?.images ?? []) {
          const item = image.items[0];
          if (!item) continue;
          if (item.masks?.some((column) => !(column in titles))) for (const each of await get(`${path}${item.id}/layers`)) titles[each.column] = each.title;
          laid[item.id] = (item.masks ?? []).map((column) => ({ src: url(`${path}${item.id}/layers/${column}`, { side: 1000 }), title: titles[column] ?? words(column) }));
        }
      } catch (error) {
        problem.value = error.message;
      }
    }
    const layers = (image) => laid[image.items[0]?.id] ?? [];
    const picture = (item) => url(`/trials/${trial.value.id}/items/${item.id}/image`, { side: 1000 });
    // What is told of an image: of itself, or of the one region that was cut out of it.
    const told = (image) => {
      const some = image.items.filter((each) => Object.keys(each).some((name) => /(^|_)(confidence|verdict)$/.test(name) && each[name] !== null));
      return image.items.length <= 2 ? some.slice(0, 2).filter((each, at, all) => all.length < 2 || each.parent || !all.some((other) => other.parent === each.id && other.label)) : some.filter((each) => !each.parent);
    };
    const measures = (image) => {
      const item = image.items.length === 2 ? { ...image.items[0], ...Object.fromEntries(Object.entries(image.items[1]).filter(([, value]) => value !== null)) } : image.items[0];
      return Object.entries(item).filter(([name, value]) => !HIDE.test(name) && typeof value === "number").map(([name, value]) => {
        const unit = UNITS.find(([end]) => end.test(name));
        return [words(unit ? name.replace(unit[0], "") : name), value, unit?.[1] ?? ""];
      });
    };
    async function keep() {
      try {
        kept.value = await send("POST", `/trials/${trial.value.id}/keep`);
      } catch (error) {
        problem.value = error.message;
      }
    }
    async function away() {
      clearTimeout(timer);
      const id = trial.value?.id;
      trial.value = null;
      sessionStorage.removeItem(KEY);
      if (id) await send("DELETE", `/trials/${id}`).catch((error) => (problem.value = error.message));
    }
    async function forget() {
      await away();
      kept.value = null;
    }
    onMounted(async () => {
      try {
        choices.value = await get("/models");
        const id = sessionStorage.getItem(KEY);
        if (id) {
          trial.value = await get(`/trials/${id}`).catch((error) => {
            if (error.status !== 404) throw error;
            sessionStorage.removeItem(KEY);
            problem.value = "What you tried has gone: it stays an hour, or until the server ends. Give it again.";
            return null;
          });
          if (busy.value) follow();
          else if (trial.value) look();
        }
      } catch (error) {
        problem.value = error.message;
      }
    });
    onBeforeUnmount(() => clearTimeout(timer));
    return { titles, choices, chosen, trial, problem, kept, opacity, busy, result, failed, missing, put, keep, forget, layers, picture, told, measures, count, said, words, url, thumbnail };
  },
};
