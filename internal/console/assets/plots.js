// Plots of live samples. Each plot takes its series from the legend below it, which also says the newest values in text.
"use strict";
(() => {
  const root = document.getElementById("plots");
  const unitOf = {
    rate: (v) => (v === 0 || v >= 10 ? v.toFixed(0) : v.toFixed(1)) + "/s",
    ms: (v) => (v === 0 ? "0" : v >= 100 ? v.toFixed(0) : v.toPrecision(2)) + " ms",
    count: (v) => (Number.isInteger(v) ? String(v) : ""),
    percent: (v) => Math.round(v) + " %",
    bytes: (v) => {
      for (const unit of ["B", "KiB", "MiB"]) {
        if (v < 1024) return v.toFixed(v < 10 && unit !== "B" ? 1 : 0) + " " + unit;
        v /= 1024;
      }
      return v.toFixed(1) + " GiB";
    },
  };
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(name).trim();
    return { ink: get("--muted"), grid: get("--line"), lines: [1, 2, 3, 4].map((n) => get("--plot-" + n)) };
  };

  const leastTop = { rate: 1, ms: 1, count: 4, percent: 10, bytes: 1024 }; // of an axis, so that nothing does not look like much
  const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  let times = [];
  let values = {};
  let minutes = 5;
  const most = 900;
  const plots = [...root.querySelectorAll("[data-plot]")].map((place) => ({
    place,
    write: unitOf[place.dataset.unit],
    series: [...place.parentElement.querySelectorAll("[data-series]")].map((row) => ({ key: row.dataset.series, label: row.dataset.label, row })),
    drawn: null,
  }));

  const dataOf = (plot) => [times, ...plot.series.map((s) => values[s.key] || times.map(() => null))];
  const now = () => (times.length ? times[times.length - 1] : Date.now() / 1000);

  function draw(plot) {
    if (plot.drawn) plot.drawn.destroy();
    const c = colours();
    const axis = { stroke: c.ink, font: "12px Inter, sans-serif", grid: { stroke: c.grid, width: 1 }, ticks: { stroke: c.grid, width: 1 } };
    plot.series.forEach((s, i) => s.row.querySelector(".swatch").classList.add("swatch-" + (i + 1)));
    plot.drawn = new uPlot({
      width: plot.place.clientWidth,
      height: 190,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 } },
      scales: { x: { range: () => [now() - minutes * 60, now()] }, y: { range: (_, low, high) => [0, Math.max(high || 0, leastTop[plot.place.dataset.unit]) * 1.1] } },
      axes: [{ ...axis, size: 32, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 64, values: (_, ticks) => ticks.map((v) => plot.write(v)) }],
      series: [{}, ...plot.series.map((s, i) => ({ label: s.label, stroke: c.lines[i], width: 2, points: { show: false }, spanGaps: true }))],
      hooks: { setCursor: [(u) => legend(plot, u.cursor.idx)] },
    }, dataOf(plot), plot.place);
    legend(plot, null);
  }

  // legend says the values at an index, or the newest ones.
  function legend(plot, index) {
    const at = index === null || index === undefined ? times.length - 1 : index;
    for (const s of plot.series) {
      const value = (values[s.key] || [])[at];
      s.row.querySelector("[data-value]").textContent = value === null || value === undefined ? "–" : plot.write(value);
    }
  }

  function update() {
    for (const plot of plots) {
      if (!plot.drawn) continue;
      plot.drawn.setData(dataOf(plot));
      if (plot.drawn.cursor.idx === null || plot.drawn.cursor.left < 0) legend(plot, null);
    }
    root.dataset.samples = String(times.length);
  }

  function add(more) {
    const from = more.times.findIndex((t) => times.length === 0 || t > times[times.length - 1]);
    if (from < 0) return;
    times = times.concat(more.times.slice(from)).slice(-most);
    for (const [key, list] of Object.entries(more.series)) values[key] = (values[key] || []).concat(list.slice(from)).slice(-most);
    update();
  }

  root.addEventListener("figures", (event) => {
    if (event.detail.times) add(event.detail);
  });
  for (const button of document.querySelectorAll("[data-span]")) {
    button.addEventListener("click", () => {
      minutes = Number(button.dataset.span);
      for (const other of document.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", String(other === button));
      update();
    });
  }
  document.addEventListener("theme", () => plots.forEach(draw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));
  new ResizeObserver(() => {
    for (const plot of plots) {
      if (plot.drawn && plot.drawn.width !== plot.place.clientWidth) plot.drawn.setSize({ width: plot.place.clientWidth, height: 190 });
    }
  }).observe(root);

  plots.forEach(draw);
  fetch(root.dataset.history, { cache: "no-store" }).then((answer) => (answer.ok ? answer.json() : null)).then((past) => {
    if (!past) return;
    const newer = { times, series: values };
    times = [];
    values = {};
    add(past);
    add(newer);
  }).catch(() => { /* live samples come all the same */ });
})();
