"""Guidance: turns a conditional network and a wish into an eps_fn(x, t) that any sampler takes.

Convention of the whole course: eps = eps_u + w (eps_c - eps_u). w = 0 is unconditional, w = 1 conditional, w > 1
extrapolates. In the notation of Ho & Salimans (2022), w = 1 + w_HS.
"""

from collections.abc import Callable

from torch import Tensor

from lessons_src.checks import check_floating, check_labels, check_like, check_real
from lessons_src.samplers import EpsFn


def blend(eps_u: Tensor, eps_c: Tensor, w: float) -> Tensor:
    """eps_u + w (eps_c - eps_u), predictions of one shape (Ho & Salimans 2022, equation 6, with w = 1 + w_HS)."""
    check_like("eps_c", eps_c, "eps_u", check_floating("eps_u", eps_u))
    return eps_u + check_real("w", w) * (eps_c - eps_u)


def classifier_free(net: Callable[..., Tensor], label: int | Tensor, w: float) -> EpsFn:
    """Guided eps_fn(x, t) from net(x, t, label), whose null label is `net.num_classes`.

    label is one class for all, or (B,) int64. Each call costs two network evaluations, or one when w is 0 or 1 and
    only one prediction counts. Raises ValueError when w is not finite or a label is out of range.
    """
    w = check_real("w", w)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        c = check_labels("label", label, len(x), net.num_classes, x.device)
        null = c.new_full(c.shape, net.num_classes)
        if w in (0.0, 1.0):
            return net(x, t, c if w else null)
        return blend(net(x, t, null), net(x, t, c), w)

    return eps_fn
