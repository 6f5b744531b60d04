
"use strict";
// Shows the values of curves at the pointer, and searches completions.
// Text from runs is inserted only as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

// The same format as in `report/numbers.py`.
function number(value) {
  if (value === null || value === undefined) return "—";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

// ---- Values at the pointer, or selected with the arrow keys -------------------------------------

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, { visibility: "hidden", ...attributes });
  return node;
}

// Index of a step in a run, or of the nearest kept step if a long run is thinned; -1 if there is none.
function measuredAt(steps, step) {
  let best = 0;
  for (let i = 1; i < steps.length; i++) {
    if (Math.abs(steps[i] - step) < Math.abs(steps[best] - step)) best = i;
  }
  const spacing = (steps[steps.length - 1] - steps[0]) / steps.length;
  return Math.abs(steps[best] - step) <= spacing ? best : -1;
}

function readable(plot) {
  const chart = data.charts[Number(plot.dataset.chart)];
  const svg = plot.querySelector("svg");
  const [left, top, right, bottom] = chart.plot;
  const steps = [...new Set(chart.curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const across = (step) => left + ((step - chart.x[0]) / (chart.x[1] - chart.x[0])) * (right - left);
  const down = (value) => bottom - ((value - chart.y[0]) / (chart.y[1] - chart.y[0])) * (bottom - top);
  const tip = make("div", "tip");
  tip.setAttribute("role", "status");
  tip.hidden = true;
  const line = draw("line", { class: "cursor", y1: top, y2: bottom });
  const dots = chart.curves.map((c) => draw("circle", { class: `at run-${c.run % 7}`, r: 3.5 }));
  svg.append(line, ...dots);
  plot.append(tip);
  let at = null;

  function show(index) {
    at = Math.max(0, Math.min(steps.length - 1, index));
    const x = across(steps[at]);
    set(line, { x1: x, x2: x, visibility: "visible" });
    tip.replaceChildren(make("div", "", `step ${steps[at].toLocaleString("en")}`));
    chart.curves.forEach((curve, i) => {
      const index = measuredAt(curve.steps, steps[at]);
      const value = index < 0 ? null : curve.values[index];
      if (value === null) {
        set(dots[i], { visibility: "hidden" });
      } else {
        set(dots[i], { cx: x, cy: down(value), visibility: "visible" });
      }
      if (index < 0) return;
      const name = chart.curves.length > 1 ? curve.name : "";
      const text = make("b", "", number(value));
      tip.append(make("div", `run run-${curve.run % 7}`, make("i"), make("bdi", "", name), text));
    });
    tip.hidden = false;
    const pixel = (x * svg.clientWidth) / svg.viewBox.baseVal.width;
    const limit = plot.clientWidth - tip.offsetWidth;
    const offset = pixel + 10 > limit ? pixel - tip.offsetWidth - 10 : pixel + 10;
    tip.style.left = `${Math.max(0, Math.min(limit, offset))}px`;
  }

  function hide() {
    at = null;
    tip.hidden = true;
    for (const mark of [line, ...dots]) set(mark, { visibility: "hidden" });
  }

  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
    let best = 0;
    for (let i = 1; i < steps.length; i++) {
      if (Math.abs(across(steps[i]) - x) < Math.abs(across(steps[best]) - x)) best = i;
    }
    return best;
  }

  const moves = {
    ArrowLeft: () => (at === null ? steps.length - 1 : at - 1),
    ArrowRight: () => (at === null ? 0 : at + 1),
    Home: () => 0,
    End: () => steps.length - 1,
  };
  svg.addEventListener("pointermove", (event) => show(nearest(event)));
  svg.addEventListener("pointerdown", (event) => show(nearest(event)));
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(moves[event.key]());
  });
}

document.querySelectorAll("[data-chart]").forEach(readable);

// ---- Completions ----------------------------------------------------------------------------

const PAGE_SIZE = 10; // groups

function searchable() {
  const [query, runFilter, measure, least, most, order, results, count, more] = [
    "query", "run-filter", "measure", "least", "most", "order", "results", "count", "more",
  ].map((id) => document.getElementById(id));
  let groups = [];
  let shown = 0;

  const value = ([, rewards, advantage], name) =>
    name === "advantage" ? advantage : Object.hasOwn(rewards, name) ? rewards[name] : null;

  // Selects the groups with matching completions, and sorts them.
  function search() {
    const text = query.value.toLowerCase();
    const name = measure.value;
    const low = least.value === "" ? -Infinity : Number(least.value);
    const high = most.value === "" ? Infinity : Number(most.value);
    const limited = least.value !== "" || most.value !== "";

    function matches(group, completion) {
      const reward = value(completion, name);
      if (limited && (reward === null || reward < low || reward > high)) return false;
      return (
        completion[0].toLowerCase().includes(text) || group.prompt.toLowerCase().includes(text)
      );
    }

    groups = data.samples
      .filter((group) => !runFilter || runFilter.value === "" || group.run === Number(runFilter.value))
      .map((group) => ({
        ...group,
        completions: group.completions.filter((completion) => matches(group, completion)),
      }))
      .filter((group) => group.completions.length > 0);
    if (order.value === "last") groups.sort((a, b) => b.step - a.step);
    if (order.value === "first") groups.sort((a, b) => a.step - b.step);
    if (order.value === "high" || order.value === "low") groups = byValue(name, order.value);
    const total = groups.reduce((sum, group) => sum + group.completions.length, 0);
    const all = data.samples.reduce((sum, group) => sum + group.completions.length, 0);
    const format = (n) => n.toLocaleString("en");
    count.textContent = `${format(total)} of ${format(all)} completions`;
    results.replaceChildren();
    shown = 0;
    showMore();
  }

  // Sorts single completions by one reward; those that were not scored come last.
  function byValue(name, direction) {
    const sign = direction === "high" ? -1 : 1;
    return groups
      .flatMap((group) => group.completions.map((c) => ({ ...group, completions: [c] })))
      .sort((a, b) => {
        const [x, y] = [a, b].map((group) => value(group.completions[0], name));
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (x - y);
      });
  }

  function showMore() {
    results.append(...groups.slice(shown, shown + PAGE_SIZE).map(drawGroup));
    shown += PAGE_SIZE;
    more.hidden = shown >= groups.length;
  }

  function drawGroup(group) {
    const head = make("header", "", make("span", "step", `step ${group.step.toLocaleString("en")}`));
    if (data.runs.length > 1) {
      const dot = make("i", `dot run-${group.run % 7}`);
      head.prepend(make("span", "step", dot, make("bdi", "", data.runs[group.run])));
    }
    head.append(drawText(group.prompt));
    const counts = new Map(); // late in training, many completions of a group are identical
    for (const completion of group.completions) {
      const key = JSON.stringify(completion);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const drawn = [...counts].map(([key, times]) => drawCompletion(JSON.parse(key), times));
    return make("article", "group", head, ...drawn);
  }

  function drawCompletion([text, rewards, advantage], times) {
    const list = make("dl", "rewards");
    if (times > 1) list.append(pair("count", `${times}`, "none"));
    for (const [name, reward] of Object.entries(rewards)) {
      const scored = reward !== null;
      list.append(pair(name, scored ? number(reward) : "not scored", scored ? "" : "none"));
    }
    const sign = advantage > 0 ? "up" : advantage < 0 ? "down" : "";
    list.append(pair("advantage", (advantage > 0 ? "+" : "") + number(advantage), sign));
    return make("div", "completion", drawText(text), list);
  }

  function pair(name, text, className) {
    return make("div", "", make("dt", "", name), make("dd", className, text));
  }

  // The text with all matches of the query highlighted.
  function drawText(text) {
    const wanted = query.value.toLowerCase();
    const node = make("p", text === "" ? "text empty" : "text");
    if (text === "") node.append("(empty)");
    let from = 0;
    const lower = text.toLowerCase();
    while (wanted && lower.length === text.length && lower.indexOf(wanted, from) >= 0) {
      const start = lower.indexOf(wanted, from);
      node.append(text.slice(from, start), make("mark", "", text.slice(start, start + wanted.length)));
      from = start + wanted.length;
    }
    node.append(text.slice(from));
    return node;
  }

  for (const control of [query, runFilter, measure, least, most, order]) {
    if (control) control.addEventListener("input", search);
  }
  more.addEventListener("click", showMore);
  search();
}

if (document.getElementById("results")) searchable();
