// Two pictures of one thing, one over the other, with a slider between them; and layers over both.
import { computed, ref, watch } from "vue";

export default {
  props: { before: String, after: String, layers: { type: Array, default: () => [] }, alt: String, titles: { type: Array, default: () => ["before", "after"] } },
  emits: ["problem"],
  template: `
    <figure class="compare" ref="frame" @pointermove="drag" @pointerup="held = false" @pointercancel="held = false" @wheel.prevent="wheel" @dblclick="home">
      <div class="compare-all" :style="{ transform: 'translate(' + shift[0] + 'px,' + shift[1] + 'px) scale(' + zoom + ')' }">
        <img class="compare-under" :src="before" :alt="alt" draggable="false" @error="$emit('problem', 'The picture cannot be shown: its file is gone, or has changed since the last run.')">
        <img v-if="after" :src="after" alt="" draggable="false" :style="{ clipPath: 'inset(0 0 0 ' + cut + '%)' }" @load="waiting = false" @error="waiting = false; $emit('problem', 'This view of the picture could not be made.')">
        <img v-for="each in layers" :key="each.src" :src="each.src" alt="" draggable="false" :style="{ opacity: each.opacity }">
      </div>
      <template v-if="after">
        <span class="compare-said left">{{ titles[0] }}</span><span class="compare-said right">{{ titles[1] }}<template v-if="waiting"> …</template></span>
        <div class="compare-bar" role="slider" tabindex="0" aria-label="How much of each picture" aria-valuemin="0" aria-valuemax="100" :aria-valuenow="Math.round(at)"
             :style="{ left: at + '%' }" @pointerdown.stop="hold" @keydown.left.prevent="at = Math.max(0, at - 4)" @keydown.right.prevent="at = Math.min(100, at + 4)"><i aria-hidden="true">⇔</i></div>
      </template>
    </figure>`,
  setup(props) {
    const frame = ref(null);
    const at = ref(50);
    const held = ref(false);
    const waiting = ref(true);
    const zoom = ref(1);
    const shift = ref([0, 0]);
    // The cut in the picture's own share of its box, which is moved and enlarged.
    const cut = computed(() => {
      const wide = frame.value?.clientWidth ?? 1;
      return Math.max(0, Math.min(100, (((at.value / 100) * wide - shift.value[0]) / zoom.value / wide) * 100));
    });
    function hold(event) {
      frame.value.setPointerCapture(event.pointerId);
      held.value = true;
    }
    let last = null;
    function drag(event) {
      const box = frame.value.getBoundingClientRect();
      if (held.value) at.value = Math.max(0, Math.min(100, ((event.clientX - box.left) / box.width) * 100));
      else if (event.buttons & 1 && last && zoom.value > 1) shift.value = [shift.value[0] + event.clientX - last[0], shift.value[1] + event.clientY - last[1]];
      last = [event.clientX, event.clientY];
    }
    function wheel(event) {
      const box = frame.value.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const next = Math.min(24, Math.max(1, zoom.value * Math.exp(-event.deltaY * 0.0016)));
      const by = next / zoom.value;
      shift.value = next === 1 ? [0, 0] : [x - (x - shift.value[0]) * by, y - (y - shift.value[1]) * by];
      zoom.value = next;
    }
    function home() {
      zoom.value = 1;
      shift.value = [0, 0];
    }
    watch(() => props.after, () => (waiting.value = true));
    return { frame, at, cut, held, waiting, zoom, shift, hold, drag, wheel, home };
  },
};
