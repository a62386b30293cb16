"""Guidance: turns a conditional network and a wish into an eps_fn(x, t) that any sampler takes.

Convention of the whole course: eps = eps_u + w (eps_c - eps_u). w = 0 is unconditional, w = 1 conditional, w > 1
extrapolates. In the notation of Ho & Salimans (2022), w = 1 + w_HS.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lessons_src.checks import check_floating, check_like, check_real
from lessons_src.samplers import EpsFn


def blend(eps_u: Tensor, eps_c: Tensor, w: float) -> Tensor:
    """eps_u + w (eps_c - eps_u), predictions of one shape (Ho & Salimans 2022, equation 6, with w = 1 + w_HS)."""
    check_like("eps_c", eps_c, "eps_u", check_floating("eps_u", eps_u))
    return eps_u + check_real("w", w) * (eps_c - eps_u)


def classifier_free(net: Callable[..., Tensor], condition: Any, w: float) -> EpsFn:
    """Guided eps_fn(x, t) from net(x, t, condition), which takes None for no condition.

    condition is whatever the network takes, such as one class for all or labels (B,). Each call costs two network
    evaluations, or one when w is 0 or 1 and only one prediction counts. Raises ValueError when w is not finite.
    """
    w = check_real("w", w)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        if w == 0:
            return net(x, t, None)
        if w == 1:
            return net(x, t, condition)
        return blend(net(x, t, None), net(x, t, condition), w)

    return eps_fn
