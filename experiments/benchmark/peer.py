"""The peer of feature visualisation: Lucid's port to PyTorch, torch-lucent, on a network with our weights."""

from __future__ import annotations

import collections
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.nets import vgg
from lgnn_jax.inspect import Setting

_EPSILON = 1e-5  # Of our networks' batch normalisation.


class Weights(NamedTuple):
    """A VGG as PyTorch gets it: which, its variables, and the data set's mean and deviation by channel."""

    net: str
    variables: dict[str, Any]
    mean: np.ndarray
    deviation: np.ndarray


def network(weights: Weights, layer: str) -> Any:
    """The VGG in PyTorch from pictures in [0, 1] ``(batch, 3, height, width)`` to the maps of ``layer``.

    Batch normalisation is folded into the convolutions, so the maps are those of the normalisation.
    """
    import torch
    from torch import nn

    modules = collections.OrderedDict[str, nn.Module]()
    with torch.no_grad():
        data = modules["data"] = nn.BatchNorm2d(3, eps=0.0, affine=False)
        data.running_mean.copy_(torch.tensor(weights.mean))
        data.running_var.copy_(torch.tensor(weights.deviation**2))
        index = 0
        for size in vgg.LAYERS[weights.net]:
            if size == "M":
                modules[f"pool_{len(modules)}"] = nn.MaxPool2d(2)
                continue
            kernel, bias = _folded(weights.variables, index)
            convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same")
            convolution.weight.copy_(torch.tensor(kernel))
            convolution.bias.copy_(torch.tensor(bias))
            modules[f"conv_{index}"] = convolution
            if layer == f"conv_{index}":
                return nn.Sequential(modules).eval().requires_grad_(False)
            modules[f"relu_{index}"] = nn.ReLU(inplace=True)
            index += 1
    raise ValueError(f"{layer!r} is no convolution of {weights.net}.")


def _folded(variables: dict[str, Any], index: int) -> tuple[np.ndarray, np.ndarray]:
    """A convolution with the normalisation that reads it: OIHW kernel and bias, in double precision."""
    norm, running = variables["params"][f"bn_{index}"], variables["batch_stats"][f"bn_{index}"]
    factor = np.float64(norm["scale"]) / np.sqrt(np.float64(running["var"]) + _EPSILON)
    kernel = variables["params"][f"conv_{index}"]["kernel"] * factor
    return kernel.transpose(3, 2, 0, 1), norm["bias"] - running["mean"] * factor


def maps(net: Any, pictures: np.ndarray) -> np.ndarray:
    """What a network in PyTorch gives for pictures ``(batch, height, width, 3)``, in that order of axes too."""
    import torch

    with torch.no_grad():
        found = net(torch.tensor(pictures.transpose(0, 3, 1, 2)))
    return found.numpy().transpose(0, 2, 3, 1)


class Lucent:
    """torch-lucent, to visualise channels of one layer.

    Raises:
      ImportError, RuntimeError: If it is not installed, or what it needs does not fit together.
    """

    def __init__(self, weights: Weights, layer: str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It is older than the PyTorch that it runs on.
            import torch
            from lucent.optvis import objectives, param, render, transform
        self._torch, self._objectives, self._param = torch, objectives, param
        self._render, self._transform = render, transform
        self._weights, self._layer = weights, layer
        self.version = torch.__version__.split("+")[0]

    def render(
        self,
        units: Sequence[int],
        setting: Setting,
        steps: Sequence[int],
        *,
        size: int,
        channels_last: bool,
        untimed: int = 0,
    ) -> tuple[dict[int, np.ndarray], float]:
        """Pictures of the units, made at the same time: those of a batch, with an objective each.

        Args:
          units: Channels.
          setting: Numbers of the transforms and of Adam.
          steps: Numbers of steps after which pictures are wanted, ascending.
          size: Height and width of pictures.
          channels_last: Memory format of the network.
          untimed: Steps to begin with that are not timed, fewer than the last of ``steps``.

        Returns:
          Pictures ``(units, size, size, 3)`` by number of steps, and the seconds a timed step took.
        """
        torch, channel = self._torch, self._objectives.channel
        net = network(self._weights, self._layer).to(self._transform.device)
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
        torch.manual_seed(0)
        np.random.seed(0)  # lucent draws its transforms from it.
        objective = self._objectives.Objective.sum(
            [channel(self._layer, int(unit), batch=place) for place, unit in enumerate(units)]
        )
        begun: list[float] = []

        def watch(pictures):
            if len(begun) == untimed:
                pictures[0, 0, 0, 0].item()  # Waits for an accelerator.
            begun.append(time.perf_counter())
            return pictures

        transforms, seen = self._transforms(setting, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = self._render.render_vis(
                net,
                objective,
                lambda: self._param.image(size, batch=len(units), decorrelate=setting.decorrelate),
                lambda params: torch.optim.Adam(params, lr=setting.learning_rate),
                [watch, *transforms],
                thresholds=tuple(steps),
                preprocess=False,  # ImageNet's; the network does that of its data set.
                progress=False,
                show_image=False,
                fixed_image_size=seen,
            )
        seconds = (time.perf_counter() - begun[untimed]) / (len(begun) - untimed)
        return dict(zip(steps, images, strict=True)), seconds

    def _transforms(self, setting: Setting, size: int) -> tuple[list[Any], int]:
        """The transforms of lucent with a setting's numbers, and the size that they leave: that of our canvas.

        Where Lucid's jitter crops, lucent's shifts zeros in from the top and the left, so that is cropped.
        """
        largest = (
            int(max(setting.scales) * (size + 2 * setting.pad - setting.jitter)) - setting.jitter_after
        )
        seen = max(size, largest)

        def jitter(pixels: int) -> list[Any]:  # Lucent's own takes no fewer than two.
            return [self._transform.jitter(pixels)] if pixels > 1 else []

        return [
            self._transform.pad(setting.pad, mode="constant", constant_value=0.5),
            *jitter(setting.jitter),
            self._transform.random_scale(list(setting.scales)),
            self._transform.random_rotate(list(setting.angles)),
            *jitter(setting.jitter_after),
            lambda pictures: pictures[..., -seen:, -seen:],
        ], seen
