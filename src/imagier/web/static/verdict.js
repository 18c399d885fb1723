// What the models say of an item: its label with probabilities, whether it is like anything known, what to do, good or bad.
import { computed } from "vue";
import Bars from "/static/bars.js";
import { said } from "/static/api.js";

// Steps that were given names of their own write under them: `second_label` beside `label`.
function prefixes(item, column) {
  return Object.keys(item).filter((name) => name === column || name.endsWith(`_${column}`)).map((name) => name.slice(0, name.length - column.length));
}

export default {
  components: { Bars },
  props: { item: Object, titles: { type: Object, default: () => ({}) } }, // titles: of labels, for a person
  template: `
    <section v-for="each in labels" class="panel told-label" aria-label="Classification">
      <h2 class="part">{{ each.title }}</h2>
      <p class="told-big"><template v-if="titles[each.label]">{{ titles[each.label] }} <span class="faint">{{ each.label }}</span></template><template v-else>{{ each.label }}</template> <span class="faint">{{ (100 * each.confidence).toFixed(1) }} %</span></p>
      <p v-if="each.known === false" class="told-unlike" role="note"><strong>None of the above, likely.</strong> It is unlike what the classifier has learnt from<template v-if="each.typical !== undefined && each.typical !== null">: {{ (100 * each.typical).toFixed(1) }} % of known images are as strange</template>. Do not rely on the label.</p>
      <Bars v-if="each.ranked" :labels="each.ranked" :shares="each.shares" :set="each.set" :titles="titles" />
      <p v-if="each.set" class="faint">Prediction set: <strong>{{ each.set.join(', ') || 'none' }}</strong>. Such sets hold the true label in 90 % of images like those it was calibrated on, unless another level was set.</p>
      <p v-if="each.recommendation" class="told-do"><strong>What to do.</strong> {{ each.recommendation }}</p>
    </section>
    <section v-for="each in verdicts" class="panel" aria-label="Inspection">
      <h2 class="part">{{ each.title }}</h2>
      <p class="told-big"><span :class="each.verdict === 'good' ? 'badge-high' : 'badge-low'" style="font-size: 1rem">{{ each.verdict }}</span></p>
      <table class="told"><tbody>
        <tr v-if="each.anomaly !== null"><th scope="row">Strangeness</th><td class="number">{{ said(each.anomaly) }}</td></tr>
        <tr v-if="each.typical !== undefined"><th scope="row">Good parts as strange</th><td class="number">{{ (100 * each.typical).toFixed(1) }} %</td></tr>
        <tr v-if="each.probability !== undefined"><th scope="row">Probability of a fault</th><td class="number">{{ said(each.probability) }}</td></tr>
        <tr v-if="each.defects !== undefined"><th scope="row">Places</th><td class="number">{{ said(each.defects) }}</td></tr></tbody></table>
    </section>`,
  setup(props) {
    const labels = computed(() => prefixes(props.item, "confidence").filter((before) => typeof props.item[`${before}label`] === "string").map((before) => {
      const of = (name) => props.item[before + name];
      return { title: before ? before.replaceAll("_", " ").trim() : "What it is", label: of("label"), confidence: of("confidence"), ranked: of("ranked"), shares: of("ranked_confidence"), set: of("label_set"), known: of("known"), typical: of("typical"), recommendation: of("recommendation") };
    }));
    const verdicts = computed(() => prefixes(props.item, "verdict").filter((before) => props.item[`${before}verdict`]).map((before) => {
      const of = (name) => props.item[before + name];
      return { title: before ? before.replaceAll("_", " ").trim() : "Inspection", verdict: of("verdict"), anomaly: of("anomaly") ?? null, probability: of("bad_probability"), typical: of("anomaly_typical"), defects: of("defects") };
    }));
    return { labels, verdicts, said };
  },
};
