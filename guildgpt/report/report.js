"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("live");
  addEventListener("error", (event) => { root.dataset.error = event.message; });

  // The theme: what the system says until the reader says otherwise.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
    try { localStorage.setItem("guildgpt-theme", root.dataset.theme); } catch { /* not kept */ }
  });
  try { root.dataset.theme = localStorage.getItem("guildgpt-theme") || ""; } catch { /* none */ }
  dark.addEventListener("change", name);
  name();

  // Long answers are folded, side by side; without this script, and on paper, they stand whole.
  for (const probe of document.querySelectorAll(".probe")) {
    const long = [...probe.querySelectorAll(".said")].filter((said) => said.scrollHeight > 420);
    if (!long.length) continue;
    for (const said of long) said.classList.add("long");
    const button = document.createElement("button");
    const fold = (folded) => {
      probe.classList.toggle("folded", folded);
      button.setAttribute("aria-expanded", String(!folded));
      button.textContent = folded ? "Show the whole answers" : "Fold the answers";
    };
    button.type = "button";
    button.className = "quiet";
    button.addEventListener("click", () => fold(!probe.classList.contains("folded")));
    probe.append(button);
    fold(true);
  }

  for (const block of document.querySelectorAll("pre.copy")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block);
        button.textContent = "Selected: press Ctrl+C";
      }
    });
    block.after(button);
  }

  // Charts. `figure.chart` holds its place; what it draws is in the JSON block.
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 230, TOP = 12, RIGHT = 14, BOTTOM = 34, LEFT = 58;
  const make = (parent, tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };

  const show = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) {
      return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    }
    const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 4;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  };

  const colorOf = (chart, one) => one.raw
    ? "series raw"
    : `series s${chart.series.filter((other) => !other.raw).indexOf(one) % 6}`;

  // Where on the horizontal axis: a step, or a value of what the chart names instead.
  const placed = (chart, at) =>
    chart.across ? `${chart.across}: ${show(at)}` : `step ${at.toLocaleString("en")}`;

  // Round steps (1, 2, 2.5 or 5 times a power of ten) that cover low..high.
  const ticks = (low, high, wanted, whole) => {
    const rough = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
    if (whole) step = Math.max(1, step);
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  };

  // The range of a curve; one point, or a level line, gets room above and below.
  const range = (values, zero) => {
    const low = Math.min(...values, ...(zero ? [0] : [])), high = Math.max(...values);
    if (low === high) {
      const room = Math.abs(low) * 0.1 || 1;
      return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
    }
    const room = (high - low) * 0.06;
    return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  };

  const draw = (figure, chart) => {
    const plot = figure.querySelector(".plot"), tip = figure.querySelector(".tip");
    const width = Math.max(260, plot.clientWidth);
    const all = chart.series.flatMap((one) => one.points.filter((point) => point[1] !== null));
    plot.querySelector("svg")?.remove();
    if (!all.length) return;
    const steps = [...new Set(all.map((point) => point[0]))].sort((a, b) => a - b);
    let [left, right] = [steps[0], steps.at(-1)];
    if (left === right) [left, right] = [left - 1, right + 1];
    const [low, high] = range(all.map((point) => point[1]), chart.zero);
    const x = (step) => LEFT + ((step - left) / (right - left)) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);

    const svg = make(plot, "svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": figure.dataset.summary,
    });
    for (const value of ticks(low, high, 5, false)) {
      const at = y(value);
      make(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at });
      make(svg, "text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, show(value));
    }
    for (const step of ticks(left, right, width < 420 ? 4 : 6, !chart.across)) {
      make(svg, "line", {
        class: "axis", x1: x(step), x2: x(step), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 5,
      });
      make(svg, "text", {
        x: x(step), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle",
      }, show(step));
    }
    make(svg, "text", { x: width - RIGHT, y: HEIGHT - 2, "text-anchor": "end" },
      chart.across || "step");
    make(svg, "line", {
      class: "axis", x1: LEFT, x2: width - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM,
    });

    chart.series.forEach((one) => {
      let path = "", open = false;
      const color = colorOf(chart, one);
      const known = one.points.filter((point) => point[1] !== null);
      for (const [step, value] of one.points) {
        if (value === null) { open = false; continue; }
        path += `${open ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
        open = true;
      }
      if (!one.dots) make(svg, "path", { class: color, d: path });
      if (one.dots || (known.length <= 30 && !one.raw)) {  // few enough to be seen as measurements
        for (const [step, value] of known) {
          make(svg, "circle", { class: color, cx: x(step), cy: y(value), r: 3 });
        }
      }
    });

    // The reading line: pointer, finger or arrow keys.
    const rule = make(svg, "line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM });
    rule.style.display = "none";
    let current = steps.length - 1;
    const read = (index) => {
      current = Math.min(steps.length - 1, Math.max(0, index));
      const step = steps[current], at = x(step);
      rule.setAttribute("x1", at);
      rule.setAttribute("x2", at);
      rule.style.display = "";
      tip.replaceChildren();
      const head = document.createElement("b");
      head.textContent = placed(chart, step);
      tip.append(head);
      for (const one of chart.series) {
        const point = one.points.find((candidate) => candidate[0] === step);
        if (!point || point[1] === null) continue;
        const line = document.createElement("span");
        line.textContent = `${chart.series.length > 1 ? one.name + ": " : ""}${show(point[1])}`;
        tip.append(line);
      }
      tip.hidden = false;
      const scale = plot.clientWidth / width;
      const place = at * scale + 12;
      const flip = place + tip.offsetWidth > plot.clientWidth;
      tip.style.left = `${Math.max(0, flip ? at * scale - tip.offsetWidth - 12 : place)}px`;
    };
    const hide = () => { tip.hidden = true; rule.style.display = "none"; };
    plot.onpointermove = plot.onpointerdown = (event) => {
      const box = svg.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      let nearest = 0;
      steps.forEach((step, index) => {
        if (Math.abs(x(step) - at) < Math.abs(x(steps[nearest]) - at)) nearest = index;
      });
      read(nearest);
    };
    plot.onpointerleave = plot.onblur = hide;
    plot.onkeydown = (event) => {
      const jump = Math.max(1, Math.round(steps.length / 20));
      const to = {
        ArrowRight: current + 1, ArrowLeft: current - 1, PageUp: current + jump,
        PageDown: current - jump, Home: 0, End: steps.length - 1,
      }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      read(to);
    };
  };

  const stages = JSON.parse(document.getElementById("curves").textContent);
  const figures = [...document.querySelectorAll("figure.chart")].map((figure) => {
    const chart = stages[figure.dataset.stage][figure.dataset.chart];
    const key = figure.querySelector(".key");
    const known = chart.series.map((one) => one.points.filter((point) => point[1] !== null));
    const line = known.at(-1);
    const say = ([step, value]) => `${show(value)} at ${placed(chart, step)}`;
    figure.dataset.summary = line.length > 1
      ? `${chart.title}: from ${say(line[0])} to ${say(line.at(-1))}`
      : `${chart.title}: ${line.length ? say(line[0]) : "no values"}`;
    if (chart.series.length > 1) {
      chart.series.forEach((one) => {
        const item = document.createElement("li");
        const swatch = make(item, "svg", { viewBox: "0 0 22 8", "aria-hidden": "true" });
        if (one.dots) make(swatch, "circle", { class: colorOf(chart, one), cx: 11, cy: 4, r: 3 });
        else make(swatch, "path", { class: colorOf(chart, one), d: "M1 4H21" });
        item.append(one.name);
        key.append(item);
      });
    }
    if (!line.length) figure.querySelector(".plot").textContent = "No values were logged.";
    return [figure, chart];
  });
  const drawAll = () => {
    for (const [figure, chart] of figures) draw(figure, chart);
    root.dataset.charts = String(document.querySelectorAll(".plot svg").length);
  };
  let timer;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(drawAll, 100); });
  for (const fold of document.querySelectorAll("details")) fold.addEventListener("toggle", drawAll);
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    drawAll();
  });
  drawAll();
})();
