"""Compiles tensor graphs to programs: graph, ops, passes, pipeline and front ends."""
