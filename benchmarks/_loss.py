"""The loss test: results are held while one of two groups shrinks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, wait

from benchmarks import _inside
from benchmarks._eyes import Eyes, Settled
from benchmarks._ways import POOLS, Way

HELD, DATA = 500, 100
LIMIT = 60.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Loss:
    """What became of the results, and of the group that nobody meant.

    Attributes
    ----------
    recomputed
        Results that were computed more than once.
    lost
        Results that were not there any more, and did not come back.
    errors
        Results that became errors, or were wrong.
    data_lost
        Pieces of data without a recipe (``client.scatter``) that are gone.
    others_killed
        Workers of the other group that went.
    came_back
        Registrations of workers during the shrink, when none should come.
    left, others_left
        Workers at the end; `asked` and `others_asked` are what they should be.
    """

    settled: Settled
    recomputed: int
    lost: int
    errors: int
    data_lost: int
    others_killed: int
    came_back: int
    left: int
    asked: int
    others_left: int
    others_asked: int


def measure(way: Way, eyes: Eyes, goal: int) -> Loss:
    """Hold results on all workers, shrink the first pool to `goal`, and look for what was held."""
    held, data = _hold(eyes.client)
    main, other = POOLS
    wanted = {main: goal, other: eyes.in_scheduler()[other]}
    begin = time.time()
    way.scale(main, goal)
    settled = eyes.settle(wanted, begin, LIMIT)
    return _count(eyes, settled, _Held(held, data, begin), wanted)


@dataclass(frozen=True)
class _Held:
    results: list[Future]
    data: list[Future]
    since: float


def _hold(client: Client) -> tuple[list[Future], list[Future]]:
    # A lambda goes to the workers by value; a function with a name would be looked for in their image.
    results = client.map(lambda number: (number, bytes(20_000)), range(HELD), key="held", pure=False)
    wait(results, timeout=ANSWER_SECONDS)
    return results, client.scatter([bytes(20_000 + n) for n in range(DATA)], hash=False)


def _count(eyes: Eyes, settled: Settled, held: _Held, asked: Mapping[str, int]) -> Loss:
    answers, data = _answers(eyes.client, held.results), _answers(eyes.client, held.data)
    done, came, went = eyes.client.run_on_scheduler(_inside.record)
    main, other = asked
    left = eyes.in_scheduler()
    wrong = sum(1 for n, (state, value) in enumerate(answers) if state == "finished" and value[0] != n)
    states = Counter(state for state, _ in answers)
    return Loss(
        settled=settled,
        recomputed=sum(1 for f in held.results if done.get(f.key, 0) > 1),
        lost=HELD - states["finished"] - states["error"],
        errors=states["error"] + wrong,
        data_lost=sum(1 for state, _ in data if state != "finished"),
        others_killed=len({n for at, n in went if at > held.since and eyes.names.pool_of(n) == other}),
        came_back=sum(1 for at, _ in came if at > held.since),
        left=left[main],
        asked=asked[main],
        others_left=left[other],
        others_asked=asked[other],
    )


def _answers(client: Client, futures: list[Future]) -> list[tuple[str, Any]]:
    """Return state and value of each; what is not there after a while does not come."""
    with suppress(TimeoutError, CancelledError):
        wait(futures, timeout=ANSWER_SECONDS)
    there = [f for f in futures if f.status == "finished"]
    values = dict(zip((f.key for f in there), client.gather(there), strict=True)) if there else {}
    return [(f.status, values.get(f.key)) for f in futures]
