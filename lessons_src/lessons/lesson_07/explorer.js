// guide_picture of explorer.py in the browser; exact.js stands before this text.

const [STEPS, SHOWN, LIMIT, MEAN, APART] = [40, 12, 3, 0.7, 0.5];
const COLOURS = ["#1F7FC0", "#D55E00", "#009E73"];
const ARROWS = [["#009E73", 5], ["#D55E00", 2]];
const CLEAN = "exact on clean data only";

const pairs = (x) => Array.from({ length: x.length / 2 }, (_, i) => [x[2 * i], x[2 * i + 1]]);
const count = (flags) => flags.filter(Boolean).length;

// Which points get arrows: the first ones well inside the square that are apart from those before.
function spread(points) {
  const kept = [];
  for (const [i, [x, y]] of points.entries()) {
    const apart = kept.every((k) => Math.hypot(points[k][0] - x, points[k][1] - y) > APART);
    if (kept.length < SHOWN && apart && Math.max(Math.abs(x), Math.abs(y)) < LIMIT - APART) kept.push(i);
  }
  return kept;
}

function measured(value) {
  if (value >= 100) return `${roundEven(value).toLocaleString("en-US")} times`;
  const said = String(Number(value.toPrecision(3)));
  return said === "1" ? "just" : `${said} times`;
}

// The entries of the key, of groups that are there; a single group 0 is drawn in the theme's own colour.
const key = (groups, names) => [...new Set(groups)].sort().map((g, _, all) =>
  [null, all.length === 1 && g === 0 ? "var(--le-dot)" : COLOURS[g], names[g], g]);

export function picture({ guide, w, t, label }, { means, std: [std], alpha_bar, x0, noise, own, start, x: data, circle }) {
  const ring = { means, std }, ab = alpha_bar[t];
  const push = (ab, level) => { // what is taken from the predicted noise, by a classifier that is exact at a level
    const slope = classifierPush(ring, label, level);
    return (x) => slope(x).map((v) => Math.sqrt(1 - ab) * v);
  };
  const guided = (ab) => push(ab, guide === CLEAN ? 1 : ab);

  const noisy = pairs(x0).map((p, i) => p.map((v, k) => Math.sqrt(ab) * v + Math.sqrt(1 - ab) * noise[2 * i + k]));
  const x = noisy.filter((_, i) => own[i] !== label).slice(0, 300), flatX = Float64Array.from(x.flat());
  const right = pairs(push(ab, ab)(flatX)), mine = pairs(guided(ab)(flatX));
  const square = (pushes) => sum(pushes.flat().map((v) => v * v));
  const cosine = sum(mine.map(([u, v], i) => {
    const [a, b] = right[i];
    return (u * a + v * b) / (Math.max(Math.hypot(u, v), 1e-8) * Math.hypot(a, b)); // no push counts as none
  })) / x.length;
  const seen = spread(x), unit = MEAN / (sum(seen.map((i) => Math.hypot(...right[i]))) / seen.length);
  const drawn = (pushes, w) => seen.flatMap((i) => [...x[i], ...pushes[i].map((v) => w * unit * v)]);

  const eps = mixtureEps({ means, std, alpha_bar }), times = timeGrid(alpha_bar, STEPS, "linspace");
  const steered = (x, t) => {
    const pushes = guided(alpha_bar[t])(x);
    return eps(x, t).map((e, i) => e - w * pushes[i]);
  };
  const states = ddim(w === 0 ? eps : steered, start, alpha_bar, times), radius = circle[0];
  const lands = nearest(states[STEPS], means).map(([k, gap]) => (gap > radius ? 1 : k === label ? 0 : 2));
  const longer = Math.abs(w) * Math.sqrt(square(mine) / square(right));
  const told = w === 0 ? "At w = 0 there is no guide." :
    `At t = ${t} w times the guide's push points with cosine ${(Math.sign(w) * cosine).toFixed(3)} ` +
    `along the right one, ${measured(longer)} as long.`;
  return {
    panels: [
      {
        title: `Pushes to class ${label} at t = ${t}`,
        data: Float32Array.from(seen.flatMap((i) => x[i])),
        frames: 1,
        size: seen.length,
        groups: Array(seen.length).fill(0),
        arrows: Float32Array.from([...drawn(right, 1), ...drawn(mine, w)]),
        styles: ARROWS.map((style) => [seen.length, ...style]),
        lines: [...key([0], ["noisy point"]), ...["right", "guide, times w"].map((name, k) => {
          const [color, wide] = ARROWS[k];
          return [[], color, name, wide];
        })],
      },
      {
        title: `Samples, class ${label} wanted`,
        data: flat(states),
        frames: STEPS + 1,
        groups: lands,
        lines: [...key(lands, ["lands here", "lands nowhere", "lands elsewhere"]), [null, "var(--le-target)", "data"]],
        target: Float32Array.from([...data, ...circle.map((u, i) => u + means[2 * label + (i % 2)])]),
      },
    ],
    text: `${told} (Drawn so that right ones are equally long at every t. An arrow at the border goes on.) ` +
      `${count(lands.map((k) => k === 0))} of ${lands.length} samples land in class ${label}, in the circle that holds 99 % ` +
      `of its data; ${count(lands.map((k) => k === 1))} land nowhere, in the circle of no class.`,
    frame_names: times.map((t) => `t = ${t}`),
    formula: [w === 0 ? "ε̂ = ε" : `ε̂ = ε ${w >= 0 ? "−" : "+"} ${Math.abs(w)} · √(1 − ᾱ) ∇ log p(class ${label} | x_t)`],
    start: STEPS,
  };
}
