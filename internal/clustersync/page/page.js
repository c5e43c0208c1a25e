// The page of a cluster sync: it asks /api/v1/progress and /api/v1/namespaces every second and shows what they say. Everything that comes from
// the server is put in as text, never as markup.

const every = 1000; // ms between two looks
const rateWindow = 10_000; // ms that rates are the mean of
const mostRows = 500;

const $ = (id) => document.getElementById(id);

// The phases as people see them; the names on the right are those of progress.info.
const phases = [
  ["Collections and indexes", ["uninitialized", "initializing collections and indexes"]],
  ["Partitions", ["initializing partitions"]],
  ["Copy", ["collection copy", "waiting to start change event application"]],
  ["Change events", ["change event application"]],
  ["Commit", ["waiting for commit to complete"]],
  ["Committed", ["commit completed"]],
];

const questions = {
  pause: ["Pause the sync?", "Nothing is copied or applied until it is resumed. It must be resumed before the changes that it has not applied are gone from the source's history."],
  resume: ["Resume the sync?", "It goes on where it was paused."],
  commit: ["Commit the sync?", "The destination takes over. Stop all writes to the source first, unless its writes are blocked. This cannot be taken back, only reversed."],
  reverse: ["Reverse the sync?", "Source and destination are exchanged. Changes of the present destination are then applied to the present source."],
};
const legal = { pause: "RUNNING", resume: "PAUSED", commit: "RUNNING", reverse: "COMMITTED" };

let samples = []; // {at, copied, events} of the last seconds
let busy = false; // a call is in progress

const number = new Intl.NumberFormat("en");
const count = (n) => number.format(n);

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) [n, i] = [n / 1024, i + 1];
  return i === 0 ? `${n} B` : `${n.toFixed(1)} ${units[i]}`;
}

function seconds(n) {
  if (n === null || n === undefined) return "–";
  if (n < 90) return `${n} s`;
  if (n < 5400) return `${Math.round(n / 60)} min`;
  return `${(n / 3600).toFixed(1)} h`;
}

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function element(name, value, className) {
  const e = document.createElement(name);
  e.textContent = value;
  if (className) e.className = className;
  return e;
}

async function ask(path) {
  const res = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  return res.json();
}

// rates are bytes copied and changes applied in a second, or null.
function rates(p) {
  const now = Date.now();
  samples.push({ at: now, copied: p.collectionCopy?.estimatedCopiedBytes ?? 0, events: p.totalEventsApplied ?? 0 });
  while (samples.length > 2 && now - samples[1].at >= rateWindow) samples.shift();
  const [first, last] = [samples[0], samples.at(-1)];
  const took = (last.at - first.at) / 1000;
  if (took <= 0) return { copied: null, events: null };
  return { copied: Math.max(0, last.copied - first.copied) / took, events: Math.max(0, last.events - first.events) / took };
}

function showFailure(message) {
  $("failure").hidden = !message;
  text("failure", message ?? "");
}

function showPhases(info) {
  const at = phases.findIndex(([, names]) => names.includes(info));
  const list = phases.map(([name], i) => {
    const li = element("li", name, i < at ? "past" : i === at ? "now" : "");
    if (i === at) li.setAttribute("aria-current", "step");
    return li;
  });
  $("phases").replaceChildren(...list);
}

function showFigures(p) {
  const rate = rates(p);
  const { estimatedTotalBytes: total, estimatedCopiedBytes: copied } = p.collectionCopy;
  const begun = copied > 0 || (total ?? 1) > 1;
  $("copybar").hidden = total === null;
  if (total !== null) $("copybar").value = total > 0 ? copied / total : 0;
  text("copy", total === null ? bytes(copied) : begun ? `${Math.floor((100 * copied) / total)} %` : "–");
  let more = begun && total !== null ? `${bytes(copied)} of ${bytes(total)}` : "";
  if (rate.copied > 0) more += `, ${bytes(Math.round(rate.copied))}/s`;
  if (rate.copied > 0 && total > copied) more += `, ${seconds(Math.round((total - copied) / rate.copied))} left`;
  text("copymore", more);

  text("lag", seconds(p.lagTimeSeconds));
  const lag = [];
  if (p.estimatedSecondsToCEACatchup !== undefined) lag.push(`caught up in ${seconds(p.estimatedSecondsToCEACatchup)}`);
  if (p.estimatedOplogTimeRemaining) lag.push(`history left: ${p.estimatedOplogTimeRemaining}`);
  text("lagmore", lag.join(", "));

  text("events", count(p.totalEventsApplied));
  text("eventsmore", [rate.events === null ? "" : `${count(Math.round(rate.events))}/s`, p.ceaStage ?? ""].filter(Boolean).join(", "));

  text("cutover", p.canWrite ? "Destination is live" : p.canCommit ? "Can commit" : "Not yet");
  text("cutovermore", p.canWrite ? "canWrite is true: it may be written" : "canWrite is false: do not write to the destination");
}

function showIndexes(i) {
  $("indexes").hidden = !i?.totalIndexesToBuild;
  if (!i) return;
  $("indexbar").max = Math.max(1, i.totalIndexesToBuild);
  $("indexbar").value = i.indexesBuilt;
  text("indexmore", `${count(i.indexesBuilt)} of ${count(i.totalIndexesToBuild)} built, ${count(i.collectionsFinished)} of ${count(i.collectionsTotal)} collections finished`);
}

function showVerification(v) {
  $("verification").hidden = !v;
  if (!v) return;
  const row = (name, s) => {
    const tr = document.createElement("tr");
    tr.append(
      element("td", name),
      element("td", s.phase),
      element("td", `${count(s.scannedCollectionCount)} of ${count(s.totalCollectionCount)}`, "number"),
      element("td", `${count(s.hashedDocumentCount)} of ${count(s.estimatedDocumentCount)}`, "number"),
      element("td", seconds(s.lagTimeSeconds), "number"),
    );
    return tr;
  };
  $("verified").replaceChildren(row("Source", v.source), row("Destination", v.destination));
}

function showNamespaces(all) {
  const wanted = $("find").value.trim().toLowerCase();
  const rank = (n) => (n.copied ? 2 : n.copiedBytes > 0 || n.partitionsDone > 0 ? 0 : 1);
  const found = all.filter((n) => `${n.source} ${n.destination}`.toLowerCase().includes(wanted)).sort((a, b) => rank(a) - rank(b));
  const rows = found.slice(0, mostRows).map((n) => {
    const tr = document.createElement("tr");
    if (n.copied) tr.className = "done";
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = n.copied ? 1 : n.estimatedBytes > 0 ? n.copiedBytes / n.estimatedBytes : 0;
    bar.setAttribute("aria-label", `${n.source} copied`);
    const cell = document.createElement("td");
    cell.append(bar);
    tr.append(
      element("td", n.destination === n.source ? n.source : `${n.source} → ${n.destination}`),
      cell,
      element("td", count(n.copiedDocuments), "number"),
      element("td", n.copied ? bytes(n.copiedBytes) : `${bytes(n.copiedBytes)} of ${bytes(n.estimatedBytes)}`, "number"),
      element("td", `${count(n.partitionsDone)} of ${count(n.partitions)}`, "number"),
    );
    return tr;
  });
  $("namespaces").replaceChildren(...rows);
  text("copied", all.length ? `${count(all.filter((n) => n.copied).length)} of ${count(all.length)} copied` : "");
  text("hidden", found.length > mostRows ? `and ${count(found.length - mostRows)} more` : "");
}

function showState(state) {
  text("state", state);
  $("state").className = `state ${state}`;
  document.title = `${state} – cluster sync`;
}

function show(p) {
  showState(p.state);
  const idle = p.state === "IDLE" || p.state === "INITIALIZING";
  $("idle").hidden = p.state !== "IDLE";
  $("running").hidden = idle;
  $("warnings").hidden = !p.warnings?.length;
  $("warnings").replaceChildren(...(p.warnings ?? []).map((w) => element("li", w)));
  if (idle) {
    text("direction", "");
    return;
  }
  const d = p.directionMapping;
  $("direction").replaceChildren(element("b", d.Source), " → ", element("b", d.Destination));
  showPhases(p.info);
  showFigures(p);
  showIndexes(p.indexBuilding);
  showVerification(p.verification);
  for (const b of document.querySelectorAll("[data-call]")) {
    b.disabled = busy || p.state !== legal[b.dataset.call] || (b.dataset.call === "commit" && !p.canCommit);
  }
}

async function look() {
  try {
    const answer = await ask("/api/v1/progress");
    if (!answer.success) {
      showState("FAILED");
      showFailure(`${answer.error}: ${answer.errorDescription}`);
    } else {
      showFailure(null);
      show(answer.progress);
      showNamespaces((await ask("/api/v1/namespaces")).namespaces ?? []);
    }
    text("seen", `as of ${new Date().toLocaleTimeString()}`);
  } catch {
    showFailure("The sync does not answer. It may be stopped, or may be starting.");
  }
  setTimeout(look, document.hidden ? 10 * every : every);
}

function confirmed(call) {
  const [question, consequence] = questions[call];
  text("question", question);
  text("consequence", consequence);
  text("yes", call[0].toUpperCase() + call.slice(1));
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function request(call) {
  if (busy || !(await confirmed(call))) return;
  busy = true;
  text("answer", `${call} …`);
  try {
    const res = await fetch(`/api/v1/${call}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
    const answer = await res.json();
    text("answer", answer.success ? `${call}: done` : `${answer.error}: ${answer.errorDescription}`);
  } catch {
    text("answer", `${call}: there was no answer; look at the state`);
  }
  busy = false;
}

for (const b of document.querySelectorAll("[data-call]")) b.addEventListener("click", () => request(b.dataset.call));
look();
