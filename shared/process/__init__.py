"""What every process has: a watchdog, probes, an eye on its loop and its parent."""
