"use strict";
(() => {
  const root = document.documentElement;
  const themeButton = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { themeButton.textContent = dark() ? "Light theme" : "Dark theme"; };
  themeButton.hidden = false;
  nameTheme();

  // Tables: a click on a head sorts, a second click turns the order round.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if ("unsortable" in head.dataset) return;
      const button = document.createElement("button");
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const down = head.ariaSort ? head.ariaSort === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => numeric ? Number(row.cells[column].dataset.value) : row.cells[column].textContent;
        const compare = (a, b) => numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
        const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  }

  const canvas = document.getElementById("timeline");
  if (!canvas) {
    themeButton.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; nameTheme(); });
    return;
  }
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const colourBy = document.getElementById("colour");
  const total = Math.max(data.total, 1);
  const left = Math.min(150, 24 + 7 * Math.max(4, ...data.queues.map((name) => name.length)));
  const axis = 26, lane = data.queues.length > 24 ? 16 : 26, height = axis + lane * data.queues.length + 4;
  let from = 0, to = total, width = 0, pen = null, drag = null;

  const digits = (v) => v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
  const scaled = (v, units) => { const u = units.find(([s]) => Math.abs(v) >= s) || units[units.length - 1]; return `${digits(v / u[0])} ${u[1]}`; };
  const timeUnits = [[1e12, "s"], [1e9, "ms"], [1e6, "µs"], [1e3, "ns"], [1, "ps"]];
  const time = (ps) => ps === 0 ? "0" : scaled(ps, timeUnits);
  const tickTime = (ps, step) => {
    if (ps === 0) return "0";
    const [scale, unit] = timeUnits.find(([s]) => to >= s) || timeUnits[4];
    return `${(ps / scale).toFixed(Math.max(0, Math.ceil(-Math.log10(step / scale) - 1e-9)))} ${unit}`;
  };
  const size = (b) => scaled(b, [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]]);
  const count = (n) => scaled(n, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);

  let palette = {};
  const readPalette = () => {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    palette = { ink: read("ink"), quiet: read("quiet"), rule: read("rule"), track: read("track"), card: read("card") };
    for (let i = 0; i <= 12; i++) palette[i] = read(`c${i}`);
    for (const kind of data.kinds) palette[kind] = read(kind);
  };
  const colour = (i) => {
    if (colourBy.value === "lane") return palette[data.kinds[data.lane[i]]];
    return palette[colourBy.value === "group" ? data.colours[data.group[i]] : 1 + data.label[i] % 12];
  };
  const x = (t) => left + (t - from) / (to - from) * (width - left);

  function drawAxis() {
    const about = (to - from) / Math.max(2, (width - left) / 110);
    const power = 10 ** Math.floor(Math.log10(about));
    const step = Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((s) => s >= about));
    pen.textAlign = "center";
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      pen.fillStyle = palette.rule;
      pen.fillRect(Math.round(x(t)), axis - 6, 1, height - axis + 4);
      const text = tickTime(t, step), half = pen.measureText(text).width / 2;
      pen.fillStyle = palette.quiet;
      pen.fillText(text, Math.min(width - half, Math.max(left + half, x(t))), 9);
    }
    pen.textAlign = "left";
  }

  function drawRepeats() {
    for (const [start, length, times] of data.repeats) {
      const a = Math.max(left, x(start)), b = Math.min(width, x(start + length));
      if (b - a < 1) continue;
      pen.globalAlpha = 0.5;
      pen.fillStyle = palette.rule;
      pen.fillRect(a, axis, b - a, height - axis - 4);
      pen.globalAlpha = 1;
      const text = `${times - 1} more like this`;
      pen.fillStyle = palette.quiet;
      if (pen.measureText(text).width + 12 < b - a) pen.fillText(text, (a + b - pen.measureText(text).width) / 2, axis + lane / 2);
    }
  }

  function drawSlices() {
    pen.save();
    pen.beginPath();
    pen.rect(left, axis, width - left, height);
    pen.clip();
    for (let i = 0; i < data.start.length; i++) {
      const a = x(data.start[i]), b = x(data.start[i] + data.length[i]);
      if (b < left || a > width) continue;
      const y = axis + data.lane[i] * lane + 3, w = Math.max(0.6, b - a - (b - a > 3 ? 0.7 : 0));
      pen.fillStyle = colour(i);
      pen.fillRect(a, y, w, lane - 6);
      if (w < 46 || lane < 20) continue;
      const text = data.n[i] > 1 ? `${data.n[i]} events` : data.labels[data.label[i]];
      const begin = Math.max(a, left) + 5;
      if (pen.measureText(text).width < Math.min(b, width) - begin - 5) { pen.fillStyle = "#10141a"; pen.fillText(text, begin, y + (lane - 6) / 2); }
    }
    pen.restore();
  }

  function draw() {
    const ratio = devicePixelRatio || 1;
    width = canvas.clientWidth;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11.5px system-ui, 'DejaVu Sans', sans-serif";
    pen.textBaseline = "middle";
    drawAxis();
    data.queues.forEach((name, i) => {
      const y = axis + i * lane;
      pen.globalAlpha = 0.55;
      pen.fillStyle = palette.track;
      pen.fillRect(left, y + 3, width - left, lane - 6);
      pen.globalAlpha = 1;
      pen.fillStyle = palette[data.kinds[i]];
      pen.fillRect(0, y + lane / 2 - 5, 4, 10);
      pen.fillStyle = palette.ink;
      pen.fillText(name, 11, y + lane / 2, left - 18);
    });
    drawRepeats();
    drawSlices();
  }

  let waiting = false;
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
  function show(a, b) {
    const span = Math.min(total, Math.max(50, b - a));
    from = Math.min(Math.max(0, a), total - span);
    to = from + span;
    redraw();
  }
  const zoom = (factor, at) => factor ? show(at - (at - from) * factor, at + (to - at) * factor) : show(0, total);
  const timeAt = (px) => from + Math.max(0, px - left) / (width - left) * (to - from);

  function find(px, py) {
    const row = Math.floor((py - axis) / lane), t = timeAt(px), slack = (to - from) / (width - left) * 2;
    let best = -1;
    for (let i = 0; i < data.start.length; i++) {
      if (data.lane[i] !== row || t < data.start[i] - slack || t > data.start[i] + data.length[i] + slack) continue;
      if (best < 0 || data.length[i] < data.length[best]) best = i;
    }
    return best;
  }

  function hint(event) {
    const i = find(event.offsetX, event.offsetY);
    tip.hidden = i < 0;
    if (i < 0) return;
    const parts = [data.n[i] > 1 ? `${data.n[i]} short events, the longest ${data.labels[data.label[i]]}` : data.labels[data.label[i]],
      data.groups[data.group[i]], `${time(data.length[i])} from ${time(data.start[i])}`];
    if (data.n[i] === 1 && data.bytes[i]) parts.push(size(data.bytes[i]));
    if (data.n[i] === 1 && data.flops[i]) parts.push(`${count(data.flops[i])}FLOP`);
    tip.textContent = parts.join("\n");
    tip.style.left = `${Math.min(event.offsetX + 14, width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${event.offsetY + 16}px`;
  }

  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 0.8 : 1.25, timeAt(event.offsetX)); }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { drag = { at: event.offsetX, from, to }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) { hint(event); return; }
    const shift = (drag.at - event.offsetX) / (width - left) * (drag.to - drag.from);
    tip.hidden = true;
    show(drag.from + shift, drag.to + shift);
  });
  canvas.addEventListener("keydown", (event) => {
    const middle = (from + to) / 2, step = (to - from) / 8;
    const acts = { "+": () => zoom(0.5, middle), "=": () => zoom(0.5, middle), "-": () => zoom(2, middle), 0: () => zoom(0),
      ArrowLeft: () => show(from - step, to - step), ArrowRight: () => show(from + step, to + step) };
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  });
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => zoom(Number(button.dataset.zoom), (from + to) / 2));
  colourBy.addEventListener("change", redraw);
  themeButton.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; nameTheme(); readPalette(); redraw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { nameTheme(); readPalette(); redraw(); });
  // Paper is white: print in the light theme, whatever is chosen.
  let chosen;
  addEventListener("beforeprint", () => { chosen = root.dataset.theme; root.dataset.theme = "light"; readPalette(); draw(); });
  addEventListener("afterprint", () => { if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme; readPalette(); draw(); });
  new ResizeObserver(redraw).observe(canvas.parentElement);
  readPalette();
  draw();
})();
