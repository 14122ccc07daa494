"""The operator: keeps the cluster like its AnalysisSessions say. ``__main__`` wires it, by its ``settings``.

An event (``handlers``, ``watches``) puts a key into the ``queue``; ``passes`` takes it out and has ``reconcile`` look
at a session, ``profiles`` at a profile (``capacity``: what is free). A pass reads ``world``, asks ``plan`` what there
should be, goes through a port (``cluster``, ``hub``, ``agents``), and writes one ``status``; it needs the ``lease``.
Values: ``model``, ``observed``, ``views``, ``errors``. Objects: ``names``, ``ownership``, ``drift``, ``references``,
``render``. ``api`` has the two kinds, ``components`` what sessions are made of; ``crdgen`` makes CRDs and RBAC of both.
``registration`` decides whether JupyterHub shows a session; ``serving`` answers probes and has the metrics.
"""
