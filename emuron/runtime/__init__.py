"""Executables and the devices that run them."""
