"""What the deeper notebook of lesson 12 computes and draws: the autoencoder, shifts, gates, maps, edits, two races."""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn import functional as F

import lessons_src
from lessons_src import measurements, weights
from lessons_src.attention import attending
from lessons_src.latent import Autoencoder
from lessons_src.lessons.lesson_12 import rivals
from lessons_src.losses import Denoising
from lessons_src.metrics import wilson_interval
from lessons_src.networks import NoisePredictor
from lessons_src.process import add_noise
from lessons_src.scenes import Scenes, combinations, draw, paint, tokens, write
from lessons_src.schedules import cosine
from lessons_src.show import plots
from lessons_src.show.panels import colour
from lessons_src.text_to_image import DiT, captioned

BENCHMARKS = Path(lessons_src.__file__).parents[1] / "tests" / "benchmarks"
AB = cosine().alpha_bar
SIDES = (8, 32, 64, 128, 256, 512, 1024)
WORD_PLACES = {"a": 0, "size": 1, "hue": 2, "shape": 3}  # of the first object, in a caption
LEVELS = (100, 300, 500, 700, 900)


@cache
def codec() -> Autoencoder:
    """The shipped autoencoder."""
    return weights.load("scene_autoencoder")[0]


@cache
def dit() -> NoisePredictor:
    """The shipped transformer."""
    return weights.load("scene_dit")[0]


@cache
def unet() -> NoisePredictor:
    """The U-Net of the GPU search, which does not ship with the course."""
    return weights.load("unet-mixed", BENCHMARKS / "scenes_h200")[0]


def pairs(n: int, seed: int = 0) -> Scenes:
    """n scenes of two objects, of combinations that were trained."""
    return draw(combinations()["two seen"], n, torch.Generator().manual_seed(seed))


def percent(right: int, n: int) -> str:
    """A share with its 95 % interval, in per cent."""
    share, low, high = (100 * value for value in wilson_interval(right, n))
    return f"{share:.0f} ({low:.0f} to {high:.0f})"


def _picture(axis: Axes, x: Tensor, title: str = "") -> None:
    axis.imshow(colour(x), interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)


# --- The autoencoder


@torch.no_grad()
def layers() -> dict[str, list[str]]:
    """Parts of the autoencoder, the shapes that leave them, and their parameters."""
    found: dict[str, list[str]] = {"part": [], "leaves": [], "parameters": []}

    def told(half: str, name: str, part: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
            found["part"].append(f"{half}.{name}")
            found["leaves"].append(" × ".join(map(str, out.shape[1:])))
            found["parameters"].append(f"{sum(p.numel() for p in part.parameters()):,}")

        return hook

    net = codec()
    halves = (("encoder", net.encoder), ("decoder", net.decoder))
    hooks = [p.register_forward_hook(told(half, name, p)) for half, net_ in halves for name, p in net_.named_children()]
    net.decode(net.encode(torch.zeros(1, *net.image)))
    for hook in hooks:
        hook.remove()
    return found


def reach(share: float = 0.99) -> tuple[int, int]:
    """Sides of the squares that hold this share of what one latent place sees, and of what it changes when decoded.

    Squares of gradients, on 20 scenes, summed: group norm lets each place depend a little on all the others.
    """
    net = codec()
    x = paint(pairs(20)).requires_grad_()
    z = net.encode(x)
    (seen,) = torch.autograd.grad(z[:, :, 4, 4].sum(), x)
    other = z.detach().clone()
    other[:, :, 4, 4] += 0.5
    with torch.no_grad():
        moved = net.decode(other) - net.decode(z.detach())
    sides = []
    for change in (seen, moved):
        energy = change.square().sum((0, 1))
        held = [energy[max(0, 16 - r) : 20 + r, max(0, 16 - r) : 20 + r].sum() / energy.sum() for r in range(13)]
        sides.append(4 + 2 * next(r for r, part in enumerate(held) if part > share))
    return sides[0], sides[1]


@torch.no_grad()
def show_reconstructions(n: int = 6) -> None:
    """Scenes, what comes back, and where the two differ, five times enlarged."""
    x = paint(pairs(n))
    again = codec().decode(codec().encode(x))
    error = (again - x).abs()
    contrast = (F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)).amax(1) > 0.5
    at_edges, elsewhere = (error.mean(1)[part].mean().item() for part in (contrast, ~contrast))
    rows = {"scenes": x, "and back": again, "difference × 5": 5 * error - 1}
    plots.image_rows(
        rows,
        f"Scenes, through {math.prod(codec().event)} numbers and back, and the difference, five times enlarged. Of a "
        f"range of 2, pixels at edges are {at_edges:.3f} off, others {elsewhere:.3f}.",
    )


def show_rates() -> None:
    """The error of pictures, and what is left with noise on the latents, by what the encoder may say."""
    rows = measurements.load("rates")
    fig, axes = plots.figure(columns=2, width=8.6, height=3.2)
    left, right = axes[0]
    nats = [row["nats"] for row in rows]
    left.semilogx(nats, [row["error"] for row in rows], "o-", color=plots.BLUE)
    left.set(title="error a pixel", xlabel="KL, nats a picture", ylim=(0, None))
    for level, color, dash in (("0", plots.BLUE, "-"), ("0.5", plots.VERMILLION, "--")):
        shares = [100 * row[f"shown, noise {level}"]["all"] / row["n"] for row in rows]
        right.semilogx(nats, shares, dash, marker="o", color=color, label=f"latent noise {level}")
    right.set(title="read right, %", xlabel="KL, nats a picture", ylim=(0, 103))
    right.legend()
    for row in rows:
        left.annotate(f"{row['kl']:g}", (row["nats"], row["error"]), xytext=(4, 6), textcoords="offset points")
    first, last = rows[0], rows[-1]
    plots.show(
        fig,
        f"Four autoencoders, taught alike but for the weight of KL, which stands beside the dots. At {first['kl']:g} "
        f"they say {first['nats']:,.0f} nats a picture, at {last['kl']:g} {last['nats']:.0f}. Right: what the checker "
        "reads behind them, with noise of 0.5 on standardised latents, and without.",
    )


# --- Scale and side


def shift(side: float) -> float:
    """How far simple diffusion moves log-SNR for pictures of a side, against side 64 (Hoogeboom et al. 2023)."""
    return 2 * math.log(64 / side)


def averaged_noise(k: int, side: int = 512, seed: int = 0) -> float:
    """k^2 times the variance of the means of k x k blocks of noise, which should be 1."""
    noise = torch.randn(8, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return k**2 * F.avg_pool2d(noise, k).var().item()


def show_shifts() -> None:
    """log-SNR over time, for pictures or latents of several sides; and one picture at one level, in two sizes."""
    fig, axes = plots.figure(columns=2, width=8.6, height=3.4)
    left, right = axes[0]
    t = torch.linspace(0.02, 0.98, 200, dtype=torch.float64)
    plain = -2 * (math.pi * t / 2).tan().log()
    for side, color, dash in zip((8, 64, 256, 1024), plots.COLOURS[1:], plots.DASHES * 2, strict=False):
        left.plot(t, plain + shift(side), dash, color=color, label=f"side {side}")
    left.set(title="log-SNR", xlabel="t, as a share of T", ylim=(-14, 14))
    left.legend(fontsize=9)
    sides = (64, 128, 256, 512, 1024)
    small = rivals.scenes(1, 4)
    x = paint(small)
    found = []
    for side in sides:
        large = F.interpolate(x, size=(side, side), mode="nearest")
        noise = torch.randn(large.shape, generator=torch.Generator().manual_seed(0))
        seen = F.avg_pool2d(add_noise(large, noise, 0.5), side // 32)
        found.append((seen - 0.5**0.5 * x).std().item())
    right.loglog(sides, found, "o-", color=plots.BLUE)
    right.set(title="noise left on 32 × 32 blocks", xlabel="side of the picture")
    right.minorticks_off()
    right.set_xticks(sides, [str(side) for side in sides])
    right.set_yticks([0.02, 0.05, 0.1, 0.2, 0.4], ["0.02", "0.05", "0.1", "0.2", "0.4"])
    plots.show(
        fig,
        "Left: the cosine schedule, shifted by 2 log(64 / side). Right: one scene, enlarged, at log-SNR 0, then "
        f"averaged back to 32 × 32. What noise is left falls from {found[0]:.2f} to {found[-1]:.2f}: the same level "
        "hides less of a larger picture.",
    )


# --- The transformer


def first_gradients(steps: int = 3) -> dict[str, list[float]]:
    """Root mean square gradients of a new transformer in its first steps of gradient descent, by kind of weight."""
    torch.manual_seed(0)
    net, generator = NoisePredictor(DiT(), cosine(), "v"), torch.Generator().manual_seed(0)
    samples, blocks = captioned(codec(), pairs(32), generator), net.body.blocks
    kinds = {
        "last layer": [net.body.leave],
        "blocks: modulation": [block.modulate for block in blocks],
        "blocks: attention": [block.attention for block in blocks],
        "blocks: cross-attention": [block.cross for block in blocks],
        "blocks: MLP": [block.mlp for block in blocks],
        "first layer": [net.body.enter],
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(steps):
        net.zero_grad()
        Denoising()(net, (samples.x0, samples.label), generator).each.mean().backward()
        for kind, parts in kinds.items():
            own = [p.grad.flatten() for part in parts for p in part.parameters()]
            found[kind].append(torch.cat(own).square().mean().sqrt().item())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.5 * parameter.grad
    return found


@torch.no_grad()
def gates(caption: str = "a small red circle left of a large blue square") -> Tensor:
    """Mean size of the gates of attention and MLP, (2, blocks, times), of the shipped transformer at LEVELS."""
    body, t = dit().body, torch.tensor(LEVELS)
    condition, _, _ = body.embed(t.float(), tokens([caption]).expand(len(t), -1))
    parts = [block.modulate(condition).chunk(6, -1) for block in body.blocks]
    return torch.stack([torch.stack([part[k].abs().mean(1) for part in parts]) for k in (2, 5)])


def show_gates() -> None:
    """How far the gates have opened, by block and time."""
    fig, axes = plots.figure(columns=2, width=8.6, height=3.0)
    found = gates()
    for axis, part, title in zip(axes[0], found, ("gate of attention", "gate of the MLP"), strict=True):
        for block, (row, color, dash) in enumerate(zip(part, plots.COLOURS[1:], plots.DASHES * 2, strict=False)):
            axis.plot(LEVELS, row, dash, marker="o", color=color, label=f"block {block + 1}")
        axis.set(title=title, xlabel="t", ylim=(0, None))
    axes[0, 1].legend(fontsize=9)
    plots.show(
        fig,
        "Mean size of the gates of the shipped transformer. All began at 0. Now they lie between "
        f"{found.min():.2f} and {found.max():.2f}, and change with t.",
    )


# --- What words look at


@torch.no_grad()
def _kept_maps(net: NoisePredictor, scenes: Scenes, t: int) -> dict[str, Tensor]:
    """Maps of cross-attention, mean over heads, (B, places, words), by layer, of scenes under noise."""
    seen: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    z = codec().encode(paint(scenes))
    x = add_noise(z, torch.randn(z.shape, generator=generator), AB[t].item())

    def keep(name: str, maps: Tensor) -> Tensor:
        seen[name] = maps.mean(1)
        return maps

    with attending(net, keep):
        net(x, torch.full((len(x),), t), tokens(write(scenes)))
    return seen


def inside(maps: Tensor, scenes: Scenes) -> list[float]:
    """In which share of scenes the map of each of WORD_PLACES is largest within the first object."""
    side = math.isqrt(maps.shape[1])
    top = maps.argmax(1)[:, list(WORD_PLACES.values())]
    pixel = 32 / side
    x, y = (pixel * (part + 0.5) for part in (top % side, top // side))
    near = scenes.radius[:, :1] + 1
    found = ((x - scenes.x[:, :1]).abs() < near) & ((y - scenes.y[:, :1]).abs() < near)
    return found.double().mean(0).tolist()


@cache
def pointing(t: int, n: int = 200) -> dict[str, list[float]]:
    """`inside`, by layer of the transformer and of the U-Net."""
    scenes, found = pairs(n, 1), {}
    for kind, net in (("DiT", dit()), ("U-Net", unet())):
        for name, maps in _kept_maps(net, scenes, t).items():
            part = name.removeprefix("body.").removesuffix(".cross").removesuffix(".attention")
            label = f"block {int(part[-1]) + 1}" if kind == "DiT" else part.removeprefix("look_")
            found[f"{kind}, {label}"] = inside(maps, scenes)
    return found


def show_pointing() -> None:
    """Which words point at their object: by layer at t = 300, and for the hue word by time."""
    fig, axes = plots.figure(columns=2, width=9.2, height=3.4)
    left, right = axes[0]
    found = pointing(300)
    table = torch.tensor(list(found.values()))
    left.imshow(table, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    left.set_xticks(range(len(WORD_PLACES)), list(WORD_PLACES))
    left.set_yticks(range(len(found)), list(found), fontsize=9)
    left.set_title("points at its object, %")
    left.grid(False)
    for row, shares in enumerate(found.values()):
        for column, share in enumerate(shares):
            color = "white" if share < 0.55 else "#111111"
            left.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color=color)
    for name, color, dash in (("DiT, block 3", plots.BLUE, "-"), ("U-Net, up", plots.VERMILLION, "--")):
        right.plot(LEVELS, [100 * pointing(t)[name][2] for t in LEVELS], dash, marker="o", color=color, label=name)
    right.set(title="the hue word, by time, %", xlabel="t", ylim=(0, 103))
    right.legend()
    best = max(found, key=lambda name: found[name][2])
    plots.show(
        fig,
        "In how many of 200 scenes of two objects the map of a word of the first is largest within that object, at "
        f"t = 300. Best: the hue word, {100 * found[best][2]:.0f} % in {best}. Right: the hue word again. At t = 900, "
        f"in noise, it still is {100 * pointing(900)['DiT, block 3'][2]:.0f} % in block 3.",
    )


# --- One word changed


@torch.no_grad()
def show_edited() -> None:
    """Four captions; their pictures after a change of hue, drawn freely and with maps kept for half the way."""
    asked, maps = rivals.scenes(8, 11), []
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    other, rows = rivals.changed(asked, "hue"), {}
    rows["first caption"] = rivals.drawn(asked, noise, maps, None)
    for name, share in (("other hue, freely", 0.0), ("maps kept, half", 0.5)):
        rows[name] = rivals.drawn(other, noise, maps, share)
    rows["other shape, freely"] = rivals.drawn(rivals.changed(asked, "shape"), noise, maps, 0.0)
    rows["maps kept, half "] = rivals.drawn(rivals.changed(asked, "shape"), noise, maps, 0.5)
    told = "One word is changed, the noise stays. Kept are the maps of the first run, in the first half of the steps."
    plots.image_rows(rows, told)


def edits() -> dict[str, list[str]]:
    """The table of stored edits."""
    rows = measurements.load("edits")
    return {
        "word": [row["word"] for row in rows],
        "maps kept": [("never", "first half", "always")[int(2 * row["kept"])] for row in rows],
        "moved, pixels": [f"{row['moved']:.2f}" for row in rows],
        "stayed within 1, %": [percent(row["stayed"], row["n"]) for row in rows],
        "word obeyed, %": [percent(row["changed"], row["n"]) for row in rows],
        "the rest as asked, %": [percent(row["rest"], row["n"]) for row in rows],
        "all right, %": [percent(row["right"], row["n"]) for row in rows],
    }


# --- Two races


def arms() -> dict[str, list[dict[str, Any]]]:
    """Stored rows of the race of latents and pixels, by arm."""
    rows = [row for row in measurements.load("pixels") if "seed" in row]
    return {arm: [row for row in rows if row["arm"] == arm] for arm in rivals.ARMS}


def floor(name: str) -> dict[str, Any]:
    """The stored scores of "scenes", or of scenes that were "reconstructed"."""
    return next(row for row in measurements.load("pixels") if row["arm"] == name)


def show_race() -> None:
    """Captions right, and distance to real scenes, by processor seconds of training."""
    fig, axes = plots.figure(columns=2, width=9.0, height=3.4)
    left, right = axes[0]
    ends = {}
    for (arm, rows), color, dash in zip(arms().items(), plots.COLOURS[1:], plots.DASHES, strict=False):
        seconds = torch.tensor([[look["seconds"] for look in row["looks"]] for row in rows])
        shown = torch.tensor([[100 * look["shown"]["all"] / row["n"] for look in row["looks"]] for row in rows])
        distance = torch.tensor([[look["distance"] for look in row["looks"]] for row in rows])
        for axis, values in ((left, shown), (right, distance)):
            axis.plot(seconds.mean(0), values.mean(0), dash, color=color, label=arm)
            axis.plot(seconds.T, values.T, "o", color=color, ms=3.5)
        ends[arm] = shown[:, -1].mean().item()
    again = floor("reconstructed")["distance"]
    right.axhline(again, color=plots.INK, linestyle=":")
    right.text(0, again, " scenes, reconstructed", color=plots.INK, va="bottom", fontsize=9.5)
    right.set_yscale("log")
    left.set(title="captions right, %", xlabel="processor seconds", ylim=(0, 100), xlim=(0, None))
    right.set(title="distance to scenes", xlabel="processor seconds", xlim=(0, None))
    left.legend(fontsize=9)
    told = ", ".join(f"{value:.0f} % ({arm})" for arm, value in ends.items())
    plots.show(
        fig,
        f"Three seeds each, dots, and their mean. After {rivals.SECONDS:g} s of one processor right are {told}. The "
        "dotted line is as far as scenes are that the autoencoder has coded and decoded.",
    )


def race() -> dict[str, list[str]]:
    """The table of that race, at its end; below it what the distance of scenes is, and of reconstructed ones."""
    rows: dict[str, list[str]] = {}
    for arm, runs in arms().items():
        ends = [row["looks"][-1] for row in runs]
        mean = {key: sum(end[key] for end in ends) / len(ends) for key in ("seconds", "drawing", "distance")}
        rows[arm] = [
            f"{runs[0]['MFLOP']:.1f}",
            f"{1000 * mean['seconds'] * len(ends) / sum(row['steps'] for row in runs):.0f}",
            f"{1000 * mean['drawing'] / runs[0]['n']:.1f}",
            f"{mean['distance']:.4f}",
            ", ".join(f"{100 * end['shown']['all'] / row['n']:.0f}" for end, row in zip(ends, runs, strict=True)),
        ]
    for name in ("reconstructed", "scenes"):
        row = floor(name)
        rows[name] = ["", "", "", f"{row['distance']:.4f}", f"{100 * row['shown']['all'] / row['n']:.0f}"]
    heads = ("MFLOP a call", "ms a training step", "ms a picture drawn", "distance", "captions right, %, by seed")
    return {"network on": list(rows)} | {head: [row[i] for row in rows.values()] for i, head in enumerate(heads)}


@cache
def searched() -> dict[str, dict[str, Any]]:
    """What the GPU search found, by job: one seed each, on an NVIDIA H200 beside other work."""
    found = json.loads((BENCHMARKS / "scenes_h200" / "results.json").read_text())
    return {job["name"]: job for job in found["jobs"]}


def looks(job: str, kind: str, w: int) -> list[tuple[float, float]]:
    """How many captions of a kind were right at a guidance scale, by the PFLOP of training until then.

    Operations are counted anew, with those of attention; a training step costs about three calls.
    """
    one = torch.zeros(1, 4, 8, 8), torch.tensor([500])
    each = 3e-9 * rivals.mflop({"unet-mixed": unet, "dit-mixed": dit}[job](), *one)
    curve = [look for look in searched()[job]["curve"] if "look" in look]
    return [(look["images"] * each, look["look"][kind][f"w={w}"]["all"]) for look in curve]


def show_bodies(kinds: Sequence[str] = ("one seen", "one held", "two seen", "two held")) -> None:
    """Captions right by the operations of training: U-Net and transformer."""
    fig, axes = plots.figure(columns=len(kinds), width=9.4, height=2.9)
    names = {"unet-mixed": "U-Net", "dit-mixed": "DiT"}
    for axis, kind in zip(axes[0], kinds, strict=True):
        for (job, name), color, dash in zip(names.items(), plots.COLOURS[1:], plots.DASHES, strict=False):
            points = looks(job, kind, 2)
            axis.plot(*zip(*points, strict=True), dash, marker="o", ms=3.5, color=color, label=name)
            axis.set(title=kind, ylim=(0, 1.03), xlim=(0, 0.4))
    axes[0, 0].set(ylabel="captions right, w = 2")
    axes[0, 0].legend(fontsize=9)
    axes[0, 1].set_xlabel("PFLOP of training")
    first = {name: looks(job, "two seen", 2)[1][1] for job, name in names.items()}
    plots.show(
        fig,
        "200 captions a dot, one run each, on one NVIDIA H200 beside other work. At the second look the U-Net has "
        f"{100 * first['U-Net']:.0f} % of pairs right, the transformer {100 * first['DiT']:.0f}; at the end they are "
        "alike.",
    )
