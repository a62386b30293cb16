"""Training learns, resumes exactly, refuses what does not fit, and two processes train as one would on both shares."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from lessons_src import data, oracle, training
from lessons_src.evaluation import accuracy
from lessons_src.losses import Classification, Denoising, MinSNR, Samples
from lessons_src.networks import UNET_PRESETS, DigitClassifier, NoisePredictor, PointMLP, UNet
from lessons_src.optimizers import make_optimizers
from lessons_src.schedules import cosine, linear
from lessons_src.training import PRECISIONS, Recipe, Trainer, train


def points(n=400):
    mixture = data.ring(4)
    x, label = mixture.sample(n, torch.Generator().manual_seed(0))
    return x.float(), label


def trainer(
    net_seed=0, prediction="eps", schedule=None, body=PointMLP, width=32, precision="float32", drop=0.1, **changes
):
    torch.manual_seed(net_seed)
    net = NoisePredictor(body(4, width=width), schedule or cosine(100), prediction)
    recipe = Recipe(**({"steps": 40, "batch_size": 32, "warmup": 5} | changes))
    return Trainer(net, Denoising(drop), Samples(*points()), recipe, precision=precision)


def stopped(path, step=17, **options):
    """A run that has come to `step` and written its checkpoint there."""
    run = trainer(**options)
    while run.step_count < step:
        run.step()
    run.save(path)
    return run


def weights(run):
    return torch.cat([value.flatten() for value in run.net.state_dict().values()])


def average(run):
    return torch.cat([value.flatten() for value in run.ema.state_dict().values()])


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_loss_comes_close_to_the_exact_optimum(prediction):
    schedule = linear(100, 0.001, 0.2)
    mixture = data.ring(4)
    x, label = mixture.sample(4000, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = NoisePredictor(PointMLP(4, width=64), schedule, prediction)
    recipe = Recipe(steps=400, batch_size=256, learning_rate=5e-3, warmup=30, ema=0.98)
    net = train(Trainer(net, Denoising(label_drop=0.5), Samples(x.float(), label), recipe))
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
        assert best < reached < 1.12 * best


def test_the_average_of_a_short_run_is_not_its_start():
    """A constant decay of 0.9999 would leave 99 % of the start after 100 steps, and its loss of about 1.

    The loss of the average may lie above that of the trained weights by 5 % of what training gained; it is 0.5 %.
    """
    run = trainer(steps=100, ema=0.9999)

    @torch.no_grad()
    def loss(net):
        return run.loss(net, run.batches(2000, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2))[0]

    start = loss(run.net).mean()
    averaged = train(run)
    trained = loss(run.net).mean()
    assert trained < 0.5 * start
    assert loss(averaged).mean() < trained + 0.05 * (start - trained)
    assert [run.recipe.decay(step) for step in (0, 8, 10**6)] == pytest.approx([0.1, 0.5, 0.9999])


def test_a_classifier_learns_digits():
    torch.manual_seed(0)
    samples = Samples(*(part[:500] for part in data.digits("train")))
    recipe, reports = Recipe(steps=60, batch_size=32, learning_rate=1e-2, warmup=10, ema=0.9), []
    net = train(Trainer(DigitClassifier(), Classification(), samples, recipe), reports.append, report_every=30)
    assert accuracy(net, *(part[:500] for part in data.digits("test"))) > 0.5  # chance is 0.1
    assert [report.loss_by_time for report in reports] == [[], []]
    assert reports[1].loss < reports[0].loss


def test_images_are_shifted_by_up_to_two_pixels_and_filled_with_paper():
    shown = []

    def net(x):
        shown.append(x)
        return torch.zeros(len(x), 10, requires_grad=True)

    x, generator = torch.full((3, 1, 6, 6), -1.0), torch.Generator().manual_seed(0)
    x[..., 2:4, 2:4] = 1
    for _ in range(300):
        losses = Classification()(net, (x, torch.tensor([0, 5, 9])), generator)
    assert losses.each.tolist() == pytest.approx([torch.tensor(10).log().item()] * 3)
    shifts = set()
    for image in shown:
        assert image.shape == x.shape
        assert torch.equal(image, image[:1].expand(3, 1, 6, 6))
        rows, columns = (image[0, 0] == 1).nonzero(as_tuple=True)
        assert (image[0, 0] == -1).sum() == 36 - len(rows) == 32
        shifts.add((rows.min().item() - 2, columns.min().item() - 2))
    assert shifts == {(down, across) for down in range(-2, 3) for across in range(-2, 3)}


def test_resuming_is_bitwise_the_same_as_not_stopping(tmp_path):
    straight = trainer()
    train(straight)
    stopped(tmp_path / "run.pt")
    second = trainer(net_seed=1)
    train(second, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(straight), weights(second))
    assert torch.equal(average(straight), average(second))


class OtherBody(PointMLP):
    pass


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 16}, "shapes"),
        ({"body": OtherBody}, "network"),
        ({"schedule": linear(100)}, "alpha_bar"),
        ({"prediction": "v"}, "prediction"),
        ({"drop": 0.2}, "loss"),
        ({"seed": 1}, "recipe, seed"),
        ({"batch_size": 64}, "recipe, batch_size"),
        ({"ema": 0.9}, "recipe, ema"),
        ({"warmup": 6}, "recipe, warmup"),
        ({"seed": 1, "steps": 60, "learning_rate": 1e-3}, "recipe, seed"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, named):
    stopped(tmp_path / "run.pt", step=2)
    other = trainer(**changes)
    before = weights(other).clone()
    with pytest.raises(ValueError, match=f"{named} in .*run.pt"):
        other.load(tmp_path / "run.pt")
    assert torch.equal(weights(other), before)
    assert other.step_count == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"learning_rate": 5e-4}, ", learning_rate 0.002 -> 0.0005"),
        ({"steps": 60}, ", steps 40 -> 60"),
        ({"precision": "bfloat16"}, ", precision float32 -> bfloat16"),
        ({"steps": 20, "learning_rate": 1e-3}, ", learning_rate 0.002 -> 0.001, steps 40 -> 20"),
    ],
    ids=str,
)
def test_a_run_goes_on_with_another_rate_or_length_and_says_so(tmp_path, changes, said):
    path = tmp_path / "run.pt"
    first = stopped(path)
    second = trainer(net_seed=1, **changes)
    assert second.load(path) == f"Going on from step 17 of {path}{said}."
    assert torch.equal(weights(second), weights(first))
    assert torch.equal(average(second), average(first))
    steps, peak = changes.get("steps", 40), changes.get("learning_rate", 2e-3)
    second.step()
    assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(peak * (1 - 17 / steps))
    assert second.precision == changes.get("precision", "float32")
    train(second)
    assert second.step_count == steps


def test_fewer_steps_than_are_done_are_refused(tmp_path):
    stopped(tmp_path / "run.pt")
    other = trainer(steps=16)
    with pytest.raises(ValueError, match=r"steps is 16; expected at least 17, which the run in .*run\.pt has done"):
        other.load(tmp_path / "run.pt")
    assert other.step_count == 0


def test_a_checkpoint_of_the_first_format_is_refused_by_name(tmp_path):
    path, run = tmp_path / "run.pt", trainer()
    old = {
        "network": "PointMLP",
        "shapes": {name: list(value.shape) for name, value in run.net.state_dict().items()},
        "prediction": "eps",
        "alpha_bar": run.net.schedule.alpha_bar,
        "recipe": {"steps": 40, "batch_size": 32, "warmup": 5, "label_drop": 0.1},
        "device": "cpu",
        "step": 17,
        "net": run.net.state_dict(),
        "averaged": run.averaged.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "generator": run.generator.get_state(),
    }
    torch.save(old, path)
    with pytest.raises(ValueError, match=r"path is '.*run\.pt', a checkpoint of format 1; expected format 2"):
        train(run, checkpoint=path)
    assert run.step_count == 0
    torch.save(old | {"format": 3}, path)
    with pytest.raises(ValueError, match="a checkpoint of format 3; expected format 2"):
        run.load(path)


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


@pytest.mark.parametrize("lacks", ["recipe", "step", "optimizers", "generators", "net", "precision", "finite weights"])
def test_a_checkpoint_that_lacks_something_is_named_and_changes_nothing(tmp_path, lacks):
    path = tmp_path / "run.pt"
    stopped(path)
    state = torch.load(path, weights_only=True)
    if state.pop(lacks, None) is None:
        state["net"]["body.enter.weight"][0, 0] = torch.nan
    torch.save(state, path)
    other = trainer(net_seed=1)
    before = weights(other).clone()
    with pytest.raises(ValueError, match=rf"path is '.*run.pt', a checkpoint without {lacks}; expected a whole one"):
        train(other, checkpoint=path)
    assert torch.equal(weights(other), before)


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


class Spoilt(Samples):
    """Data that are no number any more after a few batches."""

    def __init__(self, good, x0, label):
        super().__init__(x0, label)
        self.good = good

    def __call__(self, size, generator):
        x0, label = super().__call__(size, generator)
        self.good -= 1
        return (x0 if self.good >= 0 else x0 * torch.nan), label


def spoilt(good):
    run = trainer()
    run.batches = Spoilt(good, *points())
    return run


def finite(path):
    """Whether every number in a checkpoint is finite."""
    kept = [torch.load(path, weights_only=True)]
    while kept:
        value = kept.pop()
        if isinstance(value, torch.Tensor) and not value.isfinite().all():
            return False
        kept += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return True


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    stopped(tmp_path / "run.pt")
    whole = (tmp_path / "run.pt").read_bytes()
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 30; .* Lower the learning rate"):
        train(spoilt(10), report_every=30, checkpoint_every=35, checkpoint=tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == whole
    with pytest.raises(FloatingPointError, match="begin again, with a new network"):  # there is nothing to go on from
        train(spoilt(2), report_every=5)


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_first_step():
    run = trainer()
    with pytest.raises(OSError, match=r"/proc/no/run.pt cannot be written"):
        train(run, checkpoint="/proc/no/run.pt")
    assert run.step_count == 0


def test_no_checkpoint_is_written_of_a_run_that_diverged_since_the_last_report(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"not all weights are finite after step 15; .*run\.pt is left as it is"
    ):
        train(spoilt(12), report_every=40, checkpoint_every=5, checkpoint=tmp_path / "run.pt")
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] == 10
    assert finite(tmp_path / "run.pt")
    calmer = trainer(learning_rate=1e-3)  # as the message of a loss that is no number advises
    train(calmer, checkpoint=tmp_path / "run.pt")
    assert calmer.step_count == 40
    assert finite(tmp_path / "run.pt")


def test_ctrl_c_keeps_the_checkpoint_from_before_a_run_diverged(tmp_path):
    stopped(tmp_path / "run.pt")
    whole, run = (tmp_path / "run.pt").read_bytes(), trainer()

    def press_ctrl_c(progress):
        run.net.body.leave.bias.data[0] = torch.inf
        raise KeyboardInterrupt

    with pytest.raises((FloatingPointError, KeyboardInterrupt)) as caught:
        train(run, report=press_ctrl_c, report_every=10, checkpoint=tmp_path / "run.pt")
    assert "not all weights are finite after step 20" in str(caught.value)
    assert (tmp_path / "run.pt").read_bytes() == whole


@pytest.mark.parametrize("poisoned", ["a weight", "the average", "a momentum"])
def test_a_value_that_is_not_finite_is_never_saved(tmp_path, poisoned):
    path = tmp_path / "run.pt"
    run = stopped(path)
    whole = path.read_bytes()
    weight = run.net.body.enter.weight
    momentum = run.optimizers[0].state[weight]["exp_avg_sq"]
    place = {"a weight": weight, "the average": run.ema.body.enter.weight, "a momentum": momentum}
    place[poisoned].data[3, 1] = torch.nan
    with pytest.raises(FloatingPointError, match=r"after step 17; .*run\.pt is left as it is"):
        run.save(path)
    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("faster", PRECISIONS)
def test_auto_takes_the_faster_precision_and_leaves_no_trace(monkeypatch, faster):
    measured = training.time_precisions
    monkeypatch.setattr(training, "time_precisions", lambda *given: measured(*given) | {faster: 0.0})
    found = trainer(precision="auto")
    global_state = torch.get_rng_state()
    assert (found.precision, set(found.timing)) == (faster, set(PRECISIONS))
    assert all(seconds > 0 for name, seconds in found.timing.items() if name != faster)
    by_hand = trainer(precision=faster)
    assert by_hand.timing == {}
    assert torch.equal(torch.get_rng_state(), global_state)
    for run in (found, by_hand):
        train(run)
    assert torch.equal(weights(found), weights(by_hand))
    assert torch.equal(average(found), average(by_hand))


def test_the_fastest_step_after_the_first_counts(monkeypatch):
    clock = iter([0, 9, 10, 12, 20, 21, 30, 33, 40, 40.5, 50, 54, 60, 62, 70, 73])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    run = trainer()
    timing = training.time_precisions(run.net, run.loss, run.batches, run.recipe)
    assert timing == {"float32": 1, "bfloat16": 2}


def test_a_measured_precision_gives_way_to_that_of_the_checkpoint(tmp_path, monkeypatch):
    stopped(tmp_path / "run.pt", precision="bfloat16")
    straight = trainer(precision="bfloat16")
    train(straight)
    monkeypatch.setattr(training, "time_precisions", lambda *given: {"float32": 1.0, "bfloat16": 2.0})
    run = trainer(precision="auto")
    train(run, checkpoint=tmp_path / "run.pt")
    assert run.precision == "bfloat16"
    assert torch.equal(weights(run), weights(straight))


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


# Of the command line: small networks, and nothing that is measured, as it could differ from run to run.
TINY = ["--network", "small", "--batch-size", "8", "--warmup", "2", "--device", "cpu", "--precision", "float32"]


def launch(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def in_one_process(steps, shares):
    """Networks and losses of every step when the gradients of all shares' own batches are averaged."""
    torch.manual_seed(0)
    net = NoisePredictor(UNet(**UNET_PRESETS["small"]), cosine(1000), "v")
    recipe, samples, optimizers = Recipe(steps, warmup=2), Samples(*data.digits()), make_optimizers(net, 1.0)
    generators = [torch.Generator().manual_seed(share) for share in range(shares)]
    losses = []
    for step in range(steps):
        each = [Denoising()(net, samples(8 // shares, generator), generator).each for generator in generators]
        losses.append(torch.cat(each).mean())
        losses[-1].backward()
        for optimizer, peak in zip(optimizers, (2e-3, 2e-2), strict=True):
            optimizer.param_groups[0]["lr"] = peak * recipe.rate_share(step)
            optimizer.step()
            optimizer.zero_grad()
    return net.state_dict(), [loss.item() for loss in losses]


def test_two_processes_average_the_gradients_of_their_shares_and_resume_exactly(tmp_path):
    script, path = Path(__file__).with_name("in_two_processes.py"), tmp_path / "run.pt"
    command = (
        *("-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"),
        *(str(script), *TINY, "--steps", "4", "--report-every", "1", "--checkpoint-every", "2"),
        *("--checkpoint", str(path), "--out", str(tmp_path / "out.pt")),
    )
    process = launch(*command)
    expected, expected_losses = in_one_process(steps=4, shares=2)
    output, _ = process.communicate(timeout=110)
    if re.search("EADDRINUSE|address already in use|DistNetworkError", output):  # another process took its port
        process = launch(*command)
        output, _ = process.communicate(timeout=110)
    assert process.returncode == 0, output
    first, second = (torch.load(f"{path}.of{rank}", weights_only=True) for rank in (0, 1))
    for name, value in first["straight"].items():
        assert torch.equal(value, second["straight"][name]), "both end with the same weights"
        assert torch.equal(value, first["resumed"][name]), "both go on as if nothing had been"
        assert torch.equal(value, second["resumed"][name])
        assert (value - expected[name]).abs().max() < 1e-4
    losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", output)]
    assert first["timing"] == second["timing"], "both would take the same precision"
    assert losses == pytest.approx(expected_losses, abs=2e-4), "one line a report, with the loss of all"
    averaged, last = torch.load(tmp_path / "out.pt", weights_only=True), torch.load(f"{path}.4", weights_only=True)
    assert all(torch.equal(value, last["averaged"][f"module.{name}"]) for name, value in averaged.items())
    net = NoisePredictor(UNet(**UNET_PRESETS["small"]), cosine(1000), "v")
    one = Trainer(net, Denoising(), Samples(*data.digits()), Recipe(4, 8, warmup=2))
    with pytest.raises(ValueError, match=r"processes in .* is 2; expected 1"):
        one.load(f"{path}.4")


def test_a_killed_process_loses_only_the_steps_since_its_checkpoint(tmp_path, monkeypatch, capsys):
    run = [*TINY, "--steps", "10", "--report-every", "1", "--checkpoint-every", "4"]
    killed = launch("-m", "lessons_src.training", *run, "--checkpoint", str(tmp_path / "run.pt"))
    for line in killed.stdout:
        if line.startswith("step     6"):
            killed.kill()
    killed.wait(60)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)["step"]
    assert saved in (4, 8)
    printed = {}
    for name, more in {"resumed": ["--checkpoint", str(tmp_path / "run.pt")], "straight": []}.items():
        monkeypatch.setattr(sys, "argv", ["training", *run, *more, "--out", str(tmp_path / name)])
        training.main()
        printed[name] = capsys.readouterr().out
    said, first_report, *_ = printed["resumed"].splitlines()
    assert said == f"Going on from step {saved} of {tmp_path / 'run.pt'}."
    assert first_report.startswith(f"step {saved + 1:5d}")
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("resumed", "straight"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_terminal_tells_how_fast_each_precision_is(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training", *TINY, "--steps", "1", "--precision", "auto"])
    training.main()
    first, second, step = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"float32: \d+ ms a step( \(best\))?", first)
    assert re.fullmatch(r"bfloat16: \d+ ms a step( \(best\))?", second)
    assert (first + second).count("(best)") == 1
    assert step.startswith("step     1 of 1")


def test_a_missing_device_is_named():
    with pytest.raises(ValueError, match="device is 'cuda:7'; expected one this machine has"):
        training.checked_device("cuda:7")


def denoise(x0, label=None):
    return Trainer(NoisePredictor(UNet(channels=(8, 8)), cosine()), Denoising(), Samples(x0, label), Recipe())


class Mean(Denoising):
    """A loss that says one number for all."""

    def __call__(self, net, batch, generator):
        return super().__call__(net, batch, generator).each.mean()


def built(**changes):
    net = NoisePredictor(PointMLP(4), cosine())
    given = {"net": net, "loss": Denoising(), "batches": Samples(*points()), "recipe": Recipe()}
    return Trainer(**given | changes)


def classify(x0, label=None):
    return Trainer(DigitClassifier(), Classification(), Samples(x0, label), Recipe())


IMAGES = torch.zeros(2, 1, 28, 28)


@pytest.mark.parametrize("kind", [denoise, classify])
@pytest.mark.parametrize(
    ("x0", "label", "named"),
    [
        (
            torch.zeros(2, 1, 32, 32),
            torch.tensor([0, 9]),
            r"x0 is .*\(2, 1, 32, 32\).*; expected shape \(N, 1, 28, 28\)",
        ),
        (
            torch.zeros(2, 3, 28, 28),
            torch.tensor([0, 9]),
            r"x0 is .*\(2, 3, 28, 28\).*; expected shape \(N, 1, 28, 28\)",
        ),
        (torch.zeros(2, 784), torch.tensor([0, 9]), r"x0 is .*; expected shape \(N, 1, 28, 28\)"),
        (IMAGES, torch.tensor([3, 10]), r"label is \[3, 10\]; expected labels from 0 to 9"),
        (IMAGES, torch.tensor([-1, 3]), r"label is \[-1, 3\]; expected labels from 0 to 9"),
        (IMAGES, torch.tensor([3]), r"label is .*; expected shape \(2,\)"),
        (IMAGES, torch.tensor([[3], [4]]), r"label is .*; expected shape \(2,\)"),
        (IMAGES, torch.tensor([3, 4], dtype=torch.int32), "label is .*int32; expected int64"),
        (IMAGES, [3, 4], r"label is \[3, 4\]; expected int64"),
        (IMAGES.double(), torch.tensor([3, 4]), "x0 is .*float64; expected at least one sample, float32"),
        (IMAGES[:0], torch.tensor([], dtype=torch.int64), "x0 is .*; expected at least one sample"),
        (IMAGES.byte(), torch.tensor([3, 4]), "x0 is .*uint8; expected a floating-point tensor"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(kind, x0, label, named):
    with pytest.raises((TypeError, ValueError), match=named):
        kind(x0, label)


@pytest.mark.parametrize(
    ("call", "kind", "named"),
    [
        (lambda: classify(IMAGES), ValueError, "label is None; expected a label from 0 to 9"),
        (
            lambda: classify(torch.linspace(0, 255, 1568).reshape(2, 1, 28, 28)),
            ValueError,
            "x0 is .*; expected values from -1 to 1; these are from 0 to 255",
        ),
        (lambda: classify(IMAGES / 0), ValueError, "x0 is .*; expected finite values"),
        (lambda: built(net=PointMLP()), TypeError, r"net is 'PointMLP'; expected a NoisePredictor\(body, schedule\)"),
        (
            lambda: built(batches=points()),
            TypeError,
            r"batches is \(tensor.*; expected Samples\(x0, label\), or another",
        ),
        (lambda: built(loss=torch.nn.functional.mse_loss), TypeError, "loss is <function mse_loss.*; expected a loss"),
        (
            lambda: built(loss=Classification(), batches=lambda *a: None),
            TypeError,
            r"batches is .*; expected Samples\(x0",
        ),
        (lambda: built(recipe={"steps": 3}), TypeError, r"recipe is \{'steps': 3\}; expected a Recipe"),
        (
            lambda: train(PointMLP()),
            TypeError,
            r"trainer is 'PointMLP'; expected a Trainer\(net, loss, batches, recipe\)",
        ),
        (lambda: MinSNR(gamma=0), ValueError, "gamma is 0"),
        (lambda: train(trainer(), report="yes"), TypeError, "report is 'yes'; expected a function of a Progress"),
        (
            lambda: built(batches=lambda n, g: points()[0][:n]).step(),
            TypeError,
            r"batches\(size, generator\) is a tensor",
        ),
        (
            lambda: built(batches=lambda n, g: (torch.zeros(n, 3), None)).step(),
            ValueError,
            r"x0 is .*; expected shape \(B, 2\)",
        ),
        (lambda: built(loss=Mean()).step(), TypeError, r"loss\(net, batch, generator\) is .*; expected Losses\(each\)"),
        (
            lambda: Trainer(NoisePredictor(PointMLP(), cosine()), Denoising(), Samples(*points()), Recipe()),
            ValueError,
            r"label is \[0, 1, 2, 3\]; expected None: the network takes no labels",
        ),
        (lambda: trainer(batch_size=0), ValueError, "batch_size is 0"),
        (
            lambda: trainer(precision="half"),
            ValueError,
            "precision is 'half'; expected one of 'float32', 'bfloat16', 'auto'",
        ),
        (lambda: Recipe(ema=1.0), ValueError, "ema is 1.0"),
        (lambda: Recipe(learning_rate=0), ValueError, "learning_rate is 0"),
        (lambda: Denoising(label_drop=1.5), ValueError, "label_drop is 1.5"),
    ],
)
def test_refusals(call, kind, named):
    with pytest.raises(kind, match=named):
        call()


def test_times_cover_the_whole_range_evenly():
    run, seen = trainer(), []
    run.net.output = lambda x_t, t, condition: seen.append((t, condition)) or torch.zeros_like(x_t)
    for _ in range(100):
        x0, label = run.batches(100, run.generator)
        losses = run.loss(run.net, (x0, label), run.generator)
    t, condition = seen[-1]
    assert sorted(t.tolist()) == list(range(1, 101))
    assert torch.equal(losses.tenth, (t - 1) // 10)
    assert losses.each.shape == (100,)
    kept = condition != 4
    assert torch.equal(condition[kept], label[kept])
    drops = torch.cat([condition == 4 for _, condition in seen])
    assert abs(drops.double().mean().item() - 0.1) < 3 * (0.1 * 0.9 / 10_000) ** 0.5


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weighs_errors_as_its_paper_does(prediction):
    schedule, gamma = cosine(1000), 5.0
    torch.manual_seed(0)
    net = NoisePredictor(PointMLP(4, width=32), schedule, prediction)
    batch = tuple(part[:50] for part in points())
    plain, weighed = (loss(net, batch, torch.Generator().manual_seed(3)) for loss in (Denoising(), MinSNR(gamma=gamma)))
    offset = torch.rand(1, generator=torch.Generator().manual_seed(3))
    t = 1 + (1000 * (torch.arange(50) + offset) / 50).long()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    snr = compute_snr(scheduler, t - 1)
    weight = snr.clamp(max=gamma) / (snr if prediction == "eps" else snr + 1)  # as diffusers' training scripts have it
    assert torch.allclose(weighed.each, weight * plain.each, rtol=1e-3)
    assert torch.equal(weighed.tenth, plain.tenth)
    assert MinSNR(0.1, 5.0) != Denoising(0.1)


def test_a_checkpoint_of_pictures_of_another_size_is_refused(tmp_path):
    """A U-Net has the same weights at any size."""

    def run(side):
        net = NoisePredictor(UNet(0, (8, 8), (1, side, side)), cosine(100))
        samples = Samples(torch.randn(4, 1, side, side, generator=torch.Generator().manual_seed(0)))
        return Trainer(net, Denoising(), samples, Recipe(2, 2, warmup=1))

    path = tmp_path / "run.pt"
    run(8).save(path)
    with pytest.raises(ValueError, match=r"event in .*run.pt' is \[1, 8, 8\]; expected \[1, 12, 12\]"):
        run(12).load(path)
    state = torch.load(path, weights_only=True)
    del state["event"]  # as it was written at first
    torch.save(state, path)
    assert run(8).load(path) == f"Going on from step 0 of {path}."
