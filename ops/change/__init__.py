"""A change to a running cluster: decided as steps, carried out one by one, watched as it goes."""
