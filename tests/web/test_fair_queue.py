"""Jobs of several users: in turns, bounded, and not run once cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError
from stadia.web.app_state import MAX_WAITING, FairQueue


@pytest.fixture
def queue() -> Iterator[FairQueue]:
    queue = FairQueue()
    yield queue
    queue.close()


def block(queue: FairQueue) -> Callable[[], None]:
    """Occupy the thread; return what frees it."""
    begun, free = threading.Event(), threading.Event()
    queue.submit("blocker", lambda: (begun.set(), free.wait(120)))
    assert begun.wait(120)
    return free.set


def test_users_take_turns(queue: FairQueue) -> None:
    free, order = block(queue), list[str]()
    jobs = [queue.submit(user, lambda user=user: order.append(user)) for user in ("a", "a", "a", "b", "c", "b")]
    free()
    for job in jobs:
        job.result(10)
    assert order == ["a", "b", "c", "a", "b", "a"]


def test_too_many_jobs_of_one_user_are_refused(queue: FairQueue) -> None:
    free = block(queue)
    for _ in range(MAX_WAITING):
        queue.submit("a", int)
    with refuses(ConfigError, where="queue"):
        queue.submit("a", int)
    queue.submit("b", int)
    free()


def test_a_cancelled_job_is_not_run(queue: FairQueue) -> None:
    free, ran = block(queue), list[int]()
    job = queue.submit("a", lambda: ran.append(1))
    assert job.cancel()
    free()
    queue.submit("a", int).result(10)
    assert ran == []


def test_an_error_reaches_its_user_and_no_other(queue: FairQueue) -> None:
    with pytest.raises(ZeroDivisionError):
        queue.submit("a", lambda: 1 / 0).result(10)
    assert queue.submit("b", lambda: 3).result(10) == 3
