"""Servers that speak the bytes of the cloud services, with scripted latency and faults; for tests and for users."""
