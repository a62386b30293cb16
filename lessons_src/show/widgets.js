// The browser half of widgets.Explorer: native controls, a replay slider and one canvas for each panel.
// Shared state: _controls (what to offer), _request {id, values} (written here), _answer {id, error, panels, text, ...}
// (written by Python). ipywidgets sends a request only when the one before is answered, and merges those in between.
// While an answer says `more`, a better picture is asked for: {id, values, more}; a moved control takes its place.
// An explorer with a _script answers what it can by itself (`local`); Python hears of that when the hand rests.

let instances = 0;

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const minus = (text) => text.replace("-", "\u2212");

// --- drawing: a painter draws frame k; clear(height) gives the pen of an empty canvas, both in CSS pixels ------------

function ticks(low, high, room) {
  const rough = (high - low) / Math.max(room, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.999 * rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const name = (v) => minus(step < 1e5 && step > 1e-5 ? v.toFixed(digits) : v.toExponential(1));
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step).map((v) => [v, name(v || 0)]);
}

// Draws grid, numbers (or names, pairs of place and name) and frame of a box, clips to it, and returns the maps from
// data to pixels.
function axes(pen, ink, { left, top, width, height }, [x0, x1], [y0, y1], spacing, xNames = [], yNames = []) {
  const X = (x) => left + ((x - x0) / (x1 - x0)) * width, Y = (y) => top + (1 - (y - y0) / (y1 - y0)) * height;
  [pen.fillStyle, pen.strokeStyle, pen.textAlign, pen.textBaseline] = [ink.faint, ink.grid, "center", "top"];
  pen.beginPath();
  for (const [x, name] of xNames.length ? xNames : ticks(x0, x1, width / (spacing * ink.size))) {
    pen.rect(X(x), top, 0, height);
    pen.fillText(name, X(x), top + height + 0.4 * ink.size);
  }
  [pen.textAlign, pen.textBaseline] = ["right", "middle"];
  for (const [y, name] of yNames.length ? yNames : ticks(y0, y1, height / (3.5 * ink.size))) {
    pen.rect(left, Y(y), width, 0);
    pen.fillText(name, left - 0.5 * ink.size, Y(y));
  }
  pen.stroke();
  pen.strokeStyle = ink.frame;
  pen.strokeRect(left, top, width, height);
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  return [X, Y];
}

// What the axes of a box tell; the pen must not be clipped, and is turned by this.
function axisLabels(pen, ink, { left, top, width, height }, x_label, y_label) {
  [pen.fillStyle, pen.textAlign, pen.textBaseline] = [ink.text, "center", "top"];
  pen.fillText(x_label, left + width / 2, top + height + 2 * ink.size);
  pen.rotate(-Math.PI / 2);
  pen.fillText(y_label, -(top + height / 2), 2);
}

// Okabe and Ito's colours and the shapes of look.py, so that a group is told apart by either.
const COLOURS = ["#1F7FC0", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const polygon = (...corners) => (pen, x, y, r) => corners.forEach(([u, v]) => pen.lineTo(x + u * r, y + v * r));
const SHAPES = [
  (pen, x, y, r) => pen.arc(x, y, r, 0, 7),
  polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]),
  polygon([0, -1.3], [1.15, 0.8], [-1.15, 0.8]),
  polygon([0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]),
];

// A point out of sight: a wedge on the border at (x, y) that shows the way out.
function wedge(pen, x, y, [dx, dy], r) {
  for (const [out, side] of [[0, 0], [-1.6, 1], [-1.6, -1]])
    pen.lineTo(x + r * (out * dx - side * dy), y + r * (out * dy + side * dx));
}

// From (x, y) by (u, v), as far as the square goes; a head as long as the whole arrow at most.
function arrow(pen, X, Y, limit, [x, y, u, v], color, wide) {
  const end = (at, step) => (step ? (Math.sign(step) * limit - at) / step : Infinity);
  const share = Math.min(1, end(x, u), end(y, v)), [x0, y0, x1, y1] = [X(x), Y(y), X(x + share * u), Y(y + share * v)];
  const length = Math.hypot(x1 - x0, y1 - y0), head = Math.min(4 + 1.6 * wide, length);
  if (length < 1) return;
  const [dx, dy] = [(x1 - x0) / length, (y1 - y0) / length], [bx, by] = [x1 - head * dx, y1 - head * dy];
  [pen.strokeStyle, pen.fillStyle, pen.lineWidth] = [color, color, wide];
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(bx, by);
  pen.stroke();
  pen.beginPath();
  for (const [px, py, side] of [[x1, y1, 0], [bx, by, 0.5 * head], [bx, by, -0.5 * head]]) pen.lineTo(px - side * dy, py + side * dx);
  pen.fill();
}

const imageWidth = (count) => (count <= 4 ? 280 : 190); // at most, in pixels

const painters = {
  points(panel, k, width, ink, clear) {
    const { data, target, size: n, limit, paths, arrows, styles, groups, grey, x_label, y_label, x_ticks, y_ticks } = panel;
    const left = (y_label ? 3.6 : 2.2) * ink.size, top = 0.6 * ink.size, side = width - left - top, start = 2 * n * k;
    const pen = clear(top + side + (x_label ? 3.4 : 1.8) * ink.size), span = [-limit, limit];
    const box = { left, top, width: side, height: side };
    pen.save();
    const [X, Y] = axes(pen, ink, box, span, span, 3.5, x_ticks, y_ticks);
    const r = n > 600 ? 1.7 : n > 40 ? 2.3 : 4; // a few points may be large, many must not hide each other
    pen.fillStyle = ink.target;
    for (let j = 0; j < target.length; j += 2) pen.fillRect(X(target[j]) - 1, Y(target[j + 1]) - 1, 2, 2);
    const colored = groups.some((g) => g > 0);
    const color = (i) => (groups[i] === grey ? ink.path : colored ? COLOURS[groups[i] % COLOURS.length] : ink.dot);
    [pen.strokeStyle, pen.lineWidth] = [ink.path, n > 40 ? 1 : 2];
    for (const i of k ? paths : []) {
      if (colored && n <= 40) pen.strokeStyle = `${color(i)}99`;
      pen.beginPath();
      for (let j = 2 * i; j <= start + 2 * i; j += 2 * n) pen.lineTo(X(data[j]), Y(data[j + 1]));
      pen.stroke();
    }
    let outside = 0, at = 0;
    for (const [count, color, wide] of styles)
      for (let i = 0; i < count; i++, at += 4) arrow(pen, X, Y, limit, arrows.subarray(at, at + 4), color, wide);
    for (let i = 0; i < n; i++) {
      const [u, v] = [data[start + 2 * i], data[start + 2 * i + 1]], far = Math.max(Math.abs(u), Math.abs(v)) / limit;
      pen.fillStyle = color(i);
      pen.beginPath();
      if (far > 1) wedge(pen, X(u / far), Y(v / far), Math.abs(u) > Math.abs(v) ? [Math.sign(u), 0] : [0, -Math.sign(v)], r + 2);
      else SHAPES[groups[i] % SHAPES.length](pen, X(u), Y(v), r);
      pen.fill();
      outside += far > 1;
    }
    pen.restore();
    axisLabels(pen, ink, box, x_label, y_label);
    return outside ? `${outside} of ${n} points lie outside: wedges` : "";
  },

  curves({ x, data, lines, marker, x_label, y_label, y_range, y_ticks, x_end }, k, width, ink, clear) {
    const left = 5 * ink.size, top = 0.6 * ink.size, height = Math.min(Math.max(0.65 * width, 200), 300), n = x.length;
    const box = { left, top, width: width - left - 1.5 * ink.size, height }, at = marker[k], dots = [];
    const pen = clear(top + height + 3.4 * ink.size);
    pen.save();
    const [X, Y] = axes(pen, ink, box, [x[0], x_end ?? x[n - 1]], y_range, 5, [], y_ticks);
    pen.fillStyle = ink.faint;
    if (marker.length) pen.fillRect(X(at) - 0.75, top, 1.5, height);
    for (const [i, [dash, color]] of lines.entries()) {
      const y = data.subarray(i * n, (i + 1) * n);
      [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [color, 2.2, "round"];
      pen.setLineDash(dash);
      pen.beginPath();
      for (let j = 0; j < n; j++) pen.lineTo(X(x[j]), Y(y[j]));
      pen.stroke();
      const j = Math.max(1, x.findIndex((v) => v >= at)), part = (at - x[j - 1]) / (x[j] - x[j - 1]);
      dots.push([color, y[j - 1] + part * (y[j] - y[j - 1])]);
    }
    pen.restore(); // from here on nothing is clipped: dots on the frame stay whole
    for (const [color, y] of marker.length ? dots : []) {
      const [above, below] = [y > y_range[1], y < y_range[0]]; // an arrow where the line is out of sight
      pen.fillStyle = color;
      pen.beginPath();
      if (above) SHAPES[2](pen, X(at), top + 6, 6);
      else if (below) SHAPES[2](pen, X(at), top + height - 6, -6);
      else pen.arc(X(at), Y(y), 4.5, 0, 7);
      pen.fill();
    }
    axisLabels(pen, ink, box, x_label, y_label);
    return "";
  },

  images({ data, shape: [count, tall, wide], channels, labels, at_end, arrives, frames }, k, width, ink, clear) {
    const gap = 10, foot = labels.length ? 1.9 * ink.size : 4;
    const least = count < 20 ? 64 : 40, across = Math.floor((width + gap) / (least + gap)) || 1;
    const rows = Math.ceil(count / across), columns = Math.ceil(count / rows);
    const cell = Math.min((width - (columns - 1) * gap) / columns, imageWidth(count)), high = (cell * tall) / wide;
    const small = h("canvas", { width: wide, height: tall }).getContext("2d");
    const pixels = small.createImageData(wide, tall), rgba = new Uint32Array(pixels.data.buffer);
    const pen = clear(rows * (high + foot + gap) - gap);
    [pen.textAlign, pen.textBaseline, pen.fillStyle, pen.strokeStyle] = ["center", "top", ink.text, ink.frame];
    pen.imageSmoothingEnabled = false;
    for (let i = 0; i < count; i++) {
      const x = (i % columns) * (cell + gap), y = Math.floor(i / columns) * (high + foot + gap);
      if (k < arrives[i]) {
        [pen.fillStyle, pen.textBaseline] = [ink.grid, "middle"];
        pen.fillRect(x, y, cell, high);
        pen.fillStyle = ink.faint;
        pen.fillText("not yet", x + cell / 2, y + high / 2);
        [pen.fillStyle, pen.textBaseline] = [ink.text, "top"];
      } else {
        const first = (k * count + i) * rgba.length * channels;
        for (let p = 0; p < rgba.length; p++) {
          const at = first + p * channels; // red is the lowest byte; a grey image has one number for all three
          rgba[p] = 0xff000000 | (channels === 3 ? data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) : 0x10101 * data[at]);
        }
        small.putImageData(pixels, 0, 0);
        pen.drawImage(small.canvas, x, y, cell, high);
      }
      pen.strokeRect(x + 0.5, y + 0.5, cell - 1, high - 1);
      if (labels.length && (!at_end || k === frames - 1)) pen.fillText(labels[i], x + cell / 2, y + high + 0.35 * ink.size, cell + gap);
    }
    return "";
  },

  needles({ names, data, low, high, states, label, span, lines }, k, width, ink, clear) {
    const row = 2 * ink.size, top = 0.4 * ink.size, height = row * names.length, pen = clear(top + height + 3.4 * ink.size);
    const left = Math.max(...names.map((name) => pen.measureText(name).width)) + 0.9 * ink.size;
    const box = { left, top, width: width - left - 3.6 * ink.size, height }, end = 1.08 * Math.asinh(span);
    const X = (v) => left + (0.5 + Math.asinh(Math.min(Math.max(v, -span), span)) / (2 * end)) * box.width;
    [pen.fillStyle, pen.strokeStyle, pen.textAlign, pen.textBaseline] = [ink.faint, ink.grid, "center", "top"];
    pen.beginPath();
    const all = [-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100], few = [-30, -3, 0, 3, 30];
    for (const tick of (box.width > 24 * ink.size ? all : few).filter((v) => Math.abs(v) <= span)) {
      pen.rect(X(tick), top, 0, height);
      pen.fillText(minus(`${tick}`), X(tick), top + height + 0.4 * ink.size);
    }
    pen.stroke();
    pen.strokeStyle = ink.frame;
    pen.strokeRect(left, top, box.width, height);
    for (const [i, name] of names.entries()) {
      const y = top + (i + 0.5) * row, x = X(data[i]), wall = X(high[i]);
      pen.fillStyle = ink.faint;
      pen.globalAlpha = 0.35;
      pen.fillRect(X(low[i]), y - 0.32 * row, X(high[i]) - X(low[i]), 0.64 * row);
      pen.globalAlpha = 1;
      pen.fillStyle = ink.text;
      pen.fillRect(wall - 1, y - 0.4 * row, 2, 0.8 * row);
      [pen.textAlign, pen.textBaseline] = ["right", "middle"];
      pen.fillText(name, left - 0.5 * ink.size, y);
      const far = Math.abs(data[i]), said = (data[i] < 0 ? "\u2212" : "+") + far.toFixed(far >= 10 ? 0 : 1), { font } = pen;
      if (states[i] === 1) pen.font = `bold ${font}`;
      pen.fillText(said, width, y);
      pen.font = font;
      pen.fillStyle = lines[states[i]][1];
      pen.fillRect(Math.min(x, X(0)), y - 1.25, Math.abs(x - X(0)), 2.5);
      pen.beginPath();
      SHAPES[[0, 3, 2][states[i]]](pen, x, y, 4.5);
      pen.fill();
    }
    [pen.fillStyle, pen.textAlign, pen.textBaseline] = [ink.text, "center", "top"];
    pen.fillText(label, width / 2, top + height + 2 * ink.size);
    return "";
  },
};

// The shapes of the marks, 10 pixels wide, for the key.
const KEYS = [
  `<circle cx="5" cy="5" r="3.5"`,
  `<path d="M1.8 1.8H8.2V8.2H1.8Z"`,
  `<path d="M5 .6L9 7.9H1Z"`,
  `<path d="M5 .4L9.6 5L5 9.6L.4 5Z"`,
];

// A line has dashes and may have a width, a mark its shape.
function legend([dash, color, label, cue]) {
  const [wide, mark] = dash
    ? [34, `<path d="M1 5H33" fill="none" stroke-width="${cue ?? 2.2}" stroke-dasharray="${dash}" style="stroke:${color}"/>`]
    : [10, `${KEYS[(cue ?? 0) % KEYS.length]} style="fill:${color}"/>`];
  const entry = h("span", {}, " ", label);
  entry.insertAdjacentHTML("afterbegin", `<svg width="${wide}" height="10" aria-hidden="true">${mark}</svg>`);
  return entry;
}

// A binary part may start anywhere in its message, a Float32Array may not: hence the slice.
function unpack(panel) {
  const Numbers = panel.kind === "images" ? Uint8Array : Float32Array;
  const array = (v) => new Numbers(v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength));
  return Object.fromEntries(Object.entries(panel).map(([name, v]) => [name, v instanceof DataView ? array(v) : v]));
}

// The script of an explorer as a function from values to a whole answer, or to null for what it leaves to Python.
async function load(model) {
  if (!model.get("_script")) return null;
  const address = URL.createObjectURL(new Blob([model.get("_script")], { type: "text/javascript" }));
  const { picture } = await import(address);
  URL.revokeObjectURL(address);
  const numbers = (v) => new Float64Array(v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength));
  const constants = Object.fromEntries(Object.entries(model.get("_constants")).map(([name, v]) => [name, numbers(v)]));
  const rest = { ...model.get("_answer"), panels: model.get("_answer").panels.map(unpack) };
  let key = null, found = null;
  return (values) => {
    if (key !== JSON.stringify(values)) {
      key = JSON.stringify(values);
      const changed = picture(values, constants);
      found = changed && { ...rest, ...changed, panels: rest.panels.map((p, i) => renamed({ ...p, ...changed.panels[i] })) };
    }
    return found;
  };
}

// A panel whose lines a script has given new names.
function renamed({ named, ...panel }) {
  return named ? { ...panel, lines: panel.lines.map(([dash, color, , ...rest], i) => [dash, color, named[i], ...rest]) } : panel;
}

// A sheet of 28 x 28 grey pixels to draw on with mouse, pen or finger; its content travels as base64 of 784 bytes.
function drawingSheet(changed) {
  const canvas = h("canvas", { width: 28, height: 28, class: "le-sheet", "aria-hidden": "true" });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 28, ((event.clientY - box.top) / box.height) * 28];
  };
  const clear = () => { [pen.fillStyle] = ["#000"]; pen.fillRect(0, 0, 28, 28); };
  let last = null;
  clear();
  const stroke = (event) => {
    const here = place(event);
    [pen.strokeStyle, pen.lineWidth, pen.lineCap] = ["#fff", 2.4, "round"];
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...here);
    pen.stroke();
    last = here;
    changed();
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => last && stroke(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  return {
    canvas,
    clear,
    get() {
      const { data } = pen.getImageData(0, 0, 28, 28);
      return btoa(String.fromCharCode(...data.filter((_, i) => i % 4 === 0)));
    },
    set(text) {
      const grey = atob(text), image = pen.createImageData(28, 28);
      for (let i = 0; i < 784; i++) image.data.fill(grey.charCodeAt(i), 4 * i, 4 * i + 3);
      for (let i = 0; i < 784; i++) image.data[4 * i + 3] = 255;
      pen.putImageData(image, 0, 0);
    },
  };
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

// --- one view -----------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const uid = `explorer-${++instances}-${Math.random().toString(36).slice(2)}`;
  const controls = h("div", { class: "le-controls" }), alert = h("p", { role: "alert", class: "le-error" });
  const panels = h("div", { class: "le-panels" }), caption = h("p", { class: "le-caption", id: `${uid}-caption` });
  const status = h("p", { role: "status", "aria-live": "polite", class: "le-status" });
  const formula = h("p", { class: "le-formula", "aria-hidden": "true" }); // the status reads it to those who do not see
  const view = h("div", { class: "le-explorer" }, controls, alert, formula, panels, status, caption);
  const reads = [], shows = [], figures = [];
  let answer = null, playing = 0, saying = 0, waiting = 0, painting = 0, resting = 0, patience = 0, inBrowser = null;
  el.append(view);

  function addControl(tag, name, label, attributes, ...children) {
    // Jupyter's command mode would take the arrow keys: the attribute must sit on the focused element itself.
    const shared = { id: `${uid}-${name}`, name, "data-lm-suppress-shortcuts": "true" };
    const input = h(tag, { ...shared, ...attributes }, ...children), title = h("label", { for: input.id }, label);
    const value = h("span", { class: "le-value", "aria-hidden": "true" });
    const control = h("div", { class: `le-control le-${tag}` }, title, value, input);
    controls.append(control);
    const show = (text) => { value.textContent = text; input.setAttribute("aria-valuetext", text); };
    const reveal = (visible) => { control.hidden = !visible; };
    return { control, input, title, show, reveal };
  }

  for (const { kind, name, label, options, decimals, when, unless, presets, ...range } of model.get("_controls")) {
    if (kind === "drawing") {
      const names = Object.keys(presets), own = h("option", { value: "" }, "your own");
      const { control, input } = addControl("select", name, label, {}, ...names.map((n) => h("option", {}, n)), own);
      const sheet = drawingSheet(() => { input.value = ""; ask(); });
      const clear = h("button", { type: "button", "data-lm-suppress-shortcuts": "true" }, "Clear");
      control.classList.add("le-drawing");
      control.append(clear);
      control.prepend(sheet.canvas);
      clear.addEventListener("click", () => { input.value = ""; sheet.clear(); ask(); });
      input.addEventListener("input", () => presets[input.value] && sheet.set(presets[input.value]), { capture: true });
      reads.push(() => [name, sheet.get()]);
      shows.push((values) => {
        if (sheet.get() !== values[name]) sheet.set(values[name]);
        input.value = names.find((n) => presets[n] === values[name]) ?? "";
      });
    } else if (kind === "choice") {
      const { input } = addControl("select", name, label, {}, ...options.map((option) => h("option", {}, option)));
      reads.push(() => [name, options[input.selectedIndex]]);
      shows.push((values) => {
        input.selectedIndex = options.indexOf(values[name]);
        input.disabled = Boolean(unless.length) && values[unless[0]] === unless[1];
      });
    } else {
      const { input, show, reveal } = addControl("input", name, label, { type: "range", ...range });
      reads.push(() => [name, Number(input.value)]);
      shows.push((values) => {
        input.value = values[name];
        show(minus(values[name].toFixed(decimals)));
        reveal(!when.length || values[when[0]] === when[1]);
      });
    }
  }
  const replay = addControl("input", "-replay", "", { type: "range" });
  const { input: scrub, title: scrubTitle, show: showFrame } = replay;
  const play = h("button", { type: "button", class: "le-play", "data-lm-suppress-shortcuts": "true" }, "Play");
  replay.control.classList.add("le-replay");
  replay.control.append(play);

  const draw = () => { painting ||= requestAnimationFrame(paint); };
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
    view.classList.remove("le-playing");
  };
  const say = (text, ms) => { clearTimeout(saying); saying = setTimeout(() => { status.textContent = text; }, ms); };

  function ask() {
    if (playing) { // who moves a control wants to see where it leads
      stop();
      scrub.value = scrub.max;
    }
    const values = Object.fromEntries(reads.map((read) => read())), local = Boolean(inBrowser?.(values));
    model.set("_request", { id: model.get("_request").id + 1, values, local });
    clearTimeout(resting);
    if (local) resting = setTimeout(() => model.save_changes(), 250);
    else model.save_changes();
  }

  function onRequest() {
    const { id, values, local } = model.get("_request");
    shows.forEach((show) => show(values));
    if (local && inBrowser) receive({ ...inBrowser(values), id, error: "", more: false });
    watch();
  }

  // Say "computing" after a moment without any answer, and what to do after many; only the newest answer ends that.
  function watch() {
    if (answer.id === model.get("_request").id) {
      clearTimeout(patience);
      return view.classList.remove("le-busy");
    }
    if (model.get("_request").more) return; // the picture belongs to these settings, it only gets better
    waiting ||= setTimeout(() => { view.classList.add("le-busy"); say("computing \u2026", 0); }, 150);
    clearTimeout(patience);
    patience = setTimeout(() => {
      alert.textContent = "Python has not answered for ten seconds. It may still be at work on another cell. If the " +
        "kernel was restarted or has died: click into this cell, choose Run, then Run All Above Selected Cell, and " +
        "press Shift+Enter.";
    }, 10_000);
  }

  function onAnswer() {
    if (answer && inBrowser && model.get("_request").local) return; // Python repeats what is shown
    receive({ ...model.get("_answer"), panels: model.get("_answer").panels.map(unpack) });
  }

  function receive(found) {
    const last = found.frame_names.length - 1, before = answer && answer.frame_names.length - 1;
    if (last !== before) {
      stop();
      const part = before ? Number(scrub.value) / before : null; // stay as far down the way as before
      scrub.max = last;
      scrub.value = part === null ? found.start : Math.round(part * last);
    }
    const first = answer === null;
    answer = found;
    controls.classList.toggle("le-still", last === 0);
    view.classList.toggle("le-failed", answer.error !== "");
    scrubTitle.textContent = answer.frame_label;
    alert.textContent = answer.error && `The picture still shows the last settings that worked. ${answer.error}`;
    while (figures.length > answer.panels.length) figures.pop().root.remove();
    while (figures.length < answer.panels.length) figures.push(newFigure());
    for (const [i, panel] of answer.panels.entries()) {
      const { root, title, canvas, key, note } = figures[i];
      root.className = `le-panel le-${panel.kind}`;
      root.style.setProperty("--le-count", panel.shape?.[0] ?? 1);
      root.style.setProperty("--le-each", `${imageWidth(panel.shape?.[0]) + 10}px`);
      title.textContent = panel.title;
      canvas.setAttribute("aria-label", panel.title);
      key.replaceChildren(...(panel.lines ?? []).map(legend), note);
    }
    clearTimeout(waiting);
    waiting = 0;
    if (!first) watch();
    draw();
    view.classList.toggle("le-rough", answer.more);
    if (answer.more && answer.id === model.get("_request").id) improve();
  }

  // After the next frame, so that the picture there is gets painted first.
  function improve() {
    requestAnimationFrame(() => setTimeout(() => {
      const { id, values } = model.get("_request");
      if (answer.id !== id) return; // a control has moved, or another view has asked
      model.set("_request", { id: id + 1, values, more: true });
      model.save_changes();
    }));
  }

  function newFigure() {
    const canvas = h("canvas", { role: "img", "aria-describedby": caption.id }), note = h("span");
    const title = h("div", { class: "le-title" }), key = h("div", { class: "le-key" });
    const root = h("div", {}, title, canvas, key);
    panels.append(root);
    sizes.observe(root);
    return { root, title, canvas, key, note };
  }

  function paint() {
    painting = 0;
    const style = getComputedStyle(view), ratio = window.devicePixelRatio, k = Number(scrub.value);
    const names = ["text", "faint", "grid", "frame", "dot", "path", "target"];
    const ink = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--le-${name}`)]));
    ink.size = 0.86 * parseFloat(style.fontSize);
    for (const [i, panel] of answer.panels.entries()) {
      const { root, canvas, note } = figures[i], width = root.clientWidth, pen = canvas.getContext("2d");
      const clear = (height) => {
        [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
        canvas.style.height = `${height}px`;
        pen.scale(ratio, ratio);
        pen.font = `${ink.size}px ${style.fontFamily}`;
        return pen;
      };
      if (width) note.textContent = painters[panel.kind](panel, Math.min(k, panel.frames - 1), width, ink, clear);
    }
    showFrame(answer.frame_names[k]);
    const parts = (answer.formula[k % answer.formula.length] ?? "").split(/_(\w+)/); // x_t is x with a low t
    formula.replaceChildren(...parts.map((part, i) => (i % 2 ? h("sub", {}, part) : part)));
    caption.textContent = [answer.text, answer.frame_texts[k]].filter(Boolean).join(" ");
    const words = [formula.textContent, caption.textContent].filter(Boolean).join(". ");
    if (!view.matches(".le-busy, .le-rough")) say(words, 300);
  }

  function start() {
    if (scrub.value === scrub.max) scrub.value = 0;
    play.textContent = "Pause";
    view.classList.add("le-playing");
    playing = setInterval(() => {
      scrub.value = Number(scrub.value) + Math.ceil(scrub.max / 80);
      if (scrub.value === scrub.max) stop();
      draw();
    }, Math.min(Math.max(4000 / scrub.max, 50), 600));
    draw();
  }

  view.addEventListener("keydown", leaveOn);
  play.addEventListener("click", () => (playing ? stop() : start()));
  controls.addEventListener("input", ({ target }) => {
    if (target !== scrub) return target.value !== "" && ask();
    stop();
    draw();
  });
  const sizes = new ResizeObserver(draw), theme = new MutationObserver(draw);
  theme.observe(document.body, { attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  window.addEventListener("resize", draw); // zooming changes the pixel ratio without changing every panel's width
  model.on("change:_request", onRequest);
  model.on("change:_answer", onAnswer);
  onAnswer();
  onRequest();
  load(model).then((found) => {
    inBrowser = found;
    if (inBrowser) onRequest();
  });
  const sight = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    sight.disconnect();
    const { id, more } = model.get("_request"), untouched = id === 0 || more; // a reload does not play again
    if (answer.plays && untouched && !matchMedia("(prefers-reduced-motion: reduce)").matches) start();
  }, { threshold: 0.6 });
  sight.observe(panels);
  return () => {
    stop();
    [waiting, patience, resting, saying].forEach(clearTimeout);
    sight.disconnect();
    sizes.disconnect();
    theme.disconnect();
    window.removeEventListener("resize", draw);
    model.off("change:_request", onRequest);
    model.off("change:_answer", onAnswer);
  };
}

export default { render };
