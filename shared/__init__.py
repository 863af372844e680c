"""What all processes share: the link's words, ids, errors, settings, logs. Imports nothing from router or workers."""
