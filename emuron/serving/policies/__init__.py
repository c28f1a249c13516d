"""Scheduling policies, one file each: `@policy("name")` makes a class known."""
