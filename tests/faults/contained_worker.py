"""A worker as it is in a container: process 1 of a host of that name, at every start."""

import os
import socket

HOST = "container"

if __name__ == "__main__":
    os.getpid = lambda: 1
    socket.gethostname = lambda: HOST
    from workers.host.main import main

    raise SystemExit(main())
