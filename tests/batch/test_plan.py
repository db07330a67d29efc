"""What is to be made: places, resume, order."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.plan import Plan
from llasa_cli.batch.results import Results
from llasa_cli.batch.validate import Settings, Validator, seed_of
from llasa_cli.errors import UsageError


def item(number: int, name: str, text: str = "hello", **more: object) -> Item:
    return Item(number, name, name, text, **more)  # type: ignore[arg-type]


def test_two_items_never_share_a_place(tmp_path: Path) -> None:
    with Plan(tmp_path, "wav") as plan:
        names = ("a", "A", "a-2", "a", "b/a", "B/A", "ß", "SS")
        paths = [plan.add(item(number, name), "k").path for number, name in enumerate(names, 1)]
        assert paths[0] == "a.wav"
        assert len({path.casefold() for path in paths}) == len(names)
        assert plan.add(replace(item(9, "a"), ending="mp3"), "k").path not in paths


def test_many_items_of_one_name_are_not_tried_over_and_over(tmp_path: Path) -> None:
    with Plan(tmp_path, "wav") as plan:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        plan._base.set_progress_handler(count, 1000)
        for number in range(2000):
            plan.add(item(number, "same"), "k")
        few, steps = steps, 0
        for number in range(2000, 4000):
            plan.add(item(number, "same"), "k")
        assert steps < 2 * few


def test_an_item_comes_back_as_it_was(tmp_path: Path) -> None:
    whole = item(3, "x", voice="kim", ref=Path("c/d.wav"), ref_text="t", seed=5, sampling=(("top_k", 4),), ending="mp3")
    with Plan(tmp_path, "wav") as plan:
        given = plan.add(whole, "key")
        (back,) = plan.waiting()
        assert back == given
        assert back.item == whole
        assert back.path == "x.mp3"


def test_long_items_begin_first_and_voices_stay_together(tmp_path: Path) -> None:
    with Plan(tmp_path, "wav") as plan:
        for number, (length, voice) in enumerate([(9, "b"), (20, "a"), (30, "b"), (9000, "b"), (10, "a")], 1):
            plan.add(item(number, str(number), "x" * length), "k", voice)
        assert [task.number for task in plan.waiting()] == [4, 2, 5, 3, 1]


def test_only_what_is_missing_or_changed_is_to_be_made(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        for name in ("same", "changed", "gone", "failed", "removed"):
            status = "error" if name == "failed" else "ok"
            results.append({"id": name, "path": f"{name}.wav", "key": f"{name}-1", "status": status})
            if name != "gone":
                (tmp_path / f"{name}.wav").touch()
        with Plan(tmp_path, "wav") as plan:
            plan.remember(results.rows())
            plan.add(item(1, "changed"), "changed-2")
            plan.add(item(2, "gone"), "gone-1")
            plan.add(item(3, "same"), "same-1")
            plan.add(item(4, "failed"), "failed-1")
            plan.add(item(5, "new"), "new-1")
            assert [task.item.name for task in plan.waiting()] == ["changed", "gone", "failed", "new"]
            assert list(plan.removed()) == ["removed.wav"]
            assert (plan.counts().there, plan.counts().to_make) == (1, 4)
            for task in plan.waiting():
                plan.settle(task.number, results.append({"id": task.item.name, "path": task.path}), ok=True)
            results.put_in_order(plan.rows_in_order())
        ids = [row["id"] for _, row in results.rows()]
        assert ids == ["changed", "gone", "same", "failed", "new", "removed"]
    assert not (tmp_path / ".llasa").exists()


def test_what_a_killed_run_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / ".llasa" / "x").mkdir(parents=True)
    (tmp_path / ".llasa" / "plan.sqlite").touch()
    with Plan(tmp_path, "wav") as plan:
        assert not (plan.work / "x").exists()


def test_a_folder_of_somebody_elses_is_not_worked_in(tmp_path: Path) -> None:
    (tmp_path / ".llasa").mkdir()
    (tmp_path / ".llasa" / "notes").write_text("mine")
    with pytest.raises(UsageError, match="in the way"):
        Plan(tmp_path, "wav")
    assert (tmp_path / ".llasa" / "notes").read_text() == "mine"


def surveyed(folder: Path, *items: Item, **settings: object) -> list[tuple[str, str]]:
    """(key, problem) of each."""

    def trace(voice: str | None, speaker: str | None) -> str:
        if voice == "nobody":
            raise UsageError("There is no voice 'nobody'.")
        return f"{voice} {speaker}"

    with Plan(folder, "wav") as plan:
        survey = Validator(plan, Settings(**{"digest": "d"} | settings), trace)  # type: ignore[arg-type]
        survey.add_all(items)
        tasks = [plan.task(number) for number in range(1, len(items) + 1)]
        return [(task.key, task.problem) for task in tasks]


def test_everything_that_decides_the_sound_is_in_the_key(tmp_path: Path) -> None:
    ((plain, problem),) = surveyed(tmp_path, item(1, "a"))
    assert problem == ""
    others = [
        item(1, "a", "hello!"),
        item(1, "a", voice="kim"),
        item(1, "a", speaker="kim"),
        item(1, "a", seed=4),
        item(1, "a", sampling=(("top_k", 4),)),
        item(1, "a", ending="flac"),
    ]
    keys = [surveyed(tmp_path, other)[0][0] for other in others]
    keys += [surveyed(tmp_path, item(1, "a"), seed=9)[0][0], surveyed(tmp_path, item(1, "a"), digest="e")[0][0], plain]
    assert len(set(keys)) == len(keys)
    assert surveyed(tmp_path, item(7, "other name"))[0][0] == plain


def test_a_seed_nobody_named_is_the_items_own_and_the_same_again() -> None:
    assert seed_of("k", "a.wav") == seed_of("k", "a.wav")
    assert len({seed_of("k", f"{number}.wav") for number in range(100)}) == 100
    assert all(0 <= seed_of("k", str(number)) < 2**31 for number in range(100))


def test_what_can_not_be_made_has_its_reason(tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000), 16_000)
    speech = np.random.default_rng(0).normal(0, 0.1, 48_000) * (np.sin(np.arange(48_000) / 2000) > -0.5)
    soundfile.write(tmp_path / "good.wav", speech, 16_000)
    found = surveyed(
        tmp_path,
        item(1, "a", " "),
        item(2, "b", "?!"),
        item(3, "c", voice="nobody"),
        item(4, "d", ref=tmp_path / "absent.wav", ref_text="some words"),
        item(5, "e", ref=tmp_path / "silent.wav", ref_text="some words"),
        item(6, "f", ref=tmp_path / "good.wav", ref_text="some words that are said", voice="kim"),
        item(7, "g", ref=tmp_path / "good.wav", ref_text="some words that are said"),
    )
    problems = [problem for _, problem in found]
    assert [word in problem for word, problem in zip(
        ("empty", "nothing to say", "no voice", "absent.wav", "silent", "a clip and a voice"), problems, strict=False
    )] == [True] * 6  # fmt: skip
    assert problems[6] == ""


def test_a_clip_of_the_flags_is_for_items_that_name_no_voice(tmp_path: Path) -> None:
    missing = tmp_path / "absent.wav"
    found = surveyed(tmp_path, item(1, "a"), item(2, "b", voice="kim"), item(3, "c", speaker="x"), ref=missing)
    assert [bool(problem) for _, problem in found] == [True, False, False]


def test_an_item_that_would_be_written_over_a_clip_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("me.wav", "sub/b.c.wav", "other.wav"):
        (tmp_path / name).write_text("a recording")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "other.wav")
    clips = {"x": "me.wav", "y": "sub/b.c.wav", "z": "elsewhere", "v": "absent.wav"}
    with Plan(tmp_path, "wav") as plan:
        plan.remember([((0, 9), {"path": "there.wav", "key": "k", "status": "ok"})])
        (tmp_path / "there.wav").touch()
        for number, name in enumerate(("me", "sub/b.c", "other", "absent", "there", "free", "shared"), 1):
            plan.add(item(number, name), "k")
        for number, (name, clip) in enumerate(clips.items(), 8):
            plan.add(item(number, name, ref=tmp_path / clip), "k")
        plan.add(item(12, "w", ref=tmp_path / "there.wav"), "k")
        (tmp_path / "shared.wav").touch()
        plan.spare_clips(tmp_path / "shared.wav")
        assert [task.item.name for task in plan.bad()] == ["me", "sub/b.c", "other", "shared"]
        assert "over the clip" in next(plan.bad()).problem
        assert [task.item.name for task in plan.in_order()] == ["there"]


@pytest.mark.slow
def test_a_plan_takes_the_same_memory_for_ten_times_the_items(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with Results(tmp_path) as results, Plan(tmp_path, "wav") as plan:
            for number in range(count):
                plan.add(item(number, f"line-{number}", "a sentence of some length"), "0123456789abcdef")
            for task in plan.waiting():
                row = {"id": task.item.id, "path": task.path, "key": task.key, "status": "ok"}
                plan.settle(task.number, results.append(row), ok=True)
            results.put_in_order(plan.rows_in_order())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = peak(100_000)
    assert peak(500_000) < 1.15 * first
