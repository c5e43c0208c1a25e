// What the pages of device sync, replications and resync need beside app.js.
"use strict";

// A button that opens a dialog for one row of a list fills it: data-fill="name=value&…" goes into the dialog's fields of those names
// and into elements with data-filled="name".
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-open][data-fill]");
  if (!button) return;
  const dialog = document.getElementById(button.dataset.open);
  for (const [name, value] of new URLSearchParams(button.dataset.fill)) {
    for (const field of dialog.querySelectorAll("input")) {
      if (field.name === name) field.value = value;
    }
    for (const place of dialog.querySelectorAll("[data-filled]")) {
      if (place.dataset.filled === name) place.textContent = value;
    }
  }
}, true);

// Copies the text of an element: data-copy="id".
document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.dataset.copied = "1";
    setTimeout(() => delete button.dataset.copied, 1500);
  } catch {
    getSelection().selectAllChildren(source); // to be copied by hand
  }
});

// Where the page goes on after a form was sent.
const goOn = document.querySelector("[data-focus]");
if (goOn) goOn.focus();
const wrong = document.querySelector("[data-testid=problem]");
if (wrong) wrong.scrollIntoView({ block: "center" });
