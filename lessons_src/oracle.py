"""Exact answers: Gaussian mixtures whose noisy versions are known in closed form at every noise level.

If x0 follows a mixture of Gaussians, so does x_t: component k has mean sqrt(ab) mu_k and covariance ab Sigma_k +
(1 - ab) I. The best possible noise prediction follows, so a sampler run on it shows the sampler's own error alone.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lessons_src.checks import check_batch, check_int, check_labels, check_real, check_times, refuse
from lessons_src.ode import solve
from lessons_src.process import Level, eps_from_score, predict_x0, signal_and_noise
from lessons_src.schedules import NoiseSchedule, check_schedule


class GaussianMixture:
    """Mixture of K Gaussians in d dimensions, each component belonging to a class.

    weights: (K,), positive, summing to 1. means: (K, d). covariances: (K, d, d), symmetric, no negative eigenvalue.
    labels: K class numbers 0..C-1, each used; by default every component is its own class. All float64.
    Raises ValueError for anything else.
    """

    def __init__(
        self,
        weights: list[float] | Tensor,
        means: list[list[float]] | Tensor,
        covariances: list[list[list[float]]] | Tensor,
        labels: list[int] | None = None,
    ) -> None:
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.means = torch.as_tensor(means, dtype=torch.float64)
        self.covariances = torch.as_tensor(covariances, dtype=torch.float64)
        K = self.weights.numel()
        if self.weights.ndim != 1 or not (self.weights > 0).all() or abs(self.weights.sum() - 1) > 1e-9:
            refuse("weights", self.weights.tolist(), "positive numbers that sum to 1")
        if self.means.ndim != 2 or len(self.means) != K:
            refuse("means", self.means, f"shape ({K}, d), a mean for each weight")
        if not self.means.isfinite().all():
            refuse("means", self.means.tolist(), "finite numbers")
        self.dim = self.means.shape[1]
        if self.covariances.shape != (K, self.dim, self.dim):
            refuse("covariances", self.covariances, f"shape ({K}, {self.dim}, {self.dim})")
        if not self.covariances.isfinite().all() or not torch.allclose(self.covariances, self.covariances.mT):
            refuse("covariances", self.covariances.tolist(), "finite, symmetric matrices")
        self._variances, self._axes = torch.linalg.eigh(self.covariances)
        if not (self._variances > -1e-12).all():
            refuse("covariances", self.covariances.tolist(), "matrices without negative eigenvalues")
        labels = list(range(K)) if labels is None else [check_int("labels", label, 0, K - 1) for label in labels]
        self.num_classes = len(set(labels))
        if len(labels) != K or set(labels) != set(range(self.num_classes)):
            refuse("labels", labels, f"{K} class numbers, every class from 0 up used")
        self.labels = torch.tensor(labels)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n clean points: x0 of shape (n, d) float64 and their class labels (n,)."""
        check_int("n", n, 0)
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        k = torch.searchsorted(self.weights.cumsum(0)[:-1].contiguous(), u, right=True)
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64) * self._variances.clamp(min=0).sqrt()[k]
        return self.means[k] + torch.einsum("nij,nj->ni", self._axes[k], z), self.labels[k]

    def log_density(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None = None) -> Tensor:
        """log p_t(x) for x (B, d), or log p_t(x | label); shape (B,), natural logarithm."""
        return torch.logsumexp(self._joint(x, alpha_bar, label)[0], 0)

    def responsibilities(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None = None) -> Tensor:
        """Probability of each component given x_t = x (and the label); shape (B, K)."""
        return self._joint(x, alpha_bar, label)[0].softmax(0).T

    def class_posterior(self, x: Tensor, alpha_bar: Level) -> Tensor:
        """p(label | x_t = x), the perfect noise-aware classifier; shape (B, C)."""
        return self.log_class_posterior(x, alpha_bar).exp()

    def log_class_posterior(self, x: Tensor, alpha_bar: Level) -> Tensor:
        """log p(label | x_t = x), finite as far away as the squares of x are; shape (B, C)."""
        log_joint = self._joint(x, alpha_bar, None)[0]
        own = [log_joint[(self.labels == c).to(x.device)].logsumexp(0) for c in range(self.num_classes)]
        return torch.stack(own, 1).log_softmax(1)

    def score(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None = None) -> Tensor:
        """Gradient of log p_t(x), or of log p_t(x | label), with respect to x; shape (B, d)."""
        log_joint, gradients = self._joint(x, alpha_bar, label)
        return (log_joint.softmax(0).unsqueeze(1) * gradients).sum(0).T

    def eps(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None = None) -> Tensor:
        """The optimal noise prediction E[eps | x_t = x] = -sqrt(1 - alpha_bar) score; shape (B, d)."""
        return eps_from_score(self.score(x, alpha_bar, label), alpha_bar)

    def x0(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None = None) -> Tensor:
        """The optimal clean prediction E[x0 | x_t = x]; shape (B, d)."""
        return predict_x0(x, self.eps(x, alpha_bar, label), alpha_bar)

    def network(self, schedule: NoiseSchedule) -> "OracleNetwork":
        """This mixture as a perfectly trained network net(x, t, label=None) -> eps."""
        return OracleNetwork(self, schedule)

    def _joint(self, x: Tensor, alpha_bar: Level, label: int | Tensor | None) -> tuple[Tensor, Tensor]:
        """Log of weight times density, (K, B), and its gradient in x, (K, d, B), for every noisy component.

        The batch comes last: sums over a few components or dimensions are fast only along long rows.
        """
        if check_batch("x", x).ndim != 2 or x.shape[1] != self.dim:
            refuse("x", x, f"shape (B, {self.dim})")
        signal, noise = signal_and_noise(alpha_bar, x)
        if isinstance(signal, Tensor) and isinstance(noise, Tensor):
            signal, noise = signal.T, noise.T
        variances = signal**2 * self._variances.to(x).unsqueeze(2) + noise**2
        if not (variances > 0).all():
            refuse("alpha_bar", alpha_bar, "less than 1: a component without spread has no density at alpha_bar = 1")
        axes = self._axes.to(x)
        offset = axes.mT @ (x.T - signal * self.means.to(x).unsqueeze(2))
        scaled = offset / variances
        log_normal = -0.5 * ((offset * scaled).sum(1) + (2 * math.pi * variances).log().sum(1))
        return self._log_prior(label, len(x), x) + log_normal, -(axes @ scaled)

    def _log_prior(self, label: int | Tensor | None, batch: int, x: Tensor) -> Tensor:
        """Log component weights, (K, B) or (K, 1), with the components of other classes ruled out."""
        log_weights = self.weights.log().to(x).unsqueeze(1)
        if label is None:
            return log_weights
        label = check_labels("label", label, batch, self.num_classes, x.device)
        allowed = (label == self.labels.to(x.device).unsqueeze(1)) | (label == self.num_classes)
        return log_weights.masked_fill(~allowed, -math.inf).log_softmax(0)


class OracleNetwork:
    """A Gaussian mixture under a schedule, called like a network: net(x, t, label=None) -> eps.

    t is (B,) int64 in 1..T. The null label is `num_classes`; None means the same.
    """

    def __init__(self, mixture: GaussianMixture, schedule: NoiseSchedule) -> None:
        self.mixture, self.schedule = mixture, check_schedule("schedule", schedule)
        self.num_classes = mixture.num_classes

    def __call__(self, x: Tensor, t: Tensor, label: int | Tensor | None = None) -> Tensor:
        """Exact noise prediction for x (B, d) at times t (B,)."""
        return self.mixture.eps(x, self._level(x, t), label)

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p(label | x_t = x) for x (B, d) at times t (B,): what a perfect noise-aware classifier says; (B, C)."""
        return self.mixture.log_class_posterior(x, self._level(x, t))

    def _level(self, x: Tensor, t: Tensor) -> Level:
        check_times("t", t, len(x), self.schedule.T)
        if len(t) and bool((t == t[0]).all()):  # one noise level for the whole batch: cheaper
            return float(self.schedule.alpha_bar[t[0]])
        return self.schedule.alpha_bar[t.cpu()]


def exact_flow(eps: Callable[[Tensor, float], Tensor], x: Tensor, alpha_bar: float, steps: int = 400) -> Tensor:
    """Follow the probability-flow ODE from noise level alpha_bar to clean data, to about 1e-6.

    eps(x, alpha_bar) is a noise prediction at any level, for example `GaussianMixture.eps`. In x / sqrt(alpha_bar) and
    sigma = sqrt((1 - alpha_bar) / alpha_bar) the ODE is dx/dsigma = eps (Song, Meng & Ermon 2020, equation 14); it is
    solved here by the classical fourth-order Runge-Kutta method in `steps` equal steps of log sigma. Raises ValueError
    for alpha_bar outside (0, 1) or steps < 1.
    """
    check_int("steps", steps, 1)
    signal, noise = signal_and_noise(check_real("alpha_bar", alpha_bar), check_batch("x", x), noisy=True)
    last_sigma = 1e-6
    log_sigma = torch.linspace(math.log(noise / signal), math.log(last_sigma), steps + 1, dtype=torch.float64).tolist()

    def slope(y: Tensor, u: float) -> Tensor:
        ab = 1 / (1 + math.exp(2 * u))
        return math.exp(u) * eps(y * math.sqrt(ab), ab)

    *_, y = solve(slope, x / signal, log_sigma, "rk4")
    return y - slope(y, log_sigma[-1])  # the remaining step from last_sigma to zero
