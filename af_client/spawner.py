"""JupyterHub's spawner: ``c.JupyterHub.spawner_class = "af_client.spawner.AnalysisSessionSpawner"``."""

# Stays where it is, whatever moves below: the configurations of facilities' Hubs name it.
from af_client.hub.spawner import AnalysisSessionSpawner

__all__ = ["AnalysisSessionSpawner"]
