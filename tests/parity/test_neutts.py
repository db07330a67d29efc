"""Prompt ids of NeuTTS equal those of its package, whose phones stand in neutts_phones.tsv (texts, then phones, by neutts 1.4.1)."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from llasa_cli import prompt as prompt_module
from llasa_cli.checkpoint.gguf_file import GgufFile
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.hub.select import check_tokenizer
from llasa_cli.prompt import NeuTTSPromptFormat, PromptFormat, Reference, gguf_neutts_settings
from llasa_cli.settings import ModelOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.text.phones import bundled_espeak, to_phones

TABLE = [line.split("\t") for line in Path(__file__).with_name("neutts_phones.tsv").read_text("utf-8").splitlines()]
"""Language, text, phones."""
ENGLISH = {text: phones for language, text, phones in TABLE if language == "en"}
CUT_TEXT = "The 3 quick brown foxes jumped 1,234.56 times over."
"""espeak-ng reads it in two parts, and the package drops what follows the first one; here nothing is dropped."""
REFERENCE = Reference("So I’m testing this.", (0, 63, 5, 5))
"""Its transcript is in the table."""
CODES = "<|speech_0|><|speech_63|><|speech_5|><|speech_5|>"
MARKERS = ("TEXT_REPLACE", "SPEECH_REPLACE", "TEXT_PROMPT_START", "TEXT_PROMPT_END")
MARKERS += ("SPEECH_GENERATION_START", "SPEECH_GENERATION_END", "HAPPY", "SAD")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "begins"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE with NeuTTS's tokens and 64 codes: as Qwen's, or with a token that begins each text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*ENGLISH, *ENGLISH.values(), "user: Convert the text to speech:"], trainer)
    names = [f"<|{name}|>" for name in MARKERS] + [f"<|speech_{code}|>" for code in range(64)]
    tokenizer.add_special_tokens([AddedToken("<|begin|>", special=True)])
    tokenizer.add_tokens([AddedToken(name, special=False) for name in names])
    if request.param:
        begin = [("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=begin)
    folder = tmp_path_factory.mktemp("neutts")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "llasa.json").write_text(json.dumps({"language": "en", "style": ["emotion"]}))
    return folder


def load(folder: Path, input_format: str) -> PromptFormat:
    (folder / "config.json").write_text(json.dumps({"neuphonic": {"input_format": input_format}}))
    return PromptFormat.load(folder)


def encode(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    return list(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


@pytest.fixture
def table_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones from the table, so that no package is needed."""
    monkeypatch.setattr(prompt_module, "to_phones", lambda text, language: ENGLISH[text] if text else "")


def test_phone_prompts(folder: Path, table_phones: None) -> None:
    prompt_format = load(folder, "phonemes")
    assert isinstance(prompt_format, NeuTTSPromptFormat)
    assert (prompt_format.code_count, prompt_format.first_code_id) == (64, encode(folder, "<|speech_0|>")[-1])
    assert len(ENGLISH) >= 50
    before, after = "user: Convert the text to speech:<|TEXT_PROMPT_START|>", "<|TEXT_PROMPT_END|>\nassistant:"
    spoken = ENGLISH[REFERENCE.text]
    for text, phones in ENGLISH.items():
        expected = f"{before}{phones}{after}<|SPEECH_GENERATION_START|>"
        assert list(prompt_format.prompt(text).ids) == encode(folder, expected), text
        expected = f"{before}{spoken} {phones}{after}<|SPEECH_GENERATION_START|>{CODES}"
        made = prompt_format.prompt(text, REFERENCE)
        assert (list(made.ids), made.reference_codes) == (encode(folder, expected), 4), text


@pytest.mark.parametrize(
    ("text", "style", "reference", "expected"),
    [
        ("Hello there.", [], None, "Hello there."),
        ("Hello “there”, it’s ½.", [], None, 'Hello "there", it\'s 1⁄2.'),
        ("Hello there.", [], REFERENCE, "So I'm testing this. Hello there."),
        ("Hello there.", ["emotion=neutral"], REFERENCE, "So I'm testing this. Hello there."),
        ("Hello there.", ["emotion=Happy"], REFERENCE, "So I'm testing this.<|HAPPY|>Hello there."),
        ("Hello there.", ["emotion=sad"], None, "<|SAD|>Hello there."),
    ],
)
def test_text_prompts(folder: Path, text: str, style: list[str], reference: Reference | None, expected: str) -> None:
    codes = CODES if reference else ""
    expected = f"<|TEXT_PROMPT_START|>{expected}<|TEXT_PROMPT_END|><|SPEECH_GENERATION_START|>{codes}"
    assert list(load(folder, "BPE").prompt(text, reference, style=style).ids) == encode(folder, expected)


def test_what_no_prompt_can_have(folder: Path) -> None:
    prompt_format = load(folder, "BPE")
    with pytest.raises(UsageError, match=r"no emotion 'speech_5'"):
        prompt_format.prompt("Hello.", style=["emotion=speech_5"])
    with pytest.raises(UsageError, match="no speakers' tags"):
        prompt_format.prompt("Hello.", speaker="emily")
    spelled = prompt_format.prompt("Say <|speech_5|>.").ids
    assert prompt_format.first_code_id + 5 not in spelled
    prompt_format = load(folder, "phonemes")
    prompt_format.language = None
    with pytest.raises(ModelError, match="nothing says of which language"):
        prompt_format.prompt("Hello.")


def test_a_gguf_file_says_how_it_is_prompted() -> None:
    def settings(**metadata: Any) -> tuple[Any, ...]:
        named = {f"tokenizer.{name.replace('ggml_', 'ggml.')}": value for name, value in metadata.items()}
        named |= {"tokenizer.ggml.tokens": ["<|begin|>"], "tokenizer.ggml.bos_token_id": 0}
        found = gguf_neutts_settings(GgufFile(Path("x.gguf"), named | BARE, {}, ()))
        return found["input_format"], found["language"], found["begin"]

    BARE: dict[str, Any] = {}
    text_template = "<|TEXT_PROMPT_START|>{{ text }}"
    assert settings(ggml_pre="qwen2") == ("phonemes", None, None)
    assert settings(ggml_pre="llama-bpe") == ("phonemes", None, "<|begin|>")
    assert settings(ggml_pre="llama-bpe", ggml_add_bos_token=False) == ("phonemes", None, None)
    assert settings(chat_template=text_template)[0] == "BPE"
    assert settings(chat_template="Convert the text to speech:" + text_template)[0] == "phonemes"
    BARE = {"neuphonic.input_format": "BPE", "general.languages": ["de"]}
    assert settings() == ("BPE", ["de"], None)


def test_a_download_knows_the_tokens(folder: Path) -> None:
    check_tokenizer(folder / "tokenizer.json", "org/repo", text_model=False)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonemizer", None)
    monkeypatch.setitem(sys.modules, "phonemizer.backend", None)
    with pytest.raises(ModelError) as refused:
        to_phones("Hello.", "qya")
    assert "phonemizer" in refused.value.message
    assert "llasa-cli[neutts]" in str(refused.value.hint)


@pytest.mark.slow
def test_ids_equal_those_of_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an environment with the extra `neutts` and `pip install --no-deps neutts==1.4.1`."""
    pytest.importorskip("phonemizer")
    if bundled_espeak() is None:
        pytest.skip("the package neutts is not installed")
    from transformers import PreTrainedTokenizerFast

    for name, attributes in (("librosa", ()), ("neucodec", ("NeuCodec", "DistillNeuCodec"))):
        stand_in = types.ModuleType(name)  # imported at its start, not used for prompts
        for attribute in attributes:
            setattr(stand_in, attribute, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
    theirs: Any = importlib.import_module("neutts.neutts")
    phonemizers: Any = importlib.import_module("neutts.phonemizers")
    spoken = {}
    for language, espeak in (("en", "en-us"), ("de", "de"), ("fr", "fr-fr"), ("es", "es")):
        phonemizer = phonemizers.CUSTOM_PHONEMIZERS.get(espeak, lambda e=espeak: phonemizers.BasePhonemizer(e))()
        package = object.__new__(theirs.NeuTTS)
        package.phonemizer = spoken[language] = phonemizer
        for known, text, phones in TABLE:
            if known == language:
                assert to_phones(text, language) == package._to_phones(text) == phones
    package = object.__new__(theirs.NeuTTS)
    package.phonemizer = spoken["en"]
    half = package._to_phones(CUT_TEXT)
    assert to_phones(CUT_TEXT, "en") == f"{half} fˈɪfti sˈɪks tˈaɪmz ˈoʊvɚ"
    package = object.__new__(theirs.NeuTTS)
    package.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), unk_token="<|begin|>")
    package.phonemizer = spoken["en"]
    for package.input_format in ("phonemes", "BPE"):
        ours = load(folder, package.input_format)
        emotions = [None] if package.input_format == "phonemes" else [None, "happy"]
        for text in ENGLISH:
            for emotion in emotions:
                style = [f"emotion={emotion}"] if emotion else []
                for reference in (REFERENCE, Reference(REFERENCE.text, ())):
                    expected = package._apply_chat_template(reference.codes, reference.text, text, emotion)
                    assert list(ours.prompt(text, reference, style=style).ids) == expected, text


def test_speech_is_watermarked_unless_it_is_refused(
    folder: Path, random_codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    write_small_neutts(base, random_codec)
    options = ModelOptions(model=str(base), device="cpu")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "perth").is_dir()])
    importlib.invalidate_caches()
    with pytest.raises(ModelError, match="resemble-perth is not installed") as refused:
        Synthesizer.load(options)
    assert "--no-watermark" in str(refused.value.hint)
    assert Synthesizer.load(replace(options, no_watermark=True)).codec.watermark is None
    monkeypatch.setattr("llasa_cli.codec.watermark.load_watermark", lambda: lambda samples, rate_hz: 0 * samples)
    assert not Synthesizer.load(options).codec.decode([1, 2, 3]).any()


@pytest.mark.slow
def test_a_model_of_neutts_s_kind_is_finetuned_converted_and_clones(
    folder: Path, random_codec: Path, tmp_path: Path, llasa: list[str]
) -> None:
    """Qwen 2 over NeuCodec, both random and small: recordings in, 24 kHz out."""
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    write_small_neutts(base, random_codec)

    def run(*arguments: str) -> None:
        done = subprocess.run([*llasa, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    texts = ["The morning train was late again today.", "She put fresh flowers on the table.", "He fished in the lake."]
    for number, text in enumerate(texts):
        run("say", text, "-o", f"{number}.wav")
    rows = "".join(f'{number}.wav,"{text}"\n' for number, text in enumerate(texts))
    (tmp_path / "table.csv").write_text(f"audio,text\n{rows}")
    speak = (
        "--no-watermark",
        "--max-seconds",
        "1",
        "--accept-failed",
        "--retries",
        "0",
        "--dtype",
        "fp32",
        "--seed",
        "1",
    )
    run("prepare", "table.csv", "-m", "base", "-o", "data", "--validation", "0")
    run("finetune", "data", "-m", "base", "-o", "tuned", "--steps", "10", "--device", "cpu")
    run("convert", "tuned", "-o", "tuned.gguf", "--type", "bf16")
    cloning = ("clone", "--ref", "0.wav", "--ref-text", texts[0], "Hello there.")
    run(*cloning, "-m", "tuned", "-o", "folder.wav", *speak)
    run(*cloning, "-m", "tuned.gguf", "-o", "file.wav", *speak)
    samples, rate = soundfile.read(tmp_path / "folder.wav")
    assert rate == 24_000
    assert abs(samples).max() > 0
    assert (tmp_path / "file.wav").read_bytes() == (tmp_path / "folder.wav").read_bytes()


def write_small_neutts(folder: Path, codec: Path) -> None:
    """Random weights for the tokenizer in `folder`, and a NeuCodec of the shape of `codec`."""
    import torch
    from transformers import NeuCodecConfig, NeuCodecModel, Qwen2Config, Qwen2ForCausalLM

    from recipes.heart.shape import initialize

    torch.manual_seed(0)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    size = len(vocabulary["model"]["vocab"]) + len(vocabulary["added_tokens"])
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    config.neuphonic = {"input_format": "BPE", "supported_emotions": ["happy", "sad"]}
    Qwen2ForCausalLM(config).save_pretrained(folder)
    settings = json.loads((codec / "config.json").read_text())
    settings = {name: value for name, value in settings.items() if name not in ("model_type", "sampling_rate")}
    model = NeuCodecModel(NeuCodecConfig(**settings))
    initialize(model)
    model.save_pretrained(folder / "codec")
    (folder / "llasa.json").write_text(json.dumps({"language": "en", "style": ["emotion"], "codec": "codec"}))
