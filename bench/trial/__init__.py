"""A cluster on trial: devices that tell whose sound they hear, faults by a seed, and a judge of what happened."""
