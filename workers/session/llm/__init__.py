"""Language models: one interface, OpenAI-compatible streaming behind it, and a scripted one for load tests."""
