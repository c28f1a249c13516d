"""What is observed: the timeline of a run and its renderings."""
