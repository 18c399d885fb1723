// The head of every page: its name, the ways to the others, light or dark.
import { onMounted, ref } from "vue";

export default {
  props: { name: String, here: String, ways: Array },
  template: `
    <a class="skip" href="#content">To the content</a>
    <div class="top-bar">
      <a class="brand" href="/"><span aria-hidden="true" class="brand-mark"><i></i><i></i><i></i><i></i></span>imagier</a>
      <span class="brand-name" :title="name">{{ name }}</span>
      <nav aria-label="Pages">
        <a v-for="[to, title] in ways" :key="to" :href="to" :aria-current="to === here ? 'page' : undefined">{{ title }}</a>
      </nav>
      <q-btn flat round dense :icon="dark ? 'light_mode' : 'dark_mode'" @click="turn"
             :aria-label="dark ? 'Light colours' : 'Dark colours'" />
    </div>`,
  setup() {
    const dark = ref(window.Quasar.Dark.isActive);
    const turn = () => {
      window.Quasar.Dark.toggle();
      dark.value = window.Quasar.Dark.isActive;
      localStorage.setItem("imagier.dark", dark.value ? "yes" : "no");
    };
    onMounted(() => {
      const here = document.querySelector(".top-bar [aria-current]");
      if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - here.parentElement.clientWidth / 3;
    });
    return { dark, turn };
  },
};
