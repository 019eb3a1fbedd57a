// The arrow keys lead along a page's "previous" and "next" links, and a digit presses the button that shows it.
// No request of its own, no global name.
"use strict";

(() => {
  const LINKS = { ArrowLeft: "prev", ArrowRight: "next" };
  // Where an arrow already means something: in a field, and in what scrolls sideways.
  const TAKEN = "input, select, textarea, [tabindex='0'], summary";

  document.addEventListener("keydown", (event) => {
    const rel = LINKS[event.key];
    const plain = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
    if (!plain || event.target.closest(TAKEN)) return;
    if (rel) document.querySelector(`a[rel="${rel}"][data-key]`)?.click();
    else if (/^[1-9]$/.test(event.key)) document.querySelector(`[data-shortcut="${event.key}"]`)?.click();
  });
})();
