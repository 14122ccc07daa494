"""What the local cluster says when it cannot go on."""


class ClusterError(Exception):
    """A failure the user can act on: the message says what happened and what to do next."""
