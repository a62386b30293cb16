"""The explorations of the lessons: pure functions from a few settings to a picture, and their controls.

Each `*_picture` function can be called on its own; each `explore_*` function is what a lesson shows.
"""

import math
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor

from lessons_src import data
from lessons_src.guidance import classifier_free
from lessons_src.networks import Denoiser
from lessons_src.oracle import GaussianMixture, exact_flow
from lessons_src.process import add_noise
from lessons_src.samplers import Counted, ddim, sample, trajectory
from lessons_src.schedules import GRIDS, NoiseSchedule, linear, make_schedule, time_grid
from lessons_src.training import Progress, Trainer, print_progress, train
from lessons_src.widgets import Choice, Curves, Explorer, Images, Live, Picture, Points, Slider


def grey(x: Tensor) -> np.ndarray:
    """Images in [-1, 1], values beyond clipped, as uint8 from 0 (black) to 255 (white)."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


@cache
def _one_digit_each() -> Tensor:
    """The first test digit of each class, (10, 28, 28)."""
    x, y = data.digits("test")
    return torch.stack([x[y == digit][0, 0] for digit in range(10)])


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def forward_picture(digit: int, schedule: str) -> Picture:
    """A digit, one draw of noise, and their blend x_t at every twentieth time of the schedule (T = 1000)."""
    noise_schedule = make_schedule(schedule)
    x0, eps = _one_digit_each()[digit], _normal(28, 28).float()
    times = list(range(0, noise_schedule.T + 1, 20))
    alpha_bar = noise_schedule.alpha_bar[times]
    x_t = add_noise(x0.expand(len(times), -1, -1), eps.expand(len(times), -1, -1), alpha_bar)
    frames = torch.stack([x0.expand_as(x_t), eps.expand_as(x_t), x_t], 1)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return Picture(
        [
            Images("One line of arithmetic", grey(frames), ["clean x0", "noise eps", "noisy x_t"]),
            Curves(
                "The two coefficients",
                np.array(times),
                {"signal √ᾱ": signal.numpy(), "noise √(1-ᾱ)": noise.numpy()},
                "time t",
                "coefficient",
                (0.0, 1.05),
                marker=np.array(times),
            ),
        ],
        f"Digit {digit} under the {schedule} schedule.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        frame_texts=[
            f"At t = {t}, x_t = {a:.3f} x0 + {b:.3f} eps." for t, a, b in zip(times, signal, noise, strict=True)
        ],
        start=len(times) // 4,
    )


def explore_forward() -> Explorer:
    """Scrub the noise level of a digit of your choice."""
    return Explorer(
        forward_picture,
        [
            Choice("digit", "Digit", list(range(10)), 3),
            Choice("schedule", "Schedule", ["linear", "cosine"], "linear"),
        ],
    )


def schedule_picture(family: str, T: int, beta_end: float, s: float, c: float, size: int) -> Picture:
    """A digit at five times, alpha_bar and log-SNR of one schedule; only the family's own parameter counts."""
    own = {
        "linear": {"beta_end": beta_end},
        "cosine": {"s": s},
        "sigmoid": {"c": c},
        "shifted_cosine": {"size": size},
    }[family]
    schedule, reference = make_schedule(family, T, **own), linear()
    times = [round(T * part / 4) for part in range(5)]
    x0, eps = _one_digit_each()[3].expand(5, -1, -1), _normal(28, 28, seed=1).float().expand(5, -1, -1)
    x_t = add_noise(x0, eps, schedule.alpha_bar[times])
    u, same_u = np.arange(T + 1) / T, [round(1000 * t / T) for t in range(T + 1)]

    below = (schedule.log_snr < -1e-9).nonzero()  # the margin keeps rounding from deciding a tie
    half = f"Noise overtakes signal at t = {int(below[0])}" if len(below) else "Noise never overtakes signal"
    tail = (schedule.snr[1:] < 0.01).double().mean().item()
    (parameter, value), left = next(iter(own.items())), schedule.alpha_bar[-1].item()
    verdict = "practically nothing" if left < 1e-3 else "too much: sampling starts from pure noise"
    name = family.replace("_", " ")
    curves = {
        name: (schedule.alpha_bar, schedule.log_snr.clamp(-12, 12)),
        "linear, T = 1000, β to 0.02": (reference.alpha_bar[same_u], reference.log_snr[same_u]),
    }
    return Picture(
        [
            Images("The same digit", grey(x_t)[None], [f"t = {t}" for t in times]),
            Curves("Signal left", u, {key: ab.numpy() for key, (ab, _) in curves.items()}, "t / T", "ᾱ", (0.0, 1.05)),
            Curves(
                "Signal to noise",
                u[1:],
                {key: log_snr[1:].numpy() for key, (_, log_snr) in curves.items()},
                "t / T",
                "log-SNR (cut at -12 and 12)",
                (-12.5, 12.5),
            ),
        ],
        f"{name}, T = {T}, {parameter} = {value:g}. {half}; {100 * tail:.0f} % of the steps have SNR < 0.01; "
        f"ᾱ at T is {left:.2g}, {verdict}.",
    )


def explore_schedules() -> Explorer:
    """Choose a schedule and move its parameter."""
    return Explorer(
        schedule_picture,
        [
            Choice("family", "Schedule", ["linear", "cosine", "sigmoid", "shifted_cosine"], "linear"),
            Slider("T", "Steps T", 50, 1000, 50, 1000),
            Slider("beta_end", "Last β", 0.005, 0.2, 0.005, 0.02, when=("family", "linear")),
            Slider("s", "Offset s", 0.0, 0.1, 0.004, 0.008, when=("family", "cosine")),
            Slider("c", "Steepness c", 0.5, 10.0, 0.5, 3.0, when=("family", "sigmoid")),
            Slider("size", "Image side", 32, 1024, 32, 128, when=("family", "shifted_cosine")),
        ],
    )


def run_picture(
    which: int | str, times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]
) -> Picture:
    """A stored sampling run: x_t and the clean prediction made from it, of one sample or of "all" of them.

    times: F falling times. x, x0: (F, B, 1, 28, 28), the state at each time and the prediction from that state.
    names: B texts, one a sample. The text compares every prediction with the sample that came out.
    """
    chosen = list(range(len(names))) if which == "all" else [which]
    labels = [names[i] for i in chosen]
    x, x0 = x[:, chosen, 0], x0[:, chosen, 0]
    distance = (x0 - x[-1]).square().mean((1, 2, 3)).sqrt()
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    every = np.arange(schedule.T + 1)
    return Picture(
        [
            Images("State x_t", grey(x), labels),
            Images("Clean prediction x̂0", grey(x0), labels),
            Curves(
                "Amplitudes in x_t",
                every,
                {"signal √ᾱ": signal.numpy(), "noise √(1-ᾱ)": noise.numpy()},
                "time t",
                "amplitude",
                (0.0, 1.05),
                marker=np.array(times),
            ),
        ],
        f"A stored run of {schedule.T} steps, {schedule.name} schedule, {len(times)} of its states. "
        f"Shown: {', '.join(labels)}.",
        frame_label="Time t",
        frame_names=[f"t = {t}" for t in times],
        frame_texts=[
            f"At t = {t} the state is {signal[t]:.2f} signal and {noise[t]:.2f} noise; x̂0 differs from the final "
            f"sample by {d:.1f} per pixel, root mean square, on a scale from -1 to 1."
            for t, d in zip(times, distance.tolist(), strict=True)
        ],
        start=len(times) // 2,
    )


def explore_run(times: Sequence[int], x: Tensor, x0: Tensor, schedule: NoiseSchedule, names: Sequence[str]) -> Explorer:
    """Scrub through a stored run, of all samples or of one; arguments as in `run_picture`."""
    show = partial(run_picture, times=times, x=x, x0=x0, schedule=schedule, names=names)
    return Explorer(show, [Choice("which", "Sample", ["all", *range(len(names))], "all")])


def training_picture(reports: list[Progress], trainer: Trainer, samples: tuple[int, Tensor] | None = None) -> Picture:
    """Loss so far, loss by time at the first and the newest of the reports, and samples (n, 1, H, W) with their step.

    A range of times that a report has no loss for is bridged by a straight line.
    """
    first, last, tenth = reports[0], reports[-1], np.arange(10)
    series = []
    for report in (first, last):
        loss = np.array(report.loss_by_time)
        series.append(np.interp(tenth, tenth[np.isfinite(loss)], loss[np.isfinite(loss)]))
    by_time = dict(zip(("first report", "newest report"), series, strict=True))
    centres = (tenth + 0.5) * trainer.net.schedule.T / 10
    top = 1.1 * max(*(report.loss for report in reports), *np.concatenate(series))
    panels = [Curves("Loss by time", centres, by_time, "time t", "loss", (0.0, top))]
    if len(reports) > 1:
        steps, losses = (np.array(values) for values in zip(*((r.step, r.loss) for r in reports), strict=True))
        curve = Curves("Loss since the report before", steps, {"loss": losses}, "step", "loss", (0.0, top))
        panels.insert(0, curve)
    if samples is not None:
        panels.append(Images(f"Samples after step {samples[0]}", grey(samples[1][:, 0])[None]))
    if last.step < last.steps:
        left = (last.steps - last.step) * trainer.recipe.batch_size / last.images_per_second
        text = f"Step {last.step} of {last.steps}: loss {last.loss:.3f}, about {left:.0f} s left."
    else:  # nothing that differs from machine to machine: this text is stored
        halved = "less" if last.loss < 0.5 * first.loss else "more"
        text = f"All {last.steps} steps done. The loss is {halved} than half of what it was in the first report."
    return Picture(panels, text)


def watch_training(trainer: Trainer, report_every: int = 10, **options: object) -> Denoiser:
    """`training.train` with a live picture, with ten samples after each quarter if it trains on digits.

    In a terminal, plain lines. options: checkpoint and checkpoint_every, as in `train`. After Ctrl-C the picture stays
    as far as it got.
    """
    if get_ipython() is None:
        return train(trainer, print_progress, report_every, **options)
    reports, live, handle, samples = [], None, None, None
    digits = trainer.x0.shape[1:] == (1, 28, 28)

    def report(progress: Progress) -> None:
        nonlocal live, handle, samples
        before = reports[-1].step if reports else 0
        reports.append(progress)
        if digits and 4 * before // progress.steps < 4 * progress.step // progress.steps:
            samples = progress.step, _ten_digits(trainer)
        picture = training_picture(reports, trainer, samples)
        if live is None:
            live = Live(picture)
            handle = display(live, display_id=True)
        else:
            live.update(picture)

    try:
        return train(trainer, report, report_every, **options)
    finally:
        if handle is not None:
            handle.update(live)  # what the saved notebook keeps


def _ten_digits(trainer: Trainer) -> Tensor:
    """Digits 0 to 9 by the averaged network, guided, in fifteen steps, from noise that is always the same."""
    net, label = trainer.ema, torch.arange(10, device=trainer.device)
    noise = _normal(10, 1, 28, 28).float().to(trainer.device)
    return sample(ddim(classifier_free(net, label, 2.0), noise, net.schedule, time_grid(net.schedule, 15))).cpu()


DDIM_POINTS = 400


@cache
def _ddim_reference() -> tuple[GaussianMixture, NoiseSchedule, Tensor, Tensor]:
    """Eight Gaussians, the linear schedule, start noise, and where the exact flow takes it."""
    mixture, schedule = data.ring(), linear()
    start = _normal(DDIM_POINTS, 2, seed=2)
    return mixture, schedule, start, exact_flow(mixture.eps, start, float(schedule.alpha_bar[-1]), steps=200)


def on_target(mixture: GaussianMixture, x: Tensor) -> float:
    """Share of points within three standard deviations of the nearest mode of a mixture of round Gaussians."""
    std = mixture.covariances[0, 0, 0].sqrt()
    return float((torch.cdist(x, mixture.means).min(1).values < 3 * std).double().mean())


def ddim_picture(steps: int, eta: float, grid: str) -> Picture:
    """DDIM from the same start noise on the exact predictor of eight Gaussians, with its distance to the exact flow."""
    mixture, schedule, start, exact = _ddim_reference()
    net = Counted(mixture.network(schedule))
    times = time_grid(schedule, steps, grid)
    path = trajectory(start, ddim(net, start, schedule, times, eta, torch.Generator().manual_seed(4)))
    end = path[-1]
    distance = (end - exact).square().sum(1).mean().sqrt().item()
    mode, exact_mode = (torch.cdist(x, mixture.means).argmin(1) for x in (end, exact))
    same = (mode == exact_mode).double().mean().item()
    return Picture(
        [
            Points("All points; target: ends of the exact flow", path.numpy(), exact.numpy(), limit=3.0, paths=False),
            Points("Twelve of them, with their paths", path[:, :12].numpy(), exact[:12].numpy(), limit=3.0),
        ],
        f"{steps} step{'s' if steps > 1 else ''}, eta = {eta:g}, {grid} grid: {net.nfe} network evaluation"
        f"{'s' if net.nfe > 1 else ''}. Distance to the exact flow's end points, root mean square: {distance:.3f}. "
        f"{100 * same:.0f} % end nearest to the same mode as with it. {100 * on_target(mixture, end):.1f} % end within "
        f"three standard deviations of a mode (of the data {100 * (1 - math.exp(-(3**2) / 2)):.1f} %).",
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
    )


def explore_ddim() -> Explorer:
    """Move step count, eta and grid; replay the path of every point."""
    return Explorer(
        ddim_picture,
        [
            Slider("steps", "Steps", 1, 100, 1, 10),
            Slider("eta", "Noise eta", 0.0, 1.0, 0.1, 0.0),
            Choice("grid", "Time grid", list(GRIDS), "linspace"),
        ],
    )


def three_classes() -> GaussianMixture:
    """Three round, overlapping classes in the plane: the exact conditional law of the guidance exploration."""
    angle = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
    means = torch.stack([angle.cos(), angle.sin()], 1)
    return GaussianMixture([1 / 3] * 3, means, 0.5**2 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2))


@cache
def _guidance_reference() -> tuple[GaussianMixture, NoiseSchedule, Tensor, Tensor]:
    """The three classes, the linear schedule, start noise, and 1800 samples of the data with their labels."""
    x, label = three_classes().sample(1800, torch.Generator().manual_seed(5))
    return three_classes(), linear(), _normal(300, 2, seed=6), x, label


def guidance_picture(w: float, label: int, steps: int) -> Picture:
    """Classifier-free guidance on exact predictions: where the samples of one class go as w moves."""
    mixture, schedule, start, x, labels = _guidance_reference()
    net = Counted(mixture.network(schedule))
    times = time_grid(schedule, steps, "quadratic")
    path = trajectory(start, ddim(classifier_free(net, label, w), start, schedule, times))
    end, centre = path[-1], mixture.means[label]
    share = (mixture.class_posterior(end, 1.0).argmax(1) == label).double().mean().item()
    spread = end.var(0).mean().sqrt().item()
    stray = ((end - centre).norm(dim=1) > 0.5 * math.sqrt(2 * math.log(100))).double().mean().item()
    along = torch.linspace(-4, 4, 161, dtype=torch.float64).unsqueeze(1)
    cut, smooth = _on_line(mixture.means @ centre, 0.5), _on_line(end @ centre, 0.12)
    return Picture(
        [
            Points(f"Samples of class {label}, w = {w:g}", path.numpy(), x[labels == label].numpy(), 4.0, paths=False),
            Curves(
                "Seen along the line from the centre through the class",
                along[:, 0].numpy(),
                {
                    "samples (smoothed)": smooth.log_density(along, 1.0).exp().numpy(),
                    "data of the class": cut.log_density(along, 1.0, label).exp().numpy(),
                    "data of all classes": cut.log_density(along, 1.0).exp().numpy(),
                },
                "position (0 is the centre of all classes)",
                "density",
                (0.0, 3.0),
            ),
        ],
        f"w = {w:g}, class {label}, {steps} steps, {net.nfe} network evaluations. "
        f"Classified as class {label}: {100 * share:.0f} % (of its data {100 * _own_share(label):.0f} %). "
        f"Mean {end.mean(0).norm():.2f} from the centre of all classes (data 1.00). "
        f"Spread {spread:.2f} per axis (data 0.50). "
        f"Outside the circle that holds 99 % of the class's data: {100 * stray:.0f} %.",
        frame_label="Step",
        frame_names=[f"t = {t}" for t in times],
    )


def _on_line(means: Tensor, std: float) -> GaussianMixture:
    """Equally weighted Gaussians on a line, one at each mean."""
    K = len(means)
    return GaussianMixture([1 / K] * K, means.unsqueeze(1), std**2 * torch.ones(K, 1, 1, dtype=torch.float64))


@cache
def _own_share(label: int) -> float:
    """Share of a class's own data that the exact classifier gives to it."""
    mixture, _, _, x, labels = _guidance_reference()
    return (mixture.class_posterior(x[labels == label], 1.0).argmax(1) == label).double().mean().item()


def explore_guidance() -> Explorer:
    """Move the guidance scale; the start noise stays the same."""
    return Explorer(
        guidance_picture,
        [
            Slider("w", "Guidance scale w", -2.0, 10.0, 0.5, 3.0),
            Choice("label", "Class", [0, 1, 2], 0),
            Slider("steps", "DDIM steps", 2, 60, 2, 30),
        ],
    )
