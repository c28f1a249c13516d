"""What exists: chips and instances as data, every figure with its source."""
