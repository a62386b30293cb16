"""Out of the course and back: networks and schedules for Hugging Face diffusers, networks for ONNX.

What goes wrong between two libraries is rarely the network. Time: diffusers counts from 0, so its t is ours less 1.
Start: with timestep_spacing "leading", the default of DDPMScheduler and DDIMScheduler, twenty steps begin at t = 951,
where a network has not seen pure noise; with "trailing" they begin at T. Guidance: its pipelines guide only for
guidance_scale > 1 and take any other scale for "conditional", where w = 0 is unconditional here (`guidance`). The end:
DDIMScheduler and DDPMScheduler clip x0 unless told otherwise, and DDIMScheduler strides by T // steps, so that
"trailing" needs steps that divide T.
"""

import ast
import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from importlib.resources import files
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lessons_src import checks, networks
from lessons_src.checks import check_choice, check_int, check_real, refuse
from lessons_src.files import write_whole
from lessons_src.networks import NoisePredictor, UNet
from lessons_src.schedules import NoiseSchedule, cosine, linear, of_betas, scaled_linear, time_grid
from lessons_src.students import Student

CODE = Path(str(files("lessons_src") / "assets" / "diffusers"))
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
UNET, PIPELINE = "PatchUNet", "LabelPipeline"  # in CODE
CONFIG, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"

# --- Schedules --------------------------------------------------------------------------------------------------------


def scheduler_config(schedule: NoiseSchedule, prediction: str = "eps") -> dict[str, Any]:
    """The config of a diffusers scheduler with these levels, for DDIMScheduler.from_config(...) and every other.

    prediction is what the network's output means, "eps" or "v". Its steps begin at T, nothing is clipped.
    """
    check_choice("prediction", prediction, PREDICTIONS)
    if not isinstance(schedule, NoiseSchedule):
        refuse("schedule", schedule, "a NoiseSchedule", TypeError)
    beta = schedule.beta[1:]
    first, last = beta[0].item(), beta[-1].item()
    levels: dict[str, Any] = {"trained_betas": beta.tolist()}
    if first <= last <= 0.999 and _same(beta, torch.linspace(first, last, schedule.T, dtype=torch.float64)):
        levels = {"beta_schedule": "linear", "beta_start": first, "beta_end": last}
    elif _same(beta, cosine(schedule.T).beta[1:]):
        levels = {"beta_schedule": "squaredcos_cap_v2"}
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.T,
        **levels,
        "prediction_type": PREDICTIONS[prediction],
        "timestep_spacing": "trailing",
        "clip_sample": False,
    }


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=0)


def schedule_of(config: Mapping[str, Any]) -> NoiseSchedule:
    """The schedule in a diffusers scheduler's config, in float64 where diffusers has float32.

    Levels only: which times are visited is `times_of`. Raises ValueError, naming the key, for what no schedule here
    can be: levels that reach alpha_bar = 0, schedulers without betas (flow matching, EDM), betas of an unknown kind.
    """
    _check_config(config)
    for key in ("rescale_betas_zero_snr", "use_flow_sigmas"):
        if config.get(key):
            refuse(key, config[key], "false: a schedule here ends above alpha_bar = 0, and is not a flow")
    T = check_int("num_train_timesteps", config.get("num_train_timesteps", 1000), 1)
    if config.get("trained_betas") is not None:
        expected = f"{T} numbers, one a training step, in (0, 1)"
        try:
            beta = torch.as_tensor(config["trained_betas"], dtype=torch.float64)
        except (TypeError, ValueError):
            refuse("trained_betas", config["trained_betas"], expected, TypeError)
        if beta.shape != (T,) or not ((beta > 0) & (beta < 1)).all():
            refuse("trained_betas", config["trained_betas"], expected)
        return of_betas(beta)
    kinds = ("linear", "scaled_linear", "sigmoid", "squaredcos_cap_v2")
    kind = check_choice("beta_schedule", config.get("beta_schedule"), kinds)
    if kind == "squaredcos_cap_v2":
        return cosine(T)
    first = check_real("beta_start", config.get("beta_start", 1e-4), 1e-12, 0.999)
    last = check_real("beta_end", config.get("beta_end", 0.02), first, 0.999)
    if kind == "linear":
        return linear(T, first, last)
    if kind == "scaled_linear":
        return scaled_linear(T, first, last)
    return of_betas(first + (last - first) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid())


def _check_config(config: Any) -> Mapping[str, Any]:
    if not isinstance(config, Mapping):
        refuse("config", config, "a dictionary, as scheduler.config is", TypeError)
    return config


def prediction_of(config: Mapping[str, Any]) -> str:
    """What a network's output means to a diffusers scheduler with this config: "eps" or "v", ValueError for others."""
    kind = _check_config(config).get("prediction_type", "epsilon")
    check_choice("prediction_type", kind, tuple(PREDICTIONS.values()))
    return next(name for name, theirs in PREDICTIONS.items() if theirs == kind)


def times_of(scheduler: Any) -> list[int]:
    """The times that a diffusers scheduler visits after its set_timesteps(n), as our samplers take them: T..1, and 0.

    Raises ValueError, naming what is in the way, if it visits levels between times, or does not end at clean data.
    """
    if not hasattr(scheduler, "config") or not hasattr(scheduler, "timesteps"):
        refuse("scheduler", scheduler, "a scheduler of diffusers", TypeError)
    config = scheduler.config
    for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas"):
        if config.get(key):
            refuse(key, config[key], "false: its levels lie between the times of the schedule")
    if config.get("final_sigmas_type", "zero") != "zero":
        refuse("final_sigmas_type", config["final_sigmas_type"], "'zero': our samplers end at clean data")
    if not config.get("set_alpha_to_one", True):
        refuse("set_alpha_to_one", False, "true: our samplers end at clean data")
    times = [1 + t for t in scheduler.timesteps.tolist()]
    T = config["num_train_timesteps"]
    if not times or not all(1 <= t <= T for t in times):
        refuse("scheduler.timesteps", scheduler.timesteps.tolist(), f"one or more from 0 to {T - 1}")
    strides = {t - s for t, s in pairwise(times)}
    if any(t != int(t) for t in times) or min(strides, default=1) <= 0:
        refuse("scheduler.timesteps", times, "whole numbers that fall strictly: one evaluation a step")
    stride = T // len(times)
    if type(scheduler).__name__ == "DDIMScheduler" and (strides - {stride} or times[-1] > stride):
        refuse("scheduler.timesteps", times, f"strides of T // steps = {stride}, by which DDIMScheduler steps anyway")
    return [*map(int, times), 0]


# --- Networks for diffusers -------------------------------------------------------------------------------------------


def to_diffusers(net: NoisePredictor, folder: str | Path) -> None:
    """Write a folder that diffusers opens, without this package and without a network connection.

        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        pipe(class_labels=[3, 7], guidance_scale=2.0, num_inference_steps=20).images
        pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)

    It holds the weights in float32 as safetensors, the scheduler's config, and the code of model and pipeline, which
    diffusers runs only when told to trust it. Raises TypeError unless the body of `net` is a UNet; a Student is
    welcome, one that refuses guidance and times off its grid there too.
    """
    if not isinstance(net, NoisePredictor) or not isinstance(net.body, UNet):
        refuse("net", type(getattr(net, "body", net)).__name__, "a NoisePredictor with a UNet for its body", TypeError)
    body, student = net.body, net if isinstance(net, Student) else None
    if student and student.times != time_grid(net.schedule, len(student.times) - 1, "trailing"):
        refuse("net.times", student.times, "times in equal strides from T: no scheduler of diffusers visits others")
    config = {
        "_class_name": UNET,
        "sample_size": body.event[1:],
        "in_channels": body.event[0],
        "block_out_channels": (body.enter.out_channels, body.shrink.out_channels),
        "num_classes": body.num_classes,
        "num_train_timesteps": net.schedule.T,
        "times": student.times if student else None,
        "guidance": student.w if student else None,
    }
    tensors = {f"body.{key}": value.float().contiguous().cpu() for key, value in body.state_dict().items()}
    folder = Path(folder)
    write_whole(folder / WEIGHTS, lambda part: save_file(tensors, part, {"format": "pt"}))
    _write(folder / CONFIG, _json(config))
    _write(folder / SCHEDULER, _json(scheduler_config(net.schedule, net.prediction)))
    _write(folder / "unet/patch_unet.py", _with_its_code(CODE / "patch_unet.py"))
    _write(folder / "label_pipeline.py", (CODE / "label_pipeline.py").read_text())
    index = {
        "_class_name": ["label_pipeline", PIPELINE],
        "unet": ["patch_unet", UNET],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    _write(folder / "model_index.json", _json(index))  # the last: a folder without it is not opened


def from_diffusers(folder: str | Path) -> NoisePredictor:
    """The network, a Student if it is one, in a folder that `to_diffusers` wrote or diffusers saved again; evaluating.

    Runs no code from the folder. Raises ValueError for a folder that is damaged or holds another kind of network.
    """
    folder = Path(folder)
    try:
        config, levels = (json.loads((folder / name).read_text()) for name in (CONFIG, SCHEDULER))
        check_choice("_class_name", config.get("_class_name"), (UNET,))
        image = (config["in_channels"], *config["sample_size"])
        body = UNet(config["num_classes"], tuple(config["block_out_channels"]), image)
        body.load_state_dict({key.removeprefix("body."): value for key, value in load_file(folder / WEIGHTS).items()})
        schedule, prediction = schedule_of(levels), prediction_of(levels)
        if config["times"]:
            return Student(body, schedule, config["times"], config["guidance"]).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} cannot be loaded as a network of the course: {error}") from error
    return NoisePredictor(body, schedule, prediction).eval()


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda part: part.write_text(text))


def _with_its_code(path: Path) -> str:
    """A module that imports UNet from here, as one that holds the code of it: diffusers alone then opens a folder."""
    module = ast.parse(path.read_text())
    imports = {
        ast.unparse(node)
        for tree in (module, *(ast.parse(inspect.getsource(source)) for source in (checks, networks)))
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and "lessons_src" not in ast.unparse(node)
    }
    needed = (
        *(checks.refuse, checks.check_int, checks.check_labels),
        *(networks.Body, networks.LabelBody, networks.TimeEmbedding, networks.silence, networks.ResidualBlock, UNet),
    )
    own = path.read_text().partition(f"class {UNET}")
    return "\n\n".join(
        (
            f'"""{ast.get_docstring(module)}"""\n',
            "\n".join((*sorted(imports), f"\nWAVES = {networks.WAVES}\n")),
            *(inspect.getsource(part) for part in needed),
            own[1] + own[2],
        )
    )


# --- ONNX -------------------------------------------------------------------------------------------------------------


class _Graph(nn.Module):
    """What of a network goes into the file: a copy of its body behind the scaling of time, without the checks."""

    def __init__(self, net: NoisePredictor) -> None:
        super().__init__()
        self.body, self.T = deepcopy(net.body).cpu().eval(), net.schedule.T

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.body(x, 1000 * t / self.T, label)


def to_onnx(net: NoisePredictor, path: str | Path) -> float:
    """Write a network as ONNX, run it with onnxruntime beside torch, and return the largest difference of outputs.

    Inputs are x (B, *event) float32, t (B,) int64 in 1..T, and label (B,) int64, the null label included; any B. The
    output carries the name of `net.prediction`, "eps" or "v": from v come x0 = a x - b v and eps = a v + b x with a =
    sqrt(alpha_bar), b = sqrt(1 - alpha_bar), and nothing is divided by a small a. Needs the extra "onnx". Raises
    TypeError for anything but a NoisePredictor; RuntimeError, and writes nothing, if outputs differ by more than 1e-5,
    of the largest output if that is above 1.
    """
    if not isinstance(net, NoisePredictor):
        refuse("net", type(net).__name__, "a NoisePredictor", TypeError)
    import onnxruntime

    graph = _Graph(net)
    inputs, batch = _inputs(net, 2), torch.export.Dim("batch")
    with _quiet():
        found: Any = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[net.prediction],
            dynamic_shapes={name: {0: batch} for name in inputs},
            dynamo=True,
        )
    written = found.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    misses = []
    for n in (1, 2, 7):
        inputs = _inputs(net, n)
        (output,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            expected = graph(*inputs.values())
        misses.append((torch.from_numpy(output) - expected).abs().max() / expected.abs().max().clamp(min=1))
    worst = torch.stack(misses).max().item()  # torch's max: NaN, if there is one
    if not worst <= 1e-5:
        raise RuntimeError(f"onnxruntime differs from torch by {worst:.2g}; expected 1e-5 at most")
    write_whole(path, lambda part: part.write_bytes(written))
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself: that torchvision is missing, that a name is used three times."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _inputs(net: NoisePredictor, n: int) -> dict[str, Tensor]:
    """Random inputs for n samples, at times that the network knows."""
    generator = torch.Generator().manual_seed(n)
    known = torch.tensor(net.times[:-1] if isinstance(net, Student) else range(1, net.schedule.T + 1))
    return {
        "x": torch.randn(n, *net.body.event, generator=generator),
        "t": known[torch.randint(len(known), (n,), generator=generator)],
        "label": torch.randint(0, net.num_classes + 1, (n,), generator=generator),
    }
