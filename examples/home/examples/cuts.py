"""A module beside a notebook."""


def square(x: float) -> float:
    """Return the square of a number."""
    return x * x
