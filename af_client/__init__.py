"""The user's side: SDK, the `af` command, and the runner `af-run`. Knows the CRD and nothing of the operator."""
