"""Networks of the package in PyTorch, for `peers.py` and `pictures.py`."""

import numpy as np
import torch
from torch.nn import functional


class Unet(torch.nn.Module):
    """`kgm.unet` with a noise level, of the same weights.

    Args:
        weights: dict of the names of its layers to their Keras weights.
        filters, blocks: as of `kgm.unet`.
        stem_stride: 1 or 2, as of `kgm.unet`.

    Call arguments:
        x: `[batch, channels, height, width]`.
        level: `[batch]`, ln(sigma) / 4.

    Call returns:
        like `x`, float32 under autocast, too.
    """

    def __init__(self, weights, filters, blocks, stem_stride=1):
        super().__init__()
        self.filters, self.blocks = filters, blocks
        self.num_levels = len(filters)
        self.stem_stride = stem_stride
        self.layers = torch.nn.ModuleDict(
            {
                name: _layer(self._square_of(name), *arrays)
                for name, arrays in weights.items()
                if arrays
            }
        )
        self.register_buffer("frequencies", 2 ** torch.linspace(-1, 4, 16))

    def forward(self, x, level):
        embedding = self._embedded(level)
        multiple = self.stem_stride * 2 ** (self.num_levels - 1)
        height, width = x.shape[2:]
        padding = (0, -width % multiple, 0, -height % multiple)
        h = functional.pad(x, padding, mode="reflect") if any(padding) else x
        h = self.layers["stem"](h)
        modulations = self._modulations(embedding)
        skips = []
        for i in range(self.num_levels - 1):
            h = self._blocks(h, f"down_{i}", modulations)
            skips.append(h)
            h = self.layers[f"down_{i}"](h)
        h = self._blocks(h, "middle", modulations)
        for i in reversed(range(len(skips))):
            h = functional.pixel_shuffle(self.layers[f"up_{i}"](h), 2)
            h = self._blocks(h + skips[i], f"up_{i}", modulations)
        with torch.autocast("cpu", enabled=False):
            y = self.layers["output"](functional.relu(h.float()))
            y = functional.pixel_shuffle(y, self.stem_stride)
        return y[:, :, :height, :width]

    def _square_of(self, name):
        """Returns how many pixels the channels of a layer become."""
        if name == "output":
            return self.stem_stride**2
        return 4 if name.startswith("up_") and "block" not in name else 1

    def _embedded(self, level):
        angles = level[:, None] * self.frequencies
        h = torch.cat([angles.sin(), angles.cos()], dim=1)
        for name in ("level_0", "level_1"):
            h = functional.silu(self.layers[name](h))
        return h

    def _modulations(self, embedding):
        """Returns an iterator over scale and shift of each block, joined."""
        levels = [*self.filters, *reversed(self.filters[:-1])]
        sizes = [
            2 * channels for channels in levels for _ in range(self.blocks)
        ]
        return iter(self.layers["modulations"](embedding).split(sizes, 1))

    def _blocks(self, h, name, modulations):
        for j in range(self.blocks):
            block = f"{name}_block_{j}"
            scale, shift = next(modulations)[..., None, None].chunk(2, 1)
            y = self.layers[f"{block}_in"](h) * (1 + scale) + shift
            h = h + self.layers[f"{block}_out"](functional.relu(y))
        return h


class Vae(torch.nn.Module):
    """A VAE of binary images with two hidden layers on each side.

    Args:
        size: int, number of pixels.
        width: int, of the hidden layers.
        latent_size: int, length of z.

    Call arguments:
        x: `[batch, size]`, of 0 and 1.

    Call returns:
        scalar, minus the elbo of one draw of z, averaged over the batch.
    """

    def __init__(self, size, width, latent_size):
        super().__init__()
        self.encoder = hidden_layers(size, width, 2 * latent_size)
        self.decoder = hidden_layers(latent_size, width, size)

    def forward(self, x):
        loc, raw_scale = self.encoder(x).chunk(2, 1)
        scale = 1e-4 + functional.softplus(raw_scale)
        logits = self.decoder(loc + scale * torch.randn_like(scale))
        distortion = functional.binary_cross_entropy_with_logits(
            logits, x, reduction="sum"
        )
        rate = 0.5 * (loc**2 + scale**2 - 1).sum() - scale.log().sum()
        return (distortion + rate) / len(x)


def hidden_layers(*sizes):
    """Returns dense layers from the first size to the last, and SiLU."""
    first, width, last = sizes
    return torch.nn.Sequential(
        torch.nn.Linear(first, width),
        torch.nn.SiLU(),
        torch.nn.Linear(width, width),
        torch.nn.SiLU(),
        torch.nn.Linear(width, last),
    )


def _layer(square, kernel, bias=None):
    """Builds a dense layer, or a convolution in the format channels_last."""
    sizes = kernel.shape[-2:]
    if kernel.ndim == 2:
        layer = torch.nn.Linear(*sizes, bias=bias is not None)
        weight = kernel.T
    else:
        # Keras' order of channels is (row, column, channel), and that of
        # PyTorch (channel, row, column).
        order = np.arange(sizes[1]).reshape(square, -1).T.reshape(-1)
        kernel = kernel[..., order]
        bias = None if bias is None else bias[order]
        side = len(kernel)
        layer = torch.nn.Conv2d(
            *sizes,
            side,
            # Of 1x1 and 3x3, of a step down, and of a stem with a stride.
            stride=2 if side == 2 else max(1, side // 3),
            padding=side // 3,
            bias=bias is not None,
        )
        weight = kernel.transpose(3, 2, 0, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias.copy()))
    return layer.to(memory_format=torch.channels_last)
