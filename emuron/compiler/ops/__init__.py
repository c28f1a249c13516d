"""The graph operators: infer, evaluate, lower and examples of each."""
