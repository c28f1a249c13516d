"""Which engines have a generator whose state can be read and set, and its words a lane."""

GENERATORS = [
    ("trn2", "gpsimd", 6),
    ("trn3", "gpsimd", 6),
    ("trn3", "vector", 24),
]
