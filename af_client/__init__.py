"""The user's side: it knows the kinds, and nothing of the operator.

Here at the root is the SDK: sessions and what is read of them, storage and results, port forwarding, errors. Its rooms
are programs that are built on it and know nothing of each other: ``cli`` is `af`, ``hub`` what JupyterHub runs,
``pod`` what runs inside a session. An image copies the root and its room.
"""
