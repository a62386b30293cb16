"""Whether a device gives what the CPU gives: samples of every solver, and a run that goes on from its checkpoint."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from sections import Section, named
from steps import Run, advance, make_trainer, set_tf32, warmed_up
from torch import Tensor

from lessons_src import data, weights
from lessons_src.guidance import classifier_free
from lessons_src.samplers import sample
from lessons_src.schedules import linear, time_grid
from lessons_src.solvers import SOLVERS

TOLERANCES = {"oracle, float64": 1e-12, "oracle, float32": 1e-5, "digits, float32": 1e-4}  # relative, root mean square


def correctness(section: Section) -> None:
    """Every solver on the device and on the CPU from the same noise, guided with w = 2; then what else could differ.

    Grids are such that solvers do not enlarge rounding: close steps for the oracle, a start at t = 900 for the digits.
    """
    device, steps = section.device, section.sizes.solver_steps
    set_tf32(False)
    easy, net = linear(1000), weights.load("digits")[0].to(device)
    oracle, schedules = data.ring().network(easy), {"oracle": easy, "digits": net.schedule}
    nets = {"oracle": {"cpu": oracle, device: oracle}, "digits": {"cpu": weights.load("digits")[0], device: net}}
    states = {"oracle": data.noise(section.sizes.points, 2), "digits": data.noise(section.sizes.digits, 1, 28, 28)}
    grids = {"oracle": time_grid(easy, 2 * steps, "log_snr")}
    grids["digits"] = [900 - 900 * i // steps for i in range(steps + 1)]

    def end(name: str, case: str, place: str) -> Tensor:
        kind, dtype = case.split(", ")
        x = states[kind].to(place, getattr(torch, dtype))
        net = nets[kind][place]
        eps_fn = classifier_free(net, torch.arange(len(x), device=place) % net.num_classes, 2.0)
        options = {"generator": torch.Generator().manual_seed(0)} if SOLVERS[name].random else {}
        with mock.patch("lessons_src.samplers.noise_like", drawn_on_the_cpu):
            return sample(SOLVERS[name].run(eps_fn, x, schedules[kind], grids[kind], **options)).cpu()

    for name in SOLVERS:
        row: dict[str, Any] = {"solver": name} | dict.fromkeys(TOLERANCES)
        for case, tolerance in TOLERANCES.items():
            with section.attempt(f"{name}, {case}"):
                row[case] = difference(end(name, case, device), end(name, case, "cpu"))
                if not row[case] <= tolerance:
                    section.error(f"{name}, {case}: {row[case]:.1e} from the CPU, over {tolerance:g}")
        section.add(**row)
    section.note(f"Distance of the device's samples from the CPU's, relative, TF32 off. Tolerances: {TOLERANCES}.")
    expected = end("DDIM", "digits, float32", "cpu")
    for precision in ("TF32", "bfloat16"):
        with section.attempt(f"DDIM in {precision}"):
            set_tf32(precision == "TF32")
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16"):
                found = end("DDIM", "digits, float32", device)
            section.note(f"DDIM, digits, in {precision}: {difference(found, expected):.1e}.")
    set_tf32(False)
    x, label = states["digits"].to(device, torch.float32), torch.arange(section.sizes.digits) % 10
    t = torch.full((len(x),), 500, device=device)

    def drawn(name: str, place: str) -> Tensor:
        generator = torch.Generator(place).manual_seed(3)
        return sample(SOLVERS[name].run(net, x, net.schedule, [500, 250, 0], generator=generator))

    def other_generator() -> str:
        try:
            return f"works, device {drawn('DDPM', 'cpu').device}"
        except (RuntimeError, TypeError, ValueError) as error:
            return f"refused: {named(error)}"

    checks: dict[str, Callable[[], bool | str]] = {
        "labels on the CPU are moved": lambda: torch.equal(net(x, t, label), net(x, t, label.to(device))),
        "one label for all": lambda: torch.equal(net(x, t, 3), net(x, t, torch.full_like(t, 3))),
        "no label is the null label": lambda: torch.equal(net(x, t), net(x, t, 10)),
        "same seed, same samples": lambda: all(
            torch.equal(drawn(name, device), drawn(name, device)) for name in SOLVERS if SOLVERS[name].random
        ),
        "states on the device, generator on the CPU": other_generator,
    }
    for what, check in checks.items():
        with section.attempt(what), torch.no_grad():
            section.add(check=what, found=check())
            if section.rows[-1]["found"] is False:
                section.error(f"{what}: no")


def drawn_on_the_cpu(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise like x, the same on every device."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def difference(found: Tensor, expected: Tensor) -> float:
    """Root mean square difference over root mean square of what is expected."""
    return ((found - expected).double().norm() / expected.double().norm()).item()


def checkpoint(section: Section) -> None:
    """A run beside its repetition, one that goes on from its checkpoint, and one whose every step is a CUDA graph."""
    batch, half = section.sizes.checkpoint
    run = Run("small", batch, 2 * half, 2e-3, 0.9)
    set_tf32(False)

    def trained(how: str) -> dict[str, Tensor]:
        trainer = make_trainer(run, precision, section.device)
        if how == "resumed":
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(half):
                    trainer.step()
                trainer.save(Path(folder) / "run.pt")
                trainer = make_trainer(run, precision, section.device)
                trainer.load(Path(folder) / "run.pt")
        if how == "recorded":
            warmed_up(trainer.step)
            pool = torch.cuda.graph_pool_handle()
            graphs = []  # they live to the end, and with them the memory they share
            while trainer.step_count < run.steps:
                graphs.append(advance(trainer, 1, pool))
        for _ in trainer.run():
            pass
        return {name: value.double().cpu() for name, value in trainer.averaged.state_dict().items()}

    def verdict(found: dict[str, Tensor]) -> str:
        gaps = {name: (found[name] - expected[name]).abs().max().item() for name in found}
        worst = max(gaps, key=lambda name: gaps[name])
        return f"up to {gaps[worst]:.1e} apart, in {worst}" if gaps[worst] else "bit for bit the same"

    for deterministic in (False, True) if section.cuda else (False,):
        for precision in ("float32", "bfloat16"):
            torch.backends.cudnn.deterministic = deterministic
            row: dict[str, Any] = {"precision": precision, "cuDNN deterministic": deterministic}
            with section.attempt(f"{row}, straight"):
                expected = trained("straight")
                for how in ("straight", "resumed", "recorded") if section.cuda else ("straight", "resumed"):
                    with section.attempt(f"{row}, {how}"):
                        row[how if how != "straight" else "run twice"] = verdict(trained(how))
            section.add(**row)
    torch.backends.cudnn.deterministic = False
