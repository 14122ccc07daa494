"""The operator: keeps the cluster like its AnalysisSessions say."""
