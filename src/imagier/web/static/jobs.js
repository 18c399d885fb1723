// What takes a while: started, followed, stopped, gone on with. It goes on when this page, or the server, is closed.
import { computed, onBeforeUnmount, onMounted, reactive, ref } from "vue";
import { get, said, send } from "/static/api.js";
import { author } from "/static/labelling.js";
import Job from "/static/job.js";

export default {
  components: { Job },
  template: `
    <div id="content" tabindex="-1" class="scrolls"><div class="narrow">
      <div class="row-of"><h1 class="view-title grows">Jobs</h1></div>
      <section class="panel" aria-label="Start a job"><h2 class="part">Start</h2>
        <div class="row-of">
          <label class="labelled">What <select class="field" v-model="what"><option value="run">Bring the collection up to date</option><option value="preset">Run another pipeline</option><option value="setting">Change a setting, and run</option><option value="export">Export</option></select></label>
          <label v-if="what === 'preset'" class="labelled">Pipeline <select class="field" v-model="preset"><option v-for="each in presets" :value="each.name">{{ each.name }}</option></select></label>
          <template v-if="what === 'setting'"><label class="labelled">Setting <input class="field" v-model="setting" placeholder="cluster.k"></label><label class="labelled">Value <input class="field" v-model="value" placeholder="5"></label></template>
          <label v-if="what === 'export'" class="labelled">Format <select class="field" v-model="format"><option v-for="each in ['csv', 'json', 'parquet', 'coco', 'masks', 'overlays']">{{ each }}</option></select></label>
          <button class="btn first" style="align-self: end" @click="start" :disabled="busy">Start</button></div>
        <p v-if="problem" class="problem" role="alert">{{ problem }}</p></section>
      <p v-if="!watching" class="told-unlike" role="note">Another server looks after the jobs of this collection. This one shows them.</p>
      <div v-if="!jobs.length && loaded" class="empty"><h2>No jobs yet</h2><p>Runs and trainings stand here with how far they are. One at a time works; the others wait in line.</p></div>
      <Job v-for="job in jobs" :key="job.id" :job="job" @changed="look" @problem="problem = $event" />
    </div></div>`,
  setup() {
    const jobs = ref([]);
    const watching = ref(true);
    const loaded = ref(false);
    const problem = ref("");
    const busy = ref(false);
    const what = ref("run");
    const presets = ref([]);
    const preset = ref("");
    const setting = ref("");
    const value = ref("");
    const format = ref("csv");
    let timer;
    async function look() {
      clearTimeout(timer);
      try {
        const made = await get("/jobs");
        jobs.value = made.jobs;
        watching.value = made.watching;
        loaded.value = true;
      } catch (error) {
        problem.value = error.message;
      }
      timer = setTimeout(look, jobs.value.some((each) => ["waiting", "running"].includes(each.state)) ? 1000 : 5000);
    }
    const plain = (text) => {
      try {
        return JSON.parse(text);
      } catch {
        return text;
      }
    };
    async function start() {
      busy.value = true;
      problem.value = "";
      const order = {
        run: () => ({ kind: "run" }),
        preset: () => ({ kind: "run", preset: preset.value }),
        setting: () => ({ kind: "run", settings: { [setting.value.trim()]: plain(value.value) } }),
        export: () => ({ kind: "export", to: format.value }),
      }[what.value]();
      try {
        await send("POST", "/jobs", { ...order, author: author() });
        await look();
      } catch (error) {
        problem.value = error.message;
      } finally {
        busy.value = false;
      }
    }
    onMounted(async () => {
      look();
      try {
        presets.value = (await get("/models")).presets.filter((each) => !each.lacks.length && !each.needs.length);
        preset.value = presets.value[0]?.name ?? "";
      } catch (error) {
        problem.value = error.message;
      }
    });
    onBeforeUnmount(() => clearTimeout(timer));
    return { jobs, watching, loaded, problem, busy, what, presets, preset, setting, value, format, look, start };
  },
};
