"""The figures of lesson 01. What a figure says in numbers is computed by a function of its own."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from lessons_src import data, process
from lessons_src.schedules import NoiseSchedule
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, VERMILLION


def reading_rates(schedule: NoiseSchedule, times: Sequence[int], draws: int = 200) -> list[float]:
    """How often a program that knows the ten clean pictures names the right one from x_t, at each time.

    It takes the picture whose faded copy sqrt(alpha_bar) x0 is nearest: with equal chances, no other rule is better.
    """
    known, generator, rates = data.one_each().flatten(1).double(), torch.Generator().manual_seed(0), []
    for t in times:
        x0 = known.repeat(draws, 1)
        x_t = process.add_noise(x0, process.noise_like(x0, generator), float(schedule.alpha_bar[t]))
        named = torch.cdist(x_t, schedule.alpha_bar[t].sqrt() * known).argmin(1)
        rates.append((named == torch.arange(10).repeat(draws)).double().mean().item())
    return rates


def show_reading(schedule: NoiseSchedule) -> None:
    """`reading_rates` against time, beside guessing."""
    times = list(range(0, schedule.T + 1, 50))
    rates = reading_rates(schedule, times)
    share = [100 * rate for rate in rates]
    at = {t: share[times.index(t)] for t in (300, 500, 700, 1000)}
    plots.lines(
        times,
        {"the program": share, "guessing": [10.0] * len(times)},
        f"Named right, of 100 noisy pictures: {at[300]:.0f} at t = 300, {at[500]:.0f} at t = 500, {at[700]:.0f} at "
        f"t = 700, and {at[1000]:.0f} at t = 1000, about what guessing earns.",
        "time t",
        "named right, of 100",
    )


def show_chain(schedule: NoiseSchedule, x0: float, walk: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Mean and variance along a chain from x0, at t = 1 .. T, as dots on the curves that the jump gives."""
    times, every = range(1, schedule.T + 1), slice(49, None, 50)
    jump = (x0 * schedule.alpha_bar[1:].sqrt(), 1 - schedule.alpha_bar[1:])
    fig, axes = plots.figure(columns=2, width=9, height=3.2)
    gap = 0.0
    for axis, name, measured, curve in zip(axes[0], ("mean", "variance"), zip(*walk, strict=True), jump, strict=True):
        axis.plot(times, curve, color=BLUE, label="formula, to come")
        axis.plot(times[every], measured[every], "o", color=VERMILLION, label="the chain")
        axis.set(xlabel="time t", ylabel=f"{name} of the pixel")
        axis.legend(frameon=False, labelcolor=INK)
        gap = max(gap, float((torch.stack(measured) - curve).abs().max()))
    plots.show(
        fig,
        f"Dots: measured along the chain. Curves: a formula that comes below. They differ by at most {gap:.3f}; with "
        "so many copies, chance alone gives about 0.02.",
    )


def two_doses(pixels: int = 200 * 200) -> tuple[float, float, float, float]:
    """Two independent noises of sizes 0.3 and 0.4, measured: their sizes (root mean square over the pixels), the size
    of both together, and the angle between them in degrees."""
    generator = torch.Generator().manual_seed(0)
    old, new = (size * torch.randn(pixels, generator=generator, dtype=torch.float64) for size in (0.3, 0.4))
    sizes = [(x.square().mean().sqrt()).item() for x in (old, new, old + new)]
    cosine = (old @ new / old.norm() / new.norm()).item()
    return *sizes, math.degrees(math.acos(cosine))


def show_right_angle(schedule: NoiseSchedule) -> None:
    """The noises of `two_doses` as the sides of a triangle, drawn with its measured sizes and angle."""
    old, new, both, angle = two_doses()
    turn = math.radians(180 - angle)
    corner, top = (old, 0.0), (old + new * math.cos(turn), new * math.sin(turn))
    fig, axes = plots.figure(width=5.0, height=3.1)
    axis = axes[0, 0]
    for start, end, colour in (
        ((0, 0), corner, BLUE),
        (corner, top, VERMILLION),
        ((0, 0), top, GREEN),
    ):
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2.4, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", end, start, arrowprops=arrow)
    axis.text(old / 2, -0.03, f"old noise: {old:.2f}", color=BLUE, ha="center", va="top")
    axis.text(old + 0.02, new / 2, f"new dose: {new:.2f}", color=VERMILLION, va="center")
    axis.text(old / 2 - 0.03, new / 2 + 0.02, f"together: {both:.2f}", color=GREEN, ha="right")
    axis.set(xlim=(-0.12, 0.52), ylim=(-0.07, 0.42), aspect="equal")
    axis.axis("off")
    plots.show(
        fig,
        f"Two noises on a picture of 200 × 200 pixels, measured. They meet at {angle:.0f} degrees, so Pythagoras "
        f"holds: {old:.2f}² + {new:.2f}² = {both:.2f}². They are large, to be seen "
        f"well; in the chain a dose has at most size {float(schedule.beta.max()) ** 0.5:.2f}.",
    )


def angles(schedule: NoiseSchedule, times: Sequence[int]) -> list[float]:
    """Noise levels as angles in degrees: the cosine is the factor of x0, the sine the factor of eps."""
    return torch.rad2deg(torch.acos(schedule.alpha_bar[list(times)].sqrt())).tolist()


def show_arc(
    schedule: NoiseSchedule,
    add_noise: Callable[[Tensor, Tensor, int], Tensor],
    times: Sequence[int] = (0, 100, 200, 300, 500, 1000),
) -> None:
    """One digit at some times, each beside its point (sqrt(alpha_bar), sqrt(1 - alpha_bar)) on the quarter circle.

    The lesson's own add_noise(x0, eps, t) draws the digits, so a slip in it is seen.
    """
    x0, eps, half = data.one_each()[7, 0].double(), data.noise(28, 28), 0.115
    found = angles(schedule, times)
    fig, axes = plots.figure(width=5.2, height=4.9)
    axis, turn = axes[0, 0], np.linspace(0, np.pi / 2, 100)
    axis.plot(np.cos(turn), np.sin(turn), color=INK, lw=1.5)
    for t, angle in zip(times, found, strict=True):
        a, b = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        axis.plot([0, a], [0, b], color=INK, alpha=0.5, lw=0.8)
        axis.plot(a, b, "o", color=BLUE, ms=7)
        x, y = 1.19 * a, 1.19 * b
        extent = (x - half, x + half, y - half, y + half)
        axis.imshow(add_noise(x0, eps, t), cmap="gray", vmin=-1, vmax=1, extent=extent, interpolation="nearest")
        name = f"t = {t}: {angle:.0f}°"
        axis.text(
            0.94 * a,
            0.94 * b,
            name,
            ha="right",
            va="bottom",
            rotation=angle,
            rotation_mode="anchor",
            fontsize=10.5,
            color=INK,
        )
    axis.set(xlim=(-0.14, 1.32), ylim=(-0.14, 1.32), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axis.set(xlabel="how much picture, √ᾱ", ylabel="how much noise, √(1-ᾱ)")
    axis.grid(False)
    by_time = dict(zip(times, found, strict=True))
    plots.show(
        fig,
        f"A noise level is an angle. The picture walks from 0 degrees, all signal, to almost {by_time[1000]:.0f} "
        f"degrees, nearly all noise. After half of the steps, t = 500, it stands at {by_time[500]:.0f} degrees.",
    )


def error_factors(schedule: NoiseSchedule, times: Sequence[int]) -> list[float]:
    """By how much an error in eps-hat is multiplied in x0-hat: noise / signal, the tangent of the level's angle."""
    alpha_bar = schedule.alpha_bar[list(times)]
    return ((1 - alpha_bar) / alpha_bar).sqrt().tolist()


def as_factor(value: float) -> str:
    """A factor with two digits, or as a whole number if that has more: 0.044, 3.4, 157."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def show_guesses(
    schedule: NoiseSchedule,
    add_noise: Callable[[Tensor, Tensor, int], Tensor],
    predict_x0: Callable[[Tensor, Tensor, int], Tensor],
    times: Sequence[int] = (10, 250, 500, 750, 1000),
) -> None:
    """x_t at some times, above the picture that a guess of its noise with 5 % error gives, and the error's factor.

    The lesson's own add_noise(x0, eps, t) and predict_x0(x_t, eps_hat, t) make the pictures, so a slip in them is seen.
    """
    x0, eps, mistake = data.one_each()[7, 0].double(), data.noise(28, 28), data.noise(28, 28, seed=1)
    fig, axes = plots.figure(columns=len(times), rows=2, width=9, height=4)
    factors = [as_factor(factor) for factor in error_factors(schedule, times)]
    for column, (t, factor) in enumerate(zip(times, factors, strict=True)):
        x_t = add_noise(x0, eps, t)
        axes[0, column].set_title(f"t = {t}")
        axes[1, column].set_xlabel(f"error × {factor}", fontsize=11)
        for row, x in enumerate((x_t, predict_x0(x_t, eps + 0.05 * mistake, t))):
            axis = axes[row, column]
            axis.imshow(np.asarray(x), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    axes[0, 0].set_ylabel("noisy $x_t$")
    axes[1, 0].set_ylabel("guess $\\hat{x}_0$")
    plots.show(
        fig,
        f"Above, what the network sees. Below, the picture that its guess gives. The same error of the noise is "
        f"multiplied by {factors[0]} at t = {times[0]}, by {factors[2]} at t = {times[2]} and by {factors[-1]} at "
        f"t = {times[-1]}.",
    )


def show_posterior(x0: float, x_t: float, alpha_bar_t: float, alpha_bar_s: float) -> None:
    """What x0 says of x_s, what x_t says of it, and both together, as densities."""
    x_s = torch.linspace(-2, 2, 401, dtype=torch.float64)
    alpha = alpha_bar_t / alpha_bar_s
    point = [torch.full((1, 1), v, dtype=torch.float64) for v in (x_t, x0)]
    mean, variance = process.posterior(*point, alpha_bar_t, alpha_bar_s)
    says = {
        "what x0 says": (math.sqrt(alpha_bar_s) * x0, 1 - alpha_bar_s),
        "what x_t says": (x_t / math.sqrt(alpha), (1 - alpha) / alpha),
        "both: the posterior": (mean.item(), variance),
    }
    plots.lines(
        x_s,
        {name: Normal(m, math.sqrt(v)).log_prob(x_s).exp() for name, (m, v) in says.items()},
        f"x0 = {x0} puts x_s near {says['what x0 says'][0]:.2f}, x_t = {x_t} puts it near "
        f"{says['what x_t says'][0]:.2f}. Both together: near {mean.item():.2f}, and surer than each.",
        "x_s",
        "density",
    )
