// Predictions, checkpoints and flashcards. Everything happens in the page. What the learner has tried is also noted in
// the model's "answers", so that it is still there after a reload if the kernel is; without a kernel nothing changes.

// Jupyter's command mode would take letters and arrow keys unless each focusable element asks it not to.
const FOCUSABLE = new Set(["INPUT", "BUTTON", "SUMMARY"]);

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  if (FOCUSABLE.has(node.tagName)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

// `code`, *emphasis* and line ends are all the markup there is (see quiz.py); x_T is shown with its index below.
function inline(text) {
  return text.split(/(`[^`\n]+`|\*[^\s*](?:[^*\n]*[^\s*])?\*|\n|_[A-Za-z]+)/).map((part) => {
    if (part === "\n") return h("br");
    if (part.length > 2 && part[0] === "`") return h("code", {}, part.slice(1, -1));
    if (part.length > 2 && part[0] === "*") return h("em", {}, part.slice(1, -1));
    if (part[0] === "_") return h("sub", {}, part.slice(1));
    return part.replace(/ ([−·]) /g, "\u00a0$1\u00a0").replaceAll(" = ", " =\u00a0"); // formulas stay together
  });
}

const SYMBOLS = { right: "✓", wrong: "✗", hint: "→" };
const WORDS = { right: "Correct.", wrong: "Not yet.", hint: "" };

function remark(tag, state, word, text) {
  const symbol = h("span", { class: "dq-symbol", "aria-hidden": "true" }, SYMBOLS[state]);
  return h(tag, { class: `dq-remark dq-${state}` }, symbol, h("strong", {}, word), " ", h("span", {}, ...inline(text)));
}

// A number as the texts around it write it, with a minus sign and not a hyphen.
function minus(number) {
  return `${number}`.replaceAll("-", "−");
}

// A number with a dot or a comma; otherwise a friendly reason why it could not be read.
function readNumber(typed, unit) {
  const text = typed.replace(/\s/g, "").replaceAll("−", "-");
  if (!text) return { problem: "Type a number first. A rough guess is welcome." };
  if (unit === "%" && text.endsWith("%")) return readNumber(text.slice(0, -1), "");
  if (text.endsWith("%")) return { problem: "This is not a percentage: please write a number without the % sign." };
  if (/^[-+]?[1-9]\d{0,2}(,\d{3})+$/.test(text)) {
    return { problem: "Is this comma a decimal comma? A dot would make it clear." };
  }
  if (!/^[-+]?(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?$/i.test(text)) {
    return { problem: "I could not read this as one number. Write it like 0.5, 0,5 or 5e-1." };
  }
  return { value: Number(text.replace(",", ".")) };
}

function answerNumber(item, value) {
  const slack = item.tolerance + 1e-9; // 2.217 is within 0.02 of 2.197
  if (Math.abs(value - item.answer) <= slack) return ["right", item.explanation];
  const distance = (miss) => Math.abs(value - miss.value);
  const close = (miss) => Math.min(slack, Math.abs(miss.value) / 10 || slack);
  const near = item.near_misses.filter((miss) => distance(miss) <= close(miss));
  if (near.length) return ["wrong", near.sort((a, b) => distance(a) - distance(b))[0].message];
  return ["wrong", `The number is ${value < item.answer ? "larger" : "smaller"} than ${minus(value)}.`];
}

// How each kind of question is asked: its controls, reading and writing them as a text, what Check says, and what there
// is to know about every answer.
function choiceControls(item, uid) {
  const rows = item.options.map((option, i) =>
    h("label", { class: "dq-option" },
      h("input", { type: "radio", name: uid, value: i }),
      h("span", { class: "dq-letter" }, `${String.fromCharCode(65 + i)}.`),
      h("span", {}, ...inline(option.text))));
  const node = h("div", { class: "dq-options" }, ...rows);
  const picked = () => node.querySelector(":checked")?.value;
  return {
    node,
    read: picked,
    write: (value) => { node.querySelector(`[value="${value}"]`).checked = true; },
    check() {
      if (!picked()) return ["hint", "Choose one of the options first."];
      const option = item.options[picked()];
      return [option.correct ? "right" : "wrong", option.feedback];
    },
    answers: item.options.map((option, i) => [option.correct, String.fromCharCode(65 + i), option.feedback]),
  };
}

function numberControls(item, uid) {
  const input = h("input", { type: "text", inputmode: "decimal", autocomplete: "off", id: uid });
  input.setAttribute("aria-describedby", `${uid}-hint`);
  const label = item.place === "checkpoint" ? "Your answer" : "Your prediction";
  return {
    node: h("div", { class: "dq-number" }, h("label", { for: uid }, label), input,
      h("span", { id: `${uid}-hint`, class: "dq-quiet" },
        item.tolerance === 0.5 ? "a whole number" : `${item.unit} within ± ${item.tolerance} is right`)),
    read: () => input.value,
    write: (value) => { input.value = value; },
    check() {
      const { value, problem } = readNumber(input.value, item.unit);
      return problem ? ["hint", problem] : answerNumber(item, value);
    },
    answers: [[true, minus(item.answer), item.explanation],
      ...item.near_misses.map((miss) => [false, minus(miss.value), miss.message])],
  };
}

// One question. Whoever has solved it, or is stuck, may see everything there is to know about it: after one choice when
// predicting, where being wrong is part of the plan, and after two tries of a number or in a checkpoint. Earlier tries
// are made once more.
function question(item, eyebrow, note, onTry = () => {}) {
  const uid = `dq${Math.random().toString(36).slice(2)}`;
  const controls = item.kind === "choice" ? choiceControls(item, uid) : numberControls(item, uid);
  const status = h("div", { role: "status" });
  const more = h("details", { hidden: "" }, h("summary", {}, "Show all explanations"), h("ul", {},
    ...controls.answers.map(([right, answer, text]) => (right
      ? remark("li", "right", `${answer} is correct.`, text)
      : remark("li", "wrong", `${answer} is not correct.`, text)))));
  const tried = [], enough = item.kind === "choice" && item.place !== "checkpoint" ? 1 : 2;
  function check() {
    const [state, text] = controls.check();
    status.replaceChildren(remark("div", state, WORDS[state], text));
    if (state === "hint") return;
    tried.push(controls.read());
    if (state === "right" || tried.length >= enough) more.hidden = false;
    onTry(state === "right", !more.hidden);
  }
  function submit(event) {
    event.preventDefault();
    check();
    note.write([...tried]);
  }
  for (const value of note.read() ?? []) {
    controls.write(value);
    check();
  }
  // JupyterLab cancels the line break in text fields of a cell, and with it the browser's own submit on Enter.
  const enter = (event) => event.key === "Enter" && !event.shiftKey && event.target.tagName === "INPUT" && submit(event);
  return h("form", { onsubmit: submit, onkeydown: enter, oninput: () => status.replaceChildren() },
    h("fieldset", {}, h("legend", {}, h("span", { class: "dq-eyebrow" }, eyebrow), h("span", {}, ...inline(item.text))),
      controls.node, h("button", { type: "submit", class: "dq-primary" }, "Check"), status, more));
}

// The result below a prediction, and the words about it, would give it away: they are hidden until all predictions above
// have an answer. What there is to move gives nothing away before it is moved, and stays as it is.
function resultBelow(root) {
  let cell = root.closest(".jp-Cell");
  do cell = cell?.nextElementSibling; while (cell && !(cell.matches(".jp-CodeCell") && !cell.querySelector(".dq")));
  if (!cell || cell.querySelector(".le-explorer")) return [];
  const words = cell.nextElementSibling;
  return words?.matches(".jp-MarkdownCell") ? [cell, words] : [cell];
}

function hideResults(book) {
  const veiled = [...book.querySelectorAll(".dq-veiled")];
  for (const cell of veiled) cell.classList.remove("dq-veiled");
  for (const open of book.querySelectorAll(".dq-open"))
    for (const cell of resultBelow(open)) cell.classList.add("dq-veiled");
  for (const cell of veiled) if (!cell.matches(".dq-veiled")) unfold(cell);
}

// The words about a result are stored folded away (see make/notebooks.py). The result itself is, too, until its cell
// runs: what is stored is not the learner's own. The words come when the result does.
function unfold(cell) {
  if (!cell.matches(".jp-MarkdownCell")) return;
  const result = cell.previousElementSibling, isFolded = () => result?.querySelector(".jp-OutputPlaceholder");
  const open = () => cell.querySelector(".jp-InputPlaceholder .jp-Placeholder-content")?.click();
  if (!isFolded()) return open();
  const run = new MutationObserver(() => {
    if (isFolded()) return;
    run.disconnect();
    open();
  });
  run.observe(result, { childList: true, subtree: true });
}

function predict(root, entries, notes, title) {
  const show = h("button", { type: "button", onclick: () => reveal() }, "Show the result without an answer");
  const why = h("p", { class: "dq-quiet dq-row", hidden: "" }, "The result below is hidden until you answer. ", show);
  const refresh = () => { // what stands below is known only when this stands in its notebook
    if (root.closest(".jp-Notebook")) hideResults(root.closest(".jp-Notebook"));
    const [result] = resultBelow(root), open = root.classList.contains("dq-open");
    if (!open) why.replaceChildren("Now run the next cell.");
    why.hidden = !(open ? result : result?.querySelector(".jp-OutputPlaceholder"));
  };
  const reveal = () => {
    root.classList.remove("dq-open");
    refresh();
  };
  root.classList.add("dq-open");
  root.append(why);
  root.prepend(...entries.map((item, i) => question(item, title, notes[i], (_, told) => told && reveal())));
  for (const ms of [0, 200, 1000, 3000]) setTimeout(refresh, ms); // questions further down may come later
  return reveal;
}

function checkpoint(root, entries, notes) {
  const total = entries.length;
  const first = entries.map(() => null);
  const solved = entries.map(() => false);
  const score = h("p", { role: "status", class: "dq-score" }, `${total} questions. Take your time.`);
  const again = h("button", { type: "button", hidden: "" }, "Start again");
  again.addEventListener("click", () => {
    for (const note of notes) note.write([]);
    checkpoint(root, entries, notes);
    root.querySelector("input").focus();
  });
  const forms = entries.map((item, i) => question(item, `Question ${i + 1} of ${total}`, notes[i], (right) => {
    first[i] ??= right;
    solved[i] ||= right;
    const open = solved.filter((done) => !done).length;
    const end = open ? `${open} still open.` : "All solved.";
    score.textContent = `${first.filter(Boolean).length} of ${total} right at the first try. ${end}`;
    again.hidden = open > 0;
  }));
  root.replaceChildren(...forms, h("div", { class: "dq-row" }, score, again));
}

function flashcards(root, entries, notes) {
  const total = entries.length;
  const known = notes.map((note) => note.read() ?? false);
  const side = h("div", { class: "dq-quiet" });
  const face = h("div", { class: "dq-face" });
  const progress = h("p", { class: "dq-score" });
  let at = 0;
  let turned = false;
  const button = (text, onclick, look = "") => h("button", { type: "button", class: look, onclick }, text);
  const flip = button("Flip", () => show(at, !turned), "dq-primary");
  const rate = (value) => {
    known[at] = value;
    notes[at].write(value);
    const ahead = entries.map((_, i) => (at + 1 + i) % total);
    show(ahead.find((i) => !known[i]) ?? at, false);
    flip.focus(); // the button just pressed is gone
  };
  const rating = h("div", { class: "dq-row" }, button("Again", () => rate(false)), button("Know it", () => rate(true)));
  function show(next, back) {
    at = (next + total) % total;
    turned = back;
    side.textContent = back ? "Back" : "Front";
    face.replaceChildren(...inline(back ? entries[at].back : entries[at].front));
    rating.hidden = !back;
    const count = known.filter(Boolean).length;
    progress.textContent = `Card ${at + 1} of ${total}, ${count === total ? "all" : count} known`;
  }
  const previous = button("Previous", () => show(at - 1, false));
  const next = button("Next", () => show(at + 1, false));
  root.replaceChildren(h("div", { class: "dq-card", role: "status" }, side, face),
    h("div", { class: "dq-row" }, previous, flip, next, rating), progress);
  show(Math.max(known.indexOf(false), 0), false);
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

function render({ model, el }) {
  const title = model.get("title");
  const root = h("div", { class: "dq", role: "group", "aria-label": title });
  const entries = model.get("entries");
  const notes = entries.map((_, i) => ({
    read: () => model.get("answers")[i],
    write(value) {
      model.set("answers", { ...model.get("answers"), [i]: value });
      model.save_changes();
    },
  }));
  const leave = ({ predict, checkpoint, flashcards })[model.get("place")](root, entries, notes, title);
  root.addEventListener("keydown", leaveOn);
  el.append(root);
  return leave;
}

export default { render };
