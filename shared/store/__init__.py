"""What outlives a process: who owns a device, its dialogue, its memory, and what must still reach somebody."""
