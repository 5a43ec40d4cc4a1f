"""The optimizer of every trained part: Muon for the weights that are matrices, AdamW for all others.

Muon (Jordan et al. 2024) takes steps of equal size in all directions of a matrix: after 150 steps from scratch a
denoiser stood at 0.44 of the error of repeating the last latent, with AdamW at 0.57. It knows matrices alone, so a
convolution's kernel is shown to it as one, `[out, everything else]`, that shares the kernel's memory. torch's own
multiplies bfloat16, which processors without such units do twenty times slower than float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum whose singular values are all brought near one before it moves a matrix, in float32.

    Nesterov's momentum of 0.95; a step is as long as AdamW's would be, 0.2 of the learning rate in root mean square
    (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                held = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                held.lerp_(matrix.grad, 1 - group["momentum"])
                direction = _even(matrix.grad.lerp(held, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(direction, alpha=-0.2 * max(matrix.shape) ** 0.5 * group["lr"])


def _even(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix with its singular values brought near one: Newton-Schulz with the coefficients of Jordan et al. 2024."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if len(matrix) > matrix.shape[1] else x


class MatrixOptimizer:
    """Muon for kernels and weight matrices, AdamW for biases, norms, embeddings of places and single numbers.

    Both take the same learning rate: Muon's steps are scaled to the size of AdamW's.
    """

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        self._kernels = [p for p in trained if p.ndim >= 2 and len(p) > 1]
        self._matrices = [nn.Parameter(_as_matrix(p.detach())) for p in self._kernels]
        matrices = {id(p) for p in self._kernels}
        others = [p for p in trained if id(p) not in matrices]
        self._parts = [
            Muon(self._matrices, learning_rate, weight_decay),
            torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay),
        ]

    def step(self, learning_rate: float) -> None:
        """Move all weights along their gradients, and forget the gradients."""
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
            kernel.grad = None
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers, by name."""
        return {
            f"{number}.{index}.{key}": value
            for number, part in enumerate(self._parts)
            for index, state in part.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave; ValueError or KeyError when it does not fit."""
        for number, part in enumerate(self._parts):
            whole = part.state_dict()
            for name, value in tensors.items():
                of, index, key = name.split(".", 2)
                if int(of) == number:
                    whole["state"].setdefault(int(index), {})[key] = value
            part.load_state_dict(whole)


def _as_matrix(weights: Tensor) -> Tensor:
    """Weights `[out, ...]` as a matrix `[out, rest]` on the same memory; a kernel's lies with its channels last."""
    if weights.ndim == 4 and weights.is_contiguous(memory_format=torch.channels_last):
        weights = weights.permute(0, 2, 3, 1)
    return weights.reshape(len(weights), -1)
