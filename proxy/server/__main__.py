"""`python -m proxy.server LISTEN_FD ANSWERS_FD`: a worker. See proxy.server.worker."""

import signal

# A terminal's Ctrl-C and hang-up reach the whole group; the supervisor decides what they mean. Before the imports,
# which take a while.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)

from proxy.server.worker import main  # noqa: E402

main()
