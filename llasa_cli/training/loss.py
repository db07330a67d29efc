"""Cross-entropy computed only where there is a label.

The scores over a vocabulary of up to 193,800 are the largest arrays of training, and a third or more of the positions
(prompt, padding) have no label. The hidden states that have one are gathered first: the loss is the same, the arrays
are smaller.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.prompt import NO_LABEL


def labelled_forward(
    self: Any,
    input_ids: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    **others: Any,
) -> Any:
    """A causal language model's forward; (B, T) ids and labels -> the loss of predicting each label from what precedes.

    Args:
        num_items_in_batch: Labels of the whole step (all its batches): what the sum is divided by, so that gradient
            accumulation weighs labels and not batches. None: those of this batch.
    """
    from transformers.modeling_outputs import CausalLMOutput

    if labels is None:
        return type(self).forward(self, input_ids=input_ids, **others)
    hidden = self.model(input_ids=input_ids, use_cache=False, **others).last_hidden_state
    wanted = labels[:, 1:]
    kept = wanted != NO_LABEL
    scores = self.lm_head(hidden[:, :-1][kept]).float()  # (labels, vocabulary)
    total = F.cross_entropy(scores, wanted[kept], reduction="sum")
    count = kept.sum() if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutput(loss=total / count)


def score_labels_only(model: torch.nn.Module) -> None:
    """Give this instance the forward above. With no labels it does what it did."""
    model.forward = MethodType(labelled_forward, model)
