"""A xiaozhi device in software: the firmware's behaviour as a pure core, and a WebSocket shell around it."""
