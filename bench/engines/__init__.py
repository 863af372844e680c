"""What each configured engine costs and how well it does: `python -m bench.engines`."""
