"""What the course does on a GPU: whether it is right there, how fast it is, and how soon its samples are good.

python tests/benchmarks/gpu.py [--device cuda] [--out FOLDER] [--minutes 8] [--only SECTION ...]
python tests/benchmarks/gpu.py --device cpu --smoke       # the whole path in tiny sizes

Prints a log, and writes gpu.json and gpu.md after every section. A section that fails, or runs out of its time, is
recorded with what it had found, and the next one starts. Needs torch, numpy and safetensors. Seconds are wall time,
the device waited for; timings are medians after a warm-up.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from agreement import checkpoint, correctness
from peers import PEERS, size
from sections import Section, named, run_section, write
from steps import (
    Run,
    advance,
    both_ways,
    clocked,
    drawing,
    make_trainer,
    measure,
    operations,
    seconds_of,
    set_tf32,
    timing_trainer,
    warmed_up,
)

from lessons_src import data, weights
from lessons_src.evaluation import accuracy, in_batches
from lessons_src.make.weights import generate
from lessons_src.metrics import frechet_distance
from lessons_src.networks import NoisePredictor
from lessons_src.training import checked_device

PRECISIONS = {"bfloat16": torch.bfloat16, "TF32": torch.float32, "float32": torch.float32}
JUDGED_BY = "w = 1, 20 DDIM steps"  # on the card of the shipped network, whose distance is to be reached
ACCURACY = 0.9
STRETCHES = 5  # a training run between two looks: in each, CUDA graphs keep one learning rate

RUNS = (  # tried in this order while there is time
    Run("small", 256, 500, 6e-3, 0.98),
    Run("base", 256, 500, 4e-3, 0.98),
    Run("small", 256, 1500, 5e-3, 0.99),
    Run("base", 256, 1500, 4e-3, 0.99),
    Run("small", 256, 500, 6e-3, 0.98, graph=False),
    Run("small", 512, 4000, 4e-3, 0.997),
    Run("base", 512, 3000, 3e-3, 0.997),
    Run("small", 1024, 6000, 4e-3, 0.998),
    Run("base", 1024, 4000, 3e-3, 0.998),
)


class Sizes(NamedTuple):
    """How much of everything is measured."""

    batches: tuple[int, ...] = (512, 2048, 128, 4096)
    compiled: tuple[tuple[str, int], ...] = (("base", 2048), ("small", 512), ("small", 2048), ("base", 512))
    backend: str = "inductor"
    points: int = 2000
    digits: int = 16
    solver_steps: int = 10
    checkpoint: tuple[int, int] = (128, 20)  # batch, and steps on either side of the checkpoint
    matrix: int = 8192
    timing: tuple[int, int, float] = (2, 5, 0.25)  # calls to warm up, rounds, the seconds they take together at least
    runs: tuple[Run, ...] = RUNS
    run_seconds: float = 60.0  # training seconds that all runs of a network may take together
    judged: int = 2000  # digits; the first half of them for the accuracy
    looks: int = 8
    peer_batch: int = 512
    ddim_steps: int = 20


SMOKE = Sizes(
    (2,), (("small", 2),), "eager", 50, 2, 5, (2, 1), 64, (0, 1, 0), (Run("small", 2, 4, 2e-3, 0.9),), 60, 80, 2, 2, 2
)


# --- Sections ---------------------------------------------------------------------------------------------------------


def ceilings(section: Section) -> None:
    """What the card itself does: a large product of random matrices in each precision, and a large copy."""
    n = section.sizes.matrix
    for precision, dtype in PRECISIONS.items():
        with section.attempt(precision):
            set_tf32(precision == "TF32")
            a, b = (torch.randn(n, n, device=section.device).to(dtype) for _ in range(2))
            section.peaks[precision] = 2 * n**3 / seconds_of(lambda a=a, b=b: a @ b, section)
            section.add(ceiling=f"matrix product, {precision}, TFLOP/s", found=section.peaks[precision] / 1e12)
    with section.attempt("copy"):
        source = torch.randn(4 * n * n, device=section.device)
        target = torch.empty_like(source)
        seconds = seconds_of(lambda: target.copy_(source), section)
        section.add(ceiling="copy, read and written, GB/s", found=2 * source.nbytes / seconds / 1e9)


def throughput(section: Section) -> None:
    """Training steps, bare forwards, and DDIM, as they come and as CUDA graphs."""
    for network in ("small", "base"):
        forward, step, besides = (number / 1e6 for number in operations(network))
        section.note(
            f"{network}: {forward:.0f} MFLOP an image forward, {step:.0f} trained, {besides:.0f} a step besides."
        )
    for precision in PRECISIONS:
        for batch in section.sizes.batches:
            for network in ("small", "base"):
                with section.attempt(f"{network}, {batch}, {precision}"):
                    set_tf32(precision == "TF32")
                    trainer = timing_trainer(network, batch, precision, section.device)
                    both_ways(section, (network, batch, precision), trainer, "")
                    if precision == "bfloat16":
                        measure(
                            section,
                            (network, batch, precision),
                            "DDIM",
                            drawing(trainer, precision, section.sizes.ddim_steps),
                        )
    section.note("CUDA graphs: measured." if section.cuda else "CUDA graphs: not on this device.")


def quality(section: Section) -> None:
    """Training seconds until samples are read as asked, and until they are as near as those of the shipped network."""
    sizes, device = section.sizes, section.device
    set_tf32(False)
    classifier, card = weights.load("classifier")[0].to(device), weights.load("digits")[1]["metrics"][JUDGED_BY]
    real = in_batches(classifier.features, data.digits("test")[0].to(device)).cpu()

    def judge(net: NoisePredictor) -> tuple[float, float]:
        x, label = generate(net, sizes.judged, 1.0, sizes.ddim_steps, seed=1)
        frechet, half = frechet_distance(in_batches(classifier.features, x).cpu(), real), sizes.judged // 2
        return accuracy(classifier, x[:half], label[:half]), frechet

    with section.attempt("the shipped network"):
        found = judge(weights.load("digits")[0].to(device))
        section.note(f"Shipped network here: read right {found[0]:.3f}, distance {found[1]:.3f}; its card: {card}.")
    spent = {run.network: 0.0 for run in sizes.runs}
    for run in sizes.runs:
        if spent[run.network] >= sizes.run_seconds:
            section.note(f"Not tried, the time of its network is used up: {run}")
            continue
        for graph in (True, False) if run.graph and section.cuda else (False,):  # without, should recording fail
            before, left = len(section.errors), sizes.run_seconds - spent[run.network]
            with section.attempt(str(run)):
                spent[run.network] += one_run(section, run._replace(graph=graph), judge, card["frechet"], left)
            if len(section.errors) == before:
                break


def one_run(
    section: Section, run: Run, judge: Callable[[NoisePredictor], tuple[float, float]], aim: float, left: float
) -> float:
    """Train for at most `left` seconds, looking at the samples now and then; adds a row and returns the seconds.

    One-time preparations and the first step, or three before recording, are apart; recording again is in the seconds.
    """
    trainer = make_trainer(run, "bfloat16", section.device)
    pool = torch.cuda.graph_pool_handle() if run.graph else None
    first = clocked((lambda: warmed_up(trainer.step)) if run.graph else trainer.step, section)
    parts, kept, seconds, looks = STRETCHES * section.sizes.looks, None, 0.0, []
    try:
        for part in range(1, parts + 1):
            stretch = round(run.steps * part / parts) - trainer.step_count
            start = time.perf_counter()
            if stretch > 0:
                kept = advance(trainer, stretch, pool)  # the graph before it lives until here, and its memory with it
            clocked(lambda: None, section)
            seconds += time.perf_counter() - start
            if part % STRETCHES == 0 or seconds > left:
                looks.append({"steps": trainer.step_count, "seconds": seconds})
                looks[-1] |= dict(zip(("accuracy", "frechet"), judge(trainer.ema), strict=True))
            if seconds > left or time.perf_counter() > section.until:
                break
    finally:
        del kept
        judged = [look for look in looks if "frechet" in look]
        right = next((look["seconds"] for look in judged if look["accuracy"] >= ACCURACY), None)
        near = next((look["seconds"] for look in judged if look["frechet"] <= aim), None)
        results = {"s to 90 %": right, "s to the distance": near, "s in all": seconds, "s to prepare": first}
        last = {name: judged[-1][name] if judged else None for name in ("accuracy", "frechet")}
        section.add(**run._asdict(), done=trainer.step_count, **results, **last, looks=looks)
    return seconds


def compiled(section: Section) -> None:
    """The rows of `throughput` with the body compiled: alone, recorded, and with the compiler's own CUDA graphs."""
    set_tf32(False)
    for network, batch in section.sizes.compiled:
        for how, mode in ((", compiled", None), (", reduce-overhead", "reduce-overhead")):
            with section.attempt(f"{network}, {batch}{how}"):
                torch.compiler.reset()
                trainer = timing_trainer(network, batch, "bfloat16", section.device)
                trainer.net.body.compile(backend=section.sizes.backend, mode=mode, dynamic=False)
                both_ways(section, (network, batch, "bfloat16"), trainer, how, graph=mode is None)


def peers(section: Section) -> None:
    """Training steps of other libraries as they come, if they are installed, beside this course's."""
    x, y = (part.to(section.device) for part in data.digits())
    batch = section.sizes.peer_batch
    for precision in ("bfloat16", "TF32"):
        set_tf32(precision == "TF32")
        for name in ("small", "base", *PEERS):
            with section.attempt(f"{name}, {precision}"):
                try:
                    if name in PEERS:
                        peer = PEERS[name](x, y, section.device, batch)
                        step, parameters = peer.step, peer.parameters
                    else:
                        trainer = timing_trainer(name, batch, precision, section.device)
                        step, parameters = trainer.step, size(trainer.net)
                except ImportError as error:
                    section.note(f"{name}, {precision}: skipped, {named(error)}")
                    continue
                with torch.autocast(torch.device(section.device).type, torch.bfloat16, enabled=precision == "bfloat16"):
                    rate = batch / seconds_of(step, section)
                title = name if name in PEERS else f"this course, {name}"
                row = {"library": title, "parameters": parameters, "batch": batch, "precision": precision}
                section.add(**row, **{"images/s": rate})


SECTIONS: dict[str, tuple[Callable[[Section], None], float]] = {  # and the seconds each may take
    "correctness": (correctness, 60),
    "checkpoint": (checkpoint, 25),
    "ceilings": (ceilings, 15),
    "throughput": (throughput, 95),
    "quality": (quality, 140),
    "compiled": (compiled, 100),
    "peers": (peers, 30),
}


def machine(device: str) -> dict[str, Any]:
    """What it ran on; ValueError if there is no such device."""
    checked_device(device)
    found = {"device": device, "python": platform.python_version(), "torch": torch.__version__}
    if torch.device(device).type == "cuda":
        found |= {"card": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
        found["cuDNN"] = torch.backends.cudnn.version()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the sections; 1 if something failed, or is wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=8.0, help="what is not begun by then is skipped")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="these sections")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see whether everything runs")
    options = parser.parse_args(arguments)
    deadline = time.perf_counter() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    about, peaks, sections = machine(options.device), {}, {}
    print(about, flush=True)
    for name in options.only:
        function, seconds = SECTIONS[name]
        until = deadline if options.smoke else min(time.perf_counter() + seconds, deadline)
        section = Section(options.device, SMOKE if options.smoke else Sizes(), until, peaks)
        sections[name] = section
        if time.perf_counter() >= deadline:
            section.status = "skipped: no time left"
        else:
            print(f"{name}:", flush=True)
            run_section(function, section)
        print(f"{name}: {section.status}, {section.seconds:.1f} s, {len(section.errors)} errors", flush=True)
        write(options.out, about, sections)
    return int(any(section.errors for section in sections.values()))


if __name__ == "__main__":
    sys.exit(main())
