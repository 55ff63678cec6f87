"use strict";

// Plays a signal through a network: forward through the layers to the loss, and back. What it shows is in the page, as
// JSON: an input, layers and a loss, each with what passed it. A step is one of these, on the way forward or back.

const page = document.documentElement;
const told = JSON.parse(document.getElementById("signals").textContent);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const PAUSE = 650;

// Cividis: its lightness grows from negative to positive, so that it can be read in grey too.
const COLOURS = [[0, 34, 78], [67, 78, 108], [125, 124, 120], [188, 174, 108], [254, 232, 56]];

const element = (kind, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
};

const number = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e5 ? value.toExponential(2) : value.toPrecision(4);
  return text.replaceAll("-", "\u2212");
};

const shape = (sizes) => `(${sizes.join(", ")}${sizes.length === 1 ? "," : ""})`;

// Of -1 to 1.
const colour = (value) => {
  const place = (Math.max(-1, Math.min(1, value)) + 1) * 2;
  const low = Math.min(3, Math.floor(place));
  return COLOURS[low].map((from, k) => Math.round(from + (COLOURS[low + 1][k] - from) * (place - low)));
};

// The numbers below the pointer, or where the arrow keys went.
const tip = element("div", { className: "tip", hidden: true });
document.body.append(tip);

const showTip = (text, x, y) => {
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(x + 14, page.clientWidth - tip.offsetWidth - 6);
  tip.style.translate = `${Math.max(6, left)}px ${y + 18}px`;
};

// A grid of numbers as coloured cells, which tell their numbers.
const heatMap = (map, most, name) => {
  const rows = map.numbers.length, columns = map.numbers[0].length;
  const canvas = element("canvas", { width: columns, height: rows, tabIndex: 0 });
  canvas.setAttribute("role", "img");
  const size = `${rows} by ${columns} numbers; arrow keys tell them`;
  canvas.setAttribute("aria-label", `${name}${map.title ? `, ${map.title}` : ""}: ${size}`);
  canvas.className = rows === 1 ? "strip" : "map";
  const cell = rows === 1 ? 14 : Math.min(14, (map.title ? 72 : 128) / rows);
  canvas.style.width = `${columns * cell}px`;
  if (rows > 1) canvas.style.aspectRatio = `${columns} / ${rows}`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  map.numbers.flat().forEach((value, k) => image.data.set([...colour(most ? value / most : 0), 255], 4 * k));
  context.putImageData(image, 0, 0);

  let row = 0, column = 0;
  const tell = (x, y) => {
    const at = rows === 1 && map.rows.length === 1 ? [map.columns[column]] : [map.rows[row], map.columns[column]];
    showTip(`${map.title ? `${map.title} ` : ""}[${at.join(", ")}] ${number(map.numbers[row][column])}`, x, y);
  };
  const tellBelow = () => {
    const box = canvas.getBoundingClientRect();
    tell(box.left + (box.width * (column + 0.5)) / columns, box.top + (box.height * (row + 0.5)) / rows);
  };
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    column = Math.max(0, Math.min(columns - 1, Math.floor(((event.clientX - box.left) / box.width) * columns)));
    row = Math.max(0, Math.min(rows - 1, Math.floor(((event.clientY - box.top) / box.height) * rows)));
    tell(event.clientX, event.clientY);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    row = Math.max(0, Math.min(rows - 1, row + move[0]));
    column = Math.max(0, Math.min(columns - 1, column + move[1]));
    tellBelow();
  });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) tellBelow(); });
  for (const end of ["pointerleave", "blur"]) canvas.addEventListener(end, () => { tip.hidden = true; });
  return element("figure", {}, canvas, ...(map.title ? [element("figcaption", { textContent: map.title })] : []));
};

const signal = (of, symbol, name) => {
  const most = Math.max(Math.abs(of.least), Math.abs(of.most));
  const values = of.values.map(number).join(", ") + (of.size > of.values.length ? ", \u2026" : "");
  return element(
    "div", { className: "signal" },
    element("p", { className: "facts" },
      element("span", { className: "symbol", textContent: `${symbol} ${shape(of.shape)}` }),
      element("span", { textContent: `norm ${number(of.norm)}` }),
      element("span", { textContent: `${number(of.least)} to ${number(of.most)}` })),
    element("div", { className: "maps" }, ...of.maps.map((map) => heatMap(map, most, name))),
    element("p", { className: "values", textContent: values }));
};

const steepest = Math.max(...told.layers.flatMap((layer) => layer.parameters.map((of) => of.gradient)), 1e-300);

const parameter = (of) => {
  const bar = element("span", { className: "bar" });
  bar.style.width = `${(100 * of.gradient) / steepest}%`;
  return element("li", {},
    element("span", { textContent: `|dL/d${of.name}| ${shape(of.shape)}` }),
    element("span", { textContent: number(of.gradient) }),
    element("span", { className: "track" }, bar));
};

const panel = (way, title, ...children) =>
  element("section", { className: `panel ${way}` }, element("h3", { textContent: title }), ...children);

const card = (title, detail, ...panels) =>
  element("article", {},
    element("header", {}, element("h2", { textContent: title }), element("p", { textContent: detail })),
    element("div", { className: "panels" }, ...panels));

const input = told.input;
const cards = [card(
  "input", `example ${told.example} of the test part`,
  panel("ahead", "forward", ...(input.tokens
    ? [element("p", { className: "text", textContent: input.tokens.join("") }),
      element("p", { className: "values", textContent: `${input.tokens.length} tokens` })]
    : [signal(input.x, "x", "input")])),
  panel("back", "backward", ...(input.dx
    ? [signal(input.dx, "dL/dx", "the loss's derivative by the input")]
    : [element("p", { className: "values", textContent: "tokens are whole numbers, and have no derivative" })])))];

told.layers.forEach((layer, k) => cards.push(card(
  `${k + 1}. ${layer.name}`,
  [layer.round, ...layer.parameters.map((of) => `${of.name} ${shape(of.shape)}`)].filter(Boolean).join(" \u00b7 "),
  panel("ahead", "forward", ...layer.y.map((of) => signal(of, "y", `output of ${layer.name}`))),
  panel("back", "backward", ...layer.dy.map((of) => signal(of, "dL/dy", `derivative by the output of ${layer.name}`)),
    ...(layer.parameters.length ? [element("ul", {}, ...layer.parameters.map(parameter))] : [])))));

const of = told.loss;
const likely = (of.probabilities || []).map(({ name, value }) => {
  const bar = element("span", { className: "bar" });
  bar.style.width = `${100 * value}%`;
  return element("li", {},
    element("span", { textContent: name }), element("span", { textContent: `${(100 * value).toFixed(2)}%` }),
    element("span", { className: "track" }, bar));
});
cards.push(card(
  "loss", of.name,
  panel("ahead", "here it turns",
    element("p", { className: "facts" },
      element("span", { className: "symbol", textContent: `L ${number(of.value)}` }),
      ...(of.target ? [element("span", { textContent: `target ${of.target}` })] : []),
      ...(of.predicted ? [element("span", { textContent: `predicted ${of.predicted}` })] : [])),
    ...(likely.length ? [element("ul", {}, ...likely)] : []))));

const rail = element("div", { className: "rail", ariaHidden: "true" });
const dot = element("div", { className: "dot", ariaHidden: "true" });
const main = document.getElementById("layers");
main.append(rail, dot, ...cards);

// Steps: all cards down to the loss, then all others up again.
const turn = cards.length - 1, last = 2 * turn;
const cardAt = (step) => (step <= turn ? step : last - step);
const controls = Object.fromEntries(
  ["restart", "back", "play", "step", "position", "status"].map((name) => [name, document.getElementById(name)]));
let step = 0, timer = null;

const describe = () => {
  const name = cards[cardAt(step)].querySelector("h2").textContent;
  const way = step === turn ? "the loss" : step < turn ? "forward" : "backward";
  return `step ${step + 1} of ${last + 1}: ${way}${step === turn ? "" : `, ${name}`}`;
};

const show = (next, follow = true) => {
  step = Math.max(0, Math.min(last, next));
  cards.forEach((one, k) => {
    one.classList.toggle("here", k === cardAt(step));
    one.classList.toggle("ahead-seen", k <= step);
    one.classList.toggle("back-seen", last - k <= step);
  });
  const here = cards[cardAt(step)];
  dot.style.translate = `0 ${here.offsetTop + 14}px`;
  dot.textContent = step < turn ? "\u25bc" : step > turn ? "\u25b2" : "\u25cf";
  dot.classList.toggle("returning", step > turn);
  if (follow) here.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  controls.position.value = step;
  controls.status.textContent = describe();
  controls.back.disabled = step === 0;
  controls.step.disabled = step === last;
  page.dataset.step = step;
  page.dataset.state = timer !== null ? "playing" : step === last ? "done" : "ready";
};

const pause = () => {
  clearTimeout(timer);
  timer = null;
  controls.play.textContent = "Play";
};

const tick = () => {
  if (step === last) pause();
  else timer = setTimeout(() => { show(step + 1); tick(); }, PAUSE);
  page.dataset.state = timer !== null ? "playing" : "done";
};

const play = () => {
  if (timer !== null) {
    pause();
    show(step, false);
    return;
  }
  if (step === last) show(0);
  controls.play.textContent = "Pause";
  tick();
};

const go = (next) => { pause(); show(next); };

controls.position.max = last;
controls.restart.addEventListener("click", () => go(0));
controls.back.addEventListener("click", () => go(step - 1));
controls.step.addEventListener("click", () => go(step + 1));
controls.play.addEventListener("click", play);
controls.position.addEventListener("input", () => go(Number(controls.position.value)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, button, canvas")) return;
  const does = {
    " ": play, ArrowRight: () => go(step + 1), ArrowLeft: () => go(step - 1), Home: () => go(0), End: () => go(last),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});
addEventListener("resize", () => show(step, false));
show(location.hash === "#end" ? last : 0, false);
if (location.hash === "#playing") play();
