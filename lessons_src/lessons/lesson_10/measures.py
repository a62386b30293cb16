"""What an edit keeps, in numbers: how far pictures lie apart, how bold they are, and how far they lean."""

import torch
from torch import Tensor


def apart(a: Tensor, b: Tensor) -> float:
    """Root mean square difference per pixel, where black is -1 and white 1; the mean over pictures (B, 1, H, W)."""
    return (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean((1, 2, 3)).sqrt().mean().item()


def ink(x: Tensor) -> Tensor:
    """How much of each picture (B, 1, H, W) is white, (B,)."""
    return (x.clamp(-1, 1)[:, 0] + 1).mean((1, 2)) / 2


def slant(x: Tensor) -> Tensor:
    """How far each picture (B, 1, H, W) leans, (B,): pixels to the right for each row up, from its second moments.

    A picture without ink does not lean.
    """
    rows, columns = (torch.arange(n, dtype=x.dtype) for n in x.shape[-2:])
    place = torch.cartesian_prod(rows, columns).T  # row and column of every pixel
    moments = [torch.cov(place, aweights=picture.flatten()) for picture in x.clamp(-1, 1) + 1 + 1e-6]
    return torch.stack([-both[0, 1] / both[0, 0] for both in moments])


def correlation(a: Tensor, b: Tensor) -> float:
    """Of two rows of numbers (N,)."""
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def variety(x: Tensor) -> float:
    """How far two pictures of a set (B, 1, H, W) lie apart per pixel, root mean square over all pairs."""
    return (2 * x.clamp(-1, 1).var(0).mean()).sqrt().item()
