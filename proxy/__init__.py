"""taximeter: forwards OpenAI-compatible requests, meters and prices them, and charges budgets.

The floors, from the street to the cellar (imports go down only; a test holds them):

    cli            one module per command
    server         sockets: connection, forward, gate, exchange (the hot path), caller, replies, ops, worker, supervisor
    reports        functions over ledger sums, and one renderer        jobs   what runs by the clock, on one instance
    upstream       pooling and sending
    background     what is accepted now and charged when its end is seen
    settlement     reading → charge → entry → store and metrics        admission   may it pass, for how much; denials
    plans, terms   what is worked out once for requests that are alike: before they are sent, and when they have ended
    store          Redis: one ordered connection, one script, the embedded Valkey
    journal        a worker's own durable log of what it opened and finished
    metrics        every metric      budgets  Budget, Period, matching      ledger  LedgerEntry, day sums
    metering       bytes in, readings out: no socket, no clock          http1  bytes in, heads and bodies out
    rates          (beside `proxy`) what a token costs: cards, names, charges

`config` and `errors` stand beside: plain data for whoever needs them. `rates`, `metering`, `http1`, `budgets` and
`ledger` do no I/O and know no clock.

The life of a request:

1.  `server.connection` reads its head with `http1`; one that came before, but for its length, is not read again, and
    what was made of it then (`server.envelope`: path, caller's key, the head for the upstream) still stands.
    `server.forward` takes it; `server.caller` turns its key into an owner. A metered request's body is read once;
    `metering.read_request` reads the model, whether it streams, and the most output it allows.
2.  At `server.gate`, `admission` mints the entry's id, freezes the budgets that match and their periods, and sizes the
    hold at the asked model's rate (near a limit its prompt is counted first). What is the same for requests that are
    alike stands in a plan. One script call in `store` sets the hold aside on all budgets or refuses. The request waits
    for that answer only when a refusing budget matches; else the hold travels along. So does a stream's whose money was
    set aside ahead, because others came just before it and the limits are far (`store.advances`).
3.  It is journalled; then `server.exchange` sends it through `upstream`, whose connection calls it with each piece of
    the answer; the piece is written to the client at once (once a stream flows, at the end of that turn of the event
    loop: `server.turn_end`), and the `Meter` sees it. A stream that was not asked for its usage is asked
    (`include_usage` is spliced in), and what the client did not ask for is taken out again.
4.  However it ends (whole, broken, client gone, never answered), the meter gives ONE reading: reported, estimated,
    presumed or failed; or it is accepted to be worked on in the background, and parked until a later GET shows its
    end.
5.  `settlement` prices the reading at the served model's rate card, journals the end, and hands one ledger entry to
    the store: in one script the hold is dropped, the charge is added to every budget and to the day's sums, and the
    ledger line is written. The client's last byte waits for none of it.

A supervisor owns the listening socket, the embedded store and the ops port; its workers do the above. What a dead
worker has left in its journal, the supervisor finishes (`server.adoption`).
"""

from proxy import compiled

FORM = compiled.choose()
