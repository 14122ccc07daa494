"""What a stranger, and a neighbour, can do to a session: two sessions for all files, gone after the last of them."""
