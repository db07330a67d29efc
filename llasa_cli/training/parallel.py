"""Work on a stream of items by some threads, with the results in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = 8, items_per_task: int = 32
) -> Iterator[Result]:
    """`work(item)` for each item, in order, computed ahead by threads, so that a slow disk delays less.

    Args:
        items_per_task: Items that a thread takes at once. About twice as many tasks as threads are in memory.
    """

    def run_task(task: list[Item]) -> list[Result]:
        return [work(item) for item in task]

    pending: deque[Future[list[Result]]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while task := list(itertools.islice(rest, items_per_task)):
                pending.append(pool.submit(run_task, task))
                if len(pending) > 2 * threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
