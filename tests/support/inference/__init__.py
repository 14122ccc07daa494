"""Models and servers for the tests of the inference server."""
