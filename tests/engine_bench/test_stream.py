"""What the bench's client reads from the wire: times and tokens are the server's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from engine_bench.stream import Connection, Received, read_call
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import UnavailableError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}


def event(**more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [], **more}).encode() + b"\n\n"


def text(content: str | None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"role": "assistant", "content": content}}])


def chunked(*pieces: bytes) -> bytes:
    framed = [b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces]
    return b"".join(framed) + b"0\r\n\r\n"


ANSWER = HEAD + chunked(
    text(""), text("a"), text("b") + text("0\r\n\r\n"), event(usage=USAGE), b"data: [DONE]\n\n"
)


def split(answer: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(answer)) for cut in cuts} | {len(answer)})
    return [answer[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


def received(pieces: list[bytes]) -> Received:
    return Received(0.0, tuple((float(n + 1), piece) for n, piece in enumerate(pieces)))


@pytest.mark.parametrize(
    "answer",
    [
        HEAD.replace(b"200 OK", b"503 Busy") + chunked(text("a"), event(usage=USAGE)),
        HEAD + chunked(text("a")),
        HEAD + chunked(event(usage=USAGE)),
        HEAD + chunked(text("a"), event(error={"message": "no"}), event(usage=USAGE)),
    ],
    ids=["another status", "no usage", "no text", "an error midway"],
)
def test_what_is_no_whole_answer_is_not_counted(answer: bytes) -> None:
    with pytest.raises(UnavailableError):
        read_call(received([answer]))


@given(st.lists(st.integers(1, len(ANSWER)), max_size=20))
def test_a_piece_of_text_has_the_time_of_the_read_that_completed_it(cuts: list[int]) -> None:
    pieces = split(ANSWER, cuts)
    call = read_call(received(pieces))
    expected = []
    for ending in (text("a"), text("b") + text("0\r\n\r\n")):
        end, seen = ANSWER.index(ending) + len(ending), 0
        for number, piece in enumerate(pieces):
            seen += len(piece)
            if seen >= end:
                expected.append(float(number + 1))
                break
    assert call.times == (expected[0], expected[1], expected[1])
    assert (call.input_tokens, call.output_tokens) == (40, 3)
    assert call.ended == len(pieces)
    assert not call.evidence


def test_a_receipt_in_the_last_event_is_seen() -> None:
    answer = HEAD + chunked(text("a"), event(usage=USAGE), event(weightproof={"receipt": {}}))
    assert read_call(received([answer])).evidence


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_two_answers_on_one_connection_do_not_run_into_each_other(size: int) -> None:
    plain = b"HTTP/1.1 402 Payment Required\r\nContent-Length: 5\r\n\r\nhello"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (ANSWER, plain):
            await reader.readuntil(b"{}")
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
        writer.close()

    async def run() -> tuple[Received, Received]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connection = await Connection.open(port)
            first = await connection.post("/", b"{}", {})
            second = await connection.post("/", b"{}", {})
            connection.close()
            return first, second

    first, second = asyncio.run(run())
    assert read_call(first).output_tokens == 3
    assert second.status == 402
    assert second.split()[1] == b"hello"
    assert second.header("content-length") == "5"
