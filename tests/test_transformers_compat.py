"""The classes of transformers' draft with the built-in voice, a real model that is small enough for `generate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llasa_cli import transformers_compat
from llasa_cli.checkpoint.resolve import find_codec
from llasa_cli.errors import ModelError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance
from llasa_cli.transformers_compat import (
    MARKERS,
    LlasaConfig,
    LlasaForCausalLM,
    LlasaProcessor,
    LlasaTokenizer,
    XCodec2Model,
)

VOICE = Path(__file__).parents[1] / "llasa_cli" / "voices_data" / "tiny"
TEXT = "one two three"

# The snippet on the draft's page (pull request 39760, docs/source/en/model_doc/llasa.md), with other imports and with names
# for the repositories and the device.
SNIPPET = """
import torch
from llasa_cli.transformers_compat import LlasaTokenizer, LlasaForCausalLM, LlasaProcessor, XCodec2Model
import soundfile as sf

# load tokenizer
processor = LlasaProcessor(
    LlasaTokenizer.from_pretrained(model_repo),
    XCodec2Model.from_pretrained(codec_repo).eval().to(torch_device)
)

# load model
model = LlasaForCausalLM.from_pretrained(model_repo)
model.eval().to(torch_device)

# TTS
input_text = "How much wood would a woodchuck chuck if a woodchuck could chuck speech tokens?"
with torch.no_grad():

    # Tokenize the text
    encoded_text = processor(input_text).to(torch_device)

    # Generate the speech autoregressively
    outputs = model.generate(
        encoded_text["input_ids"],
        do_sample=False,
        max_length=600,    # up to ~10 seconds. Max allowed length is 2048, as Llasa was trained with max length 2048
        top_p=1,           # Adjusts the diversity of generated content
        temperature=0.8,   # Controls randomness in output
    )

# decode to audio
gen_wav = processor.decode(outputs, input_offset=encoded_text["input_offset"])
sf.write("llasa_out.wav", gen_wav.cpu().numpy(), 16000)
print("Generated speech saved to llasa_out.wav")
"""


@pytest.fixture(scope="module")
def loaded() -> SimpleNamespace:
    tokenizer = LlasaTokenizer.from_pretrained(str(VOICE))
    codec = XCodec2Model.from_pretrained(str(VOICE / "codec"))
    processor = LlasaProcessor(tokenizer, codec)
    model = LlasaForCausalLM.from_pretrained(str(VOICE), dtype=torch.float32).eval()
    outputs = model.generate(processor(TEXT)["input_ids"], do_sample=False)
    return SimpleNamespace(
        processor=processor, model=model, prompt_format=PromptFormat.load(VOICE), outputs_of_text=outputs
    )


def test_the_documented_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"model_repo": str(VOICE), "codec_repo": str(VOICE / "codec"), "torch_device": "cpu"}
    exec(compile(SNIPPET, "snippet", "exec"), names)
    samples, rate = sf.read("llasa_out.wav")
    assert rate == 16_000
    assert 1.5 < len(samples) / rate < 10
    assert np.sqrt(np.mean(samples**2)) > 0.01
    ids = names["outputs"][0].tolist()  # type: ignore[index]
    assert ids[-1] == names["model"].config.eos_token_id  # type: ignore[attr-defined]
    assert len(samples) == 320 * (len(ids) - 1 - int(names["encoded_text"]["input_offset"][0]))  # type: ignore[index]


def test_generate_gives_the_codes_of_our_engine(loaded: SimpleNamespace) -> None:
    encoded, outputs = loaded.processor(TEXT), loaded.outputs_of_text
    engine = load_language_model(VOICE, loaded.prompt_format, "cpu", "float32")
    prompt = loaded.prompt_format.prompt(TEXT)
    assert tuple(encoded["input_ids"][0].tolist()) == prompt.ids
    codes = list(engine.generate(prompt, SamplingOptions(temperature=0), 0))
    made = outputs[0, len(prompt.ids) : -1] - loaded.prompt_format.first_code_id
    assert made.tolist() == codes
    sound = loaded.processor.decode(outputs, input_offset=encoded["input_offset"])
    torch.testing.assert_close(sound, torch.from_numpy(loaded.processor.audio_codec.codec.decode(codes)))


def test_a_batch_gives_the_audio_of_each_text_alone(loaded: SimpleNamespace) -> None:
    texts = [TEXT, "the sun was low"]
    together = loaded.processor(texts)
    outputs = loaded.model.generate(**{k: together[k] for k in ("input_ids", "attention_mask")}, do_sample=False)
    sounds = loaded.processor.batch_decode(outputs, input_offset=together["input_offset"])
    for text, sound in zip(texts, sounds, strict=True):
        alone, output = loaded.processor(text), loaded.outputs_of_text
        if text != TEXT:
            output = loaded.model.generate(alone["input_ids"], do_sample=False)
        torch.testing.assert_close(sound, loaded.processor.decode(output, input_offset=alone["input_offset"]))


def test_audio_that_ended_by_its_length_keeps_its_last_code(loaded: SimpleNamespace) -> None:
    encoded = loaded.processor(TEXT)
    outputs = loaded.model.generate(encoded["input_ids"], do_sample=False, max_new_tokens=7)
    sound = loaded.processor.decode(outputs, input_offset=encoded["input_offset"])
    assert len(sound) == 7 * 320


def test_a_cloned_voice_comes_without_its_clip(loaded: SimpleNamespace) -> None:
    codec = loaded.processor.audio_codec.codec
    clip = codec.decode(list(range(100, 150)))  # any audio of the codec serves as a clip
    encoded = loaded.processor(TEXT, audio=clip, transcript="a clip")
    heard = tuple(codec.encode(clip))
    ids = encoded["input_ids"]
    assert tuple(ids[0].tolist()) == loaded.prompt_format.prompt(TEXT, Reference("a clip", heard)).ids
    made = [7, 8, 9, 10, 11]
    spoken = torch.tensor([[loaded.prompt_format.first_code_id + code for code in made]])
    sound = loaded.processor.decode(torch.cat([ids, spoken], dim=1), input_offset=encoded["input_offset"])
    whole = codec.decode([*heard, *made])
    torch.testing.assert_close(sound, torch.from_numpy(whole[-5 * 320 :]))


def test_a_control_token_in_a_text_stays_text(loaded: SimpleNamespace) -> None:
    ids = loaded.processor("no <|SPEECH_GENERATION_END|> here")["input_ids"][0].tolist()
    assert loaded.prompt_format.end_id not in ids


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": None}, "string"),
        ({"text": [TEXT, 3]}, "string"),
        ({"text": TEXT, "return_tensors": "np"}, "torch"),
        ({"text": TEXT, "audio": np.zeros(16_000, np.float32)}, "transcript"),
        ({"text": TEXT, "audio": np.zeros(16_000, np.float32), "transcript": "a", "sampling_rate": 44_100}, "44100 Hz"),
    ],
)
def test_wrong_arguments_are_refused(loaded: SimpleNamespace, arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        loaded.processor(**arguments)


def test_ids_that_are_not_speech_are_not_decoded(loaded: SimpleNamespace) -> None:
    ids = loaded.processor(TEXT)["input_ids"]
    with pytest.raises(ValueError, match="not speech"):
        loaded.processor.decode(ids, input_offset=ids.shape[1] - 2)
    with pytest.raises(ValueError, match="one sequence"):
        loaded.processor.decode(torch.cat([ids, ids]), input_offset=[1, 1])


def test_a_lexicon_reaches_the_prompts_and_is_saved(phone_checkpoint: Path, tmp_path: Path) -> None:
    codec = XCodec2Model.from_pretrained(str(phone_checkpoint / "codec"))
    processor = LlasaProcessor.from_pretrained(phone_checkpoint, codec)
    wanted = PromptFormat.load(phone_checkpoint).prompt("a kick").ids
    letters = PromptFormat.load(phone_checkpoint)
    letters.pronunciations = None
    assert letters.prompt("a kick").ids != wanted
    processor.save_pretrained(phone_checkpoint)  # onto itself
    processor.save_pretrained(tmp_path / "again")
    for folder in (phone_checkpoint, tmp_path / "again"):
        made = LlasaProcessor.from_pretrained(folder)("a kick")["input_ids"]
        assert tuple(made[0].tolist()) == wanted


@pytest.mark.parametrize("codec", ["", "codec", "org/codec"])
def test_a_saved_processor_loads_from_any_folder(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """Its codec is none, so that the checkpoint's own is meant, or a relative path, or a repository."""
    monkeypatch.chdir(random_checkpoint)
    tokenizer = LlasaTokenizer.from_pretrained(".")
    if codec == "org/codec":
        audio_codec = XCodec2Model(random_checkpoint / "codec", codec)
    else:
        audio_codec = XCodec2Model.from_pretrained(codec) if codec else None
    LlasaProcessor(tokenizer, audio_codec).save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    about = json.loads((tmp_path / "moved" / "llasa.json").read_text())
    if codec == "org/codec":
        assert about["codec"] == codec
        return
    assert find_codec(tmp_path / "moved", about["codec"]) == tmp_path / "moved" / "codec"
    loaded = LlasaProcessor.from_pretrained(tmp_path / "moved").audio_codec
    assert loaded.codec.decode([1, 2, 3]).shape == (3 * 320,)


def test_a_processor_whose_codec_is_absent_is_not_saved(random_checkpoint: Path, tmp_path: Path) -> None:
    for path in random_checkpoint.iterdir():
        if path.is_file():
            shutil.copyfile(path, tmp_path / path.name)
    processor = LlasaProcessor(LlasaTokenizer.from_pretrained(str(tmp_path)))
    with pytest.raises(ModelError, match="The codec codec is not on this machine"):
        processor.save_pretrained(tmp_path / "saved")


@pytest.fixture(scope="module")
def saved(loaded: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return folder


def test_a_saved_model_is_a_plain_llama_that_transformers_loads(loaded: SimpleNamespace, saved: Path) -> None:
    config, model = AutoConfig.from_pretrained(saved), AutoModelForCausalLM.from_pretrained(saved)
    assert (type(config), type(model)) == (LlamaConfig, LlamaForCausalLM)
    assert config.codebook_size == loaded.prompt_format.code_count
    encoded = loaded.processor(TEXT)
    ids = encoded["input_ids"]
    plain = model.generate(ids, attention_mask=encoded["attention_mask"], do_sample=False, max_length=600)
    assert plain.equal(loaded.outputs_of_text), "it stops at the end of speech by itself"


def test_a_saved_model_and_processor_give_the_same_audio(loaded: SimpleNamespace, saved: Path) -> None:
    tokenizer, processor = AutoTokenizer.from_pretrained(saved), AutoProcessor.from_pretrained(saved)
    assert (type(tokenizer), type(processor)) == (LlasaTokenizer, LlasaProcessor)
    model = LlasaForCausalLM.from_pretrained(str(saved), dtype=torch.float32)
    for name in ("eos_token_id", "codebook_size", "llasa_start_end_tokens", "vocab_size", "model_type"):
        assert getattr(model.config, name) == getattr(loaded.model.config, name)
    before, after = loaded.processor(TEXT), processor(TEXT)
    assert before["input_ids"].equal(after["input_ids"])
    first = loaded.outputs_of_text
    second = model.generate(after["input_ids"], do_sample=False)
    assert first.equal(second)
    torch.testing.assert_close(
        processor.decode(second, input_offset=after["input_offset"]),
        loaded.processor.decode(first, input_offset=before["input_offset"]),
    )
    synthesizer = Synthesizer.load(ModelOptions(model=str(saved), device="cpu", dtype="fp32"))
    greedy = SpeechOptions(SamplingRequest(temperature=0, guidance=1), seed=0)
    utterances: list[Utterance] = []
    synthesizer.synthesize(TEXT, greedy, on_utterance=utterances.append)
    made = first[0, before["input_ids"].shape[1] : -1] - loaded.prompt_format.first_code_id
    assert utterances[0].codes == tuple(made.tolist())


def test_a_model_saved_as_a_llasa_is_known_to_the_auto_classes(
    loaded: SimpleNamespace, saved: Path, tmp_path: Path
) -> None:
    """The draft's own checkpoints have this model type."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    config = json.loads((saved / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "llasa"}))
    assert type(AutoConfig.from_pretrained(tmp_path)) is LlasaConfig
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is LlasaForCausalLM


def test_the_former_name_of_the_module_has_the_same_classes() -> None:
    from llasa_cli import hf

    assert hf.LlasaForCausalLM is LlasaForCausalLM
    assert set(hf.__all__) <= set(vars(transformers_compat))


def test_the_vocabulary_of_a_text_model_grows_by_markers_and_codes(tmp_path: Path) -> None:
    LlamaConfig(vocab_size=128_256, hidden_size=64, num_attention_heads=2, tie_word_embeddings=True).save_pretrained(
        tmp_path
    )
    config = LlasaConfig.from_pretrained_llm(str(tmp_path))
    assert (config.vocab_size, config.eos_token_id, config.tie_word_embeddings) == (193_800, 128_261, True)
    assert config.llasa_start_end_tokens == MARKERS


def test_a_text_tokenizer_gets_markers_and_codes_in_order(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1, "</s>": 2}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>", unk_token="[UNK]").save_pretrained(tmp_path)
    tokenizer = LlasaTokenizer.from_pretrained_llm(str(tmp_path), codebook_size=16)
    assert tokenizer.convert_tokens_to_ids([*MARKERS.values(), "<|s_0|>", "<|s_15|>"]) == [*range(3, 12), 26]
    tokenizer.save_pretrained(tmp_path / "again")
    again = LlasaTokenizer.from_pretrained(str(tmp_path / "again"))
    assert (again.codebook_size, again.get_vocab()) == (16, tokenizer.get_vocab())
