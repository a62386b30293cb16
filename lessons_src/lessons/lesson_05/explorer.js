// ddim_picture of explorer.py in the browser; exact.js stands before this text.

const WITH_PATHS = 16;

function stepText(alpha_bar, t, s, eta) {
  const [ab_t, ab_s] = [alpha_bar[t], alpha_bar[s]];
  const sigma = eta * Math.sqrt(((1 - ab_s) / (1 - ab_t)) * (1 - ab_t / ab_s)), fresh = sigma > 0 ? ` + ${sigma.toFixed(2)} · fresh z` : "";
  const kept = Math.sqrt(Math.max(1 - ab_s - sigma ** 2, 0));
  return `t = ${t} → ${s}:  point xₛ = ${Math.sqrt(ab_s).toFixed(2)} · guess x̂₀ + ${kept.toFixed(2)} · noise ε̂${fresh}`;
}

export function picture({ steps, grid, eta = 0 }, { means, std: [std], alpha_bar, start, exact, noise }) {
  const times = timeGrid(alpha_bar, steps, grid), n = times.length - 1;
  if (n * start.length > noise.length) return null; // more steps than there are draws
  const states = ddim(mixtureEps({ means, std, alpha_bar }), start, alpha_bar, times, eta, noise), end = states[n];
  const ends = nearest(end, means), wanted = nearest(exact, means);
  const arrived = ends.map(([, gap]) => gap < 3 * std), hit = percent(share(arrived));
  const own = percent(share(ends.map(([k], i) => arrived[i] && k === wanted[i][0])));
  const few = states.map((state) => state.subarray(0, 2 * WITH_PATHS));
  return {
    panels: [{ data: flat(states), frames: n + 1 }, { data: flat(few), frames: n + 1 }],
    text: `${n} network call${n > 1 ? "s" : ""}: at the end ${hit} % of the points are on target, within three standard ` +
      `deviations of a cluster's centre. Colour and shape say where endless small steps would end; the points end ` +
      `${distance(end, exact).toFixed(2)} away from there.` + (eta > 0 ? ` ${own} % end in the cluster of their colour.` : ""),
    frame_names: times.map((t) => `t = ${t}`),
    formula: [`Noise at t = ${times[0]}`, ...times.slice(1).map((s, i) => stepText(alpha_bar, times[i], s, eta))],
    start: n,
  };
}
