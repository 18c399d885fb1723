// The items that are chosen: one set for all views of a tab, kept when a page is left or loaded anew.
import { reactive, watch } from "vue";

const KEY = "imagier.selection";
const KEPT = 40000; // ids of 64 letters: a tab may store 5 MB
const here = () => location.pathname + location.search;

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? { at: "", ids: [] };
  } catch {
    return { at: "", ids: [] };
  }
}

const held = load();
export const selection = reactive(new Set(held.ids));

let timer;
watch(selection, () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (selection.size > KEPT) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, JSON.stringify({ at: here(), ids: [...selection] }));
  }, 200);
});

export function choose(ids, on = true) {
  for (const id of ids) on ? selection.add(id) : selection.delete(id);
}

export function only(ids) {
  selection.clear();
  choose(ids);
}

// For a view whose items depend on its address: what was chosen among others is let go of, as it is not seen there.
export function seenHere() {
  if (held.at !== here()) only([]);
}
