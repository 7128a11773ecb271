"""The lesson: it watches app/ from outside, and app/ knows nothing about it."""
