"""Who is speaking: asked of a voiceprint server while the words are recognised."""
