"""The limits, the help and the default of an option stand in its field, for Python, flags and lists alike."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from llasa_cli.batch.options import BatchOptions
from llasa_cli.cli.common_options import OutputOptions
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, flags_of
from llasa_cli.settings import ChatOptions, ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.training.options import FinetuneOptions, LoraOptions


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("temperature", -0.1, "must be between 0 and 1,000,000"),
        ("temperature", 1e-9, "must be 0 or at least 0.01"),
        ("temperature", math.nan, "must be a finite number"),
        ("temperature", math.inf, "must be a finite number"),
        ("top_p", 1.5, "must be between 0 and 1"),
        ("min_p", -1, "must be between 0 and 1"),
        ("top_k", -1, "must be between 0 and 1,000,000"),
        ("repetition_penalty", 0, "must be between 0.01 and 1,000,000"),
        ("guidance", 1e300, "must be between 0 and 1,000,000"),
        ("max_seconds", 0, "must be between 0.02 and 1,000,000"),
    ],
)
def test_a_sampling_value_outside_its_limits_is_refused_by_the_dataclass(name: str, value: float, problem: str) -> None:
    for options in (SamplingOptions, SamplingRequest):
        with pytest.raises(UsageError) as refused:
            options(**{name: value})
        assert refused.value.message == f"{name} {problem}, not {value!r}."
    assert flags_of(SamplingRequest)[name].problem(value) == problem


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ModelOptions(attention="flush"),
        lambda: SpeechOptions(seed=-1),
        lambda: SpeechOptions(retries=-1),
        lambda: ChatOptions(most_tokens=0),
        lambda: BatchOptions("list", None, engine="vlm"),  # type: ignore[arg-type]
        lambda: LoraOptions(rank=0),
        lambda: FinetuneOptions(None, None, schedule="cosinus"),  # type: ignore[arg-type]
        lambda: FinetuneOptions(None, None, learning_rate=math.inf),  # type: ignore[arg-type]
    ],
)
def test_every_option_dataclass_checks_its_fields(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]


def test_zero_and_the_limits_themselves_are_allowed() -> None:
    SamplingOptions(temperature=0, top_p=1, top_k=0, min_p=0, repetition_penalty=0.01, guidance=0, max_seconds=0.02)


def test_a_request_has_the_fields_of_the_options_and_leaves_each_to_the_checkpoint() -> None:
    assert [part.name for part in fields(SamplingRequest)] == [part.name for part in fields(SamplingOptions)]
    assert all(part.default is None for part in fields(SamplingRequest))
    assert SamplingRequest(top_k=3).over({"top_k": 5, "top_p": 0.5}) == SamplingOptions(top_k=3, top_p=0.5)
    help_text = flags_of(SamplingRequest)["temperature"].default_text
    assert help_text == f"the model's, else {SamplingOptions.temperature:g}"


def test_the_documentation_of_an_option_dataclass_lists_the_help_of_its_fields() -> None:
    assert f"    top_p: {flags_of(SamplingOptions)['top_p'].help}" in (SamplingOptions.__doc__ or "")


def test_a_flag_has_the_panel_of_the_class_that_declares_it_unless_it_names_another() -> None:
    panels = {name: flag.panel for name, flag in flags_of(OutputOptions).items()}
    assert (panels["play"], panels["resume"], panels["json"]) == ("Sound", "Sound", None)
    assert (flags_of(SpeechOptions)["seed"].panel, flags_of(SpeechOptions)["speed"].panel) == ("Sampling", "Sound")
    assert flags_of(SamplingRequest)["top_p"].panel == "Sampling"


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (Flag("", minimum=1), "at least 1"),
        (Flag("", maximum=2048), "at most 2,048"),
        (Flag("", minimum=0, maximum=0.5), "between 0 and 0.5"),
    ],
)
def test_a_range_is_written_in_words(flag: Flag, text: str) -> None:
    assert flag.range_text == text
