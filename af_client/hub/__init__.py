"""What JupyterHub runs: ``spawner.py`` is the class that it knows, one object for each server.

``start.py`` is one start, from the choices to a server that answers. ``sessions.py`` and ``watch.py`` are the Hub's
copy of the sessions and its few requests, over ``transport.py``. ``options_form.py`` with ``templates/`` is the form,
``presets.py`` its choices in words, and ``offers.py`` what a profile lets it offer. ``names.py``, ``progress.py`` and
``errors.py`` are its words. ``database.py`` is what is done before the Hub starts.
"""
