"""A real Kubernetes on this machine for demo and tests; never imported by the product."""
