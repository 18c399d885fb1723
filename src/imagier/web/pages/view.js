// A view by its name: static/NAME.js. Its modules share what they import, which NiceGUI's own components could not.
import { defineAsyncComponent, h, nextTick, onMounted } from "vue";

// Views speak to the API alone. NiceGUI's socket would load a page anew, with all that was typed or painted there,
// whenever the server was away for a moment: it is let go of.
function alone() {
  const { socket } = window;
  if (socket.connected) socket.disconnect();
  else socket.on("connect", () => socket.disconnect());
}

export default {
  props: { name: String, given: Object },
  inheritAttrs: false, // the id that NiceGUI gives its elements is none of the view
  setup(props) {
    const view = defineAsyncComponent({
      loader: () => import(`/static/${props.name}.js`),
      errorComponent: { render: () => h("p", { class: "problem", role: "alert" }, "This page could not be loaded: reload it.") },
    });
    onMounted(() => nextTick(alone));
    return () => h(view, props.given);
  },
};
