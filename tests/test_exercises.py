"""Every exercise: its reference and other right answers pass, and each known mistake fails with its own sentence."""

import inspect
import math
from itertools import pairwise

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lessons_src import guidance, inversion, process, samplers, schedules, sde, solvers
from lessons_src.exercises import all_tasks, editions, wire
from lessons_src.exercises.editions import SOURCES
from lessons_src.exercises.tasks import ask, judge
from lessons_src.grading.grade import prove
from lessons_src.grading.notebook import grade_id
from lessons_src.oracle import GaussianMixture

TASKS = all_tasks()
MISTAKES = [(name, i) for name, task in TASKS.items() for i in range(len(task.mistakes))]


def verdict(name, answer, seed):
    return judge(TASKS[name], lambda arguments: ask(answer, arguments), torch.Generator().manual_seed(seed))


def as_column(values, x):
    return values[(...,) + (None,) * (x.ndim - 1)]


def numpy_add_noise(x0, eps, alpha_bar):
    return torch.from_numpy(np.sqrt(alpha_bar) * x0.numpy() + np.sqrt(1 - alpha_bar) * eps.numpy())


def add_noise_one_by_one(x0, eps, t, alpha_bar):
    return torch.stack(
        [process.add_noise(x0[i : i + 1], eps[i : i + 1], float(alpha_bar[t[i]]))[0] for i in range(len(t))]
    )


def chain_by_recursion(x0, beta, generator):
    if not beta:
        return x0
    z = torch.empty_like(x0).normal_(generator=generator)
    return chain_by_recursion((1 - beta[0]) ** 0.5 * x0 + beta[0] ** 0.5 * z, beta[1:], generator)


def chain_backwards(x0, beta, generator):
    noises = [torch.randn(x0.shape, generator=generator, dtype=x0.dtype) for _ in beta]
    x = x0.clone()
    for dose, z in zip(beta, noises, strict=True):
        x *= math.sqrt(1 - dose)
        x += math.sqrt(dose) * z
    return x


def linear_in_a_loop(T):
    alpha_bar = [1.0]
    for t in range(1, T + 1):
        alpha_bar.append(alpha_bar[-1] * (1 - (0.1 + (20 - 0.1) * (t - 1) / (T - 1)) / T))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_in_a_loop(T, s, max_beta):
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    alpha_bar = [1.0]
    for before, after in pairwise(f):
        alpha_bar.append(alpha_bar[-1] * max(after / before, 1 - max_beta))
    return torch.tensor(alpha_bar, dtype=torch.float64)


def cosine_by_halves(T, s, max_beta):
    angle = math.pi * (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)
    f = (1 + angle.cos()) / 2
    alpha = torch.maximum(f[1:] / f[:-1], torch.tensor(1 - max_beta, dtype=torch.float64))
    return F.pad(alpha, (1, 0), value=1.0).cumprod(0)


def times_by_search(new, old):
    ruler, found = (old[1:] / (1 - old[1:])).log(), []
    for level in new[1:]:
        distance = [abs(float(value - (level / (1 - level)).log())) for value in ruler]
        found.append(1 + distance.index(min(distance)))
    return torch.tensor(found)


def times_by_cdist(new, old):
    a, b = new.logit()[1:, None], old.logit()[1:, None]
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1).add(1)


def embedding_by_outer(t, width):
    rates = torch.logspace(0, -4, width // 2 + 1, dtype=torch.float64)[:-1]
    phase = torch.outer(t.double(), rates)
    return torch.cat((torch.sin(phase), torch.cos(phase)), dim=-1)


def embedding_in_loops(t, width):
    half = width // 2
    rows = []
    for time in t.tolist():
        phases = [time * math.exp(-math.log(10_000) * i / half) for i in range(half)]
        rows.append([math.sin(p) for p in phases] + [math.cos(p) for p in phases])
    return torch.tensor(rows, dtype=torch.float64)


def loss_with_where(net, x0, label, alpha_bar, p_drop, generator):
    B = x0.shape[0]
    t = torch.randint(1, len(alpha_bar), (B,), generator=generator)
    eps = torch.randn(*x0.shape, generator=generator)
    label = torch.where(torch.rand(B, generator=generator) < p_drop, net.num_classes, label)
    x_t = as_column(alpha_bar[t], x0) ** 0.5 * x0 + as_column(1 - alpha_bar[t], x0) ** 0.5 * eps
    return F.mse_loss(net(x_t, t, label), eps)


def loss_with_library(net, x0, label, alpha_bar, p_drop, generator):
    t = 1 + torch.randint(len(alpha_bar) - 1, (len(x0),), generator=generator)
    eps = torch.empty_like(x0).normal_(generator=generator)
    label = label.clone()
    label[torch.rand(label.shape, generator=generator) < p_drop] = net.num_classes
    error = net(process.add_noise(x0, eps, alpha_bar[t]), t, label) - eps
    return error.flatten(1).pow(2).mean(1).mean().item()


def loss_by_time_summed(t, loss, T):
    tenth = ((t - 1) * 10).div(T, rounding_mode="floor")
    total = torch.zeros(10, dtype=loss.dtype).index_add_(0, tenth, loss)
    return total / torch.bincount(tenth, minlength=10)


def loss_by_time_in_lists(t, loss, T):
    parts = [[] for _ in range(10)]
    for time, value in zip(t.tolist(), loss.tolist(), strict=True):
        parts[math.floor(10 * (time - 1) / T)].append(value)
    return torch.tensor([sum(part) / len(part) for part in parts], dtype=torch.float64)


def renoised(x_t, eps, ab_t, ab_s, variance):
    """DDPM's mean in its third form, from x0 and eps."""
    x0 = (x_t - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5
    return ab_s**0.5 * x0 + max(1 - ab_s - variance, 0) ** 0.5 * eps


def tilde(ab_t, ab_s):
    return process.posterior_variance(ab_t, ab_s)


def ddpm_step_by_posterior(x_t, eps, z, ab_t, ab_s, variance):
    mean, small = process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)
    sigma = {"beta": 1 - ab_t / ab_s, "beta_tilde": small}[variance] ** 0.5
    return mean + (sigma if ab_s < 1 else 0) * z


def ddpm_step_renoised(x_t, eps, z, ab_t, ab_s, variance):
    last = ab_s == 1.0
    size = 0.0 if last else tilde(ab_t, ab_s) if variance == "beta_tilde" else (ab_s - ab_t) / ab_s
    return torch.add(renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)), z, alpha=size**0.5)


def library_ddpm(net, x, alpha_bar, times, generator):
    schedule = schedules.NoiseSchedule(alpha_bar)
    return samplers.sample(samplers.ddpm(net, x, schedule, times, generator=generator))


def ddpm_by_index(net, x, alpha_bar, times, generator):
    for i in range(len(times) - 1):
        ab_t, ab_s = float(alpha_bar[times[i]]), float(alpha_bar[times[i + 1]])
        eps = net(x, torch.tensor([times[i]] * len(x)))
        x = renoised(x, eps, ab_t, ab_s, tilde(ab_t, ab_s))
        if i < len(times) - 2:
            x = x + tilde(ab_t, ab_s) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


def variance_unrolled(alpha_bar, times):
    """The start and every draw, each shrunk by all later steps."""
    added = [(alpha_bar[s] - alpha_bar[t]).item() for t, s in pairwise(times[:-1])]
    return alpha_bar[times[0]].item() + sum(added)


def rotated(x_t, eps, ab_t, ab_s):
    """DDIM in the variables x / sqrt(ab) and sigma, where a step is a straight line."""
    sigma_t, sigma_s = math.sqrt((1 - ab_t) / ab_t), math.sqrt((1 - ab_s) / ab_s)
    return math.sqrt(ab_s) * (x_t / math.sqrt(ab_t) + (sigma_s - sigma_t) * eps)


def walk_by_angles(x, ab):
    angle = [math.acos(math.sqrt(level)) for level in ab]
    factors = [1.0, *(math.cos(a - b) for a, b in pairwise(angle))]
    return torch.stack([x * math.prod(factors[: i + 1]) for i in range(len(ab))])


def walk_with_library(x, ab):
    rows = torch.empty(len(ab), *x.shape, dtype=x.dtype)
    rows[0] = x
    for i, (ab_t, ab_s) in enumerate(pairwise(ab)):
        rows[i + 1] = rotated(rows[i], (1 - ab_t) ** 0.5 * rows[i], ab_t, ab_s)
    return rows


def library_ddim(net, x, alpha_bar, times):
    return samplers.sample(samplers.ddim(net, x, schedules.NoiseSchedule(alpha_bar), times))


def ddim_with_while(net, x, alpha_bar, times):
    i = 0
    while times[i] > 0:
        t, s = times[i], times[i + 1]
        x = rotated(x, net(x, torch.tensor(t).repeat(len(x))), alpha_bar[t].item(), alpha_bar[s].item())
        i += 1
    return x


def eta_step_with_library(x_t, eps, z, ab_t, ab_s, eta):
    fresh = eta**2 * tilde(ab_t, ab_s)
    kept = samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s)
    return kept + ((1 - ab_s - fresh) ** 0.5 - (1 - ab_s) ** 0.5) * eps + fresh**0.5 * z


def distance_of_lists(net, x, schedule, few, many):
    def end(steps):
        return list(samplers.ddim(net, x, schedule, schedules.time_grid(schedule, steps)))[-1].x

    return math.sqrt(((end(few) - end(many)) ** 2).sum().item() / x.numel())


def guided_with_library(net, x, label, w, alpha_bar, times):
    eps_fn = guidance.classifier_free(net, label, w)
    return library_ddim(eps_fn, x, alpha_bar, times)


def guided_in_clean_space(net, x, label, w, alpha_bar, times):
    """Blends the clean predictions instead of the noise; the weights add up to 1, so nothing changes."""
    for t, s in pairwise(times):
        at, ab_t, ab_s = torch.full((len(x),), t), alpha_bar[t].item(), alpha_bar[s].item()
        clean = [process.predict_x0(x, net(x, at, c), ab_t) for c in (net.num_classes, label)]
        x0 = (1 - w) * clean[0] + w * clean[1]
        x = samplers.renoise(x0, process.predict_eps(x, x0, ab_t), ab_s)
    return x


def both_at_once(net, x, t, label, w):
    null = label * 0 + net.num_classes
    eps_u, eps_c = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, label])).chunk(2)
    return torch.lerp(eps_u, eps_c, w)


def ode_and_correction(x, eps, ab, beta, noise):
    """The ODE's drift, and the pull that pays for the noise."""
    ode = -beta / 2 * x + beta * eps / (2 * math.sqrt(1 - ab))
    return ode - noise**2 * beta / 2 * process.score_from_eps(eps, ab)


def euler_by_automatic_slope(variable, x_t, eps, ab_t, ab_s):
    """Writes sigma as a function of the variable and lets autograd differentiate it."""
    powers = {"sigma": 1.0, "sigma squared": 0.5}
    sigma_t, sigma_s = (torch.tensor((1 / ab - 1) ** 0.5, dtype=torch.float64) for ab in (ab_t, ab_s))
    to_sigma = torch.exp if variable == "log sigma" else lambda u: u ** powers[variable]
    u_t, u_s = (s.log() if variable == "log sigma" else s ** (1 / powers[variable]) for s in (sigma_t, sigma_s))
    slope = torch.autograd.functional.jacobian(to_sigma, u_t)
    return (x_t / ab_t**0.5 + (u_s - u_t) * slope * eps) * ab_s**0.5


def euler_from_ddim(variable, x_t, eps, ab_t, ab_s):
    """DDIM with the noise it takes out multiplied by what the other variable's straight line makes of it."""
    sigma_t, sigma_s = math.sqrt(1 / ab_t - 1), math.sqrt(1 / ab_s - 1)
    change = {
        "sigma": 1.0,
        "sigma squared": (sigma_s + sigma_t) / (2 * sigma_t),
        "log sigma": math.log(sigma_t / sigma_s) / (1 - sigma_s / sigma_t),
    }[variable]
    y = x_t / math.sqrt(ab_t)
    return math.sqrt(ab_s) * y + change * (rotated(x_t, eps, ab_t, ab_s) - math.sqrt(ab_s) * y)


def trace_by_jacobian(net, x, t, v):
    rows = torch.autograd.functional.jacobian(lambda x: net(x, t).sum(0), x)  # (d, B, d)
    return torch.einsum("bi,ibj,bj->b", v, rows, v)


def bits_with_library(x, mean, std, ab):
    """The exact trace along the flow, integrated by the library's RK4 in time; alpha_bar(t) = exp(-t)."""
    vp = sde.VP(1.0, 1.0, T := -math.log(ab))
    data = GaussianMixture([1.0], mean[None], std.square().diag()[None])
    grid = [T * (i / 200) ** 2 for i in range(201)]
    log_p = sde.log_likelihood(vp.flow(vp.score(data)), x, grid, sde.standard_normal, method="rk4")
    return sde.bits_per_dim(log_p, x.shape[1])


def bits_one_by_one(x, mean, std, ab):
    prices = []
    for point in x:
        price = 0.0
        for value, m, s in zip(point.tolist(), mean.tolist(), std.tolist(), strict=True):
            wide = math.hypot(ab**0.5 * s, (1 - ab) ** 0.5)
            end = ab**0.5 * m + wide * (value - m) / s
            price -= math.log2(wide / s) - (end**2 + math.log(2 * math.pi)) / math.log(4)
        prices.append(price / len(point))
    return torch.tensor(prices, dtype=torch.float64)


def trip_with_library(net, x, alpha_bar, times):
    schedule = schedules.NoiseSchedule(alpha_bar)
    latent = samplers.sample(inversion.invert(net, x, schedule, times))
    return F.mse_loss(samplers.sample(samplers.ddim(net, latent, schedule, times)), x).sqrt()


def trip_by_index(net, x, alpha_bar, times):
    """One list of times, up and down again."""
    path, z = [*times[::-1], *times[1:]], x.clone()
    for i in range(len(path) - 1):
        here, there = path[i], path[i + 1]
        asked = here if here > 0 else there
        eps = net(z, torch.full((x.shape[0],), asked, dtype=torch.int64))
        z = rotated(z, eps, alpha_bar[here].item(), alpha_bar[there].item())
    return math.sqrt(((z - x) ** 2).sum().item() / x.numel())


def fixed_point_solved(net, x_s, s, t, alpha_bar, iterations):
    """DDIM's step x_s = a x_t + b eps, solved for x_t with ever better eps."""
    ab_s, ab_t = alpha_bar[[s, t]].tolist()
    a = (ab_s / ab_t) ** 0.5
    b = (1 - ab_s) ** 0.5 - a * (1 - ab_t) ** 0.5
    eps = net(x_s, torch.full((len(x_s),), max(s, t * (s == 0))))
    while iterations > 0:
        eps, iterations = net((x_s - b * eps) / a, torch.full((len(x_s),), t)), iterations - 1
    return (x_s - b * eps) / a


def fixed_point_by_recursion(net, x_s, s, t, alpha_bar, iterations):
    if iterations == 0:
        x, at = x_s, s or t
    else:
        x, at = fixed_point_by_recursion(net, x_s, s, t, alpha_bar, iterations - 1), t
    return rotated(x_s, net(x, torch.tensor(at).expand(len(x))), float(alpha_bar[s]), float(alpha_bar[t]))


def turned(a, b, weight):
    """The same arc as a turn from a towards b."""
    rows = a.flatten(1), b.flatten(1)
    cosine = (rows[0] * rows[1]).sum(1) / (rows[0].norm(dim=1) * rows[1].norm(dim=1))
    angle = as_column(cosine.arccos(), a)
    return (
        a * ((weight * angle).cos() - (weight * angle).sin() / angle.tan()) + b * (weight * angle).sin() / angle.sin()
    )


def inpaint_by_index(x_t, eps, known, mask, z, ab_t, ab_s):
    x_s = samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s)
    here = mask.bool()
    x_s[here] = ab_s**0.5 * known[here] + (1 - ab_s) ** 0.5 * z[here]
    return x_s


def grid_by_interpolation(alpha_bar, steps):
    """Searches the sorted log-SNRs and takes the nearer neighbour."""
    rising = (alpha_bar[1:] / (1 - alpha_bar[1:])).log().flip(0)
    T, found = len(rising), []
    for i in range(steps):
        value = rising[0] + (rising[-1] - rising[0]) * i / (steps - 1)
        j = min(int(torch.searchsorted(rising, value)), T - 1)
        nearer = j - 1 if j > 0 and value - rising[j - 1] <= rising[j] - value else j
        found.append(T - nearer)
    return [*found, 0]


def grid_in_a_loop(alpha_bar, steps):
    ab, times = alpha_bar.tolist(), []
    place = [math.inf, *(math.log(a) - math.log1p(-a) for a in ab[1:])]
    for i in range(steps):
        wanted = place[-1] + (place[1] - place[-1]) * i / (steps - 1)
        times.append(min(range(1, len(ab)), key=lambda t: abs(place[t] - wanted)))
    return [*times, 0]


def heun_in_sigma(net, x, alpha_bar, t, s):
    """In y = x / sqrt(alpha_bar) and sigma, as Karras et al. write it."""
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()
    y, slope = x / alpha_bar[t].sqrt(), net(x, torch.full((len(x),), t))
    trial = y + (sigma[s] - sigma[t]) * slope
    if s > 0:
        slope = (slope + net(trial * alpha_bar[s].sqrt(), torch.full((len(x),), s))) / 2
    return (y + (sigma[s] - sigma[t]) * slope) * alpha_bar[s].sqrt()


def heun_with_library(net, x, alpha_bar, t, s):
    times = [t, s, 0] if s > 0 else [t, 0]
    return next(solvers.heun(net, x, schedules.NoiseSchedule(alpha_bar), times)).x


def two_m_as_printed(x, now, before, ab_before, ab_now, ab_next):
    """The box of the paper, with alpha, sigma and lambda."""
    u = [math.log(ab / (1 - ab)) / 2 for ab in (ab_before, ab_now, ab_next)]
    h, r = u[2] - u[1], (u[1] - u[0]) / (u[2] - u[1])
    mean = (1 + 1 / (2 * r)) * now - before / (2 * r)
    return ((1 - ab_next) / (1 - ab_now)) ** 0.5 * x - ab_next**0.5 * math.expm1(-h) * mean


def two_m_by_extrapolation(x, now, before, ab_before, ab_now, ab_next):
    """The clean prediction of the middle of the step, on the line through the last two."""
    l0, l1, l2 = (math.log(1 / ab - 1) for ab in (ab_before, ab_now, ab_next))
    x0 = torch.lerp(before, now, ((l1 + l2) / 2 - l0) / (l1 - l0))
    return rotated(x, process.predict_eps(x, x0, ab_now), ab_now, ab_next)


def order_by_polyfit(nfe, error):
    return float(-np.polyfit(np.log(nfe.numpy()), np.log(error.numpy()), 1)[0])


def front_by_sorting(nfe, distance):
    """Cheapest first, the better of equals first; keeps what beats everything before, and its exact doubles."""
    kept = torch.zeros(len(nfe), dtype=torch.bool)
    best = (math.inf, None)
    for i in sorted(range(len(nfe)), key=lambda i: (nfe[i].item(), distance[i].item())):
        point = (distance[i].item(), nfe[i].item())
        if point[0] < best[0] or point == best:
            kept[i], best = True, point
    return kept


def front_in_loops(nfe, distance):
    points = list(zip(nfe.tolist(), distance.tolist(), strict=True))
    beaten = [any(p != q and p[0] <= q[0] and p[1] <= q[1] for p in points) for q in points]
    return torch.tensor([not b for b in beaten])


# For each task two more ways to write it, as different from the reference as a good learner's might be.
RIGHT = {
    "forward_step": (
        lambda x, z, beta: process.add_noise(x, z, 1 - beta),
        lambda x, z, beta: torch.add(x * (1 - beta) ** 0.5, z, alpha=beta**0.5),
    ),
    "add_noise": (process.add_noise, numpy_add_noise),
    "predict_x0": (
        process.predict_x0,
        lambda x_t, eps, ab: x_t * ab**-0.5 - ((1 - ab) / ab) ** 0.5 * eps,
    ),
    "predict_eps": (
        process.predict_eps,
        lambda x_t, x0, ab: x_t.div((1 - ab) ** 0.5) - (ab / (1 - ab)) ** 0.5 * x0,
    ),
    "add_noise_at": (
        add_noise_one_by_one,
        lambda x0, eps, t, ab: as_column(ab[t] ** 0.5, x0) * x0 + as_column((1 - ab[t]) ** 0.5, x0) * eps,
    ),
    "forward_chain": (chain_by_recursion, chain_backwards),
    "linear_alpha_bar": (
        linear_in_a_loop,
        lambda T: F.pad(1 - torch.linspace(0.1, 20, T).double() / T, (1, 0), value=1.0).log().cumsum(0).exp(),
    ),
    "cosine_alpha_bar": (cosine_in_a_loop, cosine_by_halves),
    "log_snr": (torch.logit, lambda ab: ab.log() - (-ab).log1p()),
    "level_of": (lambda v: 1 / (1 + (-v).exp()), lambda v: (1 + (v / 2).tanh()) / 2),
    "level_at_scale": (
        lambda ab, b: b**2 * ab / (b**2 * ab + 1 - ab),
        lambda ab, b: 1 / (1 + (1 / ab - 1) / b / b),
    ),
    "matching_times": (times_by_search, times_by_cdist),
    "loss_per_sample": (
        lambda p, eps: F.mse_loss(p, eps, reduction="none").mean(dim=tuple(range(1, p.ndim))),
        lambda p, eps: torch.stack([((a - b) ** 2).sum() / a.numel() for a, b in zip(p, eps, strict=True)]),
    ),
    "ema_update": (
        lambda slow, fast, decay: slow.lerp(fast, 1 - decay),
        lambda slow, fast, decay: fast + decay * (slow - fast),
    ),
    "time_embedding": (embedding_by_outer, embedding_in_loops),
    "training_loss": (loss_with_where, loss_with_library),
    "loss_by_time": (loss_by_time_summed, loss_by_time_in_lists),
    "change_with_time": (
        lambda net, x, t, other: (net(x, other) - net(x, t)).norm() / x.numel() ** 0.5,
        lambda net, x, t, other: F.mse_loss(net(x, t), net(x, other)).item() ** 0.5,
    ),
    "posterior_variance": (
        process.posterior_variance,
        lambda ab_t, ab_s: 1 / (1 / (1 - ab_s) + ab_t / (ab_s - ab_t)),
    ),
    "posterior_mean": (
        lambda x_t, x0, ab_t, ab_s: process.posterior(x_t, x0, ab_t, ab_s)[0],
        lambda x_t, x0, ab_t, ab_s: renoised(
            x_t, (x_t - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5, ab_t, ab_s, tilde(ab_t, ab_s)
        ),
    ),
    "mean_from_eps": (
        lambda x_t, eps, ab_t, ab_s: process.posterior(x_t, process.predict_x0(x_t, eps, ab_t), ab_t, ab_s)[0],
        lambda x_t, eps, ab_t, ab_s: renoised(x_t, eps, ab_t, ab_s, tilde(ab_t, ab_s)),
    ),
    "ddpm_step": (ddpm_step_by_posterior, ddpm_step_renoised),
    "ddpm_sample": (library_ddpm, ddpm_by_index),
    "final_variance": (
        lambda ab, times: ab[times[-2]].item(),
        variance_unrolled,
    ),
    "ddim_step": (
        rotated,
        lambda x_t, eps, ab_t, ab_s: samplers.renoise(process.predict_x0(x_t, eps, ab_t), eps, ab_s),
    ),
    "walk": (walk_by_angles, walk_with_library),
    "even_grid": (
        lambda T, steps: (torch.arange(steps, -1, -1) * T).div(steps, rounding_mode="floor").tolist(),
        lambda T, steps: sorted({math.floor(i * T / steps + 1e-9) for i in range(steps + 1)}, reverse=True),
    ),
    "ddim_sample": (library_ddim, ddim_with_while),
    "ddim_eta_step": (
        eta_step_with_library,
        lambda x_t, eps, z, ab_t, ab_s, eta: (
            renoised(x_t, eps, ab_t, ab_s, eta**2 * tilde(ab_t, ab_s)) + eta * tilde(ab_t, ab_s) ** 0.5 * z
        ),
    ),
    "same_start_distance": (
        distance_of_lists,
        lambda net, x, schedule, few, many: F.mse_loss(
            *(library_ddim(net, x, schedule.alpha_bar, schedules.time_grid(schedule, n)) for n in (few, many))
        ).sqrt(),
    ),
    "drop_labels": (
        lambda label, n, p, g: torch.where(torch.rand(len(label), generator=g) < p, n, label),
        lambda label, n, p, g: label + (n - label) * (torch.empty(label.shape).uniform_(generator=g) < p),
    ),
    "guided": (guidance.blend, lambda eps_u, eps_c, w: (1 - w) * eps_u + w * eps_c),
    "course_scale": (
        lambda w, convention: w + 1 if convention == "ho_salimans" else w.clamp(min=1),
        lambda w, convention: torch.stack(
            [max(v, torch.ones_like(v)) if convention == "diffusers" else v + 1 for v in w]
        ),
    ),
    "guided_prediction": (
        lambda net, x, t, label, w: guidance.classifier_free(net, label, w)(x, t),
        both_at_once,
    ),
    "guided_sample": (guided_with_library, guided_in_clean_space),
    "crowd_distance": (
        lambda x, mean, std: torch.cat([x.mean(0) - mean, x.std(0) - std]).norm(),
        lambda x, mean, std: math.hypot(*(x.mean(0) - mean).tolist(), *(x.var(0).sqrt() - std).tolist()),
    ),
    "continuous_alpha_bar": (
        lambda t, first, last, N: (-t * N * (2 * first + (last - first) * t) / 2).exp(),
        lambda t, first, last, N: torch.tensor(
            [sde.VP(N * first, N * last).alpha_bar(u) for u in t.tolist()], dtype=torch.float64
        ),
    ),
    "sde_step": (
        lambda x, drift, g, h, z: torch.add(x, drift, alpha=h) + (g**2 * abs(h)) ** 0.5 * z,
        lambda x, drift, g, h, z: sum((x, drift.mul(h), z.mul(g).mul(max(h, -h) ** 0.5))),
    ),
    "down_drift": (
        ode_and_correction,
        lambda x, eps, ab, beta, noise: beta * ((1 + noise**2) * eps * (1 - ab) ** -0.5 - x) / 2,
    ),
    "euler_in": (euler_by_automatic_slope, euler_from_ddim),
    "hutchinson": (
        lambda net, x, t, v: ((net(x + 1e-4 * v, t) - net(x - 1e-4 * v, t)) * v).sum(1) / 2e-4,
        trace_by_jacobian,
    ),
    "bits": (bits_with_library, bits_one_by_one),
    "log_snr_grid": (
        grid_by_interpolation,
        grid_in_a_loop,
    ),
    "affordable_steps": (
        lambda solver, budget, guided: {"Heun": ((b := budget // (1 + guided)) + 1) // 2, "PLMS": b - 1}.get(solver, b),
        lambda solver, budget, guided: max(
            n for n in range(4, budget + 1) if solvers.SOLVERS[solver].nfe(n) * (1 + guided) <= budget
        ),
    ),
    "heun_step": (heun_in_sigma, heun_with_library),
    "two_m_step": (two_m_as_printed, two_m_by_extrapolation),
    "order_of": (
        order_by_polyfit,
        lambda nfe, error: torch.linalg.lstsq(
            torch.stack([-nfe.double().log(), torch.ones(len(nfe), dtype=torch.float64)], 1), error.log()[:, None]
        ).solution[0, 0],
    ),
    "on_the_front": (front_by_sorting, front_in_loops),
    "invert_step": (
        rotated,
        lambda x_s, eps, ab_s, ab_t: (
            (x_s - ((1 - ab_s) ** 0.5 - (ab_s / ab_t) ** 0.5 * (1 - ab_t) ** 0.5) * eps) / (ab_s / ab_t) ** 0.5
        ),
    ),
    "printed_error": (
        lambda image, x_s, eps, ab_s, ab_t: (
            process.add_noise(image, eps, ab_t) - samplers.renoise(process.predict_x0(x_s, eps, ab_s), eps, ab_t)
        ),
        lambda image, x_s, eps, ab_s, ab_t: ab_t**0.5 * image - (ab_t / ab_s) ** 0.5 * (x_s - (1 - ab_s) ** 0.5 * eps),
    ),
    "round_trip_error": (trip_with_library, trip_by_index),
    "fixed_point_step": (fixed_point_solved, fixed_point_by_recursion),
    "slerp": (inversion.slerp, turned),
    "inpaint_step": (
        lambda x_t, eps, known, mask, z, ab_t, ab_s: (
            mask * process.add_noise(known, z, ab_s) + (1 - mask) * rotated(x_t, eps, ab_t, ab_s)
        ),
        inpaint_by_index,
    ),
}


def test_every_task_has_other_right_answers():
    assert list(RIGHT) == list(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_reference_and_two_other_right_answers_pass(name):
    for answer in (TASKS[name].reference, *RIGHT[name]):
        for seed in range(5):
            found = verdict(name, answer, seed)
            assert found.earned == found.possible > 0, found


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_mistake_fails_with_its_own_sentence(name, number):
    mistake = TASKS[name].mistakes[number]
    for seed in range(3):
        found = verdict(name, mistake.wrong, seed)
        assert found.earned < found.possible
        assert mistake.says in [result.says for result in found.results], found


def test_an_argument_handed_back_is_called_by_its_name():
    says = [result.says for result in verdict("add_noise", lambda x0, eps, alpha_bar: eps, 0).results]
    assert says == ["This is eps, just as it was given."] * 3


@pytest.mark.parametrize("name", TASKS)
def test_no_case_is_passed_by_doing_nothing(name):
    """Neither an argument handed back nor zeros of the right shape earn a point."""
    task = TASKS[name]
    for position in range(len(inspect.signature(task.reference).parameters)):
        found = verdict(name, lambda *arguments, position=position: arguments[position], seed=0)
        assert found.earned == 0, found
    found = verdict(name, lambda *arguments: torch.zeros_like(torch.as_tensor(task.reference(*arguments))), seed=0)
    assert found.earned == 0, found


@pytest.mark.parametrize("name", TASKS)
def test_has_what_an_exercise_needs(name):
    task = TASKS[name]
    assert len(task.mistakes) >= 4
    assert len({mistake.says for mistake in task.mistakes}) == len(task.mistakes)
    assert all(mistake.says.endswith(".") and len(mistake.says) > 30 for mistake in task.mistakes)
    assert len(set(task.hints)) == 3
    assert "`" in task.hints[2], "the last hint shows code"


def test_four_to_six_tasks_a_lesson():
    counts = {}
    for task in TASKS.values():
        counts[task.reference.__module__] = counts.get(task.reference.__module__, 0) + 1
    assert len(counts) == len(list(editions.SOURCES.glob("*.ipynb")))
    assert all(4 <= count <= 6 for count in counts.values())


def test_inputs_are_fresh():
    for task in TASKS.values():
        for case in task.cases:
            drawn = [case.arguments(torch.Generator().manual_seed(seed)) for seed in range(4)]
            if (task.name, case.label) != ("linear_alpha_bar", "the usual thousand steps"):
                assert len({str(wire.encode(arguments)) for arguments in drawn}) > 1, (task.name, case.label)


def test_the_hidden_check_that_the_instructors_page_shows_works():
    source = nbformat.read(SOURCES / "05_ddim.ipynb", as_version=4)
    (cell,) = (cell for cell in source.cells if grade_id(cell) == "ddim_step")
    cell.source = (SOURCES.parent / "INSTRUCTORS.md").read_text().split("```python\n")[1].split("```")[0]
    cell.metadata["nbgrader"]["points"] = 5
    prove(nbformat.writes(source))
    cell.metadata["nbgrader"]["points"] = 4
    with pytest.raises(ValueError, match="points of ddim_step is 4; expected 5"):
        prove(nbformat.writes(source))
