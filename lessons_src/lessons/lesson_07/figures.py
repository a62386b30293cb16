"""Pictures and tables of lesson 07: digits under a guide, what guides read, how they are fooled, and the bill."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from matplotlib.axes import Axes
from torch import Tensor

from lessons_src import captions, data, measurements
from lessons_src.guidance import Guide
from lessons_src.lessons.lesson_07 import steering
from lessons_src.lessons.lesson_07.steering import AWARE, CLEAN, CLIP, FREE, shipped
from lessons_src.measurements import Row, jackknife_error, start_noise
from lessons_src.metrics import Interval, wilson_interval
from lessons_src.process import add_noise
from lessons_src.samplers import EpsFn, ddim, sample
from lessons_src.schedules import time_grid
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, PURPLE, VERMILLION

UNCONDITIONAL, CONDITIONAL, OWN = "unconditional", "conditional", "its own"
EQUAL = 0.97  # the judge's accuracy at which guides are compared
NOISY = (100, 300, 500)  # the times that the lesson shows
Steer = Callable[[EpsFn, Guide, float], EpsFn]  # steer(eps_fn, classifier, w) for the classes 0, 1, ..., 9 of ten rows


# --- Digits, steered


def draw(eps_fn: EpsFn, n: int = 10, steps: int = steering.STEPS) -> Tensor:
    """n digits (n, 1, 28, 28) by DDIM from `start_noise`."""
    schedule = shipped("digits").schedule
    return sample(ddim(eps_fn, start_noise(n)[0], schedule, time_grid(schedule, steps))).clamp(-1, 1)


def judged(x: Tensor) -> int:
    """How many digits (n, 1, 28, 28) the judge reads as 0, 1, ..., 9, 0, ..."""
    with torch.no_grad():
        return int((shipped("judge")(x).argmax(1) == start_noise(len(x))[1]).sum())


def show_steered(steer: Steer, scales: Sequence[float] = (0, 1, 2, 5)) -> None:
    """Digits 0 to 9 wanted, by a network that is asked for none, steered by the learner's own function."""
    rows = {w: draw(steer(shipped("digits"), steering.noise_aware, w)) for w in scales}
    read = [judged(x) for x in rows.values()]
    plots.image_rows(
        {f"w = {w:g}": x for w, x in rows.items()},
        "Digits 0 to 9 wanted; each column starts from one noise. The network that draws gets no label, only pushes. A "
        f"judge reads {', '.join(map(str, read[:-1]))} and {read[-1]} of 10 as wanted, from the top row down.",
    )


# --- Why a guide must know noise


def reading() -> dict[str, dict[int, Row]]:
    """The stored rows of what guides read, by guide and time."""
    rows = measurements.load("reading")
    return {name: {row["t"]: row for row in rows if row["guide"] == name} for name in (AWARE, CLEAN)}


def share(row: Row) -> Interval:
    """The share of digits that a guide reads rightly, with its interval."""
    return wilson_interval(row["right"], row["n"])


@cache
def noisy_digits(t: int, n: int = 9) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Test digits 1 to n (n, 1, 28, 28) noised to time t, their labels, and what each guide reads."""
    (x0, label), generator = data.digits("test"), torch.Generator().manual_seed(4)
    order = torch.cat([(label == c).nonzero()[3:4, 0] for c in range(1, n + 1)])
    x0, label = x0[order], label[order]
    noise = torch.randn(x0.shape, generator=generator)
    x = add_noise(x0, noise, float(shipped("digits").schedule.alpha_bar[t]))
    time_of = torch.full((n,), t)
    with torch.no_grad():
        return x, label, {name: steering.CLASSIFIERS[name](x, time_of).argmax(1) for name in (AWARE, CLEAN)}


def _draw_noisy(line: Sequence[Axes], t: int, titles: Sequence[str]) -> None:
    for axis, picture, title in zip(line, noisy_digits(t)[0], titles, strict=True):
        axis.imshow(picture[0].clamp(-2, 2).numpy(), cmap="gray", vmin=-2, vmax=2, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.set_title(title, fontsize=11, pad=2)
    line[0].set_ylabel(f"t = {t}", rotation=0, ha="right", va="center")


def show_at(t: int) -> None:
    """Noisy test digits, for the reader to read."""
    fig, axes = plots.figure(9, width=8.6, height=1.1)
    _draw_noisy(axes[0], t, [""] * 9)
    plots.show(fig, f"The test digits 1 to 9 with the noise of t = {t}.")


def show_noisy(times: Sequence[int] = NOISY) -> None:
    """Noisy test digits, each with what the two classifiers read."""
    fig, axes = plots.figure(9, len(times), width=8.6, height=1.22 * len(times))
    told = []
    for line, t in zip(axes, times, strict=True):
        _, label, read = noisy_digits(t)
        _draw_noisy(line, t, [f"{aware} | {clean}" for aware, clean in zip(read[AWARE], read[CLEAN], strict=True)])
        right = [int((read[name] == label).sum()) for name in (AWARE, CLEAN)]
        told.append(f"at t = {t} the first reads {right[0]} of {len(label)} rightly, the second {right[1]}")
    plots.show(
        fig,
        "The digits 1 to 9 with more and more noise. Above each: what the noise-aware classifier reads | what the "
        f"clean one reads. Here, {'; '.join(told)}.",
    )


def show_reading() -> None:
    """How often both classifiers are right, and how their gradients agree with the network's own, against time."""
    rows = reading()
    fig, axes = plots.figure(columns=2, width=9.4, height=3.3)
    for name, color, mark in ((AWARE, BLUE, "o-"), (CLEAN, VERMILLION, "s--")):
        own = rows[name]
        spans = [share(row) for row in own.values()]
        axes[0, 0].plot(list(own), [span.value for span in spans], mark, color=color, ms=4, label=name)
        axes[0, 0].fill_between(list(own), *zip(*[span[1:] for span in spans], strict=True), color=color, alpha=0.2)
        cosine, error = ([row[key] for row in own.values()] for key in ("cosine", "standard error"))
        axes[0, 1].errorbar(list(own), cosine, [2 * e for e in error], fmt=mark, color=color, ms=4, label=name)
    axes[0, 0].set(title="read rightly", xlabel="time t", ylim=(0, 1.03))
    axes[0, 1].set(title="cosine with the network's own push", xlabel="time t")
    axes[0, 0].legend()
    aware, clean = (share(rows[name][300]) for name in (AWARE, CLEAN))
    pulls = [rows[name][500]["cosine"] for name in (AWARE, CLEAN)]
    plots.show(
        fig,
        f"{rows[AWARE][300]['n']:,} test digits a point; bands and bars are 95 %. At t = 300 the noise-aware "
        f"classifier reads {percent(aware)} rightly, the clean one {percent(clean)}. Right: the cosine of each "
        "gradient with the push that the digit network itself knows, ε without label minus ε with it: "
        f"{pulls[0]:.2f} and {pulls[1]:.2f} at t = 500. At t = 1000 the clean gradient is "
        f"{rows[CLEAN][1000]['longer']:,.0f} times as long as that push: one step of 20 with it leaves pixels of about "
        f"{first_step(CLEAN):.0f}, where black is −1 and white 1.",
    )


def show_drawn(w: float = 2.0) -> None:
    """What the two classifiers draw when they steer the network without label."""
    rows = {f"{name}, w = {w:g}": steering.draw(name, w, 10)[0] for name in (AWARE, CLEAN)}
    read = [judged(x) for x in rows.values()]
    plots.image_rows(
        rows,
        f"Digits 0 to 9 wanted, steered by one classifier and by the other: the judge reads {read[0]} and {read[1]} of "
        "10 as wanted. Each column starts from one noise.",
    )


def first_step(name: str, n: int = 10) -> float:
    """Root mean square of the pixels of n digits after the first of 20 steps under a classifier, with w = 1."""
    net, (x, label) = shipped("digits"), start_noise(n)
    eps_fn, _ = steering.steered(name, 1.0, label, net)
    return (
        next(iter(ddim(eps_fn, x, net.schedule, time_grid(net.schedule, steering.STEPS))))
        .x.square()
        .mean()
        .sqrt()
        .item()
    )


def percent(share: Interval, digits: int = 1) -> str:
    """A share with its interval, in per cent."""
    value, low, high = (f"{100 * part:.{digits}f}" for part in share)
    return f"{value} % ({low} to {high})"


# --- Fooled


@cache
def runs(guide: str, base: str = UNCONDITIONAL, start: int = 1000) -> dict[float, Row]:
    """The stored rows of steered digits, by scale."""
    found = {"guide": guide, "base": base, "start": start}
    rows = [row for row in measurements.load("steering") if found.items() <= row.items()]
    return {row["w"]: row for row in sorted(rows, key=lambda row: row["w"])}


def judge_share(row: Row) -> Interval:
    """The share of a row's digits that the judge reads as wanted, with its interval."""
    return wilson_interval(round(row["n"] * row["accuracy"]), row["n"])


@cache
def gaps(guide: str = AWARE, base: str = UNCONDITIONAL) -> dict[float, Interval]:
    """By how much a guide's own accuracy lies above the judge's, by scale."""
    return {w: steering.gap(row) for w, row in runs(guide, base).items()}


def show_fooled() -> None:
    """The accuracy that a guide finds in its own digits, that of the judge, and the gap between them."""
    rows, gap = runs(AWARE), gaps()
    places = list(range(len(rows)))  # the scales lie apart unevenly
    fig, axes = plots.figure(columns=2, width=9.4, height=3.3)
    for key, name, color, mark in (
        ("guide accuracy", "the guide itself", VERMILLION, "s--"),
        ("accuracy", "the judge", BLUE, "o-"),
    ):
        axes[0, 0].plot(places, [row[key] for row in rows.values()], mark, color=color, ms=4, label=name)
    axes[0, 0].set(title="read as wanted", ylim=(0, 1.03))
    axes[0, 0].legend(loc="lower right")
    value, low, high = torch.tensor([tuple(span) for span in gap.values()]).T.numpy()
    axes[0, 1].errorbar(places, value, [value - low, high - value], fmt="o-", color=PURPLE, ms=4)
    axes[0, 1].axhline(0, color=INK, lw=1)
    axes[0, 1].set(title="guide minus judge")
    for axis in axes[0]:
        axis.set_xticks(places, [f"{w:g}" for w in rows])
        axis.set_xlabel("guidance scale w")
    worst = max(gap, key=lambda w: gap[w].value)
    span = gap[worst]
    plots.show(
        fig,
        f"{rows[1]['n']:,} digits a scale, from the network without label; the judge learned from other digits than "
        "the "
        f"guide. At w = {worst:g} the guide reads {100 * rows[worst]['guide accuracy']:.1f} % as wanted, the judge "
        f"{100 * rows[worst]['accuracy']:.1f} %: a gap of {100 * span.value:.1f} points (95 % interval "
        f"{100 * span.low:.1f} to {100 * span.high:.1f}), the largest. At w = 1 the judge reads "
        f"{percent(judge_share(rows[1]))}.",
    )


def show_steered_rows(names: Mapping[str, tuple[str, str, float]], text: str) -> None:
    """Ten stored digits of some rows; names tell guide, base and scale."""
    plots.image_rows({name: measurements.digits_of(runs(g, b)[w]) for name, (g, b, w) in names.items()}, text)


# --- By words


def asked(thickness: str, slant: str = "upright", n: int = 10) -> Tensor:
    """Attributes (n, 3) of digits 0, 1, ..., 9, all of a thickness and a slant."""
    i = torch.arange(n)
    how = (captions.THICKNESSES.index(thickness), captions.SLANTS.index(slant))
    return torch.stack([i % 10, *(torch.full_like(i, k) for k in how)], 1)


def show_words(w: float = 5.0) -> None:
    """Digits whose thickness and slant a caption says, and in how many both come true."""
    rows, told = {}, []
    for words in (("thin", "leaning left"), ("bold", "leaning right")):
        said = asked(*words)
        x, _ = steering.draw(CLIP, w, len(said), True, tokens=captions.tokens(captions.write(said)))
        rows[", ".join(words)] = x
        told.append(f"{captions.thickness(x).mean():.2f} pixels for {words[0]}")
    without, steered = steering.in_words(0.0), steering.in_words(w)
    plots.image_rows(
        rows,
        f"“a thin zero leaning left” to “a bold nine leaning right”, w = {w:g}, columns from one noise. Strokes are "
        f"{' and '.join(told)} on average. Of 90 captions (ten digits, three thicknesses, three slants) thickness "
        f"comes out as said in {percent(steered['thickness'], 0)}, without guidance in "
        f"{percent(without['thickness'], 0)}; slant in {percent(steered['slant'], 0)}, without in "
        f"{percent(without['slant'], 0)}.",
    )


# --- Against classifier-free guidance

COMPARED = {
    "classifier-free": (FREE, OWN, BLUE, "o-"),
    "classifier, no label": (AWARE, UNCONDITIONAL, VERMILLION, "s--"),
    "CLIP, no label": (CLIP, UNCONDITIONAL, PURPLE, "D:"),
    "classifier, label": (AWARE, CONDITIONAL, GREEN, "^-."),
}


def frechet_error(row: Row) -> float:
    """Standard error of a row's distance."""
    return jackknife_error(row["frechet without a tenth"])


def against(accuracy: float = EQUAL) -> dict[str, Row]:
    """Each guide at the smallest scale where the judge reads this share as wanted, where a measured line gets there."""
    return {name: steering.at_accuracy(list(runs(*COMPARED[name][:2]).values()), accuracy) for name in REACHING}


REACHING = ("classifier-free", "classifier, no label", "CLIP, no label")


BELOW = ("classifier-free", "CLIP, no label")  # scales stand below or above their bars, so that none hides another


def _draw_against(axis: Axes, name: str) -> None:
    guide, base, color, mark = COMPARED[name]
    rows = {w: row for w, row in runs(guide, base).items() if row["accuracy"] > 0.8}
    wrong, distance = [1 - row["accuracy"] for row in rows.values()], [row["frechet"] for row in rows.values()]
    bars = [2 * frechet_error(row) for row in rows.values()]
    axis.errorbar(wrong, distance, bars, fmt=mark, color=color, ms=5, label=name)
    for w, x, y, bar in zip(rows, wrong, distance, bars, strict=True):
        below = name in BELOW and y < max(distance)
        end, side = (y - bar, "top") if below else (y + bar, "bottom")
        away = (0, -3 if below else 3)
        axis.annotate(f"{w:g}", (x, end), away, textcoords="offset points", color=color, ha="center", va=side)


def show_against() -> None:
    """Distance to real digits against the judge's accuracy, a curve a guide, its scales beside the marks."""
    fig, axes = plots.figure(width=8.0, height=4.8)
    axis = axes[0, 0]
    for name in COMPARED:
        _draw_against(axis, name)
    axis.axvline(1 - EQUAL, color=INK, lw=1, ls=":")
    axis.set(xscale="log", yscale="log", xlim=(0.2, 0.0016), ylim=(0.7, 18))  # few wrong ones to the right
    axis.set(xlabel="read as wanted by the judge", ylabel="distance to real digits (small is good)")
    shares = (80, 90, 95, 97, 98, 99, 99.5, 99.8)
    axis.set_xticks([1 - share / 100 for share in shares], [f"{share:g} %" for share in shares])
    axis.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axis.minorticks_off()
    axis.legend(loc="upper right")
    near, best = runs(AWARE, CONDITIONAL)[0.5], runs(FREE, OWN)[1.2]
    equal = {name: told(row["frechet"], row["standard error"]) for name, row in against().items()}
    plots.show(
        fig,
        f"Each mark is a scale, written beside it: {near['n']:,} digits. Bars and ± are two standard errors. On the "
        f"dotted line the judge reads {100 * EQUAL:.0f} % as wanted (between two marks: by a straight line). There the "
        f"distance is {equal['classifier-free']} for classifier-free guidance, {equal['classifier, no label']} for the "
        f"classifier and {equal['CLIP, no label']} for CLIP, both without label. With label, the classifier at 0.5 is "
        f"{told(*difference(near, best))} farther away than classifier-free guidance at 1.2.",
    )


def told(distance: float, error: float) -> str:
    """A distance, and two standard errors of it."""
    return f"{distance:.2f} ± {2 * error:.2f}"


def difference(row: Row, other: Row) -> tuple[float, float]:
    """Distance of a row minus that of another on the same noise, and the standard error of this."""
    parts = zip(row["frechet without a tenth"], other["frechet without a tenth"], strict=True)
    return row["frechet"] - other["frechet"], jackknife_error([a - b for a, b in parts])


def show_bill() -> None:
    """What a digit costs with each kind of guidance."""
    free, steered = runs(FREE, OWN)[1.5], runs(AWARE)[8.0]
    keys = ("base forward", "guide forward", "guide backward")
    plots.table(
        {
            "a digit in 20 steps": ["classifier-free guidance", "a classifier's gradient"],
            "network": [row[keys[0]] for row in (free, steered)],
            "guide, forward": [row[keys[1]] for row in (free, steered)],
            "guide, backward": [row[keys[2]] for row in (free, steered)],
            "CPU time": [f"{1000 * row['CPU seconds']:.0f} ms" for row in (free, steered)],
        },
        "Passes through the networks. The classifier is small beside the digit network, so its backward passes are "
        "cheap.",
    )
