"""Sockets: what clients, upstreams' bytes and operators touch.

`forward` takes a request and admits it, `exchange` is one attempt upstream from its first byte to its one reading,
`caller` turns a key into an owner, `headers` says what passes, `replies` are taximeter's own answers, `worker` is a
process that serves, `supervisor` starts and replaces workers and shows them to operators through `ops`.
"""
