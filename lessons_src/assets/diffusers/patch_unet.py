"""The course's U-Net as a model of Hugging Face diffusers; `export.to_diffusers` writes it out with its code."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput

from lessons_src.networks import UNet


class PatchUNet(ModelMixin, ConfigMixin):
    """A U-Net on 2 x 2 patches of pictures in [-1, 1], with the classes 0..num_classes - 1 or none; float32.

    sample_size is (height, width), block_out_channels the widths at a half and at a quarter of it. A student of
    distillation has `times`, the only ones that it knows, counted from 1 and falling to 0, and `guidance`, the scale
    that is folded into it; None for any other network.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: tuple[int, int] = (28, 28),
        in_channels: int = 1,
        block_out_channels: tuple[int, int] = (32, 48),
        num_classes: int = 10,
        num_train_timesteps: int = 1000,
        times: list[int] | None = None,
        guidance: float | None = None,
    ):
        super().__init__()
        self.body = UNet(num_classes, tuple(block_out_channels), (in_channels, *sample_size))

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        """What the scheduler's `prediction_type` says, for sample (B, C, H, W) at timestep, a number or (B,).

        Schedulers count their timesteps from 0, the network counts from 1. class_labels are a number or (B,), None for
        no class; guidance is the caller's.
        """
        time = 1 + torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        if self.config.times:
            known = [t - 1 for t in self.config.times[:-1]]
            if any(t not in known for t in (time - 1).tolist()):
                raise ValueError(
                    f"timestep is {timestep}; this student knows {known}, those of DDIMScheduler with "
                    f"timestep_spacing='trailing' and num_inference_steps={len(known)}"
                )
            if class_labels is None and self.config.num_classes:
                raise ValueError(
                    f"class_labels is None; expected labels, guidance {self.config.guidance:g} is folded in"
                )
        label = self.body.condition(class_labels, len(sample), sample.device)
        output = self.body(sample, 1000 * time / self.config.num_train_timesteps, label)
        return UNet2DOutput(sample=output) if return_dict else (output,)
