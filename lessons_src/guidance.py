"""Guidance: turns a network and a wish into an eps_fn(x, t) that any sampler takes.

Convention of the whole course: eps = eps_u + w (eps_c - eps_u). w = 0 is unconditional, w = 1 conditional, w > 1
extrapolates. In the notation of Ho & Salimans (2022), w = 1 + w_HS.

`classifier_free` needs a network that learned with and without the condition. `classifier` and `similarity` steer any
network with the gradient of another one: only here do gradients run through a network while sampling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lessons_src.checks import (
    check_batch,
    check_finite,
    check_floating,
    check_labels,
    check_like,
    check_real,
    check_times,
    refuse,
)
from lessons_src.process import as_column
from lessons_src.samplers import EpsFn, check_same_levels, of_schedule
from lessons_src.schedules import NoiseSchedule, check_schedule

Guide = Callable[[Tensor, Tensor], Tensor]  # of x (B, *event) and t (B,): log-probabilities, or one number a sample


def blend(eps_u: Tensor, eps_c: Tensor, w: float) -> Tensor:
    """eps_u + w (eps_c - eps_u), predictions of one shape (Ho & Salimans 2022, equation 6, with w = 1 + w_HS)."""
    check_like("eps_c", eps_c, "eps_u", check_floating("eps_u", eps_u))
    return eps_u + check_real("w", w) * (eps_c - eps_u)


def rescale(eps: Tensor, eps_c: Tensor, share: float = 0.7) -> Tensor:
    """A guided eps (B, *event) with a share of its excess size taken back (Lin et al. 2023, equations 15 and 16).

    The standard deviation of each sample's eps is brought to that of the conditional eps_c, and the result mixed with
    eps itself. share = 1 does so wholly; the paper takes 0.7.
    """
    check_real("share", share, 0.0, 1.0)
    if check_batch("eps", eps)[:1].numel() == 1:
        refuse("eps", eps, "more than one number a sample: one has no standard deviation")
    size, wanted = (as_column(e.flatten(1).std(1), e) for e in (eps, check_like("eps_c", eps_c, "eps", eps)))
    return share * eps * torch.where(size > 0, wanted / size, 1) + (1 - share) * eps


def classifier_free(
    net: Callable[..., Tensor], condition: Any, w: float, negative: Any = None, rescaled: float = 0.0
) -> EpsFn:
    """Guided eps_fn(x, t) from net(x, t, condition), which takes None for no condition.

    condition is whatever the network takes, such as one class for all or labels (B,). negative is a condition to lead
    away from, in place of none: a negative prompt. rescaled is the share of `rescale`. Each call costs two network
    evaluations, or one when w is 0 or 1 and only one prediction counts. Raises TypeError or ValueError when w is not
    finite, rescaled not in [0, 1], or net no function.
    """
    w, share = check_real("w", w), check_real("rescaled", rescaled, 0.0, 1.0)
    if not callable(net):
        refuse("net", net, "a network net(x, t, condition)", TypeError)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        if w == 0:
            return net(x, t, negative)
        if w == 1:
            return net(x, t, condition)
        eps_u, eps_c = net(x, t, negative), net(x, t, condition)
        eps = blend(eps_u, eps_c, w)
        return rescale(eps, eps_c, share) if share else eps

    return of_schedule(eps_fn, getattr(net, "schedule", None))


def classifier(eps_fn: EpsFn, log_prob: Guide, schedule: NoiseSchedule, label: int | Tensor, w: float) -> EpsFn:
    """eps - w sqrt(1 - ab_t) grad_x log p(label | x_t) (Dhariwal & Nichol 2021, algorithm 2).

    log_prob(x, t) -> (B, classes) are the log-probabilities of a classifier that knows noise; label is one class for
    all, or (B,). If eps_fn is unconditional and the classifier exact at every noise level, w = 1 samples the
    conditional law (Bayes). eps_fn may be guided already: a conditional network, or `classifier_free`. Each call costs
    a forward and a backward pass of the classifier beside eps_fn, and nothing more when w is 0. Rows stay independent
    if the classifier's are (in evaluation mode). Raises TypeError or ValueError, by name, for labels outside the
    classes, or if log_prob does not return (B, classes) log-probabilities that can be differentiated in x.
    """

    def log_p(x: Tensor, t: Tensor) -> Tensor:
        found = check_floating("log_prob(x, t)", log_prob(x, t), f"shape ({len(x)}, classes)")
        if found.ndim != 2 or len(found) != len(x):
            refuse("log_prob(x, t)", found, f"shape ({len(x)}, classes)")
        if not ((found.detach().float().exp().sum(1) - 1).abs() < 0.05).all():  # NaN too; bfloat16 errs by up to 3 %
            check_finite("x", x)
            refuse("log_prob(x, t)", found, "log-probabilities, exp of each row sums to 1; logits need log_softmax(1)")
        own = check_labels("label", label, len(x), found.shape[1], x.device, null=False)
        return found.gather(1, own[:, None].clone())[:, 0]  # kept for the way back, as nothing of inference mode can be

    return _steered(eps_fn, "log_prob(x, t)", log_p if callable(log_prob) else log_prob, schedule, w)


def similarity(eps_fn: EpsFn, similarity: Guide, schedule: NoiseSchedule, w: float) -> EpsFn:
    """eps - w sqrt(1 - ab_t) grad_x similarity(x_t, t): CLIP guidance (Nichol et al. 2021, GLIDE, section 2.4).

    similarity(x, t) -> (B,) says how well each x fits what is wanted, such as the dot product f(x) . g(caption) of two
    embeddings. It need not be a log-probability, so no w stands out. Costs and refusals are those of `classifier`.
    """
    return _steered(eps_fn, "similarity(x, t)", similarity, schedule, w)


def gradient(guide: Guide, x: Tensor, t: Tensor, name: str = "guide(x, t)") -> Tensor:
    """The gradient in x (B, *event) of guide(x, t) (B,), each row's own; also in torch.no_grad and inference_mode.

    Weights get none. Raises TypeError or ValueError, with `name`, unless the guide returns one number a sample that
    depends on x by operations torch can differentiate, with a finite gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = check_batch("x", x).detach().clone().requires_grad_()  # copies, for inference mode's own have no gradients
        value = check_floating(name, guide(x, t.clone()), f"shape ({len(x)},)")
        if value.shape != x.shape[:1]:
            refuse(name, value, f"shape ({len(x)},), one number a sample")
        total = value.sum()  # rows are independent: the sum's gradient has each row's own
        (found,) = torch.autograd.grad(total, x, allow_unused=True) if value.requires_grad else (None,)
    if found is None:
        refuse(name, value, "something whose gradient reaches x: no torch.no_grad, detach or numpy on the way")
    if not found.isfinite().all():
        check_finite("x", x)
        refuse(name, value, "a finite gradient in x")
    return found


def _steered(eps_fn: EpsFn, name: str, guide: Guide, schedule: NoiseSchedule, w: float) -> EpsFn:
    """eps - w sqrt(1 - ab_t) grad_x guide: the score of p_t gains w grad_x guide, and eps = -sqrt(1 - ab) score."""
    w = check_real("w", w)
    if not callable(guide):
        refuse(name.partition("(")[0], guide, f"a function {name}", TypeError)
    check_same_levels(eps_fn, check_schedule("schedule", schedule), range(1, schedule.T + 1))

    def guided(x: Tensor, t: Tensor) -> Tensor:
        check_times("t", t, len(check_batch("x", x)), schedule.T)
        eps = check_like("eps_fn(x, t)", eps_fn(x, t), "x", x)
        if w == 0:
            return eps
        noise = as_column((1 - schedule.alpha_bar[t.cpu()]).sqrt(), x).to(x)
        return eps - w * noise * gradient(guide, x, t, name)

    return of_schedule(guided, schedule)
