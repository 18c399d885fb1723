// One job: its state, how far it is, what befell it, its last words.
import { computed, ref, watch } from "vue";
import { get, said, send, url } from "/static/api.js";

const SAID = { waiting: "waits", running: "at work", done: "done", failed: "failed", stopped: "stopped", broken: "broke off" };
const span = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`);

export default {
  props: { job: Object },
  emits: ["changed", "problem"],
  template: `
    <article class="panel job" :aria-label="job.title">
      <div class="row-of"><span class="job-state" :data-state="job.state">{{ SAID[job.state] }}<template v-if="job.place"> ({{ job.place }} in line)</template></span>
        <strong class="grows" style="overflow-wrap: anywhere">{{ job.title }}</strong><span class="faint">{{ when }}<template v-if="job.author"> · {{ job.author }}</template></span></div>
      <template v-if="job.progress && job.state === 'running'"><progress :value="job.progress.total ? job.progress.done : undefined" :max="job.progress.total || 1" style="width: 100%" :aria-label="job.progress.what"></progress>
        <p class="faint" aria-live="off">{{ told }}</p></template>
      <p v-if="job.stopping && open_" class="faint">It was told to stop: what was done is kept.</p>
      <p v-if="job.reason" :class="job.state === 'failed' ? 'problem' : 'faint'">{{ job.reason }}</p>
      <div class="row-of"><button v-if="open_" class="btn" @click="act('stop')" :disabled="job.stopping">Stop</button>
        <button v-else-if="job.state !== 'done'" class="btn" @click="act('resume')">Go on</button>
        <a v-if="job.kind === 'export' && job.state === 'done'" class="btn first" :href="url('/exports/' + job.id)" download>Download</a>
        <button v-if="!open_" class="btn" @click="remove">Forget</button><button class="btn" @click="shown = !shown" :aria-expanded="shown">{{ shown ? 'Less' : 'More' }}</button></div>
      <div v-if="shown && whole"><h3 class="part">What befell it</h3><ul class="job-events"><li v-for="each in whole.events"><span class="faint">{{ each.time.slice(0, 19).replace('T', ' ') }}</span> {{ each.text }}</li></ul>
        <h3 class="part">Its last words</h3><pre class="job-output" tabindex="0">{{ whole.output.join('\\n') || 'none yet' }}</pre><p class="faint">{{ whole.command }}</p></div>
    </article>`,
  setup(props, { emit }) {
    const shown = ref(false);
    const whole = ref(null);
    const open_ = computed(() => ["waiting", "running"].includes(props.job.state));
    const when = computed(() => new Date(props.job.started ?? props.job.made).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }));
    const told = computed(() => {
      const p = props.job.progress;
      const parts = [p.what];
      if (p.total) parts.push(`${said(p.done)} of ${said(p.total)}${p.unit && p.unit !== "img" ? " " + p.unit : ""}`);
      if (p.rate) parts.push(p.rate >= 1 ? `${p.rate.toFixed(1)} a second` : `${(1 / p.rate).toFixed(1)} s each`);
      if (p.left_s) parts.push(`${span(p.left_s)} left`);
      for (const [name, value] of Object.entries(p.facts)) parts.push(`${name} ${said(value)}`);
      return parts.join(" · ");
    });
    async function act(what) {
      try {
        await send("POST", `/jobs/${props.job.id}/${what}`);
        emit("changed");
      } catch (error) {
        emit("problem", error.message);
      }
    }
    async function remove() {
      try {
        await send("DELETE", `/jobs/${props.job.id}`);
        emit("changed");
      } catch (error) {
        emit("problem", error.message);
      }
    }
    watch([shown, () => props.job], async () => {
      if (shown.value) whole.value = await get(`/jobs/${props.job.id}`).catch((error) => emit("problem", error.message) ?? null);
    });
    return { shown, whole, open_, when, told, SAID, act, remove, url };
  },
};
