"""Run `af open …` as somebody does who looks at the notebook and then presses Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from urllib.request import urlopen

ANSWERED = "the notebook answers, and is of JupyterLab"
SECONDS = 120


def main(argv: list[str]) -> None:
    """Start it, ask the URL that it prints for its page, interrupt it."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next((line.strip() for line in process.stdout if line.startswith("http://")), "")
        assert url, "it printed no URL"
        with urlopen(url, timeout=SECONDS) as page:  # noqa: S310 - ours, on loopback
            assert "JupyterLab" in page.read().decode()
        process.send_signal(signal.SIGINT)
    print(ANSWERED)


if __name__ == "__main__":
    main(sys.argv[1:])
