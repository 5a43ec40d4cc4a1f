"""Images and tensors: the only place that turns one into the other.

A *prepared* frame is what every part of the engine sees: uint8 `[512, 512, 3]`, upright RGB, padded to a square with
black and resized once with PIL's bilinear filter.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FRAME_SIZE = 512

BEST_PSNR = 100.0
"""What identical frames count as, dB."""


def decode_image(data: bytes) -> np.ndarray:
    """An encoded image (PNG, WebP, ...) as uint8 RGB `[height, width, 3]`, oriented as stored."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def prepare(frame: np.ndarray) -> np.ndarray:
    """An upright uint8 RGB frame `[H, W, 3]` of any size as a prepared frame `[512, 512, 3]`.

    Raises ValueError for another dtype or shape.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"A frame has dtype {frame.dtype} and shape {list(frame.shape)}; expected uint8 [height, width, 3]."
        )
    height, width = frame.shape[:2]
    if (height, width) == (FRAME_SIZE, FRAME_SIZE):
        return frame
    side = max(height, width)
    square = Image.new("RGB", (side, side))
    square.paste(Image.fromarray(frame), ((side - width) // 2, (side - height) // 2))
    return np.array(square.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BILINEAR))


def to_tensor(frames: np.ndarray, device: torch.device | None = None) -> Tensor:
    """uint8 frames `[..., H, W, 3]` as float32 `[..., 3, H, W]` in [-1, 1], on a device (the CPU if not given)."""
    if frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(
            f"Frames have dtype {frames.dtype} and shape {list(frames.shape)}; expected uint8 [..., H, W, 3]."
        )
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, -3)
    return pixels.float().div_(127.5).sub_(1.0)


def to_images(frames: Tensor) -> np.ndarray:
    """Float frames `[..., 3, H, W]` in [-1, 1] as uint8 `[..., H, W, 3]`, rounded and clipped."""
    pixels = frames.detach().float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


def psnr(image: np.ndarray, real: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images of one shape, dB, at most `BEST_PSNR`."""
    error = float(np.mean((image.astype(np.float32) - real.astype(np.float32)) ** 2))
    return min(10 * float(np.log10(255**2 / error)), BEST_PSNR) if error else BEST_PSNR
