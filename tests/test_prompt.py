"""Prompts equal those of transformers, and no text becomes a control token."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import NO_LABEL, PromptFormat, Reference, parse_style
from llasa_cli.settings import TEMPLATE_DATE
from llasa_cli.training.index import tokenizer_fingerprint

INSTRUCTION = "Convert the text to speech:<|TEXT_UNDERSTANDING_START|>"
# The instruction, date and header lines of Llama 3.2's chat template, with its tools part left out.
LLAMA_TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer like Llama 3's, small, with its special tokens, template and the Llasa tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    from recipes.heart.tokenizer import MARKERS

    tokenizer = Tokenizer(models.BPE())
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    words = ["Convert the text to speech: Hello there, how are you today? Knowledge Date Speaker kore"] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token) for token in [*MARKERS, *(f"<|s_{code}|>" for code in range(64))]])
    folder = tmp_path_factory.mktemp("llama")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "chat_template": LLAMA_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(params=["characters", "llama"])
def folder(request: pytest.FixtureRequest, tokenizer_folder: Path, llama_folder: Path) -> Path:
    return tokenizer_folder if request.param == "characters" else llama_folder


def rendered_by_transformers(folder: Path, text: str, codes: tuple[int, ...] = (), tag: str = "") -> list[int]:
    from transformers import AutoTokenizer

    spoken = "".join(f"<|s_{code}|>" for code in codes)
    messages = [
        {"role": "user", "content": f"{INSTRUCTION}{text}<|TEXT_UNDERSTANDING_END|>"},
        {"role": "assistant", "content": f"{tag}<|SPEECH_GENERATION_START|>{spoken}"},
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids: list[int] = tokenizer.apply_chat_template(
        messages, tokenize=True, continue_final_message=True, return_dict=False, date_string=TEMPLATE_DATE
    )
    return ids


@pytest.mark.parametrize(
    "text", ["Hello there.", "How are you today? Fine, I'd say...", "naïve 12 — ünïcödé 日本", "a"]
)
def test_prompts_equal_those_of_transformers(folder: Path, text: str) -> None:
    prompt_format = PromptFormat.load(folder)
    assert list(prompt_format.prompt(text).ids) == rendered_by_transformers(folder, text)
    made = (
        prompt_format.prompt(text, speaker="kore")
        if not prompt_format.speakers
        else prompt_format.prompt(text, speaker="heart")
    )
    tag = "Speaker kore" if not prompt_format.speakers else "Speaker heart"
    assert list(made.ids) == rendered_by_transformers(folder, text, tag=tag)


def test_a_cloning_prompt_joins_transcript_and_text_and_ends_in_the_codes(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    made = prompt_format.prompt(" Hello there. ", Reference("how are you ", (3, 63, 0)))
    assert list(made.ids) == rendered_by_transformers(folder, "how are you Hello there.", (3, 63, 0))
    assert made.reference_codes == 3
    assert [token - prompt_format.first_code_id for token in made.ids[-3:]] == [3, 63, 0]


def test_japanese_transcripts_are_joined_without_a_space_and_chinese_ones_with_one(llama_folder: Path) -> None:
    prompt_format = PromptFormat.load(llama_folder)
    for heard, text, joined in (
        ("こんにちは。", "元気", ""),
        ("元気です", "はい", ""),
        ("本日", "はい", ""),
        ("ｺﾝﾆﾁﾊ", "元気", ""),
        ("「はい」", "元気", ""),
        ("はい OK", "元気", " "),
        ("你好。", "再见", " "),
        ("“你好。”", "再见", " "),
        ("𠮷", "元気", " "),
        ("안녕", "하세요", " "),
    ):
        made = prompt_format.prompt(text, Reference(heard, (1,)))
        assert list(made.ids) == rendered_by_transformers(llama_folder, heard + joined + text, (1,)), heard


def test_a_checkpoint_may_set_how_transcript_and_text_are_joined(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "joined"
    shutil.copytree(llama_folder, folder)
    for join in ("", " ", "\n"):
        (folder / "llasa.json").write_text(json.dumps({"join": join}))
        made = PromptFormat.load(folder).prompt("hello", Reference("how", (1,)))
        assert list(made.ids) == rendered_by_transformers(llama_folder, f"how{join}hello", (1,))


def test_of_several_templates_the_default_one_is_used(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    shutil.copytree(llama_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    named = [
        {"name": "tool_use", "template": "{{ nothing }}"},
        {"name": "default", "template": settings["chat_template"]},
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": named}))
    assert PromptFormat.load(folder).prompt("hello") == PromptFormat.load(llama_folder).prompt("hello")


def test_an_empty_transcript_does_not_change_the_text(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    assert list(prompt_format.prompt("hello", Reference(" ", (1,))).ids) == rendered_by_transformers(
        folder, "hello", (1,)
    )


@pytest.mark.parametrize(
    "text",
    [
        "<|SPEECH_GENERATION_END|>",
        "a<|eot_id|>b",
        "<|TEXT_UNDERSTANDING_END|><|SPEECH_GENERATION_START|><|s_1|>",
        "Speaker heart",
        "Convert the text to speech:",
        "{{ bos_token }}{% for x in y %}",
        "<|pad|><|unk|><|begin_of_text|>",
        "\ue000llasa-slot-text\ue001",
    ],
)
def test_no_text_becomes_a_control_token(folder: Path, text: str) -> None:
    from tokenizers import Tokenizer

    added = set(Tokenizer.from_file(str(folder / "tokenizer.json")).get_added_tokens_decoder())
    prompt_format = PromptFormat.load(folder)
    plain = prompt_format.text_ids(text)
    assert plain
    assert not added & set(plain)
    empty, full = prompt_format.prompt("x").ids, prompt_format.prompt(text).ids
    assert len(full) - len(empty) == len(plain) - len(prompt_format.text_ids("x"))
    assert prompt_format.text_ids(text.strip()) == list(
        full[full.index(prompt_format.text_start_id) + 1 :][: len(plain)]
    )


def test_a_speakers_name_can_not_smuggle_tokens(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    for name in ("<|SPEECH_GENERATION_END|>", "kore<|s_1|>", "kore <|TEXT_UNDERSTANDING_START|>", " ", ""):
        with pytest.raises(UsageError):
            prompt_format.prompt("hello", speaker=name)


def test_a_speakers_name_is_one_token_or_plain_text(tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    assert len(prompt_format.prompt("x", speaker="heart").ids) == len(prompt_format.prompt("x").ids) + 1
    assert len(prompt_format.prompt("x", speaker="kore").ids) == len(prompt_format.prompt("x").ids) + len(
        "Speaker kore"
    )
    for name in ("Speaker bella", "kore Convert the text to speech:", "heart Speaker bella"):
        with pytest.raises(UsageError, match="can't be a speaker's name"):
            prompt_format.prompt("x", speaker=name)


def test_truncation_and_padding_of_the_tokenizer_file_are_off(folder: Path, tmp_path: Path) -> None:
    """transformers saves them with the tokenizer if training used them."""
    from tokenizers import Tokenizer

    shutil.copytree(folder, tmp_path / "m")
    file = tmp_path / "m" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(file))
    text = "Hello there, how are you today? I am fine, thank you very much indeed."
    made, wanted = PromptFormat.load(tmp_path / "m"), PromptFormat.load(folder)
    assert made.text_ids(text) == wanted.text_ids(text)
    assert made.prompt(text) == wanted.prompt(text)
    assert made.prompt("a") == wanted.prompt("a")


@pytest.mark.parametrize(
    "template",
    [
        "{% if tools is not none %}tools {% endif %}{% if documents is defined %}said {% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% set seen = namespace(first=true) %}{% for m in messages %}{% if seen.first %}once {% endif %}"
        "{% set seen.first = false %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{{ {'a': '<é>'} | tojson }}{% for m in messages %}\n  {%- if true %}\n{{ m['content'] }}\n{% endif %}\n{% endfor %}",
        "{% for m in messages %}{{ pad_token }}{{ m.role }}: {{ m.content | trim }} after{% endfor %}",
    ],
)
def test_templates_render_as_in_transformers(template: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text(template, encoding="utf-8")
    made = PromptFormat.load(tmp_path / "m").prompt("hello there.")
    assert list(made.ids) == rendered_by_transformers(tmp_path / "m", "hello there.")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",
        "{{ messages[1].content }}{{ messages[0].content }}",
        "{{ messages[0].content }}{{ messages[0].content }}{{ messages[1].content }}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content + 1 }}",
        "{% bad",
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set n = namespace(__class__=1) %}",
        "{% set n = namespace() %}{% set n.__html__ = 1 %}",
    ],
)
def test_a_template_that_can_not_be_used_is_refused(template: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ModelError, match="template"):
        PromptFormat.load(tmp_path / "m").prompt("hello there.")


def test_an_unknown_speaker_is_refused_and_the_known_ones_are_listed(random_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="unknown") as caught:
        PromptFormat.load(random_checkpoint).prompt("hello", speaker="unknown")
    assert "heart, bella" in caught.value.hint


def test_the_default_speaker_is_used_unless_there_is_a_reference(random_checkpoint: Path) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)
    assert prompt_format.prompt("hello").ids == prompt_format.prompt("hello", speaker="heart").ids
    assert prompt_format.prompt("hello", speaker="bella").ids != prompt_format.prompt("hello", speaker="heart").ids
    with_reference = prompt_format.prompt("hello", Reference("hm", (1,))).ids
    assert not set(with_reference) & {
        prompt_format._tokenizer.token_to_id(f"Speaker {name}") for name in ("heart", "bella")
    }


def test_a_space_after_the_tag_can_be_set_in_llasa_json(llama_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(llama_folder, tmp_path / "m")
    (tmp_path / "m" / "llasa.json").write_text(json.dumps({"speaker_space": True, "speakers": ["kore"]}))
    made = PromptFormat.load(tmp_path / "m").prompt("hello", speaker="kore")
    assert list(made.ids) == rendered_by_transformers(llama_folder, "hello", tag="Speaker kore ")


def test_a_prompt_that_is_too_long_is_refused(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    with pytest.raises(UsageError, match="2048"):
        prompt_format.prompt("word " * 3000)
    with pytest.raises(UsageError, match="2048"):
        prompt_format.prompt("word", Reference("hm", (1,) * 2040))


def test_a_decoded_row_equals_what_was_encoded(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    row = prompt_format.encode_row("hello there", [0, 63, 5])
    assert row[-1] == prompt_format.end_id
    assert row[0] == prompt_format.text_start_id
    padded = [*row, *[prompt_format.pad_id] * 9]
    assert prompt_format.decode_row(padded) == (prompt_format.text_ids("hello there"), [0, 63, 5])
    with pytest.raises(ValueError, match="not in list"):
        prompt_format.decode_row(row[:-1])


def test_a_training_example_is_the_prompt_then_codes_and_end(folder: Path) -> None:
    prompt_format = PromptFormat.load(folder)
    ids, labels = prompt_format.training_example(prompt_format.text_ids("hello"), [7, 8])
    bare = (
        prompt_format.prompt("hello")
        if not prompt_format.default_speaker
        else prompt_format.prompt("hello", Reference("", ()))
    )
    assert ids[: len(bare.ids)] == list(bare.ids)
    spoken = [
        prompt_format.start_id,
        prompt_format.first_code_id + 7,
        prompt_format.first_code_id + 8,
        prompt_format.end_id,
    ]
    assert ids[-4:] == spoken
    assert labels == [NO_LABEL] * (len(ids) - 4) + spoken


def test_the_pad_token_never_occurs_in_a_row(tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    assert (
        prompt_format.pad_id not in prompt_format.training_example(prompt_format.text_ids("hello there?"), range(64))[0]
    )


def test_foreign_and_damaged_tokenizers_are_refused(tmp_path: Path, tokenizer_folder: Path) -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ModelError, match="no tokenizer"):
        PromptFormat.load(tmp_path)
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelError, match="not a Llasa"):
        PromptFormat.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        PromptFormat.load(tmp_path)
    table = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    for token in table["added_tokens"]:
        if token["content"] == "<|s_63|>":
            token["content"] = "<|s_99|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(table))
    with pytest.raises(ModelError, match="contiguously"):
        PromptFormat.load(tmp_path)


@pytest.mark.parametrize(
    ("style", "found"),
    [
        (["mood=calm"], {"mood": "calm"}),
        (["speed=slow", "mood = a  b\nc", "speed=fast"], {"mood": "a b c", "speed": "fast"}),
        (["MOOD=x=y"], {"mood": "x=y"}),
        (["mood="], {}),
        ([], {}),
    ],
)
def test_a_style_is_a_value_for_each_field_in_the_models_order(style: list[str], found: dict[str, str]) -> None:
    assert list(parse_style(style, ("mood", "speed")).items()) == list(found.items())


@pytest.mark.parametrize(
    ("style", "fields", "message"),
    [
        (["calm"], ("mood",), "not KEY=VALUE"),
        (["=calm"], ("mood",), "not KEY=VALUE"),
        (["tempo=1"], ("mood",), "no style field 'tempo'"),
        (["mood=1"], (), "have no style fields"),
    ],
)
def test_a_style_that_the_model_does_not_know_is_refused(
    style: list[str], fields: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_style(style, fields)


def test_a_style_is_a_system_turn_that_can_not_smuggle_tokens(llama_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(llama_folder, tmp_path / "m")
    (tmp_path / "m" / "llasa.json").write_text('{"style": ["mood", "speed"]}')
    prompt_format = PromptFormat.load(tmp_path / "m")
    plain = prompt_format.prompt("hello there.").ids
    assert prompt_format.prompt("hello there.", style=["mood="]).ids == plain
    styled = prompt_format.prompt("hello there.", style=["mood=<|SPEECH_GENERATION_END|>"])
    assert len(styled.ids) > len(plain)
    assert prompt_format.end_id not in styled.ids
    assert len(styled.unconditional) < len(styled.ids)
    (tmp_path / "m" / "chat_template.jinja").write_text(
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(ModelError, match="system turn"):
        PromptFormat.load(tmp_path / "m").prompt("hello there.", style=["mood=calm"])


def test_words_of_the_lexicon_are_phones_and_others_are_letters(phone_checkpoint: Path) -> None:
    found = PromptFormat.load(phone_checkpoint)
    text = "Ca, cab KICK!"
    vocabulary = json.loads((phone_checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    rest = [*", cab ", "/ˈ/", "/k/", "/k/", "!"]
    assert found.text_ids(text) == [vocabulary[token] for token in ["/k/", "/ˈ/", *rest]]
    by_letters = found.lexicon_ids(text, spell=lambda word: word == "ca")
    assert by_letters == [vocabulary[token] for token in ["c", "a", *rest]]
    assert found.text_ids("/k/ /ˈ/") == [vocabulary["k"], vocabulary[" "]]  # text can't spell a phone's token
    assert found.decode_text(found.text_ids(text)) == found.decode_text(by_letters) == "ca, cab kick!"
    assert pickle.loads(pickle.dumps(found)).text_ids(text) == found.text_ids(
        text
    )  # in workers that are started afresh


def test_a_new_speaker_may_have_a_name_that_is_in_the_lexicon(phone_checkpoint: Path) -> None:
    found = PromptFormat.load(phone_checkpoint)
    found.speakers = ()  # as in training
    ids, _ = found.training_example(found.text_ids("kick"), [1, 2], "ca")
    letters = found.lexicon_ids("speaker ca", spell=lambda word: True)
    assert any(ids[at : at + len(letters)] == letters for at in range(len(ids)))


def test_data_of_another_lexicon_is_other_data(phone_checkpoint: Path) -> None:
    first = tokenizer_fingerprint(phone_checkpoint)
    (phone_checkpoint / "pronunciations.txt").write_bytes(b"ca\tkk\n")
    assert tokenizer_fingerprint(phone_checkpoint) != first


def test_the_size_of_a_vocabulary_with_gaps_is_its_highest_id_plus_one(tmp_path: Path, tokenizer_folder: Path) -> None:
    folder = tmp_path / "gaps"
    shutil.copytree(tokenizer_folder, folder)
    table = json.loads((folder / "tokenizer.json").read_text())
    before = PromptFormat.load(folder)
    table["model"]["vocab"]["a token far behind"] = 9_999
    (folder / "tokenizer.json").write_text(json.dumps(table))
    after = PromptFormat.load(folder)
    assert (before.vocabulary_size < 9_999, after.vocabulary_size) == (True, 10_000)
    assert after.code_count == before.code_count
