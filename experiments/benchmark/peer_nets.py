"""The peer of training: the same networks and the same step in PyTorch, on one device."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments import nets
from experiments.config import Run
from experiments.data import Dataset
from experiments.nets import vgg, wrn
from experiments.nets.layers import scaled
from experiments.run.augment import PAD


class Setting(NamedTuple):
    """How PyTorch computes a network."""

    channels_last: bool
    compiled: bool = False  # By torch.compile.
    bf16: bool = False  # By autocast.

    def __str__(self) -> str:
        return ("channels-last" if self.channels_last else "contiguous") + ", compiled" * self.compiled


def settings(*, compiled: bool, bf16: bool) -> Iterator[Setting]:
    """Those that are tried, of which the fastest counts; ``compiled`` adds those with ``torch.compile``."""
    for choice in (False, True) if compiled else (False,):
        yield Setting(True, choice, bf16)
        yield Setting(False, choice, bf16)


def build(net: str, classes: int, width: float = 1.0) -> Any:
    """One of ``experiments.nets.NETS`` in PyTorch, with its layers named as there."""
    return _vgg(net, classes, width) if net in vgg.LAYERS else _wide_resnet(net, classes, width)


def _vgg(net: str, classes: int, width: float) -> Any:
    from torch import nn

    layers, index, channels = collections.OrderedDict[str, nn.Module](), 0, 3
    for size in vgg.LAYERS[net]:
        if isinstance(size, str):
            layers[f"pool_{len(layers)}"] = nn.MaxPool2d(2)
            continue
        filters = scaled(size, width)
        layers[f"conv_{index}"] = _conv(channels, filters)
        layers[f"bn_{index}"] = nn.BatchNorm2d(filters)
        layers[f"relu_{index}"] = nn.ReLU(inplace=True)
        index, channels = index + 1, filters
    layers["flatten"] = nn.Flatten()
    layers["dense"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


def _wide_resnet(net: str, classes: int, width: float) -> Any:
    from torch import nn

    blocks, widening = wrn.SIZES[net]
    block_of, channels = _block(), scaled(16, width)
    layers = collections.OrderedDict[str, nn.Module](stem=_conv(3, channels))
    for group in range(3):
        filters = scaled(16 * widening * 2**group, width)
        for block in range(blocks):
            stride = 2 if group > 0 and block == 0 else 1
            layers[f"group_{group}_block_{block}"] = block_of(channels, filters, stride)
            channels = filters
    layers |= {"bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True)}
    layers |= {
        "mean": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "dense": nn.Linear(channels, classes),
    }
    return nn.Sequential(layers)


def _conv(channels: int, filters: int, size: int = 3, stride: int = 1) -> Any:
    from torch import nn

    return nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False)


@functools.cache
def _block() -> Any:
    """The class of a pre-activated block; PyTorch may not be there before this is called."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int, filters: int, stride: int, dropout: float = 0.3):
            super().__init__()
            self.bn_0 = nn.BatchNorm2d(channels)
            self.conv_0 = _conv(channels, filters, stride=stride)
            self.bn_1 = nn.BatchNorm2d(filters)
            self.conv_1 = _conv(filters, filters)
            self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)
            self.shortcut = None
            if stride != 1 or channels != filters:
                self.shortcut = _conv(channels, filters, 1, stride)

        def forward(self, x):
            active = self.relu(self.bn_0(x))
            y = self.dropout(self.relu(self.bn_1(self.conv_0(active))))
            return (x if self.shortcut is None else self.shortcut(active)) + self.conv_1(y)

    return Block


def device_name() -> str | None:
    """PyTorch's name of the device that JAX computes on, or None where PyTorch has no such device."""
    import jax
    import torch

    if jax.default_backend() == "cpu":
        return "cpu"
    return "cuda" if jax.local_device_count() == 1 and torch.cuda.is_available() else None


class Trainer:
    """A configuration's training in PyTorch: step and evaluation on pictures that lie on the device.

    As in ours, a step augments by example, adds weight decay on all parameters, and keeps count of losses
    and of correct answers on the device. There is no smoothing.
    """

    def __init__(self, config: Run, data: Dataset, setting: Setting, device: str = "cpu"):
        import torch

        self._torch, self._device, self._setting, self._flip = torch, device, setting, config.recipe.flip
        if device == "cuda":  # As XLA does there.
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self._format = torch.channels_last if setting.channels_last else torch.contiguous_format
        self._padding = nets.NETS[config.net.name].padding
        self.net = build(config.net.name, data.classes, config.net.width).to(
            device, memory_format=self._format
        )
        self._forward = torch.compile(self.net) if setting.compiled else self.net
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            config.recipe.lr,
            momentum=config.recipe.momentum,
            weight_decay=config.recipe.weight_decay,
            fused=True,
        )
        mean, deviation = data.statistics()
        self._mean, self._deviation = (
            torch.tensor(np.float32(value).reshape(1, 3, 1, 1), device=device)
            for value in (mean, deviation)
        )
        self._train = self._placed(data.train_images, data.train_labels)
        self._test = self._placed(data.test_images, data.test_labels)
        self.loss, self.correct = torch.zeros((), device=device), torch.zeros((), device=device)

    def _placed(self, images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        torch = self._torch
        return torch.tensor(images, device=self._device), torch.tensor(labels, device=self._device).long()

    def _normalised(self, images: Any) -> Any:
        """uint8 pictures ``(batch, height, width, 3)`` as ``(batch, 3, height, width)``."""
        return (images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._deviation

    def _scores(self, x: Any) -> Any:
        torch = self._torch
        x = x.contiguous(memory_format=self._format)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._setting.bf16):
            return self._forward(x).float()

    def repeat_step(self) -> Trainer:
        """A step on the whole training set, in order."""
        return self.step(np.arange(len(self._train[1])))

    def step(self, examples: np.ndarray) -> Trainer:
        """One step on a batch of training examples ``(batch,)``."""
        torch, device = self._torch, self._device
        chosen = torch.from_numpy(examples).to(device)
        images, labels = self._train[0][chosen], self._train[1][chosen]
        corner = torch.randint(0, 2 * PAD + 1, (2, len(chosen)), device=device)
        mirrored = torch.rand(len(chosen), device=device) < (0.5 if self._flip else 0)
        x = crop_and_flip(self._normalised(images), *corner, mirrored, padding=self._padding)
        self.update(x, labels)
        return self

    def update(self, x: Any, labels: Any) -> Any:
        """A step on pictures as the network gets them; returns their loss."""
        torch = self._torch
        self.net.train()
        scores = self._scores(x)
        loss = torch.nn.functional.cross_entropy(scores, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.loss += loss * len(labels)
            self.correct += (scores.argmax(1) == labels).sum()
        return loss.detach()

    def evaluate(self) -> tuple[np.ndarray, float]:
        """Which test pictures are classified correctly ``(test,)``, and the mean loss, all in one batch."""
        torch = self._torch
        images, labels = self._test
        self.net.eval()
        with torch.inference_mode():
            scores = self._scores(self._normalised(images))
            losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
            return (scores.argmax(1) == labels).cpu().numpy(), float(losses.cpu().numpy().mean())

    def block_until_ready(self) -> None:
        """Waits for the device: ``jax.block_until_ready`` calls this."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()


def crop_and_flip(x: Any, top: Any, left: Any, mirrored: Any, *, padding: str) -> Any:
    """Pictures ``(batch, 3, height, width)``, padded by 4 and cropped from a corner of their own, some mirrored.

    ``top``, ``left`` and ``mirrored`` are ``(batch,)``. The result is in the channels-last format.
    """
    import torch

    height, width = x.shape[2:]
    padded = torch.nn.functional.pad(x, (PAD,) * 4, mode=padding)
    columns = torch.arange(width, device=x.device)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns) + left[:, None]
    rows = torch.arange(height, device=x.device) + top[:, None]
    picture = torch.arange(len(x), device=x.device)
    crops = padded.permute(0, 2, 3, 1)[picture[:, None, None], rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)
