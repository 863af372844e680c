"""The operator's file and environment: read, checked, and told about in words."""
