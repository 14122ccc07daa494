"""Speaking to an API server: requests, their errors, and copies of what is there that keep themselves up to date.

Shared by the operator, JupyterHub's spawner and the client; it knows no kind of any of them. From the bottom up:
``errors`` and ``request`` are values, ``credentials`` and ``connection`` send, a ``store`` keeps the objects of one
kind (by ``packing`` in little memory), and a ``reflector`` fills it by list and watch.
"""
