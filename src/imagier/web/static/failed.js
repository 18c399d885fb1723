// The files that could not be read, with the reason.
import { onMounted, ref } from "vue";
import { count, get } from "/static/api.js";

export default {
  emits: ["close"],
  template: `
    <q-dialog :model-value="true" @hide="$emit('close')" aria-label="Files that failed">
      <div class="panel" style="width: min(720px, 92vw); max-height: 80vh; overflow: auto">
        <div class="row-of"><h2 class="part grows">{{ count(total, 'file') }} failed</h2><button class="btn" @click="$emit('close')">Close</button></div>
        <p class="faint">The rest of the run went on without them. They are tried again when they, or the program, change.</p>
        <p v-if="problem" class="problem" role="alert">{{ problem }}</p>
        <table class="told"><thead><tr><th scope="col">File</th><th scope="col">Reason</th></tr></thead>
          <tbody><tr v-for="each in files"><td>{{ each.name }}</td><td>{{ each.reason }}</td></tr></tbody></table>
        <button v-if="files.length < total" class="btn" @click="more">More</button>
      </div>
    </q-dialog>`,
  setup() {
    const files = ref([]);
    const total = ref(0);
    const problem = ref("");
    async function more() {
      try {
        const found = await get("/files", { outcome: "failed", limit: 200, offset: files.value.length });
        files.value.push(...found.files);
        total.value = found.total;
      } catch (error) {
        problem.value = error.message;
      }
    }
    onMounted(more);
    return { files, total, problem, more, count };
  },
};
