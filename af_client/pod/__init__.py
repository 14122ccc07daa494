"""What runs inside a session's pods, in the analysis image; none of it has rights in Kubernetes.

``runner.py`` is `af-run`, around the command of a headless run, and ``upload.py`` stores its results. ``notebook.py``
is `af-notebook`, the JupyterLab of a session; ``here.py`` what users' code imports to change its own session,
by the agents that ``agents.py`` knows. Nothing is imported before it is needed: a run's command waits for `af-run`.
"""
