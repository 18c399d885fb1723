// Search: by words, by an image, or by more like one of the items.
import { onMounted, ref } from "vue";
import { count, get, said, send, thumbnail } from "/static/api.js";
import Drop from "/static/drop.js";

export default {
  components: { Drop },
  template: `
    <div id="content" tabindex="-1" class="scrolls"><div class="narrow">
      <h1 class="view-title">Search</h1>
      <div class="search-ways">
        <form class="panel" @submit.prevent="byText" role="search"><h2 class="part">In words</h2>
          <div class="row-of"><input class="field grows" type="search" v-model="text" aria-label="Words, such as: a red car" placeholder="a red car" maxlength="300"><button class="btn first" :disabled="!text.trim() || busy">Search</button></div>
          <p class="faint">Where the collection's encoder knows words (CLIP).</p></form>
        <section class="panel" aria-label="By an image"><h2 class="part">By an image</h2><Drop :many="false" :busy="busy" @files="byImage" @problem="problem = $event" /></section>
      </div>
      <p v-if="problem" class="problem" role="alert">{{ problem }}</p>
      <p v-if="busy" aria-live="polite">Searching…</p>
      <section v-if="found" aria-label="What was found"><div class="row-of"><img v-if="picture" :src="picture" alt="What was searched with" class="search-asked">
        <h2 class="part grows" aria-live="polite">{{ count(found.hits.length, 'hit') }} of {{ count(found.items, 'item') }} for {{ asked }}<span v-if="!found.exact" class="faint"> · by an index that finds {{ Math.round(100 * found.recall) }} % of the nearest</span></h2></div>
        <div class="strip wide"><figure v-for="hit in found.hits"><a :href="'/items/' + hit.id"><img :src="thumbnail(hit.id)" :alt="hit.name ?? ''" loading="lazy"></a>
          <figcaption><span class="grows" :title="hit.name">{{ (hit.name ?? '').split('/').pop() }}</span><b>{{ hit.score.toFixed(2) }}</b></figcaption><button class="btn" @click="like(hit)">More like this</button></figure></div></section>
      <div v-else-if="!busy && !problem" class="empty"><h2>What do you look for?</h2><p>Hits come with how alike they are, 1 at most. From an item's page, its nearest are shown at once.</p></div>
    </div></div>`,
  setup() {
    const text = ref("");
    const found = ref(null);
    const asked = ref("");
    const picture = ref("");
    const problem = ref("");
    const busy = ref(false);
    async function ask(doing, name, shown = "") {
      busy.value = true;
      problem.value = "";
      found.value = null;
      try {
        found.value = await doing();
        asked.value = name;
        if (picture.value.startsWith("blob:") && picture.value !== shown) URL.revokeObjectURL(picture.value);
        picture.value = shown;
      } catch (error) {
        problem.value = error.message;
      } finally {
        busy.value = false;
      }
    }
    const byText = () => ask(() => get("/search", { text: text.value.trim(), n: 48 }), `“${text.value.trim()}”`);
    function byImage([file]) {
      const form = new FormData();
      form.append("image", file);
      const shown = /^image\/(png|jpeg|webp|gif)$/.test(file.type) ? URL.createObjectURL(file) : "";
      ask(() => send("POST", "/search", form, { n: 48 }), file.name, shown);
    }
    const like = (hit) => ask(() => get(`/items/${hit.id}/similar`, { n: 48 }), hit.name ?? hit.id, thumbnail(hit.id));
    onMounted(() => {
      const query = new URLSearchParams(location.search);
      if (query.get("text")) {
        text.value = query.get("text");
        byText();
      }
    });
    return { text, found, asked, picture, problem, busy, byText, byImage, like, count, said, thumbnail };
  },
};
