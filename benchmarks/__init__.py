"""What the project costs, measured on the local cluster against what it could be replaced by."""
