"""The worker side: pools, streams, and the switchboard that connects conversations to them."""
