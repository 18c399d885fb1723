// What can be done with the items that are chosen: label them, take that back, look at them alone.
import { computed, onBeforeUnmount, onMounted, ref } from "vue";
import { count, get, send } from "/static/api.js";
import Held from "/static/held.js";
import { only, selection } from "/static/selection.js";

const AUTHOR = "imagier.author";

export const author = () => localStorage.getItem(AUTHOR) || "me";

// What came of an undo.
export function undid(made) {
  if (!made) return "nothing to undo";
  const left = made.left.length ? `, ${made.left.length} left: something else was said of them since` : "";
  return `undone: ${count(made.items, "item")} as before${left}`;
}

export default {
  components: { Held },
  emits: ["changed"],
  template: `
    <div class="chosen-bar" v-if="selection.size || told" role="region" aria-label="Selection">
      <strong aria-live="polite">{{ selection.size ? count(selection.size, 'item') + ' selected' : told }}</strong>
      <template v-if="selection.size">
        <form class="row-of" @submit.prevent="assign(label)">
          <input class="field" v-model="label" list="known-labels" placeholder="Label" aria-label="Label" maxlength="200" ref="field">
          <datalist id="known-labels"><option v-for="each in known" :value="each.label"></option></datalist>
          <button class="btn first" :disabled="!label.trim() || busy">Assign</button></form>
        <button v-for="(each, at) in known.slice(0, 9)" class="chip" @click="assign(each.label)" :disabled="busy" :title="'Key ' + (at + 1)"><kbd aria-hidden="true">{{ at + 1 }}</kbd> {{ each.label }}</button>
        <button class="btn" @click="assign(null)" :disabled="busy">Remove label</button>
      </template>
      <span class="grows"></span>
      <span v-if="selection.size && told" class="faint" aria-live="polite">{{ told }}</span>
      <button class="btn" @click="undo" :disabled="busy" title="Key u">Undo</button>
      <button v-if="selection.size" class="btn" @click="clear" title="Escape">Clear selection</button>
      <label class="row-of faint">by <Held class="field" style="width: 8ch" :value="name" maxlength="80" @given="sign" aria-label="Your name, which stands with each label" /></label>
      <p v-if="problem" class="problem" role="alert">{{ problem }}</p>
    </div>`,
  setup(_, { emit }) {
    const label = ref("");
    const counts = ref({});
    const told = ref("");
    const problem = ref("");
    const busy = ref(false);
    const name = ref(author());
    const known = computed(() => Object.entries(counts.value).map(([label, items]) => ({ label, items })).sort((a, b) => b.items - a.items || a.label.localeCompare(b.label)));

    async function act(doing, say) {
      busy.value = true;
      problem.value = "";
      try {
        const made = await doing();
        told.value = say(made);
        counts.value = await get("/labels/counts");
        emit("changed");
      } catch (error) {
        problem.value = error.message;
      } finally {
        busy.value = false;
      }
    }
    function assign(text) {
      const value = text === null ? null : text.trim();
      if (value === "" || !selection.size) return;
      const items = [...selection];
      act(() => send("POST", "/labels", { items, label: value, author: author() }),
        () => (value === null ? `${count(items.length, "label")} removed` : `${count(items.length, "item")} labelled ${value}`));
    }
    const undo = () => act(() => send("POST", "/labels/undo", { author: author() }), undid);
    function clear() {
      only([]);
      told.value = "";
    }
    function sign(given) {
      localStorage.setItem(AUTHOR, given.trim());
      name.value = author();
    }
    function key(event) {
      if (event.target.closest("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^[1-9]$/.test(event.key) && selection.size && known.value[event.key - 1]) assign(known.value[event.key - 1].label);
      else if (event.key === "u") undo();
      else if (event.key === "Escape") clear();
    }
    onMounted(async () => {
      addEventListener("keydown", key);
      try {
        counts.value = await get("/labels/counts");
      } catch (error) {
        problem.value = error.message;
      }
    });
    onBeforeUnmount(() => removeEventListener("keydown", key));
    return { label, known, told, problem, busy, name, selection, count, assign, undo, clear, sign };
  },
};
