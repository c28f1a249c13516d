"""Reads a Program twice: functional says what comes out, timing says when."""
