"""Search over instances and configurations for a workload and its price."""
