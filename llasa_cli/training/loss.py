"""Cross-entropy that is computed only where there is a label.

The logits over a vocabulary of up to 193,800 tokens are the largest arrays of training, and a third or more of the positions
(prompt, padding) have no label. The hidden states of the labeled positions are gathered first: the loss is the same, and the
arrays are smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.prompt import NO_LABEL


def labeled_forward(
    self: Any,
    input_ids: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    **others: Any,
) -> Any:
    """The forward of a causal language model; ids and labels (B, T) -> the loss of predicting each label.

    Args:
        num_items_in_batch: Labels of the whole step (all its batches), by which the sum is divided, so that gradient
            accumulation weighs labels and not batches. None divides by the labels of this batch.
    """
    from transformers.modeling_outputs import CausalLMOutput

    if labels is None:
        return type(self).forward(self, input_ids=input_ids, **others)
    hidden = self.model(input_ids=input_ids, use_cache=False, **others).last_hidden_state  # (B, T, hidden)
    targets = labels[:, 1:]
    kept = targets != NO_LABEL  # (B, T - 1)
    logits = self.lm_head(hidden[:, :-1][kept]).float()  # (labels, vocabulary)
    total = F.cross_entropy(logits, targets[kept], reduction="sum")
    count = kept.sum() if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutput(loss=total / count)


def use_labeled_forward(model: torch.nn.Module) -> None:
    """Give this instance `labeled_forward`. Without labels it computes what its class computes."""
    model.forward = MethodType(labeled_forward, model)


@contextmanager
def class_forward(*models: torch.nn.Module) -> Iterator[None]:
    """Within this context, the models run the forward of their class.

    accelerate replaces the instance's forward by one that always runs under autocast; it is put back afterwards.
    """
    replaced = [(model, vars(model).pop("forward")) for model in models if "forward" in vars(model)]
    try:
        yield
    finally:
        for model, forward in replaced:
            model.forward = forward
