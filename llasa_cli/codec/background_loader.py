"""Load parts of a model in a background thread, so that the first ones can be used while the others are loading."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Part = TypeVar("Part")


class BackgroundLoader(Generic[Part]):
    """Loads parts in order; `loader[name]` waits until that part is loaded.

    If loading a part fails, its error is raised by the access to that part and to all later ones.

    Args:
        names: The parts, in the order of loading.
        load: Name -> part. It is called in the background thread.
    """

    def __init__(self, names: Iterable[str], load: Callable[[str], Part]) -> None:
        self._loaded: dict[str, Part] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(list(names), load), name="llasa loader")
        self._thread.start()

    def __getitem__(self, name: str) -> Part:
        part = self._loaded.get(name)
        return part if part is not None else self._wait_for(name)

    def wait(self) -> None:
        """Wait until all parts are loaded; raise the error if loading failed."""
        self._thread.join()
        self._check()

    def stop(self) -> None:
        """Load no further parts. Returns when the part that is being loaded is done."""
        self._is_wanted = False
        self._thread.join()

    def _wait_for(self, name: str) -> Part:
        with self._changed:
            self._changed.wait_for(lambda: name in self._loaded or not self._is_running)
        if name not in self._loaded:
            self._check()
        return self._loaded[name]

    _is_running = True
    _is_wanted = True

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, names: list[str], load: Callable[[str], Part]) -> None:
        try:
            for name in names:
                if not self._is_wanted or not threading.main_thread().is_alive():
                    break  # otherwise the program would wait for this thread at its end
                part = load(name)
                with self._changed:
                    self._loaded[name] = part
                    self._changed.notify_all()
        except BaseException as error:  # raised by __getitem__ and wait
            self._error = error
        finally:
            with self._changed:
                self._is_running = False
                self._changed.notify_all()
