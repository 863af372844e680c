"""What is looked at: each probe returns facts, judges nothing and changes nothing."""
