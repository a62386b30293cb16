// The browser half of blind.Blind: before the start, a form; then pair after pair; in the end, what Python says.
// Shared state: _about {names, question, sizes, shape} and _pixels, once; _request {id, n, voter, choices, stopped},
// the whole vote so far, written here; _answer {heard, error, told}, written by Python. The page does not know whose
// side is whose, so it can neither count nor show a count before the end.

const CHOICES = ["left", "right"]; // by side
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "neither" };
const REST = 250; // milliseconds that a new pair has to be there before it takes a choice: a double click is one choice
const SILENCE = "Python has not answered for ten seconds. It may still be at work on another cell: then go on. If " +
  "the kernel was restarted or has died, this vote cannot be counted, as only Python knew whose side was whose: " +
  "click into this cell, choose Run, then Run All Above Selected Cell, press Shift+Enter, and vote anew.";

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  // Jupyter's command mode would take letters and arrow keys: the attribute must sit on the focused element itself.
  if (/^(BUTTON|INPUT|SELECT)$/.test(node.tagName) || props.tabindex) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

// Escape and Shift+Enter are for the cell, from wherever in it.
function leaveOn(event) {
  const cell = event.currentTarget.closest(".jp-Cell"), run = event.key === "Enter" && event.shiftKey;
  if (!cell || !(run || event.key === "Escape")) return;
  event.preventDefault();
  event.stopPropagation();
  cell.focus();
  if (run) cell.dispatchEvent(new KeyboardEvent("keydown", event));
}

// K pictures in a square, pixel for pixel; the style sheet enlarges them.
function painter(canvas, pixels, [count, tall, wide]) {
  const columns = Math.ceil(Math.sqrt(count)), rows = Math.ceil(count / columns);
  [canvas.width, canvas.height] = [columns * (wide + 1) - 1, rows * (tall + 1) - 1];
  const pen = canvas.getContext("2d"), image = pen.createImageData(wide, tall), size = wide * tall;
  return (side) => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let k = 0; k < count; k++) {
      const start = (side * count + k) * size;
      for (let p = 0; p < size; p++) image.data.set([...Array(3).fill(pixels.getUint8(start + p)), 255], 4 * p);
      pen.putImageData(image, (k % columns) * (wide + 1), Math.floor(k / columns) * (tall + 1));
    }
  };
}

// The share and its interval on a line from 0 to 100 %, with the half marked; the sentence beside it says the same.
function scale([value, low, high], [a, b]) {
  const x = (share) => (10 + 380 * share).toFixed(1);
  const [share, from, to] = [value, low, high].map((part) => (100 * part).toFixed(0));
  const told = `Share for ${b}: ${share} %, interval ${from} to ${to} %`;
  const node = h("div", { class: "lb-scale", role: "img", "aria-label": told });
  node.insertAdjacentHTML("beforeend", `<svg viewBox="0 0 400 44" aria-hidden="true">
    <path class="lb-axis" d="M10 22H390M10 16V28M390 16V28"/><path class="lb-half" d="M200 4V40"/>
    <path class="lb-span" d="M${x(low)} 22H${x(high)}M${x(low)} 13V31M${x(high)} 13V31"/>
    <circle class="lb-dot" cx="${x(value)}" cy="22" r="6"/></svg>`);
  node.append(h("div", { class: "lb-ends", "aria-hidden": "true" },
    h("span", {}, `← ${a}`), h("span", {}, "no preference"), h("span", {}, `${b} →`)));
  return node;
}

// Every pair once more, with names: a slider, and below it whose side was whose and what was chosen.
function lookBack(sides, choices, pixels, shape) {
  const said = h("p", { role: "status" }), at = h("input", { type: "range", min: 1, max: sides.length, value: 1 });
  const canvases = ["left", "right"].map(() => h("canvas", { role: "img" }));
  const paints = canvases.map((canvas) => painter(canvas, pixels, shape));
  const captions = canvases.map(() => h("span"));
  const pair = canvases.map((canvas, i) => h("div", { class: "lb-side" }, canvas, captions[i]));
  const show = () => {
    const k = Number(at.value) - 1, chosen = CHOICES.indexOf(choices[k]);
    paints.forEach((paint, side) => paint(2 * k + side));
    pair.forEach((side, i) => side.classList.toggle("lb-chosen", i === chosen));
    captions.forEach((caption, i) => {
      caption.textContent = sides[k][i] + (i === chosen ? " ✓ your choice" : "");
      canvases[i].setAttribute("aria-label", sides[k][i]);
    });
    said.textContent = `Pair ${k + 1} of ${sides.length}: ${sides[k].join(" at the left, ")} at the right. ` +
      (chosen < 0 ? "You could not tell." : `You chose ${sides[k][chosen]}.`);
  };
  at.addEventListener("input", show);
  show();
  return h("details", { class: "lb-back" }, h("summary", {}, "Look back: whose side was whose?"),
    h("label", {}, "Pair ", at), h("div", { class: "lb-pair" }, ...pair), said);
}

function render({ model, el }) {
  const { names, question, sizes, shape } = model.get("_about"), pixels = model.get("_pixels");
  const status = h("p", { role: "status", class: "lb-status" }), alert = h("p", { role: "alert", class: "lb-alert" });
  let since = 0, painted = -1, patience = 0, sure = false, ended = false;

  // --- before the start
  const uid = `lb${Math.random().toString(36).slice(2)}`;
  const size = h("select", { id: `${uid}-n` }, ...sizes.map(([n]) => h("option", { value: n }, n)));
  const hint = h("p", { class: "lb-quiet", id: `${uid}-hint`, role: "status" });
  const voter = h("input", { id: `${uid}-voter`, type: "text", maxlength: 40, autocomplete: "off" });
  const start = h("button", { type: "button", class: "lb-primary" }, "Start");
  const form = h("div", { class: "lb-form" },
    h("p", {}, `Every pair has one side by ${names[0]} and one by ${names[1]}; which is which is hidden, and nothing ` +
      "is counted before the end. Choose a side, by mouse or with the arrow keys ← and →, or say with ↓ that you " +
      "cannot tell. There is no way back to an earlier pair, and a vote that was broken off is over."),
    h("div", { class: "lb-row" },
      h("label", { for: size.id }, "How many pairs (fixed from the start on)"), size,
      h("label", { for: voter.id }, "Your name, in a class (may be made up)"), voter),
    hint, start);
  size.setAttribute("aria-describedby", hint.id);
  size.value = (sizes.find(([n]) => n >= 30) ?? sizes[sizes.length - 1])[0];
  const explain = () => { hint.textContent = sizes.find(([n]) => n === Number(size.value))[1]; };

  // --- pair after pair
  const canvases = ["Pictures at the left", "Pictures at the right"].map((label) =>
    h("canvas", { role: "img", "aria-label": label }));
  const paints = canvases.map((canvas) => painter(canvas, pixels, shape));
  const sides = canvases.map((canvas, i) => h("button", { type: "button", class: "lb-side" }, canvas,
    h("span", {}, i ? "Right →" : "← Left")));
  sides.forEach((side, i) => side.addEventListener("click", () => choose(i ? "right" : "left")));
  const neither = h("button", { type: "button", onclick: () => choose("neither") }, "↓ Cannot tell");
  const stop = h("button", { type: "button", class: "lb-stop" });
  const progress = h("progress", { "aria-hidden": "true" });
  const stage = h("div", { class: "lb-stage", role: "group", tabindex: "-1", "aria-label": question },
    h("div", { class: "lb-pair" }, ...sides), h("div", { class: "lb-row" }, neither, progress, stop));

  // --- the end
  const result = h("div", { class: "lb-result" });
  const label = `Blind comparison: ${names.join(" or ")}`;
  const root = h("div", { class: "lb", role: "group", tabindex: "-1", "aria-label": label },
    h("p", { class: "lb-title" }, question), form, status, stage, result, alert);
  root.addEventListener("keydown", leaveOn);

  function send(changed) {
    const request = model.get("_request");
    model.set("_request", { ...request, ...changed, id: request.id + 1 });
    model.save_changes();
  }

  function choose(choice) {
    if (performance.now() - since < REST) return;
    send({ choices: [...model.get("_request").choices, choice] });
  }

  start.addEventListener("click", () => {
    send({ n: Number(size.value), voter: voter.value.trim() });
    stage.focus();
  });
  stop.addEventListener("click", () => {
    if (performance.now() - since < REST) return;
    if (sure) return send({ stopped: true });
    [sure, since] = [true, performance.now()];
    show();
  });
  size.addEventListener("input", explain);
  stage.addEventListener("keydown", (event) => {
    const choice = KEYS[event.key];
    if (!choice || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault(); // the page would scroll
    event.stopPropagation();
    if (!event.repeat) choose(choice);
  });

  function show() {
    const { n, choices, stopped } = model.get("_request"), { told, error } = model.get("_answer"), at = choices.length;
    const voting = n > 0 && at < n && !stopped, focused = root.contains(document.activeElement);
    [form.hidden, stage.hidden, result.hidden] = [n > 0, !voting, !told];
    status.textContent = told ? told.sentence : voting ? `Pair ${at + 1} of ${n}` : n ? "Counting …" : "";
    status.classList.toggle("lb-verdict", Boolean(told));
    alert.textContent = error;
    stop.textContent = sure ? `Really stop after ${at} of ${n}? It will be marked` : "Stop early";
    stop.disabled = at === 0;
    [progress.max, progress.value] = [n || 1, at];
    if (voting && painted !== at) {
      paints.forEach((paint, side) => paint(2 * at + side));
      [painted, since] = [at, performance.now()];
    }
    if (told && !ended) {
      ended = true;
      result.replaceChildren(...(told.share ? [scale(told.share, names)] : []),
        h("p", { class: "lb-quiet" }, told.kept), lookBack(told.sides, choices, pixels, shape));
    }
    if (focused && n && !voting) root.focus(); // what was pressed last is gone
    // Say what to do after ten seconds without an answer; an answer takes it back.
    clearTimeout(patience);
    if (model.get("_answer").heard !== model.get("_request").id)
      patience = setTimeout(() => { alert.textContent = SILENCE; }, 10_000);
  }

  function onRequest() {
    sure = false;
    show();
  }

  model.on("change:_request", onRequest);
  model.on("change:_answer", show);
  explain();
  show();
  el.append(root);
  return () => {
    clearTimeout(patience);
    model.off("change:_request", onRequest);
    model.off("change:_answer", show);
  };
}

export default { render };
