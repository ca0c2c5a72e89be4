// Follows a saga that has not ended: fetches the page every few seconds and takes over what changed.
// It holds still while the reader has something open, selected or focused inside, or looks elsewhere.
(() => {
  const EVERY = 3000;
  const busy = (live) =>
    document.hidden ||
    live.querySelector("details[open]") !== null ||
    live.contains(document.activeElement) ||
    String(document.getSelection()) !== "";

  async function look() {
    const live = document.querySelector("#saga-live[data-follow]");
    if (live === null) {
      return;
    }
    if (!busy(live)) {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin" });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.querySelector("#saga-live");
        if (answer.ok && fresh !== null && !busy(live)) {
          live.replaceWith(fresh);
          document.querySelector(".saga-head").replaceWith(page.querySelector(".saga-head"));
        }
      } catch {
        // The server may be restarting; the next look will tell.
      }
    }
    setTimeout(look, EVERY);
  }
  setTimeout(look, EVERY);
})();
