"""Several processes that train one model, each on batches of its own: `torchrun --nproc-per-node 2` in place of `python`."""

from __future__ import annotations

import os

import torch
from torch import nn


class Team:
    """The processes that train one model: this one alone, or those that torchrun started."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.size > 1:
            torch.distributed.init_process_group("gloo")

    def agreed(self, value: float) -> float:
        """The first process's."""
        if self.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64)
        torch.distributed.broadcast(held, 0)
        return float(held)

    def mean_gradients(self, model: nn.Module) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def learn(self, judge: nn.Module, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        """One step of a model that only judges another: the discriminator, the recogniser."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.mean_gradients(judge)
        optimiser.step()
