"""Held-out loss and text gain: how well a model predicts speech outside its training data, and how much it uses the text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llasa_cli.prompt import PromptFormat
from llasa_cli.training.dataset import TrainingRows, example

Item = dict[str, np.ndarray]


def evaluation_batches(rows: TrainingRows, max_rows: int, tokens_per_batch: int) -> list[list[int]]:
    """Row numbers, drawn once and grouped by length; a row may be longer than a batch."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:max_rows]
    chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
    count = max(1, int(rows.lengths[chosen].sum()) // tokens_per_batch)
    return [group.tolist() for group in np.array_split(chosen, min(len(chosen), count))]


def evaluate_rows(
    rows: TrainingRows,
    batches: list[list[int]],
    prompt_format: PromptFormat,
    code_loss: Callable[[list[Item]], float],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Cross-entropy in nats a code with the true text (`held_out`), and its rise with another row's text (`text_gain`).

    The text gain shows alignment long before the speech can be understood. A single row has no text gain, because there is
    no other text.

    Args:
        code_loss: Items -> the summed cross-entropy of their codes.
        should_stop: Called before each batch. If it returns True, the result is empty.
    """
    chosen = [row for batch in batches for row in batch]
    true_loss = other_loss = 0.0
    codes = 0
    for batch in batches:
        if should_stop():
            return {}
        own = [rows.decode(row) for row in batch]
        tags = [rows.speakers[row] for row in batch]
        others = own[1:] + own[:1]
        if len(own) == 1:
            others = [rows.decode(chosen[0] if batch[0] != chosen[0] else chosen[-1])]
        paired = list(zip(own, others, tags, strict=True))
        true_loss += code_loss([example(prompt_format, text, spoken, tag) for (text, spoken), _, tag in paired])
        if len(chosen) > 1:
            other_loss += code_loss(
                [example(prompt_format, other, spoken, tag) for (_, spoken), (other, _), tag in paired]
            )
        codes += sum(len(spoken) for _, spoken in own)
    metrics = {"held_out": round(true_loss / codes, 4)}
    if len(chosen) > 1:
        metrics["text_gain"] = round((other_loss - true_loss) / codes, 4)
    return metrics
