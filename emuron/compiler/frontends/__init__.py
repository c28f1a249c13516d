"""One file for each framework that a graph can come from."""
