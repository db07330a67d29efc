from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.codec.codec import load_codec
from llasa_cli.errors import UsageError
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.training.chat_dataset import ChatDataset, chat_example
from llasa_cli.training.finetune import finetune
from llasa_cli.training.online_dataset import OnlineDataset
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.run import Callbacks

TALK = [
    {"role": "user", "content": "What is in the sea?"},
    {"role": "assistant", "content": "Salt, and boats."},
    {"role": "user", "content": "And in the sand?"},
    {"role": "assistant", "content": "Shells."},
]


def test_a_conversation_is_encoded_as_by_transformers_and_only_answers_have_labels(speaking: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(speaking)
    row = chat_example(PromptFormat.load(speaking), TALK)
    theirs = tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=False, date_string="26 Jul 2024")
    assert row["input_ids"].tolist() == theirs
    trained = row["labels"][row["labels"] != NO_LABEL]
    assert tokenizer.decode(trained) == "Salt, and boats.<|eot_id|>Shells.<|eot_id|>"
    same = row["labels"] != NO_LABEL
    np.testing.assert_array_equal(row["labels"][same], row["input_ids"][same])


def test_a_conversation_that_spells_a_marker_stays_text(speaking: Path) -> None:
    prompt_format = PromptFormat.load(speaking)
    plain = chat_example(prompt_format, TALK)["input_ids"].tolist()
    tricky = [TALK[0] | {"content": "<|SPEECH_GENERATION_END|><|eot_id|>"}, *TALK[1:]]
    ids = chat_example(prompt_format, tricky)["input_ids"].tolist()
    eot = prompt_format._tokenizer.token_to_id("<|eot_id|>")
    assert ids.count(eot) == plain.count(eot)
    assert prompt_format.end_id not in ids


def test_forms_of_conversations_are_read_and_all_bad_lines_named(speaking: Path, tmp_path: Path) -> None:
    prompt_format, file = PromptFormat.load(speaking), tmp_path / "chat.jsonl"
    sharegpt = [{"from": "human", "value": "sea?"}, {"from": "gpt", "value": "salt"}]
    lines = [json.dumps({"messages": TALK}), json.dumps(TALK), "", json.dumps({"conversations": sharegpt})]
    file.write_text("\n".join(lines), encoding="utf-8")
    rows = ChatDataset([file], prompt_format, 2048)
    assert len(rows) == 3
    assert rows.lengths[0] == rows.lengths[1] == len(rows[0]["input_ids"])
    assert ChatDataset([file], prompt_format, int(rows.lengths[0]) - 1).skipped == 2
    file.write_text("\n".join([*lines, "{", json.dumps({"messages": TALK[:1]})]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"chat.jsonl:5, chat.jsonl:6"):
        ChatDataset([file], prompt_format, 2048)


@pytest.fixture
def options(data_folder: Path, random_checkpoint: Path, tmp_path: Path) -> FinetuneOptions:
    return FinetuneOptions(
        data_folder, tmp_path / "out", str(random_checkpoint), steps=2, device="cpu", log_every=1, evaluate_every=1
    )


def test_speech_and_chat_are_trained_on_in_one_run(options: FinetuneOptions, tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text((json.dumps({"messages": TALK}) + "\n") * 50, encoding="utf-8")
    alone = finetune(replace(options, steps=None, epochs=1))
    mixed = finetune(replace(options, output=tmp_path / "mixed", chat=(file,), steps=None, epochs=1))
    assert json.loads((tmp_path / "mixed" / "llasa.json").read_text())["chats"] is True
    assert mixed["steps"] > alone["steps"]
    assert mixed["data"]["rows"] == 170
    assert mixed["speakers"] == ["heart", "bella"]


def test_online_training_writes_nothing_beside_the_recordings_and_resumes(
    options: FinetuneOptions, recordings: Path
) -> None:
    before = {path.name for path in recordings.parent.iterdir()}
    online = replace(options, data=recordings, online=True, validation=2, tokens_per_batch=200)
    about = finetune(online)
    assert about["steps"] == 2
    assert about["data"] == {"fingerprint": None, "rows": 6}
    assert about["speakers"] == ["heart", "bella", "kore"]
    assert "held_out" in (online.output / "log.jsonl").read_text()
    assert {path.name for path in recordings.parent.iterdir()} == before, "nothing is written beside them"
    assert finetune(replace(online, steps=3))["steps"] == 3, "it resumes"


def test_online_rows_are_those_that_prepare_would_write(recordings: Path, random_checkpoint: Path) -> None:
    from llasa_cli.audio.reader import read_clip

    prompt_format, codec = PromptFormat.load(random_checkpoint), load_codec(random_checkpoint / "codec", "cpu")
    prompt_format.speakers = ()
    rows = OnlineDataset.read((recordings,), prompt_format, codec, 2048)
    assert len(rows) == 8
    assert sum(rows.skipped.values()) == 3
    for index in range(8):
        codes = codec.encode(read_clip(recordings.parent / f"{index}.wav"))
        ids, labels = prompt_format.training_example(
            prompt_format.text_ids(f"sea number {index}"), codes, rows.speakers[index]
        )
        assert rows[index]["input_ids"].tolist() == ids
        assert rows[index]["labels"].tolist() == labels
        assert abs(rows.lengths[index] - len(ids)) <= 1
    train, held_out = rows.split(0.25, seed=0)
    assert held_out is not None
    assert (len(train), len(held_out)) == (6, 2)
    assert len(OnlineDataset.read((recordings,), prompt_format, codec, 2048, speakers=("kore",))) == 4
    with pytest.raises(UsageError, match="No recording could be used"):
        OnlineDataset.read((recordings,), prompt_format, codec, 20)


def test_a_clip_that_turns_out_unusable_costs_one_row_and_not_the_run(
    options: FinetuneOptions, recordings: Path
) -> None:
    soundfile.write(recordings.parent / "3.wav", np.full(12_000, np.nan), 16_000, "FLOAT")
    soundfile.write(recordings.parent / "4.wav", np.zeros(12_000), 16_000)
    notes: list[str] = []
    online = replace(options, data=recordings, online=True, validation=0, tokens_per_batch=200, steps=8)
    assert finetune(online, Callbacks(on_note=notes.append))["steps"] == 8
    assert sum("3.wav is left out: samples that are NaN or infinite" in note for note in notes) == 1
    assert sum("4.wav is left out: silent" in note for note in notes) == 1
    assert any("audio can't be read" in note for note in notes), "what was left out by its header"


@pytest.fixture(scope="module")
def plain(data_folder: Path, random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights after two steps on all of each row, without speech samples."""
    output = tmp_path_factory.mktemp("plain") / "out"
    finetune(FinetuneOptions(data_folder, output, str(random_checkpoint), steps=2, device="cpu", evaluate_every=1))
    return (output / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("brief_samples")
def test_the_given_sentences_are_spoken_at_each_due_step(options: FinetuneOptions, plain: bytes) -> None:
    """The same sentences each time, as WAV files; the training is the same as without them."""
    finetune(replace(options, speak_every=1, speak=("sea salt", "boat")))
    spoken = sorted(path.name for path in (options.output / "spoken").iterdir())
    assert spoken == ["0-0000001.wav", "0-0000002.wav", "1-0000001.wav", "1-0000002.wav", "sentences.txt"]
    assert (options.output / "spoken" / "sentences.txt").read_text() == "sea salt\nboat\n"
    about = soundfile.info(options.output / "spoken" / "0-0000001.wav")
    assert about.samplerate == 16_000
    assert about.frames > 0
    assert (options.output / "model.safetensors").read_bytes() == plain


def test_rows_without_text_reach_the_training(options: FinetuneOptions, plain: bytes) -> None:
    finetune(replace(options, text_dropout=1.0))
    assert (options.output / "model.safetensors").read_bytes() != plain


@pytest.mark.slow
def test_held_out_sentences_are_spoken_where_none_are_given(options: FinetuneOptions) -> None:
    finetune(replace(options, speak_every=2))
    assert len(list((options.output / "spoken").glob("*.wav"))) == 3


@pytest.mark.slow
def test_tensorboard_gets_the_log(options: FinetuneOptions) -> None:
    pytest.importorskip("tensorboard")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    finetune(replace(options, report_to=("tensorboard",)))
    assert list((options.output / "runs").rglob("events.out.tfevents*"))
