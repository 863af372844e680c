"""The device side: sockets, lines, timers."""
