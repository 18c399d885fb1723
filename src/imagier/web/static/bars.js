// How likely each label is: bars, those of the prediction set told apart.
export default {
  props: { labels: Array, shares: Array, set: { type: Array, default: null }, titles: { type: Object, default: () => ({}) } },
  template: `
    <ul class="bars" aria-label="Probabilities">
      <li v-for="(label, at) in labels" :class="{ within: set?.includes(label) }"><span class="bars-name" :title="titles[label] ? titles[label] + ' (' + label + ')' : label">{{ titles[label] ?? label }}</span>
        <span class="bars-room"><i :style="{ width: 100 * shares[at] + '%' }"></i></span><span class="bars-number">{{ (100 * shares[at]).toFixed(1) }} %</span></li>
    </ul>`,
};
