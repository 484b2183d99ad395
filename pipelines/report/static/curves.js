// Draws the charts from the numbers in the page: smoothing, log scale, a readout under the pointer.
"use strict";
(() => {
  const source = document.getElementById("curve-data");
  if (!source) return;
  const runs = JSON.parse(source.textContent);
  const state = { smoothing: 0.6, isLog: false };
  const MARGIN = { left: 46, right: 10, top: 8, bottom: 20 };

  const charts = [...document.querySelectorAll(".chart")].map((box) => {
    const { run, chart } = box.dataset;
    return makeChart(box, runs[Number(run)][Number(chart)]);
  });

  const slider = document.getElementById("smoothing");
  slider.addEventListener("input", () => {
    state.smoothing = Number(slider.value);
    document.getElementById("smoothing-value").textContent = state.smoothing.toFixed(2);
    charts.forEach((each) => each.draw());
  });
  for (const input of document.querySelectorAll('input[name="scale"]')) {
    input.addEventListener("change", () => {
      state.isLog = input.value === "log";
      charts.forEach((each) => each.draw());
    });
  }

  function makeChart(box, { title, series }) {
    const head = make("div", { class: "chart-head" }, box);
    make("h3", {}, head).textContent = title;
    const enlarge = make("button", { type: "button", "aria-label": `Enlarge ${title}` }, head);
    enlarge.textContent = "⤢";
    enlarge.setAttribute("aria-pressed", "false");
    const readout = make("div", { class: "readout", "aria-live": "off" }, box);
    const svg = make("svg", { tabindex: "0", role: "img" }, box);
    let frame = null; // what was drawn: scales and lines
    let cursor = null; // index into the steps, or null

    enlarge.addEventListener("click", () => {
      const isLarge = box.classList.toggle("large");
      enlarge.setAttribute("aria-pressed", String(isLarge));
      draw();
    });
    svg.addEventListener("pointermove", (event) => {
      const x = event.clientX - svg.getBoundingClientRect().left;
      point(nearest(frame.steps, frame.stepAt(x)));
    });
    svg.addEventListener("pointerleave", () => point(null));
    svg.addEventListener("blur", () => point(null));
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      const last = frame.steps.length - 1;
      point(clamp((cursor === null ? last : cursor) + move, 0, last));
    });
    new ResizeObserver(draw).observe(box);

    function draw() {
      const width = box.clientWidth - 24;
      if (width <= 0) return; // inside a folded part of the page
      const height = box.classList.contains("large") ? 320 : 150;
      frame = layout(series, width, height);
      svg.replaceChildren();
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("height", height);
      svg.setAttribute("aria-label", summary(title, frame.lines));
      drawAxes(svg, frame);
      for (const line of frame.lines) {
        if (line.raw) {
          make("path", { d: path(frame, line.steps, line.raw), class: `${line.role} raw` }, svg);
        }
        make("path", { d: path(frame, line.steps, line.values), class: line.role }, svg);
        if (line.steps.length === 1 && line.values[0] !== null) dot(svg, frame, line, 0);
      }
      point(cursor !== null && cursor < frame.steps.length ? cursor : null);
    }

    function point(index) {
      if (!frame) return;
      cursor = index;
      svg.querySelectorAll(".pointed").forEach((each) => each.remove());
      const shown = [];
      const step = index === null ? null : frame.steps[index];
      if (step !== null) {
        const x = frame.x(step);
        const ends = { x1: x, x2: x, y1: MARGIN.top, y2: frame.height - MARGIN.bottom };
        make("line", { ...ends, class: "cursor pointed" }, svg);
      }
      for (const line of frame.lines) {
        const at = step === null ? lastFinite(line.values) : nearest(line.steps, step);
        if (at === null || line.values[at] === null) continue;
        if (step !== null) dot(svg, frame, line, at).classList.add("pointed");
        shown.push([line.role, line.values[at]]);
      }
      readout.replaceChildren();
      if (step !== null) readout.append(`step ${step.toLocaleString("en")}: `);
      shown.forEach(([role, value], place) => {
        if (place) readout.append(" · ");
        make("b", {}, readout).textContent = format(value);
        if (role !== "training") readout.append(` ${role === "reference" ? "static" : role}`);
      });
    }

    return { draw };
  }

  // Scales for a size in pixels, and lines smoothed as the page says.
  function layout(series, width, height) {
    const steps = [...new Set(series.flatMap((each) => each.steps))].sort((a, b) => a - b);
    const finite = series.flatMap((each) => each.values).filter((value) => value !== null);
    const isLog = state.isLog && finite.length > 0 && finite.every((value) => value > 0);
    const toScale = isLog ? Math.log10 : (value) => value;
    const lines = series.map(({ role, steps: own, values }) => {
      const isSmoothed = role === "training" && state.smoothing > 0 && values.length > 4;
      const smooth = isSmoothed ? smoothed(values, state.smoothing) : values;
      return { role, steps: own, values: smooth, raw: isSmoothed ? values : null };
    });
    const [low, high] = valueRange(finite.map(toScale));
    const [first, last] = [steps[0] ?? 0, steps[steps.length - 1] ?? 1];
    const span = last - first || 1;
    const [left, right] = [MARGIN.left, width - MARGIN.right];
    const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
    return {
      width, height, steps, lines, isLog, low, high, first, last,
      x: (step) => left + ((step - first) / span) * (right - left),
      y: (value) => bottom - ((toScale(value) - low) / (high - low)) * (bottom - top),
      stepAt: (x) => first + ((x - left) / (right - left)) * span,
    };
  }

  // The range of the values, without the few highest and lowest where those would flatten the rest.
  function valueRange(values) {
    if (values.length === 0) return [0, 1];
    const sorted = [...values].sort((a, b) => a - b);
    let [low, high] = [sorted[0], sorted[sorted.length - 1]];
    if (sorted.length > 40) {
      const [p2, p98] = [0.02, 0.98].map((p) => sorted[Math.floor(p * (sorted.length - 1))]);
      const margin = (p98 - p2) || 1e-12;
      low = Math.max(low, p2 - margin);
      high = Math.min(high, p98 + margin);
    }
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
    return [low - pad, high + pad];
  }

  // Exponential moving average, corrected for its start; gaps stay gaps.
  function smoothed(values, weight) {
    let [sum, mass] = [0, 0];
    return values.map((value) => {
      if (value === null) return null;
      sum = weight * sum + (1 - weight) * value;
      mass = weight * mass + (1 - weight);
      return sum / mass;
    });
  }

  function drawAxes(svg, frame) {
    const { low, high } = frame;
    for (const value of frame.isLog ? logTicks(10 ** low, 10 ** high) : ticks(low, high, 4)) {
      const y = frame.y(value);
      const ends = { x1: MARGIN.left, x2: frame.width - MARGIN.right, y1: y, y2: y };
      make("line", { ...ends, class: "rule" }, svg);
      const text = make("text", { x: MARGIN.left - 6, y: y + 3.5, "text-anchor": "end" }, svg);
      text.textContent = format(value);
    }
    const wanted = Math.max(3, Math.floor(frame.width / 70));
    for (const step of ticks(frame.first, frame.last, wanted)) {
      if (!Number.isInteger(step)) continue;
      const x = clamp(frame.x(step), MARGIN.left, frame.width - MARGIN.right - 4);
      const text = make("text", { x, y: frame.height - 5, "text-anchor": "middle" }, svg);
      text.textContent = short(step);
    }
  }

  function path(frame, steps, values) {
    const [top, bottom] = [MARGIN.top, frame.height - MARGIN.bottom];
    let text = "";
    let isDown = false;
    steps.forEach((step, i) => {
      const value = values[i];
      if (value === null) {
        isDown = false;
        return;
      }
      const y = clamp(frame.y(value), top, bottom);
      text += `${isDown ? "L" : "M"}${frame.x(step).toFixed(1)} ${y.toFixed(1)}`;
      isDown = true;
    });
    return text;
  }

  function dot(svg, frame, line, i) {
    const y = clamp(frame.y(line.values[i]), MARGIN.top, frame.height - MARGIN.bottom);
    return make("circle", { cx: frame.x(line.steps[i]), cy: y, r: 3.5, class: line.role }, svg);
  }

  function ticks(low, high, count) {
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const size = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
    const found = [];
    for (let value = Math.ceil(low / size) * size; value <= high + size * 1e-6; value += size) {
      found.push(Number(value.toPrecision(12)));
    }
    return found;
  }

  // Powers of ten with 2 and 5 between them, or every n-th power where those are many.
  function logTicks(low, high) {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
    const every = Math.ceil(powers.length / 5);
    const steps = powers.length > 4 ? [1] : [1, 2, 5];
    const found = powers
      .filter((_, i) => i % every === 0)
      .flatMap((power) => steps.map((each) => each * power))
      .filter((value) => value >= low && value <= high);
    return found.length > 1 ? found : ticks(low, high, 3);
  }

  function summary(title, lines) {
    const parts = lines.map((line) => {
      const [first, last] = [line.values.findIndex((v) => v !== null), lastFinite(line.values)];
      if (last === null) return `${line.role}: no finite value`;
      return `${line.role}: from ${format(line.values[first])} to ${format(line.values[last])}`;
    });
    return `${title} over steps. ${parts.join("; ")}. Arrow keys read out values.`;
  }

  function lastFinite(values) {
    for (let i = values.length - 1; i >= 0; i--) if (values[i] !== null) return i;
    return null;
  }

  function nearest(steps, step) {
    if (steps.length === 0) return null;
    let [low, high] = [0, steps.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle;
      else high = middle;
    }
    return step - steps[low] <= steps[high] - step ? low : high;
  }

  function format(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
    return String(Number(value.toPrecision(4)));
  }

  function short(step) {
    return step >= 1000 ? `${Number((step / 1000).toPrecision(4))}k` : String(step);
  }

  function clamp(value, low, high) {
    return Math.min(Math.max(value, low), high);
  }

  function make(name, attributes, parent) {
    const isDrawn = ["svg", "path", "line", "text", "circle"].includes(name);
    const space = isDrawn ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  }
})();
