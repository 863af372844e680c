"""The link between routers and workers: its words on the wire, its sockets, who is alive."""
