"""The language-model engine: requests, scheduling, policies, clocks and the server."""
