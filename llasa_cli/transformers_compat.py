"""Llasa in transformers' own words: the classes of its draft (pull request 39760), for scripts written against it.

    from llasa_cli.transformers_compat import LlasaForCausalLM, LlasaProcessor, LlasaTokenizer, XCodec2Model

    processor = LlasaProcessor(LlasaTokenizer.from_pretrained(model), XCodec2Model.from_pretrained(codec))
    inputs = processor("Hello.")                                    input_ids (B, T), attention_mask, input_offset
    outputs = LlasaForCausalLM.from_pretrained(model).generate(inputs["input_ids"], do_sample=True)
    sound = processor.decode(outputs, input_offset=inputs["input_offset"])      float32 (n,), 16 kHz

Importing this module registers them with the Auto classes. What differs from the draft, each for a reason:

- `decode` cuts at END and not one token before the last: a take that ran into its length keeps its last code.
- The prompt's date is fixed, and text that spells a control token stays text (as in `prompt_format`).
- Several texts are padded on the left, with an attention mask, so that they can be generated together.
- `processor(text, audio=clip, transcript=...)` clones a voice, which the draft can't.
- `generate` stops at END and at 2,048 tokens whatever the checkpoint's config says: those published by the authors name text
  tokens as their end.

Speech of everyday use is `llasa_cli.synthesis.synthesizer`: it is several times faster and checks what it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    BatchFeature,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from llasa_cli.checkpoint.metadata import METADATA_FILE, read_metadata
from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.codec.fbank import SAMPLING_RATE_HZ
from llasa_cli.files import read_json_object, write_json
from llasa_cli.prompt import SPEECH_END, PromptFormat, Reference
from llasa_cli.settings import CONTEXT_TOKENS

if TYPE_CHECKING:
    import numpy as np

MARKERS = {
    name.lower(): f"<|{name}|>"
    for name in (
        "TEXT_GENERATION_START",
        "TEXT_GENERATION_END",
        "TEXT_UNDERSTANDING_START",
        "TEXT_UNDERSTANDING_END",
        "SPEECH_GENERATION_START",
        "SPEECH_GENERATION_END",
        "SPEECH_UNDERSTANDING_START",
        "SPEECH_UNDERSTANDING_END",
    )
}
"""The eight tokens between text and codes, in the order of their ids, under the draft's names."""

CODE_COUNT = 65_536
_PROCESSOR_FILE = "processor_config.json"


class LlasaConfig(LlamaConfig):
    """A Llama's configuration with the shape of its speech: `codebook_size`, `llasa_start_end_tokens`, `sampling_rate`."""

    model_type = "llasa"

    vocab_size: int = 128_256 + len(MARKERS) + CODE_COUNT
    hidden_size: int = 2048
    intermediate_size: int = 8192
    num_hidden_layers: int = 16
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131_072
    eos_token_id: int | list[int] | None = 128_261
    codebook_size: int = CODE_COUNT
    sampling_rate: int = SAMPLING_RATE_HZ
    llasa_start_end_tokens: dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.llasa_start_end_tokens is None:
            self.llasa_start_end_tokens = dict(MARKERS)
        super().__post_init__(**kwargs)

    @classmethod
    def from_pretrained_llm(
        cls,
        pretrained_model_name_or_path: str,
        codebook_size: int = CODE_COUNT,
        llasa_start_end_tokens: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> LlasaConfig:
        """The configuration of a text model, with room for the markers and the codes."""
        text = LlamaConfig.from_pretrained(pretrained_model_name_or_path, **kwargs).to_dict()
        for name in ("model_type", "architectures", "transformers_version", "eos_token_id"):
            text.pop(name, None)
        markers = llasa_start_end_tokens or MARKERS
        end = text["vocab_size"] + list(markers.values()).index(SPEECH_END)
        text["vocab_size"] += len(markers) + codebook_size
        return cls(**text, eos_token_id=end, codebook_size=codebook_size, llasa_start_end_tokens=dict(markers))


class LlasaTokenizer(PreTrainedTokenizerFast):
    """A text model's tokenizer with the markers and one token a code.

    Attributes:
        llasa_token: The markers by the draft's names.
        codebook_size: How many codes it has tokens for.
    """

    padding_side = "left"  # what is generated follows the prompt directly

    # No __init__ of its own: with one, transformers takes tokenizer.json apart and builds another from its pieces.

    @property
    def llasa_token(self) -> dict[str, str]:
        return dict(self.init_kwargs.get("llasa_start_end_tokens") or MARKERS)

    @property
    def codebook_size(self) -> int:
        return int(self.init_kwargs.get("codebook_size") or CODE_COUNT)

    @property
    def speech_tokens(self) -> list[str]:
        """`<|s_0|>` and so on."""
        return [f"<|s_{code}|>" for code in range(self.codebook_size)]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> LlasaTokenizer:
        """As transformers'; where the checkpoint names no padding it is the text's own end, as in the draft."""
        kwargs.setdefault("padding_side", "left")
        tokenizer: LlasaTokenizer = super().from_pretrained(*args, **kwargs)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @classmethod
    def from_pretrained_llm(cls, *args: Any, **kwargs: Any) -> LlasaTokenizer:
        """A text model's tokenizer, to which the markers and the codes are added."""
        kwargs.setdefault("model_max_length", CONTEXT_TOKENS)
        tokenizer = cls.from_pretrained(*args, **kwargs)
        tokenizer.add_tokens([*tokenizer.llasa_token.values(), *tokenizer.speech_tokens])
        return tokenizer


class LlasaForCausalLM(LlamaForCausalLM):
    """transformers' Llama, which knows where speech ends."""

    config_class = LlasaConfig

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any
    ) -> LlasaForCausalLM:
        """As transformers': a folder, or a repository of the hub. safetensors only.

        A `LlamaConfig` (what the authors published) becomes a `LlasaConfig`.
        """
        kwargs["use_safetensors"] = True
        if kwargs.get("config") is None:
            kwargs["config"] = _llasa_config(pretrained_model_name_or_path, kwargs)
        model: LlasaForCausalLM = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        end = model.config.eos_token_id
        if model.generation_config is not None:
            model.generation_config.eos_token_id = end
            if model.generation_config.pad_token_id is None:
                model.generation_config.pad_token_id = end
        return model

    @torch.no_grad()
    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As transformers', until END, of at most 2,048 tokens with the prompt.

        Without an attention mask every token counts: transformers would leave out those that look like padding, and the
        end of the user's turn does.
        """
        ids = kwargs.get("input_ids") if inputs is None else inputs
        if ids is not None and kwargs.get("attention_mask") is None and len(ids) == 1:
            kwargs["attention_mask"] = torch.ones_like(ids)
        if not {"max_length", "max_new_tokens", "generation_config"} & kwargs.keys():
            kwargs["max_length"] = CONTEXT_TOKENS
        return super().generate(inputs, **kwargs)  # type: ignore[misc]


def _llasa_config(name: str, kwargs: dict[str, Any]) -> LlasaConfig:
    """The repository's configuration, whichever of the two kinds it is of."""
    where = {key: kwargs[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in kwargs}
    raw, _ = LlasaConfig.get_config_dict(name, **where)
    if raw.get("model_type") == LlasaConfig.model_type:
        return LlasaConfig.from_dict(raw)
    tokenizer = AutoTokenizer.from_pretrained(name, **where)
    values = LlamaConfig.from_dict(raw).to_dict()
    for key in ("model_type", "architectures", "transformers_version"):
        values.pop(key, None)
    values["eos_token_id"] = tokenizer.convert_tokens_to_ids(SPEECH_END)
    count = sum(token.startswith("<|s_") for token in tokenizer.get_vocab())
    return LlasaConfig(**values, codebook_size=count)


class XCodec2Model:
    """The codec under the pip package's names (xcodec2 0.1.5): `encode_code`, `decode_code`.

    It is loaded when it is first used, where it is to run by then.

    Attributes:
        name_or_path: What it was asked for by.
        device: Where it runs.
    """

    def __init__(self, folder: Path, name_or_path: str) -> None:
        self.name_or_path = name_or_path
        self.device = torch.device("cpu")
        self._folder = folder
        self._loaded: Codec | None = None

    @classmethod
    def from_pretrained(cls, name: str) -> XCodec2Model:
        """A folder or a repository, in transformers' format or the original one; fetched if it is not here.

        Raises:
            ModelError: It can't be fetched, or is no codec.
        """
        return cls(_found_or_fetched(str(name)), str(name))

    def eval(self) -> XCodec2Model:
        """Nothing: it can't be trained."""
        return self

    def to(self, device: str | torch.device) -> XCodec2Model:
        """Run there."""
        if torch.device(device) != self.device:
            self.device, self._loaded = torch.device(device), None
        return self

    def cuda(self) -> XCodec2Model:
        return self.to("cuda")

    @property
    def codec(self) -> Codec:
        """The loaded codec."""
        if self._loaded is None:
            self._loaded = load_codec(self._folder, str(self.device))
        return self._loaded

    @property
    def sampling_rate(self) -> int:
        """Of the sound it makes, Hz."""
        return self.codec.sampling_rate

    def encode_code(self, input_waveform: torch.Tensor, sample_rate: int = SAMPLING_RATE_HZ) -> torch.Tensor:
        """float32 (1, n), 16 kHz -> int64 (1, 1, n // 320)."""
        _must_be_16_khz(sample_rate)
        codes = self.codec.encode(input_waveform.reshape(-1).float().cpu().numpy())
        return torch.tensor(codes, device=self.device)[None, None]

    def decode_code(self, vq_code: torch.Tensor) -> torch.Tensor:
        """int64 (B, 1, N) -> float32 (B, 1, n)."""
        sounds = [torch.from_numpy(self.codec.decode(codes)) for codes in vq_code[:, 0].tolist()]
        return torch.stack(sounds)[:, None].to(self.device)


class LlasaProcessor(ProcessorMixin):
    """Text (and a voice) to a prompt, and what was generated to sound.

    Attributes:
        audio_codec: An `XCodec2Model` of this module, or transformers' `Xcodec2Model` (which decodes, and can't clone).
    """

    tokenizer_class = "LlasaTokenizer"

    def __init__(self, tokenizer: Any, audio_codec: Any = None, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        self.audio_codec = audio_codec
        tokens = {name: getattr(tokenizer, name) for name in ("pad_token", "bos_token", "eos_token")}
        template = chat_template or tokenizer.get_chat_template()
        # Whose voices it has, where the checkpoint tells.
        self._about = read_metadata(Path(tokenizer.name_or_path))
        self._prompt_format = PromptFormat(tokenizer.backend_tokenizer, template, tokens, self._about)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: np.ndarray | torch.Tensor | None = None,
        transcript: str | None = None,
        sampling_rate: int = SAMPLING_RATE_HZ,
        speaker: str | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Texts -> prompts.

        Args:
            text: One, or several, which are padded on the left.
            audio: A clip of the voice to speak with, float32 (n,), mono, 16 kHz.
            transcript: What is said in it.
            speaker: A tag that the checkpoint was trained with.

        Returns:
            input_ids and attention_mask, int64 (B, T), and input_offset, (B,): T for each, where what is generated begins.

        Raises:
            ValueError: No text, a clip without its transcript, or another sampling rate.
            UsageError: Longer than 2,048 tokens.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        if not texts or not all(isinstance(part, str) for part in texts):
            raise ValueError("Invalid input text: give a string, or a list of strings.")
        if return_tensors != "pt":
            raise ValueError("LlasaProcessor gives torch tensors only: return_tensors='pt'.")
        reference = None if audio is None else self._reference(audio, transcript, sampling_rate)
        rows = [self._prompt_format.prompt(part, reference, speaker).ids for part in texts]
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        return BatchFeature(
            {
                "input_ids": torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows]),
                "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
                "input_offset": torch.tensor([longest] * len(rows)),
            }
        )

    def _reference(self, audio: np.ndarray | torch.Tensor, transcript: str | None, rate: int) -> Reference:
        if not transcript:
            raise ValueError("A clip needs its transcript: the model continues both.")
        if not isinstance(self.audio_codec, XCodec2Model):
            raise ValueError("Cloning needs llasa_cli.transformers_compat.XCodec2Model as the processor's audio_codec.")
        codes = self.audio_codec.encode_code(torch.as_tensor(audio), rate)
        return Reference(transcript, tuple(codes[0, 0].tolist()))

    def batch_decode(  # type: ignore[override]
        self, decoder_input_ids: torch.Tensor, input_offset: Sequence[int] | torch.Tensor, **kwargs: Any
    ) -> list[torch.Tensor]:
        """What `generate` gave, prompts included, int64 (B, T) -> the sound of each, float32 (n,).

        A cloned voice's own codes, which stand right before the offset, are decoded with what follows and cut off again.

        Raises:
            ValueError: Nothing was generated, or something that is not speech.
        """
        if self.audio_codec is None:
            raise ValueError("This processor has no audio_codec to decode with.")
        return [
            self._sound(ids, int(offset)) for ids, offset in zip(decoder_input_ids.tolist(), input_offset, strict=True)
        ]

    def decode(  # type: ignore[override]
        self, decoder_input_ids: torch.Tensor, input_offset: int | Sequence[int] | torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """The same for one: (1, T) -> (n,)."""
        offsets = [input_offset] if isinstance(input_offset, int) else list(input_offset)
        if len(decoder_input_ids) != 1 or len(offsets) != 1:
            raise ValueError(f"decode takes one sequence, not {len(decoder_input_ids)}: see batch_decode.")
        return self.batch_decode(decoder_input_ids, offsets, **kwargs)[0]

    def _sound(self, ids: list[int], offset: int) -> torch.Tensor:
        end = self._prompt_format.end_id
        spoken = ids[offset:]
        spoken = spoken[: spoken.index(end)] if end in spoken else spoken
        codes = [self._code(token) for token in spoken]
        if not codes or None in codes:
            raise ValueError("These ids are not speech: there is another token before END, or none.")
        before: list[int] = []
        while len(before) < offset and (code := self._code(ids[offset - 1 - len(before)])) is not None:
            before.append(code)
        whole = [*reversed(before), *(code for code in codes if code is not None)]
        sound = self._decoded(torch.tensor([[whole]]))
        return sound[len(before) * (len(sound) // len(whole)) :]

    def _code(self, token: int) -> int | None:
        code = token - self._prompt_format.first_code_id
        return code if 0 <= code < self._prompt_format.code_count else None

    def _decoded(self, codes: torch.Tensor) -> torch.Tensor:
        """(1, 1, N) -> (n,)."""
        if hasattr(self.audio_codec, "decode_code"):  # of this module, or the pip package
            sound: torch.Tensor = self.audio_codec.decode_code(codes.to(self.audio_codec.device))
        else:
            with torch.no_grad():
                sound = self.audio_codec.decode(codes.to(self.audio_codec.device)).audio_values
        return sound[0, 0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokenizer.name_or_path!r}, {self.audio_codec!r})"

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """The tokenizer's files, `llasa.json`, and which codec belongs to it by name: its weights stay where they are."""
        folder = Path(save_directory)
        files = list(self.tokenizer.save_pretrained(folder, push_to_hub=push_to_hub, **kwargs))
        codec = getattr(self.audio_codec, "name_or_path", None)
        own = self._about | ({} if codec is None else {"codec": _absolute(codec)})
        for name, about in (
            (_PROCESSOR_FILE, {"processor_class": type(self).__name__, "audio_codec": own.get("codec")}),
            (METADATA_FILE, own),
        ):
            if about:
                write_json(folder / name, about)
                files.append(str(folder / name))
        return files

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, audio_codec: Any = None, **kwargs: Any
    ) -> LlasaProcessor:
        """A checkpoint's tokenizer, with the codec that it names, or the one that is given."""
        tokenizer = LlasaTokenizer.from_pretrained(str(pretrained_model_name_or_path), **kwargs)
        named = Path(pretrained_model_name_or_path) / _PROCESSOR_FILE
        if audio_codec is None and named.is_file():
            name = read_json_object(named, "Save the processor again.").get("audio_codec")
            audio_codec = None if name is None else XCodec2Model.from_pretrained(name)
        return cls(tokenizer, audio_codec)


def _found_or_fetched(name: str) -> Path:
    """As `llasa download`, and without a word: transformers' classes fetch what they are asked for."""
    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.hub.catalog import repo_of

    if Path(name).is_dir() or repo_of(name) is None:
        return find_model(name)
    from llasa_cli.hub.download import check_free_space, complete_folder, fetch, plan_download
    from llasa_cli.hub.http import HubClient

    folder = complete_folder(name)
    if folder is not None:
        return folder
    with HubClient() as client:
        plan = plan_download(client, name)
        check_free_space([plan])
        return fetch(client, plan, lambda count, fresh: None, lambda file: None, text_model=False)


def _must_be_16_khz(rate: int) -> None:
    if rate != SAMPLING_RATE_HZ:
        raise ValueError(f"The clip has {rate} Hz; the codec hears {SAMPLING_RATE_HZ}. Resample it first.")


def _absolute(name: str) -> str:
    """A folder is found from anywhere by its whole path; a repository's name stays."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


AutoConfig.register(LlasaConfig.model_type, LlasaConfig, exist_ok=True)
AutoModelForCausalLM.register(LlasaConfig, LlasaForCausalLM, exist_ok=True)
AutoTokenizer.register(LlasaConfig, fast_tokenizer_class=LlasaTokenizer, exist_ok=True)
AutoProcessor.register(LlasaConfig, LlasaProcessor, exist_ok=True)
