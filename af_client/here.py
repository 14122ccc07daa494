"""The session that this code runs in: ``from af_client.here import session``."""

# Stays where it is, whatever moves below: notebooks and runs of users have this line.
from af_client.pod.here import Here, session

__all__ = ["Here", "session"]
