"""``python -m af_client.cli`` is ``af``."""

from af_client.cli.commands import main

main()
