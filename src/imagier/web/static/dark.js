// Light or dark as it was chosen last, before anything is drawn.
window.imagierDark = localStorage.getItem("imagier.dark");
document.addEventListener("DOMContentLoaded", () => {
  const wanted = window.imagierDark;
  const until = setInterval(() => {
    if (!window.Quasar) return;
    clearInterval(until);
    if (wanted !== null) window.Quasar.Dark.set(wanted === "yes");
  }, 10);
});
