"""Logs of a process: one writer thread, nothing secret, nothing said."""
