"""``python -m af_decision``: the session and its model are in the environment."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

from .model import Model
from .policy import SECONDS, Policy
from .server import listen, publish


async def main() -> None:
    """Listen until told to end."""
    token, name = Path(os.environ["AF_INFERENCE_TOKEN_FILE"]), os.environ["AF_DECISION_MODEL"]
    model = Model(os.environ["AF_INFERENCE_URL"], token, name, SECONDS)
    policy = Policy(model.probabilities, float(os.environ["AF_DECISION_THRESHOLD"]), time.monotonic)
    async with (
        await listen(policy, os.environ["AF_DECISION_SOCKET"]) as plugin,
        await publish(policy, int(os.environ["AF_DECISION_PORT"]), own_token()) as page,
    ):
        await asyncio.gather(policy.warm_up(), plugin.serve_forever(), page.serve_forever())


def own_token() -> str:
    """Return what the page of the counters wants to see."""
    return Path(os.environ["AF_DECISION_TOKEN_FILE"]).read_text().strip()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Threads that wait for the service are not waited for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # What the container before this one has left.
    Path(os.environ["AF_DECISION_SOCKET"]).unlink(missing_ok=True)
    asyncio.run(main())
