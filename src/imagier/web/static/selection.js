// The items that are chosen: one set for all views of a tab, kept when a page is left.
import { reactive, watch } from "vue";

const KEY = "imagier.selection";
const KEPT = 40000; // ids of 64 letters: a tab may store 5 MB

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

export const selection = reactive(new Set(load()));

let timer;
watch(selection, () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (selection.size > KEPT) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, JSON.stringify([...selection]));
  }, 200);
});

export function choose(ids, on = true) {
  for (const id of ids) on ? selection.add(id) : selection.delete(id);
}

export function only(ids) {
  selection.clear();
  choose(ids);
}
