"""The lesson: it looks at app/ from outside, and app/ knows nothing of it."""
