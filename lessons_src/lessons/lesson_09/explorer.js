// race_picture of explorer.py in the browser, where the third solver is Heun; exact.js stands before this text.

const BUDGETS = [7, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60];
const GRIDS = { t: "linspace", "√t": "quadratic", "log-SNR": "log_snr" };
// A solver, the most steps that a budget pays for (four or more), and what a step to s costs.
const SOLVERS = {
  DDIM: { solve: ddim, steps: (nfe) => nfe, cost: () => 1 },
  "DPM-Solver++(2M)": { solve: dpmSolverPP2M, steps: (nfe) => nfe, cost: () => 1 },
  Heun: { solve: heun, steps: (nfe) => Math.floor((nfe + 1) / 2), cost: (s) => (s > 0 ? 2 : 1) },
};
const remembered = new Map();

// Where a solver stands when k evaluations are spent.
function race(name, budget, grid, schedule, { means, std: [std], start, ...rest }) {
  const key = [name, budget, grid, schedule].join();
  if (!remembered.has(key)) {
    const { solve, steps, cost } = SOLVERS[name], alpha_bar = rest[`alpha_bar_${schedule}`], n = steps(budget);
    const times = timeGrid(alpha_bar, n, GRIDS[grid]);
    const states = solve(mixtureEps({ means, std, alpha_bar }), start, alpha_bar, times), frames = [0], at = [times[0]];
    for (let i = 1; i < times.length; i++) {
      const waiting = cost(times[i]) - 1;
      for (let k = 0; k < waiting; k++) {
        frames.push(i - 1);
        at.push(times[i - 1]);
      }
      frames.push(i);
      at.push(times[i]);
    }
    while (frames.length < budget + 1) {
      frames.push(n);
      at.push(0);
    }
    const error = distance(states[n], rest[`end_${schedule}`]);
    remembered.set(key, { frames: frames.map((i) => states[i]), times: at, error });
  }
  return remembered.get(key);
}

function number(v) {
  if (v < 0.001) return "less than 0.001";
  return v < 99.5 ? String(Number(v.toPrecision(2))) : v < 1e5 ? v.toFixed(0) : `10^${roundEven(Math.log10(v))}`;
}

export function picture({ third, budget, grid, schedule }, constants) {
  const names = ["DDIM", "DPM-Solver++(2M)", third];
  if (!(third in SOLVERS)) return null; // the kernel knows them all
  const { means } = constants, end = constants[`end_${schedule}`];
  const runs = names.map((name) => race(name, budget, grid, schedule, constants));
  const errors = names.map((name) => BUDGETS.map((nfe) => race(name, nfe, grid, schedule, constants).error));
  const groups = nearest(end, means).map(([mode]) => mode);
  const signal = (run, k) => roundEven(100 * Math.sqrt(constants[`alpha_bar_${schedule}`][run.times[k]]));
  return {
    panels: [
      ...runs.map((r, i) => ({ title: names[i], data: flat(r.frames), frames: budget + 1, groups, target: Float32Array.from(end) })),
      {
        x: Float32Array.from(BUDGETS),
        data: Float32Array.from(errors.flat(), Math.log10),
        frames: budget + 1,
        marker: new Float32Array(budget + 1).fill(budget),
        named: names,
      },
    ],
    text: "The miss is the root mean square distance from the exact ends. Colour and shape name the cluster there.",
    formula: [`${budget} calls. Miss: ${names.map((name, i) => `${name} ${number(runs[i].error)}`).join(", ")}`],
    frame_names: Array.from({ length: budget + 1 }, (_, k) => `${k} of ${budget} calls`),
    frame_texts: Array.from({ length: budget + 1 }, (_, k) => k === budget ? "All have arrived." :
      `Signal so far: DDIM and 2M ${signal(runs[0], k)} %, ${third} ${signal(runs[2], k)} %.`),
    start: budget,
  };
}
