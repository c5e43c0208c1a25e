// The log: new records are put at the end, as text; the page stays at the end unless somebody reads further up.
"use strict";
(() => {
  const list = document.querySelector("[data-log]");
  const hold = document.querySelector("[data-log-hold]");
  const most = 1000;
  let held = [];

  const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const piece = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  // A connection that is made again begins where the page began: what is there already is not put in twice.
  let newest = list.dataset.newest || "";
  let number = Number(list.dataset.number || 0);
  function isNew(entry) {
    if (entry.time < newest || (entry.time === newest && entry.number <= number)) return false;
    newest = entry.time;
    number = entry.number;
    return true;
  }

  function add(entries) {
    const stay = !atEnd();
    for (const entry of entries.filter(isNew)) {
      const line = document.createElement("li");
      line.className = entry.level.toLowerCase();
      const text = piece("span", "text", entry.message + " ");
      text.append(piece("span", "muted", entry.attrs || ""));
      line.append(piece("time", "", new Date(entry.time).toISOString().slice(11, 23)), piece("span", "level", entry.level), text);
      list.append(line);
    }
    while (list.children.length > most) list.firstElementChild.remove();
    document.querySelector("[data-log-empty]").hidden = list.children.length > 0;
    if (!stay) list.scrollTop = list.scrollHeight;
  }

  document.addEventListener("figures", (event) => {
    const entries = event.detail.entries || [];
    if (hold.getAttribute("aria-pressed") === "true") held = held.concat(entries).slice(-most);
    else add(entries);
  });
  hold.addEventListener("click", () => {
    const now = hold.getAttribute("aria-pressed") !== "true";
    hold.setAttribute("aria-pressed", String(now));
    hold.classList.toggle("primary", now);
    if (!now) {
      add(held);
      held = [];
    }
  });
  list.scrollTop = list.scrollHeight;
})();
