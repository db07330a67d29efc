"""The classes of transformers' draft for Llasa (pull request 39760), for scripts that were written against it.

    from llasa_cli.transformers_compat import LlasaForCausalLM, LlasaProcessor, LlasaTokenizer, XCodec2Model

    processor = LlasaProcessor(LlasaTokenizer.from_pretrained(model), XCodec2Model.from_pretrained(codec))
    inputs = processor("Hello.")                                    input_ids (B, T), attention_mask, input_offset
    outputs = LlasaForCausalLM.from_pretrained(model).generate(inputs["input_ids"], do_sample=True)
    audio = processor.decode(outputs, input_offset=inputs["input_offset"])      float32 (n,), 16 kHz

Importing this module registers the classes with the Auto classes. `LlasaForCausalLM.save_pretrained` writes a plain Llama, so
transformers loads the folder without this module; only the processor needs it. Differences from the draft:

- `decode` cuts at END, not one token before the last: audio that ended by its length keeps its last code.
- The prompt's date is fixed, and text that spells a control token stays text (see `prompt.PromptFormat`).
- Several texts are padded on the left and get an attention mask, so that they can be generated together.
- `processor(text, audio=clip, transcript=...)` clones a voice.
- `generate` stops at END and at 2,048 tokens whatever the checkpoint's configuration says. The configurations of the
  published models name text tokens as the end.

`llasa_cli.synthesis.synthesizer` is several times faster and checks its output.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from os import PathLike
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

from llasa_cli import prompt_tokens
from llasa_cli.checkpoint.metadata import METADATA_FILE, read_metadata
from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.codec.fbank import SAMPLING_RATE_HZ
from llasa_cli.errors import ModelError
from llasa_cli.files import bring_folder, read_json_object_if_exists, write_json
from llasa_cli.hub.catalog import repo_of
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.prompt_tokens import CODE_COUNT, SPEECH_END
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.text.pronunciations import PRONUNCIATIONS, Pronunciations

if TYPE_CHECKING:
    import numpy as np

MARKERS = {token.strip("<|>").lower(): token for token in prompt_tokens.MARKERS}
"""The eight tokens between text and codes under the draft's names, in the order of their ids."""
_PROCESSOR_FILE = "processor_config.json"
_CODEC_FOLDER = "codec"


class LlasaConfig(LlamaConfig):
    """A Llama's configuration with `codebook_size`, `llasa_start_end_tokens` and `sampling_rate` (Hz).

    It is saved as a `LlamaConfig` that has these three as well: nothing in the model differs from a Llama.
    """

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

    def save_pretrained(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Like transformers' method, with the model type of a Llama."""
        values = self.to_dict() | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        LlamaConfig.from_dict(values).save_pretrained(save_directory, push_to_hub, **kwargs)

    @classmethod
    def from_pretrained_llm(
        cls,
        pretrained_model_name_or_path: str,
        codebook_size: int = CODE_COUNT,
        llasa_start_end_tokens: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> LlasaConfig:
        """The configuration of a text model whose vocabulary is extended by the markers and the codes."""
        text = LlamaConfig.from_pretrained(pretrained_model_name_or_path, **kwargs).to_dict()
        for name in ("model_type", "architectures", "transformers_version", "eos_token_id"):
            text.pop(name, None)
        markers = llasa_start_end_tokens or MARKERS
        end = text["vocab_size"] + list(markers.values()).index(SPEECH_END)
        text["vocab_size"] += len(markers) + codebook_size
        return cls(**text, eos_token_id=end, codebook_size=codebook_size, llasa_start_end_tokens=dict(markers))


class LlasaTokenizer(PreTrainedTokenizerFast):
    """A text model's tokenizer with the markers and a token for each code.

    Attributes:
        llasa_token: The markers by the draft's names.
        codebook_size: The number of codes that have a token.
    """

    padding_side = "left"  # the generated ids follow the prompt directly

    # It has no __init__: with one, transformers would build another tokenizer from the parts of tokenizer.json.

    @property
    def llasa_token(self) -> dict[str, str]:
        return dict(self.init_kwargs.get("llasa_start_end_tokens") or MARKERS)

    @property
    def codebook_size(self) -> int:
        return int(self.init_kwargs.get("codebook_size") or CODE_COUNT)

    @property
    def speech_tokens(self) -> list[str]:
        """`<|s_0|>` to the last code's token."""
        return [f"<|s_{code}|>" for code in range(self.codebook_size)]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> LlasaTokenizer:
        """Like transformers' method. If the checkpoint names no padding token, it is the end of text, as in the draft."""
        kwargs.setdefault("padding_side", "left")
        tokenizer: LlasaTokenizer = super().from_pretrained(*args, **kwargs)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @classmethod
    def from_pretrained_llm(cls, *args: Any, **kwargs: Any) -> LlasaTokenizer:
        """A text model's tokenizer with the markers and the codes added."""
        kwargs.setdefault("model_max_length", CONTEXT_TOKENS)
        tokenizer = cls.from_pretrained(*args, **kwargs)
        tokenizer.add_tokens([*tokenizer.llasa_token.values(), *tokenizer.speech_tokens])
        return tokenizer


class LlasaForCausalLM(LlamaForCausalLM):
    """transformers' Llama, whose `generate` stops at the end of speech."""

    config_class = LlasaConfig

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str, *args: Any, **kwargs: Any
    ) -> LlasaForCausalLM:
        """Like transformers' method, from a folder or a repository of the hub; safetensors only.

        A `LlamaConfig`, as the published models have it, becomes a `LlasaConfig`.
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
        """Like transformers' method, until END and for at most 2,048 tokens with the prompt.

        Without an attention mask every token of a single sequence counts. transformers would mask tokens that equal the
        padding token, and the end of the user's turn does.
        """
        ids = kwargs.get("input_ids") if inputs is None else inputs
        if ids is not None and kwargs.get("attention_mask") is None and len(ids) == 1:
            kwargs["attention_mask"] = torch.ones_like(ids)
        if not {"max_length", "max_new_tokens", "generation_config"} & kwargs.keys():
            kwargs["max_length"] = CONTEXT_TOKENS
        return super().generate(inputs, **kwargs)  # type: ignore[misc]


def _llasa_config(name: str, kwargs: dict[str, Any]) -> LlasaConfig:
    """The configuration of a folder or repository, from either of the two kinds."""
    where = {key: kwargs[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in kwargs}
    raw, _ = LlasaConfig.get_config_dict(name, **where)
    if raw.get("model_type") == LlasaConfig.model_type:
        return LlasaConfig.from_dict(raw)
    values = LlamaConfig.from_dict(raw).to_dict()
    for key in ("model_type", "architectures", "transformers_version"):
        values.pop(key, None)
    if "codebook_size" in raw:  # saved by LlasaConfig
        return LlasaConfig(**values)
    tokenizer = AutoTokenizer.from_pretrained(name, **where)
    values["eos_token_id"] = tokenizer.convert_tokens_to_ids(SPEECH_END)
    count = sum(token.startswith("<|s_") for token in tokenizer.get_vocab())
    return LlasaConfig(**values, codebook_size=count)


class XCodec2Model:
    """The codec with the interface of the pip package xcodec2 0.1.5: `encode_code`, `decode_code`.

    The weights are loaded at the first use, onto the device of that moment.

    Attributes:
        name_or_path: The name of its repository, or the absolute path of its folder.
        device: The device it runs on.
    """

    def __init__(self, folder: Path, name_or_path: str) -> None:
        self.name_or_path = name_or_path
        self.device = torch.device("cpu")
        self._folder = folder
        self._loaded: Codec | None = None

    @classmethod
    def from_pretrained(cls, name: str) -> XCodec2Model:
        """A folder or a repository, in transformers' format or the original one. It is downloaded if necessary.

        Raises:
            ModelError: It can't be downloaded, or is not a codec.
        """
        folder = _find_or_download(str(name))
        return cls(folder, str(folder.resolve()) if Path(name).is_dir() else str(name))

    def eval(self) -> XCodec2Model:
        """Has no effect: the codec can't be trained."""
        return self

    def to(self, device: str | torch.device) -> XCodec2Model:
        """Move it to a device."""
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
        """The sampling rate of decoded audio in Hz."""
        return self.codec.sampling_rate

    def encode_code(self, input_waveform: torch.Tensor, sample_rate: int = SAMPLING_RATE_HZ) -> torch.Tensor:
        """float32 (1, n), 16 kHz -> int64 (1, 1, n // 320)."""
        if sample_rate != SAMPLING_RATE_HZ:
            message = f"The clip has {sample_rate} Hz, but the codec needs {SAMPLING_RATE_HZ} Hz. Resample the clip."
            raise ValueError(message)
        codes = self.codec.encode(input_waveform.reshape(-1).float().cpu().numpy())
        return torch.tensor(codes, device=self.device)[None, None]

    def decode_code(self, vq_code: torch.Tensor) -> torch.Tensor:
        """int64 (B, 1, N) -> float32 (B, 1, n)."""
        audio = [torch.from_numpy(self.codec.decode(codes)) for codes in vq_code[:, 0].tolist()]
        return torch.stack(audio)[:, None].to(self.device)


class LlasaProcessor(ProcessorMixin):
    """Makes prompts from texts and reference clips, and audio from generated ids.

    Attributes:
        audio_codec: An `XCodec2Model` of this module, or transformers' `Xcodec2Model`, which can decode but not clone.
    """

    tokenizer_class = "LlasaTokenizer"

    def __init__(self, tokenizer: Any, audio_codec: Any = None, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        self.audio_codec = audio_codec
        tokens = {name: getattr(tokenizer, name) for name in ("pad_token", "bos_token", "eos_token")}
        template = chat_template or tokenizer.get_chat_template()
        self._folder = Path(tokenizer.name_or_path).absolute()
        self._metadata = read_metadata(self._folder)
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()  # a truncated text would be spoken to its middle
        backend.no_padding()
        self._prompt_format = PromptFormat(backend, template, tokens, self._metadata)
        self._lexicon = self._folder / PRONUNCIATIONS
        self._prompt_format.pronunciations = Pronunciations.read(self._lexicon)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: np.ndarray | torch.Tensor | None = None,
        transcript: str | None = None,
        sampling_rate: int = SAMPLING_RATE_HZ,
        speaker: str | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Make the prompts of texts.

        Args:
            text: One text, or several, whose prompts are padded on the left.
            audio: A clip of the voice to clone, float32 (n,), mono, 16 kHz.
            transcript: The words of the clip.
            speaker: A speaker tag of the checkpoint's training.

        Returns:
            input_ids and attention_mask, int64 (B, T), and input_offset (B,): for each prompt T, the position of the first
            generated id.

        Raises:
            ValueError: There is no text, no transcript of a clip, or the sampling rate is another one.
            UsageError: A prompt is longer than 2,048 tokens.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        if not texts or not all(isinstance(part, str) for part in texts):
            raise ValueError("text must be a string or a list of strings.")
        if return_tensors != "pt":
            raise ValueError("LlasaProcessor returns torch tensors only: pass return_tensors='pt'.")
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
            raise ValueError("audio needs its transcript, because the model continues both. Pass transcript=...")
        if not isinstance(self.audio_codec, XCodec2Model):
            raise ValueError("Cloning needs an audio_codec of the class llasa_cli.transformers_compat.XCodec2Model.")
        codes = self.audio_codec.encode_code(torch.as_tensor(audio), rate)
        return Reference(transcript, tuple(codes[0, 0].tolist()))

    def batch_decode(  # type: ignore[override]
        self, decoder_input_ids: torch.Tensor, input_offset: Sequence[int] | torch.Tensor, **kwargs: Any
    ) -> list[torch.Tensor]:
        """Decode the output of `generate`, int64 (B, T) with the prompts, to audio, float32 (n,) each.

        The codes of a reference clip, which are right before the offset, are decoded as well and their audio is cut off.

        Raises:
            ValueError: The generated ids are empty, or not speech.
        """
        if self.audio_codec is None:
            raise ValueError("This processor has no audio_codec. Pass one to LlasaProcessor.")
        return [
            self._audio(ids, int(offset)) for ids, offset in zip(decoder_input_ids.tolist(), input_offset, strict=True)
        ]

    def decode(  # type: ignore[override]
        self, decoder_input_ids: torch.Tensor, input_offset: int | Sequence[int] | torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """`batch_decode` of one sequence: int64 (1, T) -> float32 (n,)."""
        offsets = [input_offset] if isinstance(input_offset, int) else list(input_offset)
        if len(decoder_input_ids) != 1 or len(offsets) != 1:
            raise ValueError(f"decode takes one sequence, not {len(decoder_input_ids)}. Use batch_decode.")
        return self.batch_decode(decoder_input_ids, offsets, **kwargs)[0]

    def _audio(self, ids: list[int], offset: int) -> torch.Tensor:
        end = self._prompt_format.end_id
        spoken = ids[offset:]
        spoken = spoken[: spoken.index(end)] if end in spoken else spoken
        codes = [self._code(token) for token in spoken]
        if not codes or None in codes:
            raise ValueError("These ids are not speech: they are empty, or another token comes before END.")
        before: list[int] = []
        while len(before) < offset and (code := self._code(ids[offset - 1 - len(before)])) is not None:
            before.append(code)
        whole = [*reversed(before), *(code for code in codes if code is not None)]
        audio = self._decode_codes(torch.tensor([[whole]]))
        return audio[len(before) * (len(audio) // len(whole)) :]

    def _code(self, token: int) -> int | None:
        code = token - self._prompt_format.first_code_id
        return code if 0 <= code < self._prompt_format.code_count else None

    def _decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 (1, 1, N) codes -> float32 (n,) audio."""
        if hasattr(self.audio_codec, "decode_code"):  # a class of this module or of the pip package
            audio: torch.Tensor = self.audio_codec.decode_code(codes.to(self.audio_codec.device))
        else:
            with torch.no_grad():
                audio = self.audio_codec.decode(codes.to(self.audio_codec.device)).audio_values
        return audio[0, 0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokenizer.name_or_path!r}, {self.audio_codec!r})"

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Save the tokenizer, `llasa.json`, the lexicon and the codec, so that the folder can be loaded anywhere.

        A codec that is a folder is brought along, as hard links where the disk allows it; a repository is only named.

        Raises:
            ModelError: The codec that is named is not on this machine, and is no repository.
        """
        folder = Path(save_directory)
        codec = self._codec_name()
        files = list(self.tokenizer.save_pretrained(folder, push_to_hub=push_to_hub, **kwargs))
        lexicon = folder / PRONUNCIATIONS
        if self._lexicon.is_file() and lexicon.resolve() != self._lexicon.resolve():
            files.append(str(shutil.copyfile(self._lexicon, lexicon)))
        if isinstance(codec, Path):
            bring_folder(codec, folder / _CODEC_FOLDER)
            files.append(str(folder / _CODEC_FOLDER))
            codec = _CODEC_FOLDER
        own = self._metadata | ({} if codec is None else {"codec": codec})
        for name, about in (
            (_PROCESSOR_FILE, {"processor_class": type(self).__name__, "audio_codec": own.get("codec")}),
            (METADATA_FILE, own),
        ):
            if about:
                write_json(folder / name, about)
                files.append(str(folder / name))
        return files

    def _codec_name(self) -> Path | str | None:
        """The folder of the codec, or the name of its repository; None if none is known."""
        name = getattr(self.audio_codec, "name_or_path", None)
        if name is None:
            name = self._metadata.get("codec")
            if name is not None and (self._folder / name).is_dir():
                return self._folder / name
        if name is None or Path(name).is_dir():
            return None if name is None else Path(name)
        if repo_of(name) is None:
            raise ModelError(
                f"The codec {name} is not on this machine, so the saved folder could not speak.",
                "Pass the processor its audio_codec.",
            )
        return str(name)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, audio_codec: Any = None, **kwargs: Any
    ) -> LlasaProcessor:
        """A checkpoint's tokenizer with the given codec, the one in its folder, or the one that its processor was saved with."""
        tokenizer = LlasaTokenizer.from_pretrained(str(pretrained_model_name_or_path), **kwargs)
        folder = Path(pretrained_model_name_or_path)
        if audio_codec is None:
            name = read_json_object_if_exists(folder / _PROCESSOR_FILE, "Save the processor again.").get("audio_codec")
            inside = folder / (name or _CODEC_FOLDER)
            if inside.is_dir():
                audio_codec = XCodec2Model.from_pretrained(str(inside))
            elif name is not None:
                audio_codec = XCodec2Model.from_pretrained(name)
        return cls(tokenizer, audio_codec)


def _find_or_download(name: str) -> Path:
    """The folder of a codec. It is downloaded if necessary, as transformers' classes do, without any output."""
    from llasa_cli.checkpoint.resolve import find_folder

    if Path(name).is_dir() or repo_of(name) is None:
        return find_folder(name)
    from llasa_cli.hub.download import check_free_space, complete_folder, fetch, plan_download
    from llasa_cli.hub.http import HubClient

    folder = complete_folder(name)
    if folder is not None:
        return folder
    client = HubClient()
    plan = plan_download(client, name)
    check_free_space([plan])
    return fetch(client, plan)


AutoConfig.register(LlasaConfig.model_type, LlasaConfig, exist_ok=True)
AutoModelForCausalLM.register(LlasaConfig, LlasaForCausalLM, exist_ok=True)
AutoTokenizer.register(LlasaConfig, fast_tokenizer_class=LlasaTokenizer, exist_ok=True)
AutoProcessor.register(LlasaConfig, LlasaProcessor, exist_ok=True)
