"""Parts that a thread of its own makes, one after the other, while others are in use already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Part = TypeVar("Part")


class BackgroundLoader(Generic[Part]):
    """`parts[name]` waits until that one is made; they are made in the order of `names`.

    What goes wrong with one is raised where it, or one behind it, is asked for.

    Args:
        make: Name -> part. Called in the thread.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], Part]) -> None:
        self._made: dict[str, Part] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(list(names), make), name="llasa parts")
        self._thread.start()

    def __getitem__(self, name: str) -> Part:
        part = self._made.get(name)
        return part if part is not None else self._waited_for(name)

    def wait(self) -> None:
        """Until all are made, or raise what went wrong."""
        self._thread.join()
        self._check()

    def stop(self) -> None:
        """Make no more of them. Returns when the one that is being made is done."""
        self._is_wanted = False
        self._thread.join()

    def _waited_for(self, name: str) -> Part:
        with self._changed:
            self._changed.wait_for(lambda: name in self._made or not self._is_running)
        if name not in self._made:
            self._check()
        return self._made[name]

    _is_running = True
    _is_wanted = True

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, names: list[str], make: Callable[[str], Part]) -> None:
        try:
            for name in names:
                if not self._is_wanted or not threading.main_thread().is_alive():
                    break  # where the program ends, it would wait for this
                part = make(name)
                with self._changed:
                    self._made[name] = part
                    self._changed.notify_all()
        except BaseException as error:  # told to who asks
            self._error = error
        finally:
            with self._changed:
                self._is_running = False
                self._changed.notify_all()
