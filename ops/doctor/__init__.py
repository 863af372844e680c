"""`xiaozhi doctor`: probes look, pure checks judge, the command shows.

`probes/` returns facts and changes nothing; the modules beside it turn facts into findings and import no sockets, files
or clocks; `checkup` brings them together, with a deadline for every look.
"""

from ops.doctor.command import add_parser

__all__ = ["add_parser"]
