"""Pictures of why in lesson 12: the three parts, the scale of latents, what words look at, adherence, and costs."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lessons_src import measurements, weights
from lessons_src.attention import attending
from lessons_src.lessons.lesson_12.explorer import shipped
from lessons_src.lessons.lesson_12.measured import JUDGED, STRICTER, WHOSE, noise_of
from lessons_src.metrics import Interval, wilson_interval
from lessons_src.networks import NoisePredictor
from lessons_src.process import add_noise, predict_x0
from lessons_src.scene_checker import OVERLAP, read
from lessons_src.scenes import (
    COLOURS,
    SETS,
    SHAPES,
    SIDE,
    Scenes,
    combinations,
    coverage,
    draw,
    paint,
    parse,
    pixels,
    tokens,
    write,
)
from lessons_src.schedules import cosine
from lessons_src.show import plots
from lessons_src.show.look import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILLION
from lessons_src.show.panels import colour, grey
from lessons_src.text_to_image import CaptionUNet, illustrate

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


def _sheet(z: Tensor) -> np.ndarray:
    """The four channels (4, H, W) of a latent, apart from each other; three standard deviations are white."""
    tiles = [np.pad(grey(channel / 3).astype(float), 1, constant_values=np.nan) for channel in z]
    return np.block([tiles[:2], tiles[2:]])


@torch.no_grad()
def show_parts(caption: str = CAPTION, t: int = 850) -> None:
    """A scene, its latent channel by channel, that latent under noise, the network's guess, and this one decoded."""
    net, codec = shipped()
    x = paint(scene(caption))
    z, level = codec.encode(x), net.schedule.alpha_bar[t].item()
    noisy = add_noise(z, noise_of(1), level)
    guess = predict_x0(noisy, net(noisy, torch.tensor([t]), tokens([caption])), level)
    fig, axes = plots.figure(columns=5, width=9.4, height=2.2)
    titles = ("picture", "its latent", f"noise, t = {t}", "first guess", "guess, decoded")
    for axis, title, part in zip(axes[0], titles, (x, z, noisy, guess, codec.decode(guess)), strict=True):
        if part.shape[1] == 4:
            axis.imshow(_sheet(part[0]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(title=title, xticks=[], yticks=[])
            axis.grid(False)
            axis.set_frame_on(False)
        else:
            _picture(axis, part[0], title)
    plots.show(
        fig,
        f"“{caption}”. The autoencoder turns {x[0].numel():,} numbers into {z[0].numel()}: four channels of "
        f"{z.shape[2]} × {z.shape[3]}. In them the network guesses the clean latent, from noise and caption. This is "
        "one guess from nearly nothing, and still wrong: sizes and edges come with more steps.",
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


# --- The network, and attention


def _box(axis: Axes, x: float, y: float, text: str, color: str) -> None:
    axis.text(
        x, y, text, color=color, ha="center", va="center", fontsize=11.5, linespacing=1.35,
        bbox={"boxstyle": "round,pad=0.45", "fc": "none", "ec": color, "lw": 1.4},
    )  # fmt: skip


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.4})


def show_network() -> None:
    """A diagram of the transformer: words become keys and values, places look at each other and at them."""
    fig, axes = plots.figure(width=9.4, height=3.3)
    axis = axes[0, 0]
    axis.set(xlim=(0, 100), ylim=(0, 36))
    axis.axis("off")
    _box(axis, 11, 30, "caption\n10 words", VERMILLION)
    _box(axis, 36, 30, "text encoder:\na vector a word", VERMILLION)
    _arrow(axis, (17, 30), (26.5, 30), VERMILLION)
    axis.plot([45.5, 56], [30, 30], color=VERMILLION, lw=1.4)
    _arrow(axis, (56, 30), (56, 15.2), VERMILLION)
    axis.text(57.5, 25.8, "a key and a value\nfor each word", color=VERMILLION, va="center", fontsize=11.5)
    _box(axis, 9, 11, "noisy latent:\n64 places", BLUE)
    for x, text in (
        (34, "places look\nat each other"),
        (56, "places look\nat the words"),
        (76, "each place\nby itself"),
    ):
        _box(axis, x, 11, text, BLUE)
    _box(axis, 95, 11, "guess", BLUE)
    for start, end in ((16.2, 26.4), (41.6, 48.6), (63.4, 69.8), (82.3, 91)):
        _arrow(axis, (start, 11), (end, 11), BLUE)
    axis.plot([23, 23, 86.5, 86.5, 23], [4.5, 18.5, 18.5, 4.5, 4.5], color=INK, lw=1, ls="--")
    for x, text in ((34, "self-attention"), (56, "cross-attention"), (76, "MLP")):
        axis.text(x, 6, text, color=INK, ha="center", va="center", fontsize=10.5)
    axis.text(86.5, 20.2, "a block, four times", color=INK, ha="right", va="center", fontsize=11.5)
    _arrow(axis, (34, 0.2), (34, 4.3), INK)
    axis.text(35, 1.8, "the time t", color=INK, va="center", fontsize=11.5)
    plots.show(
        fig,
        "The network. Words become keys and values; the 64 places of the latent look at each other, then at the words. "
        "After four such blocks each place says what its clean latent is.",
    )


def compare(attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Attention of 64 places to 10 words as a cell has it, beside torch's."""
    query, key, value = (torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (64, 10, 10))
    found = attention(query, key, value)
    same = torch.allclose(found, F.scaled_dot_product_attention(query, key, value), atol=1e-6)
    print(f"{len(query)} places, {len(key)} words: result of shape {tuple(found.shape)}; the same as torch's: {same}")


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


def _outlines(axis: Axes, meaning: Scenes) -> None:
    """The edges of a scene's objects, in their hues."""
    px, py = pixels(meaning.x.device)
    for k in range(int(meaning.count)):
        part = coverage(int(meaning.shape[0, k]), px - meaning.x[0, k], py - meaning.y[0, k], meaning.radius[0, k])
        edge = [channel / 255 for channel in COLOURS[int(meaning.hue[0, k])]]
        axis.contour(part.numpy(), levels=[0.5], colors=[edge], linewidths=2)


def show_maps(caption: str = CAPTION, left_out: tuple[int, ...] = (5, 6, 7)) -> None:
    """The map of each word of a caption over the outlines of its scene, but for some words."""
    meaning, words = scene(caption), caption.split()
    maps = word_maps(meaning)[0]
    shown = [k for k in range(len(words)) if k not in left_out]
    fig, axes = plots.figure(columns=1 + len(shown), width=9.4, height=1.7)
    _picture(axes[0, 0], paint(meaning)[0], "the scene")
    edges = (-0.5, SIDE - 0.5, SIDE - 0.5, -0.5)
    for axis, k in zip(axes[0, 1:], shown, strict=True):
        axis.imshow(maps[k], cmap="gray", vmin=0, extent=edges, interpolation="nearest")
        axis.set(title=words[k], xticks=[], yticks=[])
        axis.grid(False)
        _outlines(axis, meaning)
    shares = pointing()
    told = ", ".join(f"{word if word != 'a' else '“a”'} {_percent(share)}" for word, share in shares.items())
    plots.show(
        fig,
        f"“{caption}”. White: these places look at the word the most; lines are the objects' edges. (Third of four "
        "blocks, t = 300.) "
        f"In 200 scenes, the map of a word of the first object is brightest inside that object: {told}.",
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


def _drawn_lines(axis: Axes, names: Sequence[str]) -> None:
    """Shares of captions that are wholly right against w, a line for each of some sets."""
    for k, name in enumerate(names):
        color, mark, label = LINES[name]
        found = shares(name)
        places = torch.tensor(list(found)) + 0.04 * (2 * k - len(names) + 1)  # bars side by side
        value, low, high = 100 * torch.tensor(list(found.values())).T
        axis.errorbar(places, value, torch.stack([value - low, high - value]), fmt=mark, color=color, ms=5, label=label)
    axis.set_xticks(list(shares(names[0])))
    axis.set(xlabel="guidance scale w", ylabel="whole caption right, %", ylim=(0, 103))
    axis.legend(loc="lower center")


def show_guidance() -> None:
    """How many pictures of single objects show all that the caption says, against w: trained, and never trained."""
    fig, axes = plots.figure(width=7.0, height=3.2)
    _drawn_lines(axes[0, 0], SETS[:2])
    trained, held = (shares(name) for name in SETS[:2])
    plots.show(
        fig,
        f"At w = 2 right: trained {_percent(trained[2.0])}, never trained {_percent(held[2.0])}. At w = 12: "
        f"{100 * trained[12.0].value:.0f} % and {100 * held[12.0].value:.0f} %. Bars are 95 %.",
    )


def show_broken(scales: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 8.0, 12.0), seed: int = 0) -> None:
    """The same noise under more and more guidance, for a caption that was trained and one that never was."""
    net, codec = shipped()
    asked = {"a small red circle": "trained", "a small red square": "never trained"}
    fig, axes = plots.figure(columns=len(scales), rows=2, width=7.6, height=2.9)
    for row, (caption, kind) in zip(axes, asked.items(), strict=True):
        for axis, w in zip(row, scales, strict=True):
            x = illustrate(net, codec, tokens([caption]), w, noise_of(1, seed))
            _picture(axis, x[0], f"w = {w:g}" if kind == "trained" else "")
        row[0].set_ylabel(f"{caption[8:]},\n{kind}", rotation=0, ha="right", va="center", fontsize=11.5)
    plots.show(fig, "The same noise under more and more guidance. The shape that was never trained bends first.")


def show_all_guidance() -> None:
    """How many pictures show all that the caption says, against w, for all sets."""
    fig, axes = plots.figure(width=8.2, height=3.8)
    _drawn_lines(axes[0, 0], SETS)
    found = {name: shares(name)[2.0] for name in SETS}
    plots.show(
        fig,
        f"1,000 captions a mark at w = 1 and 2, {JUDGED} elsewhere; bars are 95 %. At w = 2: "
        + ", ".join(f"{LINES[name][2]} {_percent(share)}" for name, share in found.items())
        + ".",
    )


def show_limits(n: int = 8) -> None:
    """Squares asked for under much guidance, by their fit to a template: 2 n, the nearest to the checker's limit."""
    net, codec = shipped()
    asked = parse(["a small red square", "a large blue square", "a small green square", "a large cyan square"] * 8)
    x = torch.cat([illustrate(net, codec, tokens(write(asked)), w, noise_of(len(asked), 1)) for w in (6.0, 8.0, 10.0)])
    reading, hue = read(x), asked.hue[:, 0].repeat(3)
    fits = torch.where(reading.hue[:, 0] == hue, reading.overlap[:, 0], 0)
    limit = OVERLAP["square"]
    near = (fits - limit).abs().argsort()[: 2 * n]
    near = near[fits[near].argsort()]
    read_as = [SHAPES[k] if k >= 0 else "none" for k in reading.shape[:, 0].tolist()]
    labels = [f"{fits[k]:.2f} {read_as[k]}" for k in near.tolist()]
    plots.images(
        x[near],
        f"Squares asked for with w = 6, 8 and 10: how well the best template fits, and what is read. Shown are those "
        f"nearest to the limit of squares, {limit:g}.",
        labels,
        columns=n,
    )


def show_stricter() -> None:
    """The share of captions of single objects that are right with the checker's limits, and with higher ones."""
    rows = [row for row in measurements.load("captions") if row["set"] in SETS[:2] and row["w"] >= 2]
    rows.sort(key=lambda row: (SETS.index(row["set"]), row["w"]))
    plots.table(
        {
            "captions": [LINES[row["set"]][2] for row in rows],
            "w": [f"{row['w']:g}" for row in rows],
            "right, %": [f"{100 * row['shown']['all'] / row['n']:.1f}" for row in rows],
            f"with limits {STRICTER:g} higher": [f"{100 * row['stricter'] / row['n']:.1f}" for row in rows],
        },
        f"{JUDGED} captions a row.",
    )


def leaked(w: float, part: str, name: str = "two of held") -> list[int]:
    """Whose shape or size objects of a set have, drawn with w: counts as in WHOSE."""
    (row,) = (row for row in measurements.load("captions") if (row["set"], row["w"]) == (name, w))
    return row["leakage"][part]


def show_leakage(scales: tuple[float, ...] = (2.0, 8.0, 12.0)) -> None:
    """Whose shape and size objects have, in pictures of two."""
    cases = [(w, part) for part in ("shape", "size") for w in scales]
    counts = [leaked(w, part) for w, part in cases]
    plots.table(
        {"the object's": [f"{part}, w = {w:g}" for w, part in cases]}
        | {name: [f"{100 * count[k] / sum(count):.1f} %" for count in counts] for k, name in enumerate(WHOSE)},
        f"Objects of captions of two, one of them never trained, whose shapes (or sizes) differ: {sum(counts[0])} and "
        f"{sum(counts[-1])} at each w. The hue says which object is meant. Unsure: no shape fits well enough. No such "
        "object: its hue is missing.",
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
            "a U-Net works on": [*events, "**times less**"],
            "numbers": [f"{row[0]:,}" for row in rows] + [f"{ratio[0]:.0f}"],
            "places": [f"{row[1]:,}" for row in rows] + [f"{ratio[1]:.0f}"],
            "MFLOP a call": [f"{row[2]:,.0f}" for row in rows] + [f"{ratio[2]:.0f}"],
            "ms a call": [f"{row[3]:.1f}" for row in rows] + [f"{ratio[3]:.0f}"],
        },
        "A U-Net, as one can serve both; untrained, as the cost does not depend on what it knows. Processor time here.",
    )
