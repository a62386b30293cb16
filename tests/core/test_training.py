"""Training learns, resumes exactly, refuses what does not fit, and is the same in one process or two."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lessons_src import data, oracle, training
from lessons_src.networks import PointMLP
from lessons_src.schedules import cosine, linear
from lessons_src.training import Recipe, Trainer, train


def points(n=400):
    mixture = data.ring(4)
    x, label = mixture.sample(n, torch.Generator().manual_seed(0))
    return x.float(), label


def trainer(seed=0, net_seed=0, prediction="eps", schedule=None, width=32, **changes):
    torch.manual_seed(net_seed)
    net = PointMLP(schedule or cosine(100), num_classes=4, width=width, prediction=prediction)
    x, label = points()
    return Trainer(net, x, label, Recipe(**({"steps": 40, "batch_size": 32, "warmup": 5, "seed": seed} | changes)))


def weights(run):
    return torch.cat([value.flatten() for value in run.net.state_dict().values()])


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_loss_comes_close_to_the_exact_optimum(prediction):
    schedule = linear(100, 0.001, 0.2)
    mixture = data.ring(4)
    x, label = mixture.sample(4000, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = PointMLP(schedule, num_classes=4, width=64, prediction=prediction)
    net = train(Trainer(net, x.float(), label, Recipe(steps=1500, batch_size=256, label_drop=0.5)))
    x0, label = mixture.sample(20_000, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    t = torch.randint(1, 101, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    ab = schedule.alpha_bar[t][:, None]
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    exact = oracle.OracleNetwork(mixture, schedule)
    for condition in (None, label):
        best = (exact(x_t, t, condition) - eps).square().mean()
        with torch.no_grad():
            reached = (net(x_t.float(), t, condition) - eps).square().mean()
        assert best < reached < 1.15 * best


def test_resuming_is_bitwise_the_same_as_not_stopping(tmp_path):
    straight = trainer()
    train(straight)
    first = trainer()
    for step, *_ in first.run():
        if step == 17:
            first.save(tmp_path / "run.pt")
            break
    second = trainer(net_seed=1)
    train(second, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(straight), weights(second))
    average = [torch.cat([v.flatten() for v in run.ema.state_dict().values()]) for run in (straight, second)]
    assert torch.equal(*average)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 16}, "shapes"),
        ({"schedule": linear(100)}, "alpha_bar"),
        ({"prediction": "v"}, "prediction"),
        ({"steps": 50}, "recipe"),
    ],
    ids=["architecture", "schedule", "prediction", "recipe"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, named):
    trainer().save(tmp_path / "run.pt")
    other = trainer(**changes)
    before = weights(other).clone()
    with pytest.raises(ValueError, match=f"{named} in .*run.pt"):
        other.load(tmp_path / "run.pt")
    assert torch.equal(weights(other), before)


@pytest.mark.parametrize("damage", ["truncated", "empty", "not a checkpoint", "another pickle"])
def test_a_damaged_checkpoint_is_named_and_kept(tmp_path, damage):
    path = tmp_path / "run.pt"
    trainer().save(path)
    whole = path.read_bytes()
    if damage == "another pickle":
        torch.save({"step": 3}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "not a checkpoint": b"hello"}[damage])
    found = path.read_bytes()
    with pytest.raises(ValueError, match=r"path is '.*run\.pt'"):
        train(trainer(), checkpoint=path)
    assert path.read_bytes() == found


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "was_run").touch, ())

    torch.save(Evil(), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="path is"):
        trainer().load(tmp_path / "run.pt")
    assert not (tmp_path / "was_run").exists()


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    run = trainer()

    def press_ctrl_c(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, report=press_ctrl_c, report_every=10, checkpoint=tmp_path / "run.pt")
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 20


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    run = trainer()
    run.save(tmp_path / "run.pt")
    whole = (tmp_path / "run.pt").read_bytes()
    run.x0[0] = float("nan")
    run.x0[:] = run.x0[0]
    with pytest.raises(FloatingPointError, match="loss is nan at step 10"):
        for _ in train(run, report_every=10, checkpoint_every=15, checkpoint=None).parameters():
            pass
    assert (tmp_path / "run.pt").read_bytes() == whole


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    path.write_bytes(b"old")

    def full(state, part):
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"run\.pt could not be written.*No space left"):
        trainer().save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


TINY = ["-m", "lessons_src.training", "--network", "small", "--batch-size", "8", "--warmup", "2", "--device", "cpu"]


def launch(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def finish(*command):
    process = launch(*command)
    output, _ = process.communicate(timeout=110)
    assert process.returncode == 0, output
    return output


def test_two_processes_train_what_one_does(tmp_path):
    steps = ["--steps", "6", "--report-every", "3"]
    one = finish(*TINY, *steps, "--out", str(tmp_path / "one.pt"))
    two = finish("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--rdzv_backend=c10d",
                 "--rdzv_endpoint=127.0.0.1:0", *TINY, *steps, "--out", str(tmp_path / "two.pt"))  # fmt: skip
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-4
    losses = [re.findall(r"loss (\d\.\d+)", output) for output in (one, two)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def test_a_killed_process_loses_only_the_steps_since_its_checkpoint(tmp_path):
    run = ["--steps", "12", "--report-every", "1", "--checkpoint-every", "4"]
    killed = launch(*TINY, *run, "--checkpoint", str(tmp_path / "killed.pt"))
    for line in killed.stdout:
        if line.startswith("step     6"):
            killed.kill()
    killed.wait(60)
    saved = torch.load(tmp_path / "killed.pt", weights_only=True)["step"]
    assert saved in (4, 8)
    resumed = finish(*TINY, *run, "--checkpoint", str(tmp_path / "killed.pt"), "--out", str(tmp_path / "a.pt"))
    assert resumed.startswith(f"step {saved + 1:5d}")
    finish(*TINY, *run, "--out", str(tmp_path / "b.pt"))
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_missing_device_is_named():
    with pytest.raises(ValueError, match="device is 'cuda:7'; expected one this machine has"):
        training.checked_device("cuda:7")


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        (lambda: Trainer(PointMLP(cosine()), points()[0].double(), None, Recipe()), TypeError, "x0 is .*float32"),
        (lambda: Trainer(PointMLP(cosine()), points(0)[0], None, Recipe()), TypeError, "x0 is .*at least one"),
        (lambda: trainer(batch_size=0), ValueError, "batch_size is 0"),
        (lambda: Recipe(ema=1.0), ValueError, "ema is 1.0"),
        (lambda: Recipe(learning_rate=0), ValueError, "learning_rate is 0"),
        (lambda: Recipe(label_drop=1.5), ValueError, "label_drop is 1.5"),
    ],
)
def test_refusals(call, kind, named):
    with pytest.raises(kind, match=named):
        call()


def test_times_cover_the_whole_range_evenly():
    run = trainer(batch_size=100)
    _, label, t, eps, x_t = run.draw()
    assert sorted(t.tolist()) == list(range(1, 101))
    assert x_t.shape == eps.shape == (100, 2)
    drops = torch.cat([run.draw()[1] for _ in range(100)]) == 4
    assert abs(drops.double().mean().item() - 0.1) < 3 * (0.1 * 0.9 / 10_000) ** 0.5
    assert label.dtype == torch.int64
