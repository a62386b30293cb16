"""Train the networks that ship with the course and write them with their cards: `make weights`.

Each card says how its network was made, and what it scored.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import lessons_src
from lessons_src import captions, data
from lessons_src.evaluation import Reference, accuracy, digit_quality, in_batches
from lessons_src.guidance import classifier_free
from lessons_src.losses import Classification, Contrast, Denoising, NoisyClassification, NoisyContrast, Samples
from lessons_src.networks import (
    UNET_PRESETS,
    DigitClassifier,
    JointEmbedding,
    NoisePredictor,
    NoisyDigitClassifier,
    PointMLP,
    UNet,
)
from lessons_src.oracle import GaussianMixture
from lessons_src.process import add_noise, noise_like
from lessons_src.samplers import ddim, sample
from lessons_src.schedules import make_schedule, time_grid
from lessons_src.training import Recipe, Trainer, best_device, print_progress, train
from lessons_src.weights import load, save

DIGITS = "MNIST, first 10,000 training digits; metrics on the first 2,000 test digits"
CLASSIFIER = Recipe(steps=2000, batch_size=100, learning_rate=6e-3, warmup=100, ema=0.995)
JUDGE_DIGITS = "MNIST, test digits 2,000 to 5,999; metrics on the first 2,000 test and 10,000 training digits"
JUDGE = replace(CLASSIFIER, steps=1500)  # 90 seconds of one core
NOISY = Recipe(steps=3000, batch_size=128, ema=0.998)  # 150 seconds of one core
LEVELS = (1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)  # times of the cosine schedule, T = 1000
EMBEDDING = Recipe(steps=1500, batch_size=128, learning_rate=6e-3, warmup=100, ema=0.995)  # 160 seconds of one core


def train_classifier(x: Tensor, label: Tensor, recipe: Recipe = CLASSIFIER) -> DigitClassifier:
    """Train a digit classifier on images shifted by up to two pixels."""
    torch.manual_seed(recipe.seed)
    return train(Trainer(DigitClassifier(), Classification(), Samples(x, label), recipe))


def generate(net: NoisePredictor, n: int, w: float, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """n digits in [-1, 1], equally many of each label, by guided DDIM, and their labels."""
    noise, device = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed)), net.signal.device
    label, noise, times = (torch.arange(n) % 10).to(device), noise.to(device), time_grid(net.schedule, steps)
    parts = [
        sample(ddim(classifier_free(net, c, w), z, net.schedule, times))
        for z, c in zip(noise.split(250), label.split(250), strict=True)
    ]
    return torch.cat(parts).clamp(-1, 1), label


def make_classifier() -> None:
    """Train and write the classifier that reads digits in explorers; scores come from the judge."""
    (x, y), (x_test, y_test), start = data.digits("train"), data.digits("test"), time.perf_counter()
    net = train_classifier(x, y)
    seconds = time.perf_counter() - start
    metrics = {"accuracy on test digits": accuracy(net, x_test, y_test), "n": len(x_test)}
    save("classifier", net, _card("DigitClassifier", {}, DIGITS, seconds, metrics, recipe=asdict(CLASSIFIER)))


def make_judge() -> None:
    """Train and write the judge of samples, on digits that neither generators nor their references have seen."""
    start = time.perf_counter()
    net = train_classifier(*data.digits_judge(), JUDGE)
    seconds = time.perf_counter() - start
    save("judge", net, _card("DigitClassifier", {}, JUDGE_DIGITS, seconds, judge_metrics(net), recipe=asdict(JUDGE)))


def judge_metrics(net: DigitClassifier) -> dict[str, Any]:
    """How a judge reads digits that it has not seen, and what real ones score under it: see `Reference.floor`."""
    (x, y), (x_test, y_test) = data.digits("train"), data.digits("test")
    mean, spread = Reference(net.features, x_test, x, y).floor(y_test, draws=100)
    return {
        "accuracy on test digits": accuracy(net, x_test, y_test),
        "accuracy on training digits": accuracy(net, x, y),
        "floor": mean,
        "spread of the floor": spread,
        "n": len(x_test),
    }


def make_noisy_classifier() -> None:
    """Train and write the classifier that reads noisy digits too, the guide of lesson 07."""
    loss, samples, start = NoisyClassification(), Samples(*data.digits("train")), time.perf_counter()
    torch.manual_seed(NOISY.seed)
    net = train(Trainer(NoisyDigitClassifier(), loss, samples, NOISY), print_progress, report_every=250)
    seconds, metrics = time.perf_counter() - start, noisy_metrics(net)
    made = {"loss": repr(loss), "recipe": asdict(NOISY)}
    save("noisy_classifier", net, _card("NoisyDigitClassifier", {}, DIGITS, seconds, metrics, **made))


def noisy_metrics(net: NoisyDigitClassifier) -> dict[str, Any]:
    """Accuracy on test digits at noise levels from clean to nothing but noise, and its mean surprise, -log p(label)."""
    (x, y), found = data.digits("test"), {}
    for t, alpha_bar, x_t in _levels(x):
        log_p = in_batches(lambda part, ab=alpha_bar: net(part, ab).log_softmax(1), x_t)
        found[f"t = {t}"] = {
            "accuracy on test digits": (log_p.argmax(1) == y).double().mean().item(),
            "cross-entropy": F.nll_loss(log_p, y).item(),
        }
    return {"n": len(x), **found}


def make_embedding() -> None:
    """Train and write the joint embedding of digits and captions, of attributes measured in the training digits."""
    (x, y), arguments, start = data.digits("train"), {"words": len(captions.WORDS)}, time.perf_counter()
    torch.manual_seed(EMBEDDING.seed)
    pairs = captions.Captioned(x, captions.attributes(x, y))
    net = train(Trainer(JointEmbedding(**arguments), Contrast(), pairs, EMBEDDING), print_progress, report_every=250)
    made = {"loss": repr(Contrast()), "recipe": asdict(EMBEDDING)}
    seconds, metrics = time.perf_counter() - start, embedding_metrics(net)
    save("embedding", net, _card("JointEmbedding", arguments, DIGITS, seconds, metrics, **made))


def make_noisy_embedding() -> None:
    """Train and write the images' tower that reads noisy digits too, beside the captions' tower that is there."""
    (x, y), start, texts = data.digits("train"), time.perf_counter(), load("embedding")[0]
    loss, arguments = NoisyContrast(texts=texts), {"outputs": texts.narrow.out_features}
    torch.manual_seed(NOISY.seed)
    pairs = captions.Captioned(x, captions.attributes(x, y))
    net = train(Trainer(NoisyDigitClassifier(**arguments), loss, pairs, NOISY), print_progress, report_every=250)
    made = {"loss": repr(loss), "captions": "text tower of embedding", "recipe": asdict(NOISY)}
    seconds, metrics = time.perf_counter() - start, noisy_embedding_metrics(net, texts)
    save("noisy_embedding", net, _card("NoisyDigitClassifier", arguments, DIGITS, seconds, metrics, **made))


@torch.no_grad()
def noisy_embedding_metrics(net: NoisyDigitClassifier, texts: JointEmbedding) -> dict[str, Any]:
    """How often noisy test digits find the word for their digit, of ten, and their whole caption, of 90."""
    x, y = data.digits("test")
    every, words = captions.every(), captions.UNSAID.repeat(10, 1)
    words[:, 0] = torch.arange(10)
    true = (captions.attributes(x, y)[:, None] == every).all(2).long().argmax(1)
    told = [texts.text(captions.tokens(captions.write(said))).T for said in (words, every)]
    found = {}
    for t, alpha_bar, x_t in _levels(x):
        image = in_batches(lambda part, ab=alpha_bar: net(part, ab), x_t)
        right = [
            ((image @ text).argmax(1) == a).double().mean().item() for text, a in zip(told, (y, true), strict=True)
        ]
        found[f"t = {t}"] = {"of 10 words for digit": right[0], "of 90 captions": right[1]}
    return {"n": len(x), **found}


def _levels(x: Tensor) -> Iterator[tuple[int, float, Tensor]]:
    """LEVELS, their alpha_bar, and x (n, *event) noised to each."""
    for t in LEVELS:
        alpha_bar = float(make_schedule("cosine").alpha_bar[t])
        yield t, alpha_bar, add_noise(x, noise_like(x, torch.Generator().manual_seed(t)), alpha_bar)


@torch.no_grad()
def embedding_metrics(net: JointEmbedding) -> dict[str, Any]:
    """How often test digits find what is true of them, beside the most frequent answer, and how well captions fit.

    The right one of all captions that say everything; then of those that say one attribute, and nothing else.
    """
    x, y = data.digits("test")
    true, image = captions.attributes(x, y), in_batches(net.image, x)

    def cosines(said: Tensor) -> Tensor:
        return image @ net.text(captions.tokens(captions.write(said))).T

    def asked(said: Tensor, answer: Tensor) -> dict[str, float]:
        right = (cosines(said).argmax(1) == answer).double().mean().item()
        return {"found": right, "most frequent": answer.bincount().max().item() / len(answer)}

    every = captions.every()
    found: dict[str, Any] = {"of 90 captions": asked(every, (true[:, None] == every).all(2).long().argmax(1))}
    for k, name in enumerate(("digit", "thickness", "slant")):
        said = captions.UNSAID.repeat(int(captions.UNSAID[k]), 1)
        said[:, k] = torch.arange(len(said))
        found[f"of {len(said)} words for {name}"] = asked(said, true[:, k])
    own = (image * net.text(captions.tokens(captions.write(true)))).sum(1)
    return found | {"cosine with the own caption": own.mean().item(), "n": len(x)}


def make_digits(recipe: Recipe, device: torch.device) -> None:
    """Train and write the class-conditional digit network, and judge 2,000 of its samples."""
    arguments, schedule, loss = UNET_PRESETS["small"], {"name": "cosine", "T": 1000}, Denoising()
    torch.manual_seed(recipe.seed)
    start = time.perf_counter()
    net = NoisePredictor(UNet(**arguments), make_schedule(**schedule), "v")
    trainer = Trainer(net, loss, Samples(*data.digits("train")), recipe, device, "auto")
    net = train(trainer, print_progress, report_every=200).cpu()
    seconds = time.perf_counter() - start
    run = {"precision": trainer.precision, "device": str(device), "threads": torch.get_num_threads()}
    made = {"schedule": schedule, "prediction": "v", "loss": repr(loss), "recipe": asdict(recipe)}
    save("digits", net, _card("UNet", arguments, DIGITS, seconds, digits_metrics(net), **made, **run))


def digits_metrics(net: NoisePredictor) -> dict[str, Any]:
    """What the shipped judge says of 2,000 digits, without guidance and with a little."""
    judge, _ = load("judge")
    reference = Reference(judge.features, data.digits("test")[0], *data.digits("train"))
    return {
        f"w = {w:g}, 20 DDIM steps": digit_quality(reference, judge, *generate(net, 2000, w, 20, seed=1))._asdict()
        for w in (1.0, 2.0)
    }


def make_points() -> None:
    """Train and write a network for the eight Gaussians, where the exact optimum is known."""
    mixture, schedule, recipe = data.ring(), {"name": "cosine", "T": 1000}, Recipe(3000, 256, 2e-3, ema=0.998)
    x, label = mixture.sample(20_000, torch.Generator().manual_seed(0))
    torch.manual_seed(recipe.seed)
    start = time.perf_counter()
    arguments, loss = {"num_classes": 8}, Denoising()
    net = NoisePredictor(PointMLP(**arguments), make_schedule(**schedule), "v")
    net = train(Trainer(net, loss, Samples(x.float(), label), recipe), print_progress, report_every=1000)
    seconds, metrics = time.perf_counter() - start, excess_loss(net, mixture)
    made = {"schedule": schedule, "prediction": "v", "loss": repr(loss), "recipe": asdict(recipe)}
    source = "20,000 points of data.ring()"
    save("points", net, _card("PointMLP", arguments, source, seconds, metrics, **made, precision="float32"))


@torch.no_grad()
def excess_loss(net: NoisePredictor, mixture: GaussianMixture) -> dict[str, float]:
    """Mean squared error of predicted noise on 20,000 fresh points, beside the smallest that is possible."""
    generator = torch.Generator().manual_seed(1)
    x0, _ = mixture.sample(20_000, generator)
    t = torch.randint(1, net.schedule.T + 1, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    ab = net.schedule.alpha_bar[t]
    x_t = add_noise(x0, eps, ab)
    reached = (net(x_t.float(), t) - eps).square().mean().item()
    return {"loss": reached, "smallest possible loss": (mixture.eps(x_t, ab) - eps).square().mean().item()}


def _card(network: str, arguments: dict, source: str, seconds: float, metrics: dict, **more: Any) -> dict[str, Any]:
    return {
        "network": network,
        "arguments": arguments,
        "data": source,
        "command": "make weights",
        "course": lessons_src.__version__,
        **more,
        "seconds of training": round(seconds, 1),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "metrics": metrics,
    }


def main() -> None:
    """Train and write all shipped weights."""
    parser = argparse.ArgumentParser(prog="python -m lessons_src.make.weights", description=main.__doc__)
    names = ("classifier", "judge", "noisy_classifier", "embedding", "noisy_embedding", "points", "digits")
    parser.add_argument("--only", choices=names, help="make one of them")
    only = parser.parse_args().only
    device = best_device()
    if only in (None, "classifier"):
        make_classifier()
    if only in (None, "judge"):
        make_judge()
    if only in (None, "noisy_classifier"):
        make_noisy_classifier()
    if only in (None, "embedding"):
        make_embedding()
    if only in (None, "noisy_embedding"):
        make_noisy_embedding()
    if only in (None, "points"):
        make_points()
    if only in (None, "digits"):
        make_digits(Recipe(steps=6000, batch_size=32, ema=0.998), device)


if __name__ == "__main__":
    main()
