// guidance_picture of explorer.py in the browser; exact.js stands before this text.

// At each place along a line, the mean over the middles of a Gaussian's density.
function density(along, middles, std) {
  const peak = 1 / (std * Math.sqrt(2 * Math.PI) * middles.length);
  return Array.from(along, (u) => peak * sum(middles.map((m) => Math.exp(-(((u - m) / std) ** 2) / 2))));
}

export function picture({ w, label, steps }, { means, std: [std], alpha_bar, start, along, x: data, circle }) {
  const centre = means.subarray(2 * label, 2 * label + 2), times = timeGrid(alpha_bar, steps, "quadratic");
  const mixture = { means, std, alpha_bar }, eps_fn = guided(mixtureEps(mixture), mixtureEps(mixture, label), w);
  const states = ddim(eps_fn, start, alpha_bar, times), end = states[steps], n = end.length / 2;
  const [x, y] = [0, 1].map((axis) => end.filter((_, i) => i % 2 === axis)), mean = [x, y].map((v) => sum([...v]) / n);
  const spread = Math.sqrt([x, y].map((v, a) => sum([...v.map((u) => (u - mean[a]) ** 2)]) / (n - 1) / 2).reduce((a, b) => a + b));
  const hit = share(nearest(end, means).map(([k]) => k === label));
  const radius = circle[0], stray = share([...x].map((u, i) => Math.hypot(u - centre[0], y[i] - centre[1]) > radius));
  const onLine = (points) => Array.from({ length: points.length / 2 }, (_, i) => points[2 * i] * centre[0] + points[2 * i + 1] * centre[1]);
  const middles = onLine(means);
  const curves = [density(along, onLine(end), 0.12), density(along, [middles[label]], std), density(along, middles, std)];
  const target = Float32Array.from([...data, ...circle.map((u, i) => u + centre[i % 2])]);
  return {
    panels: [
      { title: `Samples of class ${label}`, data: flat(states), frames: steps + 1, target },
      { data: Float32Array.from(curves.flat()) },
    ],
    text: "Colour: the class in which the same noise ends without guidance. The circle holds 99 % of the data of class " +
      `${label}. ${percent(hit)} % of the samples are classified right, ${percent(stray)} % lie outside the circle. ` +
      `Their spread is ${spread.toFixed(2)} (data ${std.toFixed(2)}).`,
    frame_names: times.map((t) => `t = ${t}`),
    formula: [`ε̂ = ε_u ${w < 0 ? "−" : "+"} ${Math.abs(w)} · (ε_c − ε_u)`],
    start: steps,
  };
}
