"""Guidance by another network's gradient: exact where the classifier is, never careless with rows, weights or costs."""

import math

import pytest
import torch
from drawn import draws, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lessons_src import captions, data, weights
from lessons_src.guidance import blend, classifier, classifier_free, gradient, similarity
from lessons_src.losses import NoisyClassification, NoisyContrast, Samples
from lessons_src.networks import JointEmbedding, NoisyDigitClassifier
from lessons_src.oracle import GaussianMixture
from lessons_src.process import as_column
from lessons_src.samplers import Counted, ddim, ddpm, sample
from lessons_src.schedules import NoiseSchedule, cosine, linear, make_schedule, time_grid
from lessons_src.solvers import SOLVERS
from lessons_src.training import Recipe, Trainer, train

LINEAR = linear()
TIMES = torch.tensor([1, 300, 300, 1000])


def mixture(seed: int, components: int = 4) -> GaussianMixture:
    """A random one in the plane, of three classes, one of them of two components."""
    roots = draws(components, 2, 2, seed=seed)
    weight = draws(components, seed=seed + 1).softmax(0)
    spread = 0.3 * roots @ roots.mT + 0.05 * torch.eye(2, dtype=torch.float64)
    return GaussianMixture(weight, draws(components, 2, seed=seed + 2), spread, [0, 1, 2, 1])


def steep(log_prob):
    """A guide that learned something else: its rows are log-probabilities, and not those of any mixture."""
    return lambda x, t: (2 * log_prob(x, t) + x.sin().sum(1, keepdim=True) * torch.arange(3)).log_softmax(1)


# --- Exact classes ----------------------------------------------------------------------------------------------------


@given(st.floats(-3, 10), st.integers(0, 2), st.integers(0, 99))
def test_the_exact_classifier_gives_classifier_free_guidance(w, label, seed):
    net = mixture(seed).network(LINEAR)
    x = draws(4, 2, seed=seed)
    by_classifier = classifier(net, net.log_prob, LINEAR, label, w)(x, TIMES)
    free = classifier_free(net, label, w)(x, TIMES)
    assert torch.allclose(by_classifier, free, rtol=0, atol=1e-11 * (1 + abs(w)) * (1 + free.abs().max()))


@given(st.floats(-1, 4), st.sampled_from(sorted(SOLVERS)), st.integers(0, 99))
def test_every_sampler_takes_either_guidance_to_the_same_place(w, solver, seed):
    net, labels = mixture(seed).network(LINEAR), torch.tensor([0, 1, 2, 2, 0])
    x, times = draws(5, 2, seed=seed), time_grid(LINEAR, 6, "log_snr")
    noise = [{"generator": seeded(seed)} if SOLVERS[solver].random else {} for _ in range(2)]
    by_classifier = classifier(net, net.log_prob, LINEAR, labels, w)
    ends = [
        sample(SOLVERS[solver].run(eps_fn, x, LINEAR, times, **options))
        for eps_fn, options in zip((by_classifier, classifier_free(net, labels, w)), noise, strict=True)
    ]
    assert torch.allclose(*ends, rtol=1e-6, atol=1e-8)


def test_ddpm_too(gmm_b):
    net, x, times = gmm_b.network(LINEAR), draws(6, 2), time_grid(LINEAR, 10)
    ends = [
        sample(ddpm(eps_fn, x, LINEAR, times, generator=seeded()))
        for eps_fn in (classifier(net, net.log_prob, LINEAR, 1, 2.5), classifier_free(net, 1, 2.5))
    ]
    assert torch.allclose(*ends, rtol=0, atol=1e-11)


@given(st.integers(0, 99), st.integers(0, 2))
def test_w_1_is_the_conditional_law_from_an_unconditional_base_only(seed, label):
    net, x = mixture(seed).network(LINEAR), draws(4, 2, seed=seed)
    conditional, times = classifier_free(net, label, 1), torch.full((4,), 400)
    right = classifier(net, net.log_prob, LINEAR, label, 1)(x, times)
    twice = classifier(conditional, net.log_prob, LINEAR, label, 1)(x, times)
    assert torch.allclose(right, conditional(x, times), rtol=0, atol=1e-11)
    assert torch.allclose(twice, classifier_free(net, label, 2)(x, times), rtol=0, atol=1e-11)
    assert (twice - conditional(x, times)).abs().max() > 1e-4


@given(st.floats(-3, 5), st.floats(-3, 5), st.integers(0, 99))
def test_scales_add_when_both_guidances_are_used(w, v, seed):
    net, x = mixture(seed).network(LINEAR), draws(4, 2, seed=seed)
    both = classifier(classifier_free(net, 2, v), net.log_prob, LINEAR, 2, w)(x, TIMES)
    alone = classifier_free(net, 2, w + v)(x, TIMES)
    assert torch.allclose(both, alone, rtol=0, atol=1e-10 * (1 + alone.abs().max()))


@given(st.floats(-3, 10), st.integers(0, 99))
def test_the_implicit_classifier_of_any_conditional_network_gives_classifier_free_guidance(w, seed):
    """-(eps_c - eps_u) / sqrt(1 - ab) is the gradient of log p(y | x_t) that a conditional network implies."""
    net = weights.load("points")[0]
    x, t, label = draws(4, 2, seed=seed).float(), TIMES, torch.tensor([7, 0, 3, 8])

    def implicit(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            noise = as_column((1 - net.schedule.alpha_bar[t]).sqrt(), x)
            pull = -(net(x, t, label) - net(x, t)) / noise
        return (pull * x).sum(1)

    with torch.no_grad():
        guided = similarity(net, implicit, net.schedule, w)(x, t)
        free = classifier_free(net, label, w)(x, t)
    assert guided.dtype == torch.float32
    assert torch.allclose(guided, free, rtol=1e-4, atol=1e-4)


def test_a_classifier_that_is_not_exact_is_not_classifier_free_guidance(gmm_b):
    net, x = gmm_b.network(LINEAR), draws(4, 2)
    guided = classifier(net, steep(net.log_prob), LINEAR, 1, 1)(x, TIMES)
    assert (guided - net(x, TIMES, 1)).abs().max() > 0.1


# --- Mistakes that people make ----------------------------------------------------------------------------------------


def test_rows_get_their_own_gradient_whatever_their_batch(gmm_b):
    net, x, labels = gmm_b.network(LINEAR), draws(4, 2), torch.tensor([2, 0, 1, 1])
    guide = steep(net.log_prob)
    together = classifier(net, guide, LINEAR, labels, 3)(x, TIMES)
    alone = [classifier(net, guide, LINEAR, int(c), 3)(x[i : i + 1], TIMES[i : i + 1]) for i, c in enumerate(labels)]
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-12)
    swapped = classifier(net, guide, LINEAR, labels.flip(0), 3)(x, TIMES)
    assert (swapped - together).abs().max() > 0.1


@pytest.mark.parametrize("shape", [(2, 3), (2, 1, 4, 4), (2, 3, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_any_event_shape_against_the_gradient_by_hand(shape, dtype):
    """Of log p = log softmax(c . mean x): (c_y - sum_k p_k c_k) / size, times sqrt(1 - ab_t)."""
    x, t, c = draws(*shape).to(dtype), torch.tensor([200, 900]), torch.tensor([-1.0, 0.5, 2.0], dtype=dtype)
    size = x[0].numel()

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        return (x.flatten(1).mean(1, keepdim=True) * c).log_softmax(1)

    guided = classifier(lambda x, t: torch.ones_like(x), log_prob, LINEAR, torch.tensor([2, 0]), 5.0)(x, t)
    own = (c[[2, 0]] - log_prob(x, t).exp() @ c) / size * (1 - LINEAR.alpha_bar[t]).sqrt().to(dtype)
    assert guided.dtype == dtype
    assert guided.shape == shape
    assert torch.allclose(guided, 1 - 5 * as_column(own, x).expand_as(x), rtol=1e-5, atol=1e-6)


def test_gradients_flow_under_no_grad_and_reach_neither_weights_nor_the_state():
    net, x = nn.Linear(2, 3), torch.randn(4, 2, requires_grad=True)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        assert torch.is_grad_enabled()
        return net(x).log_softmax(1)

    with torch.no_grad():
        guided = classifier(lambda x, t: 0 * x, log_prob, LINEAR, 0, 2.0)(x, TIMES)
        assert not torch.is_grad_enabled()
    assert not guided.requires_grad
    own = gradient(lambda x, t: log_prob(x, t)[:, 0], x, TIMES)
    assert not own.requires_grad, "or every step would keep the graph of the one before"
    assert guided.abs().max() > 0
    assert x.grad is None
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_gradients_flow_in_inference_mode_too(gmm_b):
    """Whose tensors no gradient can be taken of, unless they are copied: x, times and labels made in it."""
    net, x, labels = gmm_b.network(LINEAR), draws(4, 2), torch.tensor([2, 0, 1, 1])
    eps_fn = classifier(net, steep(net.log_prob), LINEAR, labels, 2.0)
    with torch.inference_mode():
        inside = classifier(net, steep(net.log_prob), LINEAR, labels.clone(), 2.0)
        made = x.clone()
        found = [eps_fn(x, TIMES), inside(made, TIMES.clone())]
        end = sample(ddim(eps_fn, x, LINEAR, time_grid(LINEAR, 5)))
    found.append(inside(made, TIMES))
    assert all(torch.equal(eps, eps_fn(x, TIMES)) for eps in found)
    assert torch.equal(end, sample(ddim(eps_fn, x, LINEAR, time_grid(LINEAR, 5))))


def test_a_guide_that_writes_into_its_input_spoils_no_state():
    def guide(x: Tensor, t: Tensor) -> Tensor:
        x.data.zero_()
        return x.sum(1)

    x = draws(4, 2)
    gradient(guide, x, TIMES)
    assert torch.equal(x, draws(4, 2))


def test_an_empty_batch_stays_empty(gmm_b):
    net, x, t = gmm_b.network(LINEAR), torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    for label in (0, t):
        assert classifier(net, net.log_prob, LINEAR, label, 2.0)(x, t).shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_few_digits_of_a_number_are_no_reason_to_refuse_it(dtype, classes):
    """log(1 / 100) is rounded to -4.59 in bfloat16, so a hundred equal shares seem to sum to 1.012."""
    x = draws(4, 2).to(dtype)

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        return (0 * x[:, :1].expand(-1, classes)).log_softmax(1)

    assert classifier(lambda x, t: x, log_prob, LINEAR, 0, 2.0)(x, TIMES).dtype == dtype


@pytest.mark.parametrize(("w", "cost"), [(0, 0), (0.0, 0), (1, 1), (-2.0, 1), (7.5, 1)])
def test_cost_in_forward_and_backward_passes(gmm_b, w, cost):
    net = gmm_b.network(LINEAR)
    base, guide = Counted(net), Counted(net.log_prob)
    sample(ddim(classifier(base, guide, LINEAR, 0, w), draws(4, 2), LINEAR, time_grid(LINEAR, 5)))
    assert (base.nfe, base.backward) == (5, 0)
    assert (guide.nfe, guide.backward) == (5 * cost, 5 * cost)


def test_a_guide_that_looks_through_the_base_costs_a_backward_pass_of_it_too(gmm_b):
    """A similarity of the clean prediction: twice the base forward, once backward."""
    net = gmm_b.network(LINEAR)
    base, x = Counted(net), draws(4, 2)
    similarity(base, lambda x, t: -(x - base(x, t)).square().sum(1), LINEAR, 1.0)(x, TIMES)
    assert (base.nfe, base.backward) == (2, 1)


def test_w_0_is_the_base_itself_and_scales_are_linear(gmm_b):
    net, x = gmm_b.network(LINEAR), draws(4, 2)
    eps = {w: classifier(net, steep(net.log_prob), LINEAR, 1, w)(x, TIMES) for w in (-1, 0, 1, 2)}
    assert torch.equal(eps[0], net(x, TIMES))
    assert torch.allclose(eps[2] - eps[0], 2 * (eps[1] - eps[0]), rtol=0, atol=1e-12)
    assert torch.allclose(eps[-1], blend(eps[0], eps[1], -1), rtol=0, atol=1e-12)


# --- Refusals ---------------------------------------------------------------------------------------------------------

X, T = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([5, 5])


def even(x: Tensor, t: Tensor) -> Tensor:
    return (x[:, :2] * 1).log_softmax(1)


def by(log_prob=even, label=0, w=2.0, x=X, t=T, base=lambda x, t: x):
    return classifier(base, log_prob, LINEAR, label, w)(x, t)


def like(guide, w=2.0):
    return similarity(lambda x, t: x, guide, LINEAR, w)(X, T)


REFUSED = [
    ("label above", lambda: by(label=2), ValueError, "label is 2; expected a whole number from 0 to 1"),
    ("label below", lambda: by(label=-1), ValueError, "label is -1; expected a whole number from 0 to 1"),
    ("label bool", lambda: by(label=True), TypeError, "label is True; expected a whole number"),
    ("labels above", lambda: by(label=torch.tensor([0, 2])), ValueError, "label is [0, 2]; expected one int or int64"),
    ("labels of another batch", lambda: by(label=torch.tensor([0])), ValueError, "label is a tensor of shape (1,)"),
    ("labels float", lambda: by(label=torch.tensor([0.0, 1.0])), TypeError, "label is a tensor of shape (2,), torch.f"),
    ("w NaN", lambda: by(w=math.nan), ValueError, "w is nan; expected a finite number"),
    ("w text", lambda: like(even, w="2"), TypeError, "w is '2'; expected a finite number"),
    ("t zero", lambda: by(t=torch.tensor([0, 1])), ValueError, "t is [0, 1]; expected shape (2,), times from 1"),
    ("t negative", lambda: by(t=torch.tensor([-1, 1])), ValueError, "t is [-1, 1]; expected shape (2,), times from 1"),
    ("t float", lambda: by(t=torch.tensor([1.0, 1.0])), TypeError, "t is a tensor of shape (2,), torch.float32"),
    ("x a point", lambda: by(x=X[0]), ValueError, "x is a tensor of shape (3,), torch.float64; expected shape (B, *e"),
    ("eps of another shape", lambda: by(base=lambda x, t: x[:1]), ValueError, "eps_fn(x, t) is a tensor of shape (1,"),
    ("log p as a number", lambda: by(lambda x, t: 0.5), TypeError, "log_prob(x, t) is 0.5; expected a floating-point"),
    ("log p of one class", lambda: by(lambda x, t: even(x, t)[:, 0]), ValueError, "log_prob(x, t) is a tensor of sha"),
    ("log p of another batch", lambda: by(lambda x, t: even(x, t)[:1]), ValueError, "log_prob(x, t) is a tensor of s"),
    ("p, not log p", lambda: by(lambda x, t: even(x, t).exp()), ValueError, "log_prob(x, t) is; log-probabilities"),
    ("logits", lambda: by(lambda x, t: x[:, :2]), ValueError, "log_prob(x, t) is; logits need log_softmax(1)"),
    ("log p NaN", lambda: by(lambda x, t: even(x, t) * math.nan), ValueError, "log_prob(x, t) is; log-probabilities"),
    ("no_grad around it", lambda: by(torch.no_grad()(even)), ValueError, "log_prob(x, t) is; no torch.no_grad"),
    ("detached", lambda: like(lambda x, t: x.detach().sum(1)), ValueError, "similarity(x, t) is; gradient reaches x"),
    ("similarity (B, 1)", lambda: like(lambda x, t: x.sum(1, True)), ValueError, "similarity(x, t) is; shape (2,)"),
    ("similarity of all", lambda: like(lambda x, t: x.sum()), ValueError, "similarity(x, t) is; shape (2,)"),
    (
        "infinite",
        lambda: like(lambda x, t: x.abs().sqrt().sum(1)),
        ValueError,
        "similarity(x, t) is; a finite gradient",
    ),
    ("gradient", lambda: gradient(lambda x, t: x, X, T), ValueError, "guide(x, t) is; shape (2,), one number a sample"),
]


@pytest.mark.parametrize(("call", "kind", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals_name_what_is_wrong(call, kind, says):
    with pytest.raises(kind) as caught:
        call()
    start, *parts = says.split(" is; ")
    assert str(caught.value).startswith(start)
    assert all(part in str(caught.value) for part in parts)


def test_a_guide_that_does_not_look_at_x_is_noticed():
    with pytest.raises(ValueError, match=r"similarity\(x, t\) is .*gradient reaches x"):
        like(lambda x, t: torch.zeros(len(x), dtype=x.dtype))
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)  # it has a gradient, and none in x
    with pytest.raises(ValueError, match=r"similarity\(x, t\) is .*gradient reaches x"):
        like(lambda x, t: weight * x.detach().sum(1))


# --- Its loss ---------------------------------------------------------------------------------------------------------


def test_noise_is_that_of_training_a_denoiser_and_the_level_is_told():
    """Of pixels 0 the noise can be measured: its variance is 1 - alpha_bar of a cosine schedule's times."""
    told = []

    def net(x: Tensor, alpha_bar: Tensor) -> Tensor:
        told.append((x.flatten(1).var(1), alpha_bar))
        return torch.zeros(len(x), 10)

    x, label = torch.zeros(50, 1, 28, 28), torch.zeros(50, dtype=torch.int64)
    losses = NoisyClassification(shift=0)(net, (x, label), seeded())
    ((variance, alpha_bar),) = told
    assert variance.numpy() == pytest.approx((1 - alpha_bar).numpy(), rel=0.25, abs=1e-6)
    assert set(alpha_bar.tolist()) <= set(cosine().alpha_bar.tolist())
    assert losses.tenth.tolist() == [k // 5 for k in range(50)]
    assert losses.each.tolist() == pytest.approx([math.log(10)] * 50)
    assert repr(NoisyClassification()) == "NoisyClassification(shift=2, schedule='cosine')"


def test_a_noisy_classifier_learns_in_the_one_loop():
    torch.manual_seed(0)
    samples = Samples(*(part[:500] for part in data.digits("train")))
    recipe, reports = Recipe(steps=80, batch_size=50, learning_rate=4e-3, warmup=10, ema=0.9), []
    net = train(
        Trainer(NoisyDigitClassifier(), NoisyClassification(), samples, recipe), reports.append, report_every=40
    )
    x, y = (part[:500] for part in data.digits("test"))
    assert (net(x, 0.99).argmax(1) == y).double().mean() > 0.5
    assert len(reports[1].loss_by_time) == 10
    assert reports[1].loss_by_time[0] < 1.5 < 2.2 < reports[1].loss_by_time[9]


def test_losses_refuse_data_that_do_not_fit():
    x, recipe, texts = torch.zeros(4, 1, 28, 28), Recipe(1, 2), JointEmbedding(len(captions.WORDS))
    with pytest.raises(ValueError, match="label is None"):
        Trainer(NoisyDigitClassifier(), NoisyClassification(), Samples(x), recipe)
    with pytest.raises(TypeError, match="batches is"):
        Trainer(NoisyDigitClassifier(64), NoisyContrast(texts=texts), Samples(x), recipe)
    with pytest.raises(ValueError, match="name is 'straight'"):
        NoisyClassification(schedule="straight")(NoisyDigitClassifier(), (x, torch.zeros(4).long()), seeded())


def test_the_noisy_tower_learns_beside_captions_that_stay():
    torch.manual_seed(0)
    x, y = (part[:100] for part in data.digits("train"))
    texts, pairs = weights.load("embedding")[0], captions.Captioned(x, captions.attributes(x, y))
    before = {key: value.clone() for key, value in texts.state_dict().items()}
    recipe = Recipe(steps=30, batch_size=50, learning_rate=4e-3, warmup=5, ema=0.9)
    reports = []
    train(Trainer(NoisyDigitClassifier(64), NoisyContrast(texts=texts), pairs, recipe), reports.append, 10)
    assert reports[-1].loss < reports[0].loss
    assert all(torch.equal(value, before[key]) for key, value in texts.state_dict().items())


# --- A classifier that knows noise ------------------------------------------------------------------------------------


def noised(t: int, n: int = 500) -> tuple[Tensor, Tensor, float]:
    x, y = data.digits("test")
    ab = float(cosine().alpha_bar[t])
    eps = torch.randn(n, 1, 28, 28, generator=seeded(t))
    return ab**0.5 * x[:n] + (1 - ab) ** 0.5 * eps, y[:n], ab


@pytest.fixture(scope="module")
def shipped() -> NoisyDigitClassifier:
    return weights.load("noisy_classifier")[0]


@torch.no_grad()
def test_the_shipped_one_reads_noisy_digits_where_the_clean_one_cannot(shipped):
    clean, (_, card) = weights.load("classifier")[0], weights.load("noisy_classifier")
    assert (weights.FOLDER / "noisy_classifier.safetensors").stat().st_size < 200_000
    assert "first 10,000 training digits" in card["data"]
    for t, floor in ((1, 0.97), (300, 0.96), (500, 0.93), (700, 0.75), (900, 0.2)):
        x, y, ab = noised(t)
        right = (shipped(x, ab).argmax(1) == y).double().mean().item()
        said = card["metrics"][f"t = {t}"]["accuracy on test digits"]
        assert right > floor
        assert abs(right - said) < 4 * math.sqrt(said * (1 - said) / len(x)) + 0.01
        if t >= 500:
            assert right > (clean(x).argmax(1) == y).double().mean().item() + 0.1


@torch.no_grad()
def test_where_nothing_can_be_read_it_says_so(shipped):
    x, _, ab = noised(1000)
    assert torch.allclose(shipped(x, ab).softmax(1), torch.full((500, 10), 0.1), atol=0.01)


def test_its_gradient_vanishes_with_the_signal(shipped):
    """So that what it adds to x0, gradient / sqrt(ab), stays bounded at the last times of the cosine schedule."""
    sizes = []
    for t in (900, 990, 1000):
        x, y, ab = noised(t, 50)
        log_p = lambda x, t, ab=ab, y=y: shipped(x, ab).log_softmax(1).gather(1, y[:, None])[:, 0]  # noqa: E731
        sizes.append(gradient(log_p, x, torch.full((50,), t)).flatten(1).norm(dim=1).mean().item() / ab**0.5)
    assert max(sizes) < 4 * min(sizes)


@torch.no_grad()
def test_every_schedule_serves(shipped):
    """A level is what it is, whichever schedule visits it, and a number does for a batch."""
    x, levels = torch.randn(3, 1, 28, 28, generator=seeded()), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    together = shipped(x, levels)
    for i, ab in enumerate(levels.tolist()):
        assert torch.allclose(shipped(x[i : i + 1], ab), together[i : i + 1], atol=1e-4)
    assert (shipped(x, 0.9) / 0.9**0.5 - shipped(x, 0.5) / 0.5**0.5).abs().max() > 0.1  # the level, not the factor
    assert shipped(x, 1.0).isfinite().all()


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, math.nan, torch.tensor([0.5, 2.0, 0.5])], ids=str)
def test_levels_and_images_that_it_does_not_take(bad):
    net = NoisyDigitClassifier()
    with pytest.raises(ValueError, match="alpha_bar is"):
        net(torch.zeros(3, 1, 28, 28), bad)
    with pytest.raises(ValueError, match="x is a tensor of shape"):
        net(torch.zeros(3, 28, 28), 0.5)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_it_steers_digits_under_any_schedule(shipped, name):
    """From noise at a level that both know, by a base that knows nothing: to where the classifier is sure."""
    schedule = make_schedule(name)
    below = NoiseSchedule(schedule.alpha_bar[:901])
    label, x = torch.arange(10), torch.randn(10, 1, 28, 28, generator=seeded())

    def base(x: Tensor, t: Tensor) -> Tensor:
        return x * as_column((1 - schedule.alpha_bar[t]).sqrt(), x).float()  # exact where pixels are N(0, 1)

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        return shipped(x, schedule.alpha_bar[t]).log_softmax(1)

    made = sample(ddim(classifier(base, log_prob, schedule, label, 10.0), x, schedule, time_grid(below, 20)))
    assert (shipped(made, 1.0).argmax(1) == label).double().mean() >= 0.9


@torch.no_grad()
def test_clip_guidance_turns_noise_into_what_the_caption_says():
    """By an embedding that knows noise; the judge, who knows no captions, reads threes."""
    net, texts, tower = (weights.load(name)[0] for name in ("digits", "embedding", "noisy_embedding"))
    said, x = captions.tokens(["a three"]), torch.randn(20, 1, 28, 28, generator=seeded())

    def fit(x: Tensor, t: Tensor) -> Tensor:
        return texts.scale * (tower(x, net.schedule.alpha_bar[t]) * texts.text(said)).sum(1)

    plain, steered = (
        sample(ddim(similarity(net, fit, net.schedule, w), x, net.schedule, time_grid(net.schedule, 10)))
        for w in (0.0, 5.0)
    )
    assert texts.cosine(steered, said).mean() > texts.cosine(plain, said).mean() + 0.2
    judge = weights.load("judge")[0]
    assert (judge(plain).argmax(1) == 3).sum() < 6 < 14 < (judge(steered).argmax(1) == 3).sum()


def test_an_x_that_is_not_finite_is_named_and_not_the_guide():
    net, x = mixture(0).network(LINEAR), draws(4, 2)
    x[1, 0] = math.nan
    fit = lambda x, t: x.square().sum(1)  # noqa: E731
    for eps_fn in (classifier(net, net.log_prob, LINEAR, 1, 2.0), similarity(net, fit, LINEAR, 2.0)):
        with pytest.raises(ValueError, match=r"^x is .*; expected finite values"):
            eps_fn(x, TIMES)


@pytest.mark.parametrize(("build", "name"), [(classifier, "log_prob"), (similarity, "similarity")])
def test_a_guide_is_a_function(build, name):
    options = {"label": 1} if build is classifier else {}
    with pytest.raises(TypeError, match=rf"{name} is None; expected a function {name}\(x, t\)"):
        build(mixture(0).network(LINEAR), None, LINEAR, w=1.0, **options)
