"""Lesson 03: its pictures, the answers to its questions, and right answers to its exercises."""

import math
import re

import numpy as np
import torch
from by_hand import as_column, number
from torch.nn import functional as F

from lessons_src import data, oracle, process, schedules
from lessons_src.lessons.lesson_03 import explorer
from lessons_src.losses import Denoising, Samples
from lessons_src.networks import NoisePredictor, PointMLP, UNet
from lessons_src.schedules import linear
from lessons_src.show.widgets import Live
from lessons_src.training import Recipe, Trainer, train


def points_trainer(batch_size: int = 64) -> Trainer:
    x0, label = data.ring().sample(500, torch.Generator().manual_seed(0))
    net = NoisePredictor(PointMLP(num_classes=8), linear())
    return Trainer(net, Denoising(), Samples(x0.float(), label), Recipe(steps=5, batch_size=batch_size, warmup=2))


def test_a_watched_run_pushes_every_report_and_stores_its_end(monkeypatch):
    shown, stored, pushed = [], [], []
    monkeypatch.setattr(explorer, "get_ipython", lambda: "a kernel")
    monkeypatch.setattr(explorer, "display", shown.append)
    monkeypatch.setattr(Live, "keep", lambda live: stored.append(live))
    monkeypatch.setattr(Live, "update", lambda live, new: pushed.append(new.text) or setattr(live, "picture", new))
    trainer = points_trainer()
    assert explorer.watch_training(trainer, report_every=2) is trainer.ema
    assert shown == stored
    assert len(shown) == 1
    assert [text[:11] for text in pushed] == ["Step 4 of 5", "All 5 steps"]
    assert "s left" in pushed[0]
    assert not re.search(r"\d s\b|images/s", shown[0].picture.text)  # what is stored is the same on every machine
    assert [panel.title for panel in shown[0].picture.panels] == ["Loss since the report before", "Loss by time"]


def test_a_watched_run_on_digits_shows_samples_after_each_quarter(monkeypatch):
    pushed = []
    monkeypatch.setattr(explorer, "get_ipython", lambda: "a kernel")
    monkeypatch.setattr(explorer, "display", lambda live: None)
    monkeypatch.setattr(Live, "keep", lambda live: None)
    monkeypatch.setattr(Live, "update", lambda live, new: pushed.append([panel.title for panel in new.panels]))
    x, label = data.digits("test")
    net = NoisePredictor(UNet(channels=(8, 8)), linear(), "v")
    recipe = Recipe(steps=8, batch_size=2, warmup=2)
    explorer.watch_training(Trainer(net, Denoising(), Samples(x[:8], label[:8]), recipe), report_every=1)
    curves = ["Loss since the report before", "Loss by time"]
    assert pushed == [[*curves, *([f"Samples after step {k // 2 * 2}"] if k > 1 else [])] for k in range(2, 9)]


def test_a_report_may_lack_a_range_of_times(monkeypatch):
    pictures = []
    trainer = points_trainer(batch_size=2)
    train(trainer, lambda progress: pictures.append(explorer.training_picture([progress], trainer)), 1)
    assert all(np.isfinite(y).all() for picture in pictures for y in picture.panels[0].series.values())


def test_without_a_front_end_progress_is_plain_lines(capsys):
    explorer.watch_training(points_trainer(), report_every=2)
    assert [line.split("loss")[0].split() for line in capsys.readouterr().out.splitlines()] == [
        ["step", step, "of", "5"] for step in "245"
    ]


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


ANSWERS = {
    "lowest-loss": lambda: 1 - oracle.GaussianMixture([1.0], [[0]], [[[1.0]]]).eps(number(1), 0.36).item() ** 2,
    "blind-loss": lambda: 1 - (1 - schedules.linear().alpha_bar[1:]).sqrt().mean().item() ** 2,
    "sum-or-mean": lambda: 23.52 / math.prod(data.digits()[0].shape[1:]),
}


RIGHT = {
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
}
