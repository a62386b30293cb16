"""Trained weights that ship with the course: safetensors files, each with a JSON card that says how it was made.

`load(name)` reads them; `make weights` trains and writes them all again.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lessons_src.checks import check_choice, refuse
from lessons_src.files import write_whole
from lessons_src.latent import Autoencoder
from lessons_src.networks import (
    Body,
    DigitClassifier,
    JointEmbedding,
    NoisePredictor,
    NoisyDigitClassifier,
    PointMLP,
    UNet,
)
from lessons_src.schedules import make_schedule
from lessons_src.students import Student
from lessons_src.text_to_image import CaptionUNet, DiT

FOLDER = Path(str(files("lessons_src") / "assets" / "weights"))
ADAPTERS = FOLDER.with_name("adapters")
WHOLE: dict[str, type[nn.Module]] = {
    "DigitClassifier": DigitClassifier,
    "NoisyDigitClassifier": NoisyDigitClassifier,
    "JointEmbedding": JointEmbedding,
    "Autoencoder": Autoencoder,
}
BODIES: dict[str, type[Body]] = {"UNet": UNet, "PointMLP": PointMLP, "DiT": DiT, "CaptionUNet": CaptionUNet}


def build(card: dict[str, Any]) -> nn.Module:
    """An untrained network as a card describes it: one of WHOLE, a body with schedule and prediction, or a student."""
    name = check_choice("network", card["network"], (*WHOLE, *BODIES))
    if name in WHOLE:
        return WHOLE[name](**card["arguments"])
    body, schedule = BODIES[name](**card["arguments"]), make_schedule(**card["schedule"])
    if "times" in card:
        return Student(body, schedule, card["times"], card["w"])
    return NoisePredictor(body, schedule, card["prediction"])


def save(name: str, net: nn.Module, card: dict[str, Any], folder: str | Path = FOLDER) -> None:
    """Write the weights of `net` in half precision and their card; each file appears whole or not at all.

    Raises ValueError if a weight does not fit into half precision.
    """
    _write(name, {key: value for key, value in net.state_dict().items() if value.is_floating_point()}, card, folder)


def save_adapter(name: str, changes: dict[str, Tensor], card: dict[str, Any], folder: str | Path = ADAPTERS) -> None:
    """Write an adapter of `lora` in the same form; its card says which network it is for."""
    _write(name, changes, card, folder)


def load_adapter(name: str, folder: str | Path = ADAPTERS) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter called `name`, float32, for `lora.plug`, and its card; ValueError as in `load`."""
    path = _path(name, folder)
    try:
        changes = {key: value.float() for key, value in load_file(path).items()}
        return changes, json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def _path(name: str, folder: str | Path) -> Path:
    names = sorted(path.stem for path in Path(folder).glob("*.json"))
    if not names:
        refuse("folder", str(folder), "a folder with weights in it")
    return Path(folder) / f"{check_choice('name', name, names)}.safetensors"


def _write(name: str, tensors: dict[str, Tensor], card: dict[str, Any], folder: str | Path) -> None:
    weights = {key: value.half().contiguous().cpu() for key, value in tensors.items()}
    for key, value in weights.items():
        if not value.isfinite().all():
            refuse(f"net, {key}", value, "finite values that fit into half precision")
    folder = Path(folder)
    write_whole(folder / f"{name}.safetensors", lambda part: save_file(weights, part))
    write_whole(folder / f"{name}.json", lambda part: part.write_text(json.dumps(card, indent=2) + "\n"))


def load(name: str, folder: str | Path = FOLDER) -> tuple[Any, dict[str, Any]]:
    """The trained network called `name`, float32, in evaluation mode, and its card.

    Raises ValueError listing the names there are, or naming the file if it is damaged or does not fit its card.
    """
    path = _path(name, folder)
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        net = build(card)
        weights = {key: value.float() for key, value in load_file(path).items()}
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be loaded as its card describes it: {error}") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path} does not fit its card: missing {missing}, unexpected {unexpected}")
    return net.eval(), card
