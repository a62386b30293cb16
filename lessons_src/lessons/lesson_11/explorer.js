// students_picture of explorer.py in the browser; exact.js stands before this text.

const remembered = new Map();

// The teacher's way in so many steps of DDIM.
function walk(steps, { means, std: [std], alpha_bar, start }) {
  if (!remembered.has(steps)) {
    const times = timeGrid(alpha_bar, steps, "linspace");
    remembered.set(steps, ddim(mixtureEps({ means, std, alpha_bar }), start, alpha_bar, times));
  }
  return remembered.get(steps);
}

// Mean distance to the exact ends, and the share of strays, as they are said.
function off(x, { exact, means, std: [std] }) {
  const n = x.length / 2, away = (i) => Math.hypot(x[2 * i] - exact[2 * i], x[2 * i + 1] - exact[2 * i + 1]);
  const gap = sum(Array.from({ length: n }, (_, i) => away(i)));
  const strays = percent(share(nearest(x, means).map(([, gap]) => gap > 3 * std)));
  return `off by ${Number((gap / n).toPrecision(3))}, ${strays} % stray`;
}

export function picture({ steps, student }, constants) {
  const { start, exact, means, shown: [shown] } = constants, path = walk(steps, constants);
  const end = student === "perfect" ? exact : constants[student];
  const jump = [start, ...Array(steps).fill(end)], drawn = (states) => flat(states.map((x) => x.slice(0, 2 * shown)));
  const groups = nearest(exact.slice(0, 2 * shown), means).map(([mode]) => mode), target = Float32Array.from(exact);
  const who = student === "perfect" ? "perfect student" : `student ${student}`;
  const title = `${who[0].toUpperCase()}${who.slice(1)}`;
  const panel = (title, states) => ({ title, data: drawn(states), frames: steps + 1, groups, target });
  return {
    panels: [panel(`Teacher: ${steps} call${steps > 1 ? "s" : ""}`, path), panel(`${title}: 1 call`, jump)],
    formula: [`At the end: teacher ${off(path[steps], constants)}; ${who} ${off(end, constants)}`],
    frame_names: Array.from({ length: steps + 1 }, (_, k) => `${k} of ${steps} calls`),
    start: steps,
  };
}
