"""Pictures of why in lesson 09: a line through two predictions, orders, starts, the front, and the digits."""

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.evaluation import accuracy
from lessons_src.guidance import classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_09.front import (
    LIT,
    MARGIN,
    ODE_END,
    REFERENCE,
    as_good,
    difference,
    draw,
    find,
    front,
    highest,
    look,
    reaching,
    sorts,
    students,
)
from lessons_src.measurements import digits_of
from lessons_src.oracle import exact_flow
from lessons_src.process import predict_x0
from lessons_src.samplers import Counted, EpsFn, sample
from lessons_src.schedules import NoiseSchedule, cosine, linear, time_grid, times_to
from lessons_src.show import plots
from lessons_src.solvers import SOLVERS, thresholded

ORDERS = {
    "DDIM": 1,
    "Heun": 2,
    "PLMS": 2,
    "DPM-Solver-2": 2,
    "DPM-Solver++(2S)": 2,
    "DPM-Solver++(2M)": 2,
    "DPM-Solver-3": 3,
    "DPM-Solver++(3M)": 3,
    "UniPC-2": 3,
}
BUDGETS = (8, 16, 32, 64, 128, 256, 512)
FINE = BUDGETS.index(64)  # from here on errors fall as the order says
FAMILY = ("DDIM", "Heun", "DPM-Solver++(2M)", "UniPC-2")
KINDS = {  # solver -> where its other predictions come from and what it mixes; evaluations an interval
    "DDPM": ("none; adds fresh noise", 1),
    "DDIM": ("none", 1),
    "Heun": ("looks ahead, mixes ε̂", 2),
    "PLMS": ("remembers, mixes ε̂", 1),
    "DPM-Solver-2": ("looks ahead, mixes ε̂", 2),
    "DPM-Solver++(2S)": ("looks ahead, mixes x̂₀", 2),
    "DPM-Solver++(2M)": ("remembers, mixes x̂₀", 1),
    "DPM-Solver++(3M)": ("remembers two, mixes x̂₀", 1),
    "SDE-DPM-Solver++(2M)": ("remembers, mixes x̂₀, adds fresh noise", 1),
    "UniPC-2": ("remembers and corrects, mixes x̂₀", 1),
}


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """The clock: lambda = log(SNR) / 2, infinite where alpha_bar is 1."""
    return (alpha_bar / (1 - alpha_bar)).log() / 2


def starts(n: int = 64) -> Tensor:
    """The start noises of the race on the ring, (n, 2)."""
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# --- Why a line through two predictions


def clean_guesses(schedule: NoiseSchedule, n: int = 300) -> tuple[Tensor, Tensor]:
    """Along one exact way on the ring: the times of n places, and the first number of x0-hat at each, (n,) both.

    UniPC-2 with n evaluations is exact to the eye.
    """
    x, net, times = starts(9)[8:9], data.ring().network(schedule), time_grid(schedule, n, "log_snr")
    places = [x, *(state.x for state in SOLVERS["UniPC-2"].run(net, x, schedule, times))]
    guesses = [
        predict_x0(x, net(x, torch.tensor([t])), schedule.alpha_bar[t])[0, 0].item()
        for t, x in zip(times[:-1], places[:-1], strict=True)
    ]
    return torch.tensor(times[:-1]), torch.tensor(guesses)


def show_memory(steps: int = 7) -> None:
    """The clean guess on its way: on the clock of log-SNR with what DDIM and 2M take for it, and on the clock of t."""
    fig, axes = plots.figure(columns=2, width=7.8, height=3.3)
    left, right = axes[0]
    for schedule, dash in ((linear(), "-"), (cosine(), ":")):
        times, guess = clean_guesses(schedule)
        clock = half_log_snr(schedule.alpha_bar[times])
        said = "x̂₀ itself, both schedules" if schedule.name == "linear" else None
        left.plot(clock, guess, dash, color=plots.INK, linewidth=1.8, label=said)
        right.plot(times, guess, dash, color=plots.INK, linewidth=1.8, label=f"{schedule.name} schedule")
        if schedule.name == "linear":
            at = [int((clock - place).abs().argmin()) for place in torch.linspace(-4.5, 2.5, steps + 1)]
            _steps_and_lines(left, clock, guess, at)
    left.set(title="the clock of log-SNR", xlabel="λ, from noise to data", ylabel="first number of x̂₀", xlim=(-5, 4))
    right.set(title="the clock of t", xlabel="t, from noise to data", ylabel="first number of x̂₀", xlim=(1000, 0))
    for axis in (left, right):
        axis.legend(fontsize=9)
    plots.show(
        fig,
        "The clean guess of one point on its way down. Left: in each step DDIM lets it stand still. The line of 2M "
        "comes nearer, but not at a bend. Right: against t the two schedules have two curves, on the left one.",
    )


def _steps_and_lines(axis: Axes, clock: Tensor, guess: Tensor, at: Sequence[int]) -> None:
    """What DDIM takes for the guess in each step, and what 2M takes."""
    for k, (i, j) in enumerate(pairwise(at)):
        ends = clock[[i, j]]
        axis.plot(ends, guess[[i, i]], "--", color=plots.BLUE, label="DDIM: it stands still" if not k else None)
        if k:
            slope = (guess[i] - guess[at[k - 1]]) / (clock[i] - clock[at[k - 1]])
            line = guess[i] + slope * (ends - clock[i])
            axis.plot(ends, line, color=plots.VERMILLION, label="2M: it goes on as before" if k == 1 else None)
            middle = {"color": plots.VERMILLION, "markersize": 6, "label": "x̄₀: the middle" if k == 1 else None}
            axis.plot(ends.mean(), line.mean(), "D", markerfacecolor="none", **middle)
    axis.plot(clock[at], guess[at], "o", color=plots.INK, markersize=5)


# --- Orders


def equal_log_snr(T: int, top: float = 8.0, bottom: float = -4.0) -> NoiseSchedule:
    """A schedule whose T times are equally spaced in lambda = log(SNR) / 2: the even ground that theory assumes."""
    half = torch.linspace(top, bottom, T, dtype=torch.float64)
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(2 * half)]))


def _anywhere(name: str, eps_fn: EpsFn, x: Tensor, schedule: NoiseSchedule, times: Sequence[int]) -> Tensor:
    """The end of a run that may begin where its solver warns: to be measured, not to be used."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return sample(SOLVERS[name].run(eps_fn, x, schedule, times))


def errors(
    name: str, schedule: NoiseSchedule, grid: str, budgets: Sequence[int], truth: Tensor
) -> Iterator[tuple[int, float]]:
    """For each budget the evaluations spent and the root mean square distance from the exact ends, 64 starts."""
    for budget in budgets:
        times = time_grid(schedule, SOLVERS[name].steps(budget), grid)
        counted = Counted(data.ring().network(schedule))
        end = _anywhere(name, counted, starts(), schedule, times)
        yield counted.nfe, (end - truth).square().sum(1).mean().sqrt().item()


def order(spent: Sequence[int], error: Sequence[float]) -> float:
    """Minus the slope of log error against log evaluations, by regression."""
    a, b = (torch.tensor(values, dtype=torch.float64).log() for values in (spent, error))
    return -((a - a.mean()) * (b - b.mean())).sum().item() / (a - a.mean()).square().sum().item()


@cache
def _even() -> tuple[NoiseSchedule, Tensor]:
    """Equal steps of lambda, and where the exact flow takes the starts from its T."""
    even = equal_log_snr(4609)
    return even, exact_flow(data.ring().eps, starts(), float(even.alpha_bar[-1]), 1200)


@cache
def measured_order(name: str) -> tuple[list[int], list[float], float]:
    """Evaluations, errors, and the order from 64 evaluations on, of a solver on equal steps of lambda."""
    even, truth = _even()
    spent, error = map(list, zip(*errors(name, even, "linspace", BUDGETS, truth), strict=True))
    return spent, error, order(spent[FINE:], error[FINE:])


def show_orders(names: Sequence[str] = FAMILY) -> None:
    """Distance from the exact end against evaluations, both logarithmic, with the measured orders."""
    found = {name: measured_order(name) for name in names}
    fig, axes = plots.figure(width=6.4, height=3.7)
    for name in names:
        spent, error, slope = found[name]
        axes[0, 0].loglog(spent, error, label=f"{name}: order {slope:.2f}", linewidth=1.4, **look(name))
    axes[0, 0].set(xlabel="network calls", ylabel="miss")
    axes[0, 0].set_xticks(BUDGETS, [str(n) for n in BUDGETS])
    axes[0, 0].minorticks_off()
    axes[0, 0].legend(fontsize=9)
    once, twice = found["DPM-Solver++(2M)"][1][FINE : FINE + 2]
    better = next(n for n, a, b in zip(BUDGETS, found["Heun"][1], found["DDIM"][1], strict=True) if a < b)
    plots.show(
        fig,
        f"Exact predictor, equal steps of log-SNR. 2M misses by {once:.4f} with {BUDGETS[FINE]} calls and by "
        f"{twice:.4f} with {BUDGETS[FINE + 1]}: {once / twice:.1f} times less, so its order is 2. UniPC-2's correction "
        f"adds one. Heun, with two calls a step, loses to DDIM if calls are few, and is ahead with {better}: an "
        "order says how fast the miss falls, not where it starts.",
    )


def show_bill(names: Sequence[str], calls: int = 20) -> None:
    """What each solver mixes, what one of its intervals costs, and how many of them a budget pays for."""
    intervals = {name: SOLVERS[name].steps(calls) for name in names}
    halves = {"DPM-Solver-2", "DPM-Solver++(2S)"}.intersection(names)
    intervals |= dict.fromkeys(halves, calls // 2)  # the library counts midpoints
    plots.table(
        {
            "solver": list(names),
            "more answers": [KINDS[name][0] for name in names],
            "calls a step": [str(KINDS[name][1]) for name in names],
            f"steps from {calls} calls": [str(n) for n in intervals.values()],
        },
        "Heun saves a call in its last step. Guidance doubles the calls of all.",
    )


# --- Where to begin


def show_flight(calls: int = 16, tops: Sequence[int] = (1000, 980)) -> None:
    """How far solvers miss on the cosine schedule from T and from below it, on equal steps of t."""
    levels, x = cosine(), starts()
    columns = {"solver": ["Heun", "DPM-Solver-2", "DDIM", "DPM-Solver++(2M)", "UniPC-2"]}
    kinds = {"DDIM": "nothing"} | dict.fromkeys(measurements.AVERAGE_EPS, "ε̂")
    columns["mixes"] = [kinds.get(name, "x̂₀") for name in columns["solver"]]
    for top in tops:
        goal = exact_flow(data.ring().eps, x, levels.alpha_bar[top].item())
        cells = columns[f"miss from t = {top}"] = []
        for name in columns["solver"]:
            times = times_to(top, SOLVERS[name].steps(calls))
            end = _anywhere(name, data.ring().network(levels), x, levels, times)
            cells.append(f"{(end - goal).square().sum(1).mean().sqrt().item():.2f}")
    signal = " and ".join(f"one part in {levels.alpha_bar[top].rsqrt():,.0f} at t = {top}" for top in tops)
    plots.table(
        columns,
        f"Exact predictor, cosine schedule, equal steps of t, {calls} calls. The signal is {signal}.",
    )


def show_starts(solver: str = "DPM-Solver-2", calls: int = 10) -> None:
    """The same ten noises from T and from below it, on two grids, for a solver that mixes eps."""
    own = [row for row in measurements.load("starts") if (row["solver"], row["nfe"]) == (solver, calls)]
    rows = dict(zip(("from 1000, equal t", "from 1000, equal log-SNR", "from 980, equal t"), own, strict=True))
    scores = ", ".join(f"{name}: {_score(row)}" for name, row in rows.items())
    plots.image_rows(
        {name: digits_of(row) for name, row in rows.items()},
        f"{solver} with {calls} calls, the same ten noises in each row. Feature-Fréchet distance of 1,000 digits, "
        f"smaller is better: {scores}.",
    )


def starts_table() -> None:
    """The stored distances of every solver of the measurement of starts."""
    rows = measurements.load("starts")
    columns = {"solver": [], "calls": [], "from 1000, equal t": [], "from 1000, equal log-SNR": [], "from 980": []}
    for solver, budgets in measurements.STARTS.items():
        for nfe in budgets:
            own = [_score(row) for row in rows if (row["solver"], row["nfe"]) == (solver, nfe)]
            for column, value in zip(columns.values(), (solver, str(nfe), *own), strict=True):
                column.append(value)
    plots.table(columns, f"Feature-Fréchet distance of {rows[0]['n']:,} digits. Smaller is better.")


def _score(row: measurements.Row) -> str:
    return f"{row['frechet']:.2f}" if row["frechet"] < 100 else f"{row['frechet']:,.0f}"


# --- Strong guidance


def guided(w: float, n: int, calls: int = 10, clipped: bool = False) -> dict[str, Tensor]:
    """n digits of DPM-Solver-2 and of 2S, which differ in what they mix: its name -> (n, 1, 28, 28)."""
    net, (noise, label) = shipped()[0], measurements.start_noise(n)
    eps_fn = classifier_free(net, label, w)
    eps_fn = thresholded(eps_fn, net.schedule) if clipped else eps_fn
    times = times_to(980, calls)
    runs = {"ε̂": "DPM-Solver-2", "x̂₀": "DPM-Solver++(2S)"}
    return {mean: sample(SOLVERS[name].run(eps_fn, noise, net.schedule, times)) for mean, name in runs.items()}


def show_guidance(scales: Sequence[float] = (1.0, 7.5)) -> None:
    """Ten digits of a mean of eps and of a mean of x0, with weak and with strong guidance."""
    plots.image_rows(
        {f"w = {w:g}, mean of {mean}": x for w in scales for mean, x in guided(w, 10).items()},
        "The same ten noises, two solvers of order 2 with ten steps each. Without strong guidance both draw digits. "
        f"With w = {scales[-1]:g} the mean of ε̂ is lost, and the mean of x̂₀ is calm.",
    )


def guidance_table(scales: Sequence[float] = (1.0, 3.0, 7.5), n: int = 60) -> None:
    """The share of digits read right by what is mixed and by the guidance scale, clipped or not."""
    columns = {"w": [], "mean of": [], "read right": [], "largest grey": [], "read right, clipped": []}
    for w in scales:
        free, clipped = guided(w, n), guided(w, n, clipped=True)
        for mean, x in free.items():
            label = measurements.start_noise(n)[1]
            read = [accuracy(shipped()[1], ends.clamp(-1, 1), label) for ends in (x, clipped[mean])]
            cells = (f"{w:g}", mean, f"{100 * read[0]:.0f} %", f"{x.abs().max():.1f}", f"{100 * read[1]:.0f} %")
            for column, value in zip(columns.values(), cells, strict=True):
                column.append(value)
    plots.table(columns, f"{n} digits, ten steps. Data end at a grey of 1. Clipped: x̂₀ cut to -1..1 in each step.")


# --- The front


def show_front(lit: Sequence[str] = LIT) -> None:
    """The measured front."""
    rows, trained = measurements.load("pareto"), students()
    reference = find(rows, *REFERENCE)
    outside = sum(row["frechet"] > highest(reference) for row in rows)
    plots.show(
        draw(rows, trained, reference, lit),
        f"{len(rows)} points of {reference['n']:,} digits each; {outside} lie above the picture. The dotted line is "
        f"what real digits score, {reference['floor']:.2f}. Filled points are the front of solvers: none as cheap is "
        "better. Stars: other networks, each trained for its number of calls (lesson 11).",
    )


def who_is_on_the_front() -> str:
    """The solvers of the front in a sentence, with their calls."""
    budgets: dict[str, list[int]] = {}
    for row in front(measurements.load("pareto")):
        budgets.setdefault(row["solver"], []).append(row["nfe"])
    return ", ".join(f"{name} with {', '.join(map(str, calls))} calls" for name, calls in budgets.items()) + "."


def show_choice() -> None:
    """What the margin recommends for this network, and the best points of two budgets."""
    rows = measurements.load("pareto")
    odes = sorts(rows, random=False)

    def named(row: measurements.Row) -> str:
        return f"{row['solver']}, {row['nfe']:,} calls: {row['frechet']:.2f}"

    def best(calls: int) -> str:
        return named(min((row for row in rows if row["nfe"] <= calls), key=lambda row: row["frechet"]))

    arrived = "; ".join(named(row) for row in reaching(odes, find(rows, *ODE_END))[:2])
    wishes = {
        "the best with 10 calls at most": best(10),
        "the best with 50 calls at most": best(50),
        "shown to be as good as DDPM with 1,000 calls": named(reaching(rows, find(rows, *REFERENCE))[0]),
        f"no fresh noise, shown to be as good as {' with '.join(map(str, ODE_END))} calls": arrived,
    }
    plots.table({"you want": list(wishes), "take": list(wishes.values())}, f"For this network, margin {MARGIN}.")


def show_reaching() -> None:
    """For every solver: the budgets that are as good as DDPM-1000, and how much worse fifty evaluations are."""
    rows = measurements.load("pareto")
    reference = find(rows, *REFERENCE)
    columns = {"solver": [], "as good at": [], "worse at 10 calls by": [], "worse at 50 calls by": []}
    for solver in measurements.PARETO:
        own = sorted((row for row in rows if row["solver"] == solver), key=lambda row: row["nfe"])
        good = ", ".join(f"{row['nfe']:,}" for row in own if as_good(row, reference) and row is not reference)
        worse = [difference(find(rows, solver, nfe), reference) for nfe in (10, 50)]
        cells = [f"{gap.value:.2f} ({gap.low:.2f} to {gap.high:.2f})" for gap in worse]
        for column, value in zip(columns.values(), (solver, good or "–", *cells), strict=True):
            column.append(value)
    plots.table(
        columns,
        f"“As good” means: the whole 95 % interval of the difference to DDPM-1000 lies below the margin of {MARGIN}.",
    )


def show_digits() -> None:
    """Stored digits of four rows of the front, all from the same ten noises."""
    chosen = (("DDIM", 5), ("UniPC-2", 10), ("SDE-DPM-Solver++(2M)", 10), REFERENCE)
    rows = [find(measurements.load("pareto"), *who) for who in chosen]
    short = [f"{row['solver'].replace('DPM-Solver++', '++')}, {row['nfe']:,}" for row in rows]
    plots.image_rows(
        dict(zip(short, map(digits_of, rows), strict=True)),
        "The same ten noises, 0 to 9 asked for. Distance of 1,000 such digits, from top to bottom: "
        f"{', '.join(_score(row) for row in rows)}. Ten digits cannot show that.",
    )
