"""Networks and schedules in other libraries: the same noise gives the same picture there, and they come back whole.

What diffusers draws is drawn in a process of its own that cannot import this package or reach a network, from a folder
and a cache that are new. Rounding is amplified by a trained network: where the last bit of the start moves a picture by
more than 1e-5, so does another library. So the middle of the pictures is held to 1e-5, and the worst to 1e-3.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lessons_src import export, weights
from lessons_src.export import (
    from_diffusers,
    prediction_of,
    schedule_of,
    scheduler_config,
    times_of,
    to_diffusers,
    to_onnx,
)
from lessons_src.guidance import classifier_free
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.process import eps_from_velocity
from lessons_src.samplers import sample
from lessons_src.schedules import SCHEDULES, NoiseSchedule, linear, make_schedule, time_grid
from lessons_src.solvers import SOLVERS
from lessons_src.students import Student, few_steps

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers' own, on numpy
N, STEPS, SCALES = 10, 10, (1.0, 3.0)
KINDS = {
    "DDPM": DDPMScheduler,
    "DDIM": DDIMScheduler,
    "DPM-Solver++(2M)": DPMSolverMultistepScheduler,
    "UniPC-2": UniPCMultistepScheduler,
}
LABELS = torch.arange(N) % 10
ONE = torch.ones(1, dtype=torch.float64)

DRAW = """
import socket, sys, torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lessons_src":
            raise ImportError(f"{name} is blocked")

def refuse(*_):
    raise OSError("there is no network")

sys.meta_path.insert(0, Refuse())
socket.socket.connect = refuse
import diffusers
from safetensors.torch import load_file, save_file

x, found = load_file("start.safetensors")["x"], {}

def opened(folder):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe

def draw(name, labels=tuple(LABELS), **options):
    generator = torch.Generator().manual_seed(1)
    found[name] = pipe(labels, latents=x, generator=generator, output_type="latent", **options).images

pipe = opened("digits")
first = pipe.scheduler.config
for name, kind in KINDS.items():
    pipe.scheduler = getattr(diffusers, kind).from_config(first)
    for w in SCALES:
        draw(f"{name} {w}", guidance_scale=w, num_inference_steps=STEPS)
pipe.scheduler = diffusers.DDIMScheduler.from_config(first)
draw("scale 0", guidance_scale=0.0, num_inference_steps=STEPS)
draw("no label", None, batch_size=len(x), num_inference_steps=STEPS)
pipe.scheduler = diffusers.DDIMScheduler.from_config(first, timestep_spacing="leading")
draw("leading", num_inference_steps=STEPS)
t = torch.arange(0, 1000, 1000 // len(x))[:len(x)]
found["output"] = pipe.unet(x, t, torch.tensor(LABELS), return_dict=False)[0].detach()
found["pt"] = pipe([3, 7], generator=torch.Generator().manual_seed(0), output_type="pt").images
picture = pipe(3, guidance_scale=2.0).images[0]
assert (picture.mode, picture.size) == ("L", (28, 28))
for options in ({"guidance_scale": 2.0}, {"class_labels": [3], "latents": x}):
    try:
        pipe(**options)
    except ValueError:
        continue
    raise AssertionError(f"not refused: {options}")
pipe.save_pretrained("again")

pipe = opened("small")
found["small"] = pipe.unet(load_file("start.safetensors")["small"], 29, return_dict=False)[0].detach()

unguided = diffusers.DDIMPipeline.from_pretrained("digits", trust_remote_code=True)  # of diffusers itself
found["stock"] = unguided(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt").images

pipe = opened("student")
draw("student")
for options in ({"guidance_scale": 2.0}, {"num_inference_steps": 3}, {"labels": None}):
    try:
        draw("refused", **options)
    except ValueError as error:
        continue
    raise AssertionError(f"not refused: {options}")
save_file({name: x.contiguous() for name, x in found.items()}, "found.safetensors")
"""


@pytest.fixture(scope="module")
def digits():
    return weights.load("digits")[0]


@pytest.fixture(scope="module")
def x():
    return torch.randn(N, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small():
    """Another size, colours, no classes, few times, another prediction, and random weights."""
    net = NoisePredictor(UNet(num_classes=0, channels=(8, 16), image=(3, 8, 12)), linear(50, 1e-3, 0.2), "eps")
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.2, generator=generator)
    return net.eval()


@pytest.fixture(scope="module")
def place(digits, x, small, tmp_path_factory) -> Path:
    """A folder that another process has drawn in."""
    place = tmp_path_factory.mktemp("elsewhere")
    to_diffusers(digits, place / "digits")
    to_diffusers(weights.load("student-2-guided")[0], place / "student")
    to_diffusers(small, place / "small")
    save_file({"x": x, "small": torch.ones(2, 3, 8, 12)}, place / "start.safetensors")
    names = {name: kind.__name__ for name, kind in KINDS.items()}
    header = f"KINDS, SCALES, STEPS, LABELS = {names!r}, {SCALES!r}, {STEPS!r}, {LABELS.tolist()!r}\n"
    environment = os.environ | {"HF_HOME": str(place / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", header + DRAW]
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return place


@pytest.fixture(scope="module")
def theirs(place):
    return load_file(place / "found.safetensors")


def ours(net, x, name: str, w: float, schedule: NoiseSchedule):
    """Our picture; the fresh noise of DDPM is drawn in float32, as theirs is."""
    generator = torch.Generator().manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lessons_src.samplers.noise_like",
            lambda x, _: torch.randn(x.shape, generator=generator).to(x.dtype),
        )
        times = time_grid(schedule, STEPS, "trailing")
        return sample(SOLVERS[name].run(classifier_free(net, LABELS, w), x, schedule, times))


def misses(a, b):
    """The largest difference of every picture, smallest first."""
    assert a.shape == b.shape
    return (a - b).abs().flatten(1).amax(1).sort().values


def assert_same_pictures(a, b):
    miss = misses(a, b)
    assert miss[len(miss) // 2] < 1e-5, miss
    assert miss[-1] < 1e-3, miss


# --- The same pictures


@pytest.mark.parametrize("w", SCALES)
@pytest.mark.parametrize("name", KINDS)
def test_the_same_noise_gives_the_same_picture(digits, x, theirs, name, w):
    assert_same_pictures(ours(digits, x.double(), name, w, digits.schedule), theirs[f"{name} {w}"])


def test_a_start_in_single_precision_loses_a_thousandth_of_a_grey_here(digits, x, theirs):
    assert misses(ours(digits, x, "DDIM", 1.0, digits.schedule), theirs["DDIM 1.0"]).median() > 1e-4


def test_a_student_is_the_same_there(x, theirs):
    student, _ = weights.load("student-2-guided")
    assert_same_pictures(sample(few_steps(student, x, LABELS)), theirs["student"])


def test_pictures_for_the_eye_lie_between_0_and_1(theirs):
    for name in ("pt", "stock"):
        assert theirs[name].shape == (2, 1, 28, 28)
        assert theirs[name].min() == 0
        assert 0.9 < theirs[name].max() <= 1


# --- What people trip over


def test_a_guidance_scale_up_to_1_means_conditional_there_and_0_unconditional_here(digits, x, theirs):
    assert torch.equal(theirs["scale 0"], theirs["DDIM 1.0"])
    unconditional = ours(digits, x.double(), "DDIM", 0.0, digits.schedule)
    assert_same_pictures(unconditional, theirs["no label"])
    assert misses(unconditional, theirs["scale 0"])[0] > 0.1


def test_a_leading_start_never_sees_pure_noise(x, theirs):
    scheduler = DDIMScheduler()  # as it comes
    assert scheduler.config.timestep_spacing == "leading"
    scheduler.set_timesteps(20)
    assert times_of(scheduler)[0] == 951
    assert misses(theirs["leading"], theirs["DDIM 1.0"])[0] > 0.05


def test_their_time_is_ours_less_one(digits, x, theirs):
    t = torch.arange(0, 1000, 100)
    shifted = digits.output(x, t + 1, LABELS)
    assert torch.allclose(theirs["output"], shifted, atol=1e-5)
    assert not torch.allclose(theirs["output"], digits.output(x, t, LABELS), atol=1e-3)


def test_ddim_there_must_divide():
    late = DDIMScheduler(steps_offset=40)  # in strides of 33, but from 41 that leads to 8
    for scheduler in (DDIMScheduler.from_config(scheduler_config(linear())), late):
        scheduler.set_timesteps(30)
        with pytest.raises(ValueError, match="strides of T // steps = 33"):
            times_of(scheduler)
    for other in (DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler):
        scheduler = other.from_config(scheduler_config(linear()))
        scheduler.set_timesteps(30)
        assert times_of(scheduler) == time_grid(linear(), 30, "trailing")


def test_they_clip_unless_told():
    assert DDIMScheduler().config.clip_sample
    assert not DDIMScheduler.from_config(scheduler_config(linear())).config.clip_sample


# --- Schedules


def assert_their_levels(schedule, scheduler):
    assert torch.allclose(schedule.alpha_bar[1:].float(), scheduler.alphas_cumprod, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("T", [1, 2, 10, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_there_and_back(name, T):
    schedule = make_schedule(name, T)
    config = json.loads(json.dumps(scheduler_config(schedule, "v")))
    back = schedule_of(config)
    assert torch.allclose(back.alpha_bar, schedule.alpha_bar, rtol=1e-9, atol=0)
    assert prediction_of(config) == "v"
    for kind in KINDS.values():
        assert_their_levels(schedule, kind.from_config(config))


def test_known_schedules_go_by_their_name():
    assert scheduler_config(linear(100, 1e-3, 0.2))["beta_schedule"] == "linear"
    assert scheduler_config(make_schedule("cosine"))["beta_schedule"] == "squaredcos_cap_v2"
    assert "beta_schedule" not in scheduler_config(make_schedule("sigmoid"))


@given(st.lists(st.floats(1e-4, 0.9999), min_size=1, max_size=30))
@example([0.5, 0.1])  # on a line, but falling
@example([0.5, 0.9995])  # on a line, but steep
def test_any_betas_go_there_and_back(betas):
    schedule = NoiseSchedule(torch.cat([ONE, (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)]))
    back = schedule_of(scheduler_config(schedule))
    assert torch.allclose(back.alpha_bar, schedule.alpha_bar, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta_start": 1e-3, "beta_end": 0.1, "num_train_timesteps": 50},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "sigmoid"},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 40},
        {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
    ],
    ids=str,
)
def test_their_schedules_come_here(options):
    scheduler = DDPMScheduler(**options)
    assert_their_levels(schedule_of(scheduler.config), scheduler)
    saved = json.loads(scheduler.to_json_string())
    assert torch.equal(schedule_of(saved).alpha_bar, schedule_of(scheduler.config).alpha_bar)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas is True"),
        ({"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "beta_schedule is None"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas is .*expected 1000 numbers"),
        ({"num_train_timesteps": 0}, "num_train_timesteps is 0"),
        ({"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.01}, "beta_end is 0.01"),
        ({"trained_betas": [0.5, 0.0], "num_train_timesteps": 2}, r"trained_betas is"),
    ],
    ids=str,
)
def test_what_no_schedule_can_be_is_refused_by_name(config, said):
    with pytest.raises(ValueError, match=said):
        schedule_of(config)


@pytest.mark.parametrize("kind", ["sample", "flow_prediction"])
def test_other_predictions_are_refused(kind):
    with pytest.raises(ValueError, match=f"prediction_type is '{kind}'"):
        prediction_of({"prediction_type": kind})
    with pytest.raises(ValueError, match="prediction is 'x0'"):
        scheduler_config(linear(), "x0")


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (UniPCMultistepScheduler, {"use_karras_sigmas": True}, "use_karras_sigmas is True"),
        (DPMSolverMultistepScheduler, {"final_sigmas_type": "sigma_min"}, "final_sigmas_type is 'sigma_min'"),
        (DDIMScheduler, {"set_alpha_to_one": False}, "set_alpha_to_one is False"),
        (DDIMScheduler, {"timestep_spacing": "linspace"}, "strides of T // steps"),
        (HeunDiscreteScheduler, {}, "fall strictly"),
    ],
    ids=str,
)
def test_times_that_we_do_not_visit_are_refused_by_name(kind, options, said):
    scheduler = kind(**options)
    scheduler.set_timesteps(8)
    with pytest.raises(ValueError, match=said):
        times_of(scheduler)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: scheduler_config("cosine"), "schedule is 'cosine'; expected a NoiseSchedule"),
        (lambda: schedule_of(None), "config is None; expected a dictionary"),
        (lambda: schedule_of({"trained_betas": "abc"}), "trained_betas is 'abc'; expected 1000 numbers"),
        (lambda: prediction_of(None), "config is None; expected a dictionary"),
        (lambda: times_of("DDIM"), "scheduler is 'DDIM'; expected a scheduler of diffusers"),
        (lambda: times_of(visiting()), r"scheduler.timesteps is []; expected one or more from 0 to 9"),
        (lambda: times_of(visiting(5, -1)), r"scheduler.timesteps is [5, -1]; expected one or more from 0 to 9"),
        (lambda: times_of(visiting(10, 5)), r"scheduler.timesteps is [10, 5]; expected one or more from 0 to 9"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert said in str(error.value)


def visiting(*times):
    return SimpleNamespace(config={"num_train_timesteps": 10}, timesteps=torch.tensor(times))


# --- Networks come back


@pytest.mark.parametrize("folder", ["digits", "again"])
def test_a_network_comes_back_whole(digits, x, place, folder):
    """From what was written here, and from what diffusers saved again."""
    back = from_diffusers(place / folder)
    assert type(back) is NoisePredictor
    assert not back.training
    t = torch.arange(1, 1001, 100)
    assert torch.equal(back(x, t, LABELS), digits(x, t, LABELS))


def test_a_student_comes_back_whole(x, place):
    student, back = weights.load("student-2-guided")[0], from_diffusers(place / "student")
    assert type(back) is Student
    assert (back.times, back.w) == (student.times, 2.0)
    assert torch.equal(sample(few_steps(back, x, LABELS)), sample(few_steps(student, x, LABELS)))


def test_other_sizes_and_predictions_go_there_and_back(small, theirs, place):
    back, x, t = from_diffusers(place / "small"), torch.ones(2, 3, 8, 12), torch.tensor([30, 30])
    assert back.prediction == "eps"
    assert torch.equal(back(x, t), small(x, t))
    assert torch.allclose(theirs["small"], small(x, t), atol=1e-5)
    assert not torch.allclose(theirs["small"], small(x, t - 1), atol=1e-3)


def test_only_what_diffusers_can_run_goes_there(digits, tmp_path):
    with pytest.raises(TypeError, match="net is 'PointMLP'"):
        to_diffusers(weights.load("points")[0], tmp_path)
    with pytest.raises(ValueError, match=r"net.times is \[1000, 300, 0\]"):
        to_diffusers(Student(UNet(), digits.schedule, [1000, 300, 0]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_finished_has_no_index(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_with_its_code", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_diffusers(digits, tmp_path)
    assert not (tmp_path / "model_index.json").exists()


def test_other_folders_are_refused(digits, tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded as a network of the course"):
        from_diffusers(tmp_path)
    to_diffusers(digits, tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="cannot be loaded as a network of the course"):
        from_diffusers(tmp_path)
    UNet2DModel(
        sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    ).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match="_class_name is 'UNet2DModel'; expected one of 'PatchUNet'"):
        from_diffusers(tmp_path)


# --- ONNX


@pytest.mark.parametrize("name", ["digits", "points", "small", pytest.param("student-1", marks=pytest.mark.slow)])
def test_onnx_gives_the_same_output_for_any_batch(name, small, tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = small if name == "small" else weights.load(name)[0]
    path = tmp_path / "net.onnx"
    assert to_onnx(net, path) <= 1e-5
    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(path)
    assert [out.name for out in session.get_outputs()] == [net.prediction]
    for n in (1, 5):
        x, t = torch.randn(n, *net.body.event), torch.full((n,), net.schedule.T)
        label = torch.arange(n) % max(1, net.num_classes)
        (output,) = map(torch.from_numpy, session.run(None, {"x": x.numpy(), "t": t.numpy(), "label": label.numpy()}))
        eps = output if net.prediction == "eps" else eps_from_velocity(x, output, net.schedule.alpha_bar[t])
        with torch.no_grad():
            assert torch.allclose(eps, net(x, t, label), rtol=1e-5, atol=1e-5)


def test_only_noise_predictors_become_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(TypeError, match="net is 'DigitClassifier'"):
        to_onnx(weights.load("judge")[0], tmp_path / "net.onnx")


def test_onnx_that_differs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    net, _ = weights.load("points")
    real = export._inputs
    drawn = iter((real(net, 2), *({**real(net, n), "x": torch.full((n, 2), torch.nan)} for n in (1, 2, 7))))
    monkeypatch.setattr(export, "_inputs", lambda net, n: next(drawn))
    with pytest.raises(RuntimeError, match="onnxruntime differs from torch by nan"):
        to_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
