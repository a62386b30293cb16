// guide_picture of explorer.py in the browser; exact.js stands before this text.

const [STEPS, SHOWN, LIMIT, MEAN, CUT, BESIDE] = [40, 16, 3, 0.55, 0.9, 0.045];
const ALONG = Array.from({ length: 9 }, (_, k) => 0.2 + k / 10);
const COLOURS = ["#1F7FC0", "#D55E00", "#009E73"];
const CLEAN = "exact on clean data only";

const pairs = (x) => Array.from({ length: x.length / 2 }, (_, i) => [x[2 * i], x[2 * i + 1]]);
const count = (flags) => flags.filter(Boolean).length;

// A row of dots from each point along its push, cut where it is long, beside the other row.
function rows(points, pushes, side) {
  return points.flatMap(([x, y], i) => {
    const [u, v] = pushes[i], length = Math.hypot(u, v), cut = CUT / Math.max(length, CUT);
    const beside = (side * BESIDE) / Math.max(length, 1e-6);
    return ALONG.flatMap((a) => [x - beside * v + a * cut * u, y + beside * u + a * cut * v]);
  });
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
  const ring = { means, std }, none = guide === "none", ab = alpha_bar[t];
  const push = (ab, level) => { // what is taken from the predicted noise, by a classifier that is exact at a level
    const slope = classifierPush(ring, label, level);
    return (x) => slope(x).map((v) => Math.sqrt(1 - ab) * v);
  };
  const guided = (ab) => push(ab, guide === CLEAN ? 1 : ab);

  const noisy = pairs(x0).map((p, i) => p.map((v, k) => Math.sqrt(ab) * v + Math.sqrt(1 - ab) * noise[2 * i + k]));
  const x = noisy.filter((_, i) => own[i] !== label).slice(0, 300), flatX = Float64Array.from(x.flat());
  const right = pairs(push(ab, ab)(flatX)), mine = none ? right.map(() => [0, 0]) : pairs(guided(ab)(flatX));
  const square = (pushes) => sum(pushes.flat().map((v) => v * v));
  const cosine = sum(mine.map(([u, v], i) => {
    const [a, b] = right[i];
    return (u * a + v * b) / (Math.max(Math.hypot(u, v), 1e-8) * Math.hypot(a, b)); // no push counts as none
  })) / x.length;
  const seen = [...x.keys()].filter((i) => Math.max(...x[i].map(Math.abs)) < LIMIT - CUT).slice(0, SHOWN);
  const unit = MEAN / (sum(seen.map((i) => Math.hypot(...right[i]))) / seen.length);
  const drawn = (pushes, side) => rows(seen.map((i) => x[i]), seen.map((i) => pushes[i].map((v) => unit * v)), side);
  const parts = [seen.flatMap((i) => x[i]), none ? [] : drawn(mine, -1), drawn(right, 1)];
  const kinds = parts.flatMap((part, k) => Array(part.length / 2).fill(k));

  const eps = mixtureEps({ means, std, alpha_bar }), times = timeGrid(alpha_bar, STEPS, "linspace");
  const steered = (x, t) => {
    const pushes = guided(alpha_bar[t])(x);
    return eps(x, t).map((e, i) => e - w * pushes[i]);
  };
  const states = ddim(none || w === 0 ? eps : steered, start, alpha_bar, times), radius = circle[0];
  const lands = nearest(states[STEPS], means).map(([k, gap]) => (gap > radius ? 1 : k === label ? 0 : 2));
  const told = none ? "There is no guide: the network's prediction stays as it is. " :
    `At t = ${t} the guide points with cosine ${cosine.toFixed(3)} along the right push, ` +
    `${measured(Math.sqrt(square(mine) / square(right)))} as long. `;
  return {
    panels: [
      {
        title: `Pushes to class ${label} at t = ${t}`,
        data: Float32Array.from(parts.flat()),
        frames: 1,
        size: kinds.length,
        groups: kinds,
        lines: key(kinds, ["x_t", "guide", "right"]),
      },
      {
        title: `Samples, class ${label} wanted`,
        data: flat(states),
        frames: STEPS + 1,
        groups: lands,
        lines: [...key(lands, ["here", "nowhere", "elsewhere"]), [null, "var(--le-target)", "data"]],
        target: Float32Array.from([...data, ...circle.map((u, i) => u + means[2 * label + (i % 2)])]),
      },
    ],
    text: `${told}(Drawn so that right ones are equally long at every t, and long ones cut.) ${count(lands.map((k) => k === 0))} ` +
      `of ${lands.length} samples land in class ${label}, in the circle that holds 99 % of its data; ` +
      `${count(lands.map((k) => k === 1))} land nowhere, in the circle of no class.`,
    frame_names: times.map((t) => `t = ${t}`),
    formula: [`ε̂ = ε ${w >= 0 ? "−" : "+"} ${Math.abs(w)} · √(1 − ᾱ) ∇ log p(class ${label} | x_t)`],
    start: STEPS,
  };
}
