"""Brains: what answers an input. One asks a language model, the other knows a few things by itself."""
