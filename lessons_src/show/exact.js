// Exact diffusion of points in the plane, in the browser: the formulas of oracle.py, schedules.py, samplers.py,
// guidance.py and solvers.py in the same notation, held equal to them by tests/show/test_exact.py.
// Points are interleaved, x = [x0, y0, x1, y1, ...]; a prediction is eps(x, t); a run is an array of states.

const lift = (f) => (...points) => Float64Array.from(points[0], (_, i) => f(...points.map((p) => p[i])));
export const sum = (values) => values.reduce((a, b) => a + b, 0);

// 2.5 becomes 2 and 3.5 becomes 4, as in Python.
export function roundEven(v) {
  const low = Math.floor(v);
  return v - low === 0.5 ? low + (low % 2) : Math.round(v);
}

// --- the exact noise prediction of equally likely round Gaussians (oracle.GaussianMixture) ---------------------------

// x -> the mean of the Gaussians K in the eyes of each point at the level ab: of their means, by class posterior.
export function posteriorMean({ means, std }, K, ab) {
  const signal = Math.sqrt(ab), variance = ab * std ** 2 + 1 - ab, weight = new Float64Array(K.length);
  return (x) => {
    const mean = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 2) {
      K.forEach((k, j) => {
        const dx = x[i] - signal * means[2 * k], dy = x[i + 1] - signal * means[2 * k + 1];
        weight[j] = -(dx * dx + dy * dy) / (2 * variance);
      });
      const top = Math.max(...weight);
      let total = 0, mx = 0, my = 0;
      K.forEach((k, j) => {
        const w = Math.exp(weight[j] - top);
        total += w;
        mx += w * means[2 * k];
        my += w * means[2 * k + 1];
      });
      [mean[i], mean[i + 1]] = [mx / total, my / total];
    }
    return mean;
  };
}

// means: interleaved; each Gaussian is its own class; label null asks for all of them.
export function mixtureEps({ means, std, alpha_bar }, label = null) {
  const K = label === null ? [...Array(means.length / 2).keys()] : [label];
  return (x, t) => {
    const ab = alpha_bar[t], signal = Math.sqrt(ab), scale = Math.sqrt(1 - ab) / (ab * std ** 2 + 1 - ab);
    return lift((x, m) => scale * (x - signal * m))(x, posteriorMean({ means, std }, K, ab)(x));
  };
}

// x -> grad log p(label | x) of a classifier that is exact at the level ab.
export function classifierPush({ means, std }, label, ab) {
  const scale = Math.sqrt(ab) / (ab * std ** 2 + 1 - ab), own = means.subarray(2 * label, 2 * label + 2);
  const all = posteriorMean({ means, std }, [...Array(means.length / 2).keys()], ab);
  return (x) => all(x).map((m, i) => scale * (own[i % 2] - m));
}

// eps_u + w (eps_c - eps_u); at w = 0 and 1 a single prediction counts.
export function guided(eps_u, eps_c, w) {
  if (w === 0) return eps_u;
  if (w === 1) return eps_c;
  const blend = lift((u, c) => u + w * (c - u));
  return (x, t) => blend(eps_u(x, t), eps_c(x, t));
}

// --- time grids (schedules.time_grid) --------------------------------------------------------------------------------

export function timeGrid(alpha_bar, steps, grid) {
  const T = alpha_bar.length - 1, counted = Array.from({ length: steps + 1 }, (_, i) => i);
  if (grid === "ddim_uniform") {
    const stride = Math.floor(T / steps), times = [0];
    for (let t = 0; t < T; t += stride) times.unshift(t + 1);
    return [...times.slice(0, -1), 0];
  }
  const snr = (ab) => ab / (1 - ab);
  const times = {
    linspace: () => counted.map((i) => roundEven((T * i) / steps)),
    trailing: () => counted.map((i) => T - roundEven((T * (steps - i)) / steps)),
    quadratic: () => counted.map((i) => roundEven((T * i * i) / steps ** 2)),
    log_snr: () => equallySpaced(alpha_bar, (ab) => Math.log(snr(ab)), steps),
    edm: () => equallySpaced(alpha_bar, (ab) => snr(ab) ** (-1 / 14), steps),
  }[grid]();
  for (let i = 1; i < times.length; i++) times[i] = Math.max(times[i], times[i - 1] + 1);
  for (let i = times.length - 1, highest = T; i >= 0; i--, highest--) times[i] = Math.min(times[i], highest);
  return times.reverse();
}

// 0, the times whose position is nearest to equally spaced values, and T.
function equallySpaced(alpha_bar, position, steps) {
  const T = alpha_bar.length - 1;
  if (steps === 1) return [0, T];
  const inner = Array.from(alpha_bar.slice(1, T), position), low = inner[0], high = inner[T - 2], stride = (high - low) / (steps - 1);
  const nearest = (wanted) => {
    const gaps = inner.map((p) => Math.abs(p - wanted));
    return 1 + gaps.indexOf(Math.min(...gaps));
  };
  return [0, ...Array.from({ length: steps - 1 }, (_, i) => nearest(low + i * stride)), T];
}

// --- samplers: runs from times[0] to 0, the start included -----------------------------------------------------------

const predictX0 = (x, eps, ab) => lift((x, e) => (x - Math.sqrt(1 - ab) * e) / Math.sqrt(ab))(x, eps);
const predictEps = (x, x0, ab) => lift((x, x0) => (x - Math.sqrt(ab) * x0) / Math.sqrt(1 - ab))(x, x0);
const renoise = (x0, eps, ab_s, sigma = 0) =>
  lift((x0, e) => Math.sqrt(ab_s) * x0 + Math.sqrt(Math.max(1 - ab_s - sigma ** 2, 0)) * e)(x0, eps);
const halfLogSnr = (ab) => Math.log(ab / (1 - ab)) / 2;

function run(x, times, step) {
  const states = [x];
  for (let i = 0; i + 1 < times.length; i++) states.push(step(states[i], times[i], times[i + 1], i));
  return states;
}

// noise: one row of standard normal numbers a step, as long as x; used where eta asks for it.
export function ddim(eps_fn, x, alpha_bar, times, eta = 0, noise = null) {
  return run(x, times, (x, t, s, i) => {
    const [ab_t, ab_s] = [alpha_bar[t], alpha_bar[s]], eps = eps_fn(x, t);
    const sigma = eta * Math.sqrt(((1 - ab_s) / (1 - ab_t)) * (1 - ab_t / ab_s));
    const mean = renoise(predictX0(x, eps, ab_t), eps, ab_s, sigma);
    return sigma > 0 ? mean.map((m, j) => m + sigma * noise[i * x.length + j]) : mean;
  });
}

export function heun(eps_fn, x, alpha_bar, times) {
  return run(x, times, (x, t, s) => {
    const [ab_t, ab_s] = [alpha_bar[t], alpha_bar[s]], move = (eps) => renoise(predictX0(x, eps, ab_t), eps, ab_s);
    const eps = eps_fn(x, t);
    return move(s > 0 ? lift((a, b) => (a + b) / 2)(eps, eps_fn(move(eps), s)) : eps);
  });
}

export function dpmSolverPP2M(eps_fn, x, alpha_bar, times) {
  let before = null;
  return run(x, times, (x, t, s) => {
    const [ab_t, ab_s] = [alpha_bar[t], alpha_bar[s]], x0 = predictX0(x, eps_fn(x, t), ab_t), at = halfLogSnr(ab_t);
    let mean = x0;
    if (before && s > 0) {
      const weight = (halfLogSnr(ab_s) - at) / (2 * (before.at - at));
      mean = lift((now, then) => now + weight * (then - now))(x0, before.x0);
    }
    before = { at, x0 };
    return renoise(mean, predictEps(x, mean, ab_t), ab_s);
  });
}

// --- what is said of the ends ----------------------------------------------------------------------------------------

export const flat = (states) => Float32Array.from(states.flatMap((state) => Array.from(state)));

// Root mean square distance between two sets of points.
export const distance = (a, b) => Math.sqrt((2 * sum(lift((a, b) => (a - b) ** 2)(a, b))) / a.length);

// For each point the nearest mean, and the distance to it.
export function nearest(x, means) {
  return Array.from({ length: x.length / 2 }, (_, i) => {
    const gaps = Array.from({ length: means.length / 2 }, (_, k) =>
      Math.hypot(x[2 * i] - means[2 * k], x[2 * i + 1] - means[2 * k + 1]));
    const gap = Math.min(...gaps);
    return [gaps.indexOf(gap), gap];
  });
}

export const share = (flags) => flags.filter(Boolean).length / flags.length;
export const percent = (part) => roundEven(100 * part).toFixed(0);
