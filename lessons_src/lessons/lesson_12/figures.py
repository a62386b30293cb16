"""Pictures of why in lesson 12: the three parts, the scale of latents, what words look at, adherence, and costs."""

import statistics
import time
from functools import cache

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import measurements, weights
from lessons_src.attention import attending
from lessons_src.lessons.lesson_12.explorer import shipped
from lessons_src.lessons.lesson_12.measured import JUDGED, WHOSE, noise_of
from lessons_src.metrics import Interval, wilson_interval
from lessons_src.networks import NoisePredictor
from lessons_src.process import add_noise, predict_x0
from lessons_src.scenes import SETS, SIDE, Scenes, combinations, draw, paint, parse, tokens, write
from lessons_src.schedules import cosine
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILLION
from lessons_src.show.panels import colour, grey
from lessons_src.text_to_image import CaptionUNet

BLOCK = "body.blocks.2.cross"  # of the transformer's cross-attentions, the one whose maps are shown
CAPTION = "a small red circle left of a large blue triangle"


def scene(caption: str, seed: int = 0) -> Scenes:
    """A scene that a caption tells, placed by a seed."""
    said = parse([caption])
    objects = (4 * said.hue + said.shape)[0]
    table = objects[None] if said.count.item() == 2 else objects[:1]
    drawn = draw(table, 500, torch.Generator().manual_seed(seed))
    fits = (drawn.size == said.size).all(1) & (drawn.relation == said.relation)
    return drawn[fits.nonzero()[:1, 0]]


def _picture(axis: Axes, image: Tensor, title: str) -> None:
    """One picture (3, H, W) or one channel (H, W)."""
    shown = colour(image) if image.ndim == 3 else grey(image)
    axis.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)


# --- The three parts


def _sheet(z: Tensor) -> Tensor:
    """The four channels (4, H, W) of a latent in one sheet (2 H, 2 W); three standard deviations are white."""
    return torch.cat([torch.cat([*z[:2]], 1), torch.cat([*z[2:]], 1)]) / 3


@torch.no_grad()
def show_parts(caption: str = CAPTION, t: int = 850) -> None:
    """A scene, its latent channel by channel, that latent under noise, the network's guess, and this one decoded."""
    net, codec = shipped()
    x = paint(scene(caption))
    z, level = codec.encode(x), net.schedule.alpha_bar[t].item()
    noisy = add_noise(z, noise_of(1), level)
    guess = predict_x0(noisy, net(noisy, torch.tensor([t]), tokens([caption])), level)
    fig, axes = plots.figure(columns=5, width=9.4, height=2.2)
    titles = ("picture", "latent", f"with noise, t = {t}", "guess, by caption", "decoded")
    for axis, title, part in zip(axes[0], titles, (x, z, noisy, guess, codec.decode(guess)), strict=True):
        channels = part.shape[1] == 4
        _picture(axis, _sheet(part[0]) if channels else part[0], title)
        if channels:  # lines between the four
            axis.axhline(7.5, color=INK, lw=1)
            axis.axvline(7.5, color=INK, lw=1)
    plots.show(
        fig,
        f"“{caption}”. The autoencoder makes {x[0].numel():,} numbers {z[0].numel()}: four channels of "
        f"{z.shape[2]} × {z.shape[3]}. Diffusion happens there: from noisy latent and caption the network guesses the "
        "clean latent. Only the end is decoded.",
    )


# --- The scale of latents


def scales() -> dict[float, list[Interval]]:
    """The share of captions drawn right by networks taught in latents times a factor, a seed each, by factor."""
    rows = measurements.load("latent scale")
    found: dict[float, list[Interval]] = {}
    for row in sorted(rows, key=lambda row: (row["factor"], row["seed"])):
        found.setdefault(row["factor"], []).append(wilson_interval(row["shown"]["all"], row["n"]))
    return found


def show_scale() -> None:
    """Captions drawn right against the factor that latents are multiplied by."""
    found = scales()
    fig, axes = plots.figure(width=7.0, height=3.2)
    axis = axes[0, 0]
    for seed, (mark, color) in enumerate((("o-", BLUE), ("s--", VERMILLION))):
        value, low, high = 100 * torch.tensor([spans[seed] for spans in found.values()]).T
        bars = torch.stack([value - low, high - value]).numpy()
        axis.errorbar(list(found), value, bars, fmt=mark, color=color, ms=5, label=f"training seed {seed}")
    axis.axvline(STABLE, color=INK, lw=1, ls=":")
    axis.text(STABLE, 98, " Stable Diffusion's,\n as they come", color=INK, va="top", fontsize=10.5)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(found), [_told(factor) for factor in found])
    axis.set(xlabel="standard deviation of the latents", ylabel="captions right, %", ylim=(0, 100))
    axis.legend(loc="lower left")
    middle = {factor: 100 * statistics.fmean(span.value for span in spans) for factor, spans in found.items()}
    plots.show(
        fig,
        "Small networks, each taught with the same recipe; all that differs is the latents' scale. Single objects, "
        f"w = 2; bars are 95 %. Right at 1: {middle[1.0]:.0f} %, at 8: {middle[8.0]:.0f} %, at 1/8: "
        f"{middle[0.125]:.0f} %. The dotted line is {STABLE:g}, at which nothing was trained here.",
    )


STABLE = 5.5  # standard deviation of Stable Diffusion's latents before they are scaled: 1 / 0.18215


def _told(factor: float) -> str:
    return f"{factor:g}" if factor >= 1 else f"1/{1 / factor:g}"


# --- What words look at


@torch.no_grad()
def word_maps(meaning: Scenes, t: int = 300, seed: int = 0) -> Tensor:
    """How much each place of scenes under noise looks at each word, (B, LENGTH, 8, 8), mean over heads of BLOCK."""
    net, codec = shipped()
    generator = torch.Generator().manual_seed(seed)
    z = codec.encode(paint(meaning))
    noisy = add_noise(z, torch.randn(z.shape, generator=generator), net.schedule.alpha_bar[t].item())
    kept: dict[str, Tensor] = {}

    def keep(name: str, maps: Tensor) -> Tensor:
        kept[name] = maps
        return maps

    with attending(net, keep):
        net(noisy, torch.full((len(z),), t), tokens(write(meaning)))
    return kept[BLOCK].mean(1).transpose(1, 2).unflatten(2, z.shape[2:])


@cache
def pointing(n: int = 200) -> dict[str, Interval]:
    """In how many scenes of two objects the first object's words have the largest weight of their map inside it."""
    meaning = draw(combinations()["two seen"], n, torch.Generator().manual_seed(1))
    top = word_maps(meaning).flatten(2).argmax(2)
    y, x = (4 * (part + 0.5) for part in (top // 8, top % 8))
    reach = meaning.radius[:, :1] + 1
    inside = ((x - meaning.x[:, :1]).abs() < reach) & ((y - meaning.y[:, :1]).abs() < reach)
    places = {"a": 0, "its size": 1, "its hue": 2, "its shape": 3}
    return {word: wilson_interval(int(inside[:, place].sum()), n) for word, place in places.items()}


def show_maps(caption: str = CAPTION) -> None:
    """The map of each word of a caption over its scene."""
    meaning, words = scene(caption), caption.split()
    maps = word_maps(meaning)[0]
    x = paint(meaning)[0]
    fig, axes = plots.figure(columns=6, rows=2, width=9.4, height=3.5)
    _picture(axes[0, 0], x, "the scene")
    for axis, word, seen in zip(axes.flat[1:], words, maps, strict=False):
        large = F.interpolate((seen / seen.max())[None, None], scale_factor=SIDE // 8)[0, 0]
        _picture(axis, 0.5 * (x + 1) + 1.2 * large - 1, word)
    for axis in axes.flat[1 + len(words) :]:
        axis.axis("off")
    shares = pointing()
    told = ", ".join(f"{word if word != 'a' else '“a”'} {_percent(share)}" for word, share in shares.items())
    plots.show(
        fig,
        "Bright: there the picture looks at this word, in the third block, at t = 300; dark: it does not. In 200 "
        f"scenes of two objects, the map of a word of the first is brightest inside that object: {told}.",
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


# --- Adherence

LINES = {  # set -> colour, mark, name
    "one seen": (BLUE, "o-", "one object, trained"),
    "one held": (VERMILLION, "s--", "one object, never trained"),
    "two seen": (GREEN, "^-", "two, trained together"),
    "two held": (PURPLE, "D--", "two, never together"),
    "two of held": (ORANGE, "v:", "two, one never trained"),
}


def shares(name: str, part: str = "all") -> dict[float, Interval]:
    """By guidance scale, in which share of the pictures of a set a part of the caption is right.

    From the card of the shipped transformer, which was judged by more captions, and beyond it as measured.
    """
    rows = (row for row in measurements.load("captions") if row["set"] == name)
    found = {row["w"]: wilson_interval(row["shown"][part], row["n"]) for row in rows}
    card = weights.load("scene_dit")[1]["metrics"]
    found |= {float(key[4:]): Interval(*card[key][name][part]) for key in card if key.startswith("w = ")}
    return dict(sorted(found.items()))


def show_guidance() -> None:
    """How many pictures show all that the caption says, against w, for captions trained and never trained."""
    fig, axes = plots.figure(width=8.2, height=3.8)
    axis = axes[0, 0]
    for k, (name, (color, mark, label)) in enumerate(LINES.items()):
        found = shares(name)
        places = torch.arange(len(found)) + 0.07 * (k - 2)  # scales lie apart unevenly; bars side by side
        value, low, high = 100 * torch.tensor(list(found.values())).T
        axis.errorbar(places, value, torch.stack([value - low, high - value]), fmt=mark, color=color, ms=5, label=label)
    axis.set_xticks(range(len(found)), [f"{w:g}" for w in found])
    axis.set(xlabel="guidance scale w", ylabel="whole caption right, %", ylim=(0, 103))
    axis.legend(loc="lower center", fontsize=10.5)
    two, far = ({name: shares(name)[w] for name in SETS} for w in (2.0, 12.0))
    plots.show(
        fig,
        f"1,000 captions a mark at w = 1, 2, 3 and 5, {JUDGED} elsewhere; bars are 95 %. At w = 2: "
        + ", ".join(f"{LINES[name][2]} {_percent(share)}" for name, share in two.items())
        + f". At w = 12, one object: trained {_percent(far['one seen'])}, never trained {_percent(far['one held'])}.",
    )


def leaked(w: float, part: str, name: str = "two of held") -> list[int]:
    """Whose shape or size objects of a set have, drawn with w: counts as in WHOSE."""
    (row,) = (row for row in measurements.load("captions") if (row["set"], row["w"]) == (name, w))
    return row["leakage"][part]


def show_leakage(scales: tuple[float, ...] = (1.0, 2.0, 12.0)) -> None:
    """Whose shape and size objects have, in pictures of two."""
    cases = [(w, part) for part in ("shape", "size") for w in scales]
    counts = [leaked(w, part) for w, part in cases]
    plots.table(
        {"the object's": [f"{part}, w = {w:g}" for w, part in cases]}
        | {name: [f"{100 * count[k] / sum(count):.1f} %" for count in counts] for k, name in enumerate(WHOSE)},
        f"Objects of two-object captions, one of the two never trained, whose shapes (or sizes) differ: "
        f"{sum(counts[0])} and {sum(counts[-1])} at each w. The hue says which object is meant.",
    )


# --- Costs


def mflop(net: NoisePredictor, words: Tensor) -> float:
    """Millions of floating-point operations of one evaluation, counted."""
    x = torch.zeros(1, *net.body.event)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x, torch.tensor([500]), words)
    return counter.get_total_flops() / 1e6


@torch.no_grad()
def milliseconds(net: NoisePredictor, words: Tensor, batch: int = 4, repeats: int = 4) -> float:
    """Milliseconds of processor time of one evaluation of one sample, the fastest of some batches."""
    x, t, taken = noise_of(batch).new_zeros(batch, *net.body.event), torch.full((batch,), 500), []
    for _ in range(repeats):
        begun = time.process_time()
        net(x, t, words)
        taken.append(time.process_time() - begun)
    return 1000 * min(taken) / batch


def show_bill() -> None:
    """One evaluation of the same U-Net on pixels and on latents: numbers, places, operations, time."""
    words, events = tokens([CAPTION]), {"pixels": (3, SIDE, SIDE), "latents": (4, SIDE // 4, SIDE // 4)}
    nets = [NoisePredictor(CaptionUNet(event), cosine(), "v").eval() for event in events.values()]
    rows = [
        (torch.Size(event).numel(), event[1] * event[2], mflop(net, words), milliseconds(net, words))
        for event, net in zip(events.values(), nets, strict=True)
    ]
    ratio = [pixels / latents for pixels, latents in zip(*rows, strict=True)]
    plots.table(
        {
            "the U-Net works on": [*events, "**times less**"],
            "numbers": [f"{row[0]:,}" for row in rows] + [f"{ratio[0]:.0f}"],
            "places": [f"{row[1]:,}" for row in rows] + [f"{ratio[1]:.0f}"],
            "MFLOP a call": [f"{row[2]:,.0f}" for row in rows] + [f"{ratio[2]:.0f}"],
            "ms a call": [f"{row[3]:.1f}" for row in rows] + [f"{ratio[3]:.0f}"],
        },
        "The same U-Net, untrained: what it costs does not depend on what it knows. Processor time on this machine.",
    )
