"""The figures of lesson 06. What a figure says in numbers is computed by a function of its own."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from lessons_src import data, measurements
from lessons_src.guidance import blend, classifier_free
from lessons_src.lessons.digit_runs import shipped
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.samplers import ddim, sample, trajectory
from lessons_src.schedules import linear, time_grid
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, VERMILLION

Blend = Callable[[Tensor, Tensor, float], Tensor]
GREY = "0.6"
PAIR = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], [[[0.25]], [[0.25]]])  # class 0 at +1, class 1 at -1
GRID = torch.linspace(-12, 12, 24_001, dtype=torch.float64).unsqueeze(1)


def quantiles(n: int) -> Tensor:
    """n even quantiles of N(0, 1), (n, 1): start noise that depends on no luck."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).unsqueeze(1)


# --- Why: the arrow


def prolonged(guided: Blend, x_t: Sequence[float], alpha_bar: float, scales: Sequence[float]) -> Tensor:
    """Clean guesses (len(scales), 2) for one noisy point of three classes, asked for class 0, at some scales.

    `guided` blends the exact guesses, as it would blend the predictions of the noise: its weights sum to 1.
    """
    mixture, x = data.three_classes(), torch.tensor([x_t], dtype=torch.float64)
    without, with_label = mixture.x0(x, alpha_bar), mixture.x0(x, alpha_bar, 0)
    return torch.cat([guided(without, with_label, w) for w in scales])


def show_prolonged(
    guided: Blend, x_t: Sequence[float] = (0.5, -0.45), alpha_bar: float = 0.2, scales: Sequence[float] = (0, 1, 2, 3)
) -> None:
    """The step from the guess without label to the guess with it, prolonged, over data of the three classes."""
    mixture = data.three_classes()
    crowd, label = mixture.sample(900, torch.Generator().manual_seed(1))
    guesses = prolonged(guided, x_t, alpha_bar, scales)
    fig, axes = plots.figure(width=5.2, height=5.2)
    axis = axes[0, 0]
    for k, (color, mark, alpha) in enumerate(((BLUE, "o", 0.9), (GREY, "s", 0.5), (GREY, "^", 0.5))):
        name = "data of the class" if k == 0 else "other classes" if k == 1 else None
        axis.plot(*crowd[label == k].T, mark, color=color, alpha=alpha, ms=3, mew=0, label=name)
    axis.plot(*x_t, "x", color=INK, ms=9, mew=2, label="noisy point $x_t$")
    without, with_label, *_, last = guesses.tolist()
    for start, end, style in ((without, with_label, "-"), (with_label, last, "--")):
        axis.plot(*zip(start, end, strict=True), style, color=VERMILLION, lw=2)
    paper = {"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.85}  # no dots run through a name
    style = {"color": VERMILLION, "weight": "bold", "bbox": paper}
    for w, guess in zip(scales, guesses.tolist(), strict=True):
        axis.plot(*guess, "o", color=VERMILLION, ms=8, mec="white", zorder=3)
        axis.annotate(f"w = {w:g}", guess, xytext=(11, -3), textcoords="offset points", **style)
    axis.set(xlim=(-2.5, 2.5), ylim=(-1.9, 3.1), aspect="equal")
    axis.legend(loc="upper left", fontsize=10.5)
    out = (guesses[-1] - mixture.means[0]).norm().item() / 0.5
    plots.show(
        fig,
        "Which clean point is the cross a noisy version of? Without label (w = 0) the guess is near the middle of all "
        "classes, with label (w = 1) in the blue class. The same step, taken on and on, leads to a place that is "
        f"{out:.1f} standard deviations away from the middle of the class at w = {scales[-1]:g}.",
    )


def show_line(eps_u: Tensor, eps_c: Tensor) -> None:
    """The first two components of predictions (d,) guided with some scales: all on the line through the two given."""
    fig, axes = plots.figure(columns=2, width=8.5, height=3.9)
    for axis, shown in zip(axes[0], ((-1, 0, 0.5, 1, 2, 3), (0, 1, 3, 5, 7.5)), strict=True):
        line = torch.stack([blend(eps_u, eps_c, w) for w in shown])
        axis.plot(line[:, 0], line[:, 1], "o:", color=VERMILLION)
        for w, point in zip(shown, line.tolist(), strict=True):
            axis.annotate(f"w = {w:g}", point[:2], xytext=(7, 2), textcoords="offset points", fontsize=10.5)
        for tip, color, style in ((eps_u, INK, "--"), (eps_c, BLUE, "-")):
            arrow = {"arrowstyle": "->", "color": color, "ls": style, "lw": 2}
            axis.annotate("", tip[:2].tolist(), (0, 0), arrowprops=arrow)
        axis.set(xlabel="component 1", ylabel="component 2")
        axis.margins(0.12)
        axis.set_aspect("equal", adjustable="datalim")
    plots.show(
        fig,
        "Two components. Dashed grey arrow: ε without label; solid blue: with label. All guided predictions lie on the "
        f"line through the tips; at w = 7.5 component 1 is {blend(eps_u, eps_c, 7.5)[0]:.1f}, where ε_c has "
        f"{eps_c[0]:.1f}.",
    )


# --- What comes out: two classes on a line


@cache
def guided_crowd(w: float, n: int = 401) -> Tensor:
    """Samples (n, 1) of the class at +1 under guidance: the exact flow from even quantiles of noise, no step error."""
    return _flow(quantiles(n), w)


def _flow(start: Tensor, w: float) -> Tensor:
    def eps(x: Tensor, alpha_bar: float) -> Tensor:
        return blend(PAIR.eps(x, alpha_bar), PAIR.eps(x, alpha_bar, 0), w)

    return exact_flow(eps, start, math.exp(-12))


def guided_density(w: float, n: int = 201) -> tuple[Tensor, Tensor]:
    """Places and density, (n - 1,) each, of the guided samples: the density of the noise, times how much the flow
    thins it out. From noise at -4 to 4, so that the tails are there.
    """
    z = torch.linspace(-4, 4, n, dtype=torch.float64)
    x, middle = _flow(z.unsqueeze(1), w)[:, 0], (z[1:] + z[:-1]) / 2
    return (x[1:] + x[:-1]) / 2, (-(middle**2) / 2).exp() / math.sqrt(2 * math.pi) * z.diff() / x.diff()


def beyond(place: float) -> float:
    """Share of the class at +1 that lies further out than `place`."""
    return 0.5 * math.erfc((place - 1) / 0.5 / math.sqrt(2))


def push(x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor]:
    """The push towards class 0 at x (B, 1), twice: the gradient of log p(class 0 | x_t) by autograd, and from the
    difference of the two predictions, (eps_u - eps_c) / sqrt(1 - alpha_bar). Bayes' rule says that they are equal.
    """
    wanted = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(PAIR.class_posterior(wanted, alpha_bar)[:, 0].log().sum(), wanted)
    return gradient, (PAIR.eps(x, alpha_bar) - PAIR.eps(x, alpha_bar, 0)) / math.sqrt(1 - alpha_bar)


def paths(w: float, n: int = 25) -> tuple[list[int], Tensor]:
    """Times and states (F, n) of n even quantiles on their way to the class at +1."""
    schedule, start = linear(), quantiles(n)
    times = time_grid(schedule, 200, "quadratic")
    states = trajectory(start, ddim(classifier_free(PAIR.network(schedule), 0, w), start, schedule, times))
    return times, states[:, :, 0]


def show_gradient(alpha_bar: float = 0.5) -> None:
    """The push between two classes, from the difference of the two predictions and from a classifier's gradient."""
    fig, axes = plots.figure(width=5.2, height=3.4)
    x = torch.linspace(-3, 3, 121, dtype=torch.float64).unsqueeze(1)
    gradient, difference = push(x, alpha_bar)
    axis = axes[0, 0]
    name = r"$(\varepsilon_u-\varepsilon_c)\,/\,\sqrt{1-\bar{\alpha}}$"
    axis.plot(x, difference, color=BLUE, label=name)
    axis.plot(x[::10], gradient[::10], "o", color=VERMILLION, ms=4, label=r"gradient of $\log\,p(y\,|\,x_t)$")
    axis.set(xlabel="$x_t$, the wanted class is on the right", ylabel="push to the right", ylim=(0, 3.3))
    axis.legend(fontsize=10.5, loc="upper right")
    plots.show(
        fig,
        f"Two classes, at +1 and −1, at ᾱ = {alpha_bar:g}. Line: the difference of the two predictions, divided by "
        "√(1 − ᾱ). Dots: the gradient of the classifier. They lie on the line.",
    )


def show_push(w: float = 7.5, alpha_bar: float = 0.5) -> None:
    """Where the push is strong, and what it does on the way from noise to data, at w = 1 and at w."""
    fig, axes = plots.figure(columns=3, width=9.5, height=3.4)
    x = torch.linspace(-3, 3, 121, dtype=torch.float64).unsqueeze(1)
    axis = axes[0, 0]
    axis.plot(x, PAIR.eps(x, alpha_bar) - PAIR.eps(x, alpha_bar, 0), color=BLUE)
    axis.set(xlabel="$x_t$, the wanted class is on the right", ylabel=r"$\varepsilon_u-\varepsilon_c$", ylim=(0, 2.4))
    axis.set_title("push to the right, half-way")
    for axis, scale in zip(axes[0, 1:], (1.0, w), strict=True):
        times, states = paths(scale)
        axis.plot(times, states, color=BLUE, lw=0.8)
        axis.axhspan(0.5, 1.5, 0.85, color=GREEN, alpha=0.3, lw=0)
        axis.set(title=f"w = {scale:g}", xlabel="time t, noise to data", xlim=(1000, 0), ylim=(-2.4, 3.6))
    axes[0, 1].set_ylabel("$x_t$")
    crowd = guided_crowd(w)
    mean, spread = crowd.mean().item(), crowd.std(correction=0).item()
    plots.show(
        fig,
        "Left: the push is strong where the class is in doubt, and fades where it is clear. Middle and right: 25 "
        f"noises on their way; the green band is the class, 1 ± 0.5. At w = {w:g} they end at {mean:.2f} ± "
        f"{spread:.2f}: half as wide, and further out than all but {100 * beyond(mean):.1f} % of the class.",
    )


def tilted(w: float) -> tuple[Tensor, float, float]:
    """The law p(x) p(class 0 | x)^w, scaled to a density on GRID, and its mean and standard deviation."""
    log_p = (1 - w) * PAIR.log_density(GRID, 1.0) + w * PAIR.log_density(GRID, 1.0, 0)
    p, x = log_p.softmax(0), GRID[:, 0]
    mean = (p * x).sum()
    return p / (x[1] - x[0]), mean.item(), (p * (x - mean) ** 2).sum().sqrt().item()


def show_densities(scales: Sequence[float] = (1, 3, 7.5)) -> None:
    """The class, the tilted law and the guided samples, as densities."""
    fig, axes = plots.figure(columns=len(scales), width=9.5, height=3.1)
    for axis, w in zip(axes[0], scales, strict=True):
        axis.plot(GRID, PAIR.log_density(GRID, 1.0, 0).exp(), color=GREY, lw=5, alpha=0.5, label="the class")
        axis.plot(GRID, tilted(w)[0], color=BLUE, label="tilted law")
        axis.plot(*guided_density(w), "--", color=VERMILLION, label="guided")
        axis.set(title=f"w = {w:g}", xlim=(-1, 3.5), ylim=(0, 1.9), xlabel="x")
    axes[0, 0].legend(loc="upper left", fontsize=10.5)
    axes[0, 0].set_ylabel("density")
    w = scales[-1]
    plots.show(
        fig,
        "At w = 1 the class, the tilted law and the guided samples coincide. "
        f"At w = {w:g} the tilted law stays inside the class, at {tilted(w)[1]:.2f}; the guided samples pile up at "
        f"{guided_crowd(w).mean():.2f}.",
    )


# --- On digits: the stored measurement


def measured() -> dict[float, measurements.Row]:
    """The rows of the stored measurement of guidance, by scale."""
    return {row["w"]: row for row in measurements.load("guidance")}


def distance_error(w: float) -> float:
    """Standard error of the distance at scale w."""
    return measurements.jackknife_error(measured()[w]["frechet without a tenth"])


def compared(w: float, other: float) -> tuple[float, float]:
    """Distance at w minus distance at another scale, and the standard error of this: both start from the same noise."""
    a, b = measured()[w], measured()[other]
    parts = zip(a["frechet without a tenth"], b["frechet without a tenth"], strict=True)
    return a["frechet"] - b["frechet"], measurements.jackknife_error([p - q for p, q in parts])


def alike(w: float) -> list[float]:
    """The scales, w among them, whose distance is less than two standard errors away from that at w."""
    return [other for other in measured() if other == w or abs(compared(other, w)[0]) < 2 * compared(other, w)[1]]


def show_measured(zoom: float = 1.5) -> None:
    """Distance to real digits against the scale, the same near w = 1, and what is read right and varied."""
    rows = measured()
    best = min(rows, key=lambda w: rows[w]["frechet"])
    labelled = [w for w in rows if w > 0]  # without label ten digits count as one class
    fig, axes = plots.figure(columns=3, width=9.6, height=3.3)
    for axis, shown in zip(axes[0], (list(rows), [w for w in rows if 1 <= w <= zoom]), strict=False):
        mean, error = [rows[w]["frechet"] for w in shown], [distance_error(w) for w in shown]
        axis.errorbar(shown, mean, error, color=BLUE, marker="o", ms=4, label="generated digits")
        floor, spread = rows[1]["floor"], rows[1]["floor_spread"]
        axis.axhspan(floor - spread, floor + spread, color=GREEN, alpha=0.25, lw=0, label="real digits")
        axis.set(xlabel="guidance scale w", ylim=(0, None))
    axes[0, 0].set(title="distance to real test digits")
    axes[0, 1].set(title="the same, near w = 1")
    axes[0, 1].legend(fontsize=10.5, loc="lower right")
    for key, name, color, mark, shown in (
        ("accuracy", "read right (share)", BLUE, "o-", list(rows)),
        ("spread", "variety (real: 1)", VERMILLION, "s--", labelled),
    ):
        axes[0, 2].plot(shown, [rows[w][key] for w in shown], mark, color=color, ms=4, label=name)
    axes[0, 2].set(title="what else changes", xlabel="guidance scale w", ylim=(0, 1.2))
    axes[0, 2].legend(fontsize=10.5, loc="lower right")
    away, error = compared(best, 1)
    near = [f"{w:g}" for w in alike(best) if w != best]
    plots.show(
        fig,
        f"{rows[1]['n']:,} digits a scale; a bar is one standard error. Green band: as many real digits, {floor:.2f} ± "
        f"{spread:.2f}. The smallest distance, {rows[best]['frechet']:.2f}, is at w = {best:g}; "
        f"{' and '.join(near)} cannot be told from it. From w = 1 to {best:g}, with the same noise, it falls by "
        f"{-away:.2f} ± {error:.2f}. It is {rows[0]['frechet']:.0f} at w = 0, {rows[2]['frechet']:.1f} at w = 2 and "
        f"{rows[10]['frechet']:.0f} at w = 10. Digits of one class differ from each other {rows[1]['spread']:.2f} "
        f"times as much as real ones at w = 1, {rows[best]['spread']:.2f} times at {best:g}, and "
        f"{rows[10]['spread']:.2f} times at 10. (At w = 0 there are no classes to look at, so no variety.)",
    )


def show_digits(scales: Sequence[float] = (0, 1, 2, 5, 10)) -> None:
    """Digits 0 to 9 asked for at some scales, one column a noise."""
    rows = measured()
    plots.image_rows(
        {f"w = {w:g}": measurements.digits_of(rows[w]) for w in scales},
        "Digits 0 to 9 asked for; each column starts from one noise. At w = 0 the label has no effect. At w = 1, "
        f"{100 * rows[1]['accuracy']:.0f} % are read right, and the variety within a digit is {rows[1]['spread']:.2f} "
        f"of that of real ones; at w = 2, {100 * rows[2]['accuracy']:.1f} % and {rows[2]['spread']:.2f}.",
    )


# --- A null label that was never trained


def forgotten_null(scales: Sequence[float] = (0, 3)) -> dict[tuple[bool, float], Tensor]:
    """Digits 0 to 9, (10, 1, 28, 28), by the shipped network as it is (True) and with random numbers in the row of its
    null label (False), as before training, at some scales; 20 DDIM steps.
    """
    net, _ = shipped()
    forgotten = copy.deepcopy(net)
    table = forgotten.body.label.weight
    with torch.no_grad():
        table[-1] = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(0))
    start, label = measurements.start_noise(10)
    times = time_grid(net.schedule, 20)
    return {
        (is_trained, w): sample(ddim(classifier_free(network, label, w), start, net.schedule, times)).clamp(-1, 1)
        for is_trained, network in ((True, net), (False, forgotten))
        for w in scales
    }


def specks(x: Tensor) -> float:
    """Mean brightness of the outer three pixels of pictures (n, 1, 28, 28), black 0 and white 100."""
    inner = torch.zeros(x.shape[-2:], dtype=torch.bool)
    inner[3:-3, 3:-3] = True
    return 50 * (x[..., ~inner] + 1).mean().item()


def show_forgotten_null() -> None:
    """The same digits with a trained null label and with one that was never trained."""
    found, (_, judge) = forgotten_null(), shipped()
    read = (judge(found[False, 3]).argmax(1) == torch.arange(10)).sum().item()
    plots.image_rows(
        {f"{'trained' if is_trained else 'random'}, w = {w:g}": x for (is_trained, w), x in found.items()},
        "The shipped network, and below it the same one with random numbers in the row of its null label. With them, a "
        f"classifier still reads {read} of 10 at w = 3. But look at the black: near the edge its mean brightness is "
        f"{specks(found[False, 3]):.1f} % of white, and {specks(found[True, 3]):.1f} % with the trained row.",
    )
