"""The next batch is fetched in a thread while one is trained on: the same batches, the same errors, and an end."""

import threading
from collections.abc import Generator
from itertools import islice
from typing import Any

import pytest
import torch

from gc_core.stream.ahead import one_ahead
from gc_core.train import trainer as training
from support.small_trainings import new_trainer


def threads_of_fetching() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ahead", "stream"))]


class Made:
    """Numbers from one on, and what became of whoever makes them."""

    def __init__(self, *, fails_at: int | None = None, last: int = 1000) -> None:
        self.count, self.closed, self._fails_at, self._last = 0, False, fails_at, last
        self.third = threading.Event()

    def numbers(self) -> Generator[int, None, None]:
        try:
            while self.count < self._last:
                if self.count + 1 == self._fails_at:
                    raise OSError("the disk is gone")
                self.count += 1
                if self.count == 3:
                    self.third.set()
                yield self.count
        finally:
            self.closed = True


def test_the_next_item_is_made_unasked_and_no_more_than_that() -> None:
    made = Made()
    items = one_ahead(made.numbers())
    assert (next(items), next(items)) == (1, 2)
    assert made.third.wait(60)
    assert made.count == 3
    assert next(items) == 3
    items.close()


def test_all_items_come_in_their_order() -> None:
    assert list(one_ahead(Made(last=5).numbers())) == [1, 2, 3, 4, 5]
    assert threads_of_fetching() == []


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    made = Made(fails_at=3)
    items = one_ahead(made.numbers())
    assert list(islice(items, 2)) == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert made.closed
    assert threads_of_fetching() == []


def test_closing_ends_the_thread_and_what_it_reads_from_and_raises_nothing() -> None:
    made = Made(fails_at=2)
    items = one_ahead(made.numbers())
    assert next(items) == 1
    items.close()
    assert made.closed
    assert threads_of_fetching() == []


def test_a_training_stream_ends_all_its_threads(planted: Any) -> None:
    stream = new_trainer(planted.run).stream()
    next(stream)
    assert threads_of_fetching(), "control: they are found"
    stream.close()
    assert threads_of_fetching() == []


@pytest.mark.parametrize("changes", [{}, {"augment": True}], ids=["as they are", "turned"])
def test_batches_are_those_that_no_thread_fetches(
    planted: Any, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(planted.run, **changes)
    ahead = list(islice(trainer.stream(), 5))
    monkeypatch.setattr(training, "one_ahead", lambda items: items)
    plain = list(islice(trainer.stream(), 5))
    torch.testing.assert_close(ahead, plain, rtol=0, atol=0)
