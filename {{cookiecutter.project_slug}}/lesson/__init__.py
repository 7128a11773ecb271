"""The lesson. It watches app/ from outside; nothing of it ships."""
