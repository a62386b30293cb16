"""Pictures of a class, with classifier-free guidance, by any scheduler of diffusers."""

import inspect

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor


class LabelPipeline(DiffusionPipeline):
    """pipe(class_labels=[3, 7], guidance_scale=2.0).images; another scheduler may be put in place of `pipe.scheduler`.

    unet takes (x, timestep, class_labels) and has sample_size, in_channels and times in its config.
    """

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | list[int] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        eta: float = 0.0,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ):
        """Draw pictures, one a label; without labels `batch_size` pictures of any class.

        As everywhere in diffusers, guidance happens only for guidance_scale > 1: any other scale gives the plain
        prediction for the label, 0 too. For pictures of any class leave class_labels out.

        latents (B, C, H, W) are the start noise, drawn from `generator` by default. num_inference_steps are 20 by
        default, or what a student was trained for. eta is DDIM's. output_type is "pil", "np" or "pt" for pictures in
        [0, 1], "latent" for what the scheduler ends with, neither scaled nor clipped.
        """
        config = self.unet.config
        if guidance_scale > 1 and class_labels is None:
            raise ValueError(f"guidance_scale is {guidance_scale}; expected class_labels with it, they are None")
        if guidance_scale > 1 and config.times:
            raise ValueError(f"guidance_scale is {guidance_scale}; {config.guidance:g} is folded into this student")
        if class_labels is not None:
            class_labels = torch.as_tensor(class_labels, device=self._execution_device).reshape(-1)
            batch_size = len(class_labels)
        shape = (batch_size, config.in_channels, *config.sample_size)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        elif latents.shape != shape:
            raise ValueError(f"latents is a tensor of shape {tuple(latents.shape)}; expected {shape}")
        self.scheduler.set_timesteps(num_inference_steps or (len(config.times) - 1 if config.times else 20))
        offered = {"eta": eta, "generator": generator}
        taken = inspect.signature(self.scheduler.step).parameters
        extra = {name: value for name, value in offered.items() if name in taken}
        x = latents * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            x_in = self.scheduler.scale_model_input(x, t)
            output = self.unet(x_in, t, class_labels).sample
            if guidance_scale > 1:
                without = self.unet(x_in, t).sample
                output = without + guidance_scale * (output - without)
            x = self.scheduler.step(output, t, x, **extra).prev_sample
        images = x if output_type == "latent" else (x / 2 + 0.5).clamp(0, 1)
        if output_type in ("pil", "np"):
            images = images.cpu().permute(0, 2, 3, 1).float().numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
