"""`python -m bench.fuzz wire|envelope --seconds N`: what strangers and other processes send, mutated without end."""
