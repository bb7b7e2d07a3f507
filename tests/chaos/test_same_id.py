"""Identity is the attempt's, not what an upstream calls its answers."""

from pathlib import Path

from tests.chaos.judgement import Truth, judge, ledger_of, out_of_balance
from tests.chaos.town import quiet, running_store, serving
from tests.system.client import HEADERS, client
from tests.system.harness import chat

REQUESTS = 40


async def test_every_answer_has_the_same_id_and_is_charged(tmp_path: Path) -> None:
    with running_store() as store:
        async with serving(tmp_path, [store.url, store.url]) as (upstream, proxies):
            async with client() as http:
                for number in range(REQUESTS):
                    usage = {"id": "chatcmpl-always", "prompt": "100", "completion": "50"}
                    body = chat("gpt-4o-mini", stream=number % 2 == 0, max_tokens=60, metadata=usage)
                    headers = HEADERS | {"x-client-request-id": f"same-{number}"}
                    answer = await http.chat(proxies[number % 3 % 2].base_url, body, headers=headers)
                    assert answer.status == 200
            lines = await quiet(proxies, store.client, 30)
            verdict = judge(Truth.of(upstream.books), lines)
            assert not verdict.findings
            assert verdict.statuses == {"reported": REQUESTS}
            assert {line["upstream_id"] for line in lines} == {"chatcmpl-always"}
            assert {line["cost_nanos"] for line in lines} == {100 * 150 + 50 * 600}
            with store.client() as look:
                assert not out_of_balance(look, ledger_of(look))
