"""How alike two frames are: PSNR, SSIM, HaarPSI and GMSD, which need no network; LPIPS where its weights are at hand.

HaarPSI and GMSD give the values of `piq` 0.8.0, to which the tests hold them. `piq` itself is no dependency: it imports
torchvision, whose build for CUDA does not load beside PyTorch's CPU build and takes other libraries down with it.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_pacman.episodes import DatasetFormat
from neural_pacman.frames import psnr
from training.figures import without_bars

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""AlexNet's weights, as torchvision names them in `torch.hub`'s folder of checkpoints."""


def likeness(image: np.ndarray, real: np.ndarray, format: DatasetFormat) -> dict[str, float]:
    """Scores of a prepared frame beside the real one, both uint8 `[512, 512, 3]`.

    `psnr` in dB, and `psnr_without_bars` of the screen alone; `ssim` and `haarpsi` are 1 for the same frame and smaller
    for others, `gmsd` is 0 and larger, up to about 0.35; `lpips`, when `lpips_missing()` is None, is 0 and larger.
    """
    x, y = _channels(image), _channels(real)
    scores = {
        "psnr": psnr(image, real),
        "psnr_without_bars": psnr(without_bars(image, format), without_bars(real, format)),
        "ssim": ssim(x, y),
        "haarpsi": haarpsi(x, y),
        "gmsd": gmsd(x, y),
    }
    if lpips_missing() is None:
        scores["lpips"] = float(_lpips()(x / 255, y / 255))
    return scores


def short_likeness(image: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The `psnr` and the `haarpsi` of `likeness` alone."""
    return {"psnr": psnr(image, real), "haarpsi": haarpsi(_channels(image), _channels(real))}


def ssim(x: Tensor, y: Tensor) -> float:
    """Structural similarity of RGB images `[1, 3, H, W]` in 0 to 255 (Wang et al. 2004: 11 x 11 Gaussian, sigma 1.5).

    The mean over channels and over the pixels whose window lies within the image.
    """
    height, width = x.shape[-2:]
    maps = torch.cat([x, y, x * x, y * y, x * y])
    maps = _blur(height, x) @ maps @ _blur(width, x).T
    mean_x, mean_y, xx, yy, xy = maps
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = _similarity(mean_x, mean_y, c1)
    detail = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return float((light * detail).mean())


def haarpsi(x: Tensor, y: Tensor) -> float:
    """Haar wavelet-based perceptual similarity of RGB images `[1, 3, H, W]` in 0 to 255 (Reisenhofer et al. 2018)."""
    both = F.avg_pool2d(_yiq(torch.cat([x, y])), 2)
    # Three scales, each in two orientations: `[2, 3, 2, H, W]`. An even kernel is centred as MATLAB does.
    scales = [F.conv2d(F.pad(both[:, :1], [2**i - 1, 2**i] * 2), _haar(2 ** (i + 1))) for i in range(3)]
    waves_x, waves_y = torch.stack(scales, dim=1).abs()
    likeness = [_similarity(waves_x[i], waves_y[i], 30.0) for i in range(2)]
    weight = torch.maximum(waves_x[2], waves_y[2])
    colour_x, colour_y = F.avg_pool2d(F.pad(both[:, 1:], (0, 1, 0, 1)), 2, stride=1).abs()
    maps = torch.cat([(likeness[0] + likeness[1]) / 2, _similarity(colour_x, colour_y, 30.0).mean(0, keepdim=True)])
    weights = torch.cat([weight, weight.mean(0, keepdim=True)])
    alpha, tiny = 4.2, torch.finfo(maps.dtype).eps
    score = ((torch.sigmoid(alpha * maps) * weights).sum() + tiny) / (weights.sum() + tiny)
    return float((torch.logit(score) / alpha) ** 2)


def gmsd(x: Tensor, y: Tensor) -> float:
    """Gradient magnitude similarity deviation of RGB images `[1, 3, H, W]` in 0 to 255 (Xue et al. 2014)."""
    grey = F.avg_pool2d(_yiq(torch.cat([x, y]) / 255)[:, :1], 2)
    prewitt = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=x.device) / 3
    gradients = F.conv2d(grey, torch.stack([prewitt, prewitt.T])[:, None], padding=1)
    steep_x, steep_y = gradients.square().sum(dim=1).sqrt()
    return float(_similarity(steep_x, steep_y, 170 / 255**2).std(correction=0))


def lpips_missing() -> str | None:
    """Why LPIPS cannot be measured here without a download, or None."""
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed"
    if not (Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS).is_file():
        return f"{LPIPS_WEIGHTS} is not among torch.hub's checkpoints"
    return None


@cache
def _lpips() -> Any:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _channels(frame: np.ndarray) -> Tensor:
    """uint8 `[H, W, 3]` as float32 `[1, 3, H, W]` in 0 to 255."""
    return torch.from_numpy(frame).movedim(-1, 0)[None].float()


def _similarity(x: Tensor, y: Tensor, constant: float) -> Tensor:
    return (2 * x * y + constant) / (x**2 + y**2 + constant)


def _blur(size: int, like: Tensor) -> Tensor:
    """The Gaussian window at each of its places along a line, `[size - 10, size]`: faster than a convolution."""
    window = torch.exp(-((torch.arange(11) - 5) ** 2) / (2 * 1.5**2))
    band = torch.zeros(size - 10, size)
    for i in range(size - 10):
        band[i, i : i + 11] = window / window.sum()
    return band.to(like)


def _yiq(x: Tensor) -> Tensor:
    """RGB `[B, 3, H, W]` as luma and two chroma channels."""
    matrix = [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
    return torch.einsum("ij,bjhw->bihw", torch.tensor(matrix, device=x.device), x)


def _haar(size: int) -> Tensor:
    """Kernels `[2, 1, size, size]` of horizontal and vertical edges."""
    kernel = torch.full((size, size), 1 / size)
    kernel[size // 2 :] *= -1
    return torch.stack([kernel, kernel.T])[:, None]
