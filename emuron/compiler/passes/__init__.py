"""The passes over a graph, one file each, in one visible list."""
