"""Measure what lessons show but have no time to compute: `make measurements`.

One row at a time, so that it can be stopped and started again. Remove a file to measure it anew.
"""

import argparse
import base64
import json
import platform
import shlex
import time
import zlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from lessons_src import data, latency, weights
from lessons_src.evaluation import digit_quality, in_batches
from lessons_src.files import write_whole
from lessons_src.lessons.lesson_07 import steering
from lessons_src.lessons.lesson_11 import digits, ring
from lessons_src.lessons.lesson_12 import measured, rivals
from lessons_src.lessons.lesson_13.detection import NONE, Detection
from lessons_src.lessons.lesson_13.faults import FAULTS
from lessons_src.lessons.lesson_14 import on_digits, paradigms
from lessons_src.losses import Denoising, Samples
from lessons_src.make.students import judges
from lessons_src.measurements import (
    AVERAGE_EPS,
    FOLDER,
    PARETO,
    RECIPES,
    SAMPLERS,
    STARTS,
    Row,
    digest,
    draw,
    in_hundreds,
    jackknife_error,
    load,
    resample,
    start_noise,
)
from lessons_src.metrics import class_spread, frechet_distance
from lessons_src.networks import UNET_PRESETS, NoisePredictor, UNet
from lessons_src.samplers import EpsFn, State, sample
from lessons_src.scenes import SETS
from lessons_src.schedules import NoiseSchedule, make_schedule, time_grid
from lessons_src.solvers import SOLVERS
from lessons_src.students import few_steps
from lessons_src.training import Recipe, Trainer, train

N = 1000
STEERED = (  # guide, base, where it starts, scales
    (steering.AWARE, "unconditional", 1000, (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 15.0)),
    (steering.FREE, "its own", 1000, (1.0, 1.2, 1.5, 2.0)),
    (steering.CLIP, "unconditional", 1000, (1.0, 2.0, 4.0, 8.0, 15.0)),
    (steering.CLEAN, "unconditional", 1000, (1.0,)),
    (steering.CLEAN, "unconditional", 950, (1.0, 3.0, 8.0)),
    (steering.AWARE, "conditional", 1000, (0.5, 1.0, 2.0, 4.0)),
    (steering.CLIP, "conditional", 1000, (0.5, 1.0, 2.0)),
    (steering.CLIP_CLEAN, "unconditional", 950, (10.0, 100.0)),
)
STEPS = (5, 10, 20, 50, 100, 1000)
SCALES = (0.0, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
FACTORS = (0.125, 0.5, 1.0, 2.0, 8.0)  # times standardised latents
EVALUATIONS = (4, 5, 6, 8, 10, 15, 20, 30, 50)
MANY_EVALUATIONS = (*EVALUATIONS, 100, 250, 1000)  # of the two that older papers count in hundreds


def judged(x: Tensor, kept: int = 10) -> Row:
    """Scores of digits from `draw`: `digit_quality`, spread within classes against real digits; and the first ones."""
    judge, reference = judges()
    label, real_label = start_noise(len(x))[1], data.digits("test")[1]
    spread = class_spread(in_batches(judge.features, x), label)
    relative = {"spread": spread / class_spread(reference.real, real_label)}
    scores = digit_quality(reference, judge, x, label)._asdict() | relative
    first = ((x[:kept] + 1) * 127.5).round().byte().numpy().tobytes()
    return scores | {"digits": base64.b64encode(zlib.compress(first, 9)).decode("ascii")}


def measure_steps(row: Row) -> Row:
    """One sampler at one number of steps, without guidance; one step is one network evaluation."""
    return judged(draw(weights.load("digits")[0], N, row["sampler"], row["steps"]))


def measure_solver(row: Row) -> Row:
    """One solver with a budget of network evaluations, without guidance, from the time `start` down.

    With the standard error of its distance, and the distances of bootstrap samples, which pair those of two rows.
    """
    net, solver = weights.load("digits")[0], SOLVERS[row["solver"]]
    below = NoiseSchedule(net.schedule.alpha_bar[: row["start"] + 1])
    times = time_grid(below, solver.steps(row["nfe"]), row["grid"])

    def run(eps_fn: EpsFn, x: Tensor, generator: torch.Generator) -> Iterator[State]:
        noise = {"generator": generator} if solver.random else {}
        return solver.run(eps_fn, x, net.schedule, times, **noise)

    return _paired(in_hundreds(net, N, 1.0, run))


def measure_student(row: Row) -> Row:
    """A student of the digit network, or a solver of it in as few evaluations; in the form of `measure_solver`."""
    if row["solver"] in SOLVERS:
        net = weights.load("digits")[0]
        solver, times = SOLVERS[row["solver"]], time_grid(net.schedule, row["nfe"])
        return _paired(in_hundreds(net, N, 1.0, lambda eps_fn, x, g: solver.run(eps_fn, x, net.schedule, times)))
    student = weights.load(f"student-{row['nfe']}")[0]
    parts = zip(*(part.split(100) for part in start_noise(N)), strict=True)
    return _paired(torch.cat([sample(few_steps(student, x, label)) for x, label in parts]).clamp(-1, 1))


def _paired(x: Tensor) -> Row:
    """Scores of digits with their standard error, and the distances of bootstrap samples."""
    judge, reference = judges()
    features, label = in_batches(judge.features, x), start_noise(N)[1]
    scores = torch.tensor([frechet_distance(features[index], reference.real) for index in resample(label)])
    stored = base64.b64encode(scores.numpy().tobytes()).decode("ascii")
    return judged(x) | {"standard error": jackknife_error(_left_out(x)), "resampled": stored}


def _left_out(x: Tensor) -> list[float]:
    """The feature-Frechet distance of x to the test digits when one tenth of x after the other is left out."""
    judge, reference = judges()
    features = in_batches(judge.features, x)
    group = torch.arange(len(x)) * 10 // len(x)
    return [frechet_distance(features[group != k], reference.real) for k in range(10)]


def measure_guidance(row: Row) -> Row:
    """One guidance scale, 20 DDIM steps. The distances without each tenth give errors of rows and of differences."""
    x = draw(weights.load("digits")[0], N, w=row["w"])
    return judged(x) | {"frechet without a tenth": _left_out(x)}


def measure_recipes(row: Row) -> Row:
    """Train the small network for 1,500 steps with one thing changed; scores at w = 1 and for no label, 20 steps."""
    usual = {"schedule": "cosine", "prediction": "v", "precision": "auto", "blind": False, "label_drop": 0.1}
    change = usual | {"grid": "linspace"} | RECIPES[row["recipe"]]
    recipe = Recipe(1500, 32, ema=0.995, seed=row["seed"])
    torch.manual_seed(recipe.seed)
    body = UNet(**UNET_PRESETS["small"])
    if change["blind"]:
        body.time.frequencies.zero_()
    net = NoisePredictor(body, make_schedule(change["schedule"], 1000), change["prediction"])
    loss, samples = Denoising(change["label_drop"]), Samples(*data.digits("train"))
    trainer = Trainer(net, loss, samples, recipe, precision=change["precision"])
    losses: list[float] = []
    net = train(trainer, lambda progress: losses.append(progress.loss), report_every=300)
    without = judged(draw(net, N, w=0.0, grid=change["grid"]))
    run = {"trained in": trainer.precision, "last loss": losses[-1]}
    return run | judged(draw(net, N, grid=change["grid"])) | {"frechet without label": without["frechet"]}


@cache
def _detection() -> Detection:
    return Detection(judges()[0])


def measure_detection(row: Row) -> Row:
    """How often each needle gives the alarm when a fault is planted in real digits; without one, their bands too."""
    found = _detection().alarms(row["fault"])
    return found if row["fault"] != NONE else found | {"bands": _detection().bands()}


def measure_reading(row: Row) -> Row:
    """How one classifier reads test digits at one noise level, and where its gradient points."""
    return steering.read_noisy(row["guide"], row["t"])


def measure_steering(row: Row) -> Row:
    """One guide at one scale, 20 DDIM steps: what it reads itself, what the judge does, how the caption fits."""
    label = start_noise(N)[1]
    x, cost = steering.draw(row["guide"], row["w"], N, row["base"] == "conditional", row["start"])
    judge, embedding = judges()[0], weights.load("embedding")[0]
    with torch.no_grad():
        cosine = embedding.cosine(x, steering.tokens_for(label)).mean().item()
    right = {"guide": steering.reads(row["guide"], x) == label, "judge": in_batches(judge, x).argmax(1) == label}
    bits = {f"{name} is right": steering.packed(hits) for name, hits in right.items()}
    own = {"guide accuracy": right["guide"].double().mean().item(), "cosine": cosine}
    return judged(x) | own | cost | bits | {"frechet without a tenth": _left_out(x)}


def measure_ring(row: Row) -> Row:
    """Students on the ring by one method, from one seed."""
    return ring.measured(row["method"], row["seed"])


def measure_ends(row: Row) -> Row:
    """Where one-call students on the ring end from the noise of the explorer."""
    points = ring.draw(ring.distil(row["method"], row["seed"])[1], ring.start(ring.EXPLORED, ring.EXPLORED_SEED))
    stored = base64.b64encode(points.float().numpy().tobytes()).decode("ascii")
    return {"n": len(points), "points": stored}


def measure_adapter(row: Row) -> Row:
    """An adapter that folds guidance into two calls of the digit network, and its error to the student it learns from.

    The first row, of rank 0 and "none", is the network itself on the same grid; "trained" with rank 0 trains all. The
    rows of `digits.OTHERS` are other networks: as they are with rank 0, and with the shipped adapter of rank 8.
    """
    noise, label = start_noise(N)
    how, rank = row["how"], row["rank"]
    net, numbers = {
        "none": lambda: (digits.network(), 0),
        "trained": lambda: digits.adapted(rank),
        "extracted": lambda: digits.extracted(rank),
        **{other: partial(digits.other, other, rank) for other in digits.OTHERS},
    }[how]()
    x = digits.drawn(digits.as_guided(net), noise, label)
    error = (x - digits.drawn(digits.guided(), noise, label)).square().mean().sqrt().item()
    return {"kB": 2 * numbers / 1000, "error": error} | judged(x)


def measure_collapse(row: Row) -> Row:
    """Distribution matching alone at one call: without a fake network, without a warm start, with both."""
    noise, label = start_noise(N)
    return judged(digits.drawn(digits.collapsed(row["case"]), noise, label), kept=30)


def measure_captions(row: Row) -> Row:
    """What the shipped transformer draws of captions of one set, at one guidance scale."""
    return measured.measured_captions(row["set"], row["w"])


def measure_latent_scale(row: Row) -> Row:
    """A small network, taught in latents that are multiplied by a factor."""
    return measured.measured_scale(row["factor"], row["seed"])


def measure_pixels(row: Row) -> Row:
    """A small network taught in latents or pixels, in equal time; or what no such network can pass."""
    return rivals.floors()[row["arm"]] | {"n": rivals.JUDGED} if "seed" not in row else rivals.raced(**row)


def measure_rates(row: Row) -> Row:
    """An autoencoder by the weight of KL in its loss."""
    return rivals.coded(row["kl"])


def measure_edits(row: Row) -> Row:
    """Captions of which a word is changed, while the maps of words are kept for a share of the steps."""
    return rivals.edited(**row)


def measure_paradigms(row: Row) -> Row:
    """One of the four paradigms on the ring, from one seed."""
    return paradigms.measured(row["paradigm"], row["seed"])


def measure_drawers(row: Row) -> Row:
    """Diffusion, GAN or VAE on digits, trained for equal seconds from one seed; judged as all digits are."""
    x, found = on_digits.measured(row["paradigm"], row["seed"])
    return found | judged(x)


def measure_call(row: Row) -> Row:
    """Milliseconds that one evaluation of a shipped network works, n samples at a time."""
    speed = latency.measure(weights.load(row["network"])[0], (row["n"],), turns=20, clock=time.process_time)
    return {"ms": 1000 * speed.seconds(row["n"])}


def start_for(solver: str, nfe: int) -> Row:
    """Where a solver of the front begins, and its grid.

    Those that average eps begin below T if calls are few, which costs less than T does. If calls are many, they begin
    at T, in equal steps of log-SNR. The measurement "starts" compares the two.
    """
    if solver not in AVERAGE_EPS:
        return {"start": 1000, "grid": "linspace"}
    return {"start": 980, "grid": "linspace"} if nfe <= 15 else {"start": 1000, "grid": "log_snr"}


def wanted(name: str) -> Iterator[Row]:
    """The rows that a measurement should have, before they are measured, cheap ones first."""
    if name == "steps":
        yield from ({"sampler": sampler, "steps": steps} for steps in STEPS for sampler in SAMPLERS)
    elif name == "pareto":
        for nfe in MANY_EVALUATIONS:
            for solver in PARETO:
                if nfe >= SOLVERS[solver].nfe(4) and (nfe in EVALUATIONS or solver in ("DDPM", "DDIM")):
                    yield {"solver": solver, "nfe": nfe, **start_for(solver, nfe)}
    elif name == "starts":
        for solver, budgets in STARTS.items():
            for nfe in budgets:
                for start, grid in ((1000, "linspace"), (1000, "log_snr"), (980, "linspace")):
                    yield {"solver": solver, "nfe": nfe, "start": start, "grid": grid}
    elif name == "guidance":
        yield from ({"w": w} for w in SCALES)
    elif name == "detection":
        yield from ({"fault": fault} for fault in (NONE, *FAULTS))
    elif name == "reading":
        yield from ({"guide": g, "t": t} for t in (1, *range(100, 1001, 100)) for g in (steering.AWARE, steering.CLEAN))
    elif name == "steering":
        for guide, base, start, scales in STEERED:
            yield from ({"guide": guide, "base": base, "start": start, "w": w} for w in scales)
    elif name == "ring":
        yield from ({"method": method, "seed": 0} for method in ring.SEARCHED)
        yield from ({"method": method, "seed": seed} for seed in range(5) for method in ring.METHODS)
        yield from ({"method": ring.LONGER, "seed": seed} for seed in range(3))
    elif name == "ends":
        yield from ({"method": method, "seed": 0} for method in ring.EXPLORED_METHODS)
    elif name == "students":
        yield from ({"solver": "student", "nfe": calls} for calls in (1, 2, 4))
        yield from ({"solver": solver, "nfe": calls} for calls in (1, 2, 3) for solver in ("DDIM", "UniPC-2"))
    elif name == "adapter":
        yield {"how": "none", "rank": 0}
        yield from ({"how": how, "rank": rank} for rank in digits.RANKS for how in ("extracted", "trained"))
        yield {"how": "trained", "rank": digits.EVERY}
        yield from ({"how": other, "rank": rank} for other in digits.OTHERS for rank in (0, digits.SHIPPED))
    elif name == "captions":
        yield from ({"set": kind, "w": w} for w in (8.0, 12.0) for kind in SETS)
        yield from ({"set": kind, "w": w} for w in (0.0, 2.0, 5.0) for kind in SETS[:2])  # the card has w = 1, and 2
        yield {"set": SETS[-1], "w": 2.0}  # for the leakage
    elif name == "latent scale":
        yield from ({"factor": factor, "seed": seed} for seed in (0, 1) for factor in FACTORS)
    elif name == "pixels":
        yield from ({"arm": floor} for floor in ("scenes", "reconstructed"))
        yield from ({"arm": arm, "seed": seed} for seed in rivals.SEEDS for arm in rivals.ARMS)
    elif name == "rates":
        yield from ({"kl": kl} for kl in rivals.RATES)
    elif name == "edits":
        yield from ({"word": word, "kept": kept} for word in rivals.WORDS for kept in rivals.KEPT)
    elif name == "collapse":
        yield from ({"case": case} for case in digits.CASES)
    elif name == "paradigms":
        yield from ({"paradigm": name, "seed": seed} for seed in range(5) for name in paradigms.PARADIGMS)
    elif name == "drawers":
        yield from ({"paradigm": name, "seed": seed} for seed in range(2) for name in on_digits.DRAWERS)
    elif name == "call":
        yield {"network": "digits", "n": 1}
    else:
        yield from ({"recipe": recipe, "seed": seed} for seed in (0, 1) for recipe in RECIPES)


MEASURE = {
    "steps": measure_steps,
    "guidance": measure_guidance,
    "recipes": measure_recipes,
    "pareto": measure_solver,
    "starts": measure_solver,
    "detection": measure_detection,
    "reading": measure_reading,
    "steering": measure_steering,
    "ring": measure_ring,
    "ends": measure_ends,
    "students": measure_student,
    "adapter": measure_adapter,
    "collapse": measure_collapse,
    "captions": measure_captions,
    "latent scale": measure_latent_scale,
    "pixels": measure_pixels,
    "rates": measure_rates,
    "edits": measure_edits,
    "paradigms": measure_paradigms,
    "drawers": measure_drawers,
    "call": measure_call,
}


def measure(name: str, folder: Path = FOLDER) -> None:
    """Measure the rows of `name` that are missing, writing the file after each."""
    path = folder / f"{name}.json"
    rows = load(name, folder) if path.exists() else []
    for row in wanted(name):
        if any(row.items() <= done.items() for done in rows):
            continue
        start = time.perf_counter()
        rows.append(row | MEASURE[name](row))
        shown = {key: value for key, value in rows[-1].items() if key not in ("digits", "points", "resampled")}
        print(f"{name}: {shown}, {time.perf_counter() - start:.0f} s", flush=True)
        found = {
            "command": f"python -m lessons_src.make.measurements --only {shlex.quote(name)}",
            "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
            "weights": digest(name),
            "precision": "float32",  # of sampling; rows of trained networks say with which they were trained
            "rows": rows,
        }
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        write_whole(path, lambda part, text=text: part.write_text(text))


def main() -> None:
    """Make the measurements that are missing."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.measurements", description=main.__doc__)
    parser.add_argument("--only", choices=MEASURE, help="make one of them")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for name in [only] if only else MEASURE:
        measure(name)


if __name__ == "__main__":
    main()
