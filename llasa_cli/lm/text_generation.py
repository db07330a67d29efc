"""A model that speaks writes text: the same layers, under the rows of its head that stand for text.

    writer = load_writer(model, folder)
    for token in writer.write(ids, end_id, sampling, seed, most): ...      text token ids, until the turn's end

Speaking needs none of these rows (a third of Llasa-1B's weights), so they are read here and not with the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from llasa_cli.device import pick_format
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.lm.linear import Matrix
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.loader import LanguageModel
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.sampler import sample_one, uniforms
from llasa_cli.lm.weights import Weights
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import SamplingOptions


class TextGenerator:
    """Draws text tokens. Build it with `load_writer`.

    Args:
        network: Its head has the rows of the ids 0, 1, 2, ... up to the first speech code.
        banned: int64 ids that are no text: the markers of speech.
        ends: Ids that end a turn besides the template's own, as config.json has them.
    """

    def __init__(self, network: Llama, banned: torch.Tensor, ends: frozenset[int]) -> None:
        self._network, self._banned, self._ends = network, banned, ends

    def write(
        self, ids: list[int], end_id: int, sampling: SamplingOptions, seed: int, most_tokens: int
    ) -> Iterator[int]:
        """Continue a prompt: text token ids, without the one that ends the turn; at most `most_tokens`."""
        device = self._network.device
        numbers = uniforms(seed).tolist()
        stream = self._network.stream(len(ids) + most_tokens)
        fed = torch.tensor(ids, device=device)
        for number in numbers[:most_tokens]:
            # Entered anew for each token: a generator must not hold the mode while its caller runs.
            with torch.inference_mode():
                scores = stream.feed(fed)
                scores[self._banned] = -torch.inf
                token = sample_one(scores, sampling, number)
                fed = torch.tensor([token], device=device)
            if token == end_id or token in self._ends:
                return
            yield token


def load_writer(model: LanguageModel, folder: Path, adapter: Path | None = None) -> TextGenerator:
    """Read the text rows of the checkpoint in `folder`, which `model` was loaded from.

    Raises:
        ModelError: As for the model itself.
    """
    network, prompt_format = model.network, model.prompt_format
    kind = pick_format(network.head.format, model.device)
    read = Weights(folder, model.device, kind.states, None if adapter is None else read_adapter(adapter))
    name = "lm_head.weight" if "lm_head.weight" in read.files else "model.embed_tokens.weight"
    rows = prompt_format.first_code_id
    head = Matrix.of([read.stored(name)[:rows]], rows, network.shape.hidden, kind, model.device)
    text = Llama(network.shape, network.embedding, network.layers, network.norm, head)
    return TextGenerator(
        text, torch.tensor(prompt_format.marker_ids, device=model.device), _ends(folder, prompt_format)
    )


def _ends(folder: Path, prompt_format: PromptFormat) -> frozenset[int]:
    """`eos_token_id` of config.json and generation_config.json, a number or a list, without END of speech."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = read_json_object_if_exists(folder / name).get("eos_token_id")
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found - {prompt_format.end_id})
