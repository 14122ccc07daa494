"""``python -m af_client`` is ``af``."""

from af_client.cli import main

main()
