// An input that holds what is typed until it is given (Enter, or leaving it): what comes meanwhile does not take it away.
import { ref, watch } from "vue";

export default {
  props: { value: { type: String, default: "" } },
  emits: ["given"],
  template: `<input v-model="held" @change="$emit('given', String(held))">`,
  setup(props) {
    const held = ref(props.value);
    watch(() => props.value, () => (held.value = props.value));
    return { held };
  },
};
