"""The figures of lesson 10. What a figure says in numbers is computed by a function of its own."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from lessons_src import data
from lessons_src.evaluation import accuracy
from lessons_src.guidance import blend, classifier_free
from lessons_src.inversion import invert, null_predictions
from lessons_src.lessons.digit_runs import shipped
from lessons_src.lessons.lesson_10.explorer import (
    AT_T,
    FIRST,
    FRESH,
    NOISE_FIRST,
    WAYS,
    W,
    times_of,
    two_digits_apart,
    way_up,
)
from lessons_src.lessons.lesson_10.measures import apart, correlation, ink, slant, variety
from lessons_src.oracle import GaussianMixture
from lessons_src.process import add_noise
from lessons_src.samplers import EpsFn, ddim, sample
from lessons_src.schedules import NoiseSchedule, linear, time_grid, times_to
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, VERMILLION
from lessons_src.show.progress import counted

THREE = torch.tensor(3)
Climb = Callable[[EpsFn, Tensor, NoiseSchedule, Sequence[int], str], Tensor]


# --- Edits of many digits


@cache
def hands(n: int = 300) -> tuple[Tensor, Tensor]:
    """Test digits of all classes, (n, 1, 28, 28), and their labels (n,)."""
    images, labels = data.digits("test")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:n]
    return images[chosen], labels[chosen]


class Edit(NamedTuple):
    """The latents of `hands`, and the 3s they are decoded as."""

    latent: Tensor
    three: Tensor


@cache
def taken_up(way: str, steps: int, n: int) -> Tensor:
    """The latents of the first n of `hands` by one of WAYS."""
    x, label = hands()
    return way_up(way, x[:n], label[:n], times_of(way, time_grid(shipped()[0].schedule, steps)))[-1].x


def edited(way: str, steps: int = 10, n: int = 300) -> Edit:
    """The first n of `hands` taken up one of WAYS, and down again as 3 with w = W."""
    return _edited(way, steps, n)  # `cache` would take edited(way), edited(way, 10) and edited(way, n=300) for three


@cache
def _edited(way: str, steps: int, n: int) -> Edit:
    (net, _), latent = shipped(), taken_up(way, steps, n)
    times = times_of(way, time_grid(net.schedule, steps))
    return Edit(latent, sample(ddim(classifier_free(net, 3, W), latent, net.schedule, times)))


@cache
def back(way: str, n: int = 300) -> float:
    """How far from home the latents of `edited` are decoded under their own labels, w = 1."""
    (x, label), (net, _) = hands(), shipped()
    own, times = classifier_free(net, label[:n], 1.0), times_of(way, time_grid(net.schedule, 10))
    return apart(sample(ddim(own, taken_up(way, 10, n), net.schedule, times)), x[:n])


def kept(measure: Callable[[Tensor], Tensor], way: str, steps: int = 10, n: int = 300) -> float:
    """Correlation of `ink` or `slant` between the digits and their 3s."""
    return correlation(measure(hands()[0][:n]), measure(edited(way, steps, n).three))


def signed(value: float) -> str:
    """Two decimals, and a minus sign in place of a hyphen."""
    return f"{value:.2f}".replace("-", "−")


def show_edits(ways: Sequence[str] = WAYS) -> None:
    """Ten of the digits, and the 3s they become by some ways up."""
    short = {AT_T: "asking at t", NOISE_FIRST: "a little noise,\nthen inversion", FRESH: "fresh noise"}
    threes = {short.get(way, way): edited(way).three[:10] for way in counted(ways, "ways up")}
    plots.image_rows(
        {"digits": hands()[0][:10]} | threes,
        f"Ten of 300 test digits, and the 3s they become from t = 1000. Guidance w = {W:g}, ten steps. Fresh noise "
        "knows nothing of the digit above it." + " The last two rows use the same noise." * (NOISE_FIRST in ways),
    )


def show_survivors() -> None:
    """How far each digit leans, and how far its 3 does, by inversion and from fresh noise."""
    fig, axes = plots.figure(columns=2, width=7.6, height=3.4)
    x = slant(hands()[0])
    for axis, way, colour in zip(axes[0], ("inversion", FRESH), (BLUE, VERMILLION), strict=True):
        axis.plot(x, slant(edited(way).three), "o", color=colour, markersize=3, alpha=0.6)
        axis.set(title=way, xlabel="the digit leans by", ylabel="its 3 leans by", xlim=(-0.45, 0.75), ylim=(-0.45, 0.5))
    ways = [(kept(slant, way), kept(ink, way)) for way in ("inversion", FRESH)]
    plots.show(
        fig,
        "300 digits; leaning in pixels to the right for each row up. By inversion the slants of digits and 3s "
        f"correlate with {signed(ways[0][0])}, ink and ink with {signed(ways[0][1])}. From fresh noise: "
        f"{signed(ways[1][0])} and {signed(ways[1][1])}, which is chance.",
    )


def show_ways(n: int = 300) -> None:
    """The four ways up, beside each other, for the first n of `hands`."""
    digits, labels = data.digits("test")
    threes, found = digits[labels == 3], {way: edited(way, n=n) for way in WAYS}
    judge = shipped()[1]
    plots.table(
        {
            "way up": list(WAYS),
            "spread of the latents": [f"{edit.latent.std():.2f}" for edit in found.values()],
            "read as 3": [
                f"{100 * accuracy(judge, e.three.clamp(-1, 1), THREE.expand(n)):.0f} %" for e in found.values()
            ],
            "slant kept": [signed(kept(slant, way, n=n)) for way in WAYS],
            "variety of the 3s": [f"{variety(edit.three):.2f}" for edit in found.values()],
        },
        f"The same, for all {n} and with ten steps. Slant kept: how the slants of digits and 3s correlate; 1 is "
        "perfect, 0 is chance. Variety: how far two of the 3s lie apart per pixel. For 3s written by people it is "
        f"{variety(threes):.2f}.",
    )


def show_more_steps(n: int = 100) -> None:
    """The two questions with ten steps and with fifty, for the first n of `hands`."""
    kinds = [(way, steps) for way in ("inversion", AT_T) for steps in (10, 50)]
    rows = [(way, steps, edited(way, steps, n)) for way, steps in counted(kinds, "edits")]
    read = [accuracy(shipped()[1], edit.three.clamp(-1, 1), THREE.expand(n)) for _, _, edit in rows]
    plots.table(
        {
            "way up": [way for way, _, _ in rows],
            "steps": [steps for _, steps, _ in rows],
            "spread of the latents": [f"{edit.latent.std():.2f}" for _, _, edit in rows],
            "read as 3": [f"{100 * share:.0f} %" for share in read],
            "slant kept": [signed(kept(slant, way, steps, n)) for way, steps, _ in rows],
            "variety of the 3s": [f"{variety(edit.three):.2f}" for _, _, edit in rows],
        },
        f"{n} digits as 3s, from t = 1000, w = {W:g}. With more steps the two questions come closer to each other.",
    )


# --- Backwards, and which t


def even_humps(n: int) -> Tensor:
    """n points that cut `data.two_humps()` into equal shares, (n, 1), by bisection."""
    level = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    low, high = torch.full_like(level, -4), torch.full_like(level, 4)
    for _ in range(60):
        x = (low + high) / 2
        below = 0.3 * torch.special.ndtr((x + 1) / 0.15) + 0.7 * torch.special.ndtr((x - 0.8) / 0.25) < level
        low, high = torch.where(below, x, low), torch.where(below, high, x)
    return low.unsqueeze(1)


def root_mean_square(x: Tensor) -> float:
    """Over all values."""
    return x.square().mean().sqrt().item()


def hump_trips(climb: Climb, ask: str, schedule: NoiseSchedule, counts: Sequence[int] = (10, 50)) -> list[float]:
    """How far 2001 points of the two humps end from home after up and down, exact predictor, for numbers of steps."""
    x, exact, found = even_humps(2001), data.two_humps().network(schedule), []
    for steps in counts:
        times = time_grid(schedule, steps)
        latent = climb(exact, x, schedule, times, ask)
        found.append(root_mean_square(sample(ddim(exact, latent, schedule, times)) - x))
    return found


@torch.no_grad()
def digits_home(climb: Climb, ask: str, times: Sequence[int]) -> Tensor:
    """One test digit of each class after going up and down again, (10, 1, 28, 28)."""
    net = shipped()[0]
    own = classifier_free(net, torch.arange(10), 1.0)
    return sample(ddim(own, climb(own, data.one_each(), net.schedule, times, ask), net.schedule, times))


def digit_trips(climb: Climb, ask: str, top: int = 1000, counts: Sequence[int] = (10, 50)) -> list[float]:
    """How far one test digit of each class ends from home after going up to `top` and down again."""
    return [apart(digits_home(climb, ask, times_to(top, steps)), data.one_each()) for steps in counts]


def trips_with_more(shares: Sequence[float], ask: str = "s", steps: int = 10) -> list[float]:
    """Round trips of ten digits where a share of each digit is added to its latent before the way down."""
    net, x = shipped()[0], data.one_each()
    times, own = time_grid(net.schedule, steps), classifier_free(net, torch.arange(10), 1.0)
    latent = sample(invert(own, x, net.schedule, times, ask=ask))
    return [apart(sample(ddim(own, latent + share * x, net.schedule, times)), x) for share in shares]


def show_more_of_the_picture() -> None:
    """`trips_with_more`, a table."""
    shares = (-0.1, 0, 0.1, 0.2, 0.3)
    trips = {f"asked at {ask}": [f"{trip:.2f}" for trip in trips_with_more(shares, ask)] for ask in "st"}
    plots.table(
        {"share of the digit added": [signed(share) for share in shares]} | trips,
        "How far from home ten digits end, ten steps each way, with more or less of each digit in its latent.",
    )


def show_round_trips(climb: Climb) -> None:
    """Ten digits, and where ten steps bring them home by the lesson's own climb: a slip in it is seen."""
    at_s, at_t = digit_trips(climb, "s"), digit_trips(climb, "t")
    plots.image_rows(
        {"digits": data.one_each()}
        | {f"home,\nasked at {ask}": digits_home(climb, ask, time_grid(shipped()[0].schedule, 10)) for ask in "st"},
        f"Ten steps up, ten down. Asked at s, the digits end {at_s[0]:.2f} per pixel from home; asked at t, "
        f"{at_t[0]:.2f}. (Two digits lie {two_digits_apart():.1f} apart.) With 50 steps: {at_s[1]:.2f} and "
        f"{at_t[1]:.2f}.",
    )


def show_one_change(climb: Climb) -> None:
    """The humps on the digits' schedule, and the digits without the end of theirs."""
    _asked(
        {
            "humps, cosine": lambda ask: hump_trips(climb, ask, shipped()[0].schedule),
            "digits, to t = 900": lambda ask: digit_trips(climb, ask, 900),
        },
        "How far from home. Left, humps on the cosine schedule of the digits. Right, digits, up to t = 900 only.",
    )


def _asked(trips: dict[str, Callable[[str], list[float]]], text: str) -> None:
    """A table of round trips with 10 and 50 steps, asked at s and asked at t."""
    columns = {"asked": ["ε̂(xₛ, s)", "ε̂(xₛ, t)"]}
    for name, trip in trips.items():
        rows = [trip(ask) for ask in "st"]
        columns |= {f"{name}, {n} steps": [f"{row[k]:.3f}" for row in rows] for k, n in enumerate((10, 50))}
    plots.table(columns, text)


# The exact flows of the two plainest kinds of data: place at an angle, and prediction at an angle and a place
FLOWS = {
    "wide data, N(0, 1)": (lambda angle: torch.ones_like(angle), lambda angle, x: angle.sin() * x),
    "a single point, 0": (torch.sin, lambda angle, x: x / angle.sin()),
}


def borrowed(flow: str, s: float, t: float) -> tuple[float, float, float]:
    """Predictions at (x_s, s), (x_s, t) and (x_t, t), the one that is needed, on one of FLOWS; angles in degrees."""
    path, eps = FLOWS[flow]
    s, t = torch.tensor([s, t], dtype=torch.float64).deg2rad()
    return eps(s, path(s)).item(), eps(t, path(s)).item(), eps(t, path(t)).item()


def show_why(s: float = 25, t: float = 50) -> None:
    """Lines of equal prediction over noise level and place, and which of them the borrowed predictions lie on."""
    fig, axes = plots.figure(columns=2, width=7.8, height=3.9)
    angle, place = torch.meshgrid(torch.linspace(8, 66, 120), torch.linspace(0.02, 1.5, 120), indexing="xy")
    for axis, (name, (path, eps)) in zip(axes[0], FLOWS.items(), strict=True):
        wanted, values = borrowed(name, s, t)[2], eps(angle.deg2rad(), place)
        lines = axis.contour(angle, place, values, [0.25, 0.5, 0.75, 1, 1.25], colors="0.5", linewidths=0.8)
        axis.clabel(lines, fontsize=9)
        axis.contour(angle, place, values, [wanted], colors="0.5", linewidths=3, alpha=0.6)
        way = torch.linspace(s, t, 50)
        axis.plot(way, path(way.deg2rad()), "--", color=VERMILLION, linewidth=2, zorder=3, label="the exact path")
        x_s, x_t = path(torch.tensor([s, t]).deg2rad()).tolist()
        marks = {"needed: $(x_t, t)$": (t, x_t, "s", 13), "asked at s: $(x_s, s)$": (s, x_s, "o", 8)}
        marks |= {"asked at t: $(x_s, t)$": (t, x_s, "^", 7)}
        for (label, (at, x, mark, size)), colour in zip(marks.items(), (INK, BLUE, GREEN), strict=True):
            hollow = {"markerfacecolor": "none", "markeredgewidth": 2} if mark == "s" else {}
            axis.plot(at, x, mark, color=colour, markersize=size, label=label, zorder=4, **hollow)
        axis.set(title=name, xlabel="noise level: angle (°), sine √(1 − ᾱ)", ylabel="x", ylim=(0, 1.5))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    one, other = (borrowed(name, s, t) for name in FLOWS)
    plots.show(
        fig,
        f"One step from {s:.0f}° to {t:.0f}°. Grey lines join places with equal ε̂, written on them; the thick one has "
        f"the ε̂ that you need. The better question lies on it. Wide data: needed {one[2]:.2f}, asked at t "
        f"{one[1]:.2f}, at s {one[0]:.2f}. "
        f"A single point: needed {other[2]:.2f}, asked at t {other[1]:.2f}, at s {other[0]:.2f}.",
    )


def normal_trip(spread: float, steps: int, ask: str) -> float:
    """How far from home the round trip of x = spread ends for data N(0, spread^2), exact predictor."""
    exact = GaussianMixture([1.0], [[0.0]], [[[spread**2]]])
    return _trip(exact, torch.full((1, 1), spread, dtype=torch.float64), steps, ask)[0]


def narrow_trip(steps: int, ask: str) -> tuple[float, int]:
    """Round trips of 802 points of two humps N(-1, 0.1^2) and N(1, 0.1^2): how far from home they end, root mean
    square, and how many in the wrong hump."""
    z = 0.1 * torch.special.ndtri((torch.arange(401, dtype=torch.float64).unsqueeze(1) + 0.5) / 401)
    narrow = GaussianMixture([0.5, 0.5], [[1.0], [-1.0]], torch.full((2, 1, 1), 0.01))
    return _trip(narrow, torch.cat([z + 1, z - 1]), steps, ask)


def _trip(exact: GaussianMixture, x: Tensor, steps: int, ask: str) -> tuple[float, int]:
    """How far from home points x (N, 1) end after up and down, root mean square, and how many change their sign."""
    schedule = linear()
    eps_fn, times = exact.network(schedule), time_grid(schedule, steps)
    latent = sample(invert(eps_fn, x, schedule, times, ask=ask))
    back = sample(ddim(eps_fn, latent, schedule, times))
    return root_mean_square(back - x), int((back * x < 0).sum())


def crossing(steps: int) -> float:
    """The spread of data N(0, spread^2) at which both questions end equally far from home."""
    low, high = 0.1, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        worse = normal_trip(middle, steps, "t") > normal_trip(middle, steps, "s")
        low, high = (middle, high) if worse else (low, middle)
    return middle


def show_crossing() -> None:
    """`normal_trip` against the spread of the data, and `narrow_trip` against the number of steps."""
    spreads, counts = torch.linspace(0.02, 1, 40).tolist(), [5, 10, 20, 50, 100, 200]
    names = {ask: f"ε̂(xₛ, {ask})" for ask in "st"}
    one = {name: [normal_trip(spread, 10, ask) for spread in spreads] for ask, name in names.items()}
    two = {name: [narrow_trip(steps, ask)[0] for steps in counts] for ask, name in names.items()}
    fig, axes = plots.figure(columns=2, width=8.6, height=3.2)
    plots.draw_lines(axes[0, 0], spreads, one, "spread of the data", "away from home")
    plots.draw_lines(axes[0, 1], counts, two, "steps", "away from home", markers=True)
    axes[0, 0].set(title="one hump, 10 steps")
    axes[0, 1].set(title="two narrow humps", xscale="log", xticks=counts, xticklabels=counts)
    axes[0, 1].minorticks_off()
    plots.show(
        fig,
        f"Exact predictors. One hump: from a spread of {crossing(10):.2f} on, asking at t is better. Two humps around "
        f"-1 and 1, spread 0.1: asking at t is better up to 50 steps, asking at s from 100. With 20 steps s throws "
        f"{narrow_trip(20, 's')[1]} of 802 points into the wrong hump, t {narrow_trip(20, 't')[1]}.",
    )


# --- Latents


@cache
def latent_of(way: str, steps: int = 50) -> Tensor:
    """The latents of one test digit of each class, (10, 1, 28, 28)."""
    schedule = shipped()[0].schedule
    return way_up(way, data.one_each(), torch.arange(10), times_of(way, time_grid(schedule, steps)))[-1].x


def spreads(latent: Tensor) -> dict[str, float]:
    """Standard deviation of the latents of `data.one_each()` everywhere and in parts."""
    digits = data.one_each()
    always_black = (data.digits("train")[0] == -1).all(0).expand_as(digits)
    parts = {"everywhere": latent, "on the strokes": latent[digits > 0], "off the strokes": latent[digits <= 0]}
    parts |= {"in pixels black in all training digits": latent[always_black]}
    return {name: part.std().item() for name, part in parts.items()}


def show_latents() -> None:
    """One digit, its latent, and real noise on the same scale."""
    spread = spreads(latent_of("inversion"))
    _greys(
        {"a 3": 2 * data.one_each()[3, 0], "its latent": latent_of("inversion")[3, 0], "real noise": _noise()},
        f"A 3, its latent from 50 steps, and real noise, on one grey scale. Real noise has a spread of 1. Ten such "
        f"latents have {spread['everywhere']:.2f}: {spread['on the strokes']:.2f} on the strokes, "
        f"{spread['off the strokes']:.2f} off them.",
    )


def show_parts() -> None:
    """Where the latents of ten digits are quiet, and where those with a little real noise first are."""
    ways = {way: spreads(latent_of(way)) for way in ("inversion", NOISE_FIRST)}
    plots.table(
        {"where": list(ways["inversion"])}
        | {way: [f"{value:.2f}" for value in parts.values()] for way, parts in ways.items()},
        "Spread of the latents of ten digits, 50 steps. Real noise has 1.",
    )


def show_borrowed() -> None:
    """How far the borrowed predictions are from the needed one, at each of ten steps on the way up of ten digits."""
    net, label = shipped()[0], torch.arange(10)
    own, x = classifier_free(net, label, 1.0), data.one_each()
    fine = {0: x} | {state.t: state.x for state in way_up("inversion", x, label, time_grid(net.schedule, 100))}
    steps = [(s, s + 100) for s in range(100, 1000, 100)]
    misses: dict[str, list[str]] = {"asked at s": [], "asked at t": []}
    for s, t in steps:
        needed, at_s, at_t = (_asked_at(own, fine[at], time) for at, time in ((t, t), (s, s), (s, t)))
        for miss, eps in zip(misses.values(), (at_s, at_t), strict=True):
            miss.append(f"{(eps - needed).square().mean().sqrt():.2f}")
    plots.table(
        {"step": [f"{s} to {t}" for s, t in steps]} | misses,
        "How far the borrowed ε̂ is from the needed one, root mean square per pixel, on the path of 100 small steps.",
    )


@torch.no_grad()
def _asked_at(eps_fn: EpsFn, x: Tensor, t: int) -> Tensor:
    return eps_fn(x, torch.full((len(x),), t))


def home(way: str, steps: int = 50) -> float:
    """How far from home the latents of `latent_of` are decoded."""
    net, _ = shipped()
    times, own = times_of(way, time_grid(net.schedule, steps)), classifier_free(net, torch.arange(10), 1.0)
    return apart(sample(ddim(own, latent_of(way, steps), net.schedule, times)), data.one_each())


def given_noise() -> Tensor:
    """The real noise with which NOISE_FIRST begins for `data.one_each()`."""
    return torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def show_repair(quiet: Tensor, repaired: Tensor) -> None:
    """What a little real noise before the inversion does to latents of `data.one_each()`, (10, 1, 28, 28) both."""
    net, _ = shipped()
    noised = add_noise(data.one_each(), given_noise(), net.schedule.alpha_bar[FIRST])
    _greys(
        {f"the 3 at t = {FIRST}": 2 * noised[3, 0], "its latent": repaired[3, 0], "real noise": _noise()},
        f"The spread of the latents rises from {quiet.std():.2f} to {repaired.std():.2f}. Their correlation with the "
        f"noise that was added is {correlation(repaired.flatten(), given_noise().flatten()):.2f} (1 is perfect). Down "
        f"again, they end {home(NOISE_FIRST):.3f} per pixel from home; before, it was {home('inversion'):.3f}.",
    )


def _noise() -> Tensor:
    return torch.randn(28, 28, generator=torch.Generator().manual_seed(7))


def _greys(shown: dict[str, Tensor], text: str) -> None:
    """Pictures (28, 28) side by side on one grey scale, from -2 to 2."""
    fig, axes = plots.figure(columns=len(shown), width=2.5 * len(shown), height=2.8)
    for axis, (title, picture) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=-2, vmax=2, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    plots.show(fig, text)


# --- Heights, and guidance


TOPS = (600, 700, 800, 900, 1000)


@cache
def heights(n: int = 50) -> dict[str, list[tuple[float, float]]]:
    """n of `hands`, none of them a 3, become 3s at w = W from each of TOPS, ten steps, by three ways up.

    For each: how far they end from the digits, and what share is read as 3, in per cent.
    """
    (net, judge), (x, label) = shipped(), hands()
    x, label = x[label != 3][:n], label[label != 3][:n]
    towards, found = classifier_free(net, 3, W), {way: [] for way in ("inversion", AT_T, FRESH)}
    for way, top in counted([(way, top) for way in found for top in TOPS], "edits"):
        times = times_to(top, 10)
        end = sample(ddim(towards, way_up(way, x, label, times)[-1].x, net.schedule, times))
        found[way].append((apart(end, x), 100 * accuracy(judge, end.clamp(-1, 1), THREE.expand(n))))
    return found


def show_heights() -> None:
    """`heights` as curves."""
    curves = heights()
    fig, axes = plots.figure(width=7.4, height=3.8)
    axis = axes[0, 0]
    looks = ((BLUE, "o", (8, -9)), (GREEN, "^", (-30, 3)), (VERMILLION, "s", (8, -9)))
    for (way, points), (colour, mark, beside) in zip(curves.items(), looks, strict=True):
        axis.plot(*zip(*points, strict=True), mark + "--", color=colour, label=way)
        for top, (away, read) in zip(TOPS, points, strict=True):
            place = {"xytext": (-14, 8) if way == "inversion" and read > 90 else beside, "textcoords": "offset points"}
            axis.annotate(f"{top}", (away, read), **place, fontsize=10.5, color=colour)
    axis.set(xlabel="distance from the digit, per pixel", ylabel="read as 3 (%)", xlim=(0.05, 0.82), ylim=(-12, 116))
    axis.legend(loc="lower right")
    enough = {way: next(k for k, (_, read) in enumerate(points) if read >= 90) for way, points in curves.items()}
    plots.show(
        fig,
        f"50 digits that are not 3s, w = {W:g}. Each mark is a height t, written beside it. Up is more often a 3, left "
        "is nearer to the digit. At least 90 % are read as 3 "
        + ", ".join(f"from t = {TOPS[k]} by {way} ({curves[way][k][0]:.2f} away)" for way, k in enough.items())
        + ".",
    )


def with_nulls(nulls: Sequence[Tensor], eps_c_fn: EpsFn, w: float) -> EpsFn:
    """Blends stored null predictions, one a step and so for one run, with the conditional prediction."""
    stored = iter(nulls)
    return lambda x, t: blend(next(stored), eps_c_fn(x, t), w)


@cache
def guided_home(w: float = 3.0) -> dict[str, Tensor]:
    """Ten digits inverted at w = 1 in 20 steps and decoded: at w = 1, at `w`, and at `w` along the path of w = 1."""
    net, _ = shipped()
    digits, label, times = data.one_each(), torch.arange(10), time_grid(net.schedule, 20)
    own = classifier_free(net, label, 1.0)
    pivots = [digits, *(state.x for state in way_up("inversion", digits, label, times))][::-1]
    nulls = null_predictions(own, pivots, net.schedule, times, w)
    ways = {
        "up 1, down 1": own,
        f"up 1, down {w:g}": classifier_free(net, label, w),
        "with null\npredictions": with_nulls(nulls, own, w),
    }
    return {name: sample(ddim(eps_fn, pivots[0], net.schedule, times)) for name, eps_fn in ways.items()}


def show_guidance() -> None:
    """`guided_home` below the digits."""
    digits, ends = data.one_each(), guided_home()
    plain, guided, repaired = (f"{apart(x, digits):.2f}" for x in ends.values())
    plots.image_rows(
        {"digits": digits[:8]} | {name: x[:8] for name, x in ends.items()},
        f"Eight of ten. Decoded at w = 1 they end {plain} per pixel from home, at w = 3 {guided}: guidance redraws the "
        f"unusual ones. With fitted null predictions it is {repaired}.",
    )
