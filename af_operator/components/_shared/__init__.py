"""What several components use, whatever it is that they run.

What a session chose in its profile (`choices`), pod specs (`pod_spec`), the nodes that workers run on (`placement`),
why a pod is not ready (`pod_reasons`), whether a program was lost that alone held something (`lost`), Secrets that a
session has once (`secrets`), values that others write (`untrusted`), and what a component says that has nothing to say
(`defaults`). And pools of workers, whatever computes in them: how many there should be and which of them
go (`pools`), within one budget (`budget`), how they are (`pool_health`), and workers that are pods of our own
(`worker_pods`, with its template). Nothing in here knows a component.
"""
