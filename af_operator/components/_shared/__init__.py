"""What several components use, whatever it is that they run.

Choices out of the catalogue, pod specs, placement, why a pod is not ready, values that others write; and pools of
workers, whatever computes in them: how many there should be (`pools`), within one budget (`budget`), which of them go,
how they are (`pool_health`), and workers that are pods of our own (`worker_pods`). Nothing in here knows a component.
"""
