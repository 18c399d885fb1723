// Where files are dropped, picked, pasted, or taken by the camera.
import { onBeforeUnmount, onMounted, ref } from "vue";

export default {
  props: { many: { type: Boolean, default: true }, busy: Boolean, label: { type: String, default: "Images" } },
  emits: ["files", "problem"],
  template: `
    <div class="drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
      <video v-show="filming" ref="video" autoplay playsinline muted aria-label="What the camera sees"></video>
      <template v-if="!filming">
        <p><strong>Drop {{ many ? 'images or a ZIP of them' : 'an image' }} here</strong>, paste {{ many ? 'them' : 'it' }}, or</p>
        <div class="row-of" style="justify-content: center">
          <button class="btn first" @click="input.click()" :disabled="busy">Choose {{ many ? 'files' : 'a file' }}</button>
          <button class="btn" @click="film" :disabled="busy">Use the camera</button></div>
        <p class="faint">PNG, JPEG, TIFF (16 bits too), DICOM, WebP and more. Nothing is kept unless you say so.</p>
      </template>
      <div v-else class="row-of"><button class="btn first" @click="shoot">Take the picture</button><button class="btn" @click="end">Close the camera</button></div>
      <input ref="input" type="file" :multiple="many" hidden :aria-label="label" @change="picked">
    </div>`,
  setup(props, { emit }) {
    const over = ref(false);
    const filming = ref(false);
    const video = ref(null);
    const input = ref(null);
    let stream = null;
    const hand = (files) => {
      const made = [...files];
      if (made.length) emit("files", props.many ? made : made.slice(0, 1));
    };
    function dropped(event) {
      over.value = false;
      hand(event.dataTransfer.files);
    }
    function picked(event) {
      hand(event.target.files);
      event.target.value = "";
    }
    async function film() {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
      } catch (error) {
        emit("problem", navigator.mediaDevices ? `The camera cannot be used: ${error.message}` : "Browsers give pages the camera only on this machine itself, or over HTTPS.");
        return;
      }
      filming.value = true;
      video.value.srcObject = stream;
    }
    function end() {
      stream?.getTracks().forEach((track) => track.stop());
      stream = null;
      filming.value = false;
    }
    function shoot() {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [video.value.videoWidth, video.value.videoHeight];
      canvas.getContext("2d").drawImage(video.value, 0, 0);
      canvas.toBlob((blob) => {
        end();
        hand([new File([blob], `camera-${new Date().toISOString().replace(/[:.]/g, "-").slice(0, 19)}.png`, { type: "image/png" })]);
      }, "image/png");
    }
    const paste = (event) => hand(event.clipboardData?.files ?? []);
    onMounted(() => addEventListener("paste", paste));
    onBeforeUnmount(() => {
      removeEventListener("paste", paste);
      end();
    });
    return { over, filming, video, input, dropped, picked, film, end, shoot };
  },
};
