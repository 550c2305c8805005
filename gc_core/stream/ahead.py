"""The next item is made ready while this one is used."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Pass items on in order, none of them None, each made in a thread while the one before it is used.

    What goes wrong in the thread is raised where its item is asked for; an item that is never asked for raises nothing.
    Closing waits for the item under way, ends the thread, and closes `items`.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
