// Text boxes with JSON: the tab key indents, problems lead to their place, and unsaved changes are not lost by accident.
"use strict";

// goTo puts the caret at a place of the text and selects the rest of the line.
function goTo(box, line, column) {
  const lines = box.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((n, l) => n + l.length + 1, 0);
  const end = start + (lines[line - 1] || "").length;
  box.focus();
  box.setSelectionRange(Math.min(start + column - 1, end), end);
  box.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(box).lineHeight));
}

document.addEventListener("click", (event) => {
  const place = event.target.closest("[data-line]");
  if (place) goTo(document.querySelector("[data-editor]"), Number(place.dataset.line), Number(place.dataset.column));
});

for (const box of document.querySelectorAll("[data-editor]")) {
  const before = box.value;
  let saving = false;
  let escaped = false; // after Escape the tab key leaves the box, for whoever has no mouse
  box.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && !event.shiftKey && !escaped && !box.readOnly) {
      event.preventDefault();
      box.setRangeText("  ", box.selectionStart, box.selectionEnd, "end");
    }
    escaped = event.key === "Escape";
  });
  box.form.addEventListener("submit", () => { saving = true; });
  window.addEventListener("beforeunload", (event) => {
    if (!saving && box.value !== before) event.preventDefault();
  });
}
