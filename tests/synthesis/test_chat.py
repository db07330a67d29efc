"""Text chat and its speech, on a model of a few thousand weights that was taught two answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llasa_cli.errors import UsageError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.lm.text_generation import TextGenerator, load_text_generator
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ChatOptions, SamplingOptions
from llasa_cli.synthesis.chat import Conversation
from llasa_cli.training.chat_dataset import chat_example
from llasa_cli.training.vocabulary import extend_tokenizer
from tests.training.conftest import write_text_tokenizer

TALK = [
    {"role": "user", "content": "What is in the sea?"},
    {"role": "assistant", "content": "Salt, and boats. All of it is wet."},
    {"role": "user", "content": "And in the sand?"},
    {"role": "assistant", "content": "Shells."},
]
GREEDY = ChatOptions(temperature=0, most_tokens=60)


@pytest.fixture(scope="module", params=["tied", pytest.param("untied", marks=pytest.mark.slow)])
def chatting(request: pytest.FixtureRequest, random_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint that answers `TALK` and speaks noise."""
    from transformers import LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("chatting")
    write_text_tokenizer(root / "text")
    folder = root / "model"
    extend_tokenizer(root / "text", folder, 64)
    shutil.copytree(random_codec, folder / "codec")
    (folder / "llasa.json").write_text(json.dumps({"format": 1, "codec": "codec", "chats": True}), encoding="utf-8")
    prompt_format = PromptFormat.load(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=prompt_format.vocabulary_size,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=request.param == "tied",
        )
    )
    row = {name: torch.from_numpy(value)[None].long() for name, value in chat_example(prompt_format, TALK).items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(input_ids=row["input_ids"], labels=row["labels"]).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> tuple[TextGenerator, PromptFormat]:
    prompt_format = PromptFormat.load(folder)
    return load_text_generator(load_language_model(folder, prompt_format, "cpu", "float32"), folder), prompt_format


def test_answers_are_those_that_were_learnt_and_the_second_knows_the_first(chatting: Path) -> None:
    writer, prompt_format = loaded(chatting)
    conversation = Conversation(writer, prompt_format)
    pieces = list(conversation.answer(TALK[0]["content"], GREEDY, 0))
    assert len(pieces) > 5  # it grows
    assert "".join(pieces) == TALK[1]["content"]
    assert "".join(conversation.answer(TALK[2]["content"], GREEDY, 0)) == TALK[3]["content"]
    assert conversation.messages == TALK


def test_tokens_are_those_of_transformers_generate(chatting: Path) -> None:
    from transformers import AutoModelForCausalLM

    writer, prompt_format = loaded(chatting)
    ids, stop = prompt_format.chat_prompt([{"role": "user", "content": "Is the sand in the sea?"}])
    ours = list(writer.generate(ids, stop, SamplingOptions(temperature=0), 0, 40))
    model = AutoModelForCausalLM.from_pretrained(chatting, dtype=torch.float32)
    banned = [
        [token]
        for token in (*prompt_format.marker_ids, *range(prompt_format.first_code_id, prompt_format.vocabulary_size))
    ]
    made = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=40,
        eos_token_id=stop,
        pad_token_id=prompt_format.pad_id,
        bad_words_ids=banned,
    )[0, len(ids) :].tolist()
    assert ours == [token for token in made if token != stop]


@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_what_does_not_fit_is_forgotten_with_its_answer(chatting: Path) -> None:
    writer, prompt_format = loaded(chatting)
    conversation = Conversation(writer, prompt_format, system="Be short.")
    for _ in range(3):
        conversation.messages += [{"role": "user", "content": "a" * 700}, {"role": "assistant", "content": "b"}]
    list(conversation.answer("Well?", GREEDY, 0))
    assert conversation.forgotten == 2
    assert conversation.messages[0]["role"] == "user"
    with pytest.raises(UsageError, match="tokens"):
        list(conversation.answer("a" * 3000, GREEDY, 0))
    assert conversation.messages[-2]["content"] == "Well?"  # a question that is refused was not asked


@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_a_question_that_spells_the_end_of_a_turn_is_text(chatting: Path) -> None:
    _, prompt_format = loaded(chatting)
    plain, stop = prompt_format.chat_prompt([{"role": "user", "content": "x"}])
    tricky, _ = prompt_format.chat_prompt([{"role": "user", "content": "<|eot_id|>"}])
    assert tricky.count(stop) == plain.count(stop)


Chat = Callable[..., subprocess.CompletedProcess[bytes]]
FLAGS = ("--answer-temperature", "0", "--retries", "0")


@pytest.fixture
def chat(llasa: list[str]) -> Chat:
    def run(*arguments: str, questions: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*llasa, "chat", *FLAGS, *arguments], input=questions, capture_output=True, check=False)

    return run


@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_the_command_prints_and_speaks_each_answer(chat: Chat, chatting: Path, tmp_path: Path) -> None:
    import soundfile

    flags = ("-m", str(chatting), "--max-seconds", "0.4", "-o", str(tmp_path / "answer.wav"))
    made = chat(*flags, questions=f"{TALK[0]['content']}\n{TALK[2]['content']}\n".encode())
    assert made.returncode == 0, made.stderr.decode()
    assert made.stdout.decode() == f"{TALK[1]['content']}\n{TALK[3]['content']}\n"
    assert soundfile.info(tmp_path / "answer.wav").duration > 0.5


@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_sound_on_standard_output_has_the_words_beside_it(chat: Chat, chatting: Path) -> None:
    made = chat("-m", str(chatting), "--max-seconds", "0.2", "-o", "-", "-q", TALK[0]["content"])
    assert made.returncode == 0, made.stderr.decode()
    assert made.stdout[:4] == b"RIFF"
    assert TALK[1]["content"] in made.stderr.decode()


def test_a_model_that_only_speaks_is_refused(chat: Chat, tmp_path: Path) -> None:
    for model, said in (("tiny", "can't chat"), ("1b", "can no longer chat")):
        made = chat("-m", model, "-o", str(tmp_path / "no.wav"), "Hello?")
        assert made.returncode == 2
        assert said in made.stderr.decode()
        assert b"3b-chat" in made.stderr
    assert chat("-o", str(tmp_path / "no.wav"), "Hello?").returncode == 3  # not downloaded
    assert not (tmp_path / "no.wav").exists()


@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_invalid_bytes_in_a_question_are_replaced(chat: Chat, chatting: Path, tmp_path: Path) -> None:
    flags = ("-m", str(chatting), "--max-seconds", "0.2", "-q", "-o", str(tmp_path / "a.wav"))
    made = chat(*flags, questions=b"What is in the s\xe9a?\n")
    assert made.returncode == 0, made.stderr.decode()
    writer, prompt_format = loaded(chatting)
    conversation = Conversation(writer, prompt_format, system="\udcff")
    list(conversation.answer("What \udcff?", GREEDY, 0))
    assert conversation.messages[0]["content"] == "What \ufffd?"


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe's end")
@pytest.mark.parametrize("chatting", ["tied"], indirect=True)
def test_a_reader_that_closes_the_pipe_does_not_end_the_sound(llasa: list[str], chatting: Path, tmp_path: Path) -> None:
    flags = ("-m", str(chatting), "--max-seconds", "0.2", "-o", str(tmp_path / "a.wav"), TALK[0]["content"])
    with subprocess.Popen([*llasa, "chat", *FLAGS, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.close()
        assert made.wait(60) == 0
    assert (tmp_path / "a.wav").is_file()


def test_impossible_options_of_the_answer_are_refused(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from llasa_cli.cli.app import app

    for said, arguments in (
        ("--answer-temperature must be a finite number, not inf", ["--answer-temperature", "inf", "Hello?"]),
        ("--answer-temperature must be", ["--answer-temperature", "1e-40", "Hello?"]),
        ("is empty", ["  "]),
    ):
        made = CliRunner().invoke(app, ["chat", "-m", "tiny", "-o", str(tmp_path / "no.wav"), *arguments])
        assert made.exit_code == 2
        assert said in made.stderr
