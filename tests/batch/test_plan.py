"""The plan: file names, resume, order."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.plan import Plan
from llasa_cli.batch.results import Results
from llasa_cli.batch.validate import SharedSettings, Validator, seed_of
from llasa_cli.errors import UsageError


def item(number: int, name: str, text: str = "hello", **more: object) -> Item:
    return Item(number, name, name, text, **more)  # type: ignore[arg-type]


def test_two_items_never_share_a_file(tmp_path: Path) -> None:
    with Plan(tmp_path, "wav") as plan:
        names = ("a", "A", "a-2", "a", "b/a", "B/A", "ß", "SS")
        paths = [plan.add(item(number, name), "k").path for number, name in enumerate(names, 1)]
        assert paths[0] == "a.wav"
        assert len({path.casefold() for path in paths}) == len(names)
        assert plan.add(replace(item(9, "a"), ending="mp3"), "k").path not in paths


def test_many_items_of_one_name_need_no_quadratic_search(tmp_path: Path) -> None:
    with Plan(tmp_path, "wav") as plan:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        plan._database.set_progress_handler(count, 1000)
        for number in range(2000):
            plan.add(item(number, "same"), "k")
        few, steps = steps, 0
        for number in range(2000, 4000):
            plan.add(item(number, "same"), "k")
        assert steps < 2 * few


def test_an_item_is_read_back_unchanged(tmp_path: Path) -> None:
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


def test_only_missing_and_changed_items_are_made(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        for name in ("same", "changed", "gone", "failed", "removed"):
            status = "error" if name == "failed" else "ok"
            results.append({"id": name, "path": f"{name}.wav", "key": f"{name}-1", "status": status})
            if name != "gone":
                (tmp_path / f"{name}.wav").touch()
        with Plan(tmp_path, "wav") as plan:
            plan.add_earlier(results.rows())
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
            results.reorder(plan.rows_in_order())
        ids = [row["id"] for _, row in results.rows()]
        assert ids == ["changed", "gone", "same", "failed", "new", "removed"]
    assert not (tmp_path / ".llasa").exists()


def test_the_plan_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".llasa" / "x").mkdir(parents=True)
    (tmp_path / ".llasa" / "plan.sqlite").touch()
    with Plan(tmp_path, "wav") as plan:
        assert not (plan.work / "x").exists()


def test_a_folder_that_belongs_to_the_user_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".llasa").mkdir()
    (tmp_path / ".llasa" / "notes").write_text("mine")
    with pytest.raises(UsageError, match="another file or folder"):
        Plan(tmp_path, "wav")
    assert (tmp_path / ".llasa" / "notes").read_text() == "mine"


def checked(folder: Path, *items: Item, **settings: object) -> list[tuple[str, str]]:
    """(key, problem) of each."""

    def voice_key(voice: str | None, speaker: str | None) -> str:
        if voice == "unknown":
            raise UsageError("There is no voice 'unknown'.")
        return f"{voice} {speaker}"

    with Plan(folder, "wav") as plan:
        validator = Validator(plan, SharedSettings(**{"digest": "d"} | settings), voice_key)  # type: ignore[arg-type]
        validator.add_all(items)
        tasks = [plan.task(number) for number in range(1, len(items) + 1)]
        return [(task.key, task.problem) for task in tasks]


def test_the_key_covers_everything_that_decides_the_sound(tmp_path: Path) -> None:
    ((plain, problem),) = checked(tmp_path, item(1, "a"))
    assert problem == ""
    others = [
        item(1, "a", "hello!"),
        item(1, "a", voice="kim"),
        item(1, "a", speaker="kim"),
        item(1, "a", seed=4),
        item(1, "a", sampling=(("top_k", 4),)),
        item(1, "a", ending="flac"),
    ]
    keys = [checked(tmp_path, other)[0][0] for other in others]
    keys += [checked(tmp_path, item(1, "a"), seed=9)[0][0], checked(tmp_path, item(1, "a"), digest="e")[0][0], plain]
    assert len(set(keys)) == len(keys)
    assert checked(tmp_path, item(7, "other name"))[0][0] == plain


def test_an_item_without_a_seed_has_its_own_in_every_run() -> None:
    assert seed_of("k", "a.wav") == seed_of("k", "a.wav")
    assert len({seed_of("k", f"{number}.wav") for number in range(100)}) == 100
    assert all(0 <= seed_of("k", str(number)) < 2**31 for number in range(100))


def test_an_item_that_can_not_be_made_has_a_reason(tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "silent.wav", np.zeros(48_000), 16_000)
    speech = np.random.default_rng(0).normal(0, 0.1, 48_000) * (np.sin(np.arange(48_000) / 2000) > -0.5)
    soundfile.write(tmp_path / "good.wav", speech, 16_000)
    found = checked(
        tmp_path,
        item(1, "a", " "),
        item(2, "b", "?!"),
        item(3, "c", voice="unknown"),
        item(4, "d", ref=tmp_path / "absent.wav", ref_text="some words"),
        item(5, "e", ref=tmp_path / "silent.wav", ref_text="some words"),
        item(6, "f", ref=tmp_path / "good.wav", ref_text="some words that are said", voice="kim"),
        item(7, "g", ref=tmp_path / "good.wav", ref_text="some words that are said"),
    )
    problems = [problem for _, problem in found]
    assert [word in problem for word, problem in zip(
        ("empty", "nothing to say", "no voice", "absent.wav", "silent", "both a clip and a voice"), problems, strict=False
    )] == [True] * 6  # fmt: skip
    assert problems[6] == ""


def test_the_clip_of_the_flags_is_used_by_items_without_a_voice(tmp_path: Path) -> None:
    missing = tmp_path / "absent.wav"
    found = checked(tmp_path, item(1, "a"), item(2, "b", voice="kim"), item(3, "c", speaker="x"), ref=missing)
    assert [bool(problem) for _, problem in found] == [True, False, False]


def test_an_item_that_would_replace_a_clip_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("me.wav", "sub/b.c.wav", "other.wav"):
        (tmp_path / name).write_text("a recording")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "other.wav")
    clips = {"x": "me.wav", "y": "sub/b.c.wav", "z": "elsewhere", "v": "absent.wav"}
    with Plan(tmp_path, "wav") as plan:
        plan.add_earlier([((0, 9), {"path": "there.wav", "key": "k", "status": "ok"})])
        (tmp_path / "there.wav").touch()
        for number, name in enumerate(("me", "sub/b.c", "other", "absent", "there", "free", "shared"), 1):
            plan.add(item(number, name), "k")
        for number, (name, clip) in enumerate(clips.items(), 8):
            plan.add(item(number, name, ref=tmp_path / clip), "k")
        plan.add(item(12, "w", ref=tmp_path / "there.wav"), "k")
        (tmp_path / "shared.wav").touch()
        plan.protect_clips(tmp_path / "shared.wav")
        assert [task.item.name for task in plan.invalid()] == ["me", "sub/b.c", "other", "shared"]
        assert "replace the clip" in next(plan.invalid()).problem
        assert plan.counts().there == 1


@pytest.mark.slow
def test_the_memory_of_a_plan_does_not_grow_with_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "llasa_cli.batch.plan._CACHE_KIB", 1000
    )  # else 100,000 items leave room in the cache and the sorter

    def peak(count: int) -> int:
        with Results(tmp_path) as results, Plan(tmp_path, "wav") as plan:
            for number in range(count):
                plan.add(item(number, f"line-{number}", "a sentence of some length"), "0123456789abcdef")
            for task in plan.waiting():
                row = {"id": task.item.id, "path": task.path, "key": task.key, "status": "ok"}
                plan.settle(task.number, results.append(row), ok=True)
            results.reorder(plan.rows_in_order())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = peak(50_000)
    assert peak(250_000) < 1.1 * first
