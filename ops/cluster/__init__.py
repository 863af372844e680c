"""A cluster as `xiaozhi up` holds it: planned, started, watched over, stopped."""
