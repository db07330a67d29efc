"""Text generation with a model that speaks: the same layers, with the head's rows for text tokens.

    generator = load_text_generator(model, folder)
    for token in generator.generate(ids, end_id, sampling, seed, max_tokens): ...      text token ids of one turn

Speech needs none of these rows (a third of Llasa-1B's weights), so they are read here and not with the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from llasa_cli.checkpoint.gguf_file import is_gguf, read_gguf
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.loader import LanguageModel, Part, read_linear
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.sampler import sample_one, uniforms
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import SamplingOptions


class TextGenerator:
    """Samples text tokens. Build it with `load_text_generator`.

    Args:
        network: Its head has the rows of the ids 0, 1, 2, ... up to the first speech code.
        banned: int64 ids that are not text: the markers of speech.
        end_ids: Ids that end a turn besides the chat template's own, as config.json has them.
    """

    def __init__(self, network: Llama, banned: torch.Tensor, end_ids: frozenset[int]) -> None:
        self._network, self._banned, self._end_ids = network, banned, end_ids

    def generate(
        self, ids: list[int], end_id: int, sampling: SamplingOptions, seed: int, max_tokens: int
    ) -> Iterator[int]:
        """Continue a prompt: at most `max_tokens` text token ids, without the one that ends the turn."""
        device = self._network.device
        stream = self._network.stream(len(ids) + max_tokens)
        next_ids = torch.tensor(ids, device=device)
        for u in uniforms(seed).tolist()[:max_tokens]:
            # Entered for each token, because a generator must not hold the mode while its caller runs.
            with torch.inference_mode():
                logits = stream.feed(next_ids)
                logits[self._banned] = -torch.inf
                token = sample_one(logits, sampling, u)
                next_ids = torch.tensor([token], device=device)
            if token == end_id or token in self._end_ids:
                return
            yield token


def load_text_generator(model: LanguageModel, folder: Path, adapter: Path | None = None) -> TextGenerator:
    """Read the head's text rows of the checkpoint in `folder`, from which `model` was loaded.

    Raises:
        ModelError: As for the model itself.
    """
    network, prompt_format = model.network, model.prompt_format
    kind = network.head.kind
    weights = Weights(folder, model.device, kind.compute_dtype, None if adapter is None else read_adapter(adapter))
    part = Part(HEAD if HEAD in weights.files else EMBEDDING, slice(prompt_format.first_code_id))
    head = read_linear(weights, [part], kind)
    text = Llama(network.config, network.embedding, network.layers, network.norm, head)
    banned = torch.tensor(prompt_format.marker_ids, device=model.device)
    return TextGenerator(text, banned, _end_ids(folder, prompt_format))


def _end_ids(folder: Path, prompt_format: PromptFormat) -> frozenset[int]:
    """`eos_token_id` of config.json and generation_config.json, a number or a list, without speech's END."""
    found: set[int] = set()
    if is_gguf(folder):
        configs = [read_gguf(folder).config()]
    else:
        configs = [read_json_object_if_exists(folder / name) for name in ("config.json", "generation_config.json")]
    for config in configs:
        value = config.get("eos_token_id")
        found |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(found - {prompt_format.end_id})
