"""Sockets: what clients and operators touch.

`listener` accepts; a `connection` reads requests; a `request` is one of them, with its reply. `forward` takes a request
and admits it, `exchange` is one metered attempt from its first upstream byte to its one reading, `passage` is what
passes unread, `caller` turns a key into an owner, `headers` says what passes, `replies` are taximeter's own answers,
`worker` is a process that serves, `supervisor` starts and replaces workers and shows them to operators through `ops`.
"""
