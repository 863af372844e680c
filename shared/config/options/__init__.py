"""The keys of each engine type's section: one model a type, checked before anything starts. Data only."""
