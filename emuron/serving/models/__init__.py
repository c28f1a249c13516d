"""Language models that the engine can serve, one file a family."""
