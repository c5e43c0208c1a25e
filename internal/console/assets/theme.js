// Sets the chosen theme before anything is drawn. Without a choice the system's counts.
"use strict";
(() => {
  try {
    const chosen = localStorage.getItem("tidegate-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* no storage, no choice */ }
})();
