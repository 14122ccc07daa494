"""`af`, on a user's machine or in CI: the one room with click and rich.

``commands.py`` has every command, and ``command_line.py`` what they share: options, connection, exit codes.
``running.py`` is `af run` from the file to the results, ``lifetime.py`` what ends a session whose `af` was killed,
``signals.py`` what ends `af`, ``logs.py`` whose log is printed, ``resizing.py`` what `af scale` waits for;
``screen.py`` shows what happens, and ``picture.py`` draws it. What is told in words is the SDK's:
``af_client/progress.py``.
"""

from af_client.cli.commands import main

__all__ = ["main"]
