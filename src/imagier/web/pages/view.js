// A view by its name: static/NAME.js. Its modules share what they import, which NiceGUI's own components could not.
import { defineAsyncComponent, h } from "vue";

export default {
  props: { name: String, given: Object },
  inheritAttrs: false, // the id that NiceGUI gives its elements is none of the view
  setup(props) {
    const view = defineAsyncComponent({
      loader: () => import(`/static/${props.name}.js`),
      errorComponent: { render: () => h("p", { class: "problem", role: "alert" }, "This page could not be loaded: reload it.") },
    });
    return () => h(view, props.given);
  },
};
