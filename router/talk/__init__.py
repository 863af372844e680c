"""What is decided about one conversation: pure cores, events and time in, effects out."""
