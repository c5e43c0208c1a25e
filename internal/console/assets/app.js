// What every page of the console does: dialogs, messages, live figures, and saying so when the server is gone.
// Everything is found by data-… attributes; DESIGN.md lists them. Handlers hang on the document, so that parts that htmx
// puts in later work as well.
"use strict";

// on calls fn(element, event) for events that come from inside an element that fits the selector.
const on = (type, selector, fn) => document.addEventListener(type, (event) => {
  const found = event.target instanceof Element && event.target.closest(selector);
  if (found) fn(found, event);
});

// --- messages ---------------------------------------------------------------------------------------------------

function toast(text) {
  const made = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
  made.classList.add("error");
  made.querySelector("span").textContent = text;
  document.getElementById("toasts").append(made);
}

on("click", "[data-dismiss]", (button) => button.closest("[data-toast]").remove());

for (const done of document.querySelectorAll(".toast.ok")) setTimeout(() => done.remove(), 8000);

// --- dialogs ----------------------------------------------------------------------------------------------------

on("click", "[data-open]", (button, event) => {
  event.preventDefault();
  const dialog = document.getElementById(button.dataset.open);
  for (const box of dialog.querySelectorAll("[data-typed]")) {
    box.value = "";
    checkTyped(box);
  }
  dialog.showModal();
});
on("click", "[data-close]", (button) => button.closest("dialog").close());
on("click", "dialog", (dialog, event) => {
  if (event.target === dialog) dialog.close(); // beside the window
});

// checkTyped lets a form be sent only when the text is exactly the one asked for.
function checkTyped(box) {
  const submit = box.form.querySelector("button:not([type=button])");
  submit.disabled = box.value !== box.dataset.typed;
}
on("input", "[data-typed]", checkTyped);
on("submit", "form", (form, event) => {
  const box = form.querySelector("[data-typed]");
  if (box && box.value !== box.dataset.typed) event.preventDefault();
});

on("change", "[data-submit]", (choice) => choice.form.requestSubmit());

// --- menus ------------------------------------------------------------------------------------------------------

on("click", "[data-menu]", (button) => {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  document.getElementById("nav").classList.toggle("open", open);
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details[data-popover][open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details[data-popover][open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
  const menu = document.querySelector("[data-menu][aria-expanded=true]");
  if (menu) {
    menu.click();
    menu.focus();
  }
});

on("click", "[data-theme-toggle]", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("tidegate-theme", root.dataset.theme); } catch { /* for this page only, then */ }
  document.dispatchEvent(new CustomEvent("theme"));
});

// --- the server is gone, or the session is ----------------------------------------------------------------------

const gone = document.getElementById("gone");
const body = document.body;
let serverGone = false;

function setGone(is) {
  if (is === serverGone) return;
  serverGone = is;
  gone.hidden = !is;
  body.classList.toggle("is-gone", is);
}

// sessionEnded sends the browser to the login, and back here afterwards.
function sessionEnded() {
  const here = location.pathname.replace(/^\/_console/, "") + location.search;
  location.assign(body.dataset.login + "?" + new URLSearchParams({ ended: "1", next: here }));
}

// pulse asks whether the server is there and the session goes on.
async function pulse() {
  let answer;
  try {
    answer = await fetch(body.dataset.pulse, { cache: "no-store", redirect: "manual" });
  } catch {
    setGone(true);
    return false;
  }
  if (answer.status === 401) {
    sessionEnded();
    return false;
  }
  setGone(!answer.ok);
  return answer.ok;
}

// A form is sent only when the server answers, so that what was typed stays in the page when it is gone.
on("submit", "form[method=post]", async (form, event) => {
  if (event.defaultPrevented || !body.dataset.live) return;
  event.preventDefault();
  if (form.dataset.sending) return;
  form.dataset.sending = "1";
  form.setAttribute("aria-busy", "true");
  const there = await pulse();
  if (there) {
    if (event.submitter && event.submitter.name) {
      const chosen = document.createElement("input");
      Object.assign(chosen, { type: "hidden", name: event.submitter.name, value: event.submitter.value });
      form.append(chosen);
    }
    HTMLFormElement.prototype.submit.call(form);
    return;
  }
  delete form.dataset.sending;
  form.removeAttribute("aria-busy");
});
window.addEventListener("pageshow", (event) => { // back from the browser's cache
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-sending]")) {
    delete form.dataset.sending;
    form.removeAttribute("aria-busy");
  }
});
on("click", "a[href]", (link, event) => {
  if (serverGone && link.origin === location.origin && !link.hash) event.preventDefault(); // rather than the browser's error page
});

// --- htmx -------------------------------------------------------------------------------------------------------

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = body.dataset.csrf;
});
document.addEventListener("htmx:sendError", () => setGone(true));
document.addEventListener("htmx:responseError", (event) => {
  const answer = event.detail.xhr;
  if (answer.status === 401) sessionEnded();
  else toast(answer.responseText.trim() || "The server refused this.");
});

// --- live figures -----------------------------------------------------------------------------------------------

// show puts the figures of a topic where the page wants them.
function show(topic, data) {
  for (const area of document.querySelectorAll("[data-topic]")) {
    if (area.dataset.topic !== topic) continue;
    const problem = area.querySelector("[data-live-problem]");
    if (problem) {
      problem.hidden = !data.error;
      problem.textContent = data.error || "";
    }
    if (data.error) continue;
    for (const place of area.querySelectorAll("[data-key]")) put(place, data[place.dataset.key]);
    for (const place of area.querySelectorAll("[data-show]")) {
      const [key, wanted] = place.dataset.show.split("=");
      place.hidden = wanted === undefined ? !data[key] : !wanted.split("|").includes(String(data[key]));
    }
    const version = data.version === undefined ? undefined : String(data.version);
    if (version !== undefined && area.dataset.version !== undefined && area.dataset.version !== version) {
      area.dispatchEvent(new CustomEvent("changed", { bubbles: false }));
    }
    if (version !== undefined) area.dataset.version = version;
    area.dispatchEvent(new CustomEvent("figures", { detail: data, bubbles: true }));
  }
}

function put(place, value) {
  if (value === undefined || value === null) return;
  if (place instanceof HTMLProgressElement || place instanceof HTMLMeterElement) {
    place.value = Number(value);
    return;
  }
  const text = String(value);
  if (place.textContent !== text) place.textContent = text;
  if (place.dataset.state !== undefined) place.dataset.state = text.toLowerCase();
}

let source = null;
let retry = 0;

function listen() {
  if (!body.dataset.live || source || document.hidden) return;
  source = new EventSource(body.dataset.live);
  source.addEventListener("hello", () => {
    setGone(false);
    retry = 0;
    document.documentElement.dataset.connected = "1";
  });
  source.addEventListener("message", (event) => {
    const { topic, data } = JSON.parse(event.data);
    show(topic, data);
  });
  source.addEventListener("expired", sessionEnded);
  source.addEventListener("error", () => {
    stopListening();
    retry = Math.min(retry + 1, 5);
    pulse();
    setTimeout(listen, 500 * 2 ** retry);
  });
}

function stopListening() {
  delete document.documentElement.dataset.connected;
  if (source) source.close();
  source = null;
}

// A browser has few connections for one server: pages that nobody sees give theirs back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopListening();
  else listen();
});
window.addEventListener("pagehide", stopListening);
window.addEventListener("pageshow", listen);
listen();
