"""Model families that the engine serves."""
